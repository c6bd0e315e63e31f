//! A deployment in the journal: the only way from one state to the next.

use evenkeel_core::{
    change::{ServiceChange, ServiceChangeKind},
    id::{CommitId, DeploymentId, Digest, SyncId},
    journal::{Event, Group, Illegal, Progress, Purpose, Seen, SnapshotDecision, State},
    outcome::Outcome,
    reason::{Code, Reason},
    release::{Release, removal_digest},
};
use evenkeel_layout::name::StackName;

use crate::{
    host::{
        Host,
        messages::{Happening, event_of},
        now_ms,
    },
    report,
    steps::restore::kept,
    store::{Conclusion, Keep, KeptOut, NewDeployment, ReleaseMove, StoreError, Unfinished},
};

/// What a deployment is meant to do.
pub struct Intent<'a> {
    /// The sync it belongs to.
    pub sync: SyncId,
    /// The stack.
    pub stack: &'a StackName,
    /// The candidate's digest; `None` for a removal.
    pub digest: Option<Digest>,
    /// The release that runs now.
    pub from: Option<&'a Release>,
    /// The commit this is about.
    pub commit: Option<&'a report::Commit>,
    /// What changes, service by service.
    pub changes: &'a [ServiceChange],
    /// What it is for.
    pub purpose: Purpose,
    /// The stacks that change together with it, if any do.
    pub group: Option<&'a Group>,
}

/// A deployment that is under way. Its journal is on disk before anything that the journal announces is done.
pub struct Deployment {
    /// Its number.
    pub id: DeploymentId,
    /// The sync that it belongs to.
    sync: SyncId,
    /// The stack.
    pub stack: StackName,
    /// The commit this is about, as it is told.
    pub commit: Option<report::Commit>,
    /// The commit of the release that ran before.
    pub from_commit: Option<CommitId>,
    /// The digest of that release.
    from_digest: Option<Digest>,
    /// What changes, service by service.
    pub changes: Vec<ServiceChange>,
    /// When it began, in milliseconds since 1970.
    pub started_ms: i64,
    progress: Progress,
}

/// The journal cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The store failed: without a journal there is no effect.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A fault of ours.
    #[error(transparent)]
    Illegal(#[from] Illegal),
}

impl JournalError {
    /// The reason that is reported.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Store(error) => error.reason(),
            Self::Illegal(error) => Reason::new(Code::Internal, format!("{error}; please report this")),
        }
    }
}

impl Deployment {
    /// Makes an intent durable.
    pub fn intend(host: &Host, intent: &Intent<'_>) -> Result<Self, JournalError> {
        let event = Event::Intended {
            digest: intent.digest.clone(),
            from: intent.from.map(|r| r.id),
            purpose: intent.purpose.clone(),
            group: intent.group.cloned(),
        };
        let progress = Progress::begin(&event)?;
        let from_commit = intent.from.map(|r| r.commit.clone());
        let is_removal = intent.digest.is_none();
        let new = NewDeployment {
            sync: intent.sync,
            stack: intent.stack,
            to: intent.commit.filter(|_| !is_removal).map(|c| &c.id),
            from: from_commit.as_ref(),
            changes: intent.changes,
        };
        let started_ms = now_ms();
        let id = host.store.intend(&new, &event, started_ms)?;
        Ok(Self {
            id,
            sync: intent.sync,
            stack: intent.stack.clone(),
            commit: intent.commit.cloned(),
            from_commit,
            from_digest: intent.from.map(|r| r.digest.clone()),
            changes: intent.changes.to_vec(),
            started_ms,
            progress,
        })
    }

    /// Takes up a deployment that was found unfinished.
    pub fn found(unfinished: Unfinished, commit: Option<report::Commit>, from: Option<&Release>) -> Self {
        Self {
            id: unfinished.id,
            sync: unfinished.sync,
            stack: unfinished.stack,
            commit,
            from_commit: from.map(|r| r.commit.clone()),
            from_digest: from.map(|r| r.digest.clone()),
            changes: unfinished.changes,
            started_ms: unfinished.started_ms,
            progress: unfinished.progress,
        }
    }

    /// Where it is.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Whether it puts parts of the release back that runs anyway.
    pub fn is_heal(&self) -> bool {
        !self.progress.heal().is_empty()
    }

