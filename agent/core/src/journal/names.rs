//! Events by name, and what they tell people.

use super::{Event, SnapshotDecision};

macro_rules! event_names {
    ($($variant:ident = $name:literal,)+) => {
        impl Event {
            /// The name of every event.
            pub const NAMES: &[&str] = &[$($name),+];

            /// The event's name, as the journal has it.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$variant { .. } => $name,)+ }
            }
        }
    };
}

event_names! {
    Intended = "intended",
    Staged = "staged",
    BackupStarted = "backup_started",
    BackedUp = "backed_up",
    ApplyStarted = "apply_started",
    Applied = "applied",
    GatePassed = "gate_passed",
    Failed = "failed",
    RollbackStarted = "rollback_started",
    RollbackApplied = "rollback_applied",
    RollbackPassed = "rollback_passed",
    Interrupted = "interrupted",
}

impl Event {
    /// What the event tells besides its name, for people.
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::Failed { reason } => Some(reason.to_string()),
            Self::BackedUp { snapshot } => Some(match snapshot {
                SnapshotDecision::Taken(id) => format!("snapshot {id}"),
                SnapshotDecision::NothingToSave => "nothing to save: no volume with data".to_owned(),
                SnapshotDecision::NotConfigured => "no backup is configured".to_owned(),
                SnapshotDecision::SameRelease => "none needed: the same release is put back".to_owned(),
                SnapshotDecision::Failed(why) => format!("failed, and is not required: {why}"),
            }),
            _ => None,
        }
    }
}
