//! What can go wrong between us and a repository.

use std::{error::Error, path::PathBuf, time::Duration};

use evenkeel_core::{
    id::CommitId,
    reason::{Code, Reason},
};
use serde::{Deserialize, Serialize};

/// A fault of the repository, its server, or the way to it. A commit that may not run is no fault but a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum GitError {
    /// The server did not answer.
    #[error("cannot reach {url}: {why}. Check the network and source.url")]
    Unreachable {
        /// Without credentials.
        url: String,
        /// What happened.
        why: String,
    },
    /// The fetch took too long.
    #[error("fetching {url} took longer than {} s and was stopped. Check the network, or raise source.timeout", after.as_secs())]
    Timeout {
        /// Without credentials.
        url: String,
        /// The limit.
        after: Duration,
    },
    /// The server wants other credentials, or any.
    #[error("{url} refuses access: {why}. Check source.auth, and that what it names may read this repository")]
    Denied {
        /// Without credentials.
        url: String,
        /// What the server said.
        why: String,
    },
    /// The server does not prove to be the one that is meant.
    #[error("the server of {url} does not prove who it is: {why}")]
    Untrusted {
        /// Without credentials.
        url: String,
        /// What happened, and what to do.
        why: String,
    },
    /// The ref is not there.
    #[error("{url} has no {reference}: {why}. Check source.ref, or push the branch")]
    NoRef {
        /// Without credentials.
        url: String,
        /// The ref that was asked for.
        reference: String,
        /// What is there instead.
        why: String,
    },
    /// What answers is no repository, or a damaged one.
    #[error("{url} is not a usable Git repository: {why}. Check source.url")]
    Invalid {
        /// Without credentials.
        url: String,
        /// What happened.
        why: String,
    },
    /// Our own copy cannot be written or read.
    #[error("the mirror {path:?} cannot be used: {why}. It may be removed: it is fetched again")]
    Mirror {
        /// Where it is.
        path: PathBuf,
        /// What happened.
        why: String,
    },
    /// There is no room for our own copy.
    #[error("there is no room for the mirror {path:?}. Make room on its disk: `df -h` and `df -i` tell what is full")]
    Full {
        /// Where it is.
        path: PathBuf,
    },
    /// A repository on this machine cannot be opened.
    #[error("cannot open the repository {path:?}: {why}. Name a bare repository or the top folder of a work tree")]
    Open {
        /// Where it should be.
        path: PathBuf,
        /// What happened.
        why: String,
    },
    /// An object is not there.
    #[error("the object {id} is not in the repository. Fetch again, or check the id")]
    Missing {
        /// Its id.
        id: String,
    },
    /// An object cannot be used.
    #[error("the object {id} cannot be read: {why}")]
    Object {
        /// Its id.
        id: String,
        /// What happened.
        why: String,
    },
    /// A history is longer than what is looked at in one go.
    #[error("the history holds more than {commits} commits to look at. Configure a later trust.introduction")]
    TooLong {
        /// The limit.
        commits: usize,
    },
    /// The allowed signers cannot be read.
    #[error("cannot use the allowed signers {path:?}: {why}. Correct the file: its syntax is that of ssh-keygen")]
    Keys {
        /// The file.
        path: PathBuf,
        /// What happened, with the line.
        why: String,
    },
    /// The OpenPGP certificates cannot be read.
    #[error(
        "cannot use the OpenPGP certificates in {path:?}: {why}. Each file there must be what `gpg --armor --export FINGERPRINT` prints"
    )]
    Certificates {
        /// The folder.
        path: PathBuf,
        /// What happened, with the file.
        why: String,
    },
    /// A file of the configuration cannot be read.
    #[error("cannot read {path:?}: {why}. Check source.auth and source.ca_file")]
    Config {
        /// The file.
        path: PathBuf,
        /// What happened.
        why: String,
    },
    /// A process that reads what strangers write came to its limits.
    #[error(
        "{doing} was stopped: {why}. Something in the repository is far larger than any configuration: look at what was pushed last"
    )]
    TooMuch {
        /// `fetching` or `verifying`.
        doing: String,
        /// The limit.
        why: String,
    },
    /// A fault of ours.
    #[error("a process of ours failed: {0}. This is a fault of evenkeel: please report it")]
    Internal(String),
}

impl GitError {
    /// The error as a reason of the closed list.
    pub fn reason(&self) -> Reason {
        let code = match self {
            Self::Unreachable { .. } | Self::Timeout { .. } | Self::Mirror { .. } => Code::SourceUnreachable,
            Self::Denied { .. } | Self::Config { .. } => Code::SourceDenied,
            Self::Untrusted { .. } => Code::SourceUntrusted,
            Self::NoRef { .. } => Code::SourceNoRef,
            Self::Full { .. } => Code::DiskFull,
            Self::Invalid { .. }
            | Self::Open { .. }
            | Self::Missing { .. }
            | Self::Object { .. }
            | Self::TooMuch { .. }
            | Self::TooLong { .. } => Code::SourceInvalid,
            Self::Keys { .. } | Self::Certificates { .. } => Code::TrustKeys,
            Self::Internal(_) => Code::Internal,
        };
        Reason::new(code, self.to_string())
    }

    pub(super) fn missing(commit: &CommitId) -> Self {
        Self::Missing { id: commit.to_string() }
    }
}

/// An error and its causes on one line, at most 400 characters, fit for display.
pub(super) fn one_line(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = cause.source();
    }
    // A sentence of ours goes on behind it.
    super::commit::displayable(text.trim_end_matches('.').replace('\n', "; ").as_bytes(), 400)
}
