//! Images: those of kept releases stay here under a tag of ours, and what we brought goes when nobody needs it any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use evenkeel_core::{
    id::{DeploymentId, ImageId, ReleaseId},
    reason::{Code, Reason},
    release::{Release, ReleaseImage},
};
use evenkeel_layout::name::StackName;

use crate::{
    compose::apply::{PULL_TIMEOUT, Project},
    engine::EngineError,
    host::{Host, write_private},
};

/// How long a registry may be silent while an image is brought back. The stack waits for it.
const SILENCE: Duration = Duration::from_secs(10 * 60);

/// Gives a candidate's images a tag of our own, so that `docker image prune` leaves them alone.
pub async fn keep(host: &Host, release: ReleaseId) -> Result<(), Reason> {
    let Some(release) = host.store.release(release).map_err(|e| e.reason())? else { return Ok(()) };
    for (reference, image) in keep_tags(&release) {
        if let Err(error) = host.engine.point(&reference, &image).await {
            tracing::warn!(stack = %release.stack, %error, "cannot tag an image to keep it");
        }
    }
    Ok(())
}

fn keep_tags(release: &Release) -> Vec<(String, ImageId)> {
    let stack = release.kept_as.as_ref().unwrap_or(&release.stack);
    let name = |service: &str| format!("evenkeel-keep/{stack}:{}-{service}", release.id).to_ascii_lowercase();
    release.images.iter().map(|(service, image)| (name(service), image.id.clone())).collect()
}

/// Makes sure that all images of a release are here, by id. One that somebody pruned is asked of its registry again, and
/// must be the very same.
pub async fn be_here(host: &Host, release: &Release) -> Result<(), Reason> {
    for (service, image) in &release.images {
        if !is_here(host, &release.stack, image).await? {
            return Err(gone(service, image, release));
        }
    }
    Ok(())
}

/// Whether an image of a stack's release is here, or could be brought back. When the agent is asked to stop, nothing is waited
/// for: that is an error.
pub async fn is_here(host: &Host, stack: &StackName, image: &ReleaseImage) -> Result<bool, Reason> {
    let missing = |e: EngineError| e.reason(Code::ImageMissing);
    if host.engine.image(&image.id.0).await.map_err(missing)?.is_some() {
        return Ok(true);
    }
    let Some(pinned) = &image.pinned else { return Ok(false) };
    tracing::warn!(image = %image.id, pinned, "an image of a release is gone: asking the registry for it again");
    tokio::select! {
        brought = bring_back(host, stack, pinned) => brought?,
        () = host.stop.cancelled() => {
            let what = format!("the agent was asked to stop while {pinned} was brought back");
            return Err(Reason::new(Code::Interrupted, what));
        }
    }
    Ok(host.engine.image(&image.id.0).await.map_err(missing)?.is_some())
}

/// Pulls an image by its reference. That this fails is a warning: what counts is whether it is here afterwards.
async fn bring_back(host: &Host, stack: &StackName, pinned: &str) -> Result<(), Reason> {
    let _doing = host.activity.phase(Some(stack.as_str()), "stage", PULL_TIMEOUT + SILENCE);
    host.activity.at_work(stack.as_str(), &format!("bringing back {pinned}"));
    let (folder, model) = (host.staging(), host.staging().join(format!("{stack}.image.json")));
    let failed = |e: std::io::Error| Reason::new(Code::FileWrite, format!("cannot make {}: {e}", folder.display()));
    fs::create_dir_all(&folder).map_err(failed)?;
    let text = serde_json::json!({ "services": { "image": { "image": pinned } } }).to_string();
    write_private(&model, text.as_bytes())?;
    let secrets = BTreeMap::new();
    let project = Project { name: "evenkeel-image", model: &model, directory: &folder, secrets: &secrets };
    if let Err(error) = host.compose.pull_unless_silent(&project, SILENCE).await {
        tracing::warn!(pinned, %error, "cannot bring an image back");
    }
    fs::remove_file(&model).map_err(failed)
}

