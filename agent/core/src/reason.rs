//! Why something did not go through: a closed list of codes, each with who must act.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What happens next after a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Tried again by itself, with back-off.
    Transient,
    /// Waits for a new commit or a person.
    Stalled,
    /// A fault of ours.
    Bug,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $class:ident;)+) => {
        /// The closed list of reasons. The text form is part of the contract.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Code {
            $($(#[$doc])* #[serde(rename = $text)] $variant,)+
        }

        impl Code {
            /// Every code.
            pub const ALL: &[Code] = &[$(Code::$variant),+];

            /// The stable text.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $text,)+ }
            }

            /// Who must act.
            pub fn class(self) -> Class {
                match self { $(Code::$variant => Class::$class,)+ }
            }
        }
    };
}

codes! {
    /// The repository could not be reached, or did not answer in time.
    SourceUnreachable = "source.unreachable", Transient;
    /// The repository refused our credentials.
    SourceDenied = "source.denied", Stalled;
    /// The repository's server does not prove to be the one that is meant: its host key or certificate.
    SourceUntrusted = "source.untrusted", Stalled;
    /// The repository does not have the tracked ref (an empty repository, too).
    SourceNoRef = "source.no-ref", Stalled;
    /// The repository did not answer for longer than `trust.stale_after`.
    SourceStale = "source.stale", Transient;
    /// What the repository sent is not a repository, or is damaged.
    SourceInvalid = "source.invalid", Stalled;
    /// Trust refused the tip; the message carries the rule's own code.
    TrustRefused = "trust.refused", Stalled;
    /// The file of allowed signers cannot be read, or lists no key that is accepted.
    TrustKeys = "trust.keys", Stalled;
    /// The tree or its stack set cannot be used at all.
    LayoutInvalid = "layout.invalid", Stalled;
    /// The host has another name than before, and the repository means something else by it.
    ServerRenamed = "server.renamed", Stalled;
    /// One stack cannot be rendered or is invalid.
    StackInvalid = "stack.invalid", Stalled;
    /// A variable that a stack uses is set nowhere.
    EnvUnset = "env.unset", Stalled;
    /// What is encrypted in Git cannot be opened on this server; the message says why.
    SecretsUnreadable = "secrets.unreadable", Stalled;
    /// The `docker compose` program is missing or too old.
    ComposeMissing = "compose.missing", Transient;
    /// The engine does not answer.
    EngineUnreachable = "engine.unreachable", Transient;
    /// An image does not exist in its registry.
    ImageMissing = "image.missing", Stalled;
    /// An image could not be pulled for now.
    ImagePull = "image.pull", Transient;
    /// An image could not be built.
    ImageBuild = "image.build", Stalled;
    /// There is no room left.
    DiskFull = "disk.full", Transient;
    /// The backup did not succeed and is required.
    BackupFailed = "backup.failed", Transient;
    /// There is no such snapshot of the stack.
    SnapshotGone = "snapshot.gone", Stalled;
    /// Data cannot be restored as things are; the message says what is in the way.
    RestoreRefused = "restore.refused", Stalled;
    /// Data could not be brought back from the snapshot, or not put in place.
    RestoreFailed = "restore.failed", Transient;
    /// A file that is not ours is in the way of a tracked one.
    FileConflict = "file.conflict", Stalled;
    /// Live files could not be written.
    FileWrite = "file.write", Transient;
    /// `docker compose up` or `down` failed.
    ApplyFailed = "apply.failed", Stalled;
    /// A container became unhealthy.
    GateUnhealthy = "gate.unhealthy", Stalled;
    /// A container exited or restarted.
    GateExited = "gate.exited", Stalled;
    /// A container was killed for want of memory.
    GateOom = "gate.oom", Stalled;
    /// Not everything was good in time.
    GateDeadline = "gate.deadline", Stalled;
    /// The last good release could not be put back.
    RollbackFailed = "rollback.failed", Stalled;
    /// This very candidate failed before and is kept out.
    Quarantined = "quarantine", Stalled;
    /// A stack that this one depends on is not committed.
    HeldByDependency = "held.dependency", Stalled;
    /// A stack that moves together with this one waits, or is kept out.
    HeldByGroup = "held.group", Stalled;
    /// A stack that moves together with this one failed.
    GroupFailed = "group.failed", Stalled;
    /// A person suspended the stack for a while.
    HeldBySuspension = "held.suspended", Stalled;
    /// The stack waits for its maintenance window.
    HeldByWindow = "held.window", Stalled;
    /// A person put an earlier release back, or accepted what runs: it stays until the repository wants something else.
    HeldByPerson = "held.person", Stalled;
    /// The agent runs in this stack itself, so it leaves it alone.
    HeldAsOwn = "held.own", Stalled;
    /// The release that a person wants back is not kept.
    ReleaseGone = "release.gone", Stalled;
    /// More stacks would be removed than the prune guard lets go at once.
    PruneGuard = "prune.guard", Stalled;
    /// The server differs from the release that it should run.
    Drift = "drift", Stalled;
    /// `observe` is on: what would be done was not done.
    Observing = "agent.observing", Stalled;
    /// The agent was stopped or died in the middle.
    Interrupted = "agent.interrupted", Transient;
    /// The store cannot be read or written.
    StoreFailed = "store.failed", Stalled;
    /// A fault of ours.
    Internal = "internal", Bug;
}

impl Code {
    /// Whether the server's disk is at fault, whatever was to be written on it.
    pub fn is_of_disk(self) -> bool {
        matches!(self, Self::DiskFull | Self::FileWrite)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A code and what a person needs to read: what, where, and the next thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Reason {
    /// The stable code.
    pub code: Code,
    /// Who must act.
    pub class: Class,
    /// For a person. Never holds a secret.
    pub message: String,
}

impl Reason {
    /// A reason in the class that its code has by default.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, class: code.class(), message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_keeps_its_text_in_json() {
        for code in Code::ALL {
            let json = serde_json::to_string(code).unwrap();
            assert_eq!(json, format!("\"{}\"", code.as_str()));
            assert_eq!(serde_json::from_str::<Code>(&json).unwrap(), *code);
        }
    }
}
