//! Applying: files, tags, containers. The same code puts a candidate in place and the last good release back.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use evenkeel_core::{
    change::ServiceChangeKind,
    health::Activity,
    journal::ApplyPermit,
    model::Model,
    path::below,
    plan::{self, Side},
    reason::{Code, Reason},
    release::Release,
};
use evenkeel_layout::name::StackName;

use super::gate;
use crate::{
    compose::apply::Project,
    engine::{Container, EngineError},
    host::{Host, write_private},
    tree::live::{LiveError, SliceChange},
};

/// How long an engine that restarts is waited for.
pub const ENGINE_PATIENCE: Duration = Duration::from_secs(120);

/// What shall run, and what may run instead now. At least one of them is a release.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// Shall run; `None`: nothing shall.
    pub to: Option<&'a Release>,
    /// May run now, whole or in part.
    pub other: Option<&'a Release>,
}

/// Makes the server what the target says. Every part may be repeated.
pub async fn apply(host: &Host, permit: &ApplyPermit, target: Target<'_>) -> Result<(), Reason> {
    host.engine.wait(ENGINE_PATIENCE).await.map_err(|e| e.reason(Code::EngineUnreachable))?;
    match (target.to, target.other) {
        (Some(to), other) => put(host, permit, to, other).await,
        (None, Some(other)) => take_down(host, other).await,
        (None, None) => Ok(()),
    }
}

/// Containers of a project now, as the journal keeps them.
pub async fn container_ids(host: &Host, project: &str) -> Result<Vec<String>, Reason> {
    let containers = host.engine.project(project).await.map_err(|e| e.reason(Code::EngineUnreachable))?;
    Ok(containers.into_iter().map(|c| c.id).collect())
}

async fn put(host: &Host, permit: &ApplyPermit, to: &Release, other: Option<&Release>) -> Result<(), Reason> {
    let failed = |e: EngineError| e.reason(Code::ApplyFailed);
    for mended in host.engine.mend_leftovers(&to.project).await.map_err(failed)? {
        tracing::warn!(stack = %to.stack, ?mended, "put right what an interrupted Compose left");
    }
    make_networks(host, &to.model).await?;
    write_files(host, permit, to, other)?;
    let path = host.model_path(&to.stack);
    write_private(&path, to.model.value().to_string().as_bytes())?;
    if let Some(other) = other.filter(|other| other.project != to.project) {
        // The stack moves to another project: what stands under the old name must go first, it holds ports and names.
        take_down(host, other).await?;
    }
    let references: BTreeSet<String> = to.images.values().map(|i| i.reference.clone()).collect();
    let _tags = host.tags.take(references).await;
    for image in to.images.values() {
        host.engine.point(&image.reference, &image.id).await.map_err(failed)?;
    }
    let gone = services_gone(to, other);
    host.engine.remove_services(&to.project, &gone).await.map_err(failed)?;
    let standing = host.engine.project(&to.project).await.map_err(failed)?;
    let services = services_to_make(host, permit, (to, other), &standing);
    if services.is_empty() {
        return Ok(());
    }
    let project = Project {
        name: &to.project,
        model: &path,
        directory: &host.live_directory(&to.directory),
        secrets: &to.secret_env.0,
    };
    up(host, to, &project, &services, &standing).await
}

/// Runs `up` with the gate's eyes open: a container that fails ends it at once, and its reason counts.
async fn up(
    host: &Host,
    to: &Release,
    project: &Project<'_>,
    services: &[String],
    standing: &[Container],
) -> Result<(), Reason> {
    let stack = &to.stack;
    let on_line = |line: &str| tracing::debug!(%stack, "{line}");
    let before: Vec<String> = standing.iter().map(|c| c.id.clone()).collect();
    let deadline = host.settings.gate.progress_deadline;
    let running = host.compose.up(project, services, deadline, Some(&on_line));
    tokio::select! {
        result = running => match result {
            Ok(()) => Ok(()),
            Err(error) => {
                if let Err(away) = host.engine.version().await
                    && away.is_unreachable()
                {
                    return Err(away.reason(Code::EngineUnreachable));
                }
                // A container that went bad says more than Compose does.
                let seen = gate::failure_now(host, to, &before).await;
                Err(seen.unwrap_or_else(|| Reason::new(Code::ApplyFailed, error.to_string())))
            }
        },
        reason = gate::first_failure(host, to, &before) => Err(reason),
    }
}

async fn take_down(host: &Host, release: &Release) -> Result<(), Reason> {
    let path = host.model_path(&release.stack).with_extension("down.json");
    write_private(&path, release.model.value().to_string().as_bytes())?;
    let project = Project {
        name: &release.project,
        model: &path,
        directory: &existing_directory(host, release),
        secrets: &release.secret_env.0,
    };
    let done = host.compose.down(&project).await;
    let removed = std::fs::remove_file(&path);
    done.map_err(|e| Reason::new(Code::ApplyFailed, e.to_string()))?;
    removed.map_err(|e| Reason::new(Code::FileWrite, format!("cannot remove {}: {e}", path.display())))
}

