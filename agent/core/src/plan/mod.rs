//! The plan: what a sync will do, as a value that a person can read and approve.

mod build;
mod diff;
mod effects;

use std::fmt;

use evenkeel_layout::{name::StackName, problem::Problem};
use serde::Serialize;

pub use crate::change::{ServiceChange, ServiceChangeKind, StackChange, StackChangeKind, Why, WhyKind};
pub use build::{Containers, Desired, PutBack, build, renamed, waves};
pub use diff::{Side, diff, notes, take_along};
pub use effects::{Down, Effects, HoldsStill, effects};

/// A stack with another name than before that is the same Compose project: nothing is removed or made for that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Renamed {
    /// Its name until now.
    pub from: StackName,
    /// Its name from now on.
    pub to: StackName,
}

/// A stack that would change, and waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The stack.
    pub stack: StackName,
    /// What it waits for: a rejected stack, or one that waits itself.
    pub waits_for: StackName,
    /// Whether it waits since they move together, not since it depends on it.
    pub as_group: bool,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stack, waits_for, as_group } = self;
        let how = if *as_group { "moves together with" } else { "depends on" };
        write!(f, "{stack} waits: it {how} {waits_for}, which cannot be deployed as this commit has it")
    }
}

/// Ordered waves: a wave begins when the one before it has ended. Sorted by stack within a wave.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Plan {
    /// The waves: changes first, in the order of dependencies, then removals in the opposite one. Stacks that move together are
    /// in one wave.
    pub waves: Vec<Vec<StackChange>>,
    /// Stacks that go on under another name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub renamed: Vec<Renamed>,
    /// Stacks that cannot be deployed as this commit has them; they keep their release.
    pub rejected: Vec<StackName>,
    /// Stacks that would change but wait for a rejected one. Not in the waves.
    #[serde(skip)]
    pub held: Vec<Held>,
    /// What was found on the way, sorted.
    pub problems: Vec<Problem>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.waves.is_empty()
    }

    /// Every change, in order.
    pub fn changes(&self) -> impl Iterator<Item = &StackChange> {
        self.waves.iter().flatten()
    }
}

#[cfg(test)]
mod tests;
