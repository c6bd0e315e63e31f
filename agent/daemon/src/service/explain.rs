//! One screen on a stack: how it is, why, what speaks for that, what comes next and what a person can do.

use evenkeel_core::{
    answer::{Can, ContainerSeen, Explained, Explanation},
    health::{Activity, Health},
    outcome::{StackState, StackStatus, Status},
    reason::{Class, Code, Reason},
    release::Release,
};
use evenkeel_layout::name::StackName;

use crate::{
    config::settings::Settings,
    engine::{Container, Engine},
    steps::masked::{shown_check, shown_lines},
    store::{Store, StoreError},
};

/// The shape's version.
const SCHEMA: u32 = 1;
/// How many lines of the log of a container that is not well are shown.
const LOG_LINES: u32 = 5;

/// Explains a stack, or all, of a status that was just taken.
pub async fn explain(
    settings: &Settings,
    store: &Store,
    status: Status,
    stack: Option<&str>,
) -> Result<Explanation, StoreError> {
    let releases = store.current_releases()?;
    let engine = Engine::new(&settings.engine.socket);
    let mut stacks = Vec::new();
    for one in status.stacks.iter().filter(|one| stack.is_none_or(|name| name == one.name)) {
        let release = StackName::new(&one.name).ok().and_then(|name| releases.get(&name));
        let containers = match release {
            Some(release) if status.engine.reachable => seen(&engine, release).await,
            _ => Vec::new(),
        };
        stacks.push(one_stack(settings, &status, one, containers));
    }
    Ok(Explanation { schema: SCHEMA, next: whole(settings, &status), status, stacks })
}

async fn seen(engine: &Engine, release: &Release) -> Vec<ContainerSeen> {
    let Ok(containers) = engine.project(&release.project).await else { return Vec::new() };
    let mut all = Vec::new();
    for (service, model) in release.model.services() {
        let of_service: Vec<&Container> = containers.iter().filter(|c| c.service == service).collect();
        if of_service.is_empty() {
            let state = "missing".to_owned();
            all.push(ContainerSeen {
                service: service.to_owned(),
                name: String::new(),
                state,
                probe: None,
                log: vec![],
            });
        }
        for container in of_service {
            let may_end = model.restart() == "no" && container.activity == Activity::Exited(0);
            let is_well = may_end
                || (container.activity == Activity::Running
                    && matches!(container.health, Health::Healthy | Health::None));
            let (mut probe, mut log) = (None, Vec::new());
            if !is_well {
                let said = engine.healthcheck_said(&container.id).await;
                probe = said.and_then(|said| shown_check(&release.model, &release.secret_env, &said));
                let tail = engine.log_tail(&container.id, LOG_LINES).await;
                log = shown_lines(&release.model, &release.secret_env, &tail);
            }
            let (service, name) = (service.to_owned(), container.name.clone());
            all.push(ContainerSeen { service, name, state: state_of(container), probe, log });
        }
    }
    all
}

fn state_of(container: &Container) -> String {
    match (container.activity, container.health) {
        (Activity::Running, Health::Healthy) => "healthy".to_owned(),
        (Activity::Running, Health::Unhealthy) => "unhealthy".to_owned(),
        (Activity::Running, Health::Starting) => "starting".to_owned(),
        (Activity::Running, Health::None) => "running".to_owned(),
        (Activity::Exited(code), _) => format!("exited {code}"),
        (Activity::Created, _) => "created, never started".to_owned(),
        (Activity::Restarting, _) => "restarting".to_owned(),
        (Activity::Paused, _) => "paused".to_owned(),
    }
}

fn one_stack(settings: &Settings, status: &Status, one: &StackStatus, containers: Vec<ContainerSeen>) -> Explained {
    let why = one.last.as_ref().and_then(|last| last.reason.clone());
    Explained {
        summary: summary(one),
        next: next(settings, status, one, why.as_ref()),
        can: can(status, one, why.as_ref()),
        why,
        containers,
        status: one.clone(),
    }
}

fn summary(one: &StackStatus) -> String {
    let runs = match &one.commit {
        Some(commit) => format!("runs commit {}, {}", commit.get(..12).unwrap_or(commit), one.health),
        None => "runs no release".to_owned(),
    };
    let state = match one.state {
        StackState::Steady => "It is as the repository wants it",
        StackState::Deploying => "A deployment is under way",
        StackState::RolledBack => "What the repository wants did not pass; the last good release runs again",
        StackState::Held => "It waits",
        StackState::Rejected => "It cannot be deployed as the commit has it",
        StackState::Aborted => "What the repository wants could not be prepared; nothing was changed",
        StackState::Halted => {
            "It is halted: neither the candidate nor the last good release passed, so a person must act"
        }
    };
    format!("{state}; {runs}.")
}

/// What happens next to the whole.
fn whole(settings: &Settings, status: &Status) -> String {
    let every = settings.source.interval.as_secs();
    if let Some(suspended) = &status.suspended {
        return format!(
            "every stack is left alone until {}; the repository is looked at every {every} s",
            suspended.until
        );
    }
    if let Some(guarded) = status.guarded.as_ref().filter(|g| g.confirmed.is_none()) {
        return format!("plan {} removes {} and waits for a confirm", guarded.plan, guarded.removes.join(", "));
    }
    if !status.agent.running {
        return "nothing: the agent does not run".to_owned();
    }
    if status.source.refused.is_some() {
        return format!("nothing changes until a commit is accepted; the repository is looked at every {every} s");
    }
    format!("the repository is looked at every {every} s, and at once when a webhook comes")
}

