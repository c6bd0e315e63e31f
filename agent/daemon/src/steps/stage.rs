//! Staging: everything that a candidate needs is brought before anything is touched.

use std::{collections::BTreeMap, path::Path};

use evenkeel_core::{
    id::{DeploymentId, Digest, ImageId, ReleaseId},
    model::{Model, Service},
    reason::{Code, Reason},
    release::{Candidate, Files, Release, ReleaseImage},
    slice,
};
use evenkeel_layout::{name::StackName, tree::Tree};

use super::{
    apply::{in_place, shared},
    images, masked,
};
use crate::{
    compose::{ComposeError, apply::Project},
    engine::EngineError,
    host::{Host, write_private},
    tree::live::SliceChange,
};

/// Least free space, in bytes, on the disks of the state and of the live tree.
pub(super) const MIN_FREE: u64 = 64 * MIB;
/// Least number of files that can still be made there.
const MIN_FREE_FILES: u64 = 16;
const MIB: u64 = 1024 * 1024;

/// What was staged.
pub struct Staged {
    /// The candidate with its exact images.
    pub release: Release,
    /// The contents of its files.
    pub contents: BTreeMap<Digest, Vec<u8>>,
}

/// What staging works with.
pub struct StageInput<'a> {
    /// The candidate.
    pub candidate: &'a Candidate,
    /// The release that runs now.
    pub from: Option<&'a Release>,
    /// The commit's files.
    pub tree: &'a (dyn Tree + Sync),
    /// The folder where the commit is staged.
    pub root: &'a Path,
}

/// Brings a candidate's images and contents, and makes sure that there is a way back.
pub async fn stage(host: &Host, input: &StageInput<'_>, deployment: DeploymentId) -> Result<Staged, Reason> {
    check_disks(host, &input.candidate.files, input.from)?;
    check_slice(host, &input.candidate.stack, (&input.candidate.files, &input.candidate.model), input.from)?;
    let contents = contents(input)?;
    check_way_back(host, input.from).await?;
    let mut images = BTreeMap::new();
    let mut wanted: Vec<(String, String)> = Vec::new();
    let (mut to_pull, mut to_build) = (Vec::new(), Vec::new());
    for (name, service) in input.candidate.model.services() {
        let reference = service.image_reference(&input.candidate.project, name);
        let here = present(host, input, (name, service), &reference).await;
        if let Some(id) = here.map_err(|e| e.reason(Code::ImagePull))? {
            images.insert(name.to_owned(), image_of(host, reference, id, input.from).await?);
        } else {
            if service.build().is_some() { &mut to_build } else { &mut to_pull }.push(name.to_owned());
            wanted.push((name.to_owned(), reference));
        }
    }
    if !wanted.is_empty() {
        let before = host.engine.images().await.map_err(|e| e.reason(Code::ImagePull))?;
        let brought = bring(host, input, &to_pull, &to_build).await;
        // Of those that came before another one failed we know as well.
        let is_brought = |name: &str| to_build.iter().any(|n| n == name) || is_pullable(input, name);
        let brought_by_us = wanted.iter().filter(|(name, _)| is_brought(name));
        let references: Vec<String> = brought_by_us.map(|(_, reference)| reference.clone()).collect();
        let noted = images::note_brought(host, deployment, &before, &references).await;
        brought.and(noted)?;
    }
    for (name, reference) in wanted {
        let id = host.engine.image(&reference).await.map_err(|e| e.reason(Code::ImagePull))?;
        let id = id.ok_or_else(|| Reason::new(Code::ImageMissing, format!("{name}: the image {reference} is not here, and pull_policy forbids to pull it; load it with `docker load` or change the policy")))?;
        images.insert(name, image_of(host, reference, id, None).await?);
    }
    // What was taken over and is not touched by this candidate either is still what it was.
    let adopted = input.from.and_then(|from| from.adopted.clone());
    Ok(Staged { release: Release { adopted, ..Release::of(input.candidate, images) }, contents })
}

/// Makes sure that all of a kept release is here: a person wants it back, and neither Git nor a registry is asked.
pub async fn again(host: &Host, kept: ReleaseId, from: Option<&Release>) -> Result<Staged, Reason> {
    let gone = || {
        Reason::new(
            Code::ReleaseGone,
            format!("release {kept} is not kept any more; `evenkeel releases` lists what is"),
        )
    };
    let release = host.store.release(kept).map_err(|e| e.reason())?.ok_or_else(gone)?.again();
    check_disks(host, &release.files, from)?;
    check_slice(host, &release.stack, (&release.files, &release.model), from)?;
    images::be_here(host, &release).await.map_err(|reason| Reason {
        message: format!("{}, or choose another release. Nothing was changed", reason.message),
        ..reason
    })?;
    check_way_back(host, from).await?;
    Ok(Staged { release, contents: BTreeMap::new() })
}

