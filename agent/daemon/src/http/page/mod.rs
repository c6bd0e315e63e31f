//! The status page's listener: `/`, `/api/v1/…`, `/healthz`, `/readyz`, `/metrics`. `GET` only: nothing here changes
//! anything, whoever asks.

mod events;
mod guard;
mod health;
mod metrics;
mod reply;
mod seen;
mod view;

use std::sync::Arc;

use askama::Template as _;
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::serve::Body;
use crate::{
    host::{activity::Tracker, now_ms},
    metrics::Metrics,
    store::{Store, StoreError},
    trigger::CurrentConfig,
};
use reply::{Problem, Reply};
use seen::Seeing;
use view::PageView;

/// Syncs that the page shows.
const SHOWN_SYNCS: usize = 30;

/// What the listener needs. Clones share it all.
#[derive(Clone)]
pub struct PageState {
    current: watch::Receiver<CurrentConfig>,
    seeing: Arc<Seeing>,
    streams: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

impl PageState {
    /// Reads `store` and `metrics`, and follows `current` and what the agent is doing.
    pub fn new(
        current: watch::Receiver<CurrentConfig>,
        store: Arc<Store>,
        metrics: Arc<Metrics>,
        activity: Tracker,
    ) -> Self {
        let seeing = Arc::new(Seeing::new(current.clone(), store, activity));
        Self { current, seeing, streams: Arc::new(Semaphore::new(events::MAX_STREAMS)), metrics }
    }
}

impl PageState {
    /// The page for people.
    async fn whole(&self) -> Result<Reply, Problem> {
        let status = self.seeing.status().await?;
        let history = self.seeing.history(SHOWN_SYNCS).await?;
        let page = PageView::new(&status, &history).render().map_err(|e| Problem::ours("internal", e))?;
        Ok(Reply::new("text/html; charset=utf-8", page))
    }

    /// The metrics for Prometheus.
    async fn metrics(&self) -> Result<Reply, Problem> {
        let status = self.seeing.status().await?;
        let store = self.seeing.store();
        let failed = |e: StoreError| Problem::ours("store.failed", e);
        let text = metrics::metrics(&metrics::MetricsInput {
            status: &status,
            counts: &self.metrics.counts(),
            last_success_ms: store.last_success().map_err(failed)?,
            quarantined: store.quarantine_size().map_err(failed)?,
            oldest_report_ms: store.outbox_stats().map_err(failed)?.oldest_ms,
            is_config_valid: self.current.borrow().rejected.is_none(),
            interval_seconds: self.seeing.settings().source.interval.as_secs_f64(),
            now_ms: now_ms(),
        });
        Ok(Reply::new(metrics::KIND, text))
    }
}

/// Answers one request. `close` is cancelled when the listener closes.
pub(super) async fn answer(page: PageState, close: CancellationToken, request: Request<Incoming>) -> Response<Body> {
    let reply = match judge(&page, &close, &request).await {
        Ok(reply) => reply,
        Err(problem) => {
            tracing::debug!(status = problem.status().as_u16(), "a request to the page was turned away: {problem}");
            problem.into_reply()
        }
    };
    reply.into_response()
}

async fn judge(page: &PageState, close: &CancellationToken, request: &Request<Incoming>) -> Result<Reply, Problem> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "nothing can be changed here", "use GET")
            .with(header::ALLOW, "GET, HEAD"));
    }
    let path = request.uri().path();
    match path {
        "/healthz" => return Ok(health::liveness(page)),
        "/readyz" => return health::readiness(page).await,
        _ => {}
    }
    let settings = Arc::clone(&page.current.borrow().settings);
    guard::admit(settings.listen.page.as_ref(), request.headers())?;
    match path {
        "/" => page.whole().await,
        "/style.css" => Ok(Reply::new("text/css; charset=utf-8", include_str!("../../../templates/style.css"))),
        "/app.js" => Ok(Reply::new("text/javascript; charset=utf-8", include_str!("../../../templates/app.js"))),
        "/icon.svg" => Ok(Reply::new("image/svg+xml", include_str!("../../../templates/icon.svg"))),
        "/metrics" => page.metrics().await,
        "/events" => events::stream(&page.seeing, &page.streams, close),
        "/api/v1/status" => Ok(Reply::json(&*page.seeing.status().await?)),
        "/api/v1/history" => Ok(Reply::json(&page.seeing.history(seen::limit(request.uri().query())?).await?)),
        "/api/v1/stacks" => Ok(Reply::json(&*page.seeing.stacks().await?)),
        _ => Err(Problem::new(
            StatusCode::NOT_FOUND,
            "path",
            "there is nothing at this path",
            "docs/reference/http.md lists every path",
        )),
    }
}