/// What happens next to a stack, and when.
fn next(settings: &Settings, status: &Status, one: &StackStatus, why: Option<&Reason>) -> String {
    let every = settings.source.interval.as_secs();
    if !status.agent.running {
        return "nothing: the agent does not run".to_owned();
    }
    if one.state == StackState::Deploying {
        let doing = status.activity.iter().flat_map(|a| &a.stacks).find(|s| s.stack == one.name);
        return doing.map_or_else(
            || "the deployment goes on".to_owned(),
            |doing| format!("{} goes on, since {}", doing.phase, doing.since),
        );
    }
    if let Some(suspended) = one.suspended.as_ref().or(status.suspended.as_ref()) {
        return format!("nothing until {}; then what the repository wants is deployed", suspended.until);
    }
    let commit = "the next commit that changes this stack is deployed";
    match (one.state, why.map(|why| (why.code, why.class))) {
        (_, Some((Code::HeldAsOwn, _))) => "nothing by itself: the agent does not replace itself".to_owned(),
        (StackState::Halted, _) => format!("nothing by itself; {commit}, with all its containers made anew"),
        (_, Some((Code::GroupFailed | Code::HeldByGroup, _))) => {
            "it is deployed together with what it waits for, when that can be, or when this stack changes".to_owned()
        }
        (StackState::RolledBack | StackState::Rejected, _) => {
            format!("{commit}; the repository is looked at every {every} s")
        }
        (StackState::Held, _) if one.hold.is_some() => format!("it stays as it is; {commit}"),
        (StackState::Held, Some((Code::HeldByWindow, _))) => match one.window.as_ref().and_then(|w| w.changes.as_ref())
        {
            Some(at) => format!("its window opens at {at}; then it is deployed"),
            None => "it is deployed when its window opens".to_owned(),
        },
        (StackState::Held, Some((Code::HeldByDependency, _))) => "it is deployed after what it waits for".to_owned(),
        (StackState::Held, Some((Code::PruneGuard, _))) => "nothing is removed until a person confirms it".to_owned(),
        (StackState::Held, Some((Code::Observing, _))) => "nothing, as long as `observe` is on".to_owned(),
        (StackState::Aborted, Some((_, Class::Stalled))) => {
            format!("{commit}; a person or a restart has it tried again")
        }
        (StackState::Aborted, _) => format!("it is tried again within {every} s"),
        _ => format!("{commit}; the repository is looked at every {every} s"),
    }
}

/// Exact commands, the likeliest first.
fn can(status: &Status, one: &StackStatus, why: Option<&Reason>) -> Vec<Can> {
    let name = &one.name;
    let can = |command: String, does: &str| Can { command, does: does.to_owned() };
    let retry = can(format!("evenkeel retry {name}"), "try what the repository wants once more");
    let back = can(format!("evenkeel rollback {name} --reason WHY"), "put the release before back");
    let accept = can(format!("evenkeel accept {name} --reason WHY"), "take what runs now as good");
    let releases = can(format!("evenkeel releases {name}"), "list the releases to go back to");
    let pause = can(format!("evenkeel suspend {name} --for 2h --reason WHY"), "have it left alone for a while");
    let mut all = Vec::new();
    if !status.agent.running {
        all.push(can("systemctl start evenkeel".to_owned(), "start the agent"));
    }
    if one.suspended.is_some() {
        all.push(can(format!("evenkeel resume {name}"), "end the suspension now"));
    } else if status.suspended.is_some() {
        all.push(can("evenkeel resume --all".to_owned(), "end the suspension of all stacks now"));
    }
    match (one.state, why.map(|why| why.code)) {
        (_, Some(Code::HeldAsOwn)) => {
            // The reason has the exact command between backticks: it is known only to the agent in its container.
            let command = why.and_then(|why| why.message.split('`').nth(1)).map(str::to_owned);
            all.extend(command.map(|command| can(command, "replace the agent's own container, on the server")));
        }
        (StackState::Halted, _) => {
            let last_good = can(format!("evenkeel rollback {name} --reason WHY"), "make the last good release anew");
            all.extend([last_good, retry, accept, releases]);
        }
        (StackState::RolledBack | StackState::Held, Some(Code::GroupFailed | Code::HeldByGroup)) => {
            all.extend([retry, back, releases, pause]);
        }
        (StackState::RolledBack, _) => all.extend([retry, accept, back, releases]),
        (StackState::Held, Some(Code::PruneGuard)) => {
            if let Some(guarded) = &status.guarded {
                let command = format!("evenkeel confirm {} --reason WHY", guarded.plan);
                all.push(Can { command, does: format!("remove {}", guarded.removes.join(", ")) });
            }
        }
        (StackState::Held, Some(Code::HeldByWindow)) => {
            let command = "evenkeel sync --override --reason WHY".to_owned();
            all.push(can(command, "deploy now, outside of maintenance windows"));
        }
        (StackState::Held, _) if one.hold.is_some() => all.extend([retry, releases]),
        (StackState::Rejected, _) => {
            all.push(can("evenkeel check".to_owned(), "find the mistake, in a clone of the repository"));
        }
        (StackState::Aborted, _) => all.extend([can("evenkeel sync".to_owned(), "try again now"), pause]),
        (StackState::Deploying, _) => {}
        _ => all.extend([back, releases, pause]),
    }
    all
}
