//! Services that hold still while their data is saved, and run again afterwards whatever came of it.

use std::time::Duration;

use evenkeel_core::{
    health::{Activity, Health},
    journal::{Progress, Quiet, SnapshotDecision},
    quiesce::{Quiesce, quiesce},
    reason::{Code, Reason},
    release::Release,
};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::{masked::shown, probe::ended};
use crate::{
    engine::{Container, Executed},
    host::Host,
};

/// How long a container without a healthcheck is paused at most: those who talk to it wait that long.
const MAX_PAUSE: Duration = Duration::from_secs(300);
/// How long those that were woken may take until their healthchecks say something, and how often that is looked at.
const WELL: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(500);
/// Most characters that are shown of what a command said.
const MAX_SAID: usize = 300;

/// The containers of a release that are to hold still: those that run, of services that say so.
pub async fn quiet(host: &Host, from: Option<&Release>) -> Result<Vec<Quiet>, Reason> {
    let (Some(from), Some(_)) = (from, &host.restic) else { return Ok(Vec::new()) };
    if from.model.services().into_values().all(|service| quiesce(service).is_none()) {
        return Ok(Vec::new());
    }
    let containers = host.engine.project(&from.project).await.map_err(|e| e.reason(Code::EngineUnreachable))?;
    let runs = |c: &Container| c.activity == Activity::Running && way(from, &c.service).is_some();
    Ok(containers.into_iter().filter(runs).map(|c| Quiet { service: c.service, container: c.id }).collect())
}

fn way(release: &Release, service: &str) -> Option<Quiesce> {
    release.model.service(service).and_then(quiesce)
}

/// Has containers hold still: commands first, while all run, and then those that are stopped or paused. Gives how long that
/// may last.
pub async fn calm(host: &Host, from: Option<&Release>, quiet: &[Quiet]) -> Result<Option<Duration>, Reason> {
    let Some(from) = from else { return Ok(None) };
    let mut most: Option<Duration> = None;
    for one in quiet {
        if let Some(Quiesce::Commands { before, timeout, .. }) = way(from, &one.service) {
            command(host, from, one, (&before, timeout)).await?;
        }
    }
    // All are waited for, whatever becomes of one: a stop that nobody waits for goes on.
    let stops = quiet.iter().filter(|one| way(from, &one.service) == Some(Quiesce::Stop));
    let stopped = join_all(stops.map(|one| host.engine.stop(&one.container))).await;
    stopped.into_iter().collect::<Result<(), _>>().map_err(|e| e.reason(Code::BackupFailed))?;
    for one in quiet.iter().filter(|one| way(from, &one.service) == Some(Quiesce::Pause)) {
        let bears = host.engine.bears_pause(&one.container).await.map_err(|e| e.reason(Code::BackupFailed))?;
        let bears = bears.unwrap_or(MAX_PAUSE).min(MAX_PAUSE);
        most = Some(most.map_or(bears, |most| most.min(bears)));
        host.engine.pause(&one.container).await.map_err(|e| e.reason(Code::BackupFailed))?;
    }
    Ok(most)
}

