//! One sync as it runs: its phases are named, timed and logged here, its deployments are journalled here, and what
//! came of its stacks is gathered here.

mod journalled;

use std::{
    future::Future,
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use evenkeel_core::{
    id::{CommitId, SyncId},
    outcome::{Exit, Outcome},
    reason::{Code, Reason},
    release::Release,
};
use evenkeel_layout::name::StackName;
use tracing::Instrument as _;

pub use journalled::{Deployment, Intent};

use crate::{
    backup,
    compose::apply::{BUILD_TIMEOUT, DOWN_TIMEOUT, PULL_TIMEOUT},
    config::settings::Settings,
    host::{
        Host,
        activity::SyncGuard,
        messages::{Happening, event_of},
        now_ms,
    },
    report, steps,
    store::{DeploymentEnd, NewDeployment, StoreError, Words},
};

/// The phases of a sync and of a deployment. The names are those of logs and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Asking the repository for the tip.
    Fetch,
    /// Judging every commit.
    Trust,
    /// Finding the stack set, rendering and validating.
    Render,
    /// Asking the engine what runs.
    Observe,
    /// Bringing images.
    Stage,
    /// Taking a snapshot.
    Backup,
    /// Changing files and containers.
    Apply,
    /// Watching health.
    Gate,
    /// Removing the old containers of what was started first.
    Retire,
    /// Putting the last good release back.
    Rollback,
}

impl Phase {
    /// The stable text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Trust => "trust",
            Self::Render => "render",
            Self::Observe => "observe",
            Self::Stage => "stage",
            Self::Backup => "backup",
            Self::Apply => "apply",
            Self::Gate => "gate",
            Self::Retire => "retire",
            Self::Rollback => "rollback",
        }
    }

    /// How long it may take at the very most: its own deadlines, and room for what has none. Only the watchdog asks.
    fn allowed(self, settings: &Settings) -> Duration {
        const ROOM: Duration = Duration::from_secs(15 * 60);
        let own = match self {
            Self::Fetch => settings.source.timeout,
            // A history of many commits; a server with many stacks.
            Self::Trust | Self::Render => 4 * ROOM,
            Self::Observe => ROOM,
            Self::Stage => PULL_TIMEOUT + BUILD_TIMEOUT,
            Self::Backup => backup::BACKUP_TIMEOUT,
            // Stacks that use the same image take turns.
            Self::Apply | Self::Retire | Self::Rollback => {
                let one = steps::apply::ENGINE_PATIENCE + DOWN_TIMEOUT + settings.gate.progress_deadline;
                one * u32::try_from(settings.engine.parallel).unwrap_or(u32::MAX)
            }
            // Says with each look that it is at work; a removal's gate only waits.
            Self::Gate => settings.gate.healthy_deadline,
        };
        own + ROOM
    }
}

/// How one stack ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The stack.
    pub stack: StackName,
    /// How.
    pub outcome: Outcome,
    /// Why, if not well.
    pub reason: Option<Reason>,
}

/// How a whole sync ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncEnd {
    /// Its number; `None` if the store could not even begin it.
    pub id: Option<SyncId>,
    /// How.
    pub outcome: Outcome,
    /// Why, if it did not get as far as its stacks.
    pub reason: Option<Reason>,
    /// How each stack that had a part in it ended.
    pub ends: Vec<End>,
}

impl SyncEnd {
    /// The end of a sync that failed as a whole.
    pub fn failed(id: Option<SyncId>, outcome: Outcome, reason: Reason) -> Self {
        Self { id, outcome, reason: Some(reason), ends: Vec::new() }
    }

    /// The exit code of `sync` and of `agent --once`.
    pub fn exit(&self) -> Exit {
        let whole = (self.outcome, self.reason.as_ref());
        let parts = self.ends.iter().map(|e| (e.outcome, e.reason.as_ref()));
        let stopped = self.reason.is_some().then_some(whole);
        Exit::of(parts.chain(stopped))
    }

    /// Whether it is worth trying again by itself, sooner than the next commit.
    pub fn is_transient(&self) -> bool {
        let of_disk = |end: &End| end.reason.as_ref().is_some_and(|reason| reason.code.is_of_disk());
        self.exit() == Exit::Transient || self.ends.iter().any(of_disk)
    }
}

fn blocks(ends: &[End], stack: &StackName) -> bool {
    ends.iter().any(|e| e.stack == *stack && !matches!(e.outcome, Outcome::Committed | Outcome::Unchanged))
}

