//! What people tell the running agent: each carried out, with who and why.

use std::{fmt::Display, time::Duration};

use evenkeel_core::{
    id::ReleaseId,
    outcome::Exit,
    people::{Stated, Told},
    reason::{Code, Reason},
};
use evenkeel_layout::name::StackName;

use super::{
    Order,
    answers::{self, AgentAnswers},
};
use crate::{
    host::{now_ms, people},
    run::SyncEnd,
    socket::{Refusal, SyncAnswer, Tell, TellAnswer},
    store::{Store, Words},
    sync::{PutBack, RestoreOrder, chosen, running},
    trigger::{Ticket, Trigger},
};

/// The shape's version.
const SCHEMA: u32 = 1;

type Answered = Result<TellAnswer, Refusal>;

impl AgentAnswers {
    /// Does what a person tells, and waits for the end of what it begins.
    pub(super) async fn told(&self, stated: Stated, tell: Tell) -> Answered {
        match tell {
            Tell::Rollback { stack, to, .. } => self.roll_back(stated, &stack, to).await,
            Tell::Restore { stack, snapshot, .. } => self.restore(stated, &stack, snapshot).await,
            Tell::Retry { stack, .. } => self.retry(stated, stack.as_ref()).await,
            Tell::Accept { stack, .. } => self.accept(&stated, &stack),
            Tell::Confirm { plan, .. } => self.confirm(stated, &plan).await,
            Tell::Suspend { stack, for_ms, .. } => self.suspend(&stated, stack.as_ref(), Duration::from_millis(for_ms)),
            Tell::Resume { stack, .. } => self.resume(&stated, stack.as_ref()),
            Tell::Override { .. } => {
                let answer = answer(Told::Override, None, &stated, "synced without waiting for maintenance windows");
                let sync = self.ended(self.waker.order(Order::Override(stated))).await?;
                Ok(TellAnswer { sync: Some(sync), ..answer })
            }
        }
    }

    async fn roll_back(&self, stated: Stated, stack: &str, to: Option<ReleaseId>) -> Answered {
        let stack = self.known(stack)?;
        let kept = chosen(&self.service.store, &stack, to).map_err(|reason| no_release(&reason))?.kept.id;
        let answer = answer(Told::Rollback, Some(&stack), &stated, &format!("{stack}: release {kept} put back"));
        let order = PutBack { stack, to: Some(kept), stated };
        let sync = self.ended(self.waker.order(Order::PutBack(order))).await?;
        Ok(TellAnswer { sync: Some(sync), ..answer })
    }

    async fn restore(&self, stated: Stated, stack: &str, snapshot: Option<String>) -> Answered {
        let stack = self.known(stack)?;
        running(&self.service.store, &stack).map_err(|reason| no_release(&reason))?;
        let order = RestoreOrder { stack: stack.clone(), snapshot, stated: stated.clone() };
        let sync = self.ended(self.waker.order(Order::Restore(order))).await?;
        let steps = sync.sync.iter().flat_map(|sync| &sync.deployments).flat_map(|deployment| &deployment.steps);
        let kept = steps.filter(|step| step.event == "backed_up").filter_map(|step| step.detail.clone()).next_back();
        let said = format!("{stack}: data restored; {}", kept.unwrap_or_default());
        Ok(TellAnswer { sync: Some(sync), ..answer(Told::Restore, Some(&stack), &stated, &said) })
    }

    async fn retry(&self, stated: Stated, stack: Option<&String>) -> Answered {
        let stack = self.maybe_known(stack)?;
        let name = stack.as_ref().map(StackName::as_str);
        let words = Words { told: Told::Retry, stack: name, stated: &stated, detail: None };
        let lifted = self.service.store.retry(words, now_ms()).map_err(|e| store_failed(&e))?;
        let said = match lifted {
            0 => "nothing was kept out; what waits is tried again".to_owned(),
            n => format!("{n} kept out until now, tried once more"),
        };
        let sync = self.ended(self.waker.request()).await?;
        Ok(TellAnswer { sync: Some(sync), ..answer(Told::Retry, stack.as_ref(), &stated, &said) })
    }

    fn accept(&self, stated: &Stated, stack: &str) -> Answered {
        let stack = self.known(stack)?;
        let accepted = people::accept(&self.service.store, &stack, stated).map_err(|e| store_failed(&e))?;
        let said = accepted.map_err(|message| {
            Refusal::new(Exit::Failed, "accept.nothing", message, format!("look at `evenkeel explain {stack}`"))
        })?;
        Ok(answer(Told::Accept, Some(&stack), stated, &said))
    }

