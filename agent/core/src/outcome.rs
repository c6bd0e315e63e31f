//! What is said at the end: outcomes and exit codes.

use serde::{Deserialize, Serialize};

use crate::{
    change::{DriftKind, ServiceChange},
    id::{DeploymentId, SyncId},
    people::{Guarded, Hold, Intervention, Stated, Suspended, WindowState},
    reason::{Class, Code, Reason},
};

/// How a sync or a deployment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// There was nothing to do.
    Unchanged,
    /// The candidate is the release now.
    Committed,
    /// The candidate failed and the last good release runs again.
    RolledBack,
    /// It failed before the server was touched.
    Aborted,
    /// It waits for a stack that it depends on, or for a person's confirm.
    Held,
    /// The stack cannot be deployed as the commit has it.
    Rejected,
    /// The same bytes failed before and are kept out.
    Quarantined,
    /// Trust refused the commit.
    Refused,
    /// A person must act.
    Halted,
}

impl Outcome {
    /// The stable text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Committed => "committed",
            Self::RolledBack => "rolled_back",
            Self::Aborted => "aborted",
            Self::Held => "held",
            Self::Rejected => "rejected",
            Self::Quarantined => "quarantined",
            Self::Refused => "refused",
            Self::Halted => "halted",
        }
    }
}

/// Exit codes of the command line. Part of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// Fine.
    Fine = 0,
    /// Failed.
    Failed = 1,
    /// Wrong usage or configuration.
    Usage = 2,
    /// `plan --exit-code` found changes.
    Changes = 3,
    /// Refused by trust.
    Refused = 4,
    /// Rolled back, or quarantined at the tip.
    RolledBack = 5,
    /// Halted: a person must act.
    Halted = 6,
    /// Transient: worth trying again.
    Transient = 7,
}

impl Exit {
    /// The exit code of a sync whose parts ended like this, each with its reason. Of mixed ends the first that
    /// applies of 2, 6, 4, 1, 5, 7, 0 counts; `held` counts as 1.
    pub fn of<'a>(ends: impl IntoIterator<Item = (Outcome, Option<&'a Reason>)>) -> Self {
        const ORDER: [Exit; 7] =
            [Exit::Usage, Exit::Halted, Exit::Refused, Exit::Failed, Exit::RolledBack, Exit::Transient, Exit::Fine];
        let found: Vec<Self> = ends.into_iter().map(|(outcome, reason)| Self::of_one(outcome, reason)).collect();
        ORDER.into_iter().find(|exit| found.contains(exit)).unwrap_or(Self::Fine)
    }

    fn of_one(outcome: Outcome, reason: Option<&Reason>) -> Self {
        match outcome {
            Outcome::Unchanged | Outcome::Committed => Self::Fine,
            Outcome::RolledBack | Outcome::Quarantined => Self::RolledBack,
            // The keys are the server's configuration, as agent.yml is.
            Outcome::Aborted if reason.is_some_and(|r| r.code == Code::TrustKeys) => Self::Usage,
            Outcome::Aborted if reason.is_some_and(|r| r.class == Class::Transient) => Self::Transient,
            Outcome::Aborted | Outcome::Held | Outcome::Rejected => Self::Failed,
            Outcome::Refused => Self::Refused,
            Outcome::Halted => Self::Halted,
        }
    }
}

impl From<Exit> for u8 {
    fn from(exit: Exit) -> Self {
        exit as Self
    }
}

impl Outcome {
    /// The outcome of a sync whose stacks ended like this; the gravest end names it.
    pub fn of(ends: impl IntoIterator<Item = Self>) -> Self {
        const ORDER: [Outcome; 8] = [
            Outcome::Halted,
            Outcome::Refused,
            Outcome::Rejected,
            Outcome::Aborted,
            Outcome::Held,
            Outcome::RolledBack,
            Outcome::Quarantined,
            Outcome::Committed,
        ];
        let found: Vec<Self> = ends.into_iter().collect();
        ORDER.into_iter().find(|outcome| found.contains(outcome)).unwrap_or(Self::Unchanged)
    }
}

/// The last syncs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The shape's version.
    pub schema: u32,
    /// Newest first.
    pub syncs: Vec<SyncRecord>,
    /// What people told the agent since the oldest of these syncs; newest first.
    #[serde(default)]
    pub interventions: Vec<Intervention>,
}

/// What people want to know of a commit. Subject and author are whatever its author wrote: data, never markup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The first line of its message.
    pub subject: String,
    /// Its author.
    pub author: String,
    /// Who signed it, if the signature was good.
    pub signer: Option<Signer>,
}

