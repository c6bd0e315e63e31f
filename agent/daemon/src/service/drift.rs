//! Notices when a server may have drifted: the engine's events, the live files, and a look from time to time.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use evenkeel_core::id::ReleaseId;
use futures_util::{StreamExt as _, stream::BoxStream};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Order, Service};
use crate::{
    engine::{Engine, Happened},
    host::now_ms,
    run::SyncEnd,
    store::{Store, StoreError},
    trigger::{ConfigWatch, Trigger, Waker},
};

/// Events come in flocks; this long they are gathered before somebody looks.
const GATHER: Duration = Duration::from_millis(500);
/// How long until an engine that went away is asked again.
const RECONNECT: Duration = Duration::from_secs(5);

/// Follows the engine and the live files until the stop, and wakes the loop.
pub(super) async fn watch(service: Arc<Service>, waker: Waker<SyncEnd, Order>) {
    let stop = service.stop.clone();
    tokio::select! {
        () = follow(&service, &waker) => {}
        () = stop.cancelled() => {}
    }
}

async fn follow(service: &Service, waker: &Waker<SyncEnd, Order>) {
    let mut files = LiveFiles::default();
    let mut events = None;
    // When something was heard last, by the engine's clock: what happens while the stream is cut is asked for afterwards.
    let mut heard_ms = now_ms();
    let mut next_look = Instant::now() + service.settings().drift.interval;
    loop {
        if events.is_none() {
            events = Engine::new(&service.settings().engine.socket).happenings(heard_ms).ok();
            // What the engine does not know any more is seen by looking.
            waker.wake(Trigger::Drift);
        }
        files.keep_up(service);
        tokio::select! {
            happened = next(&mut events) => {
                let Some((at_ms, happened)) = happened else {
                    events = None;
                    sleep(RECONNECT).await;
                    continue;
                };
                heard_ms = at_ms;
                note(service, &happened);
            }
            () = files.changed() => {}
            () = sleep_until(next_look) => {}
        }
        heard_ms = gather(service, &mut events).await.unwrap_or(heard_ms);
        next_look = Instant::now() + service.settings().drift.interval;
        waker.wake(Trigger::Drift);
    }
}

type Events = Option<BoxStream<'static, (i64, Happened)>>;

async fn next(events: &mut Events) -> Option<(i64, Happened)> {
    match events {
        Some(events) => events.next().await,
        None => None,
    }
}

/// Notes what else happens within a moment. Gives when the last of it was.
async fn gather(service: &Service, events: &mut Events) -> Option<i64> {
    let until = Instant::now() + GATHER;
    let mut heard_ms = None;
    while let Ok(Some((at_ms, happened))) = tokio::time::timeout_at(until, next(events)).await {
        heard_ms = Some(at_ms);
        note(service, &happened);
    }
    heard_ms
}

/// Remembers who stopped what. While a stack is being deployed it is the agent.
fn note(service: &Service, happened: &Happened) {
    let store = &service.store;
    let noted = match happened {
        Happened::Stopped { project, container } => match is_ours(store, project) {
            Ok(true) => Ok(()),
            Ok(false) => store.note_stopped(container, now_ms()),
            Err(error) => Err(error),
        },
        Happened::Started { container } => store.forget_stopped(&BTreeSet::from([container.clone()])),
        Happened::Other => Ok(()),
    };
    if let Err(error) = noted {
        tracing::warn!(%error, "cannot remember who stopped a container");
    }
}

/// Whether the agent is changing this project now.
fn is_ours(store: &Store, project: &str) -> Result<bool, StoreError> {
    for unfinished in store.unfinished()? {
        for id in [unfinished.progress.from(), unfinished.progress.to()].into_iter().flatten() {
            if store.release(id)?.is_some_and(|release| release.project == project) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// The files of the releases that run, watched.
#[derive(Default)]
struct LiveFiles {
    watch: Option<ConfigWatch>,
    of: BTreeMap<String, ReleaseId>,
    generation: Option<u64>,
}

impl LiveFiles {
    /// Watches the files of what runs now. A store that cannot be read leaves the watch as it is.
    fn keep_up(&mut self, service: &Service) {
        let generation = service.store.generation();
        if self.generation == Some(generation) {
            return;
        }
        self.generation = Some(generation);
        let Ok(releases) = service.store.current_releases() else { return };
        let of = releases.values().map(|release| (release.stack.to_string(), release.id)).collect();
        if self.of == of {
            return;
        }
        self.of = of;
        let live = service.settings().paths.live.clone();
        let files = releases.values().flat_map(|release| release.files.keys());
        let paths: Vec<PathBuf> = files.map(|path| live.join(path)).collect();
        match &mut self.watch {
            Some(watch) => watch.watch(&paths),
            none => *none = ConfigWatch::start(&paths).map_err(|error| tracing::warn!("{error}")).ok(),
        }
    }

    async fn changed(&self) {
        match &self.watch {
            Some(watch) => watch.changed().await,
            None => std::future::pending().await,
        }
    }
}
