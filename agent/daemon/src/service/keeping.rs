//! Looks from time to time whether something is due for the backup repository.

use std::{sync::Arc, time::Duration};

use super::Service;
use crate::host::now_ms;

/// How often it is looked. What is due is due by the day; a deployment that goes first may have put it off.
const LOOK: Duration = Duration::from_secs(5);

/// Until the stop, which also cuts short what is under way: restic can be cut short at any time.
pub(super) async fn watch(service: Arc<Service>) {
    loop {
        let work = async {
            tokio::time::sleep(LOOK).await;
            // Without Compose there is no host; the next sync says so.
            let Ok(host) = service.host() else { return };
            if let Err(error) = host.keep_backups(now_ms()).await {
                tracing::error!(%error, "cannot look after the backup repository");
            }
        };
        tokio::select! {
            () = service.stop.cancelled() => return,
            () = work => {}
        }
    }
}