    /// Whether it removes the stack.
    pub fn is_removal(&self) -> bool {
        self.progress.digest().is_none()
    }

    /// Stores the candidate with the contents of its files; the event that says so is part of it.
    pub fn stage(
        &mut self,
        host: &Host,
        release: &Release,
        contents: &std::collections::BTreeMap<Digest, Vec<u8>>,
    ) -> Result<(), JournalError> {
        let (_, event) = host.store.stage(self.id, release, contents, now_ms())?;
        self.progress = self.progress.clone().next(&event)?;
        Ok(())
    }

    /// Writes an event. The one that ends the deployment is written together with all that the end means.
    pub fn record(&mut self, host: &Host, event: &Event) -> Result<(), JournalError> {
        let next = self.progress.clone().next(event)?;
        tracing::info!(event = event.name(), "{}: {}", self.stack, self.words(event));
        match next.state().outcome() {
            None => host.store.append(self.id, event, now_ms())?,
            Some(outcome) => self.conclude(host, event, &next, outcome)?,
        }
        self.progress = next;
        Ok(())
    }

    /// An event as a person reads it in the log.
    fn words(&self, event: &Event) -> String {
        let (removal, restores) = (self.is_removal(), self.progress.restore().is_some());
        match event {
            Event::Intended { .. } if removal => "to be removed".to_owned(),
            Event::Intended { purpose, .. } => match purpose {
                Purpose::Deploy => "to be deployed".to_owned(),
                Purpose::Heal(services) => format!("to be put back: {}", services.join(", ")),
                Purpose::Again(release) => format!("release {release} to be put back"),
                Purpose::Restore(restore) => {
                    format!("data of snapshot {} to be brought back", short(&restore.snapshot))
                }
            },
            Event::Staged { .. } if restores => "its data is here, beside what it uses".to_owned(),
            Event::Staged { .. } => "its images are here".to_owned(),
            Event::BackupStarted { .. } => match event.detail() {
                Some(quiet) => format!("backing up, with {quiet}"),
                None => "backing up".to_owned(),
            },
            Event::Calming { .. } => "having its data hold still".to_owned(),
            Event::Woken => "what held still runs again".to_owned(),
            Event::BackedUp { snapshot, .. } => match snapshot {
                SnapshotDecision::Taken(id) => format!("backed up as snapshot {}", short(id)),
                SnapshotDecision::KeptAside(paths) => format!("what is there will be kept in {}", paths.join(", ")),
                SnapshotDecision::NothingToSave => "nothing to back up".to_owned(),
                SnapshotDecision::NotConfigured => "no backup is configured".to_owned(),
                SnapshotDecision::SameRelease => "no backup needed".to_owned(),
                SnapshotDecision::Failed(why) => format!("not backed up, which is not required: {why}"),
            },
            Event::ApplyStarted { .. } if removal => "removing".to_owned(),
            Event::ApplyStarted { beside, .. } if !beside.is_empty() => {
                format!("applying, with {} started beside what runs", beside.join(", "))
            }
            Event::ApplyStarted { .. } => "applying".to_owned(),
            Event::Applied if removal => "taken down".to_owned(),
            Event::Applied => "applied, watching its health".to_owned(),
            Event::GatePassed { .. } if removal => "removed; its volumes stay".to_owned(),
            Event::GatePassed { .. } if self.is_heal() => "put back".to_owned(),
            Event::GatePassed { .. } if restores => "restored".to_owned(),
            Event::GatePassed { .. } if !self.progress.beside().is_empty() => {
                "well; old and new containers answer together".to_owned()
            }
            Event::GatePassed { .. } | Event::Switched if self.progress.group().is_some() => {
                "well; it waits for its group".to_owned()
            }
            Event::GroupPassed { .. } if !self.progress.beside().is_empty() => {
                "its group is well, the old containers go now".to_owned()
            }
            Event::GatePassed { .. } | Event::GroupPassed { .. } | Event::Retired { .. } => "deployed".to_owned(),
            Event::Switched => "well beside the old containers, which go now".to_owned(),
            Event::Failed { reason } => format!("failed: {reason}"),
            Event::RollbackStarted { .. } if self.from_commit.is_none() => "taking it down again".to_owned(),
            Event::RollbackStarted { .. } if restores => "putting back the data that was there before".to_owned(),
            Event::RollbackStarted { .. } => "putting the last good release back".to_owned(),
            Event::RollbackApplied => "put back, watching its health".to_owned(),
            Event::RollbackPassed => "rolled back".to_owned(),
            Event::Interrupted => "interrupted".to_owned(),
            Event::LeftAlone { reason } => format!("left as it is: {reason}"),
        }
    }