/// Whose key signed a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signer {
    /// The key's label in the list of allowed signers.
    pub principal: String,
    /// The key's fingerprint, `SHA256:…`.
    pub fingerprint: String,
}

/// One sync, as a person looks back on it. Times are RFC 3339 in UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncRecord {
    /// Its number.
    pub id: SyncId,
    /// The commit it was about.
    pub commit: Option<String>,
    /// What is known of that commit.
    pub about: Option<About>,
    /// What woke it: `start`, `poll`, `webhook`, `watch`, `due`, `drift`, `manual`; `stale` if nothing did and the repository
    /// is silent; or what a person wanted: `rollback`, `accept`.
    pub trigger: String,
    /// Who asked for it and why, if a person had to say so.
    #[serde(default)]
    pub stated: Option<Stated>,
    /// When it began.
    pub started: String,
    /// When it ended; `None` while it runs.
    pub ended: Option<String>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Why the whole ended so, if not for one stack's sake, or what keeps a stack out as it did before.
    pub reason: Option<Reason>,
    /// One for each stack that had a part in it.
    pub deployments: Vec<DeploymentRecord>,
}

/// One stack's part in a sync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentRecord {
    /// Its number.
    pub id: DeploymentId,
    /// The stack.
    pub stack: String,
    /// The commit of the release that ran before.
    pub from: Option<String>,
    /// The commit that was to run; `None` for a removal.
    pub to: Option<String>,
    /// How it ended; `None` while it runs.
    pub outcome: Option<Outcome>,
    /// Why, if not well.
    pub reason: Option<Reason>,
    /// When it began.
    pub started: String,
    /// When it ended.
    pub ended: Option<String>,
    /// restic's snapshot.
    pub snapshot: Option<String>,
    /// What changed, service by service.
    pub changes: Vec<ServiceChange>,
    /// What the journal says, in order.
    pub steps: Vec<Step>,
}

/// One line of a deployment's journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When.
    pub at: String,
    /// The event's name.
    pub event: String,
    /// What it tells besides, for people: why something failed, what was decided about a backup.
    pub detail: Option<String>,
}

/// How a stack last ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackLast {
    /// How.
    pub outcome: Outcome,
    /// Why, if not well.
    pub reason: Option<Reason>,
    /// The commit.
    pub commit: Option<String>,
    /// When.
    pub at: String,
}

/// What a stack is doing, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StackState {
    /// It runs the release that the accepted commit wants.
    Steady,
    /// A deployment is under way.
    Deploying,
    /// It runs its last good release; the newer candidate failed.
    RolledBack,
    /// It waits for another stack or a person.
    Held,
    /// It cannot be deployed as the commit has it.
    Rejected,
    /// It could not be staged or backed up; it is tried again.
    Aborted,
    /// A person must act.
    Halted,
}

/// One stack in the status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackStatus {
    /// Its name.
    pub name: String,
    /// What it is doing.
    pub state: StackState,
    /// The commit of the release that runs.
    pub commit: Option<String>,
    /// That release's digest.
    pub digest: Option<String>,
    /// `healthy`, `unhealthy`, `starting`, `stopped` or `unknown`, as the engine sees it now.
    pub health: String,
    /// When the release was committed.
    pub since: Option<String>,
    /// How it last ended.
    pub last: Option<StackLast>,
    /// Where the server differs from the release, as it was told.
    #[serde(default)]
    pub drift: Vec<DriftStatus>,
    /// Left alone for a while, if a person said so.
    #[serde(default)]
    pub suspended: Option<Suspended>,
    /// Kept at a release that a person chose.
    #[serde(default)]
    pub hold: Option<Hold>,
    /// When its deployments may begin, if not at any time.
    #[serde(default)]
    pub window: Option<WindowState>,
}

/// One difference between a server and the release that it should run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriftStatus {
    /// What kind of thing.
    pub kind: DriftKind,
    /// The service, the network, or the file's path in the repository.
    pub name: String,
    /// Whether a person did it, as far as can be told. The agent leaves it alone.
    pub by_person: bool,
    /// For people.
    pub what: String,
    /// Since when the stack drifts.
    pub since: String,
}

/// The source in the status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// The repository.
    pub url: String,
    /// The tracked ref.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The tip as last seen.
    pub tip: Option<String>,
    /// The last commit that trust accepted.
    pub accepted: Option<String>,
    /// What is known of the accepted commit.
    pub about: Option<About>,
    /// Why the tip may not run.
    pub refused: Option<RefusedStatus>,
    /// When the repository last answered.
    pub contact: Option<String>,
    /// Whether that is longer ago than `trust.stale_after`.
    #[serde(default)]
    pub stale: bool,
}

