//! What people told the agent, what is suspended, and the plan that waits for a person.

use evenkeel_core::{
    id::{CommitId, SyncId},
    outcome::Outcome,
    people::{Guarded, Intervention, Person, Stated, Suspension, Told},
    reason::{Code, Reason},
    trust::Accepted,
};
use evenkeel_layout::name::StackName;
use rusqlite::{OptionalExtension, Transaction, params};

use super::{Keep, Outgoing, Store, StoreError, encode, instant, outbox, source::move_accepted};

/// Something that a person tells the agent.
#[derive(Debug, Clone, Copy)]
pub struct Words<'a> {
    /// What.
    pub told: Told,
    /// The stack; `None` for all.
    pub stack: Option<&'a str>,
    /// Who, and why.
    pub stated: &'a Stated,
    /// What exactly.
    pub detail: Option<&'a str>,
}

fn note(tx: &Transaction<'_>, words: Words<'_>, sync: Option<SyncId>, now_ms: i64) -> rusqlite::Result<()> {
    let Words { told, stack, stated, detail } = words;
    tx.execute(
        "INSERT INTO interventions (at_ms, told, stack, uid, name, reason, detail, sync)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![now_ms, told.as_str(), stack, stated.by.uid, stated.by.name, stated.reason, detail, sync.map(|s| s.0)],
    )
    .map(drop)
}

impl Store {
    /// Makes `new` the accepted commit because a person says so, with who and why, in one transaction. `false`, and nothing
    /// is changed, if the accepted commit is not `from` any more. A refusal stays until the next sync has judged the tip.
    pub fn accept_by_hand(
        &self,
        from: Option<&CommitId>,
        new: &Accepted,
        stated: &Stated,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let before = from.map_or("nothing", CommitId::short);
        let detail = format!("{} in place of {before}", new.commit.short());
        self.write(|tx| {
            if !move_accepted(tx, from, (&new.commit, &new.payload), now_ms)? {
                return Ok(false);
            }
            let words = Words { told: Told::TrustAccept, stack: None, stated, detail: Some(&detail) };
            note(tx, words, None, now_ms)?;
            Ok(true)
        })
    }

    /// Begins a sync that a person asked for, with who and why, in one transaction.
    pub fn begin_told_sync(&self, trigger: &str, words: Words<'_>, now_ms: i64) -> Result<SyncId, StoreError> {
        self.write(|tx| {
            tx.execute("INSERT INTO syncs (trigger, started_ms) VALUES (?1, ?2)", params![trigger, now_ms])?;
            let id = SyncId(tx.last_insert_rowid());
            note(tx, words, Some(id), now_ms)?;
            Ok(id)
        })
    }

    /// Who asked for a sync, and why.
    pub fn stated(&self, sync: SyncId) -> Result<Option<Stated>, StoreError> {
        self.read(|db| {
            db.query_row("SELECT uid, name, reason FROM interventions WHERE sync = ?1", [sync.0], |r| {
                Ok(Stated { by: Person { uid: r.get(0)?, name: r.get(1)? }, reason: r.get(2)? })
            })
            .optional()
        })
    }

