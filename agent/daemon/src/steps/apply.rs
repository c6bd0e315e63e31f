//! Applying: files, tags, containers. The same code puts a candidate in place and the last good release back.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use evenkeel_core::{
    change::ServiceChangeKind,
    health::{Activity, Health, expectations},
    journal::ApplyPermit,
    model::Model,
    path::below,
    plan::{self, Side},
    reason::{Code, Reason},
    release::Release,
};
use evenkeel_layout::name::StackName;

use super::{adopt, beside, gate, masked, restore, stage::no_room};
use crate::{
    compose::{ComposeError, apply::Project},
    engine::{Container, EngineError},
    host::{Host, write_private},
    tree::live::{LiveError, Shared, SliceChange},
};

/// How long an engine that restarts is waited for.
pub const ENGINE_PATIENCE: Duration = Duration::from_secs(120);
/// An engine from which nothing was heard of a project for so long has done what an interrupted Compose asked for.
const QUIET: Duration = Duration::from_millis(700);
/// How long that is waited for; a container in a crash loop is never quiet.
const QUIET_PATIENCE: Duration = Duration::from_secs(5);

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
    if let Some(release) = target.to.or(target.other)
        && (permit.is_again() || permit.is_back())
    {
        // A Compose that was cut short may have left the engine at work.
        let quiet = host.engine.quiet(&release.project, QUIET, QUIET_PATIENCE).await;
        quiet.map_err(|e| e.reason(Code::ApplyFailed))?;
    }
    match (target.to, target.other) {
        (Some(to), other) => {
            restore::exchange(host, permit, to).await?;
            put(host, permit, to, other).await
        }
        (None, Some(other)) => {
            if permit.is_back() && !permit.stood().is_empty() {
                // A first release over what somebody else started. The files stay: somebody else brought them, and what runs
                // on may mount them.
                return adopt::leave(host, permit, other).await;
            }
            take_down(host, other).await?;
            remove_files(host, permit, other)
        }
        (None, None) => Ok(()),
    }
}

/// The containers of a project now, as the journal keeps them, and those of them that are not well. Those that are to
/// be put back are not excused.
pub async fn standing(host: &Host, project: &str, heal: &[String]) -> Result<(Vec<String>, Vec<String>), Reason> {
    let containers = host.engine.project(project).await.map_err(|e| e.reason(Code::EngineUnreachable))?;
    let is_ailing = |c: &&Container| match c.activity {
        Activity::Exited(_) | Activity::Restarting | Activity::Paused => true,
        Activity::Running => c.health == Health::Unhealthy,
        Activity::Created => false,
    };
    let ailing =
        containers.iter().filter(is_ailing).filter(|c| !heal.contains(&c.service)).map(|c| c.id.clone()).collect();
    Ok((containers.into_iter().map(|c| c.id).collect(), ailing))
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
    let candidate = if permit.is_back() { other } else { Some(to) };
    beside::clear(host, permit, &to.project, candidate).await?;
    let standing = host.engine.project(&to.project).await.map_err(failed)?;
    let root = host.live.root().display().to_string();
    let halted = host.store.doubtful().map_err(|e| e.reason())?.contains(&to.stack);
    let taken_over = if halted { BTreeSet::new() } else { adopt::take_over(host, permit, to, other).await? };
    let work = work(&Making { root: &root, to, other, halted, taken_over: &taken_over }, permit, &standing);
    tell(host, to, &work, &standing).await?;
    let project = Project {
        name: &to.project,
        model: &path,
        directory: &host.live_directory(&to.directory),
        secrets: &to.secret_env.0,
    };
    if !work.make.is_empty() {
        up(host, to, &project, &work.make, &standing).await?;
        // Of what was started first once, Compose remembers a number.
        beside::straighten(host, &to.project).await?;
    }
    if permit.beside().is_empty() || permit.is_back() {
        return Ok(());
    }
    beside::start(host, permit, to, &project, &work.make).await
}

/// Restarts and signals the containers whose services ask for no more. Those that are restarted come first: what shares their
/// namespaces is made anew, and needs them.
async fn tell(host: &Host, to: &Release, work: &Work, standing: &[Container]) -> Result<(), Reason> {
    let failed = |e: EngineError| e.reason(Code::ApplyFailed);
    for container in standing.iter().filter(|c| work.restart.contains(&c.service)) {
        tracing::info!(stack = %to.stack, container = container.name, "restarting: a file that it mounts changed");
        host.activity.at_work(to.stack.as_str(), &format!("restarting {}", container.name));
        host.engine.restart(&container.id).await.map_err(failed)?;
    }
    for container in standing {
        let Some(signal) = work.signal.get(&container.service) else { continue };
        tracing::info!(stack = %to.stack, container = container.name, signal, "a file that it mounts changed");
        host.engine.signal(&container.id, signal).await.map_err(failed)?;
    }
    Ok(())
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
        result = running => explained(host, to, &before, result).await,
        reason = gate::first_failure(host, to, &before) => Err(reason),
    }
}

