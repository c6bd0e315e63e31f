//! What a deployment is about to change and a backup should save: named volumes, and what lies in the live tree.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
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
    /// Of this, paths in the live tree that are links or below one.
    pub links: BTreeSet<PathBuf>,
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
            if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_symlink()) {
                plan.left_out.insert(format!("the volume {volume} ({path} is a link: links are not followed)"));
            }
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
        if tracked {
            continue;
        }
        match leads_elsewhere(source, live) {
            Ok(false) => {
                plan.paths.entry(source.to_owned()).or_default();
            }
            Ok(true) => {
                plan.left_out.insert(format!("{} (a link, or below one: links are not followed)", source.display()));
                plan.links.insert(source.to_owned());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                plan.left_out.insert(format!("{} ({error})", source.display()));
            }
        }
    }
}

/// Whether `path`, below `root`, is a link or is reached through one: a snapshot has links, not what they lead to.
pub fn leads_elsewhere(path: &Path, root: &Path) -> io::Result<bool> {
    if fs::symlink_metadata(path)?.is_symlink() {
        return Ok(true);
    }
    let inside = path.strip_prefix(root).unwrap_or(path);
    Ok(fs::canonicalize(path)? != fs::canonicalize(root)?.join(inside))
}

/// Sockets, devices and what the kernel shows are no data of a stack.
fn is_of_the_machine(source: &Path) -> bool {
    const MACHINE: [&str; 5] = ["/dev", "/proc", "/sys", "/run", "/var/run"];
    let is_file_of_system = || source == Path::new("/etc/localtime") || source == Path::new("/etc/timezone");
    MACHINE.iter().any(|place| source.starts_with(place)) || is_file_of_system()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use evenkeel_core::model::Model;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_link_is_told_as_not_saved_and_a_live_tree_that_is_one_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (real, live) = (folder.path().join("real"), folder.path().join("live"));
        for name in ["web/data", "elsewhere/below"] {
            fs::create_dir_all(real.join(name)).unwrap();
        }
        symlink(&real, &live).unwrap();
        symlink(folder.path().join("real/elsewhere"), real.join("web/link")).unwrap();
        symlink("nowhere", real.join("web/dangling")).unwrap();
        let at = |name: &str| live.join("web").join(name);
        let names = ["data", "link", "link/below", "dangling", "absent"];
        let mounts: Vec<_> = names
            .iter()
            .map(|name| json!({ "type": "bind", "source": at(name), "target": format!("/{name}") }))
            .collect();
        let model = json!({ "services": { "app": { "volumes": mounts } } });
        let model = Model::parse(&model.to_string()).unwrap();
        let mut plan = BackupPlan::default();
        for service in model.services().into_values() {
            binds(&mut plan, service, &Files::new(), &live);
        }
        assert_eq!(plan.paths.into_keys().collect::<Vec<_>>(), [at("data")]);
        assert_eq!(plan.links, ["link", "link/below", "dangling"].map(at).into());
        assert!(
            plan.left_out.len() == 3 && plan.left_out.iter().all(|text| text.contains("a link")),
            "{:?}",
            plan.left_out
        );
    }
}
