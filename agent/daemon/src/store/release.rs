//! Releases, their file contents, the pointer to the current one, and what is kept out.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_core::{
    answer::KeptRelease,
    id::{DeploymentId, Digest, ReleaseId},
    journal::{Event, Progress, Seen},
    outcome::Outcome,
    reason::Reason,
    release::Release,
};
use evenkeel_layout::name::StackName;
use rusqlite::{OptionalExtension, Transaction, params};

use super::{KeptOut, Outgoing, Store, StoreError, encode, instant, journal, kept_out, outbox};

/// What the end of a deployment does to the pointer to the current release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReleaseMove {
    /// The candidate becomes the current release.
    Forward(ReleaseId),
    /// The current release stays, and is known to be good.
    Same(ReleaseId),
    /// The stack has no release any more.
    Gone,
    /// Everything stays; a candidate that was stored failed.
    Stay(Option<ReleaseId>),
}

/// The end of a deployment: all of it is written, or nothing.
pub struct Conclusion<'a> {
    /// The deployment.
    pub deployment: DeploymentId,
    /// Its stack.
    pub stack: &'a StackName,
    /// Its last event.
    pub event: &'a Event,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it ended so, if not well.
    pub reason: Option<&'a Reason>,
    /// The snapshot that was taken.
    pub snapshot: Option<&'a str>,
    /// What happens to the pointer.
    pub release: ReleaseMove,
    /// A candidate that is kept out from now on.
    pub keep_out: Option<KeptOut>,
    /// What the gate saw when it let the candidate pass.
    pub evidence: &'a [Seen],
    /// What is told.
    pub messages: Vec<Outgoing>,
}

/// The candidate of a deployment that goes back.
fn turned_back(progress: &Progress) -> Option<ReleaseId> {
    progress.to().filter(|to| progress.failure().is_some() && Some(*to) != progress.from())
}

impl Store {
    /// Stores a candidate and the contents of its files, and appends `event` made from its number.
    pub fn stage(
        &self,
        deployment: DeploymentId,
        release: &Release,
        contents: &BTreeMap<Digest, Vec<u8>>,
        now_ms: i64,
    ) -> Result<(ReleaseId, Event), StoreError> {
        self.write(|tx| {
            tx.execute(
                "INSERT INTO releases (stack, state, created_ms, body) VALUES (?1, 'candidate', ?2, ?3)",
                params![release.stack.as_str(), now_ms, encode(release)?],
            )?;
            let id = ReleaseId(tx.last_insert_rowid());
            for digest in release.files.values().map(|f| &f.digest) {
                if let Some(content) = contents.get(digest) {
                    tx.execute("INSERT OR IGNORE INTO blobs VALUES (?1, ?2)", params![digest.as_str(), content])?;
                }
                tx.execute("INSERT OR IGNORE INTO release_blobs VALUES (?1, ?2)", params![id.0, digest.as_str()])?;
            }
            let event = Event::Staged { to: Some(id) };
            journal::append(tx, deployment, &event, now_ms)?;
            Ok((id, event))
        })
    }

