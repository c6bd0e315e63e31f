//! Syncs and deployments as a person looks back on them.

use evenkeel_core::{
    id::{CommitId, DeploymentId, SyncId},
    outcome::{About, DeploymentRecord, Outcome, StackLast, Step, SyncRecord},
    reason::Reason,
};
use evenkeel_layout::name::StackName;
use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::{Outgoing, Store, StoreError, encode, outbox};

/// A deployment that begins.
pub struct NewDeployment<'a> {
    /// The sync it belongs to.
    pub sync: SyncId,
    /// The stack.
    pub stack: &'a StackName,
    /// The commit that is deployed; `None` for a removal.
    pub to: Option<&'a CommitId>,
    /// The commit of the release that runs now.
    pub from: Option<&'a CommitId>,
    /// What changes, service by service, for those who look back.
    pub changes: &'a [evenkeel_core::plan::ServiceChange],
}

/// The end of a stack's part in a sync that never became a deployment: held, rejected, quarantined, unchanged.
pub struct DeploymentEnd<'a> {
    /// What it would have been.
    pub new: NewDeployment<'a>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, if not well.
    pub reason: Option<&'a Reason>,
    /// What is told.
    pub messages: Vec<Outgoing>,
}

pub(super) fn insert_deployment(
    tx: &Transaction<'_>,
    new: &NewDeployment<'_>,
    now_ms: i64,
) -> rusqlite::Result<DeploymentId> {
    tx.execute(
        "INSERT INTO deployments (sync, stack, commit_id, from_commit, changes, started_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            new.sync.0,
            new.stack.as_str(),
            new.to.map(CommitId::as_str),
            new.from.map(CommitId::as_str),
            encode(&new.changes)?,
            now_ms
        ],
    )?;
    Ok(DeploymentId(tx.last_insert_rowid()))
}

impl Store {
    /// Begins a sync.
    pub fn begin_sync(&self, trigger: &str, now_ms: i64) -> Result<SyncId, StoreError> {
        self.write(|tx| {
            tx.execute("INSERT INTO syncs (trigger, started_ms) VALUES (?1, ?2)", params![trigger, now_ms])?;
            Ok(SyncId(tx.last_insert_rowid()))
        })
    }

    /// Notes which commit a sync is about, and what people want to know of it.
    pub fn set_sync_commit(&self, id: SyncId, commit: &CommitId, about: &About) -> Result<(), StoreError> {
        self.write(|tx| {
            // The newest word counts: a commit that was refused may have a known signer by now.
            tx.execute("INSERT OR REPLACE INTO commits VALUES (?1, ?2)", params![commit.as_str(), encode(about)?])?;
            tx.execute("UPDATE syncs SET commit_id = ?2 WHERE id = ?1", params![id.0, commit.as_str()]).map(drop)
        })
    }

    /// Whether a sync is under way.
    pub fn is_syncing(&self) -> Result<bool, StoreError> {
        self.read(|db| db.query_row("SELECT EXISTS (SELECT 1 FROM syncs WHERE ended_ms IS NULL)", [], |r| r.get(0)))
    }

    /// When a sync last left the server as the newest commit wants it, in milliseconds since 1970.
    pub fn last_success(&self) -> Result<Option<i64>, StoreError> {
        let sql = "SELECT max(ended_ms) FROM syncs WHERE outcome IN ('unchanged', 'committed')";
        self.read(|db| db.query_row(sql, [], |r| r.get(0)))
    }

    /// When a deployment that took a snapshot last ended, in milliseconds since 1970.
    pub fn last_snapshot(&self) -> Result<Option<i64>, StoreError> {
        let sql = "SELECT max(ended_ms) FROM deployments WHERE snapshot IS NOT NULL";
        self.read(|db| db.query_row(sql, [], |r| r.get(0)))
    }

