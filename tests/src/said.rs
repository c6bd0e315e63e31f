//! What `evenkeel history` and `evenkeel status` say. An outcome, a code or a class that is not of the closed lists fails
//! the test that reads it.

use evenkeel_core::{
    outcome::Outcome,
    reason::{Class, Code},
};
use serde::Deserialize;

/// `evenkeel history --format json`.
#[derive(Debug, Clone, Deserialize)]
pub struct History {
    /// The syncs, sorted.
    pub syncs: Vec<Sync>,
}

/// One commit on this server.
#[derive(Debug, Clone, Deserialize)]
pub struct Sync {
    /// Its number.
    pub id: i64,
    /// The commit, unless none was known.
    pub commit: Option<String>,
    /// What began it.
    pub trigger: String,
    /// When it began.
    pub started: serde_json::Value,
    /// When it ended; nothing while it runs.
    pub ended: Option<serde_json::Value>,
    /// How it ended; nothing while it runs.
    pub outcome: Option<Outcome>,
    /// What happened to each stack that changed.
    pub deployments: Vec<Deployment>,
}

/// One stack in a sync.
#[derive(Debug, Clone, Deserialize)]
pub struct Deployment {
    /// The stack.
    pub stack: String,
    /// The commit that it ran.
    pub from: Option<String>,
    /// The commit that it should run.
    pub to: Option<String>,
    /// How it ended; nothing while it runs.
    pub outcome: Option<Outcome>,
    /// Why it ended so.
    pub reason: Option<Reason>,
}

/// Why.
#[derive(Debug, Clone, Deserialize)]
pub struct Reason {
    /// Of the closed list.
    pub code: Code,
    /// Who must act.
    pub class: Class,
    /// For a person.
    pub message: String,
}

impl History {
    /// The syncs, oldest first, whatever the order in which they are told.
    pub fn oldest_first(&self) -> Vec<&Sync> {
        let mut syncs: Vec<&Sync> = self.syncs.iter().collect();
        syncs.sort_by_key(|s| s.id);
        syncs
    }

    /// The newest sync that has ended.
    pub fn last(&self) -> Option<&Sync> {
        self.oldest_first().into_iter().rev().find(|s| s.outcome.is_some())
    }

    /// The newest sync of a commit.
    pub fn of(&self, commit: &str) -> Option<&Sync> {
        self.oldest_first().into_iter().rev().find(|s| s.commit.as_deref() == Some(commit))
    }

    /// Every deployment of a stack, oldest first.
    pub fn deployments(&self, stack: &str) -> Vec<&Deployment> {
        self.oldest_first().into_iter().flat_map(|s| &s.deployments).filter(|d| d.stack == stack).collect()
    }
}

impl Sync {
    /// The deployment of a stack.
    #[track_caller]
    pub fn deployment(&self, stack: &str) -> &Deployment {
        self.deployments
            .iter()
            .find(|d| d.stack == stack)
            .unwrap_or_else(|| panic!("sync {} has no deployment of {stack}: {self:#?}", self.id))
    }
}

impl Deployment {
    /// Fails the test unless it ended so.
    #[track_caller]
    pub fn ended(&self, outcome: Outcome) -> &Self {
        assert!(self.outcome == Some(outcome), "expected {}: {self:#?}", outcome.as_str());
        self
    }

    /// Fails the test unless it ended for this reason; returns the message.
    #[track_caller]
    pub fn because(&self, code: Code) -> &str {
        match &self.reason {
            Some(reason) if reason.code == code => &reason.message,
            _ => panic!("expected the reason {}: {self:#?}", code.as_str()),
        }
    }
}

/// `evenkeel status --format json`.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    /// The repository.
    pub source: Source,
    /// The stacks, sorted by name.
    pub stacks: Vec<StackStatus>,
    /// The agent.
    pub agent: AgentStatus,
}

/// Where the repository stands.
#[derive(Debug, Clone, Deserialize)]
pub struct Source {
    /// The tracked ref.
    #[serde(rename = "ref")]
    pub reference: String,
    /// What the ref points at.
    pub tip: Option<String>,
    /// The newest commit that trust accepted.
    pub accepted: Option<String>,
    /// A commit that trust refused, if the tip is refused.
    pub refused: Option<serde_json::Value>,
    /// Whether it has not answered for too long.
    pub stale: bool,
}

/// One stack.
#[derive(Debug, Clone, Deserialize)]
pub struct StackStatus {
    /// Its name.
    pub name: String,
    /// In one word.
    pub state: String,
    /// The commit that it runs.
    pub commit: Option<String>,
    /// The digest of what it runs.
    pub digest: Option<String>,
    /// Its health in one word.
    pub health: Option<String>,
    /// Since when.
    pub since: Option<serde_json::Value>,
    /// Its last deployment.
    pub last: Option<serde_json::Value>,
}

/// The agent.
#[derive(Debug, Clone, Deserialize)]
pub struct AgentStatus {
    /// Whether it answered.
    pub running: bool,
    /// Its version.
    pub version: Option<String>,
    /// Its process.
    pub pid: Option<u32>,
}

impl Status {
    /// The stack of this name.
    #[track_caller]
    pub fn stack(&self, name: &str) -> &StackStatus {
        let found = self.stacks.iter().find(|s| s.name == name);
        found.unwrap_or_else(|| panic!("status knows no stack {name}: {:?}", self.stacks))
    }
}