    async fn confirm(&self, stated: Stated, plan: &str) -> Answered {
        let store = &self.service.store;
        let words = Words { told: Told::Confirm, stack: None, stated: &stated, detail: Some(plan) };
        if !store.confirm(plan, words, now_ms()).map_err(|e| store_failed(&e))? {
            return Err(other_plan(store, plan));
        }
        let sync = self.ended(self.waker.request()).await?;
        let said = format!("plan {plan} confirmed");
        Ok(TellAnswer { sync: Some(sync), ..answer(Told::Confirm, None, &stated, &said) })
    }

    fn suspend(&self, stated: &Stated, stack: Option<&String>, length: Duration) -> Answered {
        let stack = self.maybe_known(stack)?;
        let (store, settings) = (&self.service.store, self.service.settings());
        let suspended = people::suspend(store, &settings, stack.as_ref(), length, stated.clone());
        let until = suspended.map_err(|e| store_failed(&e))?.until;
        self.service.due.notify_one();
        self.service.wake_outbox.notify_one();
        let said =
            format!("{} is left alone until {until}; what is under way goes on to its end", what(stack.as_ref()));
        Ok(TellAnswer { until: Some(until), ..answer(Told::Suspend, stack.as_ref(), stated, &said) })
    }

    fn resume(&self, stated: &Stated, stack: Option<&String>) -> Answered {
        let stack = self.maybe_known(stack)?;
        let (store, settings) = (&self.service.store, self.service.settings());
        if !people::resume(store, &settings, stack.as_ref(), stated).map_err(|e| store_failed(&e))? {
            let message = format!("there is no suspension of {}", what(stack.as_ref()));
            let help = "`evenkeel status` shows what is suspended; `--all` ends only what began with `--all`";
            return Err(Refusal::new(Exit::Failed, "resume.nothing", message, help));
        }
        self.service.wake_outbox.notify_one();
        self.waker.wake(Trigger::Due);
        let said = format!("{} is deployed again", what(stack.as_ref()));
        Ok(answer(Told::Resume, stack.as_ref(), stated, &said))
    }

    /// Waits for the end of what was asked for.
    async fn ended(&self, ticket: Ticket<SyncEnd>) -> Result<SyncAnswer, Refusal> {
        let stopped = || {
            let message = "the agent was asked to stop before this ended; ask again when it runs";
            Refusal::new(Exit::Transient, "agent.interrupted", message, "see `evenkeel status`, then try again")
        };
        let end = ticket.done().await.ok_or_else(stopped)?;
        answers::answer(&self.service.store, end).map_err(|e| store_failed(&e))
    }

    /// A stack that is known here.
    pub(super) fn known(&self, name: &str) -> Result<StackName, Refusal> {
        let known = StackName::new(name).ok().filter(|stack| {
            // A store that fails says so in what comes next.
            people::knows(&self.service.store, stack).unwrap_or(true)
        });
        known.ok_or_else(|| {
            let message = format!("this server knows no stack {name:?}");
            Refusal::new(Exit::Usage, "stack.unknown", message, "`evenkeel status` lists the stacks")
        })
    }

    pub(super) fn maybe_known(&self, name: Option<&String>) -> Result<Option<StackName>, Refusal> {
        name.map(|name| self.known(name)).transpose()
    }
}

fn answer(told: Told, stack: Option<&StackName>, stated: &Stated, said: &str) -> TellAnswer {
    TellAnswer {
        schema: SCHEMA,
        told,
        stack: stack.map(ToString::to_string),
        by: stated.by.clone(),
        said: said.to_owned(),
        until: None,
        sync: None,
    }
}

fn what(stack: Option<&StackName>) -> String {
    stack.map_or_else(|| "every stack".to_owned(), ToString::to_string)
}

/// The store cannot do it.
pub(super) fn store_failed(error: &impl Display) -> Refusal {
    Refusal::new(Exit::Halted, "store.failed", error.to_string(), "look at the agent's log and at its state directory")
}

fn no_release(reason: &Reason) -> Refusal {
    let exit = if reason.code == Code::StoreFailed { Exit::Halted } else { Exit::Usage };
    Refusal::new(exit, reason.code.as_str(), &*reason.message, "choose a release with `--to`")
}

/// Why a plan cannot be confirmed: it is not the one that waits.
fn other_plan(store: &Store, plan: &str) -> Refusal {
    let waits = match store.guarded() {
        Err(error) => return store_failed(&error),
        Ok(None) => "none waits".to_owned(),
        Ok(Some(other)) => format!("the one that waits is {} and removes {}", other.plan, other.removes.join(", ")),
    };
    let message = format!("no plan {plan} waits for a confirm; {waits}");
    Refusal::new(Exit::Usage, "plan.unknown", message, "`evenkeel status` shows the plan that waits")
}
