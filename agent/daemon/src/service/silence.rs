//! Looks from time to time whether the repository has been silent for too long.

use std::{sync::Arc, time::Duration};

use super::Service;

/// How often it is looked, at most and at least; in between it is a tenth of the limit.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(60));

/// Until the stop.
pub(super) async fn watch(service: Arc<Service>) {
    loop {
        let pause = (service.settings().trust.stale_after / 10).clamp(PAUSES.0, PAUSES.1);
        tokio::select! {
            () = service.stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let told = service.host().map(|host| host.tell_silence());
        if let Ok(Err(error)) = told {
            tracing::warn!(%error, "cannot tell whether the repository is silent");
        }
    }
}
