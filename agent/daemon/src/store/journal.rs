//! Deployments and their journals.

use evenkeel_core::{
    change::ServiceChange,
    id::{CommitId, DeploymentId, SyncId},
    journal::{Event, Progress},
    outcome::Outcome,
};
use evenkeel_layout::name::StackName;
use rusqlite::{OptionalExtension as _, Transaction, params};

use super::{NewDeployment, Store, StoreError, encode, history::insert_deployment};

/// A deployment that has no end yet.
pub struct Unfinished {
    /// Its number.
    pub id: DeploymentId,
    /// The sync it belongs to.
    pub sync: SyncId,
    /// The stack.
    pub stack: StackName,
    /// The commit that its sync is about.
    pub commit: Option<CommitId>,
    /// When it began, in milliseconds since 1970.
    pub started_ms: i64,
    /// When its last event was written.
    pub last_ms: i64,
    /// What changes, service by service.
    pub changes: Vec<ServiceChange>,
    /// Where it is.
    pub progress: Progress,
}

pub(super) fn append(tx: &Transaction<'_>, id: DeploymentId, event: &Event, now_ms: i64) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT INTO journal SELECT ?1, coalesce(max(seq), 0) + 1, ?2, ?3 FROM journal WHERE deployment = ?1",
        params![id.0, now_ms, encode(event)?],
    )
    .map(drop)
}

impl Store {
    /// Makes the intent durable: the first event of a deployment.
    pub fn intend(&self, new: &NewDeployment<'_>, event: &Event, now_ms: i64) -> Result<DeploymentId, StoreError> {
        self.write(|tx| {
            let id = insert_deployment(tx, new, now_ms)?;
            append(tx, id, event, now_ms)?;
            Ok(id)
        })
    }

    /// Appends an event; durable when it returns.
    pub fn append(&self, id: DeploymentId, event: &Event, now_ms: i64) -> Result<(), StoreError> {
        self.write(|tx| append(tx, id, event, now_ms))
    }

    /// The deployments that have no end, oldest first, as their journals tell them.
    pub fn unfinished(&self) -> Result<Vec<Unfinished>, StoreError> {
        type Row = (i64, i64, String, Option<String>, i64, Option<String>);
        let rows: Vec<Row> = self.read(|db| {
            db.prepare(
                "SELECT d.id, d.sync, d.stack, coalesce(d.commit_id, s.commit_id), d.started_ms, d.changes
                 FROM deployments d JOIN syncs s ON s.id = d.sync WHERE d.ended_ms IS NULL ORDER BY d.id",
            )?
            .query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?, r.get(5)?)))?
            .collect()
        })?;
        rows.into_iter()
            .map(|(id, sync, stack, commit, started_ms, changes)| {
                let damaged = |what: &str| StoreError::Damaged {
                    path: self.path.display().to_string(),
                    what: format!("deployment {id}: {what}"),
                };
                let (times, events): (Vec<i64>, Vec<Event>) = self.journal(DeploymentId(id))?.into_iter().unzip();
                Ok(Unfinished {
                    id: DeploymentId(id),
                    sync: SyncId(sync),
                    stack: StackName::new(&stack).map_err(|_| damaged("stack name"))?,
                    commit: commit.and_then(|c| CommitId::new(&c).ok()),
                    started_ms,
                    last_ms: times.last().copied().unwrap_or_default(),
                    changes: changes.map(|c| self.decode("changes", &c)).transpose()?.unwrap_or_default(),
                    progress: Progress::replay(&events).map_err(|e| damaged(&e.to_string()))?,
                })
            })
            .collect()
    }

    /// How far a stack's deployment of a sync got, ended or not; `None` if it was never begun.
    pub fn progress(&self, sync: SyncId, stack: &StackName) -> Result<Option<Progress>, StoreError> {
        let id: Option<i64> = self.read(|db| {
            let begun = "SELECT d.id FROM deployments d WHERE d.sync = ?1 AND d.stack = ?2
                         AND EXISTS (SELECT 1 FROM journal j WHERE j.deployment = d.id)";
            db.query_row(begun, params![sync.0, stack.as_str()], |r| r.get(0)).optional()
        })?;
        let Some(id) = id else { return Ok(None) };
        let events: Vec<Event> = self.journal(DeploymentId(id))?.into_iter().map(|(_, event)| event).collect();
        let damaged = |what: String| StoreError::Damaged {
            path: self.path.display().to_string(),
            what: format!("deployment {id}: {what}"),
        };
        Progress::replay(&events).map(Some).map_err(|e| damaged(e.to_string()))
    }

    /// Ends syncs that a stop cut short, once their deployments have ended.
    pub fn end_open_syncs(&self, outcome: Outcome, now_ms: i64) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.execute(
                "UPDATE syncs SET ended_ms = ?1, outcome = coalesce(
                     (SELECT outcome FROM deployments d WHERE d.sync = syncs.id AND d.outcome IS NOT NULL
                      ORDER BY instr('halted refused rejected aborted held rolled_back quarantined committed unchanged', d.outcome)
                      LIMIT 1), ?2)
                 WHERE ended_ms IS NULL",
                params![now_ms, outcome.as_str()],
            )
            .map(drop)
        })
    }

    /// The events of a deployment in order, each with its time in milliseconds since 1970.
    pub(super) fn journal(&self, id: DeploymentId) -> Result<Vec<(i64, Event)>, StoreError> {
        let rows: Vec<(i64, String)> = self.read(|db| {
            db.prepare("SELECT at_ms, event FROM journal WHERE deployment = ?1 ORDER BY seq")?
                .query_map([id.0], |r| Ok((r.get(0)?, r.get(1)?)))?
                .collect()
        })?;
        rows.into_iter()
            .map(|(at, json)| Ok((at, self.decode(&format!("journal of deployment {id}"), &json)?)))
            .collect()
    }
}
