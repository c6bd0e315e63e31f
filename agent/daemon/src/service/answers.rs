//! What the running agent answers on its socket.

use std::sync::Arc;

use evenkeel_core::outcome::Status;
use futures_util::future::BoxFuture;

use super::Service;
use crate::{
    engine::Engine,
    host::status::{StatusInput, status},
    run::SyncEnd,
    socket::{Answers, HistoryAnswer, SyncAnswer},
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
            let settings = self.service.settings();
            let containers = Engine::new(&settings.engine.socket).containers().await;
            let mut notices = Vec::new();
            if let Err(error) = &containers {
                notices.push(error.to_string());
            }
            if let Some(errors) = &self.service.current.borrow().rejected {
                notices.push(format!("the configuration on disk is invalid, the old one is in force: {errors}"));
            }
            status(StatusInput {
                settings: &settings,
                store: &self.service.store,
                containers: containers.as_deref().ok(),
                pid: Some(std::process::id()),
                notices,
            })
            .map_err(|e| e.to_string())
        })
    }

    fn history(&self, limit: usize) -> Result<HistoryAnswer, String> {
        history(&self.service.store, limit)
    }

    fn sync(&self) -> BoxFuture<'_, Result<SyncAnswer, String>> {
        Box::pin(async {
            let end = self.waker.request().done().await;
            let end = end.ok_or("the agent was asked to stop before the sync ended; ask again when it runs")?;
            answer(&self.service.store, end)
        })
    }
}

/// The last syncs of a store.
pub fn history(store: &Store, limit: usize) -> Result<HistoryAnswer, String> {
    Ok(HistoryAnswer { schema: SCHEMA, syncs: store.history(limit).map_err(|e| e.to_string())? })
}

/// The end of a sync as it is told to who asked for it.
pub fn answer(store: &Store, end: SyncEnd) -> Result<SyncAnswer, String> {
    let recorded = store.history(5).map_err(|e| e.to_string())?;
    let exit = end.exit().into();
    let sync = end.id.and_then(|id| recorded.into_iter().find(|s| s.id == id));
    Ok(SyncAnswer { schema: SCHEMA, outcome: end.outcome, reason: end.reason, exit, sync })
}