/// Whether the disks of the state and of the live tree have room for what is new, and can be written at all.
fn check_disks(host: &Host, files: &Files, from: Option<&Release>) -> Result<(), Reason> {
    let is_new = |path: &String, digest: &Digest| {
        from.and_then(|from| from.files.get(path)).is_none_or(|former| former.digest != *digest)
    };
    let new = files.iter().filter(|(path, record)| is_new(path, &record.digest));
    let (files, bytes) = new.fold((0, 0_u64), |(files, bytes), (_, r)| (files + 1, bytes.saturating_add(r.size)));
    // The store writes its contents twice; a live file is written beside the one that it replaces.
    let (bytes, files) = (MIN_FREE.saturating_add(bytes.saturating_mul(2)), files + MIN_FREE_FILES);
    for path in [&host.settings.paths.state, &host.settings.paths.live] {
        let Some(existing) = path.ancestors().find(|p| p.exists()) else { continue };
        if let Err(error) = rustix::fs::access(existing, rustix::fs::Access::WRITE_OK) {
            let what = format!("{} cannot be written ({error}); nothing was changed", path.display());
            return Err(Reason::new(Code::FileWrite, what));
        }
        let Ok(stat) = rustix::fs::statvfs(existing) else { continue };
        let full = |free: String, wanted: String| {
            let what =
                format!("only {free} free at {}, {wanted} needed; make room, nothing was changed", path.display());
            Err(Reason::new(Code::DiskFull, what))
        };
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free < bytes {
            return full(format!("{} MiB are", free / MIB), format!("{} MiB are", bytes.div_ceil(MIB)));
        }
        // Some file systems count no files.
        if stat.f_files > 0 && stat.f_favail < files {
            return full(format!("{} files (inodes) are", stat.f_favail), format!("{files} are"));
        }
    }
    Ok(())
}

fn check_slice(
    host: &Host,
    stack: &StackName,
    (files, model): (&Files, &Model),
    from: Option<&Release>,
) -> Result<(), Reason> {
    let empty = BTreeMap::new();
    let change = SliceChange {
        to: files,
        other: from.map_or(&empty, |r| &r.files),
        release: ReleaseId(0),
        shared: &shared(host, stack)?,
        in_place: &in_place(host, &[Some(model)]),
    };
    host.live.check(&change).map_err(|e| e.reason())
}

fn contents(input: &StageInput<'_>) -> Result<BTreeMap<Digest, Vec<u8>>, Reason> {
    let broken =
        |path: &str, why: String| Reason::new(Code::SourceInvalid, format!("{path}: {why}; nothing was changed"));
    let mut contents = BTreeMap::new();
    for (path, record) in &input.candidate.files {
        let found = slice::content(input.tree, path).map_err(|e| broken(path, e.to_string()))?;
        let (bytes, _) = found.ok_or_else(|| broken(path, "it is not in the commit".to_owned()))?;
        if Digest::of(&bytes) != record.digest {
            return Err(broken(path, "its content is not what was read before".to_owned()));
        }
        contents.insert(record.digest.clone(), bytes);
    }
    Ok(contents)
}

/// The images of the release that runs must be here, by id: without them there is no way back. If nothing of it runs
/// any more there is nothing to go back to, and that is no reason to stand still.
pub async fn check_way_back(host: &Host, from: Option<&Release>) -> Result<(), Reason> {
    let Some(from) = from else { return Ok(()) };
    let unreachable = |e: EngineError| e.reason(Code::ImageMissing);
    for (service, image) in &from.images {
        if !images::is_here(host, &from.stack, image).await? {
            if host.engine.project(&from.project).await.map_err(unreachable)?.is_empty() {
                tracing::warn!(stack = %from.stack, service, "the former image is gone and nothing runs");
                continue;
            }
            return Err(Reason::new(
                Code::ImageMissing,
                format!(
                    "the image of {service} in the running release ({}) is gone, so there would be no way back; bring it \
                     back with `docker pull {}` or take the stack down by hand",
                    image.id, image.reference
                ),
            ));
        }
    }
    Ok(())
}