    /// Writes what was learned of a release since it was stored: the snapshot that was taken before it replaces its
    /// predecessor, or what its stack says now of windows and drift.
    pub fn amend(&self, release: &Release) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.execute("UPDATE releases SET body = ?2 WHERE id = ?1", params![release.id.0, encode(release)?]).map(drop)
        })
    }

    /// Ends a deployment: last event, outcome, pointer, quarantine and messages in one transaction.
    pub fn conclude(&self, end: &Conclusion<'_>, now_ms: i64) -> Result<(), StoreError> {
        self.write(|tx| {
            journal::append(tx, end.deployment, end.event, now_ms)?;
            tx.execute(
                "UPDATE deployments SET ended_ms = ?2, outcome = ?3, reason = ?4, snapshot = ?5 WHERE id = ?1",
                params![
                    end.deployment.0,
                    now_ms,
                    end.outcome.as_str(),
                    end.reason.map(encode).transpose()?,
                    end.snapshot
                ],
            )?;
            move_release(tx, end, now_ms)?;
            if let Some(kept_out) = &end.keep_out {
                kept_out::insert(tx, end.stack, kept_out, now_ms)?;
            }
            outbox::enqueue(tx, &end.messages, now_ms)
        })
    }

    /// The release with this number.
    pub fn release(&self, id: ReleaseId) -> Result<Option<Release>, StoreError> {
        let body: Option<String> =
            self.read(|db| db.query_row("SELECT body FROM releases WHERE id = ?1", [id.0], |r| r.get(0)).optional())?;
        body.map(|b| self.decode_release(id, &b)).transpose()
    }

    /// The current release of every stack.
    pub fn current_releases(&self) -> Result<BTreeMap<StackName, Release>, StoreError> {
        let rows: Vec<(i64, String)> = self.read(|db| {
            db.prepare("SELECT id, body FROM releases WHERE state = 'current'")?
                .query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?
                .collect()
        })?;
        rows.into_iter()
            .map(|(id, body)| self.decode_release(ReleaseId(id), &body).map(|r| (r.stack.clone(), r)))
            .collect()
    }

    /// The releases of other stacks that run or are on trial. One that is on its way back is on trial no more.
    pub fn releases_beside(&self, stack: &StackName) -> Result<Vec<Release>, StoreError> {
        let rows: Vec<(i64, String)> = self.read(|db| {
            db.prepare("SELECT id, body FROM releases WHERE stack <> ?1 AND state IN ('current', 'candidate')")?
                .query_map([stack.as_str()], |r| Ok((r.get(0)?, r.get(1)?)))?
                .collect()
        })?;
        let turned: BTreeSet<ReleaseId> =
            self.unfinished()?.iter().filter_map(|one| turned_back(&one.progress)).collect();
        let of_others = rows.into_iter().map(|(id, body)| (ReleaseId(id), body)).filter(|(id, _)| !turned.contains(id));
        of_others.map(|(id, body)| self.decode_release(id, &body)).collect()
    }

    /// Gives a stack another name, with its releases, its past and what people said of it.
    pub fn rename(&self, old: &StackName, new: &StackName) -> Result<(), StoreError> {
        let releases = self.kept(old)?;
        self.write(|tx| {
            for mut release in releases {
                // The tags of its images keep the name that they were made with.
                release.kept_as.get_or_insert_with(|| old.clone());
                release.stack = new.clone();
                let row = params![release.id.0, new.as_str(), encode(&release)?];
                tx.execute("UPDATE releases SET stack = ?2, body = ?3 WHERE id = ?1", row)?;
            }
            for table in ["deployments", "kept_out", "suspensions", "drift"] {
                let sql = format!("UPDATE OR REPLACE {table} SET stack = ?2 WHERE stack = ?1");
                tx.execute(&sql, [old.as_str(), new.as_str()])?;
            }
            Ok(())
        })
    }

    /// The snapshots that releases name which somebody may still go back to, and those that the report of a way back names:
    /// until its stack has a later release, they are what brings its data back.
    pub fn named_snapshots(&self) -> Result<BTreeSet<String>, StoreError> {
        self.read(|db| {
            db.prepare(
                "SELECT DISTINCT body ->> 'snapshot' FROM releases
                 WHERE state IN ('candidate', 'current', 'former') AND body ->> 'snapshot' IS NOT NULL
                 UNION SELECT snapshot FROM deployments AS d
                 WHERE outcome IN ('rolled_back', 'halted') AND snapshot IS NOT NULL AND NOT EXISTS (
                     SELECT 1 FROM releases AS r WHERE r.stack = d.stack AND r.state = 'current' AND r.id > coalesce(
                         (SELECT event ->> 'from' FROM journal WHERE deployment = d.id ORDER BY seq LIMIT 1), 0))",
            )?
            .query_map([], |r| r.get(0))?
            .collect()
        })
    }

    /// The content of a file that a release has.
    pub fn blob(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|db| {
            db.query_row("SELECT content FROM blobs WHERE digest = ?1", [digest.as_str()], |r| r.get(0)).optional()
        })
    }

    /// The stacks that have releases to which nobody goes back: failed ones, or more than `keep` former ones.
    pub fn stacks_with_past(&self, keep: usize) -> Result<Vec<StackName>, StoreError> {
        let keep = i64::try_from(keep).unwrap_or(i64::MAX);
        let names: Vec<String> = self.read(|db| {
            db.prepare(
                "SELECT stack FROM releases GROUP BY stack HAVING count(*) FILTER (WHERE state = 'failed') > 0
                 OR count(*) FILTER (WHERE state = 'former') > ?1",
            )?
            .query_map([keep], |r| r.get(0))?
            .collect()
        })?;
        Ok(names.iter().filter_map(|name| StackName::new(name).ok()).collect())
    }

    /// The failed releases of a stack, and the former ones beyond `keep`: nobody goes back to them.
    pub fn past_releases(&self, stack: &StackName, keep: usize) -> Result<Vec<Release>, StoreError> {
        let keep = i64::try_from(keep).unwrap_or(i64::MAX);
        let rows: Vec<(i64, String)> = self.read(|db| {
            db.prepare(
                "SELECT id, body FROM releases WHERE stack = ?1 AND state IN ('former', 'failed') AND id NOT IN (
                     SELECT id FROM releases WHERE stack = ?1 AND state = 'former' ORDER BY id DESC LIMIT ?2)",
            )?
            .query_map(params![stack.as_str(), keep], |r| Ok((r.get(0)?, r.get(1)?)))?
            .collect()
        })?;
        rows.iter().map(|(id, body)| self.decode_release(ReleaseId(*id), body)).collect()
    }

    /// Lets releases go, with the contents that only they had.
    pub fn forget_releases(&self, releases: &[ReleaseId]) -> Result<(), StoreError> {
        if releases.is_empty() {
            return Ok(());
        }
        self.write(|tx| {
            for id in releases {
                tx.execute("DELETE FROM releases WHERE id = ?1 AND state IN ('former', 'failed')", [id.0])?;
            }
            tx.execute("DELETE FROM blobs WHERE digest NOT IN (SELECT digest FROM release_blobs)", []).map(drop)
        })
    }

    /// The releases of a stack that a person may have back, and the current one; newest first.
    pub fn kept(&self, stack: &StackName) -> Result<Vec<Release>, StoreError> {
        let rows: Vec<(i64, String)> = self.read(|db| {
            db.prepare(
                "SELECT id, body FROM releases WHERE stack = ?1 AND state IN ('current', 'former') ORDER BY id DESC",
            )?
            .query_map([stack.as_str()], |r| Ok((r.get(0)?, r.get(1)?)))?
            .collect()
        })?;
        rows.into_iter().map(|(id, body)| self.decode_release(ReleaseId(id), &body)).collect()
    }

    /// The kept releases as they are told, of one stack or of all: sorted by stack, newest first.
    pub fn kept_releases(&self, stack: Option<&StackName>) -> Result<Vec<KeptRelease>, StoreError> {
        type Row = (i64, String, i64, Option<String>, String);
        let rows: Vec<Row> = self.read(|db| {
            db.prepare(
                "SELECT id, state, coalesce(committed_ms, created_ms), evidence, body FROM releases
                 WHERE state IN ('current', 'former') AND (?1 IS NULL OR stack = ?1) ORDER BY stack, id DESC",
            )?
            .query_map([stack.map(StackName::as_str)], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?)))?
            .collect()
        })?;
        rows.into_iter()
            .map(|(id, state, at_ms, evidence, body)| {
                let release = self.decode_release(ReleaseId(id), &body)?;
                let about = self.about(release.commit.as_str())?;
                Ok(KeptRelease {
                    id: release.id,
                    stack: release.stack.to_string(),
                    current: state == "current",
                    commit: release.commit.to_string(),
                    subject: about.map(|about| about.subject).filter(|subject| !subject.is_empty()),
                    digest: self.shown_digest(&release.digest)?,
                    at: instant(at_ms),
                    again: release.again,
                    images: release.images,
                    snapshot: release.snapshot,
                    evidence: evidence.map(|e| self.decode("evidence", &e)).transpose()?.unwrap_or_default(),
                })
            })
            .collect()
    }

    fn decode_release(&self, id: ReleaseId, body: &str) -> Result<Release, StoreError> {
        let mut release: Release = self.decode(&format!("release {id}"), body)?;
        release.id = id;
        Ok(release)
    }
}

fn move_release(tx: &Transaction<'_>, end: &Conclusion<'_>, now_ms: i64) -> rusqlite::Result<()> {
    let retire = |tx: &Transaction<'_>| {
        tx.execute("UPDATE releases SET state = 'former' WHERE stack = ?1 AND state = 'current'", [end.stack.as_str()])
    };
    match end.release {
        ReleaseMove::Forward(id) => {
            retire(tx)?;
            let evidence = encode(&end.evidence)?;
            tx.execute(
                "UPDATE releases SET state = 'current', committed_ms = ?2, evidence = ?3 WHERE id = ?1",
                params![id.0, now_ms, evidence],
            )?;
            kept_out::forward(tx, end.stack, Some(id))
        }
        ReleaseMove::Same(id) => kept_out::known_good(tx, end.stack, id),
        ReleaseMove::Gone => {
            retire(tx)?;
            kept_out::forward(tx, end.stack, None)
        }
        ReleaseMove::Stay(Some(id)) => {
            tx.execute("UPDATE releases SET state = 'failed' WHERE id = ?1", [id.0]).map(drop)
        }
        ReleaseMove::Stay(None) => Ok(()),
    }
}
