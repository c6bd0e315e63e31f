//! What readers see: one look at store and engine, shared by all who ask within a moment.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use evenkeel_core::{
    id::CommitId,
    outcome::{History, Status},
};
use hyper::StatusCode;
use tokio::sync::{Mutex, watch};

use super::reply::Problem;
use crate::{
    config::settings::Settings,
    host::{
        activity::{self, Tracker},
        stacks::Stacks,
        status,
    },
    store::Store,
    trigger::CurrentConfig,
};

/// How long a look at the engine is good for: many readers must not mean many questions.
const FRESH: Duration = Duration::from_secs(1);
/// Syncs that are told unless the request says how many.
const USUAL_HISTORY: usize = 20;
/// Most syncs that are told at once.
const MAX_HISTORY: usize = 1000;

/// Looks for the readers.
pub(super) struct Seeing {
    current: watch::Receiver<CurrentConfig>,
    store: Arc<Store>,
    activity: Tracker,
    last: Mutex<Option<(Instant, Arc<Status>)>>,
    stacks: Mutex<Option<KnownStacks>>,
}

/// The stacks of a commit, under a configuration.
type KnownStacks = (CommitId, Arc<Settings>, Arc<Stacks>);

impl Seeing {
    pub(super) fn new(current: watch::Receiver<CurrentConfig>, store: Arc<Store>, activity: Tracker) -> Self {
        Self { current, store, activity, last: Mutex::default(), stacks: Mutex::default() }
    }

    /// The store.
    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// What the agent is doing, in one line.
    pub(super) fn activity(&self) -> Option<String> {
        self.activity.activity().map(|activity| activity::line(&activity, None))
    }

    /// Whether every part of the agent keeps within its time.
    pub(super) fn is_alive(&self) -> bool {
        self.activity.is_alive(Instant::now())
    }

    /// The configuration that is in force.
    pub(super) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.current.borrow().settings)
    }

    /// The status, as it was a moment ago at most.
    pub(super) async fn status(&self) -> Result<Arc<Status>, Problem> {
        let mut last = self.last.lock().await;
        if let Some((at, status)) = &*last
            && at.elapsed() < FRESH
        {
            return Ok(Arc::clone(status));
        }
        let current = self.current.borrow().clone();
        let (rejected, activity) = (current.rejected.as_deref(), self.activity.activity());
        let found = status::of_agent(&current.settings, &self.store, rejected, activity).await;
        let found = Arc::new(found.map_err(|e| Problem::ours("store.failed", e))?);
        *last = Some((Instant::now(), Arc::clone(&found)));
        Ok(found)
    }

    /// The last syncs, newest first.
    pub(super) async fn history(&self, limit: usize) -> Result<History, Problem> {
        let store = Arc::clone(&self.store);
        tokio::task::spawn_blocking(move || status::history(&store, limit.min(MAX_HISTORY)))
            .await
            .map_err(|e| Problem::ours("internal", e))?
            .map_err(|e| Problem::ours("store.failed", e))
    }

    /// The stacks of the accepted commit.
    pub(super) async fn stacks(&self) -> Result<Arc<Stacks>, Problem> {
        let accepted = self.store.accepted().map_err(|e| Problem::ours("store.failed", e))?;
        let Some((commit, _)) = accepted else {
            let help = "push a commit that is signed by a trusted key; /api/v1/status says what was refused";
            let message = "no commit was accepted yet";
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stacks.none", message, help));
        };
        let settings = self.settings();
        let mut known = self.stacks.lock().await;
        if let Some((of, with, stacks)) = &*known
            && (of, with) == (&commit, &settings)
        {
            return Ok(Arc::clone(stacks));
        }
        let (of, by) = (commit.clone(), Arc::clone(&settings));
        let read = move || Stacks::of_commit(&by.paths.mirror(), &of, &by.server, by.layout.as_ref());
        let found = tokio::task::spawn_blocking(read)
            .await
            .map_err(|e| Problem::ours("internal", e))?
            .map_err(|e| Problem::ours("repo.damaged", e))?;
        let found = Arc::new(found);
        *known = Some((commit, settings, Arc::clone(&found)));
        Ok(found)
    }
}

/// How many syncs a query asks for: `limit=100`.
pub(super) fn limit(query: Option<&str>) -> Result<usize, Problem> {
    let limit = query.unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("limit="));
    let wrong = |_| {
        let help = "write a whole number, such as ?limit=100";
        Problem::new(StatusCode::BAD_REQUEST, "limit", "limit is not a number", help)
    };
    limit.map_or(Ok(USUAL_HISTORY), |text| text.parse().map_err(wrong))
}
