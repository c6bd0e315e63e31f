//! `x-evenkeel: on_change` and a service's `reload`: what a change in a mounted file does, where making the containers anew is
//! more than is needed.

use serde::{Deserialize, Serialize};

use crate::section::Written;

/// What a change in a file that a service mounts does to the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnChange {
    /// Its containers are made anew.
    #[default]
    Recreate,
    /// Its containers are restarted.
    Restart,
}

/// Values of `on_change`.
pub(crate) const ON_CHANGE: &[(&str, OnChange)] = &[("recreate", OnChange::Recreate), ("restart", OnChange::Restart)];

/// Signals that programs take for a request to look at their files again. Those that end a program are not among them:
/// `on_change: restart` does that, and starts it again.
pub(crate) const SIGNALS: &[&str] = &["SIGALRM", "SIGCONT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH"];

/// A service that looks at its files again when it gets a signal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    /// The signal, such as `SIGHUP`.
    pub signal: String,
    /// The files and folders that it is for, from the repository's root; empty: all that the service mounts.
    pub on: Vec<String>,
}

/// The same as a Compose file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReloadSaid {
    pub signal: String,
    /// Paths as written, with their lines.
    pub on: Vec<Written>,
}
