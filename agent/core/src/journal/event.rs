//! What a journal is made of: the events, and what they tell.

use std::{collections::BTreeSet, fmt};

use evenkeel_layout::name::{GroupName, StackName};
use serde::{Deserialize, Serialize};

use super::Restore;
use crate::{
    id::{Digest, ReleaseId},
    reason::Reason,
};

/// What a deployment is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum Purpose {
    /// To run a candidate of the repository, or to remove the stack.
    #[default]
    Deploy,
    /// To put back these services of the release that runs.
    Heal(Vec<String>),
    /// To put back a kept release that a person wants; nothing is brought for it, all of it is here.
    Again(ReleaseId),
    /// To run the release on with data that a person wants back.
    Restore(Restore),
}

impl Purpose {
    /// The services that are put back, if it is for that.
    pub(super) fn heal(&self) -> &[String] {
        match self {
            Self::Heal(services) => services,
            Self::Deploy | Self::Again(_) | Self::Restore(_) => &[],
        }
    }

    /// The data that is wanted back, if it is for that.
    pub(super) fn restore(&self) -> Option<&Restore> {
        match self {
            Self::Restore(restore) => Some(restore),
            Self::Deploy | Self::Heal(_) | Self::Again(_) => None,
        }
    }
}

/// A purpose as journals have it: at most one of them is there.
#[derive(Default, Serialize, Deserialize)]
struct Written {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    heal: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    again: Option<ReleaseId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    restore: Option<Restore>,
}

impl TryFrom<Written> for Purpose {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let Written { heal, again, restore } = written;
        match ((!heal.is_empty()).then_some(heal), again, restore) {
            (None, None, None) => Ok(Self::Deploy),
            (Some(services), None, None) => Ok(Self::Heal(services)),
            (None, Some(release), None) => Ok(Self::Again(release)),
            (None, None, Some(restore)) => Ok(Self::Restore(restore)),
            _ => Err("a deployment is for one thing"),
        }
    }
}

impl From<Purpose> for Written {
    fn from(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Deploy => Self::default(),
            Purpose::Heal(heal) => Self { heal, ..Self::default() },
            Purpose::Again(release) => Self { again: Some(release), ..Self::default() },
            Purpose::Restore(restore) => Self { restore: Some(restore), ..Self::default() },
        }
    }
}

/// A container as the gate saw it when it let a release pass: the evidence that stays with the release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Its name.
    pub container: String,
    /// `running`, `healthy` or `exited 0`.
    pub state: String,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.container, self.state)
    }
}

/// A container that holds still while a backup is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quiet {
    /// Its service, which says in what way.
    pub service: String,
    /// Its id.
    pub container: String,
}

/// Stacks that move together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The name that they give themselves.
    pub name: GroupName,
    /// Those that change together, all of them: each wave after those that it depends on.
    pub waves: Vec<Vec<StackName>>,
}

impl Group {
    /// All that change together.
    pub fn members(&self) -> impl Iterator<Item = &StackName> {
        self.waves.iter().flatten()
    }
}

/// What was decided about a backup. There is no way past this decision to an apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotDecision {
    /// restic's snapshot of the stack's volumes.
    Taken(String),
    /// Nothing to save: the stack has no volume with data yet.
    NothingToSave,
    /// No backup is configured. Reported as such.
    NotConfigured,
    /// The backup failed and is not required.
    Failed(String),
    /// The release that runs is put back as it was: nothing reads the data in another way than before.
    SameRelease,
    /// Data comes from a snapshot: what is there is kept, whole, at these paths.
    KeptAside(Vec<String>),
}

impl SnapshotDecision {
    /// The snapshot's id, if one was taken.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Taken(id) => Some(id),
            Self::NothingToSave | Self::NotConfigured | Self::Failed(_) | Self::SameRelease | Self::KeptAside(_) => {
                None
            }
        }
    }
}

