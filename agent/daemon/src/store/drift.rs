//! Drift that was told and is not over, how often it was tried to put it back, and what people stopped.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_core::drift::Finding;
use evenkeel_layout::name::StackName;
use rusqlite::params;

use super::{Outgoing, Store, StoreError, encode, outbox};

/// The drift of one stack.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DriftRecord {
    /// What differs, as it was told. Empty once it is over, as long as the tries count.
    pub findings: Vec<Finding>,
    /// Since when, in milliseconds since 1970.
    pub since_ms: i64,
    /// How often in a row it was tried to put something back.
    pub tries: u32,
    /// Not tried again before, in milliseconds since 1970.
    pub next_ms: i64,
}

impl Store {
    /// The drift of every stack that has some, or had some lately.
    pub fn drift(&self) -> Result<BTreeMap<StackName, DriftRecord>, StoreError> {
        type Row = (String, String, i64, u32, i64);
        let rows: Vec<Row> = self.read(|db| {
            db.prepare("SELECT stack, findings, since_ms, tries, next_ms FROM drift")?
                .query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?)))?
                .collect()
        })?;
        rows.into_iter()
            .filter_map(|(stack, findings, since_ms, tries, next_ms)| {
                let stack = StackName::new(&stack).ok()?;
                let findings = self.decode("drift", &findings);
                Some(findings.map(|findings| (stack, DriftRecord { findings, since_ms, tries, next_ms })))
            })
            .collect()
    }

    /// Remembers the drift of a stack (`None`: there is none) together with what is told of it.
    pub fn set_drift(
        &self,
        stack: &StackName,
        record: Option<&DriftRecord>,
        messages: &[Outgoing],
        now_ms: i64,
    ) -> Result<(), StoreError> {
        self.write(|tx| {
            match record {
                Some(record) => tx.execute(
                    "INSERT OR REPLACE INTO drift VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![stack.as_str(), encode(&record.findings)?, record.since_ms, record.tries, record.next_ms],
                )?,
                None => tx.execute("DELETE FROM drift WHERE stack = ?1", [stack.as_str()])?,
            };
            outbox::enqueue(tx, messages, now_ms)
        })
    }

    /// Remembers that a person stopped a container.
    pub fn note_stopped(&self, container: &str, now_ms: i64) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.execute("INSERT OR REPLACE INTO stopped VALUES (?1, ?2)", params![container, now_ms]).map(drop)
        })
    }

    /// Forgets it: the container was started again, or is gone.
    pub fn forget_stopped(&self, containers: &BTreeSet<String>) -> Result<(), StoreError> {
        if containers.is_empty() {
            return Ok(());
        }
        self.write(|tx| {
            for container in containers {
                tx.execute("DELETE FROM stopped WHERE container = ?1", [container])?;
            }
            Ok(())
        })
    }

    /// The containers that people stopped.
    pub fn stopped(&self) -> Result<BTreeSet<String>, StoreError> {
        self.read(|db| db.prepare("SELECT container FROM stopped")?.query_map([], |r| r.get(0))?.collect())
    }
}
