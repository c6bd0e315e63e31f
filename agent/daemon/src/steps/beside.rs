//! Updates that start first: new containers beside the old ones, a time in which both answer, the end of the old ones.
//!
//! The journal says which services and which containers are old, so that each part may be repeated: whatever of these services is
//! not old is new. Names on networks decide who is asked: a new container has none until the gate has let it pass, and an old one
//! has none any more before it is stopped.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use evenkeel_core::{
    change::ServiceChangeKind,
    health::{Activity, GatePolicy, Health, expectations},
    journal::{ApplyPermit, Event, Seen},
    model::{Model, Service},
    plan::{self, Side},
    reason::{Code, Reason},
    release::Release,
    update,
};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::{
    apply::explained,
    gate::{self, Stood, Watched},
};
use crate::{
    compose::{ComposeError, apply::Project},
    engine::{Attached, Container, EngineError},
    host::{Host, write_private},
};

/// How often is looked whether what a service depends on is ready.
const LOOK: Duration = Duration::from_millis(200);

/// How long a new container stays that nobody finds any more: a connection that came while it was off the network is tried again
/// after a second.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

fn failed(error: &EngineError) -> Reason {
    error.reason(Code::ApplyFailed)
}

/// The services of `to` that are started beside their containers of `from`. What stands must be well, and must not have data
/// that only it has.
pub async fn chosen(host: &Host, from: &Release, to: &Release) -> Result<Vec<String>, Reason> {
    if from.project != to.project || host.store.doubtful().map_err(|e| e.reason())?.contains(&to.stack) {
        return Ok(Vec::new());
    }
    let root = host.live.root().display().to_string();
    let changes = plan::diff(&root, Some(Side::of_release(from)), Some(Side::of_release(to)));
    let wanted = changes.into_iter().filter(|c| c.change == ServiceChangeKind::StartFirst).map(|c| c.service);
    let wanted: Vec<String> = wanted.collect();
    if wanted.is_empty() {
        return Ok(wanted);
    }
    let standing = host.engine.project(&to.project).await.map_err(|e| failed(&e))?;
    let mut found = Vec::new();
    for service in wanted {
        let old: Vec<&Container> = standing.iter().filter(|c| c.service == service).collect();
        match obstacle(host, to, &service, &old).await? {
            None => found.push(service),
            Some(why) => tracing::warn!(stack = %to.stack, service, "it is made anew, not started first: {why}"),
        }
    }
    Ok(found)
}

/// What the model does not tell and keeps a service from being started first.
async fn obstacle(host: &Host, to: &Release, service: &str, old: &[&Container]) -> Result<Option<String>, Reason> {
    let is_well = |c: &&Container| c.activity == Activity::Running && c.health != Health::Unhealthy;
    if old.is_empty() || !old.iter().all(is_well) {
        return Ok(Some("what stands is not well".to_owned()));
    }
    if expectations(&to.model).get(service).is_none_or(|expected| expected.replicas == 0) {
        return Ok(Some("it is scaled to nothing".to_owned()));
    }
    for container in old {
        if let Some(target) = host.engine.unnamed_volumes(&container.id).await.map_err(|e| failed(&e))?.first() {
            return Ok(Some(format!("{} has a volume without a name at {target}", container.name)));
        }
    }
    let Some(image) = to.images.get(service) else { return Ok(None) };
    let named = to.model.service(service).map(Service::mount_targets).unwrap_or_default();
    let wanted = host.engine.wanted_volumes(&image.id).await.map_err(|e| failed(&e))?;
    let target = wanted.iter().find(|target| !named.contains(target.trim_end_matches('/')));
    Ok(target.map(|target| format!("its image wants a volume at {target}, and none is named")))
}

fn is_of(permit: &ApplyPermit, container: &Container) -> bool {
    permit.beside().contains(&container.service)
}

/// Whether a container was there before, of a service that is started beside it.
fn is_old(permit: &ApplyPermit, container: &Container) -> bool {
    is_of(permit, container) && permit.stood().contains(&container.id)
}

fn is_new(permit: &ApplyPermit, container: &Container) -> bool {
    is_of(permit, container) && !permit.stood().contains(&container.id)
}