/// A refusal in the status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedStatus {
    /// The commit that broke the rule.
    pub commit: String,
    /// The rule's code.
    pub code: String,
    /// What happened and what to do.
    pub message: String,
}

/// The agent in the status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// Whether it runs.
    pub running: bool,
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: Option<u32>,
}

/// The engine in the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineStatus {
    /// Whether it answers.
    pub reachable: bool,
}

/// The outbox in the status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxStatus {
    /// Messages that wait.
    pub pending: i64,
    /// Messages that were given up.
    pub undelivered: i64,
    /// What the last failed try said.
    pub last_error: Option<String>,
}

/// Backups in the status. Times are RFC 3339 in UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupStatus {
    /// When a deployment last took a snapshot.
    pub last_snapshot: Option<String>,
    /// When the rule of `backup.keep` was last applied.
    pub forgotten: Option<BackupTask>,
    /// When the repository was last checked.
    pub checked: Option<BackupTask>,
}

/// How something that is done for the backup repository last ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupTask {
    /// When.
    pub at: String,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// What the agent is doing: one sync, with the stacks that it works on now. Times are RFC 3339 in UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    /// The commit it is about; `None` until the repository was asked.
    pub commit: Option<String>,
    /// When the sync began.
    pub since: String,
    /// The phase of the whole: `fetch`, `trust`, `render`, `observe`; `None` once the stacks are worked on.
    pub phase: Option<String>,
    /// The stacks that are worked on, in the order in which they were begun.
    pub stacks: Vec<StackActivity>,
}

/// What is done for one stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackActivity {
    /// The stack.
    pub stack: String,
    /// `stage`, `backup`, `apply`, `gate` or `rollback`.
    pub phase: String,
    /// When the phase began.
    pub since: String,
    /// What exactly, for people: which images are pulled, what the gate waits for.
    pub detail: Option<String>,
}

/// The whole status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The shape's version.
    pub schema: u32,
    /// This server.
    pub server: String,
    /// Where it pulls from.
    pub source: SourceStatus,
    /// Sorted by name.
    pub stacks: Vec<StackStatus>,
    /// All stacks are left alone for a while, if a person said so.
    #[serde(default)]
    pub suspended: Option<Suspended>,
    /// A plan that removes more stacks than may go at once, and waits for a person.
    #[serde(default)]
    pub guarded: Option<Guarded>,
    /// The agent itself.
    pub agent: AgentStatus,
    /// The engine.
    pub engine: EngineStatus,
    /// What the agent is doing; absent while it waits for something to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activity: Option<Activity>,
    /// What is still to be told.
    pub outbox: OutboxStatus,
    /// Backups; absent if none are configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupStatus>,
    /// What is wrong with the configuration or the whole, for people.
    pub notices: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_mixed_ends_the_gravest_names_the_exit_code() {
        let transient = Reason::new(Code::ImagePull, "x");
        let keys = Reason::new(Code::TrustKeys, "x");
        let stalled = Reason::new(Code::ImageMissing, "x");
        let cases = [
            (vec![], Exit::Fine),
            (vec![(Outcome::Committed, None), (Outcome::Unchanged, None)], Exit::Fine),
            (vec![(Outcome::Committed, None), (Outcome::Aborted, Some(&transient))], Exit::Transient),
            (vec![(Outcome::RolledBack, None), (Outcome::Aborted, Some(&transient))], Exit::RolledBack),
            (vec![(Outcome::Quarantined, None), (Outcome::Held, None)], Exit::Failed),
            (vec![(Outcome::RolledBack, None), (Outcome::Aborted, Some(&stalled))], Exit::Failed),
            (vec![(Outcome::Rejected, None), (Outcome::Refused, None)], Exit::Refused),
            (vec![(Outcome::Halted, None), (Outcome::Refused, None)], Exit::Halted),
            (vec![(Outcome::Halted, None), (Outcome::Aborted, Some(&keys))], Exit::Usage),
        ];
        for (ends, exit) in cases {
            assert_eq!(Exit::of(ends.clone()), exit, "{ends:?}");
        }
    }

    #[test]
    fn outcomes_keep_their_text_in_json() {
        for outcome in [Outcome::RolledBack, Outcome::Unchanged, Outcome::Halted, Outcome::Quarantined] {
            assert_eq!(serde_json::to_string(&outcome).unwrap(), format!("\"{}\"", outcome.as_str()));
        }
    }
}
