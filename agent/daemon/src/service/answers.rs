//! What the running agent answers on its socket.

use std::sync::Arc;

use evenkeel_core::{
    answer::{Explanation, Releases, Snapshots},
    outcome::{Exit, History, Status},
    people::{Person, Stated},
    reason::Class,
};
use evenkeel_layout::name::StackName;
use futures_util::future::BoxFuture;

use super::{Order, Service, explain::explain, told::store_failed};
use crate::{
    host::{
        acceptance::{self, AcceptEnd, AcceptRequest},
        now_ms, people, snapshots, status,
    },
    run::SyncEnd,
    socket::{ActivityAnswer, Answers, Refusal, SyncAnswer, Tell, TellAnswer},
    store::Store,
    trigger::{Trigger, Waker},
};

/// The shape's version.
const SCHEMA: u32 = 1;

/// Answers from the running agent's own state.
pub(super) struct AgentAnswers {
    pub(super) service: Arc<Service>,
    pub(super) waker: Waker<SyncEnd, Order>,
}

impl AgentAnswers {
    /// Answers for a service, asking for syncs with `waker`.
    pub(super) fn new(service: Arc<Service>, waker: Waker<SyncEnd, Order>) -> Self {
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

    fn releases(&self, stack: Option<&str>) -> Result<Releases, Refusal> {
        let stack = stack.map(|name| self.known(name)).transpose()?;
        status::releases(&self.service.store, stack.as_ref()).map_err(|e| store_failed(&e))
    }

    fn snapshots(&self, stack: Option<String>) -> BoxFuture<'_, Result<Snapshots, Refusal>> {
        Box::pin(async move {
            // The store need not know the stack: the repository may know more than a store that was lost.
            let found = snapshots::of(&self.service.settings(), stack.as_deref()).await;
            found.map_err(|reason| {
                let exit = if reason.class == Class::Transient { Exit::Transient } else { Exit::Usage };
                Refusal::new(exit, reason.code.as_str(), reason.message, "see `backup` in agent.yml")
            })
        })
    }

    fn explain(&self, stack: Option<String>) -> BoxFuture<'_, Result<Explanation, Refusal>> {
        Box::pin(async move {
            let stack = self.maybe_known(stack.as_ref())?;
            let status = self.status().await.map_err(|e| store_failed(&e))?;
            let name = stack.as_ref().map(StackName::as_str);
            explain(&self.service.settings(), &self.service.store, status, name).await.map_err(|e| store_failed(&e))
        })
    }

    fn tell(&self, by: Person, tell: Tell) -> BoxFuture<'_, Result<TellAnswer, Refusal>> {
        let stated = Stated { by, reason: people::tidy(tell.reason()) };
        tracing::info!(by = stated.by.name, reason = stated.reason, "told: {tell:?}");
        Box::pin(self.told(stated, tell))
    }

    fn accept_commit(&self, by: Person, request: AcceptRequest) -> BoxFuture<'_, Result<AcceptEnd, Refusal>> {
        let (settings, store) = (self.service.settings(), Arc::clone(&self.service.store));
        Box::pin(async move {
            let failed =
                |message: String| Refusal::new(Exit::Failed, "trust.failed", message, "look at the agent's log");
            let end = acceptance::accept(&settings, &store, &request, by, now_ms()).await;
            let end = end.map_err(|e| failed(e.to_string()))?;
            if end == AcceptEnd::Accepted {
                self.waker.wake(Trigger::Manual);
            }
            Ok(end)
        })
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
