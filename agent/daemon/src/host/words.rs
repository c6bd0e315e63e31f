//! Outcomes, states and ids as people say them, the same in the command line and on the page.

use evenkeel_core::outcome::{Outcome, StackState};
use jiff::{Timestamp, Unit};

/// An outcome as people say it.
pub fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Committed => "deployed",
        Outcome::Unchanged => "nothing to do",
        Outcome::RolledBack => "rolled back",
        other => other.as_str(),
    }
}

/// A state as people say it.
pub fn state(state: StackState) -> &'static str {
    match state {
        StackState::Steady => "steady",
        StackState::Deploying => "deploying",
        StackState::RolledBack => "rolled back",
        StackState::Held => "held",
        StackState::Rejected => "rejected",
        StackState::Aborted => "aborted",
        StackState::Halted => "halted",
    }
}

/// The first twelve digits of an id.
pub fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// The seconds from one instant to another; `None` unless both are RFC 3339.
pub fn seconds_between(started: &str, ended: &str) -> Option<f64> {
    let (from, to): (Timestamp, Timestamp) = (started.parse().ok()?, ended.parse().ok()?);
    from.until(to).ok()?.total(Unit::Second).ok()
}
