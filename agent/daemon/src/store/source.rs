//! The source: the accepted commit, the tip as last seen, and a refusal.

use evenkeel_core::{
    id::{CommitId, Digest},
    outcome::Outcome,
    reason::Reason,
};
use rusqlite::{OptionalExtension, Transaction, params};
use serde::{Deserialize, Serialize};

use super::{Outgoing, Store, StoreError, encode, outbox};

/// A tip that trust refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedTip {
    /// The tip.
    pub tip: String,
    /// The commit that broke the rule.
    pub commit: String,
    /// The rule's code, `E-…`.
    pub code: String,
    /// What happened and what to do.
    pub message: String,
}

/// The source as last seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceState {
    /// The tip of the tracked ref.
    pub tip: Option<CommitId>,
    /// When the repository last answered, in milliseconds since 1970.
    pub contact_ms: Option<i64>,
    /// Why the tip may not run.
    pub refused: Option<RefusedTip>,
}

/// Makes a commit the accepted one. `false`, and nothing is changed, if that is not `from` any more.
pub(super) fn move_accepted(
    tx: &Transaction<'_>,
    from: Option<&CommitId>,
    (commit, payload): (&CommitId, &Digest),
    now_ms: i64,
) -> rusqlite::Result<bool> {
    let known: Option<String> = tx.query_row("SELECT commit_id FROM accepted", [], |r| r.get(0)).optional()?;
    if known.as_deref() != from.map(CommitId::as_str) {
        return Ok(false);
    }
    tx.execute(
        "INSERT INTO accepted VALUES (1, ?1, ?2, ?3)
         ON CONFLICT (id) DO UPDATE SET commit_id = ?1, payload = ?2, at_ms = ?3",
        params![commit.as_str(), payload.as_str(), now_ms],
    )?;
    Ok(true)
}

impl Store {
    /// The last commit that trust accepted, with the digest of its signed payload.
    pub fn accepted(&self) -> Result<Option<(CommitId, Digest)>, StoreError> {
        let row: Option<(String, String)> = self.read(|db| {
            db.query_row("SELECT commit_id, payload FROM accepted", [], |r| Ok((r.get(0)?, r.get(1)?))).optional()
        })?;
        let damaged = || StoreError::Damaged { path: self.path.display().to_string(), what: "accepted".to_owned() };
        row.map(|(commit, payload)| {
            Ok((CommitId::new(&commit).map_err(|_| damaged())?, Digest::new(&payload).map_err(|_| damaged())?))
        })
        .transpose()
    }

    /// Makes `commit` the accepted one and clears a refusal. Durable when it returns, whatever deployments then do.
    /// `false`, and nothing is changed, if the accepted commit is not `from` any more: a person accepted another one.
    pub fn accept(
        &self,
        from: Option<&CommitId>,
        (commit, payload): (&CommitId, &Digest),
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        self.write(|tx| {
            if !move_accepted(tx, from, (commit, payload), now_ms)? {
                return Ok(false);
            }
            tx.execute("UPDATE source SET refused = NULL", [])?;
            Ok(true)
        })
    }

    /// Notes that the repository answered with this tip. `messages` tell of the end of a silence.
    pub fn contact(&self, tip: &CommitId, messages: &[Outgoing], now_ms: i64) -> Result<(), StoreError> {
        self.write(|tx| {
            outbox::enqueue(tx, messages, now_ms)?;
            tx.execute(
                "INSERT INTO source VALUES (1, ?1, ?2, NULL) ON CONFLICT (id) DO UPDATE SET tip = ?1, contact_ms = ?2",
                params![tip.as_str(), now_ms],
            )
            .map(drop)
        })
    }

    /// Since when the repository has not answered, in milliseconds since 1970: since it last did, or else since it was
    /// asked for the first time. `None` if it never was.
    pub fn silent_since(&self) -> Result<Option<i64>, StoreError> {
        let sql = "SELECT coalesce((SELECT contact_ms FROM source), (SELECT min(started_ms) FROM syncs))";
        self.read(|db| db.query_row(sql, [], |r| r.get(0)))
    }

    /// Whether the alarm was raised since the repository last answered.
    pub fn silence_was_told(&self) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM syncs WHERE trigger = 'stale'
                   AND started_ms >= coalesce((SELECT contact_ms FROM source), 0))";
        self.read(|db| db.query_row(sql, [], |r| r.get(0)))
    }

    /// Raises the alarm: a line in the history, and what is told.
    pub fn tell_silence(&self, reason: &Reason, messages: &[Outgoing], now_ms: i64) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.execute(
                "INSERT INTO syncs (trigger, started_ms, ended_ms, outcome, reason)
                 VALUES ('stale', ?1, ?1, ?2, ?3)",
                params![now_ms, Outcome::Aborted.as_str(), encode(reason)?],
            )?;
            outbox::enqueue(tx, messages, now_ms)
        })
    }

    /// Notes that trust refused the tip. Gives whether this refusal is new, and so worth telling.
    pub fn refuse(&self, refused: &RefusedTip) -> Result<bool, StoreError> {
        let known = self.source_state()?.refused;
        let is_new = known.is_none_or(|known| (known.tip, known.code) != (refused.tip.clone(), refused.code.clone()));
        self.write(|tx| tx.execute("UPDATE source SET refused = ?1", [encode(refused)?]).map(drop))?;
        Ok(is_new)
    }

    /// The source as last seen.
    pub fn source_state(&self) -> Result<SourceState, StoreError> {
        type Row = (Option<String>, Option<i64>, Option<String>);
        let row: Option<Row> = self.read(|db| {
            db.query_row("SELECT tip, contact_ms, refused FROM source", [], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
                .optional()
        })?;
        let Some((tip, contact_ms, refused)) = row else { return Ok(SourceState::default()) };
        Ok(SourceState {
            tip: tip.and_then(|t| CommitId::new(&t).ok()),
            contact_ms,
            refused: refused.map(|r| self.decode("refusal", &r)).transpose()?,
        })
    }
}