    /// What is known of a commit.
    pub fn about(&self, commit: &str) -> Result<Option<About>, StoreError> {
        let about: Option<String> =
            self.read(|db| db.query_row("SELECT about FROM commits WHERE id = ?1", [commit], |r| r.get(0)).optional())?;
        about.map(|a| self.decode("commit", &a)).transpose()
    }

    /// Ends a sync, unless one of its deployments is to be taken up again: then it ends with that. A sync that found
    /// nothing to do replaces the one before it if that found nothing to do either
    /// with the same commit, so that polling does not bury history.
    pub fn end_sync(
        &self,
        id: SyncId,
        outcome: Outcome,
        reason: Option<&Reason>,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        self.write(|tx| {
            let reason = reason.map(encode).transpose()?;
            tx.execute(
                "UPDATE syncs SET ended_ms = ?2, outcome = ?3, reason = ?4 WHERE id = ?1
                 AND NOT EXISTS (SELECT 1 FROM deployments d WHERE d.sync = ?1 AND d.ended_ms IS NULL)",
                params![id.0, now_ms, outcome.as_str(), reason],
            )?;
            tx.execute(
                "DELETE FROM syncs WHERE id = (SELECT max(id) FROM syncs WHERE id < ?1)
                 AND NOT EXISTS (SELECT 1 FROM deployments d WHERE d.sync IN (syncs.id, ?1))
                 AND (commit_id, outcome, reason) IS (SELECT commit_id, outcome, reason FROM syncs WHERE id = ?1)",
                [id.0],
            )
            .map(drop)
        })
    }

    /// Records a stack's part in a sync that never became a deployment.
    pub fn record_end(&self, end: &DeploymentEnd<'_>, now_ms: i64) -> Result<(), StoreError> {
        self.write(|tx| {
            let id = insert_deployment(tx, &end.new, now_ms)?;
            tx.execute(
                "UPDATE deployments SET ended_ms = ?2, outcome = ?3, reason = ?4 WHERE id = ?1",
                params![id.0, now_ms, end.outcome.as_str(), end.reason.map(encode).transpose()?],
            )?;
            outbox::enqueue(tx, &end.messages, now_ms)
        })
    }

