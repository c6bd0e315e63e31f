//! Keeping the backup repository: forgotten by the rule once a day, pruned and checked once a week, each told when it
//! fails and when it is well again. The time is an argument.

use evenkeel_core::{
    outcome::{BackupStatus, BackupTask, Outcome},
    reason::{Code, Reason},
};
use serde::{Deserialize, Serialize};

use super::{Host, messages::Happening};
use crate::{
    backup::{BackupError, Restic},
    config::settings::{Event, Settings},
    store::{Memory, Store, StoreError, instant},
};

const HOUR_MS: i64 = 3600 * 1000;
/// How often the rule is applied.
const FORGET_MS: i64 = 24 * HOUR_MS;
/// How often the repository is pruned and checked.
const CHECK_MS: i64 = 7 * 24 * HOUR_MS;
/// How soon what failed is tried again.
const AGAIN_MS: i64 = HOUR_MS;

/// What is done for the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Forget,
    Check,
}

impl Task {
    fn memory(self) -> Memory {
        match self {
            Self::Forget => Memory::BackupForgotten,
            Self::Check => Memory::BackupChecked,
        }
    }

    fn every_ms(self) -> i64 {
        match self {
            Self::Forget => FORGET_MS,
            Self::Check => CHECK_MS,
        }
    }
}

/// How a task last ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Last {
    at_ms: i64,
    error: Option<String>,
}

/// Whether a task is due. A clock that was set back must not put it off for years.
fn is_due(last: Option<&Last>, every_ms: i64, now_ms: i64) -> bool {
    let Some(last) = last else { return true };
    let pause = if last.error.is_some() { AGAIN_MS } else { every_ms };
    now_ms < last.at_ms || now_ms - last.at_ms >= pause
}

fn last(store: &Store, task: Task) -> Result<Option<Last>, StoreError> {
    let text = store.remembered(task.memory())?;
    // What an older version wrote is no reason to stand still: it is done once more.
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

/// What status and metrics say of backups; `None` if none are configured.
pub fn status(store: &Store, settings: &Settings) -> Result<Option<BackupStatus>, StoreError> {
    if settings.backup.is_none() {
        return Ok(None);
    }
    let kept = |task| -> Result<Option<BackupTask>, StoreError> {
        Ok(last(store, task)?.map(|last| BackupTask { at: instant(last.at_ms), error: last.error }))
    };
    let last_snapshot = store.last_snapshot()?.map(instant);
    Ok(Some(BackupStatus { last_snapshot, forgotten: kept(Task::Forget)?, checked: kept(Task::Check)? }))
}

impl Host {
    /// Does what is due for the backup repository, if a backup ever went there. Gives way to deployments.
    pub async fn keep_backups(&self, now_ms: i64) -> Result<(), StoreError> {
        let Some(restic) = self.restic.as_ref().filter(|_| !self.settings.observe) else { return Ok(()) };
        if self.store.remembered(Memory::BackupRepository)? != Some(restic.mark()) {
            return Ok(());
        }
        for task in [Task::Forget, Task::Check] {
            let has_rule = self.settings.backup.as_ref().is_some_and(|backup| backup.keep.is_some());
            let before = last(&self.store, task)?;
            if !is_due(before.as_ref(), task.every_ms(), now_ms) || (task == Task::Forget && !has_rule) {
                continue;
            }
            let tidy = async {
                // Cut short, it may have left its lock.
                if let Err(error) = restic.unlock().await {
                    tracing::warn!(%error, "cannot remove the lock of what gave way");
                }
            };
            match self.turns.when_free(self.carry_out(restic, task), tidy).await {
                None => return Ok(()), // a deployment comes first; it is still due
                Some(done) => self.note(task, before.as_ref(), done, now_ms)?,
            }
        }
        Ok(())
    }

    async fn carry_out(&self, restic: &Restic, task: Task) -> Result<(), Reason> {
        let failed = |e: BackupError| e.reason();
        let keep = self.settings.backup.as_ref().and_then(|backup| backup.keep);
        match (task, keep) {
            (Task::Forget, Some(keep)) => {
                let named = self.store.named_snapshots().map_err(|e| e.reason())?;
                let gone = restic.forget(keep, &named).await.map_err(failed)?;
                tracing::info!(gone, "forgot the snapshots that backup.keep does not keep");
            }
            (Task::Forget, None) => {}
            (Task::Check, keep) => {
                if keep.is_some() {
                    restic.prune().await.map_err(failed)?;
                }
                restic.check_repository().await.map_err(failed)?;
                tracing::info!("the backup repository is whole");
            }
        }
        Ok(())
    }

    /// Remembers how a task ended, and tells it if that is news.
    fn note(&self, task: Task, before: Option<&Last>, done: Result<(), Reason>, now_ms: i64) -> Result<(), StoreError> {
        let had_failed = before.is_some_and(|last| last.error.is_some());
        let reason = done.err().map(|reason| Reason::new(Code::BackupFailed, reason.message));
        let (event, outcome) = match &reason {
            Some(_) => (Event::Backup, Outcome::Aborted),
            None => (Event::Recovered, Outcome::Unchanged),
        };
        let messages = if had_failed == reason.is_some() {
            Vec::new()
        } else {
            self.tell(&Happening::of_the_whole(event, outcome, reason.as_ref()))
        };
        if let Some(reason) = &reason {
            tracing::warn!(code = %reason.code, "{reason}");
        }
        let last = Last { at_ms: now_ms, error: reason.map(|reason| reason.message) };
        // Plain data of ours always has a JSON form.
        let text = serde_json::to_string(&last).unwrap_or_default();
        self.store.remember_and_tell(task.memory(), &text, &messages, now_ms)?;
        self.outbox.notify_one();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_due_after_its_time_sooner_after_a_failure_and_when_the_clock_was_set_back() {
        let good = Last { at_ms: 10 * CHECK_MS, error: None };
        let bad = Last { error: Some("x".to_owned()), ..good.clone() };
        for (last, now, want) in [
            (None, 0, true),
            (Some(&good), good.at_ms + CHECK_MS - 1, false),
            (Some(&good), good.at_ms + CHECK_MS, true),
            (Some(&good), good.at_ms - 1, true),
            (Some(&bad), bad.at_ms + AGAIN_MS - 1, false),
            (Some(&bad), bad.at_ms + AGAIN_MS, true),
        ] {
            assert_eq!(is_due(last, CHECK_MS, now), want, "{last:?} at {now}");
        }
    }
}
