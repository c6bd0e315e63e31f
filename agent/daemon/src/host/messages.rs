//! From what happened to what is told, for each sink that wants to know.

use evenkeel_core::{change::ServiceChange, id::CommitId, outcome::Outcome, reason::Reason};
use evenkeel_layout::name::StackName;

use super::{Host, now_ms};
use crate::{
    config::settings::{Event, Settings},
    git::{CommitInfo, Repo, apart::Revision},
    report::{self, Message},
    store::Outgoing,
};

/// What happened to a stack, or to the whole if `stack` is `None`.
pub struct Happening<'a> {
    /// The stack.
    pub stack: Option<&'a StackName>,
    /// What kind of thing.
    pub event: Event,
    /// The commit it is about.
    pub commit: Option<&'a report::Commit>,
    /// The commit of the release that ran before.
    pub from: Option<&'a CommitId>,
    /// The commit of the release that runs now.
    pub to: Option<&'a CommitId>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why.
    pub reason: Option<&'a Reason>,
    /// What happened to its services.
    pub services: &'a [ServiceChange],
    /// How long it took.
    pub duration_ms: Option<u64>,
    /// The snapshot.
    pub snapshot: Option<&'a str>,
}

impl<'a> Happening<'a> {
    /// Something that concerns no stack in particular, and no commit unless one is added.
    pub fn of_the_whole(event: Event, outcome: Outcome, reason: Option<&'a Reason>) -> Self {
        Self {
            stack: None,
            event,
            commit: None,
            from: None,
            to: None,
            outcome,
            reason,
            services: &[],
            duration_ms: None,
            snapshot: None,
        }
    }
}

impl Host {
    /// One outbox entry for each sink that is told of this.
    pub fn tell(&self, what: &Happening<'_>) -> Vec<Outgoing> {
        tell(&self.settings, what)
    }
}

/// One outbox entry for each sink that is told of this.
pub fn tell(settings: &Settings, what: &Happening<'_>) -> Vec<Outgoing> {
    settings
        .reports
        .iter()
        .filter(|sink| sink.on.contains(&what.event))
        .filter_map(|sink| {
            let message = message(settings, what, &delivery_id());
            // A message is plain data of ours, which always has a JSON form.
            let json = serde_json::to_string(&message).ok()?;
            let lane = what.stack.map(ToString::to_string).unwrap_or_default();
            Some(Outgoing { sink: sink.name.clone(), lane, message: json })
        })
        .collect()
}

fn message(settings: &Settings, what: &Happening<'_>, id: &str) -> Message {
    Message {
        id: id.to_owned(),
        event: what.event,
        server: settings.server.clone(),
        stack: what.stack.cloned(),
        commit: what.commit.cloned(),
        from: what.from.cloned(),
        to: what.to.cloned(),
        outcome: what.outcome,
        reason: what.reason.map(report::Why::from),
        services: what.services.to_vec(),
        duration_ms: what.duration_ms,
        snapshot: what.snapshot.map(str::to_owned),
        url: None,
        at: now_ms() / 1000,
    }
}

/// The event that an outcome is told as.
pub fn event_of(outcome: Outcome) -> Event {
    match outcome {
        Outcome::Committed | Outcome::Unchanged => Event::Deployed,
        Outcome::RolledBack => Event::RolledBack,
        // A push that cannot be rendered or staged: its author has to act, as with one that trust refused.
        Outcome::Refused | Outcome::Rejected | Outcome::Aborted => Event::Refused,
        Outcome::Halted => Event::Halted,
        Outcome::Held | Outcome::Quarantined => Event::Held,
    }
}

/// A commit as people know it; only its id if the object cannot be read, or there is no repository.
pub fn commit(repo: Option<&Repo>, id: &CommitId, revision: Option<&Revision>) -> report::Commit {
    let unknown = || CommitInfo { subject: String::new(), author: String::new(), time_unix: 0 };
    let info = repo.and_then(|repo| repo.commit_info(id).ok()).unwrap_or_else(unknown);
    let signer = revision
        .and_then(Revision::signer)
        .map(|signer| report::Signer { principal: signer.principal.clone(), fingerprint: signer.fingerprint.clone() });
    report::Commit { id: id.clone(), subject: info.subject, author: info.author, signer }
}

/// A delivery's id: 128 random bits, the same on each retry.
fn delivery_id() -> String {
    use std::hash::{BuildHasher, Hasher, RandomState};
    // Each `RandomState` is seeded by the system; that is random enough for an id that guards nothing.
    let half = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", half(), half())
}