    /// How this stack last ended, if it ever did.
    pub fn last_end(&self, stack: &StackName) -> Result<Option<StackLast>, StoreError> {
        let row: Option<(String, Option<String>, i64, Option<String>)> = self.read(|db| {
            db.prepare(
                "SELECT outcome, reason, ended_ms, commit_id FROM deployments
                 WHERE stack = ?1 AND ended_ms IS NOT NULL ORDER BY id DESC LIMIT 1",
            )?
            .query_row([stack.as_str()], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)))
            .optional()
        })?;
        row.map(|(outcome, reason, at, commit)| {
            Ok(StackLast {
                outcome: self.decode("outcome", &format!("{outcome:?}"))?,
                reason: reason.map(|r| self.decode("reason", &r)).transpose()?,
                commit,
                at: instant(at),
            })
        })
        .transpose()
    }

    /// Every stack that ever had a part in a sync, sorted.
    pub fn stacks_seen(&self) -> Result<Vec<StackName>, StoreError> {
        let names: Vec<String> = self.read(|db| {
            db.prepare("SELECT DISTINCT stack FROM deployments ORDER BY stack")?.query_map([], |r| r.get(0))?.collect()
        })?;
        Ok(names.iter().filter_map(|name| StackName::new(name).ok()).collect())
    }

    /// When a stack's current release was committed, in milliseconds since 1970.
    pub fn committed_at(&self, stack: &StackName) -> Result<Option<i64>, StoreError> {
        self.read(|db| {
            db.query_row(
                "SELECT max(ended_ms) FROM deployments WHERE stack = ?1 AND outcome = 'committed'",
                [stack.as_str()],
                |r| r.get(0),
            )
        })
    }

    /// The last syncs, newest first, each with its deployments.
    pub fn history(&self, limit: usize) -> Result<Vec<SyncRecord>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let syncs: Vec<RawSync> = self.read(|db| {
            db.prepare(
                "SELECT id, commit_id, trigger, started_ms, ended_ms, outcome, reason FROM syncs ORDER BY id DESC LIMIT ?1",
            )?
            .query_map([limit], RawSync::read)?
            .collect()
        })?;
        syncs.into_iter().map(|raw| self.sync_record(raw)).collect()
    }

    fn sync_record(&self, raw: RawSync) -> Result<SyncRecord, StoreError> {
        Ok(SyncRecord {
            id: SyncId(raw.id),
            about: raw.commit.as_deref().map(|commit| self.about(commit)).transpose()?.flatten(),
            commit: raw.commit,
            trigger: raw.trigger,
            stated: self.stated(SyncId(raw.id))?,
            started: instant(raw.started),
            ended: raw.ended.map(instant),
            outcome: raw.outcome.map(|o| self.decode("outcome", &format!("{o:?}"))).transpose()?,
            reason: raw.reason.map(|r| self.decode("reason", &r)).transpose()?,
            deployments: self.deployments_of(SyncId(raw.id))?,
        })
    }

    fn deployments_of(&self, sync: SyncId) -> Result<Vec<DeploymentRecord>, StoreError> {
        let rows: Vec<RawDeployment> = self.read(|db| {
            db.prepare(
                "SELECT id, stack, from_commit, commit_id, outcome, reason, started_ms, ended_ms, snapshot, changes
                 FROM deployments WHERE sync = ?1 ORDER BY id",
            )?
            .query_map([sync.0], RawDeployment::read)?
            .collect()
        })?;
        rows.into_iter()
            .map(|raw| {
                Ok(DeploymentRecord {
                    id: DeploymentId(raw.id),
                    stack: raw.stack,
                    from: raw.from,
                    to: raw.to,
                    outcome: raw.outcome.map(|o| self.decode("outcome", &format!("{o:?}"))).transpose()?,
                    reason: raw.reason.map(|r| self.decode("reason", &r)).transpose()?,
                    started: instant(raw.started),
                    ended: raw.ended.map(instant),
                    snapshot: raw.snapshot,
                    changes: raw.changes.map(|c| self.decode("changes", &c)).transpose()?.unwrap_or_default(),
                    steps: self.steps(DeploymentId(raw.id))?,
                })
            })
            .collect()
    }

    fn steps(&self, id: DeploymentId) -> Result<Vec<Step>, StoreError> {
        let events = self.journal(id)?;
        Ok(events
            .into_iter()
            .map(|(at, event)| Step { at: instant(at), event: event.name().to_owned(), detail: event.detail() })
            .collect())
    }
}

struct RawSync {
    id: i64,
    commit: Option<String>,
    trigger: String,
    started: i64,
    ended: Option<i64>,
    outcome: Option<String>,
    reason: Option<String>,
}

impl RawSync {
    fn read(r: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: r.get(0)?,
            commit: r.get(1)?,
            trigger: r.get(2)?,
            started: r.get(3)?,
            ended: r.get(4)?,
            outcome: r.get(5)?,
            reason: r.get(6)?,
        })
    }
}

struct RawDeployment {
    id: i64,
    stack: String,
    from: Option<String>,
    to: Option<String>,
    outcome: Option<String>,
    reason: Option<String>,
    started: i64,
    ended: Option<i64>,
    snapshot: Option<String>,
    changes: Option<String>,
}

impl RawDeployment {
    fn read(r: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: r.get(0)?,
            stack: r.get(1)?,
            from: r.get(2)?,
            to: r.get(3)?,
            outcome: r.get(4)?,
            reason: r.get(5)?,
            started: r.get(6)?,
            ended: r.get(7)?,
            snapshot: r.get(8)?,
            changes: r.get(9)?,
        })
    }
}

/// Milliseconds since 1970 as RFC 3339 text in UTC.
pub fn instant(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |t| t.to_string())
}
