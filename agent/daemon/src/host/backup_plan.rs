//! What a deployment is about to change and a backup should save: named volumes, and what lies in the live tree.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use evenkeel_core::{
    model::{Model, Service},
    release::Files,
};

use crate::engine::{Engine, EngineError};

/// What will be saved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BackupPlan {
    /// Paths on this machine, sorted.
    pub paths: Vec<PathBuf>,
}

/// Finds the data of a stack that is there now: its volumes, and writable bind mounts in the live tree that Git does
/// not fill. Volumes that do not exist yet have nothing to save.
pub async fn backup_plan(
    engine: &Engine,
    models: &[&Model],
    files: &Files,
    live: &Path,
) -> Result<BackupPlan, EngineError> {
    let mut paths = BTreeSet::new();
    let volumes: BTreeSet<&str> = models.iter().flat_map(|m| m.volume_names(true)).map(|(_, name)| name).collect();
    for volume in volumes {
        if let Some(path) = engine.volume_path(volume).await? {
            paths.insert(PathBuf::from(path));
        }
    }
    for model in models {
        for (source, read_only) in model.services().values().flat_map(Service::binds) {
            let source = Path::new(source);
            let Ok(inside) = source.strip_prefix(live) else { continue };
            let tracked = inside.to_str().is_some_and(|path| files.contains_key(path));
            if !read_only && !tracked && source.exists() {
                paths.insert(source.to_owned());
            }
        }
    }
    Ok(BackupPlan { paths: paths.into_iter().collect() })
}
