//! What becomes of containers that somebody else started, before anything is changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use evenkeel_core::{
    adopt::{self, Judged, Wanted},
    change::ServiceChange,
    id::ImageId,
    release::{Candidate, Files, Release},
};
use evenkeel_layout::name::StackName;

use crate::engine::{Container, Engine, EngineError};

/// Judges the containers of a candidate's project, if there are any. The images are those that its references stand for
/// now: what a deployment will pull first is told as another image.
pub async fn judged(engine: &Engine, live: &Path, candidate: &Candidate) -> Result<Vec<Judged>, EngineError> {
    let found = engine.found(&candidate.project).await?;
    let mut images: BTreeMap<String, ImageId> = BTreeMap::new();
    for (name, service) in candidate.model.services() {
        if let Some(id) = engine.image(&service.image_reference(&candidate.project, name)).await? {
            images.insert(name.to_owned(), id);
        }
    }
    let changed = changed(live, &candidate.files);
    let (model, project) = (&candidate.model, candidate.project.as_str());
    let wanted = Wanted { model, project, images: &images, changed: &changed };
    Ok(adopt::judge(&wanted, &found))
}

/// When the files of a slice that are in the live tree were changed or put there last, by the clock that nobody can set for
/// a file. Of one that cannot be looked at nothing is known.
pub fn changed(live: &Path, files: &Files) -> BTreeMap<String, i64> {
    let at = |path: &String| {
        let path = live.join(path);
        let stat = fs::symlink_metadata(&path).ok()?;
        let changed_ms = stat.ctime().saturating_mul(1000).saturating_add(stat.ctime_nsec() / 1_000_000);
        Some((path.display().to_string(), changed_ms))
    };
    files.keys().filter_map(at).collect()
}

/// What becomes of the services of candidates that have no release, where containers of their projects stand. Of a stack
/// whose containers cannot be looked at nothing is said; only an engine that does not answer ends it.
pub async fn of_strangers(
    (engine, live): (&Engine, &Path),
    candidates: &[Candidate],
    releases: &BTreeMap<StackName, Release>,
    containers: &[Container],
) -> Result<BTreeMap<StackName, Vec<ServiceChange>>, EngineError> {
    let projects: BTreeSet<&str> = containers.iter().map(|c| c.project.as_str()).collect();
    let fresh = candidates.iter().filter(|c| !releases.contains_key(&c.stack));
    let mut found = BTreeMap::new();
    for candidate in fresh.filter(|c| projects.contains(c.project.as_str())) {
        match judged(engine, live, candidate).await {
            Ok(judged) => {
                found.insert(candidate.stack.clone(), judged.iter().map(Judged::change).collect());
            }
            Err(error) if error.is_unreachable() => return Err(error),
            Err(error) => {
                let stack = &candidate.stack;
                tracing::warn!(%stack, %error, "what runs of this stack cannot be compared: the plan does not say what stays");
            }
        }
    }
    Ok(found)
}