/// A sync as it runs.
pub struct Run<'h> {
    /// The host it runs on.
    pub host: &'h Host,
    /// Its number.
    pub id: SyncId,
    /// Whether a person or a new commit asked, so that what waits for one is tried again.
    pub insists: bool,
    /// Whether a person asked for it.
    pub is_asked_for: bool,
    /// Whether a person wants that maintenance windows do not count.
    pub overrides: bool,
    commit: OnceLock<report::Commit>,
    ends: Mutex<Vec<End>>,
    /// The gravest of what keeps stacks out as it did before, and so has no record of its own.
    as_before: Mutex<Option<(Outcome, Reason)>>,
    _doing: SyncGuard,
}

impl<'h> Run<'h> {
    /// Begins a sync in the store.
    pub fn begin(host: &'h Host, trigger: &str, insists: bool) -> Result<Self, StoreError> {
        let id = host.store.begin_sync(trigger, now_ms())?;
        Ok(Self { insists, is_asked_for: trigger == "manual", ..Self::resume(host, id) })
    }

    /// Begins a sync that a person asked for, with who and why.
    pub fn begin_told(host: &'h Host, trigger: &str, words: Words<'_>) -> Result<Self, StoreError> {
        let id = host.store.begin_told_sync(trigger, words, now_ms())?;
        Ok(Self { insists: true, ..Self::resume(host, id) })
    }

    /// The same, outside of maintenance windows if a person wants it so.
    #[must_use]
    pub fn overriding(mut self, overrides: bool) -> Self {
        self.overrides = overrides;
        self
    }

    /// Takes a sync up again whose deployments were found unfinished.
    pub fn resume(host: &'h Host, id: SyncId) -> Self {
        Self {
            host,
            id,
            insists: false,
            is_asked_for: false,
            overrides: false,
            commit: OnceLock::new(),
            ends: Mutex::default(),
            as_before: Mutex::default(),
            _doing: host.activity.sync(),
        }
    }

    /// Runs one phase of the whole: a span, its time, its fault.
    pub async fn phase<T, E: std::fmt::Display>(
        &self,
        phase: Phase,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.phase_of(None, phase, work).await
    }

    /// Runs one phase of a stack's deployment.
    pub async fn phase_of<T, E: std::fmt::Display>(
        &self,
        stack: Option<&StackName>,
        phase: Phase,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let allowed = phase.allowed(&self.host.settings);
        let _doing = self.host.activity.phase(stack.map(StackName::as_str), phase.as_str(), allowed);
        let began = Instant::now();
        let span = tracing::info_span!("phase", name = phase.as_str());
        let result = work.instrument(span).await;
        self.host.metrics.phase_took(phase.as_str(), began.elapsed());
        let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        match &result {
            Ok(_) => tracing::debug!(phase = phase.as_str(), ms, "done"),
            // Not a warning: how the sync or the deployment ends says it, once.
            Err(error) => tracing::debug!(phase = phase.as_str(), ms, %error, "failed"),
        }
        result
    }

    /// Notes which commit this is about.
    pub fn set_commit(&self, commit: report::Commit) -> Result<(), StoreError> {
        self.host.store.set_sync_commit(self.id, &commit.id, &commit.about())?;
        self.host.activity.commit(commit.id.as_str());
        // A second commit in one sync would be a fault of the spine; the first one stays.
        self.commit.get_or_init(|| commit);
        Ok(())
    }

    /// The commit this is about.
    pub fn commit(&self) -> Option<&report::Commit> {
        self.commit.get()
    }