/// Removes what an earlier try, or the candidate, has started beside the old containers. `made_of` is what they were made of.
pub async fn clear(host: &Host, permit: &ApplyPermit, project: &str, made_of: Option<&Release>) -> Result<(), Reason> {
    if permit.beside().is_empty() {
        return Ok(());
    }
    let mut new = host.engine.project(project).await.map_err(|e| failed(&e))?;
    new.retain(|container| is_new(permit, container));
    // They may have sickened while both answered: nobody shall find them while they stop, and who has found them is answered.
    if leave_all(host, &new, made_of).await? == Some(Names::Gone) {
        sleep(LAST_ANSWERS).await;
    }
    let removed = join_all(new.iter().map(|container| {
        tracing::info!(container = container.name, "removing: it was started beside what stays");
        host.engine.retire(&container.id)
    }));
    removed.await.into_iter().collect::<Result<(), _>>().map_err(|e| failed(&e))?;
    host.engine.remove_networks(project, update::APART).await.map_err(|e| failed(&e))
}

/// Makes and starts the new containers, where no name leads to them yet. `made` are the services that were made anew just now.
pub async fn start(
    host: &Host,
    permit: &ApplyPermit,
    to: &Release,
    project: &Project<'_>,
    made: &[String],
) -> Result<(), Reason> {
    let expected = expectations(&to.model);
    let standing = host.engine.project(&to.project).await.map_err(|e| failed(&e))?;
    let count = |service: &String| {
        let old = standing.iter().filter(|c| c.service == *service).count();
        let new = expected.get(service).map_or(1, |expected| expected.replicas);
        (service.clone(), old + usize::try_from(new).unwrap_or(usize::MAX))
    };
    let counts: BTreeMap<String, usize> = permit.beside().iter().map(count).collect();
    let deadline = host.settings.gate.progress_deadline;
    let on_line = |line: &str| tracing::debug!(stack = %to.stack, "{line}");
    host.activity.at_work(to.stack.as_str(), &format!("starting {} beside what runs", permit.beside().join(", ")));
    let work = async {
        for (service, count) in &counts {
            let made_beside = create(host, to, project, (service, *count)).await?;
            explained(host, to, permit.before(), made_beside).await?;
        }
        for container in new_ones(host, permit, to).await? {
            unname(host, to, &container).await?;
        }
        host.engine.remove_networks(&to.project, update::APART).await.map_err(|e| failed(&e))?;
        ready(host, permit, to, made).await?;
        let started = host.compose.start_beside(project, &counts, deadline, Some(&on_line)).await;
        explained(host, to, permit.before(), started).await
    };
    tokio::select! {
        done = work => done,
        reason = gate::first_failure(host, to, permit.before()) => Err(reason),
    }
}

/// Makes the new containers of one service, up to so many with the old ones.
async fn create(
    host: &Host,
    to: &Release,
    project: &Project<'_>,
    (service, count): (&String, usize),
) -> Result<Result<(), ComposeError>, Reason> {
    let counts = BTreeMap::from([(service.clone(), count)]);
    let on_line = |line: &str| tracing::debug!(stack = %to.stack, "{line}");
    let deadline = host.settings.gate.progress_deadline;
    let Some((model, _)) = update::apart(&to.model, service) else {
        return Ok(host.compose.create_beside(project, &counts, deadline, Some(&on_line)).await);
    };
    // In its place, since the containers remember it.
    write_private(project.model, model.value().to_string().as_bytes())?;
    let made = host.compose.create_beside(project, &counts, deadline, Some(&on_line)).await;
    write_private(project.model, to.model.value().to_string().as_bytes())?;
    Ok(made)
}

/// Takes the names away that Compose gave a container that does not run yet, and puts it on the networks that it waited apart from.
async fn unname(host: &Host, to: &Release, container: &Container) -> Result<(), Reason> {
    let stand_ins = update::apart(&to.model, &container.service).map(|(_, stand_ins)| stand_ins).unwrap_or_default();
    let nobody = BTreeSet::new();
    for network in host.engine.attached(&container.id).await.map_err(|e| failed(&e))?.into_keys() {
        host.engine.leave(&container.id, &network).await.map_err(|e| failed(&e))?;
        let real = stand_ins.iter().find(|(stand_in, _)| *stand_in == network).map_or(&network, |(_, real)| real);
        host.engine.join(&container.id, real, &nobody).await.map_err(|e| failed(&e))?;
    }
    Ok(())
}

/// The new containers, by service and then by number.
async fn new_ones(host: &Host, permit: &ApplyPermit, to: &Release) -> Result<Vec<Container>, Reason> {
    let mut found = host.engine.project(&to.project).await.map_err(|e| failed(&e))?;
    found.retain(|container| is_new(permit, container));
    found.sort_by_key(|container| (container.service.clone(), number(&container.name)));
    Ok(found)
}

