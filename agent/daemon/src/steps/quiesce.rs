//! Services that hold still while their data is saved, and run again afterwards whatever came of it.

use std::time::Duration;

use evenkeel_core::{
    health::Activity,
    journal::Quiet,
    quiesce::{Quiesce, quiesce},
    reason::{Code, Reason},
    release::Release,
};
use futures_util::future::try_join_all;

use super::{masked::shown, probe::ended};
use crate::{
    engine::{Container, Executed},
    host::Host,
};

/// How long a container without a healthcheck is paused at most: those who talk to it wait that long.
const MAX_PAUSE: Duration = Duration::from_secs(300);
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
    let stops = quiet.iter().filter(|one| way(from, &one.service) == Some(Quiesce::Stop));
    try_join_all(stops.map(|one| host.engine.stop(&one.container))).await.map_err(|e| e.reason(Code::BackupFailed))?;
    for one in quiet.iter().filter(|one| way(from, &one.service) == Some(Quiesce::Pause)) {
        let bears = host.engine.bears_pause(&one.container).await.map_err(|e| e.reason(Code::BackupFailed))?;
        let bears = bears.unwrap_or(MAX_PAUSE).min(MAX_PAUSE);
        most = Some(most.map_or(bears, |most| most.min(bears)));
        host.engine.pause(&one.container).await.map_err(|e| e.reason(Code::BackupFailed))?;
    }
    Ok(most)
}

/// Has containers run again that hold still, or may: what runs already is left alone. A container that is gone is gone.
pub async fn wake(host: &Host, from: Option<&Release>, quiet: &[Quiet]) -> Result<(), Reason> {
    let Some(from) = from else { return Ok(()) };
    let standing = host.engine.project(&from.project).await.map_err(|e| e.reason(Code::EngineUnreachable))?;
    let mut failures = Vec::new();
    for one in quiet {
        let Some(container) = standing.iter().find(|c| c.id == one.container) else { continue };
        let done = match (way(from, &one.service), container.activity) {
            (_, Activity::Paused) => {
                host.engine.unpause(&one.container).await.map_err(|e| e.reason(Code::BackupFailed))
            }
            (Some(Quiesce::Stop), Activity::Exited(_)) => {
                host.engine.start(&one.container).await.map_err(|e| e.reason(Code::BackupFailed))
            }
            (Some(Quiesce::Commands { after: Some(after), timeout, .. }), Activity::Running) => {
                command(host, from, one, (&after, timeout)).await
            }
            _ => Ok(()),
        };
        match done {
            // Another try does it.
            Err(reason) if reason.code == Code::EngineUnreachable => return Err(reason),
            Err(reason) => failures.push(format!("{}: {}", container.name, reason.message)),
            Ok(()) => {}
        }
    }
    if failures.is_empty() {
        return Ok(());
    }
    let message = format!(
        "what held still for the backup does not run as before ({}); look with `docker compose ps` and start it",
        failures.join("; ")
    );
    Err(Reason::new(Code::BackupFailed, message))
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
