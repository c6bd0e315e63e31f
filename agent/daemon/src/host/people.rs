//! What people tell the agent, carried out on the store; and what there is to say of it afterwards.

use std::time::Duration;

use evenkeel_core::{
    outcome::Outcome,
    people::{LONGEST_SUSPENSION_MS, Stated, Suspended, Suspension, Told},
    reason::{Code, Reason},
};
use evenkeel_layout::name::StackName;

use super::{
    messages::{Happening, tell},
    now_ms,
};
use crate::{
    config::settings::{Event, Settings},
    store::{Outgoing, Store, StoreError, Words, instant},
};

/// Why a stack that a person left alone is held.
pub fn suspension_reason(suspension: &Suspension) -> Reason {
    let target = suspension.stack.as_deref().unwrap_or("--all");
    let Stated { by, reason } = &suspension.stated;
    let until = instant(suspension.until_ms);
    let message = format!("suspended by {} until {until}: {reason}; `evenkeel resume {target}` ends it", by.name);
    Reason::new(Code::HeldBySuspension, message)
}

/// The suspension of a stack, its own or that of all, if there is one now.
pub fn suspension_of(store: &Store, stack: &StackName) -> Result<Option<Suspension>, StoreError> {
    let now = now_ms();
    let concerns = |s: &Suspension| s.stack.as_ref().is_none_or(|name| name == stack.as_str());
    Ok(store.suspensions()?.into_iter().find(|s| concerns(s) && !s.is_over(now)))
}

/// A suspension as the status has it.
pub fn suspended(suspension: &Suspension) -> Suspended {
    Suspended {
        all: suspension.stack.is_none(),
        since: instant(suspension.since_ms),
        until: instant(suspension.until_ms),
        by: suspension.stated.by.clone(),
        reason: suspension.stated.reason.clone(),
    }
}

/// Suspends a stack, or all, from now on. Reported.
pub fn suspend(
    store: &Store,
    settings: &Settings,
    stack: Option<&StackName>,
    length: Duration,
    stated: Stated,
) -> Result<Suspended, StoreError> {
    let since_ms = now_ms();
    let for_ms = i64::try_from(length.as_millis()).unwrap_or(i64::MAX).clamp(1, LONGEST_SUSPENSION_MS);
    let name = stack.map(ToString::to_string);
    let suspension = Suspension { stack: name, since_ms, until_ms: since_ms + for_ms, for_ms, stated };
    let reason = suspension_reason(&suspension);
    let messages = report(settings, stack, (Event::Held, Outcome::Held), &reason);
    let detail = format!("until {}", instant(suspension.until_ms));
    let name = suspension.stack.as_deref();
    let words = Words { told: Told::Suspend, stack: name, stated: &suspension.stated, detail: Some(&detail) };
    store.suspend(words, &suspension, &messages)?;
    Ok(suspended(&suspension))
}

/// Ends a suspension because a person says so. Reported. `false` if there is none.
pub fn resume(
    store: &Store,
    settings: &Settings,
    stack: Option<&StackName>,
    stated: &Stated,
) -> Result<bool, StoreError> {
    let name = stack.map(StackName::as_str);
    let what = stack.map_or_else(|| "everything".to_owned(), ToString::to_string);
    let message = format!("{} resumed {what}; deployments go on", stated.by.name);
    let reason = Reason::new(Code::HeldBySuspension, message);
    let messages = report(settings, stack, (Event::Recovered, Outcome::Unchanged), &reason);
    let words = Words { told: Told::Resume, stack: name, stated, detail: None };
    store.end_suspension(name, Some(words), &messages, now_ms())
}

/// Ends every suspension whose time is over. Reported. Gives whether there was one.
pub fn end_due(store: &Store, settings: &Settings) -> Result<bool, StoreError> {
    let now = now_ms();
    let mut any = false;
    for suspension in store.suspensions()?.into_iter().filter(|s| s.is_over(now)) {
        let name = suspension.stack.as_deref();
        let stack = name.and_then(|name| StackName::new(name).ok());
        let Stated { by, reason } = &suspension.stated;
        let what = name.unwrap_or("every stack");
        let message = format!("the suspension of {what} by {} is over ({reason}); deployments go on", by.name);
        let why = Reason::new(Code::HeldBySuspension, message);
        tracing::info!("{why}");
        let messages = report(settings, stack.as_ref(), (Event::Recovered, Outcome::Unchanged), &why);
        any |= store.end_suspension(name, None, &messages, now)?;
    }
    Ok(any)
}

fn report(
    settings: &Settings,
    stack: Option<&StackName>,
    (event, outcome): (Event, Outcome),
    reason: &Reason,
) -> Vec<Outgoing> {
    let nothing = Happening {
        stack,
        event,
        commit: None,
        from: None,
        to: None,
        outcome,
        reason: Some(reason),
        services: &[],
        duration_ms: None,
        snapshot: None,
    };
    tell(settings, &nothing)
}

/// Takes what a stack runs as good. Gives what that means, or why there is nothing to accept.
pub fn accept(store: &Store, stack: &StackName, stated: &Stated) -> Result<Result<String, String>, StoreError> {
    let Some(release) = store.current_releases()?.remove(stack) else {
        return Ok(Err(format!("{stack} has no release: nothing of it was ever good")));
    };
    let last = store.last_end(stack)?.map(|last| last.outcome);
    if !matches!(last, Some(Outcome::RolledBack | Outcome::Quarantined | Outcome::Halted)) {
        let message = format!("{stack} is neither rolled back nor halted, or a deployment is under way");
        return Ok(Err(message));
    }
    let detail = format!("release {}", release.id);
    let words = Words { told: Told::Accept, stack: Some(stack.as_str()), stated, detail: Some(&detail) };
    if !store.accept_running(stack, words, now_ms())? {
        return Ok(Err(format!("of {stack} nothing is kept out, or a deployment of it is under way")));
    }
    Ok(Ok(format!(
        "{stack}: what runs now counts as release {} (commit {}); what failed stays out until the repository wants something \
         else of it",
        release.id,
        release.commit.short()
    )))
}

/// A reason as people give it, on one line, without controls, and not too long.
pub fn tidy(reason: &str) -> String {
    const LONGEST: usize = 500;
    reason.split_whitespace().collect::<Vec<_>>().join(" ").chars().filter(|c| !c.is_control()).take(LONGEST).collect()
}

/// Whether a stack is one that there is something to say of: it has a release, or had a part in a sync.
pub fn knows(store: &Store, stack: &StackName) -> Result<bool, StoreError> {
    Ok(store.current_releases()?.contains_key(stack) || store.stacks_seen()?.contains(stack))
}