/// Why Compose failed, if it did. A container that went bad and was not there `before` says more than Compose does.
pub(super) async fn explained(
    host: &Host,
    to: &Release,
    before: &[String],
    result: Result<(), ComposeError>,
) -> Result<(), Reason> {
    let Err(error) = result else { return Ok(()) };
    if let Err(away) = host.engine.version().await
        && away.is_unreachable()
    {
        return Err(away.reason(Code::EngineUnreachable));
    }
    let seen = gate::failure_now(host, to, before).await;
    let said = masked::without_values(&to.model, &to.secret_env, &error.to_string());
    let full = no_room(&said);
    Err(full.or(seen).unwrap_or_else(|| Reason::new(Code::ApplyFailed, said)))
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
pub(super) fn existing_directory(host: &Host, release: &Release) -> std::path::PathBuf {
    let wanted = host.live_directory(&release.directory);
    if wanted.is_dir() { wanted } else { std::path::PathBuf::from("/") }
}

async fn make_networks(host: &Host, model: &Model) -> Result<(), Reason> {
    let failed = |e: EngineError| e.reason(Code::ApplyFailed);
    let networks = model.section("networks");
    let external = networks.into_iter().filter(|(_, network)| network["external"].as_bool() == Some(true));
    let names: BTreeSet<&str> = external.map(|(key, network)| network["name"].as_str().unwrap_or(key)).collect();
    // Stacks that go up side by side may want the same one: between the question and the making nobody else may make it.
    let _locks = host.tags.take(names.iter().map(|name| format!("network {name}")).collect()).await;
    for name in names {
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

/// Removes what the agent wrote for a release that nothing replaces. What was never ours stays.
fn remove_files(host: &Host, permit: &ApplyPermit, gone: &Release) -> Result<(), Reason> {
    let nothing = BTreeMap::new();
    let change = SliceChange {
        to: &nothing,
        other: &gone.files,
        release: gone.id,
        shared: &shared(host, &gone.stack)?,
        in_place: &BTreeSet::new(),
    };
    host.live.write(permit, &change, |_| Ok(None)).map_err(|e| e.reason())?;
    let model = host.model_path(&gone.stack);
    match std::fs::remove_file(&model) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Reason::new(Code::FileWrite, format!("cannot remove {}: {e}", model.display())))
        }
        _ => Ok(()),
    }
}

fn write_files(host: &Host, permit: &ApplyPermit, to: &Release, other: Option<&Release>) -> Result<(), Reason> {
    let empty = BTreeMap::new();
    let change = SliceChange {
        to: &to.files,
        other: other.map_or(&empty, |r| &r.files),
        release: to.id,
        shared: &shared(host, &to.stack)?,
        in_place: &in_place(host, &[Some(&to.model), other.map(|r| &r.model)]),
    };
    let content = |digest: &_| host.store.blob(digest).map_err(|e| LiveError::Store(e.to_string()));
    let left_alone = host.live.write(permit, &change, content).map_err(|e| e.reason())?;
    for path in left_alone {
        tracing::warn!(stack = %to.stack, path, "a person changed this file on the server; it was left alone");
    }
    Ok(())
}

/// What the releases of other stacks have in the live tree, those on trial too.
pub fn shared(host: &Host, stack: &StackName) -> Result<Shared, Reason> {
    let mut shared = Shared::new();
    for release in host.store.releases_beside(stack).map_err(|e| e.reason())? {
        for (path, record) in release.files {
            shared.entry(path).or_default().push((release.id, record.digest));
        }
    }
    Ok(shared)
}

/// Repository paths that a container mounts by themselves: their inode must stay.
pub fn in_place(host: &Host, models: &[Option<&Model>]) -> BTreeSet<String> {
    let root = host.live.root().display().to_string();
    models
        .iter()
        .flatten()
        .flat_map(|model| {
            let binds = model.services().into_values().flat_map(|s| s.binds()).map(|(source, _)| source);
            let contents = ["configs", "secrets"].into_iter().flat_map(|section| model.section(section).into_values());
            binds.chain(contents.filter_map(|content| content["file"].as_str())).collect::<Vec<_>>()
        })
        .filter_map(|source| below(&root, source))
        .map(str::to_owned)
        .collect()
}

/// Services that only the other release has. They go before `up`: they may hold ports or names that are needed now.
fn services_gone(to: &Release, other: Option<&Release>) -> Vec<String> {
    let wanted = to.model.services();
    let had = other.filter(|o| o.project == to.project).map(|o| o.model.services()).unwrap_or_default();
    had.into_keys().filter(|name| !wanted.contains_key(name)).map(str::to_owned).collect()
}