/// The number at the end of a container's name.
fn number(name: &str) -> u64 {
    name.rsplit('-').next().and_then(|text| text.parse().ok()).unwrap_or(u64::MAX)
}

fn address_lock(network: &str) -> String {
    format!("addresses of {network}")
}

/// Waits until what was made anew just now is as those want it who are started beside. Compose, which is not told to make it,
/// does not wait for it.
async fn ready(host: &Host, permit: &ApplyPermit, to: &Release, made: &[String]) -> Result<(), Reason> {
    let services = to.model.services();
    let of = |name: &String| services.get(name.as_str()).map(Service::depends_on).unwrap_or_default();
    let needs: BTreeSet<(&str, &str)> = permit.beside().iter().flat_map(of).collect();
    let needs: Vec<_> = needs.into_iter().filter(|(name, _)| made.iter().any(|made| made == name)).collect();
    let until = Instant::now() + host.settings.gate.progress_deadline;
    while !needs.is_empty() {
        let standing = host.engine.project(&to.project).await.map_err(|e| failed(&e))?;
        let missing = needs.iter().find(|(name, condition)| {
            let mut of_service = standing.iter().filter(|c| c.service == *name).peekable();
            of_service.peek().is_none() || !of_service.all(|container| is_ready(container, condition))
        });
        let Some((name, condition)) = missing else { break };
        if Instant::now() >= until {
            let message = format!("{name} did not come to be as others want it ({condition})");
            return Err(Reason::new(Code::ApplyFailed, message));
        }
        host.activity.at_work(to.stack.as_str(), &format!("waiting for {name}"));
        sleep(LOOK).await;
    }
    Ok(())
}

fn is_ready(container: &Container, condition: &str) -> bool {
    match condition {
        "service_completed_successfully" => container.activity == Activity::Exited(0),
        "service_healthy" => {
            container.activity == Activity::Running && matches!(container.health, Health::Healthy | Health::None)
        }
        _ => container.activity != Activity::Created,
    }
}

/// Lets the names lead to the new containers, too, and watches them while both answer.
pub async fn switch(
    host: &Host,
    permit: &ApplyPermit,
    to: &Release,
    policy: GatePolicy,
    stood: Stood<'_>,
) -> Result<Watched, Reason> {
    let new = new_ones(host, permit, to).await?;
    let mut numbers: BTreeMap<&str, u64> = BTreeMap::new();
    for container in &new {
        let number = numbers.entry(&container.service).or_default();
        *number += 1;
        let own = format!("{}-{}-{number}", to.project, container.service);
        join(host, to, container, &own).await?;
    }
    let overlap = overlap(permit, &to.model);
    host.activity.at_work(to.stack.as_str(), "watching old and new side by side");
    Ok(gate::watch(host, to, GatePolicy { min_healthy_time: overlap, ..policy }, stood).await)
}

/// The longest overlap that one of the services wants.
fn overlap(permit: &ApplyPermit, model: &Model) -> Duration {
    let services = permit.beside().iter().filter_map(|name| model.service(name));
    services.map(update::overlap).max().unwrap_or_default()
}

/// Gives a new container its names on each of its networks. `own` is the name that it will have.
async fn join(host: &Host, to: &Release, container: &Container, own: &str) -> Result<(), Reason> {
    let before = host.engine.attached(&container.id).await.map_err(|e| failed(&e))?;
    for (network, names) in update::aliases(&to.model, &container.service) {
        let names: BTreeSet<String> = names.into_iter().chain([own]).map(str::to_owned).collect();
        let there = before.get(network);
        if there.is_some_and(|there| names.is_subset(&there.aliases)) {
            continue;
        }
        let _locks = host.tags.take(BTreeSet::from([address_lock(network)])).await;
        if there.is_some() {
            host.engine.leave(&container.id, network).await.map_err(|e| failed(&e))?;
        }
        host.engine.join(&container.id, network, &names).await.map_err(|e| failed(&e))?;
    }
    let after = host.engine.attached(&container.id).await.map_err(|e| failed(&e))?;
    let is_moved = |(network, there): (&String, &Attached)| {
        after.get(network).is_some_and(|now| !there.addresses.is_empty() && now.addresses != there.addresses)
    };
    if before.iter().any(is_moved) {
        // What it had opened, to a database perhaps, would hang for long.
        tracing::warn!(stack = %to.stack, container = container.name, "restarting: its address has changed");
        host.engine.restart(&container.id).await.map_err(|e| failed(&e))?;
    }
    Ok(())
}

