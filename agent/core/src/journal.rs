//! A deployment's life: events, the one transition function, and what a restart makes of what it finds.
//!
//! The same [`Progress::next`] is used while living and when a journal is read back, so a state that cannot be
//! reached by events cannot be reached at all. [`Progress::todo`] says what comes next; the spine does it and
//! journals what came of it.

mod event;
mod permit;
mod restore;
mod state;

use std::collections::BTreeSet;

use crate::{
    id::{Digest, ReleaseId},
    reason::{Code, Reason},
};

pub use event::{Event, Group, Purpose, Quiet, Seen, SnapshotDecision};
pub use permit::ApplyPermit;
pub use restore::{Restore, Swap};
pub use state::State;

/// How often an apply is begun before the agent gives a candidate up.
pub const APPLY_TRIES: u32 = 2;
/// How often a rollback is begun before the stack is halted.
pub const ROLLBACK_TRIES: u32 = 3;
/// How often a gate may be interrupted before it counts as failed. The same goes for the time when old and new answer, and for
/// the removal of the old ones, which is then left to the next deployment.
pub const GATE_TRIES: u32 = 5;

/// An event that cannot happen in a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the event {event} cannot happen in the state {state:?}")]
pub struct Illegal {
    state: Option<State>,
    event: &'static str,
}

/// A deployment as its journal tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    state: State,
    digest: Option<Digest>,
    from: Option<ReleaseId>,
    purpose: Purpose,
    group: Option<Group>,
    to: Option<ReleaseId>,
    quiet: Vec<Quiet>,
    calmed: bool,
    snapshot: Option<SnapshotDecision>,
    before: Vec<String>,
    ailing: Vec<String>,
    beside: Vec<String>,
    stood: Vec<String>,
    apply_tries: u32,
    rollback_tries: u32,
    gate_interruptions: u32,
    needs_try: bool,
    failure: Option<Reason>,
}

/// What comes next. Each admits exactly the effects that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Todo {
    /// Bring the images.
    Stage,
    /// Journal `BackupStarted`.
    BeginBackup,
    /// Back up, or decide that there is nothing to do.
    BackUp,
    /// Let run again what held still for the backup.
    Wake,
    /// Journal `ApplyStarted`.
    BeginApply,
    /// Write files, point tags, run Compose.
    Apply(ApplyPermit),
    /// Watch health.
    Gate,
    /// Let the containers answer that were started beside the old ones, and watch their health.
    Switch(ApplyPermit),
    /// Wait until all that move together have passed, or go back with them.
    AwaitGroup,
    /// Remove the old ones.
    Retire(ApplyPermit),
    /// Journal `RollbackStarted`.
    BeginRollback,
    /// The same apply, with the former release.
    RollBack(ApplyPermit),
    /// Watch the former release's health.
    GateRollback,
}

impl Progress {
    /// Begins with the first event, which must be `Intended`.
    pub fn begin(event: &Event) -> Result<Self, Illegal> {
        match event {
            Event::Intended { digest, from, purpose, group } => Ok(Self {
                state: State::Staging,
                digest: digest.clone(),
                from: *from,
                purpose: purpose.clone(),
                group: group.clone(),
                to: None,
                quiet: Vec::new(),
                calmed: false,
                snapshot: None,
                before: Vec::new(),
                ailing: Vec::new(),
                beside: Vec::new(),
                stood: Vec::new(),
                apply_tries: 0,
                rollback_tries: 0,
                gate_interruptions: 0,
                needs_try: false,
                failure: None,
            }),
            other => Err(Illegal { state: None, event: other.name() }),
        }
    }