/// What to make is decided from.
struct Making<'a> {
    root: &'a str,
    to: &'a Release,
    other: Option<&'a Release>,
    /// Whether nobody knows what the containers that stand were made from.
    halted: bool,
    /// Services whose containers somebody else started and that are what is wanted.
    taken_over: &'a BTreeSet<String>,
}

/// What becomes of the containers.
struct Work {
    /// Services whose containers are made.
    make: Vec<String>,
    /// Services whose containers are restarted.
    restart: BTreeSet<String>,
    /// Services whose containers get a signal, and which.
    signal: BTreeMap<String, String>,
}

/// What becomes of each service's containers. A signal or a restart may come twice, if an apply was cut short.
fn work(making: &Making<'_>, permit: &ApplyPermit, standing: &[Container]) -> Work {
    let from = making.other.filter(|o| o.project == making.to.project);
    let changes = plan::diff(making.root, from.map(Side::of_release), Some(Side::of_release(making.to)));
    let of = |kind| changes.iter().filter(move |c| c.change == kind).map(|c| c.service.as_str());
    let runs = |service: &str| standing.iter().all(|c| c.service != service || c.activity == Activity::Running);
    let anew = [ServiceChangeKind::Create, ServiceChangeKind::Recreate, ServiceChangeKind::StartFirst];
    let mut new: BTreeSet<&str> = anew.into_iter().flat_map(of).collect();
    // One that does not run hears nothing, and has to see the file all the same.
    new.extend(of(ServiceChangeKind::Signal).filter(|service| !runs(service)));
    let mut make = services_to_make(making, permit, standing, &new);
    // These stay as they are for now; the way back spares them itself.
    make.retain(|service| permit.is_back() || !permit.beside().contains(service));
    let is_left = |service: &&str| !make.iter().any(|made| made == service);
    let signal = |service: &str| Some((service.to_owned(), making.to.model.reload(service)?.signal));
    Work {
        restart: of(ServiceChangeKind::Restart).filter(is_left).map(str::to_owned).collect(),
        signal: of(ServiceChangeKind::Signal).filter(is_left).filter_map(signal).collect(),
        make,
    }
}

/// The services that get a signal on the way to a target: what their healthchecks said before it counts no more.
pub fn signalled(host: &Host, target: Target<'_>) -> BTreeSet<String> {
    let root = host.live.root().display().to_string();
    let changes = plan::diff(&root, target.other.map(Side::of_release), target.to.map(Side::of_release));
    changes.into_iter().filter(|c| c.change == ServiceChangeKind::Signal).map(|c| c.service).collect()
}

/// The services whose containers must be made: what `changed` between the two releases, what is not there in full, and
/// what went down since the deployment began. On a second try those that the first one has made already are spared.
fn services_to_make(
    making: &Making<'_>,
    permit: &ApplyPermit,
    standing: &[Container],
    changed: &BTreeSet<&str>,
) -> Vec<String> {
    let to = making.to;
    let from = making.other.filter(|o| o.project == to.project);
    let former_images = from.map(|r| &r.images);
    let new_image =
        |name: &str| former_images.and_then(|i| i.get(name)).map(|i| &i.id) != to.images.get(name).map(|i| &i.id);
    let expected = expectations(&to.model);
    expected
        .into_iter()
        .filter(|(name, expected)| {
            let containers: Vec<&Container> = standing.iter().filter(|c| c.service == *name).collect();
            if expected.replicas == 0 && containers.is_empty() {
                return false; // it is scaled to nothing
            }
            let is_short = (containers.len() as u64) < expected.replicas;
            let ended_well = |c: &Container| expected.may_end && c.activity == Activity::Exited(0);
            let made =
                |c: &&Container| !permit.before().contains(&c.id) && (c.activity == Activity::Running || ended_well(c));
            let stood = |c: &&Container| permit.stood().contains(&c.id);
            let stays = permit.is_back() && permit.beside().contains(name) && containers.iter().all(stood);
            let spared = stays || (permit.is_again() && containers.iter().all(made));
            let went_down = containers.iter().any(|c| {
                let is_down = match c.activity {
                    Activity::Created => true,
                    Activity::Exited(_) => !ended_well(c),
                    Activity::Restarting => permit.is_back(),
                    Activity::Running => permit.is_back() && c.health == Health::Unhealthy,
                    Activity::Paused => false,
                };
                is_down && !permit.ailing().contains(&c.id)
            });
            let has_other_data = permit.restore().is_some();
            let differs = !making.taken_over.contains(name)
                && (making.halted
                    || has_other_data
                    || changed.contains(name.as_str())
                    || new_image(name)
                    || permit.heal().contains(name));
            is_short || went_down || (differs && !spared)
        })
        .map(|(name, _)| name)
        .collect()
}
