//! The outbox worker: joins the store and the sinks. A failed report never changes an outcome, and none is lost.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::now_ms;
use crate::{
    config::settings::Settings,
    report::{self, Client, DeliverError, Message},
    store::{Queued, Store, StoreError},
};

/// The first pause after a failed try; it doubles from there.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);
/// How long a message is tried before it is shown as undelivered.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// It was tried this often at least, over some hours: the clock may have jumped.
const LEAST_TRIES: u32 = 20;
/// How long the worker sleeps when nothing is due.
const IDLE: Duration = Duration::from_secs(60);
/// How many sinks are served side by side.
const PARALLEL: usize = 4;

/// Delivers what is queued until `stop`; `wake` says that something new was queued.
pub async fn work(
    store: Arc<Store>,
    settings: impl Fn() -> Arc<Settings>,
    client: Client,
    wake: Arc<Notify>,
    stop: CancellationToken,
) {
    loop {
        let pause = match deliver_due(&store, &settings(), &client).await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::error!(%error, "the outbox cannot be read");
                IDLE
            }
        };
        tokio::select! {
            () = wake.notified() => {}
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Tries what is due until nothing is, and gives how long there is nothing to do.
pub async fn deliver_due(store: &Store, settings: &Settings, client: &Client) -> Result<Duration, StoreError> {
    loop {
        let due = store.due(now_ms())?;
        if due.is_empty() {
            let next = store.next_due()?.map(|at| Duration::from_millis(u64::try_from(at - now_ms()).unwrap_or(0)));
            return Ok(next.unwrap_or(IDLE).clamp(Duration::from_millis(50), IDLE));
        }
        let results: Vec<Result<(), StoreError>> = stream::iter(due)
            .map(|queued| async move { deliver_one(store, settings, client, &queued).await })
            .buffer_unordered(PARALLEL)
            .collect()
            .await;
        results.into_iter().collect::<Result<(), _>>()?;
    }
}

async fn deliver_one(store: &Store, settings: &Settings, client: &Client, queued: &Queued) -> Result<(), StoreError> {
    let Some(sink) = settings.reports.iter().find(|s| s.name == queued.sink) else {
        return store.not_delivered(queued.id, "the sink is not configured any more", None, now_ms());
    };
    let Ok(message) = serde_json::from_str::<Message>(&queued.message) else {
        return store.not_delivered(
            queued.id,
            "the message cannot be read; it is from another version",
            None,
            now_ms(),
        );
    };
    match report::deliver(client, sink, &message, now_ms() / 1000).await {
        Ok(()) => {
            tracing::debug!(sink = sink.name, id = message.id, "delivered");
            store.delivered(queued.id, now_ms())
        }
        Err(DeliverError::Permanent { why }) => {
            tracing::error!(sink = sink.name, why, "a report cannot be delivered");
            store.not_delivered(queued.id, &why, None, now_ms())
        }
        Err(DeliverError::Retry { after, why }) => {
            let age = Duration::from_millis(u64::try_from(now_ms() - queued.created_ms).unwrap_or(0));
            let pause = after.unwrap_or_else(|| pause_after(queued.tries));
            let next = (age < PATIENCE || queued.tries < LEAST_TRIES)
                .then(|| now_ms() + i64::try_from(pause.as_millis()).unwrap_or(i64::MAX / 2));
            tracing::warn!(sink = sink.name, why, again_in_s = pause.as_secs(), "a report was not delivered");
            store.not_delivered(queued.id, &why, next, now_ms())
        }
    }
}

/// How long to wait after `tries` failed tries and one more.
fn pause_after(tries: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(tries.min(20))).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_quarter_of_an_hour() {
        let pauses: Vec<u64> = (0..12).map(|tries| pause_after(tries).as_secs()).collect();
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900]);
        assert_eq!(pause_after(u32::MAX), LONGEST_PAUSE);
    }
}