    /// What people told since an instant, newest first.
    pub fn interventions(&self, since_ms: i64, limit: usize) -> Result<Vec<Intervention>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows: Vec<(Intervention, String)> = self.read(|db| {
            db.prepare(
                "SELECT id, at_ms, told, stack, uid, name, reason, detail, sync FROM interventions
                 WHERE at_ms >= ?1 ORDER BY id DESC LIMIT ?2",
            )?
            .query_map([since_ms, limit], |r| {
                let by = Person { uid: r.get(4)?, name: r.get(5)? };
                let found = Intervention {
                    id: r.get(0)?,
                    at: instant(r.get(1)?),
                    told: Told::Retry,
                    stack: r.get(3)?,
                    by,
                    reason: r.get(6)?,
                    detail: r.get(7)?,
                    sync: r.get(8)?,
                };
                Ok((found, r.get(2)?))
            })?
            .collect()
        })?;
        rows.into_iter()
            .map(|(found, told)| Ok(Intervention { told: self.decode("intervention", &format!("{told:?}"))?, ..found }))
            .collect()
    }

    /// Lets what is kept out of a stack, or of all, have one more try. Gives how much that is.
    pub fn retry(&self, words: Words<'_>, now_ms: i64) -> Result<usize, StoreError> {
        self.write(|tx| {
            note(tx, words, None, now_ms)?;
            // Of a halted stack it must stay known that nobody knows what runs.
            let lifted = tx.execute(
                "UPDATE kept_out SET lifted = 1 WHERE kind IN ('halted', 'accepted') AND NOT lifted
                 AND (?1 IS NULL OR stack = ?1)",
                [words.stack],
            )?;
            let gone = tx.execute(
                "DELETE FROM kept_out WHERE kind IN ('failed', 'held') AND (?1 IS NULL OR stack = ?1)",
                [words.stack],
            )?;
            Ok(lifted + gone)
        })
    }

    /// Takes what a stack runs as good: what failed stays out as a person's choice, and what `tip` wants with it.
    /// Written with a sync of its own, so that history and status say so at once. `false` if there is nothing to accept,
    /// or a deployment is under way.
    pub fn accept_running(&self, stack: &StackName, words: Words<'_>, now_ms: i64) -> Result<bool, StoreError> {
        let by = &words.stated.by.name;
        let message = format!(
            "{by} took what runs as good ({}); it stays so until the repository wants something else, or somebody says \
             `evenkeel retry {stack}`",
            words.stated.reason
        );
        let reason = Reason::new(Code::HeldByPerson, message);
        self.write(|tx| {
            let keep = |from: Keep, to: &str| {
                tx.execute(
                    "UPDATE kept_out SET kind = ?3, lifted = 0, reason = ?4, at_ms = ?5,
                         tip = (SELECT commit_id FROM accepted)
                     WHERE stack = ?1 AND kind = ?2
                     AND at_ms = (SELECT max(at_ms) FROM kept_out WHERE stack = ?1 AND kind = ?2) AND (SELECT 1 FROM releases WHERE stack = ?1 AND state = 'current')
                     AND NOT EXISTS (SELECT 1 FROM deployments WHERE stack = ?1 AND ended_ms IS NULL)",
                    params![stack.as_str(), keep_name(from), to, encode(&reason)?, now_ms],
                )
            };
            if keep(Keep::Failed, "held")? + keep(Keep::Halted, "accepted")? == 0 {
                return Ok(false);
            }
            tx.execute(
                "INSERT INTO syncs (commit_id, trigger, started_ms, ended_ms, outcome)
                 VALUES ((SELECT commit_id FROM accepted), 'accept', ?1, ?1, ?2)",
                params![now_ms, Outcome::Held.as_str()],
            )?;
            let sync = SyncId(tx.last_insert_rowid());
            tx.execute(
                "INSERT INTO deployments (sync, stack, commit_id, from_commit, started_ms, ended_ms, outcome, reason)
                 SELECT ?1, ?2, (SELECT commit_id FROM accepted), body ->> 'commit', ?3, ?3, ?4, ?5
                 FROM releases WHERE stack = ?2 AND state = 'current'",
                params![sync.0, stack.as_str(), now_ms, Outcome::Held.as_str(), encode(&reason)?],
            )?;
            note(tx, words, Some(sync), now_ms)?;
            Ok(true)
        })
    }

    /// Begins a suspension, in place of one that the stack has already.
    pub fn suspend(&self, words: Words<'_>, suspension: &Suspension, messages: &[Outgoing]) -> Result<(), StoreError> {
        self.write(|tx| {
            note(tx, words, None, suspension.since_ms)?;
            put_suspension(tx, suspension)?;
            outbox::enqueue(tx, messages, suspension.since_ms)
        })
    }

    /// Ends a suspension with what a person said, or because its time is over. `false` if there is none.
    pub fn end_suspension(
        &self,
        stack: Option<&str>,
        words: Option<Words<'_>>,
        messages: &[Outgoing],
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        self.write(|tx| {
            if tx.execute("DELETE FROM suspensions WHERE stack = ?1", [stack.unwrap_or_default()])? == 0 {
                return Ok(false);
            }
            if let Some(words) = words {
                note(tx, words, None, now_ms)?;
            }
            outbox::enqueue(tx, messages, now_ms)?;
            Ok(true)
        })
    }

    /// Every suspension; that of all stacks first, then by name.
    pub fn suspensions(&self) -> Result<Vec<Suspension>, StoreError> {
        type Row = (String, i64, i64, i64, String);
        let rows: Vec<Row> = self.read(|db| {
            db.prepare("SELECT stack, since_ms, until_ms, for_ms, stated FROM suspensions ORDER BY stack")?
                .query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?)))?
                .collect()
        })?;
        rows.into_iter()
            .map(|(stack, since_ms, until_ms, for_ms, stated)| {
                let stack = Some(stack).filter(|stack| !stack.is_empty());
                Ok(Suspension { stack, since_ms, until_ms, for_ms, stated: self.decode("suspension", &stated)? })
            })
            .collect()
    }

    /// Rewrites every suspension: the clock was set, or the agent has started.
    pub fn move_suspensions(&self, change: impl Fn(Suspension) -> Suspension) -> Result<(), StoreError> {
        let moved: Vec<Suspension> = self.suspensions()?.into_iter().map(change).collect();
        self.write(|tx| moved.iter().try_for_each(|suspension| put_suspension(tx, suspension)))
    }

    /// The plan that waits for a person, if one does.
    pub fn guarded(&self) -> Result<Option<Guarded>, StoreError> {
        type Row = (String, String, i64, Option<String>);
        let row: Option<Row> = self.read(|db| {
            db.query_row("SELECT plan, removes, since_ms, confirmed FROM guarded", [], |r| {
                Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?))
            })
            .optional()
        })?;
        row.map(|(plan, removes, since_ms, confirmed)| {
            Ok(Guarded {
                plan,
                removes: self.decode("guarded plan", &removes)?,
                since: instant(since_ms),
                confirmed: confirmed.map(|by| self.decode("confirm", &by)).transpose()?,
            })
        })
        .transpose()
    }

    /// Notes the plan that waits; another one replaces it with whatever was confirmed of it. `None`: none waits any more.
    pub fn guard(&self, plan: Option<(&str, &[String])>, now_ms: i64) -> Result<(), StoreError> {
        let known = self.guarded()?.map(|guarded| guarded.plan);
        if known.as_deref() == plan.map(|(plan, _)| plan) {
            return Ok(());
        }
        self.write(|tx| {
            tx.execute("DELETE FROM guarded", [])?;
            let Some((plan, removes)) = plan else { return Ok(()) };
            tx.execute("INSERT INTO guarded VALUES (1, ?1, ?2, ?3, NULL)", params![plan, encode(&removes)?, now_ms])
                .map(drop)
        })
    }

    /// Lets the plan that waits go ahead. `false` if it is not this one.
    pub fn confirm(&self, plan: &str, words: Words<'_>, now_ms: i64) -> Result<bool, StoreError> {
        self.write(|tx| {
            let by = encode(&words.stated.by)?;
            if tx.execute("UPDATE guarded SET confirmed = ?2 WHERE plan = ?1", params![plan, by])? == 0 {
                return Ok(false);
            }
            note(tx, words, None, now_ms)?;
            Ok(true)
        })
    }
}

fn keep_name(keep: Keep) -> &'static str {
    if keep == Keep::Halted { "halted" } else { "failed" }
}

fn put_suspension(tx: &Transaction<'_>, suspension: &Suspension) -> rusqlite::Result<()> {
    let Suspension { stack, since_ms, until_ms, for_ms, stated } = suspension;
    tx.execute(
        "INSERT OR REPLACE INTO suspensions VALUES (?1, ?2, ?3, ?4, ?5)",
        params![stack.as_deref().unwrap_or_default(), since_ms, until_ms, for_ms, encode(stated)?],
    )
    .map(drop)
}
