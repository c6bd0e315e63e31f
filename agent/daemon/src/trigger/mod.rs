//! What starts a sync: time, a change on disk, a webhook, a person. All fall into one coalescing [`Slot`].
//!
//! A trigger says only that it is time to look. It carries nothing that decides what is deployed.

mod poll;
mod slot;
mod watch;

use serde::{Deserialize, Serialize};

pub use poll::{Schedule, delay, poll, random_fraction};
pub use slot::{Slot, Ticket, Waker, Work, slot};
pub use watch::{ConfigWatch, CurrentConfig, WatchError, follow};

/// Why a sync began. The text form is part of the contract (`history`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// A person asked (`evenkeel sync`).
    Manual,
    /// The forge said that the tracked branch moved.
    Webhook,
    /// The configuration, an environment file or a key file changed.
    Watch,
    /// The agent has just started.
    Start,
    /// A suspension ended, or a maintenance window opened.
    Due,
    /// It was time.
    Poll,
    /// Something happened to containers, networks or live files, or it was time to look at them. The repository is not
    /// asked for this alone.
    Drift,
}

impl Trigger {
    /// The stable text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Webhook => "webhook",
            Self::Watch => "watch",
            Self::Start => "start",
            Self::Due => "due",
            Self::Poll => "poll",
            Self::Drift => "drift",
        }
    }
}

impl std::fmt::Display for Trigger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}
