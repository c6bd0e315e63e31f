//! The states of a deployment.

use serde::{Deserialize, Serialize};

use crate::outcome::Outcome;

/// Where a deployment is. The names are also those of logs, history and the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Images are being brought.
    Staging,
    /// Both sets of images are here.
    Staged,
    /// A backup runs.
    BackingUp,
    /// What held still for the backup is made to run again.
    Waking,
    /// A backup was taken, or none is configured.
    BackedUp,
    /// Files and containers are being changed.
    Applying,
    /// The candidate is on trial.
    Gating,
    /// The candidate passed; its containers that were started beside the old ones answer with them.
    Switching,
    /// The candidate passed, and waits until all that move together with it have.
    Passed,
    /// The new containers go on alone: the old ones are being removed. There is no way back from here.
    Retiring,
    /// The candidate is the release.
    Committed,
    /// The former release is being put back.
    RollingBack,
    /// The former release is on trial.
    GatingRollback,
    /// The former release runs.
    RolledBack,
    /// Ended before the server was touched; or the release that runs anyway could not be put back whole.
    Aborted,
    /// A person must act.
    Halted,
}

impl State {
    /// Every state.
    pub const ALL: &[State] = &[
        Self::Staging,
        Self::Staged,
        Self::BackingUp,
        Self::Waking,
        Self::BackedUp,
        Self::Applying,
        Self::Gating,
        Self::Switching,
        Self::Passed,
        Self::Retiring,
        Self::Committed,
        Self::RollingBack,
        Self::GatingRollback,
        Self::RolledBack,
        Self::Aborted,
        Self::Halted,
    ];

    /// The outcome, if this is an end.
    pub fn outcome(self) -> Option<Outcome> {
        match self {
            Self::Committed => Some(Outcome::Committed),
            Self::RolledBack => Some(Outcome::RolledBack),
            Self::Aborted => Some(Outcome::Aborted),
            Self::Halted => Some(Outcome::Halted),
            Self::Staging
            | Self::Staged
            | Self::BackingUp
            | Self::Waking
            | Self::BackedUp
            | Self::Applying
            | Self::Gating
            | Self::Switching
            | Self::Passed
            | Self::Retiring
            | Self::RollingBack
            | Self::GatingRollback => None,
        }
    }

    /// Whether the server may have been changed already, and the deployment has not ended.
    pub fn is_touched(self) -> bool {
        matches!(
            self,
            Self::Waking
                | Self::Applying
                | Self::Gating
                | Self::Switching
                | Self::Passed
                | Self::Retiring
                | Self::RollingBack
                | Self::GatingRollback
        )
    }
}
