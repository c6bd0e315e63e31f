//! The agent's Unix socket: the command line asks the running agent. HTTP with the JSON of the command line.
//!
//! Who may open the socket (mode 0660, root's group) may ask for a sync, read the status, and tell the agent what people
//! may tell it: to go back, to wait, to try again. What is deployed is what the repository or a kept release has; nobody
//! can hand in anything else here. Only root, and the user that the agent runs as, may say which commit is accepted.
//! The kernel says who asks.

mod client;
mod peer;
mod server;

use evenkeel_core::{
    id::ReleaseId,
    outcome::{Activity, Exit, Outcome, SyncRecord},
    people::{Person, Told},
    reason::Reason,
};
use serde::{Deserialize, Serialize};

pub use client::{ClientError, accept_commit, activity, explain, history, releases, snapshots, status, sync, tell};
pub use peer::myself;
pub use server::{Answers, BindError, bind, serve};

/// The answer to a request for a sync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncAnswer {
    /// The shape's version.
    pub schema: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, if it did not get as far as its stacks.
    pub reason: Option<Reason>,
    /// The exit code that says the same.
    pub exit: u8,
    /// The sync as history has it.
    pub sync: Option<SyncRecord>,
}

/// What a person tells the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "tell", rename_all = "snake_case", deny_unknown_fields)]
pub enum Tell {
    /// Put an earlier release back.
    Rollback {
        /// The stack.
        stack: String,
        /// The kept release; the one before what runs if `None`.
        to: Option<ReleaseId>,
        /// Why.
        reason: String,
    },
    /// Bring data back from a snapshot.
    Restore {
        /// The stack.
        stack: String,
        /// The beginning of the snapshot's id; the newest of the stack if `None`.
        snapshot: Option<String>,
        /// Why.
        reason: String,
    },
    /// Try once more what is kept out.
    Retry {
        /// The stack; `None` for all.
        stack: Option<String>,
        /// Why.
        reason: String,
    },
    /// Take what runs as good.
    Accept {
        /// The stack.
        stack: String,
        /// Why.
        reason: String,
    },
    /// Let the plan that waits go ahead.
    Confirm {
        /// Its id.
        plan: String,
        /// Why.
        reason: String,
    },
    /// Leave a stack alone for a while.
    Suspend {
        /// The stack; `None` for all.
        stack: Option<String>,
        /// For how long.
        for_ms: u64,
        /// Why.
        reason: String,
    },
    /// End a suspension.
    Resume {
        /// The stack; `None` for that of all.
        stack: Option<String>,
        /// Why.
        reason: String,
    },
    /// Deploy outside of maintenance windows.
    Override {
        /// Why.
        reason: String,
    },
}

impl Tell {
    /// Why, in the person's words.
    pub fn reason(&self) -> &str {
        match self {
            Self::Rollback { reason, .. }
            | Self::Restore { reason, .. }
            | Self::Retry { reason, .. }
            | Self::Accept { reason, .. }
            | Self::Confirm { reason, .. }
            | Self::Suspend { reason, .. }
            | Self::Resume { reason, .. }
            | Self::Override { reason } => reason,
        }
    }
}

/// What came of what a person told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TellAnswer {
    /// The shape's version.
    pub schema: u32,
    /// What was told.
    pub told: Told,
    /// The stack; `None` for all.
    pub stack: Option<String>,
    /// Who told it.
    pub by: Person,
    /// What it means, for people.
    pub said: String,
    /// When it ends by itself, if it is a suspension.
    pub until: Option<String>,
    /// How the sync ended that it began, if it began one.
    pub sync: Option<SyncAnswer>,
}

/// The agent does not do what it was told, and why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The exit code of the verb.
    pub exit: u8,
    /// Stable code, `area.name`.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// The next thing to do.
    pub help: String,
}

impl Refusal {
    /// A refusal with this exit code.
    pub fn new(exit: Exit, code: &str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { exit: exit.into(), code: code.to_owned(), message: message.into(), help: help.into() }
    }
}

/// The answer to the question what the agent is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActivityAnswer {
    /// The shape's version.
    pub schema: u32,
    /// `None` while it waits for something to do.
    pub activity: Option<Activity>,
}

#[cfg(test)]
mod tests;
