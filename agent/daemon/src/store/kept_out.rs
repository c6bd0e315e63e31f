//! What is kept out: candidates that failed, and those that a person does not want.

use evenkeel_core::{
    id::{CommitId, Digest, ReleaseId},
    people::Hold,
    reason::Reason,
};
use evenkeel_layout::name::StackName;
use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::{Store, StoreError, encode, instant};

/// Why a candidate is kept out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// It failed, and the last good release runs again.
    Failed,
    /// It failed, and so did the way back: nobody knows what runs.
    Halted,
    /// A person chose another release.
    Held,
    /// It was halted, and a person took what runs as good.
    Accepted,
}

impl Keep {
    fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Halted => "halted",
            Self::Held => "held",
            Self::Accepted => "accepted",
        }
    }

    fn of(text: &str) -> Option<Self> {
        [Self::Failed, Self::Halted, Self::Held, Self::Accepted].into_iter().find(|keep| keep.as_str() == text)
    }
}

/// A candidate that is kept out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptOut {
    /// Its digest.
    pub digest: Digest,
    /// The commit it first came from.
    pub commit: CommitId,
    /// Why.
    pub keep: Keep,
    /// The commit that was accepted when a person chose another release: what it wants of the stack is kept out, too.
    pub tip: Option<CommitId>,
    /// Why, for people.
    pub reason: Reason,
}

const COLUMNS: &str = "digest, commit_id, kind, tip, reason";

pub(super) fn insert(tx: &Transaction<'_>, stack: &StackName, out: &KeptOut, now_ms: i64) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT OR REPLACE INTO kept_out (stack, digest, commit_id, kind, tip, reason, at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            stack.as_str(),
            out.digest.as_str(),
            out.commit.as_str(),
            out.keep.as_str(),
            out.tip.as_ref().map(CommitId::as_str),
            encode(&out.reason)?,
            now_ms
        ],
    )
    .map(drop)
}

/// A stack got a new release, or none: what a person had chosen before is over, and so is not to know what runs. What is
/// good now is not kept out.
pub(super) fn forward(tx: &Transaction<'_>, stack: &StackName, to: Option<ReleaseId>) -> rusqlite::Result<()> {
    tx.execute(
        "DELETE FROM kept_out WHERE stack = ?1 AND (kind <> 'failed'
             OR digest = (SELECT body ->> 'digest' FROM releases WHERE id = ?2))",
        params![stack.as_str(), to.map(|id| id.0)],
    )
    .map(drop)
}

/// The release that a stack has runs well: it is not halted any more. What failed before it stays out.
pub(super) fn known_good(tx: &Transaction<'_>, stack: &StackName, release: ReleaseId) -> rusqlite::Result<()> {
    tx.execute(
        "DELETE FROM kept_out WHERE stack = ?1 AND digest = (SELECT body ->> 'digest' FROM releases WHERE id = ?2)",
        params![stack.as_str(), release.0],
    )?;
    tx.execute(
        "UPDATE kept_out SET kind = iif(kind = 'halted', 'failed', 'held') WHERE stack = ?1 AND kind IN ('halted', 'accepted')",
        [stack.as_str()],
    )
    .map(drop)
}

type Raw = (String, String, String, Option<String>, String);

fn raw(r: &Row<'_>) -> rusqlite::Result<Raw> {
    Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?))
}

