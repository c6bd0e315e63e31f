//! The backup before a deployment: a decision, always, and a snapshot if there is something to save.

use std::{path::PathBuf, time::Duration};

use evenkeel_core::{
    journal::{Event, Progress, SnapshotDecision},
    model::Model,
    reason::{Code, Reason},
    release::{Files, Release},
};

use tokio::time::timeout;

use super::{apply, quiesce};
use crate::{
    backup::About,
    host::{Host, backup_plan::backup_plan},
    store::Memory,
};

/// Decides about the backup, and takes it, while what is to be quiet holds still. If that has to be written down first, it says so.
pub async fn back_up(
    host: &Host,
    from: Option<&Release>,
    to: Option<&Release>,
    progress: &Progress,
) -> Result<Event, Reason> {
    let quiet = progress.quiet();
    let decided = |snapshot, left_out| Ok(Event::BackedUp { snapshot, left_out });
    let (Some(restic), Some(settings)) = (&host.restic, &host.settings.backup) else {
        return decided(SnapshotDecision::NotConfigured, Vec::new());
    };
    let models: Vec<&Model> = [from, to].into_iter().flatten().map(|r| &r.model).collect();
    let files: Files = [from, to].into_iter().flatten().flat_map(|r| r.files.clone()).collect();
    let plan = backup_plan(&host.engine, &models, &files, host.live.root()).await;
    let plan = plan.map_err(|e| e.reason(Code::BackupFailed))?;
    let left_out: Vec<String> = plan.left_out.iter().cloned().collect();
    if plan.paths.is_empty() {
        return decided(SnapshotDecision::NothingToSave, left_out);
    }
    let Some(one) = to.or(from) else { return decided(SnapshotDecision::NothingToSave, left_out) };
    let about = About {
        stack: one.stack.to_string(),
        project: from.unwrap_or(one).project.clone(),
        release: from.map(|release| (release.id.to_string(), release.commit.to_string())),
        volumes: plan.volumes(),
    };
    let known = host.store.remembered(Memory::BackupRepository).map_err(|e| e.reason())?;
    let had_one = known == Some(restic.mark());
    let paths: Vec<PathBuf> = plan.paths.into_keys().collect();
    let _turn = host.turns.take().await;
    // Nobody holds still for a repository that cannot be used.
    let ready = restic.be_ready(had_one).await.map_err(|e| e.reason());
    if ready.is_ok() && !quiet.is_empty() && !progress.has_calmed() {
        let (_, ailing) = apply::standing(host, &about.project, &[]).await?;
        return Ok(Event::Calming { ailing });
    }
    let work = async {
        ready?;
        let most = quiesce::calm(host, from, quiet).await?;
        let snapshot = async { restic.snapshot(&about, &paths).await.map_err(|e| e.reason()) };
        within(most, snapshot).await
    };
    match work.await {
        Ok(id) => {
            host.store.remember(Memory::BackupRepository, &restic.mark()).map_err(|e| e.reason())?;
            decided(SnapshotDecision::Taken(id), left_out)
        }
        Err(reason) if settings.required => {
            Err(Reason::new(reason.code, format!("{}; nothing was changed", reason.message)))
        }
        Err(reason) => {
            tracing::warn!(stack = about.stack, %reason, "the backup failed and is not required");
            decided(SnapshotDecision::Failed(reason.message), left_out)
        }
    }
}

/// A snapshot that takes longer than what is paused bears is given up.
async fn within(
    most: Option<Duration>,
    snapshot: impl Future<Output = Result<String, Reason>>,
) -> Result<String, Reason> {
    let Some(most) = most else { return snapshot.await };
    timeout(most, snapshot).await.unwrap_or_else(|_| {
        let message = format!(
            "the snapshot takes longer than the {} s that the healthchecks bear of a pause; say `quiesce: stop`, or a command \
             that makes the data whole",
            most.as_secs()
        );
        Err(Reason::new(Code::BackupFailed, message))
    })
}