/// `down` needs a folder to run in, also when a person removed the live one.
fn existing_directory(host: &Host, release: &Release) -> std::path::PathBuf {
    let wanted = host.live_directory(&release.directory);
    if wanted.is_dir() { wanted } else { std::path::PathBuf::from("/") }
}

async fn make_networks(host: &Host, model: &Model) -> Result<(), Reason> {
    for (key, network) in model.section("networks") {
        if network["external"].as_bool() != Some(true) {
            continue;
        }
        let name = network["name"].as_str().unwrap_or(key);
        let failed = |e: EngineError| e.reason(Code::ApplyFailed);
        if host.engine.has_network(name).await.map_err(failed)? {
            continue;
        }
        if !host.settings.engine.create_networks {
            return Err(Reason::new(
                Code::ApplyFailed,
                format!(
                    "the external network {name} does not exist; make it with `docker network create {name}`, or set engine.create_networks"
                ),
            ));
        }
        tracing::info!(network = name, "making an external network that nobody made");
        host.engine.create_network(name).await.map_err(failed)?;
    }
    Ok(())
}

fn write_files(host: &Host, permit: &ApplyPermit, to: &Release, other: Option<&Release>) -> Result<(), Reason> {
    let empty = BTreeMap::new();
    let change = SliceChange {
        to: &to.files,
        other: other.map_or(&empty, |r| &r.files),
        shared: &shared_paths(host, &to.stack)?,
        in_place: &in_place(host, &[Some(&to.model), other.map(|r| &r.model)]),
    };
    let content = |digest: &_| host.store.blob(digest).map_err(|e| LiveError::Store(e.to_string()));
    let left_alone = host.live.write(permit, &change, content).map_err(|e| e.reason())?;
    for path in left_alone {
        tracing::warn!(stack = %to.stack, path, "a person changed this file on the server; it was left alone");
    }
    Ok(())
}

/// Paths that other stacks' releases own.
pub fn shared_paths(host: &Host, stack: &StackName) -> Result<BTreeSet<String>, Reason> {
    let releases = host.store.current_releases().map_err(|e| e.reason())?;
    Ok(releases.into_values().filter(|r| r.stack != *stack).flat_map(|r| r.files.into_keys()).collect())
}

/// Repository paths that a container mounts by themselves: their inode must stay.
pub fn in_place(host: &Host, models: &[Option<&Model>]) -> BTreeSet<String> {
    let root = host.live.root().display().to_string();
    models
        .iter()
        .flatten()
        .flat_map(|model| model.services().into_values().flat_map(|s| s.binds()).collect::<Vec<_>>())
        .filter_map(|(source, _)| below(&root, source))
        .map(str::to_owned)
        .collect()
}

/// Services that only the other release has. They go before `up`: they may hold ports or names that are needed now.
fn services_gone(to: &Release, other: Option<&Release>) -> Vec<String> {
    let wanted = to.model.services();
    let had = other.filter(|o| o.project == to.project).map(|o| o.model.services()).unwrap_or_default();
    had.into_keys().filter(|name| !wanted.contains_key(name)).map(str::to_owned).collect()
}

/// The services whose containers must be made: what changes between the two releases, and what is not there. On a
/// second try those that the first one has made already are spared.
fn services_to_make(
    host: &Host,
    permit: &ApplyPermit,
    (to, other): (&Release, Option<&Release>),
    standing: &[Container],
) -> Vec<String> {
    let root = host.live.root().display().to_string();
    let from = other.filter(|o| o.project == to.project);
    let changed: BTreeSet<String> = plan::diff(&root, from.map(side), Some(side(to)))
        .into_iter()
        .filter(|c| !matches!(c.change, ServiceChangeKind::None | ServiceChangeKind::Remove))
        .map(|c| c.service)
        .collect();
    let other_images = from.map(|r| &r.images);
    to.model
        .services()
        .into_keys()
        .filter(|name| {
            let mut containers = standing.iter().filter(|c| c.service == *name).peekable();
            if containers.peek().is_none() {
                return true;
            }
            let new_image =
                other_images.and_then(|i| i.get(*name)).map(|i| &i.id) != to.images.get(*name).map(|i| &i.id);
            let made = containers.all(|c| !permit.before().contains(&c.id) && c.activity != Activity::Created);
            (changed.contains(*name) || new_image) && !(permit.is_again() && made)
        })
        .map(str::to_owned)
        .collect()
}

fn side(release: &Release) -> Side<'_> {
    Side { model: &release.model, files: &release.files, secret_env: &release.secret_env }
}
