//! The agent's Unix socket: the command line asks the running agent. HTTP with the JSON of the command line.
//!
//! Who may open the socket (mode 0660, root's group) may ask for a sync and read the status; nothing here decides what
//! is deployed.

mod client;
mod server;

use evenkeel_core::outcome::{Activity, Outcome, SyncRecord};
use evenkeel_core::reason::Reason;
use serde::{Deserialize, Serialize};

pub use client::{ClientError, activity, history, status, sync};
pub use server::{Answers, BindError, bind, serve};

/// The answer to a request for a sync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncAnswer {
    /// The shape's version.
    pub schema: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, if it did not get as far as its stacks.
    pub reason: Option<Reason>,
    /// The exit code that says the same.
    pub exit: u8,
    /// The sync as history has it.
    pub sync: Option<SyncRecord>,
}

/// The answer to the question what the agent is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActivityAnswer {
    /// The shape's version.
    pub schema: u32,
    /// `None` while it waits for something to do.
    pub activity: Option<Activity>,
}

#[cfg(test)]
mod tests;
