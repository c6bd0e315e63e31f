//! What is said at the end: outcomes and exit codes.

use serde::{Deserialize, Serialize};

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