    /// Remembers how a stack ended.
    pub fn ended(&self, end: End) {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).push(end);
    }

    /// Whether a stack got further in this sync.
    pub fn has_committed(&self) -> bool {
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.iter().any(|end| end.outcome == Outcome::Committed)
    }

    /// Whether a stack ended in this sync without running what the commit wants.
    pub fn blocks(&self, stack: &StackName) -> bool {
        blocks(&self.ends.lock().unwrap_or_else(PoisonError::into_inner), stack)
    }

    /// Whether what depends on a stack has to wait for it: it ended in this sync without running what the commit wants, and
    /// that is the agent's business. The agent's own stack is not, and runs as long as somebody asks.
    pub fn is_waited_for(&self, stack: &StackName) -> bool {
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let is_own = |end: &End| end.reason.as_ref().is_some_and(|reason| reason.code == Code::HeldAsOwn);
        !ends.iter().any(|end| end.stack == *stack && is_own(end)) && blocks(&ends, stack)
    }

    /// Whether a stack was set aside in this sync until a time comes.
    pub fn waits_for_time(&self, stack: &StackName) -> bool {
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = |reason: &Reason| matches!(reason.code, Code::HeldByWindow | Code::HeldBySuspension);
        ends.iter().any(|end| end.stack == *stack && end.reason.as_ref().is_some_and(waits))
    }

    /// A stack's part in this sync ends without a deployment. It is recorded and told once, not at every poll.
    pub fn set_aside(
        &self,
        stack: &StackName,
        from: Option<&CommitId>,
        outcome: Outcome,
        reason: Reason,
    ) -> Result<(), StoreError> {
        let to = self.commit().map(|c| &c.id);
        let last = self.host.store.last_end(stack)?;
        let is_news = last.is_none_or(|last| {
            let same = last.outcome == outcome
                || (outcome == Outcome::Quarantined && last.outcome == Outcome::RolledBack)
                || (outcome == Outcome::Quarantined && last.outcome == Outcome::Halted);
            !same
                || last.commit.as_deref() != to.map(CommitId::as_str)
                || (reason.code != Code::Quarantined && last.reason.as_ref() != Some(&reason))
        });
        if is_news {
            tracing::warn!(stack = %stack, outcome = outcome.as_str(), reason = %reason, "set aside");
            let messages = self.host.tell(&Happening {
                stack: Some(stack),
                event: event_of(outcome),
                commit: self.commit(),
                from,
                to: from,
                outcome,
                reason: Some(&reason),
                services: &[],
                duration_ms: None,
                snapshot: None,
            });
            let new = NewDeployment { sync: self.id, stack, to, from, changes: &[] };
            self.host.store.record_end(&DeploymentEnd { new, outcome, reason: Some(&reason), messages }, now_ms())?;
            self.host.metrics.deployment_ended(outcome);
            self.host.outbox.notify_one();
        } else {
            self.note_as_before(stack, outcome, &reason);
        }
        self.ended(End { stack: stack.clone(), outcome, reason: Some(reason) });
        Ok(())
    }

    fn note_as_before(&self, stack: &StackName, outcome: Outcome, reason: &Reason) {
        let mut noted = self.as_before.lock().unwrap_or_else(PoisonError::into_inner);
        let known = noted.as_ref().map(|(known, _)| *known);
        if known != Some(Outcome::of(known.into_iter().chain([outcome]))) {
            *noted = Some((outcome, Reason { message: format!("{stack}: {}", reason.message), ..reason.clone() }));
        }
    }

    /// Notes that a stack runs what the commit wants, if it was last heard of in trouble.
    pub fn steady(&self, release: &Release) -> Result<(), StoreError> {
        let last = self.host.store.last_end(&release.stack)?;
        if last.is_none_or(|last| matches!(last.outcome, Outcome::Committed | Outcome::Unchanged)) {
            return Ok(());
        }
        let (to, from) = (self.commit().map(|c| &c.id), Some(&release.commit));
        let new = NewDeployment { sync: self.id, stack: &release.stack, to, from, changes: &[] };
        let end = DeploymentEnd { new, outcome: Outcome::Unchanged, reason: None, messages: Vec::new() };
        self.host.store.record_end(&end, now_ms())
    }

    /// Ends the sync in the store before it got as far as its stacks, or because it could not go on.
    pub fn fail(self, outcome: Outcome, reason: Reason) -> Result<SyncEnd, StoreError> {
        self.host.store.end_sync(self.id, outcome, Some(&reason), now_ms())?;
        let ends = self.ends.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(SyncEnd { id: Some(self.id), outcome, reason: Some(reason), ends })
    }

    /// Ends the sync in the store.
    pub fn conclude(self) -> Result<SyncEnd, StoreError> {
        let ends = self.ends.into_inner().unwrap_or_else(PoisonError::into_inner);
        let outcome = Outcome::of(ends.iter().map(|e| e.outcome));
        let noted = self.as_before.into_inner().unwrap_or_else(PoisonError::into_inner);
        let reason = noted.filter(|(noted, _)| *noted == outcome).map(|(_, reason)| reason);
        self.host.store.end_sync(self.id, outcome, reason.as_ref(), now_ms())?;
        Ok(SyncEnd { id: Some(self.id), outcome, reason: None, ends })
    }
}
