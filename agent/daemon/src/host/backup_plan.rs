//! What a deployment is about to change and a backup should save: named volumes, and what lies in the live tree.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use evenkeel_core::{
    model::{Model, Service},
    release::Files,
};

use crate::engine::{Engine, EngineError};

/// What will be saved, and what will not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BackupPlan {
    /// Paths on this machine, each with the volume that it is, if it is one.
    pub paths: BTreeMap<PathBuf, Option<String>>,
    /// Data of the stack that no snapshot has, and why, for people.
    pub left_out: BTreeSet<String>,
}

impl BackupPlan {
    /// The named volumes in it.
    pub fn volumes(&self) -> Vec<String> {
        self.paths.values().flatten().cloned().collect()
    }
}

/// Finds the data of a stack that is there now: its volumes, and writable bind mounts in the live tree that Git does
/// not fill. Volumes that do not exist yet have nothing to save.
pub async fn backup_plan(
    engine: &Engine,
    models: &[&Model],
    files: &Files,
    live: &Path,
) -> Result<BackupPlan, EngineError> {
    let mut plan = BackupPlan::default();
    let volumes: BTreeSet<&str> = models.iter().flat_map(|m| m.volume_names(true)).map(|(_, name)| name).collect();
    for volume in volumes {
        if let Some(path) = engine.volume_path(volume).await? {
            plan.paths.insert(PathBuf::from(path), Some(volume.to_owned()));
        }
    }
    for model in models {
        for (name, service) in model.services() {
            binds(&mut plan, service, files, live);
            let anonymous = service.anonymous_volumes().into_iter();
            plan.left_out.extend(anonymous.map(|target| format!("{target} of {name} (an anonymous volume)")));
        }
    }
    Ok(plan)
}

fn binds(plan: &mut BackupPlan, service: Service<'_>, files: &Files, live: &Path) {
    for (source, read_only) in service.binds() {
        if read_only {
            continue;
        }
        let source = Path::new(source);
        let Ok(inside) = source.strip_prefix(live) else {
            if !is_of_the_machine(source) {
                plan.left_out.insert(format!("{} (outside the live tree)", source.display()));
            }
            continue;
        };
        let tracked = inside.to_str().is_some_and(|path| files.contains_key(path));
        if !tracked && source.exists() {
            plan.paths.entry(source.to_owned()).or_default();
        }
    }
}

/// Sockets, devices and what the kernel shows are no data of a stack.
fn is_of_the_machine(source: &Path) -> bool {
    const MACHINE: [&str; 5] = ["/dev", "/proc", "/sys", "/run", "/var/run"];
    let is_file_of_system = || source == Path::new("/etc/localtime") || source == Path::new("/etc/timezone");
    MACHINE.iter().any(|place| source.starts_with(place)) || is_file_of_system()
}