    fn conclude(&self, host: &Host, event: &Event, next: &Progress, outcome: Outcome) -> Result<(), StoreError> {
        let reason = self.reason(host, next)?;
        let reason = reason.as_ref();
        let snapshot = next.snapshot().and_then(SnapshotDecision::id);
        let release = match (next.state(), next.to()) {
            // The release stays what it was, put back or not.
            _ if self.is_heal() => ReleaseMove::Stay(None),
            (State::Committed, Some(to)) if next.restore().is_some() => ReleaseMove::Same(to),
            _ if next.restore().is_some() => ReleaseMove::Stay(None),
            (State::Committed, Some(to)) => ReleaseMove::Forward(to),
            (State::Committed, None) => ReleaseMove::Gone,
            (_, to) => ReleaseMove::Stay(to),
        };
        let is_news = self.is_news(host, outcome, reason)?;
        let messages = if is_news { self.messages(host, next, (outcome, reason)) } else { vec![] };
        let end = Conclusion {
            deployment: self.id,
            stack: &self.stack,
            event,
            outcome,
            reason,
            snapshot,
            release,
            keep_out: self.kept_out(host, next)?,
            evidence: evidence_of(event),
            messages,
        };
        host.store.conclude(&end, now_ms())?;
        host.metrics.deployment_ended(outcome);
        host.outbox.notify_one();
        Ok(())
    }

    /// Why it ended so. A way back that leaves data as the candidate left it says how that is brought back, too.
    fn reason(&self, host: &Host, next: &Progress) -> Result<Option<Reason>, StoreError> {
        let Some(reason) = next.failure() else { return Ok(None) };
        let is_back = matches!(next.state(), State::RolledBack | State::Halted);
        let kept = next.restore().filter(|_| is_back).map(kept).unwrap_or_default();
        if !kept.is_empty() {
            let message = format!(
                "{}; what was restored is kept in {}, with what was written to it: remove it when nobody needs it",
                reason.message,
                kept.join(", ")
            );
            return Ok(Some(Reason { message, ..reason.clone() }));
        }
        let (Some(snapshot), Some(to), true) = (next.snapshot().and_then(SnapshotDecision::id), next.to(), is_back)
        else {
            return Ok(Some(reason.clone()));
        };
        let release = host.store.release(to)?;
        let is_new =
            |change: &&ServiceChange| !matches!(change.change, ServiceChangeKind::None | ServiceChangeKind::Remove);
        let wrote = self.changes.iter().filter(is_new).any(|change| {
            let service = release.as_ref().and_then(|release| release.model.service(&change.service));
            service.is_some_and(|s| !s.named_volumes().is_empty() || s.binds().iter().any(|(_, read_only)| !read_only))
        });
        if !wrote {
            return Ok(Some(reason.clone()));
        }
        let message = format!(
            "{}; its data is as the candidate left it: `evenkeel restore {} --snapshot {} --reason …` brings back what was \
             saved before",
            reason.message,
            self.stack,
            short(snapshot)
        );
        Ok(Some(Reason { message, ..reason.clone() }))
    }