/// What happened. Written before the effect it announces, or right after the effect it records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The deployment is meant: nothing has been done yet.
    Intended {
        /// The candidate's digest; `None` for a removal.
        digest: Option<Digest>,
        /// The release that runs now.
        from: Option<ReleaseId>,
        /// What it is for.
        #[serde(flatten)]
        purpose: Purpose,
        /// The stacks that change together with it, if any do.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<Group>,
    },
    /// The candidate's images are here and it is stored as a release to be.
    Staged {
        /// The stored candidate; `None` for a removal.
        to: Option<ReleaseId>,
    },
    /// A backup begins.
    BackupStarted {
        /// The containers that are to hold still meanwhile, and run again before anything else is done.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        quiet: Vec<Quiet>,
    },
    /// The repository can be used: now they are made to hold still.
    Calming {
        /// The containers that were not well before. What only suffers from it is not among them.
        ailing: Vec<String>,
    },
    /// The backup is decided.
    BackedUp {
        /// What was decided.
        snapshot: SnapshotDecision,
        /// Data of the stack that no snapshot has, and why, for people.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        left_out: Vec<String>,
    },
    /// What held still for the backup runs again.
    Woken,
    /// A try at the apply begins.
    ApplyStarted {
        /// The containers that stood before the first try.
        before: Vec<String>,
        /// Of these, the ones that were not well: ended, restarting or unhealthy. Nobody holds them against the candidate.
        #[serde(default)]
        ailing: Vec<String>,
        /// Services whose new containers are started beside those that stand. Decided with the first try.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        beside: Vec<String>,
    },
    /// Compose has done its part.
    Applied,
    /// The gate let the candidate pass.
    GatePassed {
        /// What it saw last.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        seen: Vec<Seen>,
    },
    /// The new containers that were started beside the old ones answered with them, and stayed well: the old ones may go.
    Switched,
    /// All that move together have passed.
    GroupPassed {
        /// What is there now.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        seen: Vec<Seen>,
    },
    /// The old ones are gone.
    Retired {
        /// What is there now.
        seen: Vec<Seen>,
        /// Old containers that the engine did not let go, and why, for people.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        left: Vec<String>,
    },
    /// What was under way failed.
    Failed {
        /// Why.
        reason: Reason,
    },
    /// A try at the rollback begins.
    RollbackStarted {
        /// The containers that stood before the first try of the rollback.
        before: Vec<String>,
    },
    /// Compose has done its part of the rollback.
    RollbackApplied,
    /// The gate let the former release pass.
    RollbackPassed,
    /// The agent was asked to stop, or found this deployment unfinished when it started.
    Interrupted,
    /// The agent found this deployment unfinished and must not go on with it.
    LeftAlone {
        /// Why.
        reason: Reason,
    },
}

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
    Calming = "calming",
    Woken = "woken",
    ApplyStarted = "apply_started",
    Applied = "applied",
    GatePassed = "gate_passed",
    Switched = "switched",
    GroupPassed = "group_passed",
    Retired = "retired",
    Failed = "failed",
    RollbackStarted = "rollback_started",
    RollbackApplied = "rollback_applied",
    RollbackPassed = "rollback_passed",
    Interrupted = "interrupted",
    LeftAlone = "left_alone",
}

impl Event {
    /// What the event tells besides its name, for people.
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::Failed { reason } | Self::LeftAlone { reason } => Some(reason.to_string()),
            Self::BackupStarted { quiet } if !quiet.is_empty() => {
                let services: BTreeSet<&str> = quiet.iter().map(|quiet| quiet.service.as_str()).collect();
                Some(format!("{} to hold still", services.into_iter().collect::<Vec<_>>().join(", ")))
            }
            Self::BackedUp { snapshot, left_out } => {
                let decided = match snapshot {
                    SnapshotDecision::Taken(id) => format!("snapshot {id}"),
                    SnapshotDecision::NothingToSave => "nothing to save: no volume with data".to_owned(),
                    SnapshotDecision::NotConfigured => "no backup is configured".to_owned(),
                    SnapshotDecision::SameRelease => "none needed: the same release is put back".to_owned(),
                    SnapshotDecision::Failed(why) => format!("failed, and is not required: {why}"),
                    SnapshotDecision::KeptAside(paths) => {
                        format!("what was there before is kept in {}", paths.join(", "))
                    }
                };
                let missing =
                    if left_out.is_empty() { String::new() } else { format!("; not saved: {}", left_out.join(", ")) };
                Some(decided + &missing)
            }
            Self::Intended { purpose: Purpose::Restore(restore), .. } => {
                Some(format!("data of snapshot {}, which a person wants back", restore.snapshot))
            }
            Self::Intended { purpose: Purpose::Again(release), .. } => {
                Some(format!("release {release}, which a person wants back"))
            }
            Self::Intended { group: Some(group), .. } => {
                let members = group.members().map(ToString::to_string).collect::<Vec<_>>();
                Some(format!("as one of the group {}: {}", group.name, members.join(", ")))
            }
            Self::GatePassed { seen } | Self::GroupPassed { seen } if !seen.is_empty() => Some(listed(seen)),
            Self::Retired { seen, left } if left.is_empty() => Some(listed(seen)),
            Self::Retired { seen, left } => Some(format!("{}; still there: {}", listed(seen), left.join(", "))),
            Self::ApplyStarted { beside, .. } if !beside.is_empty() => {
                Some(format!("started beside what runs: {}", beside.join(", ")))
            }
            _ => None,
        }
    }
}

fn listed(seen: &[Seen]) -> String {
    seen.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
