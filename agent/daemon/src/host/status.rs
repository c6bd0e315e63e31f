//! The status: what the store knows, with what the engine sees now.

use std::{collections::BTreeMap, time::Duration};

use evenkeel_core::{
    answer::Releases,
    drift::Finding,
    health::{self, Health},
    outcome::{
        Activity, AgentStatus, DriftStatus, EngineStatus, History, OutboxStatus, Outcome, RefusedStatus, SourceStatus,
        StackLast, StackState, StackStatus, Status,
    },
    people::Suspension,
    release::Release,
};
use evenkeel_layout::name::StackName;

use super::{keeping, now_ms, people, silence, window};
use crate::{
    config::settings::Settings,
    engine::{Container, Engine},
    store::{DriftRecord, Store, StoreError, instant},
};

/// The shape's version.
const SCHEMA: u32 = 1;

/// Most interventions that are told at once.
const MOST_WORDS: usize = 1000;

/// How long the engine may take to say what it runs.
const ENGINE_PATIENCE: Duration = Duration::from_secs(5);

/// The last syncs, newest first.
pub fn history(store: &Store, limit: usize) -> Result<History, StoreError> {
    let syncs = store.history(limit)?;
    let since = syncs.last().filter(|_| syncs.len() >= limit).and_then(|sync| sync.started.parse().ok());
    let since = since.map_or(0, |at: jiff::Timestamp| at.as_millisecond());
    Ok(History { schema: SCHEMA, interventions: store.interventions(since, MOST_WORDS)?, syncs })
}

/// The kept releases, of one stack or of all.
pub fn releases(store: &Store, stack: Option<&StackName>) -> Result<Releases, StoreError> {
    Ok(Releases { schema: SCHEMA, releases: store.kept_releases(stack)? })
}

/// The status as the running agent gives it: it looks at the engine. `rejected` is what is wrong with a configuration on
/// disk that is not in force, `activity` what the agent is doing.
pub async fn of_agent(
    settings: &Settings,
    store: &Store,
    rejected: Option<&str>,
    activity: Option<Activity>,
) -> Result<Status, StoreError> {
    let notices = rejected
        .map(|errors| format!("the configuration on disk is invalid, the old one is in force: {errors}"))
        .into_iter()
        .collect();
    let input = StatusInput { settings, store, containers: None, pid: Some(std::process::id()), activity, notices };
    seen(input).await
}

/// The status as somebody else finds it in the store; `notice` says why the agent was not asked.
pub async fn without_agent(settings: &Settings, store: &Store, notice: String) -> Result<Status, StoreError> {
    let notices = vec![notice];
    seen(StatusInput { settings, store, containers: None, pid: None, activity: None, notices }).await
}

/// The status with what the engine sees now.
async fn seen(mut input: StatusInput<'_>) -> Result<Status, StoreError> {
    let (settings, store) = (input.settings, input.store);
    let engine = Engine::new(&settings.engine.socket);
    let containers = match tokio::time::timeout(ENGINE_PATIENCE, engine.containers()).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("the engine did not answer within {} s", ENGINE_PATIENCE.as_secs())),
    };
    input.notices.extend(containers.as_ref().err().cloned());
    // An engine that is away is told of once.
    let fault = last_fault(store)?.filter(|fault| !input.notices.iter().any(|notice| fault.ends_with(notice)));
    input.notices.extend(fault);
    input.containers = containers.as_deref().ok();
    status(input)
}

/// Why the last sync did not get as far as its stacks, if it did not: no stack's state tells that. A refusal is told
/// with the source.
fn last_fault(store: &Store) -> Result<Option<String>, StoreError> {
    let last = store.history(2)?.into_iter().find(|sync| sync.ended.is_some());
    let fault = last.filter(|sync| sync.outcome == Some(Outcome::Aborted) && sync.deployments.is_empty());
    Ok(fault.and_then(|sync| sync.reason).map(|reason| format!("the last sync failed: {reason}")))
}

/// What the status is made of.
pub struct StatusInput<'a> {
    /// The configuration.
    pub settings: &'a Settings,
    /// The store.
    pub store: &'a Store,
    /// What the engine lists, or `None` if it does not answer.
    pub containers: Option<&'a [Container]>,
    /// The process of the running agent.
    pub pid: Option<u32>,
    /// What the running agent is doing.
    pub activity: Option<Activity>,
    /// What is wrong with the whole, for people.
    pub notices: Vec<String>,
}

