//! The agent's journal, read beside it: what it has begun and done, as soon as that is on disk.

use std::{
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags};

use crate::wait::{PATIENCE, seconds};

/// The journal of the store in a state folder.
#[derive(Debug)]
pub struct Journal(Connection);

impl Journal {
    /// Opens the store for reading.
    #[track_caller]
    pub fn open(state: &Path) -> Self {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let store =
            Connection::open_with_flags(state.join("evenkeel.db"), flags).expect("the agent has made its store");
        store.busy_timeout(seconds(5)).expect("a number of seconds is fine");
        Self(store)
    }

    /// A number from the store.
    #[track_caller]
    pub fn number(&self, query: &str) -> i64 {
        self.0.query_row(query, [], |row| row.get(0)).expect("the query fits the store")
    }

    /// The number of the newest deployment; 0 if there is none.
    #[track_caller]
    pub fn last_deployment(&self) -> i64 {
        self.number("SELECT coalesce(max(id), 0) FROM deployments")
    }

    /// The events that were journalled after the deployment `since`, in order.
    #[track_caller]
    pub fn events(&self, since: i64) -> Vec<String> {
        self.timed_events(since).into_iter().map(|(_, event)| event).collect()
    }

    /// The same, each with its time in milliseconds since 1970.
    #[track_caller]
    pub fn timed_events(&self, since: i64) -> Vec<(i64, String)> {
        let query = "SELECT at_ms, event ->> 'event' FROM journal WHERE deployment > ?1 ORDER BY deployment, seq";
        let mut query = self.0.prepare(query).expect("the query fits the store");
        let rows = query.query_map([since], |row| Ok((row.get(0)?, row.get(1)?))).expect("the query fits the store");
        rows.collect::<Result<_, _>>().expect("events have times and names")
    }

    /// How the deployments after `since` ended, in order; `open` for one that has not.
    #[track_caller]
    pub fn outcomes(&self, since: i64) -> Vec<String> {
        let query = "SELECT coalesce(outcome, 'open') FROM deployments WHERE id > ?1 ORDER BY id";
        let mut query = self.0.prepare(query).expect("the query fits the store");
        let rows = query.query_map([since], |row| row.get(0)).expect("the query fits the store");
        rows.collect::<Result<_, _>>().expect("outcomes are words")
    }

    /// Waits until `step` is among the events after the first `known` ones since a deployment.
    #[track_caller]
    pub fn wait_for(&self, step: &str, since: i64, known: usize) {
        let begun = Instant::now();
        while !self.events(since).iter().skip(known).any(|event| event == step) {
            assert!(begun.elapsed() < PATIENCE, "{step} never came: {:?}", self.events(since));
            sleep(Duration::from_micros(300));
        }
    }
}
