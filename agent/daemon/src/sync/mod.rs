//! The first spine: one commit on one server, from a trigger to the end of its last deployment.

mod admit;
mod deploy;
mod drift;
mod group;
mod judge;
mod prepare;
mod put_back;
mod recover;
mod restore;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use evenkeel_core::{
    id::SyncId,
    outcome::Outcome,
    people::{Stated, Told},
    plan::{self, Plan},
    reason::{Code, Reason},
    release::Release,
};
use evenkeel_layout::name::StackName;
use futures_util::{StreamExt as _, stream};

pub use drift::{Looked, Memory, look as look_for_drift};
pub use prepare::{Cache, Prepared};
pub use put_back::{PutBack, chosen, put_back};
pub use recover::recover;
pub use restore::{RestoreOrder, restore, running};

use crate::{
    git,
    host::{Host, adoption, now_ms, people},
    run::{Phase, Run, SyncEnd},
    steps::images,
    store::{StoreError, Words},
};

/// Why a sync did not get as far as its stacks.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    outcome: Outcome,
    reason: Reason,
}

impl Fault {
    /// Without a store that can be trusted a person must act; everything else is tried again.
    fn of(reason: Reason) -> Self {
        let outcome = if reason.code == Code::StoreFailed { Outcome::Halted } else { Outcome::Aborted };
        Self { outcome, reason }
    }

    /// The end of a sync that the store has no record of.
    fn end(self, id: Option<SyncId>) -> SyncEnd {
        SyncEnd::failed(id, self.outcome, self.reason)
    }
}

impl From<Reason> for Fault {
    fn from(reason: Reason) -> Self {
        Self::of(reason)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::of(error.reason())
    }
}

/// Why there is a sync.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// What woke the agent.
    pub trigger: &'a str,
    /// Whether a person or a change asked for it, so that what waits for one is tried again.
    pub insists: bool,
    /// Who wants that maintenance windows do not count, and why.
    pub overrides: Option<&'a Stated>,
}

/// One sync, with a record of its end, whatever that is.
pub async fn sync(host: &Host, cache: &mut Cache, wish: Wish<'_>) -> SyncEnd {
    let Wish { trigger, insists, overrides } = wish;
    let begun = people::end_due(&host.store, &host.settings).and_then(|_| match overrides {
        None => Run::begin(host, trigger, insists),
        Some(stated) => {
            Run::begin_told(host, trigger, Words { told: Told::Override, stack: None, stated, detail: None })
        }
    });
    host.opens.store(i64::MAX, Ordering::Relaxed);
    let run = match begun {
        Ok(run) => run.overriding(overrides.is_some()),
        Err(error) => return Fault::from(error).end(None),
    };
    let id = run.id;
    if insists {
        cache.clear();
    }
    let end = match line(host, cache, &run).await {
        Ok(()) => run.conclude(),
        Err(fault) => run.fail(fault.outcome, fault.reason),
    };
    end.unwrap_or_else(|error| Fault::from(error).end(Some(id)))
}

/// What a sync found out before it changes anything.
struct Seen {
    prepared: Arc<Prepared>,
    releases: BTreeMap<StackName, Release>,
    plan: Plan,
}

/// The first half of the line: each step takes what the one before it found. The server is untouched, so a stop may
/// come at any moment.
async fn look(host: &Host, cache: &mut Cache, run: &Run<'_>) -> Result<Seen, Fault> {
    let fetched = run.phase(Phase::Fetch, git::fetch(&host.settings.source, &host.mirror())).await;
    let fetched = fetched.map_err(|e| e.reason())?;
    host.contact(&fetched.tip)?;
    let revision = run.phase(Phase::Trust, judge::judge(host, run, fetched)).await.map_err(Fault::from)??;
    let prepared = run.phase(Phase::Render, cache.prepare(host, &revision)).await?;
    if run.insists {
        // Once after each start is enough: an engine that is too old says so here, and not in the middle of an apply.
        host.engine.version().await.map_err(|e| e.reason(Code::EngineUnreachable))?;
    }
    let containers = run.phase(Phase::Observe, host.engine.containers()).await;
    let containers = containers.map_err(|e| e.reason(Code::EngineUnreachable))?;
    let releases = adopt_renamed(host, &prepared)?;
    let put_back = match (run.insists, run.is_asked_for) {
        (false, _) => plan::PutBack::Nothing,
        (true, false) => plan::PutBack::Healed(host.settings.drift.mode),
        (true, true) => plan::PutBack::Everything,
    };
    let (at, accepted) = ((&host.engine, host.live.root()), &prepared.candidates.accepted);
    let found = adoption::of_strangers(at, accepted, &releases, &containers).await;
    let found = found.map_err(|e| e.reason(Code::EngineUnreachable))?;
    let plan = prepared.plan(host, &releases, (&containers, &found), put_back)?;
    Ok(Seen { prepared, releases, plan })
}

/// The current releases, each under the name that its stack has now.
fn adopt_renamed(host: &Host, prepared: &Prepared) -> Result<BTreeMap<StackName, Release>, Fault> {
    let releases = host.store.current_releases()?;
    let rejected: Vec<StackName> = prepared.candidates.rejected.iter().map(|(name, _)| name.clone()).collect();
    let renamed = plan::renamed(&prepared.candidates.accepted, &rejected, &releases);
    if renamed.is_empty() || host.settings.observe {
        return Ok(releases);
    }
    for (old, new) in renamed {
        tracing::info!(stack = %new, "{new} is what {old} was: the same Compose project under another name");
        host.store.rename(&old, &new)?;
    }
    Ok(host.store.current_releases()?)
}

/// The line, from the tip to the end of the last deployment.
async fn line(host: &Host, cache: &mut Cache, run: &Run<'_>) -> Result<(), Fault> {
    let seen = tokio::select! {
        seen = look(host, cache, run) => seen?,
        () = host.stop.cancelled() => {
            let what = "the agent was asked to stop before anything was changed; it looks again when it starts";
            return Err(Reason::new(Code::Interrupted, what).into());
        }
    };
    let Seen { prepared, releases, plan } = seen;
    run.reject(&prepared, &releases)?;
    run.hold(&plan, &releases)?;
    run.note_steady(&plan, &prepared, &releases)?;
    let removals = run.removals(&plan, &releases)?;
    for wave in &plan.waves {
        if host.stop.is_cancelled() {
            return Err(deploy::stopped().into());
        }
        let ready = run.ready(wave, &prepared, &releases, &removals)?;
        let (alone, groups) = group::units(&ready);
        stream::iter(alone)
            .map(|change| deploy::deploy(run, change, &prepared, releases.get(&change.stack)))
            .buffer_unordered(host.settings.engine.parallel)
            .collect::<Vec<Result<(), Reason>>>()
            .await
            .into_iter()
            .collect::<Result<(), Reason>>()?;
        for (name, changes) in groups {
            group::deploy(run, (name, &changes), &prepared, &releases).await?;
        }
    }
    if removals.is_over(run) {
        // What was confirmed is done, once.
        host.store.guard(None, now_ms())?;
    }
    cache.tidy(host);
    if run.has_committed() {
        images::sweep(host).await?;
    }
    Ok(())
}