/// Puts the status together.
pub fn status(input: StatusInput<'_>) -> Result<Status, StoreError> {
    let source = input.store.source_state()?;
    let releases = input.store.current_releases()?;
    let accepted = input.store.accepted()?.map(|(commit, _)| commit.to_string());
    let deploying: Vec<StackName> = input.store.unfinished()?.into_iter().map(|u| u.stack).collect();
    let mut names: Vec<StackName> = releases.keys().cloned().chain(deploying.iter().cloned()).collect();
    names.extend(input.store.stacks_seen()?);
    names.sort();
    names.dedup();
    let drifted = input.store.drift()?;
    let now = now_ms();
    let suspensions: Vec<_> = input.store.suspensions()?.into_iter().filter(|s| !s.is_over(now)).collect();
    let mut stacks = Vec::new();
    for name in &names {
        let release = releases.get(name);
        let found = stack_status(&input, (name, release), deploying.contains(name), &suspensions)?;
        let drift = || drifted.get(name).map(drift).unwrap_or_default();
        stacks.extend(found.map(|found| StackStatus { drift: drift(), ..found }));
    }
    let outbox = input.store.outbox_stats()?;
    let silence = silence::too_long(input.store, input.settings, now_ms())?;
    let backup = keeping::status(input.store, input.settings)?;
    let tasks = backup.iter().flat_map(|backup| [&backup.forgotten, &backup.checked]).flatten();
    let failing: Vec<String> = tasks.filter_map(|task| task.error.clone()).collect();
    Ok(Status {
        schema: SCHEMA,
        server: input.settings.server.to_string(),
        source: SourceStatus {
            url: input.settings.source.url.clone(),
            reference: input.settings.source.reference.clone(),
            tip: source.tip.map(String::from),
            about: accepted.as_deref().map(|commit| input.store.about(commit)).transpose()?.flatten(),
            accepted,
            refused: source.refused.map(|r| RefusedStatus { commit: r.commit, code: r.code, message: r.message }),
            contact: source.contact_ms.map(instant),
            stale: silence.is_some(),
        },
        stacks,
        suspended: suspensions.iter().find(|s| s.stack.is_none()).map(people::suspended),
        guarded: input.store.guarded()?,
        agent: AgentStatus {
            running: input.pid.is_some(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: input.pid,
        },
        engine: EngineStatus { reachable: input.containers.is_some() },
        activity: input.activity,
        outbox: OutboxStatus {
            pending: outbox.pending,
            undelivered: outbox.undelivered,
            last_error: outbox.last_error,
        },
        backup,
        notices: input.notices.into_iter().chain(silence).chain(failing).collect(),
    })
}

fn drift(record: &DriftRecord) -> Vec<DriftStatus> {
    let status = |finding: &Finding| DriftStatus {
        kind: finding.kind,
        name: finding.name.clone(),
        by_person: finding.by_person,
        what: finding.what.clone(),
        since: instant(record.since_ms),
    };
    record.findings.iter().map(status).collect()
}

/// One stack; `None` of one that was removed on purpose.
fn stack_status(
    input: &StatusInput<'_>,
    (name, release): (&StackName, Option<&Release>),
    is_deploying: bool,
    suspensions: &[Suspension],
) -> Result<Option<StackStatus>, StoreError> {
    let last = input.store.last_end(name)?;
    let is_gone = release.is_none() && last.as_ref().is_none_or(|l| l.outcome == Outcome::Committed);
    if is_gone && !is_deploying {
        return Ok(None);
    }
    let hold = input.store.hold(name)?;
    let state = match state(is_deploying, last.as_ref()) {
        // A person put it there; the next sync has not said so yet.
        StackState::Steady if hold.is_some() => StackState::Held,
        state => state,
    };
    let window = release.and_then(|r| r.window.as_ref()).or(input.settings.window.as_ref());
    Ok(Some(StackStatus {
        name: name.to_string(),
        state,
        commit: release.map(|r| r.commit.to_string()),
        digest: release.map(|r| input.store.shown_digest(&r.digest)).transpose()?,
        health: health(release, input.containers).to_owned(),
        since: input.store.committed_at(name)?.map(instant),
        last,
        drift: Vec::new(),
        suspended: suspensions.iter().find(|s| s.stack.as_deref() == Some(name.as_str())).map(people::suspended),
        hold,
        window: window.map(|window| window::state(window, jiff::Timestamp::now())),
    }))
}

fn state(deploying: bool, last: Option<&StackLast>) -> StackState {
    if deploying {
        return StackState::Deploying;
    }
    match last.map(|l| l.outcome) {
        None | Some(Outcome::Committed | Outcome::Unchanged) => StackState::Steady,
        Some(Outcome::RolledBack | Outcome::Quarantined) => StackState::RolledBack,
        Some(Outcome::Held | Outcome::Refused) => StackState::Held,
        Some(Outcome::Rejected) => StackState::Rejected,
        Some(Outcome::Aborted) => StackState::Aborted,
        Some(Outcome::Halted) => StackState::Halted,
    }
}

/// One word for all containers of a release: the worst of them.
fn health(release: Option<&Release>, containers: Option<&[Container]>) -> &'static str {
    let (Some(release), Some(containers)) = (release, containers) else { return "unknown" };
    let mut by_service: BTreeMap<&str, Vec<&Container>> = BTreeMap::new();
    for container in containers.iter().filter(|c| c.project == release.project) {
        by_service.entry(&container.service).or_default().push(container);
    }
    let words = release.model.services().into_iter().flat_map(|(name, service)| {
        let may_end = service.restart() == "no";
        match by_service.get(name) {
            None => vec!["stopped"],
            Some(found) => found.iter().map(|c| word(c, may_end)).collect(),
        }
    });
    let order = ["unhealthy", "stopped", "starting", "healthy"];
    words.min_by_key(|word| order.iter().position(|o| o == word)).unwrap_or("healthy")
}

fn word(container: &Container, may_end: bool) -> &'static str {
    match (container.activity, container.health) {
        (health::Activity::Running, Health::Healthy | Health::None) => "healthy",
        (health::Activity::Running, Health::Starting) | (health::Activity::Created, _) => "starting",
        (health::Activity::Exited(0), _) if may_end => "healthy",
        (health::Activity::Running, Health::Unhealthy) | (health::Activity::Restarting, _) => "unhealthy",
        (health::Activity::Exited(_) | health::Activity::Paused, _) => "stopped",
    }
}
