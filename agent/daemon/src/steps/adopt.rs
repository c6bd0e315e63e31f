//! Taking over what somebody else started: containers that are what a stack wants already stay as they run.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_core::{
    adopt::{self, Wanted},
    id::ImageId,
    journal::ApplyPermit,
    reason::{Code, Reason},
    release::Release,
};

use crate::host::{Host, adoption};

/// Finds the services of a first release whose containers stay, and notes on the release which containers these are: what
/// this deployment made itself is not among them.
pub async fn take_over(
    host: &Host,
    permit: &ApplyPermit,
    to: &Release,
    other: Option<&Release>,
) -> Result<BTreeSet<String>, Reason> {
    if other.is_some() || permit.is_back() || permit.before().is_empty() {
        return Ok(BTreeSet::new());
    }
    let found = host.engine.found(&to.project).await.map_err(|e| e.reason(Code::ApplyFailed))?;
    let images: BTreeMap<String, ImageId> =
        to.images.iter().map(|(service, image)| (service.clone(), image.id.clone())).collect();
    let changed = adoption::changed(host.live.root(), &to.files);
    let wanted = Wanted { model: &to.model, project: &to.project, images: &images, changed: &changed };
    let stays: Vec<_> = adopt::judge(&wanted, &found).into_iter().filter(adopt::Judged::stays).collect();
    let containers = stays.iter().flat_map(|judged| &judged.containers);
    let adopted: BTreeSet<String> = containers.filter(|id| permit.before().contains(id)).cloned().collect();
    let services: BTreeSet<String> = stays.iter().map(|judged| judged.service.clone()).collect();
    if to.adopted.as_ref() != Some(&adopted) {
        tracing::info!(stack = %to.stack, ?services, containers = adopted.len(), "taking over what runs already");
        let noted = Release { adopted: Some(adopted), ..to.clone() };
        host.store.amend(&noted).map_err(|e| e.reason())?;
    }
    Ok(services)
}

/// Puts back what was there before a first release, as far as it can be: what was taken over runs on, what the agent made
/// goes. Whether there is anything that runs on.
pub async fn leave(host: &Host, release: &Release) -> Result<bool, Reason> {
    let failed = |e: crate::engine::EngineError| e.reason(Code::ApplyFailed);
    let standing = host.engine.project(&release.project).await.map_err(failed)?;
    let is_adopted = |service: &str| standing.iter().any(|c| c.service == service && release.has_adopted(&c.id));
    let (kept, made): (Vec<String>, Vec<String>) =
        release.model.services().into_keys().map(str::to_owned).partition(|service| is_adopted(service));
    if kept.is_empty() {
        return Ok(false);
    }
    tracing::warn!(stack = %release.stack, services = ?kept, "what was taken over runs on");
    host.engine.remove_services(&release.project, &made).await.map_err(failed)?;
    Ok(true)
}