impl Store {
    /// Whether this very candidate is kept out.
    pub fn kept_out(&self, stack: &StackName, digest: &Digest) -> Result<Option<KeptOut>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM kept_out WHERE stack = ?1 AND digest = ?2 AND NOT lifted");
        let row = self.read(|db| db.query_row(&sql, [stack.as_str(), digest.as_str()], raw).optional())?;
        row.map(|row| self.decode_kept_out(stack, row)).transpose()
    }

    /// What a person's choice keeps out of what `commit` wants of a stack, whatever its digest.
    pub fn held_at(&self, stack: &StackName, commit: &CommitId) -> Result<Option<KeptOut>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM kept_out WHERE stack = ?1 AND tip = ?2 AND NOT lifted ORDER BY at_ms LIMIT 1"
        );
        let row = self.read(|db| db.query_row(&sql, [stack.as_str(), commit.as_str()], raw).optional())?;
        row.map(|row| self.decode_kept_out(stack, row)).transpose()
    }

    /// Keeps a candidate out.
    pub fn keep_out(&self, stack: &StackName, out: &KeptOut, now_ms: i64) -> Result<(), StoreError> {
        self.write(|tx| insert(tx, stack, out, now_ms))
    }

    /// Everything that is kept out of a stack, also what a person wants tried once more; newest first.
    pub fn all_kept_out(&self, stack: &StackName) -> Result<Vec<KeptOut>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM kept_out WHERE stack = ?1 ORDER BY at_ms DESC, digest");
        let rows: Vec<Raw> = self.read(|db| db.prepare(&sql)?.query_map([stack.as_str()], raw)?.collect())?;
        rows.into_iter().map(|row| self.decode_kept_out(stack, row)).collect()
    }

    /// The release that a person chose for a stack, if it still stays there for that reason.
    pub fn hold(&self, stack: &StackName) -> Result<Option<Hold>, StoreError> {
        let row: Option<(String, i64)> = self.read(|db| {
            let sql =
                "SELECT reason, at_ms FROM kept_out WHERE stack = ?1 AND kind IN ('held', 'accepted') AND NOT lifted
                       ORDER BY at_ms LIMIT 1";
            db.query_row(sql, [stack.as_str()], |r| Ok((r.get(0)?, r.get(1)?))).optional()
        })?;
        row.map(|(reason, at_ms)| {
            let reason: Reason = self.decode("hold", &reason)?;
            Ok(Hold { since: instant(at_ms), reason: reason.message })
        })
        .transpose()
    }

    /// The repository wants what runs: what a person had chosen is over. What runs may still be in doubt.
    pub fn end_hold(&self, stack: &StackName) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.execute("DELETE FROM kept_out WHERE stack = ?1 AND kind = 'held'", [stack.as_str()])?;
            tx.execute("UPDATE kept_out SET lifted = 1 WHERE stack = ?1 AND kind = 'accepted'", [stack.as_str()])
                .map(drop)
        })
    }

    /// The stacks whose rollback failed, and that nobody has put right since: they are made anew.
    pub fn halted(&self) -> Result<Vec<StackName>, StoreError> {
        self.stacks_kept("SELECT DISTINCT stack FROM kept_out WHERE kind = 'halted' ORDER BY stack")
    }

    /// The stacks of which nobody knows what their containers were made from: the next deployment makes all anew.
    pub fn doubtful(&self) -> Result<Vec<StackName>, StoreError> {
        self.stacks_kept("SELECT DISTINCT stack FROM kept_out WHERE kind IN ('halted', 'accepted') ORDER BY stack")
    }

    fn stacks_kept(&self, sql: &str) -> Result<Vec<StackName>, StoreError> {
        let names: Vec<String> = self.read(|db| db.prepare(sql)?.query_map([], |r| r.get(0))?.collect())?;
        Ok(names.iter().filter_map(|name| StackName::new(name).ok()).collect())
    }

    /// How many candidates are kept out.
    pub fn quarantine_size(&self) -> Result<i64, StoreError> {
        self.read(|db| db.query_row("SELECT count(*) FROM kept_out", [], |r| r.get(0)))
    }

    fn decode_kept_out(&self, stack: &StackName, row: Raw) -> Result<KeptOut, StoreError> {
        let (digest, commit, kind, tip, reason) = row;
        let damaged = || StoreError::Damaged {
            path: self.path.display().to_string(),
            what: format!("what is kept out of {stack}"),
        };
        Ok(KeptOut {
            digest: Digest::new(&digest).map_err(|_| damaged())?,
            commit: CommitId::new(&commit).map_err(|_| damaged())?,
            keep: Keep::of(&kind).ok_or_else(damaged)?,
            tip: tip.map(|tip| CommitId::new(&tip).map_err(|_| damaged())).transpose()?,
            reason: self.decode("quarantine", &reason)?,
        })
    }
}