/// Removes the old containers: first no name leads to them any more, then they stay for those who still know their addresses,
/// then they are stopped. `None`: the agent was asked to stop.
pub async fn retire(
    host: &Host,
    permit: &ApplyPermit,
    (from, to): (Option<&Release>, &Release),
) -> Result<Option<Event>, Reason> {
    let down = let_run(host, permit, to).await?;
    let mut old = host.engine.project(&to.project).await.map_err(|e| failed(&e))?;
    old.retain(|container| is_old(permit, container) && !down.contains(&container.service));
    if leave_all(host, &old, from).await?.is_some_and(|names| names > Names::Stay) {
        host.activity.at_work(to.stack.as_str(), "letting the old containers finish what they do");
        tokio::select! {
            () = sleep(overlap(permit, &to.model)) => {}
            () = host.stop.cancelled() => return Ok(None),
        }
    }
    host.activity.at_work(to.stack.as_str(), "removing the old containers");
    let removed = join_all(old.iter().map(|container| async move {
        tracing::info!(stack = %to.stack, container = container.name, "removing: the new ones go on alone");
        (container, host.engine.retire(&container.id).await)
    }));
    let mut left: Vec<String> = down.iter().map(|service| format!("{service} (no new one runs)")).collect();
    for (container, done) in removed.await {
        match done {
            Ok(()) => {}
            Err(error) if error.is_unreachable() => return Err(failed(&error)),
            Err(error) => {
                tracing::warn!(stack = %to.stack, container = container.name, %error, "an old container stays");
                left.push(format!("{} ({error})", container.name));
            }
        }
    }
    if let Err(reason) = straighten(host, &to.project).await {
        if reason.code == Code::EngineUnreachable {
            return Err(reason);
        }
        tracing::warn!(stack = %to.stack, %reason, "the new containers keep their names");
    }
    let seen: Vec<Seen> = gate::seen_now(host, to).await;
    Ok(Some(Event::Retired { seen, left }))
}

/// Starts the new containers that ended, perhaps with the machine. Gives the services of which none runs: nobody takes their old
/// ones away.
async fn let_run(host: &Host, permit: &ApplyPermit, to: &Release) -> Result<BTreeSet<String>, Reason> {
    for container in new_ones(host, permit, to).await? {
        if !matches!(container.activity, Activity::Running | Activity::Restarting) {
            tracing::warn!(stack = %to.stack, container = container.name, "starting: it is to go on alone");
            if let Err(error) = host.engine.start(&container.id).await {
                tracing::warn!(stack = %to.stack, container = container.name, %error, "it does not start");
            }
        }
    }
    let new = new_ones(host, permit, to).await?;
    let runs = |service: &String| new.iter().any(|c| c.service == *service && c.activity == Activity::Running);
    Ok(permit.beside().iter().filter(|service| !runs(service)).cloned().collect())
}

/// Takes the names of those away that run. Gives the most that became of one's names; `None`: none runs.
async fn leave_all(host: &Host, containers: &[Container], made_of: Option<&Release>) -> Result<Option<Names>, Reason> {
    let mut most = None;
    for container in containers.iter().filter(|c| c.activity == Activity::Running) {
        let back = rejoin(host, container, made_of).await.map_err(|e| failed(&e))?;
        match leave(host, container).await.map(|names| names.max(back)) {
            Ok(names) => most = most.max(Some(names)),
            Err(error) if error.is_unreachable() => return Err(failed(&error)),
            Err(error) => tracing::warn!(container = container.name, %error, "it keeps its names"),
        }
    }
    Ok(most)
}

/// What became of a container's names, on the network where most became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Names {
    /// They lead to it still.
    Stay,
    /// None led to it, perhaps because an earlier try took them away.
    WereGone,
    /// They were taken away just now.
    Gone,
}