/// The image of a service if it need not be pulled or built: the release that runs has the same one, or it is here.
async fn present(
    host: &Host,
    input: &StageInput<'_>,
    (name, service): (&str, Service<'_>),
    reference: &str,
) -> Result<Option<ImageId>, EngineError> {
    let always = matches!(service.pull_policy(), Some("always" | "build"));
    let former = input.from.and_then(|from| Some((from, from.images.get(name)?)));
    if let Some((from, image)) = former
        && image.reference == reference
        && !always
        && same_build(host, input.candidate, from, name)
        && host.engine.image(&image.id.0).await?.is_some()
    {
        return Ok(Some(image.id.clone()));
    }
    if service.build().is_some() || (always && service.pull_policy() != Some("never")) {
        return Ok(None);
    }
    host.engine.image(reference).await
}

/// An image of a release, with the place where a registry has it.
async fn image_of(host: &Host, reference: String, id: ImageId, from: Option<&Release>) -> Result<ReleaseImage, Reason> {
    let former = from.and_then(|from| from.images.values().find(|image| image.id == id && image.pinned.is_some()));
    let pinned = match former {
        Some(former) => former.pinned.clone(),
        None => host.engine.pinned(&id, &reference).await.map_err(|e| e.reason(Code::ImagePull))?,
    };
    Ok(ReleaseImage { reference, id, pinned })
}

/// Whether both sides build a service from the same bytes in the same way, or not at all.
fn same_build(host: &Host, candidate: &Candidate, from: &Release, name: &str) -> bool {
    let root = host.live.root().display().to_string();
    let (Some(to), Some(before)) = (candidate.model.service(name), from.model.service(name)) else { return false };
    to.build() == before.build()
        && slice::covered(&candidate.files, &slice::build_paths(to, &root))
            == slice::covered(&from.files, &slice::build_paths(before, &root))
}

/// Whether the stack lets a service's image be pulled.
fn is_pullable(input: &StageInput<'_>, name: &str) -> bool {
    input.candidate.model.service(name).is_some_and(|service| service.pull_policy() != Some("never"))
}

async fn bring(host: &Host, input: &StageInput<'_>, to_pull: &[String], to_build: &[String]) -> Result<(), Reason> {
    let pullable: Vec<String> = to_pull.iter().filter(|name| is_pullable(input, name)).cloned().collect();
    if pullable.is_empty() && to_build.is_empty() {
        return Ok(());
    }
    // Builds read the verified commit where it is staged, never the live tree.
    let live = host.live.root().display().to_string();
    let model = input.candidate.model.rebased(&live, &input.root.display().to_string());
    let path = host.staging().join(format!("{}.json", input.candidate.stack));
    write_private(&path, model.value().to_string().as_bytes())?;
    let project = Project {
        name: &input.candidate.project,
        model: &path,
        directory: &input.root.join(&input.candidate.directory),
        secrets: &input.candidate.secret_env.0,
    };
    let stack = &input.candidate.stack;
    let on_line = |line: &str| tracing::debug!(%stack, "{line}");
    if !pullable.is_empty() {
        tracing::info!(%stack, services = ?pullable, "pulling images");
        host.activity.at_work(stack.as_str(), &format!("pulling images of {}", pullable.join(", ")));
        let pulled = host.compose.pull(&project, &pullable, Some(&on_line)).await;
        away_or(host, pulled.map_err(|e| pull_reason(&e))).await?;
    }
    if !to_build.is_empty() {
        tracing::info!(%stack, services = ?to_build, "building images");
        host.activity.at_work(stack.as_str(), &format!("building images of {}", to_build.join(", ")));
        let built = host.compose.build(&project, to_build, Some(&on_line)).await;
        away_or(host, built.map_err(|e| build_reason(input.candidate, &e))).await?;
    }
    Ok(())
}

/// What failed because the engine is away is not held against the image.
async fn away_or(host: &Host, done: Result<(), Reason>) -> Result<(), Reason> {
    let Err(reason) = done else { return Ok(()) };
    match host.engine.version().await {
        Err(away) if away.is_unreachable() => Err(away.reason(Code::EngineUnreachable)),
        _ => Err(reason),
    }
}

fn build_reason(candidate: &Candidate, error: &ComposeError) -> Reason {
    let said = masked::without_values(&candidate.model, &candidate.secret_env, &error.to_string());
    no_room(&said).unwrap_or_else(|| Reason::new(Code::ImageBuild, format!("{said}; nothing was changed")))
}

/// An image that does not exist, or that we may not have, waits for a person; a registry that cannot be reached is tried again.
fn pull_reason(error: &ComposeError) -> Reason {
    let text = error.to_string();
    let lower = text.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if let Some(full) = no_room(&text) {
        return full;
    }
    if says(&["error getting credentials", "docker-credential-"]) {
        let what = format!(
            "{text}; a credential helper that config.json names did not answer: the program has to be on the agent's PATH and \
             to work without a session (the file is engine.registry_auth). It is tried again, nothing was changed"
        );
        return Reason::new(Code::ImagePull, what);
    }
    if says(&["no basic auth credentials", "authentication required", "unauthorized", "access denied", "forbidden"]) {
        let what = format!(
            "{text}; the registry wants a login for it: `docker login` as the agent's user, or a config.json named in \
             engine.registry_auth; or the name is misspelt. Nothing was changed"
        );
        return Reason::new(Code::ImageMissing, what);
    }
    if says(&["manifest unknown", "not found: manifest", "does not exist", "invalid reference"]) {
        return Reason::new(Code::ImageMissing, format!("{text}; check the image's name and tag; nothing was changed"));
    }
    Reason::new(Code::ImagePull, format!("{text}; it is tried again, nothing was changed"))
}

/// The reason if the engine's disk is full, in the words of the engine.
pub fn no_room(said: &str) -> Option<Reason> {
    said.to_ascii_lowercase().contains("no space left on device").then(|| {
        let help = "make room on the engine's disk; `docker system df` tells what takes it, `docker image prune` removes unused images";
        Reason::new(Code::DiskFull, format!("{said}; {help}"))
    })
}
