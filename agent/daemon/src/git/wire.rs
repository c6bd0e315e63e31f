//! What the agent and its fetch process say to each other: one JSON line each way.

use std::path::PathBuf;

use evenkeel_core::id::CommitId;
use serde::{Deserialize, Serialize};

use crate::config::settings::SshRemote;

/// What to fetch. It holds a secret and so has no `Debug`.
#[derive(Serialize, Deserialize)]
pub(super) struct Request {
    /// As it is configured.
    pub url: String,
    /// The full ref.
    pub reference: String,
    /// Where the mirror is, or shall be.
    pub mirror: PathBuf,
    /// User name and token, for the URL's own scheme, host and port only.
    pub credentials: Option<Credentials>,
    /// Set if the URL is one of SSH.
    #[serde(default)]
    pub ssh: Option<SshAccess>,
}

/// What `ssh` needs to know. The key itself stays in its file.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct SshAccess {
    pub remote: SshRemote,
    pub key: PathBuf,
    pub known_hosts: PathBuf,
}

/// What proves who we are.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Credentials {
    pub username: String,
    pub token: String,
}

/// How it went.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// The mirror has this commit, and it is the ref's.
    Tip(CommitId),
    /// The server could not be reached, or went away.
    Unreachable(String),
    /// The server refuses access.
    Denied(String),
    /// The server does not prove to be the one that is meant.
    Untrusted(String),
    /// The ref is not there.
    NoRef(String),
    /// What answers is no repository, or a damaged one.
    Invalid(String),
    /// The commit, or a part of it, did not come: the server's fault, or that of a mirror that claims to have it.
    Incomplete(String),
    /// The mirror cannot be written.
    Mirror(String),
    /// There is no room for the mirror.
    Full,
}
