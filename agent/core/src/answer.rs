//! What the agent answers to people who ask about one stack: its releases, and what there is to say of it.

use serde::{Deserialize, Serialize};

use crate::{
    id::ReleaseId,
    journal::Seen,
    outcome::{StackStatus, Status},
    reason::Reason,
    release::ReleaseImage,
};

/// The kept releases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Releases {
    /// The shape's version.
    pub schema: u32,
    /// Sorted by stack, newest first.
    pub releases: Vec<KeptRelease>,
}

/// A release that is kept with its images, so that a person may have it back. Times are RFC 3339 in UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptRelease {
    /// Its number.
    pub id: ReleaseId,
    /// The stack.
    pub stack: String,
    /// Whether it runs now.
    pub current: bool,
    /// The commit that it comes from.
    pub commit: String,
    /// The first line of that commit's message, as its author wrote it.
    pub subject: Option<String>,
    /// The digest of model, files and secrets.
    pub digest: String,
    /// When it was committed; of one that an older Evenkeel made, when it was staged.
    pub at: String,
    /// The release that it is again, since a person wanted that back.
    pub again: Option<ReleaseId>,
    /// The exact images, by service.
    pub images: std::collections::BTreeMap<String, ReleaseImage>,
    /// restic's snapshot from before it replaced its predecessor.
    pub snapshot: Option<String>,
    /// What the gate saw when it let it pass.
    pub evidence: Vec<Seen>,
}

/// The snapshots of this server in its backup repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshots {
    /// The shape's version.
    pub schema: u32,
    /// Sorted by stack, newest first.
    pub snapshots: Vec<SnapshotSeen>,
}

/// A snapshot of a stack's data, as the repository tells it: nothing of it comes from the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotSeen {
    /// restic's id, whole.
    pub id: String,
    /// When it was taken: RFC 3339 in UTC.
    pub time: String,
    /// The stack; `None` of a snapshot that says none.
    pub stack: Option<String>,
    /// The Compose project that the stack was then.
    pub project: Option<String>,
    /// The number of the release that ran then.
    pub release: Option<String>,
    /// The commit of that release.
    pub commit: Option<String>,
    /// The named volumes in it, sorted.
    pub volumes: Vec<String>,
    /// The paths in it.
    pub paths: Vec<String>,
    /// What it holds, in bytes; `None` if the restic that took it did not say.
    pub size_bytes: Option<u64>,
}

/// What there is to say of a stack, on one screen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// Its state, with holds, window and suspension.
    pub status: StackStatus,
    /// One sentence: how it is.
    pub summary: String,
    /// Why it is so.
    pub why: Option<Reason>,
    /// Containers as the engine sees them now.
    pub containers: Vec<ContainerSeen>,
    /// What happens next, and when.
    pub next: String,
    /// What a person can do: exact commands with what they do.
    pub can: Vec<Can>,
}

/// A container as the engine sees it now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSeen {
    /// Its service.
    pub service: String,
    /// Its name; empty if the service has none.
    pub name: String,
    /// `running`, `exited 1`, `missing`…
    pub state: String,
    /// What its healthcheck said last, if it is not well.
    pub probe: Option<String>,
    /// The end of its log, if it is not well. Values of variables are taken out.
    pub log: Vec<String>,
}

/// Something that a person can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Can {
    /// The command, whole.
    pub command: String,
    /// What it does.
    pub does: String,
}

/// The answer to `explain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The shape's version.
    pub schema: u32,
    /// The server, the source and everything that concerns the whole.
    pub status: Status,
    /// What concerns the whole: what happens next, and when.
    pub next: String,
    /// The stacks that were asked for, sorted.
    pub stacks: Vec<Explained>,
}