    /// What stays out from now on: the candidate, or the removal; after a rollback that a person wanted, what it replaced.
    /// Not what ran before and runs again: a container that was missing and could not be made at once may be missing again.
    fn kept_out(&self, host: &Host, next: &Progress) -> Result<Option<KeptOut>, StoreError> {
        let halted = match next.state() {
            // What the agent may not touch is nothing that it would keep out.
            State::Halted if next.failure().is_some_and(|reason| reason.code == Code::HeldAsOwn) => return Ok(None),
            State::Halted => true,
            // A disk that is full says nothing about these bytes.
            State::RolledBack if next.failure().is_some_and(|reason| reason.code.is_of_disk()) => return Ok(None),
            State::RolledBack => false,
            // It counts together with those that it was to move with; with others, or alone, it may be fine.
            State::Aborted if next.failure().is_some_and(|reason| reason.code == Code::GroupFailed) => false,
            State::Committed if next.again().is_some() => return self.held(host, next),
            _ => return Ok(None),
        };
        let removal = || self.from_digest.as_ref().map(removal_digest);
        let Some(digest) = next.digest().cloned().or_else(removal) else { return Ok(None) };
        if !halted && self.from_digest.as_ref() == Some(&digest) {
            return Ok(None);
        }
        let (Some(commit), Some(reason)) = (&self.commit, next.failure()) else { return Ok(None) };
        let keep = if halted { Keep::Halted } else { Keep::Failed };
        Ok(Some(KeptOut { digest, commit: commit.id.clone(), keep, tip: None, reason: reason.clone() }))
    }

    /// A person put an earlier release back: what ran until now stays out, and so does what the repository wants now.
    fn held(&self, host: &Host, next: &Progress) -> Result<Option<KeptOut>, StoreError> {
        let (Some(digest), Some(commit)) = (self.from_digest.clone(), self.from_commit.clone()) else {
            return Ok(None);
        };
        if next.digest() == Some(&digest) {
            return Ok(None);
        }
        let (by, why) = match host.store.stated(self.sync)? {
            Some(stated) => (stated.by.name, stated.reason),
            None => ("a person".to_owned(), "no reason given".to_owned()),
        };
        let stack = &self.stack;
        let message = format!(
            "{by} put an earlier release back ({why}); it stays until the repository wants something else of this stack, \
             or somebody says `evenkeel retry {stack}`"
        );
        let tip = host.store.accepted()?.map(|(tip, _)| tip);
        let reason = Reason::new(Code::HeldByPerson, message);
        Ok(Some(KeptOut { digest, commit, keep: Keep::Held, tip, reason }))
    }

    /// What is tried again and again is told once for each commit; an interruption is not told at all.
    fn is_news(&self, host: &Host, outcome: Outcome, reason: Option<&Reason>) -> Result<bool, StoreError> {
        if self.is_heal() {
            return Ok(false); // drift is told as such
        }
        let is_repeated = outcome == Outcome::Aborted
            || (outcome == Outcome::RolledBack
                && reason.is_some_and(|r| r.code.is_of_disk() || r.code == Code::GroupFailed));
        if !is_repeated {
            return Ok(true);
        }
        if reason.is_some_and(|r| r.code == Code::Interrupted) {
            return Ok(false);
        }
        let last = host.store.last_end(&self.stack)?;
        let to = self.commit.as_ref().filter(|_| !self.is_removal()).map(|c| c.id.as_str());
        Ok(last.is_none_or(|last| {
            last.outcome != outcome
                || last.commit.as_deref() != to
                || last.reason.map(|r| r.code) != reason.map(|r| r.code)
        }))
    }

    fn messages(
        &self,
        host: &Host,
        next: &Progress,
        (outcome, reason): (Outcome, Option<&Reason>),
    ) -> Vec<crate::store::Outgoing> {
        let to = match outcome {
            Outcome::Committed if self.is_removal() => None,
            Outcome::Committed => self.commit.as_ref().map(|c| &c.id),
            _ => self.from_commit.as_ref(),
        };
        let snapshot = next.snapshot().and_then(SnapshotDecision::id);
        host.tell(&Happening {
            stack: Some(&self.stack),
            event: event_of(outcome),
            commit: self.commit.as_ref(),
            from: self.from_commit.as_ref(),
            to,
            outcome,
            reason,
            services: &self.changes,
            duration_ms: u64::try_from(now_ms() - self.started_ms).ok(),
            snapshot,
        })
    }
}

/// A snapshot as people know it.
fn short(snapshot: &str) -> &str {
    snapshot.get(..8).unwrap_or(snapshot)
}

fn evidence_of(event: &Event) -> &[Seen] {
    match event {
        Event::GatePassed { seen } | Event::GroupPassed { seen } | Event::Retired { seen, .. } => seen,
        _ => &[],
    }
}
