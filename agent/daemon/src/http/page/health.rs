//! `/healthz`: whether the agent is alive; `/readyz`: whether it does what it is for. Who probes needs no token, so it says no more than that.

use std::time::Duration;

use evenkeel_core::outcome::Status;
use hyper::StatusCode;
use jiff::Timestamp;

use super::{
    PageState,
    reply::{Problem, Reply},
};
use crate::store::StoreError;

/// A repository that was reached this recently counts as reached, however short the interval.
const CONTACT: Duration = Duration::from_secs(5 * 60);
/// As long as a sync runs, nobody looks at the repository: images may be large.
const WHILE_SYNCING: Duration = Duration::from_secs(60 * 60);

/// 200 as long as every part of the agent keeps within its time, else 503.
pub(super) fn liveness(page: &PageState) -> Reply {
    if page.seeing.is_alive() {
        Reply::text("alive\n")
    } else {
        Reply::text("stuck: a step takes longer than it may\n").status(StatusCode::SERVICE_UNAVAILABLE)
    }
}

/// 200 if the repository was reached lately and the engine answers, else 503; one line says which is lacking.
pub(super) async fn readiness(page: &PageState) -> Result<Reply, Problem> {
    let status = page.seeing.status().await?;
    let is_syncing = page.seeing.store().is_syncing().map_err(|e: StoreError| Problem::ours("store.failed", e))?;
    let interval = page.seeing.settings().source.interval;
    Ok(match lacking(&status, interval, is_syncing, Timestamp::now()) {
        None => Reply::text("ready\n"),
        Some(what) => Reply::text(format!("not ready: {what}\n")).status(StatusCode::SERVICE_UNAVAILABLE),
    })
}

/// What keeps the agent from being ready.
fn lacking(status: &Status, interval: Duration, is_syncing: bool, now: Timestamp) -> Option<String> {
    if !status.engine.reachable {
        return Some("the engine does not answer".to_owned());
    }
    let contact = status.source.contact.as_deref().and_then(|at| at.parse::<Timestamp>().ok());
    let Some(contact) = contact else { return Some("the repository was not reached yet".to_owned()) };
    let age = u64::try_from(now.as_second() - contact.as_second()).unwrap_or(0);
    let allowed = if is_syncing { WHILE_SYNCING } else { CONTACT.max(interval * 3) };
    (age > allowed.as_secs()).then(|| format!("the repository was last reached {age} s ago"))
}

#[cfg(test)]
mod tests {
    use evenkeel_core::outcome::{AgentStatus, EngineStatus, OutboxStatus, SourceStatus};

    use super::*;

    fn status(contact: Option<&str>, reachable: bool) -> Status {
        Status {
            schema: 1,
            server: "home".to_owned(),
            source: SourceStatus {
                url: "file:///r".to_owned(),
                reference: "refs/heads/main".to_owned(),
                tip: None,
                accepted: None,
                about: None,
                refused: None,
                contact: contact.map(str::to_owned),
                stale: false,
            },
            stacks: vec![],
            suspended: None,
            guarded: None,
            agent: AgentStatus { running: true, version: "0".to_owned(), pid: None },
            engine: EngineStatus { reachable },
            activity: None,
            outbox: OutboxStatus { pending: 0, undelivered: 0, last_error: None },
            backup: None,
            notices: vec![],
        }
    }

    #[test]
    fn an_agent_is_ready_while_engine_and_repository_answer() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
        let lacks =
            |contact, reachable, interval, syncing| lacking(&status(contact, reachable), interval, syncing, now);
        assert_eq!(lacks(Some("2026-11-21T11:55:00Z"), true, minute, false), None);
        let old = Some("2026-11-21T11:54:59Z");
        assert_eq!(lacks(old, true, minute, false).unwrap(), "the repository was last reached 301 s ago");
        assert_eq!(lacks(old, true, hour, false), None, "who looks once an hour is not late");
        assert_eq!(lacks(old, true, minute, true), None, "a long sync is no silence");
        assert_eq!(lacks(Some("2026-11-21T12:00:09Z"), true, minute, false), None, "a clock may jump");
        assert_eq!(lacks(old, false, hour, false).unwrap(), "the engine does not answer");
        assert_eq!(lacks(None, true, hour, false).unwrap(), "the repository was not reached yet");
    }
}
