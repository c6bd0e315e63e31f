//! The snapshots of this server: what its backup repository says, whatever became of the store.

use evenkeel_core::{
    answer::Snapshots,
    reason::{Code, Reason},
};

use crate::{backup::Restic, config::settings::Settings, process::Runner};

/// The shape's version.
const SCHEMA: u32 = 1;

/// The snapshots of one stack, or of all.
pub async fn of(settings: &Settings, stack: Option<&str>) -> Result<Snapshots, Reason> {
    let Some(backup) = &settings.backup else {
        let what = "no backup is configured: without `backup` in agent.yml nobody knows where snapshots are";
        return Err(Reason::new(Code::SnapshotGone, what));
    };
    let restic = Restic::new(Runner::supervised(), backup, &settings.paths.state, settings.server.as_str());
    let snapshots = restic.snapshots(stack).await.map_err(|e| e.reason())?;
    Ok(Snapshots { schema: SCHEMA, snapshots })
}