    /// Reads a journal back.
    pub fn replay<'a>(events: impl IntoIterator<Item = &'a Event>) -> Result<Self, Illegal> {
        let mut events = events.into_iter();
        let first = events.next().ok_or(Illegal { state: None, event: "none" })?;
        events.try_fold(Self::begin(first)?, Self::next)
    }

    /// The one transition function.
    pub fn next(mut self, event: &Event) -> Result<Self, Illegal> {
        use State as S;
        self.state = match (self.state, event) {
            (S::Staging, Event::Staged { to }) => {
                self.to = *to;
                S::Staged
            }
            (S::Staged, Event::BackupStarted { quiet }) => {
                self.quiet.clone_from(quiet);
                S::BackingUp
            }
            (S::BackingUp, Event::Calming { ailing }) if !self.quiet.is_empty() && !self.calmed => self.calm(ailing),
            (S::BackingUp, Event::BackedUp { snapshot, .. }) => {
                self.snapshot = Some(snapshot.clone());
                self.after_backup()
            }
            (S::Waking, Event::Woken) => self.after_waking(),
            (S::Waking, Event::Failed { reason }) => self.left_quiet(reason),
            (S::BackedUp | S::Applying, Event::ApplyStarted { before, ailing, beside })
                if self.apply_tries < APPLY_TRIES =>
            {
                if self.apply_tries == 0 {
                    self.ailing = self.ailed(ailing);
                    self.beside.clone_from(beside);
                    self.stood.clone_from(before);
                }
                self.apply_tries = self.spend(self.apply_tries, before);
                S::Applying
            }
            (S::Applying, Event::Applied) if !self.must_spend() => S::Gating,
            (S::Gating, Event::GatePassed { .. }) if !self.beside.is_empty() => {
                self.gate_interruptions = 0;
                S::Switching
            }
            (S::Gating, Event::GatePassed { .. }) | (S::Switching, Event::Switched) => self.after_trial(),
            (S::Passed, Event::GroupPassed { .. }) => {
                self.gate_interruptions = 0;
                self.after_group()
            }
            (S::Retiring, Event::Retired { .. }) => S::Committed,
            (S::Staging | S::Staged | S::BackingUp | S::BackedUp, Event::Failed { reason }) => {
                self.abort(reason.clone())
            }
            (S::Applying | S::Gating | S::Switching | S::Passed, Event::Failed { reason }) => {
                self.turn_back(reason.clone())
            }
            (S::RollingBack, Event::RollbackStarted { before }) if self.rollback_tries < ROLLBACK_TRIES => {
                self.rollback_tries = self.spend(self.rollback_tries, before);
                S::RollingBack
            }
            (S::RollingBack, Event::RollbackApplied) if !self.must_spend() => S::GatingRollback,
            (S::GatingRollback, Event::RollbackPassed) => S::RolledBack,
            (S::RollingBack | S::GatingRollback, Event::Failed { reason }) => {
                self.give_up(reason);
                S::Halted
            }
            (state, Event::Interrupted) if state.outcome().is_none() => self.interrupt(),
            (state, Event::LeftAlone { reason }) if state.outcome().is_none() => self.leave_alone(reason),
            (state, other) => return Err(Illegal { state: Some(state), event: other.name() }),
        };
        Ok(self)
    }

    fn calm(&mut self, ailing: &[String]) -> State {
        self.calmed = true;
        ailing.clone_into(&mut self.ailing);
        State::BackingUp
    }

    /// Of what is not well now, what was not well before anything held still.
    fn ailed(&self, now: &[String]) -> Vec<String> {
        now.iter().filter(|id| !self.calmed || self.ailing.contains(id)).cloned().collect()
    }

    /// Whatever became of the backup: what held still for it runs again before anything else.
    fn after_backup(&mut self) -> State {
        if !self.calmed {
            self.quiet.clear();
        }
        match (self.quiet.is_empty(), &self.failure) {
            (false, _) => State::Waking,
            (true, None) => State::BackedUp,
            (true, Some(_)) => State::Aborted,
        }
    }

    fn after_waking(&mut self) -> State {
        self.quiet.clear();
        self.after_backup()
    }

    /// Ends what never touched the server, but for what held still.
    fn abort(&mut self, reason: Reason) -> State {
        self.failure = Some(reason);
        if self.state == State::BackingUp { self.after_backup() } else { State::Aborted }
    }

    /// Ends it where what held still cannot be made to run: a person has to know that, and what went wrong before.
    fn left_quiet(&mut self, reason: &Reason) -> State {
        let message = match &self.failure {
            Some(first) => format!("{}; and before that: {}", reason.message, first.message),
            None => reason.message.clone(),
        };
        self.failure = Some(Reason { message, ..reason.clone() });
        State::Aborted
    }

    /// Spends one more try than `spent`. The containers of the first one are what counts: a second must not spare what the
    /// first one made.
    fn spend(&mut self, spent: u32, before: &[String]) -> u32 {
        if spent == 0 {
            before.clone_into(&mut self.before);
        }
        self.needs_try = false;
        spent + 1
    }

    /// Where a candidate goes that is well: on its own, or when all that move together with it are.
    fn after_trial(&mut self) -> State {
        if self.group.is_some() {
            return State::Passed;
        }
        self.gate_interruptions = 0;
        self.after_group()
    }

    /// Where a candidate is watched that has passed before.
    fn on_trial(&self) -> State {
        if self.beside.is_empty() { State::Gating } else { State::Switching }
    }

    fn after_group(&self) -> State {
        if self.beside.is_empty() { State::Committed } else { State::Retiring }
    }

    /// Begins the way back. What puts the release back that runs anyway has none: it is tried again later.
    fn turn_back(&mut self, reason: Reason) -> State {
        self.failure = Some(reason);
        if !self.heal().is_empty() {
            return State::Aborted;
        }
        self.before.clear();
        self.needs_try = false;
        self.gate_interruptions = 0;
        State::RollingBack
    }

    /// Ends a rollback that failed. What made it necessary is told as well: a person has to know both.
    fn give_up(&mut self, reason: &Reason) {
        let first = self.failure.as_ref().map_or("it is not known why", |failure| &failure.message);
        let message = format!(
            "the last good release could not be put back: {}; {}. It was to be put back because: {first}",
            reason.message,
            self.what_to_do()
        );
        self.failure = Some(Reason::new(Code::RollbackFailed, message));
    }

    /// Ends what nobody may go on with, wherever it was.
    fn leave_alone(&mut self, reason: &Reason) -> State {
        let held: BTreeSet<&str> = self.quiet.iter().map(|quiet| quiet.service.as_str()).collect();
        let held: Vec<&str> = held.into_iter().filter(|_| self.calmed).collect();
        let mut message = reason.message.clone();
        if !held.is_empty() {
            message = format!("{message}; {} held still for a backup and may not run", held.join(", "));
        }
        let is_touched = self.state.is_touched();
        if is_touched {
            let to_do = self.what_to_do();
            message =
                format!("{message}. It was being changed when the agent ended, and stays as it was left: {to_do}");
        }
        self.failure = Some(Reason { message, ..reason.clone() });
        if is_touched { State::Halted } else { State::Aborted }
    }

    /// What a person does when the way back failed.
    fn what_to_do(&self) -> String {
        match self.restore() {
            None => "look at the stack with `docker compose ps`".to_owned(),
            Some(restore) => format!("nothing is lost; this puts back what was there before: `{}`", restore.by_hand()),
        }
    }

    /// Whether a try has to be written before anything is touched.
    fn must_spend(&self) -> bool {
        self.needs_try || (self.state == State::RollingBack && self.rollback_tries == 0)
    }

    fn interrupt(&mut self) -> State {
        let to_do = self.what_to_do();
        let stopped = |times: u32, what: &str| {
            Reason::new(Code::Interrupted, format!("the agent was stopped {times} times while it {what}"))
        };
        match self.state {
            State::Waking if self.failure.is_some() => State::Waking,
            State::Staging | State::Staged | State::BackingUp | State::Waking | State::BackedUp => {
                let next = match &self.purpose {
                    Purpose::Deploy | Purpose::Heal(_) => "the next sync deploys it again",
                    Purpose::Again(_) => "say `evenkeel rollback` again",
                    Purpose::Restore(_) => "say `evenkeel restore` again",
                };
                let message = format!("the agent was stopped before this stack was touched; {next}");
                let waking = self.state == State::Waking;
                let ended = self.abort(Reason::new(Code::Interrupted, message));
                if waking { State::Waking } else { ended }
            }
            State::Applying if self.apply_tries >= APPLY_TRIES => {
                self.turn_back(stopped(APPLY_TRIES, "applied this candidate; the last good release is put back"))
            }
            State::RollingBack if self.rollback_tries >= ROLLBACK_TRIES => {
                let what = format!("put the last good release back; {to_do}");
                self.failure = Some(Reason { code: Code::RollbackFailed, ..stopped(ROLLBACK_TRIES, &what) });
                State::Halted
            }
            State::Gating | State::Switching | State::Passed | State::Retiring | State::GatingRollback => {
                self.gate_interruptions += 1;
                match self.state {
                    // Nobody has watched it since.
                    State::Passed if self.gate_interruptions < GATE_TRIES => self.on_trial(),
                    state if self.gate_interruptions < GATE_TRIES => state,
                    State::Gating | State::Switching | State::Passed => {
                        self.turn_back(stopped(GATE_TRIES, "watched this candidate's health"))
                    }
                    State::Retiring => State::Committed,
                    _ => {
                        let what = format!("watched the last good release's health; {to_do}");
                        self.failure = Some(Reason { code: Code::RollbackFailed, ..stopped(GATE_TRIES, &what) });
                        State::Halted
                    }
                }
            }
            state => {
                self.needs_try = state == State::Applying || self.rollback_tries > 0;
                state
            }
        }
    }

    /// What comes next, or `None` at an end.
    pub fn todo(&self) -> Option<Todo> {
        let permit = |tries: u32, back: bool| ApplyPermit {
            before: self.before.clone(),
            ailing: self.ailing.clone(),
            beside: self.beside.clone(),
            stood: self.stood.clone(),
            purpose: self.purpose.clone(),
            again: tries > 1,
            back,
        };
        match self.state {
            State::Staging => Some(Todo::Stage),
            State::Staged => Some(Todo::BeginBackup),
            State::BackingUp => Some(Todo::BackUp),
            State::Waking => Some(Todo::Wake),
            State::BackedUp => Some(Todo::BeginApply),
            State::Applying if self.must_spend() => Some(Todo::BeginApply),
            State::Applying => Some(Todo::Apply(permit(self.apply_tries, false))),
            State::Gating => Some(Todo::Gate),
            State::Passed => Some(Todo::AwaitGroup),
            State::Switching => Some(Todo::Switch(permit(self.apply_tries, false))),
            State::Retiring => Some(Todo::Retire(permit(self.apply_tries, false))),
            State::RollingBack if self.must_spend() => Some(Todo::BeginRollback),
            State::RollingBack => Some(Todo::RollBack(permit(self.rollback_tries, true))),
            State::GatingRollback => Some(Todo::GateRollback),
            State::Committed | State::RolledBack | State::Aborted | State::Halted => None,
        }
    }

    /// Where it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// The candidate's digest; `None` for a removal.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The release that ran when it began.
    pub fn from(&self) -> Option<ReleaseId> {
        self.from
    }

    /// Services that are to be put back, if the deployment is for that alone.
    pub fn heal(&self) -> &[String] {
        self.purpose.heal()
    }

    /// The kept release that a person wants back, if this deployment is for that.
    pub fn again(&self) -> Option<ReleaseId> {
        match self.purpose {
            Purpose::Again(release) => Some(release),
            Purpose::Deploy | Purpose::Heal(_) | Purpose::Restore(_) => None,
        }
    }

    /// The data that a person wants back, if this deployment is for that.
    pub fn restore(&self) -> Option<&Restore> {
        self.purpose.restore()
    }

    /// The stacks that change together with it, if any do.
    pub fn group(&self) -> Option<&Group> {
        self.group.as_ref()
    }

    /// The stored candidate.
    pub fn to(&self) -> Option<ReleaseId> {
        self.to
    }

    /// The containers that hold still for the backup, until they run again.
    pub fn quiet(&self) -> &[Quiet] {
        &self.quiet
    }

    /// Whether they were made to hold still, or may have been.
    pub fn has_calmed(&self) -> bool {
        self.calmed
    }

    /// What was decided about a backup.
    pub fn snapshot(&self) -> Option<&SnapshotDecision> {
        self.snapshot.as_ref()
    }

    /// The containers that stood before the apply or rollback that is under way.
    pub fn before(&self) -> &[String] {
        &self.before
    }

    /// The containers that were not well before anything was touched.
    pub fn ailing(&self) -> &[String] {
        &self.ailing
    }

    /// Services whose new containers are started beside those that stand.
    pub fn beside(&self) -> &[String] {
        &self.beside
    }

    /// The containers that stood before the apply, on the way back too.
    pub fn stood(&self) -> &[String] {
        &self.stood
    }

    /// Why it failed, if it did.
    pub fn failure(&self) -> Option<&Reason> {
        self.failure.as_ref()
    }
}

#[cfg(test)]
mod tests;