/// Puts a container back on networks that an agent took it off and did not live to put it on again: who had just called it waits
/// for its answer.
async fn rejoin(host: &Host, container: &Container, made_of: Option<&Release>) -> Result<Names, EngineError> {
    let wanted = made_of.map(|release| update::aliases(&release.model, &container.service)).unwrap_or_default();
    // Whoever takes its names away asks again, and says what is wrong.
    let Ok(there) = host.engine.attached(&container.id).await else { return Ok(Names::Stay) };
    let mut names = Names::Stay;
    for (network, _) in wanted.iter().filter(|(network, _)| !there.contains_key(*network)) {
        let _locks = host.tags.take(BTreeSet::from([address_lock(network)])).await;
        match host.engine.join(&container.id, network, &BTreeSet::new()).await {
            Ok(()) => names = Names::Gone,
            Err(error) if error.is_unreachable() => return Err(error),
            Err(error) => tracing::warn!(container = container.name, %error, "it does not come back to a network"),
        }
    }
    Ok(names)
}

/// Takes a container's names away, on each network. Where it would not get its address back they stay: to be found by a name is no
/// worse than not to be found by an address that somebody still knows.
async fn leave(host: &Host, container: &Container) -> Result<Names, EngineError> {
    let mut names = Names::Stay;
    for (network, there) in host.engine.attached(&container.id).await? {
        // Older engines tell the short id, too.
        if there.aliases.iter().all(|alias| container.id.starts_with(alias.as_str())) {
            names = names.max(Names::WereGone);
            continue;
        }
        let _locks = host.tags.take(BTreeSet::from([address_lock(&network)])).await;
        if host.engine.keeps_addresses(&there.addresses, &network).await? {
            host.engine.leave(&container.id, &network).await?;
            host.engine.join(&container.id, &network, &BTreeSet::new()).await?;
            names = Names::Gone;
        }
    }
    Ok(names)
}

/// Gives the containers of a project the names that they would have if they were made alone: from 1 on, without gaps.
pub async fn straighten(host: &Host, project: &str) -> Result<(), Reason> {
    let standing = host.engine.project(project).await.map_err(|e| failed(&e))?;
    for (id, name) in straightened(project, &standing) {
        tracing::info!(container = name, "renaming: it has the name of one that is gone");
        host.engine.rename(&id, &name).await.map_err(|e| failed(&e))?;
    }
    Ok(())
}

/// The containers that get another name, in an order in which each name is free.
fn straightened(project: &str, standing: &[Container]) -> Vec<(String, String)> {
    let mut by_service: BTreeMap<&str, Vec<(u64, &Container)>> = BTreeMap::new();
    for container in standing {
        let number = container.name.strip_prefix(&format!("{project}-{}-", container.service));
        // Only names that Compose gives: `container_name` is the author's.
        if let Some(number) = number.and_then(|text| text.parse().ok()) {
            by_service.entry(&container.service).or_default().push((number, container));
        }
    }
    let mut renamed = Vec::new();
    for (service, mut containers) in by_service {
        containers.sort_by_key(|(number, _)| *number);
        for (wanted, (number, container)) in (1_u64..).zip(containers) {
            if wanted < number {
                renamed.push((container.id.clone(), format!("{project}-{service}-{wanted}")));
            }
        }
    }
    renamed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(service: &str, name: &str) -> Container {
        Container {
            id: format!("id of {name}"),
            name: name.to_owned(),
            project: "p".to_owned(),
            service: service.to_owned(),
            activity: Activity::Running,
            health: Health::None,
        }
    }

    #[test]
    fn names_begin_with_one_and_have_no_gaps() {
        let all = [
            container("web", "p-web-10"),
            container("web", "p-web-9"),
            container("web", "p-web-1"),
            container("api", "p-api-1"),
            container("db", "database"),
        ];
        let expected = [("id of p-web-9", "p-web-2"), ("id of p-web-10", "p-web-3")];
        let expected = expected.map(|(id, name)| (id.to_owned(), name.to_owned()));
        assert_eq!(straightened("p", &all), expected);
    }

    #[test]
    fn what_is_depended_on_is_ready_as_its_dependent_wants_it() {
        let of = |activity, health| Container { activity, health, ..container("db", "p-db-1") };
        for (activity, health, condition, ready) in [
            (Activity::Running, Health::Starting, "service_started", true),
            (Activity::Created, Health::None, "service_started", false),
            (Activity::Running, Health::Starting, "service_healthy", false),
            (Activity::Running, Health::Healthy, "service_healthy", true),
            (Activity::Running, Health::None, "service_completed_successfully", false),
            (Activity::Exited(0), Health::None, "service_completed_successfully", true),
            (Activity::Exited(1), Health::None, "service_completed_successfully", false),
        ] {
            assert_eq!(is_ready(&of(activity, health), condition), ready, "{activity:?} {health:?} {condition}");
        }
    }
}