/// Has containers run again that hold still, or may: what runs already is left alone, and a container that is gone is gone.
/// First come those that were stopped or paused; then, when they are well, what undoes commands, which may need them.
pub async fn wake(host: &Host, from: Option<&Release>, progress: &Progress) -> Result<(), Reason> {
    let Some(from) = from else { return Ok(()) };
    let containers = host.engine.project(&from.project).await.map_err(|e| e.reason(Code::EngineUnreachable))?;
    let find = |one: &Quiet| containers.iter().find(|c| c.id == one.container);
    let held: Vec<(&Quiet, &Container)> = progress.quiet().iter().filter_map(|one| Some((one, find(one)?))).collect();
    let interrupted = progress.failure().is_some_and(|reason| reason.code == Code::Interrupted);
    let mut failures = Vec::new();
    let mut note = |container: &Container, done: Result<(), Reason>| {
        if let Err(reason) = done {
            failures.push(format!("{}: {}", container.name, reason.message));
        }
    };
    for (one, container) in &held {
        let done = match (way(from, &one.service), container.activity) {
            (_, Activity::Paused) => host.engine.unpause(&one.container).await,
            (Some(Quiesce::Stop), Activity::Exited(_)) => host.engine.start(&one.container).await,
            // The agent ended in between: a stop that it asked for may be under way still, and this waits for that.
            (Some(Quiesce::Stop), Activity::Running) if interrupted => host.engine.restart(&one.container).await,
            _ => Ok(()),
        };
        note(container, done.map_err(|e| e.reason(Code::BackupFailed)));
    }
    well(host, from, progress.quiet()).await;
    for (one, container) in &held {
        let Some(Quiesce::Commands { before, after, timeout }) = way(from, &one.service) else { continue };
        if container.activity == Activity::Running {
            note(container, undo(host, from, one, (&before, after.as_deref(), timeout), progress).await);
        }
    }
    if failures.is_empty() {
        return Ok(());
    }
    // Another try does it.
    host.engine.version().await.map_err(|e| e.reason(Code::EngineUnreachable))?;
    let message = format!(
        "what held still for the backup does not run as before ({}); look with `docker compose ps` and start it",
        failures.join("; ")
    );
    Err(Reason::new(Code::BackupFailed, message))
}

/// Waits a while until those that were woken are as well as their healthchecks can say.
async fn well(host: &Host, from: &Release, quiet: &[Quiet]) {
    let until = Instant::now() + WELL;
    while Instant::now() < until {
        let Ok(standing) = host.engine.project(&from.project).await else { return };
        let is_starting = |c: &Container| c.health == Health::Starting && quiet.iter().any(|one| one.container == c.id);
        if !standing.iter().any(is_starting) {
            return;
        }
        sleep(LOOK).await;
    }
}

/// Undoes a command, once nothing of it is at work any more. Where the backup failed, it may never have been run, so that there may
/// be nothing to undo: that is no failure of its own.
async fn undo(
    host: &Host,
    from: &Release,
    one: &Quiet,
    (before, after, most): (&[String], Option<&[String]>, Duration),
    progress: &Progress,
) -> Result<(), Reason> {
    let failed = matches!(progress.snapshot(), None | Some(SnapshotDecision::Failed(_)));
    if failed && !host.engine.end_command(&one.container, before).await.map_err(|e| e.reason(Code::BackupFailed))? {
        let message = format!("{}: its x-evenkeel.quiesce command is still at work", one.service);
        return Err(Reason::new(Code::BackupFailed, message));
    }
    let Some(after) = after else { return Ok(()) };
    match command(host, from, one, (after, most)).await {
        Err(reason) if failed && reason.code != Code::EngineUnreachable => {
            tracing::warn!(stack = %from.stack, %reason, "what undoes a command failed, as the backup did");
            Ok(())
        }
        done => done,
    }
}

/// Runs a command in a container. What it says is shown without values that may be secret.
async fn command(host: &Host, of: &Release, one: &Quiet, (words, most): (&[String], Duration)) -> Result<(), Reason> {
    let name = words.first().map(String::as_str).unwrap_or_default();
    let failed = |how: &str| {
        let how = shown(&of.model, &of.secret_env, how, MAX_SAID);
        Reason::new(Code::BackupFailed, format!("{}: its x-evenkeel.quiesce command {name} failed: {how}", one.service))
    };
    match host.engine.execute(&one.container, words, most).await {
        Err(error) if error.is_unreachable() => Err(error.reason(Code::EngineUnreachable)),
        Err(error) => Err(failed(&error.to_string())),
        Ok(Executed::Overdue(made)) => {
            let has_ended = match &made {
                Some(exec) => host.engine.end(exec).await.unwrap_or(false),
                None => true,
            };
            let now = if has_ended { "and was ended" } else { "and may go on" };
            Err(failed(&format!("it still ran after {} s, {now}", most.as_secs())))
        }
        Ok(Executed::Ended(Some(0), _)) => Ok(()),
        Ok(Executed::Ended(code, printed)) => Err(failed(&ended(code, &printed))),
    }
}