fn gone(service: &str, image: &ReleaseImage, release: &Release) -> Reason {
    let what = format!(
        "the image of {service} in release {} ({}, {}) is gone, though it had a tag of ours, and could not be brought back; \
         bring it with `docker load` or `docker pull {}`",
        release.id,
        image.reference,
        image.id,
        image.pinned.as_deref().unwrap_or(&image.reference)
    );
    Reason::new(Code::ImageMissing, what)
}

/// Notes which of these references stand for images that were not here `before`.
pub async fn note_brought(
    host: &Host,
    deployment: DeploymentId,
    before: &BTreeSet<ImageId>,
    references: &[String],
) -> Result<(), Reason> {
    let mut brought = Vec::new();
    for reference in references {
        let image = host.engine.image(reference).await.map_err(|e| e.reason(Code::ImagePull))?;
        brought.extend(image.filter(|image| !before.contains(image)).map(|image| (image, reference.clone())));
    }
    host.store.note_brought(deployment, &brought).map_err(|e| e.reason())
}

/// Lets the releases go that nobody goes back to, with the tags of their images.
pub async fn let_past_go(host: &Host, stack: &StackName) -> Result<(), Reason> {
    let past = host.store.past_releases(stack, host.settings.releases_keep);
    let mut gone = Vec::new();
    for release in past.map_err(|e| e.reason())? {
        match let_tags_go(host, &release).await {
            Ok(()) => gone.push(release.id),
            // It is tried again with the next sync: as long as the release is known, so are its tags.
            Err(error) => tracing::warn!(stack = %release.stack, %error, "cannot let an old image go"),
        }
    }
    host.store.forget_releases(&gone).map_err(|e| e.reason())
}

async fn let_tags_go(host: &Host, release: &Release) -> Result<(), EngineError> {
    for (reference, image) in keep_tags(release) {
        let is_last = host.engine.tags_of(&image).await?.is_some_and(|tags| tags == [reference.as_str()]);
        // An answer that the store does not give counts as no.
        let stays = !host.store.is_brought(&image).unwrap_or(false) || host.engine.used().await?.contains(&image);
        if is_last && stays && !spare(host, release, (&reference, &image)).await? {
            tracing::debug!(%reference, %image, "our tag stays: it is the last one of an image that is not ours to remove");
            continue;
        }
        host.engine.untag(&reference).await?;
    }
    Ok(())
}

/// With its last tag an image would go. One that is not ours, or that somebody uses, is left without a tag instead, as
/// `docker pull` leaves what it replaces: the tag stands for another image before it is taken away, for one that has
/// another tag besides. Whether there is such a one.
async fn spare(host: &Host, release: &Release, (reference, image): (&str, &ImageId)) -> Result<bool, EngineError> {
    let kept = host.store.kept(&release.stack).unwrap_or_default();
    let others = kept.iter().flat_map(|kept| kept.images.values()).map(|other| &other.id);
    for other in others.filter(|other| *other != image) {
        let tags = host.engine.tags_of(other).await?.unwrap_or_default();
        if tags.iter().any(|tag| tag != reference) {
            host.engine.point(reference, other).await?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes what we brought and no release needs any more, unless a container uses it. Whoever gave such an image another
/// name keeps it. A failure is a warning: the next one that is committed tries again.
pub async fn sweep(host: &Host) -> Result<(), Reason> {
    let in_vain = host.store.brought_in_vain().map_err(|e| e.reason())?;
    if in_vain.is_empty() {
        return Ok(());
    }
    let used = match host.engine.used().await {
        Ok(used) => used,
        Err(error) => {
            tracing::warn!(%error, "cannot see which old images are in use");
            return Ok(());
        }
    };
    for (image, references) in in_vain.into_iter().filter(|(image, _)| !used.contains(image)) {
        match remove(host, &image, &references).await {
            Ok(()) => host.store.forget_brought(&image).map_err(|e| e.reason())?,
            Err(error) => tracing::warn!(%image, %error, "cannot remove an old image"),
        }
    }
    Ok(())
}

async fn remove(host: &Host, image: &ImageId, references: &[String]) -> Result<(), EngineError> {
    for reference in references {
        if host.engine.image(reference).await?.as_ref() == Some(image) {
            tracing::info!(reference, %image, "removing an image that nobody needs any more");
            host.engine.untag(reference).await?;
        }
    }
    Ok(())
}
