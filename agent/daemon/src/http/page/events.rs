//! `/events`: tells an open page that there is something new to see. What it is, the page fetches.

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{
    StatusCode,
    body::{Bytes, Frame},
    header,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    super::serve::Lifetime,
    reply::{Problem, Reply},
    seen::Seeing,
};

/// Pages that are kept up to date at once; connections beyond them stay free for answers.
pub(super) const MAX_STREAMS: usize = 16;
/// How often the store is looked at: a change is told this soon, and several within this time once.
const TICK: Duration = Duration::from_secs(1);
/// Every so many ticks the engine is looked at, too: containers fall ill without the store's doing.
const TICKS_PER_LOOK: u32 = 5;
/// Every so many ticks something is sent, so that proxies keep the connection.
const TICKS_PER_SIGN_OF_LIFE: u32 = 15;
/// How long a stream lasts; the browser opens the next one.
const LIFE: Duration = Duration::from_secs(10 * 60);

/// A stream of `changed` events, or 503 if there are too many already.
pub(super) fn stream(
    seeing: &Arc<Seeing>,
    places: &Arc<Semaphore>,
    close: &CancellationToken,
) -> Result<Reply, Problem> {
    let place = Arc::clone(places).try_acquire_owned().map_err(|_| {
        let message = format!("{MAX_STREAMS} pages are kept up to date already");
        let help = "close one, or reload by hand";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "events.full", message, help).with(header::RETRY_AFTER, "30")
    })?;
    let watching = Watching {
        seeing: Arc::clone(seeing),
        close: close.clone(),
        until: Instant::now() + LIFE,
        ticks: 0,
        seen: None,
        _place: place,
    };
    let body = StreamBody::new(stream::unfold(watching, Watching::next));
    // Some time to spare: the stream ends by itself, the connection's end is for a reader that does not read.
    let reply = Reply::stream("text/event-stream", body.boxed_unsync());
    Ok(reply.mark(Lifetime(LIFE + Duration::from_secs(30))))
}

/// What an open page shows: the store's generation, what the agent is doing, what the engine says.
type Seen = (u64, Option<String>, Vec<String>);

/// One open page.
struct Watching {
    seeing: Arc<Seeing>,
    close: CancellationToken,
    until: Instant,
    ticks: u32,
    seen: Option<Seen>,
    _place: OwnedSemaphorePermit,
}

impl Watching {
    async fn next(mut self) -> Option<(Result<Frame<Bytes>, Infallible>, Self)> {
        let Some((generation, activity, mut health)) = self.seen.take() else {
            self.seen = Some((self.seeing.store().generation(), self.seeing.activity(), self.health().await));
            return Some((Ok(piece("retry: 3000\n\n")), self));
        };
        loop {
            tokio::select! {
                () = self.close.cancelled() => return None,
                () = sleep(TICK) => {}
            }
            if Instant::now() >= self.until {
                return None;
            }
            self.ticks = self.ticks.wrapping_add(1);
            let now = self.seeing.store().generation();
            let doing = self.seeing.activity();
            let mut is_new = now != generation || doing != activity;
            if self.ticks.is_multiple_of(TICKS_PER_LOOK) {
                let found = self.health().await;
                is_new |= found != health;
                health = found;
            }
            if is_new || self.ticks.is_multiple_of(TICKS_PER_SIGN_OF_LIFE) {
                self.seen = Some((now, doing, health));
                return Some((Ok(piece(if is_new { "event: changed\ndata: .\n\n" } else { ": here\n\n" })), self));
            }
        }
    }

    /// What the engine says of the stacks, in words.
    async fn health(&self) -> Vec<String> {
        // What cannot be seen is told by the page itself.
        let Ok(status) = self.seeing.status().await else { return Vec::new() };
        let stacks = status.stacks.iter().map(|s| s.health.clone());
        stacks.chain(status.notices.iter().cloned()).collect()
    }
}

fn piece(text: &'static str) -> Frame<Bytes> {
    Frame::data(Bytes::from_static(text.as_bytes()))
}
