//! The plan: what a sync will do, as a value that a person can read and approve.

mod build;
mod diff;
mod effects;

use evenkeel_layout::{name::StackName, problem::Problem};
use serde::Serialize;

pub use crate::change::{ServiceChange, ServiceChangeKind, StackChange, StackChangeKind, Why, WhyKind};
pub use build::{Containers, Desired, PutBack, build, renamed};
pub use diff::{Side, diff, notes, take_along};
pub use effects::{Down, Effects, effects};

/// A stack with another name than before that is the same Compose project: nothing is removed or made for that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Renamed {
    /// Its name until now.
    pub from: StackName,
    /// Its name from now on.
    pub to: StackName,
}

/// Ordered waves: a wave begins when the one before it has ended. Sorted by stack within a wave.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Plan {
    /// The waves: changes first, in the order of dependencies, then removals in the opposite one.
    pub waves: Vec<Vec<StackChange>>,
    /// Stacks that go on under another name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub renamed: Vec<Renamed>,
    /// Stacks that cannot be deployed as this commit has them; they keep their release.
    pub rejected: Vec<StackName>,
    /// Stacks that would change but wait for a rejected one, with its name. Not in the waves.
    #[serde(skip)]
    pub held: Vec<(StackName, StackName)>,
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
