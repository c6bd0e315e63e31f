//! What becomes of containers that somebody else started, before anything is changed.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_core::{
    adopt::{self, Judged, Wanted},
    change::ServiceChange,
    id::ImageId,
    release::{Candidate, Release},
};
use evenkeel_layout::name::StackName;

use crate::engine::{Container, Engine, EngineError};

/// Judges the containers of a candidate's project, if there are any. The images are those that its references stand for
/// now: what a deployment will pull first is told as another image.
pub async fn judged(engine: &Engine, candidate: &Candidate) -> Result<Vec<Judged>, EngineError> {
    let found = engine.found(&candidate.project).await?;
    let mut images: BTreeMap<String, ImageId> = BTreeMap::new();
    for (name, service) in candidate.model.services() {
        if let Some(id) = engine.image(&service.image_reference(&candidate.project, name)).await? {
            images.insert(name.to_owned(), id);
        }
    }
    let wanted = Wanted { model: &candidate.model, project: &candidate.project, images: &images };
    Ok(adopt::judge(&wanted, &found))
}

/// What becomes of the services of candidates that have no release, where containers of their projects stand.
pub async fn of_strangers(
    engine: &Engine,
    candidates: &[Candidate],
    releases: &BTreeMap<StackName, Release>,
    containers: &[Container],
) -> Result<BTreeMap<StackName, Vec<ServiceChange>>, EngineError> {
    let projects: BTreeSet<&str> = containers.iter().map(|c| c.project.as_str()).collect();
    let fresh = candidates.iter().filter(|c| !releases.contains_key(&c.stack));
    let mut found = BTreeMap::new();
    for candidate in fresh.filter(|c| projects.contains(c.project.as_str())) {
        let judged = judged(engine, candidate).await?;
        found.insert(candidate.stack.clone(), judged.iter().map(Judged::change).collect());
    }
    Ok(found)
}
