//! The backup before a deployment: a decision, always, and a snapshot if there is something to save.

use evenkeel_core::{
    journal::SnapshotDecision,
    model::Model,
    reason::{Code, Reason},
    release::{Files, Release},
};

use crate::{
    host::{Host, backup_plan::backup_plan},
    store::Memory,
};

/// Decides about the backup, and takes it.
pub async fn back_up(host: &Host, from: Option<&Release>, to: Option<&Release>) -> Result<SnapshotDecision, Reason> {
    let (Some(restic), Some(settings)) = (&host.restic, &host.settings.backup) else {
        return Ok(SnapshotDecision::NotConfigured);
    };
    let models: Vec<&Model> = [from, to].into_iter().flatten().map(|r| &r.model).collect();
    let files: Files = [from, to].into_iter().flatten().flat_map(|r| r.files.clone()).collect();
    let plan =
        backup_plan(&host.engine, &models, &files, host.live.root()).await.map_err(|e| e.reason(Code::BackupFailed))?;
    if plan.paths.is_empty() {
        return Ok(SnapshotDecision::NothingToSave);
    }
    let stack = [to, from].into_iter().flatten().map(|r| r.stack.as_str()).next().unwrap_or_default();
    let known = host.store.remembered(Memory::BackupRepository).map_err(|e| e.reason())?;
    let had_one = known == Some(restic.mark());
    match restic.snapshot(stack, &plan.paths, had_one).await {
        Ok(id) => {
            host.store.remember(Memory::BackupRepository, &restic.mark()).map_err(|e| e.reason())?;
            Ok(SnapshotDecision::Taken(id))
        }
        Err(error) if settings.required => {
            let reason = error.reason();
            Err(Reason::new(reason.code, format!("{}; nothing was changed", reason.message)))
        }
        Err(error) => {
            tracing::warn!(stack, %error, "the backup failed and is not required");
            Ok(SnapshotDecision::Failed(error.to_string()))
        }
    }
}
