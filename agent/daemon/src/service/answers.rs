//! What the running agent answers on its socket.

use std::sync::Arc;

use evenkeel_core::outcome::{History, Status};
use futures_util::future::BoxFuture;

use super::Service;
use crate::{
    host::status,
    run::SyncEnd,
    socket::{ActivityAnswer, Answers, SyncAnswer},
    store::Store,
    trigger::Waker,
};

/// The shape's version.
const SCHEMA: u32 = 1;

/// Answers from the running agent's own state.
pub(super) struct AgentAnswers {
    service: Arc<Service>,
    waker: Waker<SyncEnd>,
}

impl AgentAnswers {
    /// Answers for a service, asking for syncs with `waker`.
    pub(super) fn new(service: Arc<Service>, waker: Waker<SyncEnd>) -> Self {
        Self { service, waker }
    }
}

impl Answers for AgentAnswers {
    fn status(&self) -> BoxFuture<'_, Result<Status, String>> {
        Box::pin(async {
            let (current, activity) = (self.service.current.borrow().clone(), self.service.activity.activity());
            let rejected = current.rejected.as_deref();
            let found = status::of_agent(&current.settings, &self.service.store, rejected, activity);
            found.await.map_err(|e| e.to_string())
        })
    }

    fn activity(&self) -> ActivityAnswer {
        ActivityAnswer { schema: SCHEMA, activity: self.service.activity.activity() }
    }

    fn history(&self, limit: usize) -> Result<History, String> {
        status::history(&self.service.store, limit).map_err(|e| e.to_string())
    }

    fn sync(&self) -> BoxFuture<'_, Result<SyncAnswer, String>> {
        Box::pin(async {
            let end = self.waker.request().done().await;
            let end = end.ok_or("the agent was asked to stop before the sync ended; ask again when it runs")?;
            answer(&self.service.store, end)
        })
    }
}

/// The end of a sync as it is told to who asked for it.
pub fn answer(store: &Store, end: SyncEnd) -> Result<SyncAnswer, String> {
    let recorded = store.history(5).map_err(|e| e.to_string())?;
    let exit = end.exit().into();
    let sync = end.id.and_then(|id| recorded.into_iter().find(|s| s.id == id));
    Ok(SyncAnswer { schema: SCHEMA, outcome: end.outcome, reason: end.reason, exit, sync })
}
