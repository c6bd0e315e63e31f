//! What is told. The outbox keeps it as JSON; each sink makes of it what its receiver understands.

use evenkeel_core::{
    id::CommitId,
    outcome::{About, Outcome, Signer},
    plan::ServiceChange,
    reason::{Code, Reason},
};
use evenkeel_layout::name::{ServerName, StackName};
use serde::{Deserialize, Serialize};

use crate::config::settings::Event;

/// One thing that happened on one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The delivery's id: the same on each retry, printable ASCII.
    pub id: String,
    /// What kind of thing.
    pub event: Event,
    /// Where.
    pub server: ServerName,
    /// The stack, unless it concerns the whole commit.
    pub stack: Option<StackName>,
    /// The commit that was to be deployed, or was refused.
    pub commit: Option<Commit>,
    /// The commit of the release that ran before.
    pub from: Option<CommitId>,
    /// The commit of the release that runs now; `None` after a removal.
    pub to: Option<CommitId>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, unless all went well.
    pub reason: Option<Why>,
    /// What happened to the stack's services.
    pub services: Vec<ServiceChange>,
    /// How long it took, in milliseconds.
    pub duration_ms: Option<u64>,
    /// The backup that was taken before; `None` if none was.
    pub snapshot: Option<String>,
    /// Where to read more.
    pub url: Option<String>,
    /// When it happened, in seconds since 1970.
    pub at: i64,
}

/// A commit as people know it. Subject and author are whatever its author wrote: data, never markup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Its id.
    pub id: CommitId,
    /// The first line of its message.
    pub subject: String,
    /// Its author.
    pub author: String,
    /// Who signed it, if the signature was good.
    pub signer: Option<Signer>,
}

impl Commit {
    /// What people want to know of it, to be kept.
    pub fn about(&self) -> About {
        About { subject: self.subject.clone(), author: self.author.clone(), signer: self.signer.clone() }
    }
}

/// Why something did not go through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// The stable code.
    pub code: Code,
    /// For a person.
    pub message: String,
}

impl From<&Reason> for Why {
    fn from(reason: &Reason) -> Self {
        Self { code: reason.code, message: reason.message.clone() }
    }
}
