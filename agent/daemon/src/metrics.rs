//! What the agent counts while it runs. How it is told is the listener's matter; what the store knows is not counted again.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use evenkeel_core::outcome::Outcome;

/// Upper bounds of a phase's buckets, in seconds: from a poll with nothing to do to a large image over a thin line.
pub const BOUNDS_SECONDS: [f64; 12] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0];

/// Every outcome: a counter that has not counted yet is told as 0, so that its first increase is seen.
const OUTCOMES: [Outcome; 9] = [
    Outcome::Unchanged,
    Outcome::Committed,
    Outcome::RolledBack,
    Outcome::Aborted,
    Outcome::Held,
    Outcome::Rejected,
    Outcome::Quarantined,
    Outcome::Refused,
    Outcome::Halted,
];

/// How often something took how long.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Durations {
    /// For each of [`BOUNDS_SECONDS`] how many took at most that long.
    pub at_most: [u64; BOUNDS_SECONDS.len()],
    /// How many there were.
    pub count: u64,
    /// How long all of them took together, in seconds.
    pub sum_seconds: f64,
}

/// What was counted since the agent started.
#[derive(Debug, Clone, PartialEq)]
pub struct Counts {
    /// Syncs by how they ended.
    pub syncs: BTreeMap<Outcome, u64>,
    /// Stacks' parts in syncs by how they ended.
    pub deployments: BTreeMap<Outcome, u64>,
    /// Phases by name.
    pub phases: BTreeMap<&'static str, Durations>,
}

/// The counters of one agent. Shared by all who count.
#[derive(Debug)]
pub struct Metrics(Mutex<Counts>);

impl Default for Metrics {
    fn default() -> Self {
        let zero: BTreeMap<Outcome, u64> = OUTCOMES.into_iter().map(|outcome| (outcome, 0)).collect();
        Self(Mutex::new(Counts { syncs: zero.clone(), deployments: zero, phases: BTreeMap::new() }))
    }
}

impl Metrics {
    /// Counts the end of a sync.
    pub fn sync_ended(&self, outcome: Outcome) {
        self.with(|counts| *counts.syncs.entry(outcome).or_default() += 1);
    }

    /// Counts the end of a stack's part in a sync.
    pub fn deployment_ended(&self, outcome: Outcome) {
        self.with(|counts| *counts.deployments.entry(outcome).or_default() += 1);
    }

    /// Counts a phase that took this long, however it ended.
    pub fn phase_took(&self, phase: &'static str, took: Duration) {
        let seconds = took.as_secs_f64();
        self.with(|counts| {
            let durations = counts.phases.entry(phase).or_default();
            durations.count += 1;
            durations.sum_seconds += seconds;
            for (bound, bucket) in BOUNDS_SECONDS.iter().zip(&mut durations.at_most) {
                *bucket += u64::from(seconds <= *bound);
            }
        });
    }

    /// What was counted until now.
    pub fn counts(&self) -> Counts {
        self.with(|counts| counts.clone())
    }

    fn with<T>(&self, f: impl FnOnce(&mut Counts) -> T) -> T {
        // Each change is one addition: a panic leaves nothing half counted.
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_counts_in_every_bucket_that_it_fits_in() {
        let metrics = Metrics::default();
        metrics.phase_took("gate", Duration::from_secs(10));
        metrics.phase_took("gate", Duration::from_millis(1));
        metrics.phase_took("gate", Duration::from_secs(3600));
        let gate = &metrics.counts().phases["gate"];
        assert_eq!(gate.at_most, [1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2]);
        assert_eq!((gate.count, gate.sum_seconds.round()), (3, 3610.0));
    }

    #[test]
    fn every_outcome_is_told_from_the_start() {
        let metrics = Metrics::default();
        metrics.sync_ended(Outcome::Halted);
        let counts = metrics.counts();
        assert_eq!((counts.syncs.len(), counts.syncs[&Outcome::Halted], counts.deployments.len()), (9, 1, 9));
    }
}
