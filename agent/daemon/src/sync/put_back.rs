//! A person wants an earlier release back. Neither Git nor a registry is asked: all of it is in the store and on the engine.

use evenkeel_core::{
    id::ReleaseId,
    outcome::Outcome,
    people::{Stated, Told},
    reason::{Code, Reason},
    release::{self, Release},
};
use evenkeel_layout::name::StackName;

use super::{Fault, deploy};
use crate::{
    git::Repo,
    host::{Host, messages},
    run::{Run, SyncEnd},
    steps::images,
    store::{Store, Words},
};

/// What a person wants back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutBack {
    /// The stack.
    pub stack: StackName,
    /// The kept release; `None` for the one before what runs.
    pub to: Option<ReleaseId>,
    /// Who, and why.
    pub stated: Stated,
}

/// Puts it back, with a record of who wanted it and how it ended.
pub async fn put_back(host: &Host, order: &PutBack) -> SyncEnd {
    let chosen = match chosen(&host.store, &order.stack, order.to) {
        Ok(chosen) => chosen,
        Err(reason) => return SyncEnd::failed(None, Fault::of(reason.clone()).outcome, reason),
    };
    let mut sides = [Some(&chosen.kept), chosen.current.as_ref()].into_iter().flatten();
    if let Some(reason) = sides.find_map(|r| host.own_stack(&order.stack, &r.project, &r.model)) {
        return SyncEnd::failed(None, Outcome::Held, reason);
    }
    let detail = format!("release {}", chosen.kept.id);
    let stack = Some(order.stack.as_str());
    let words = Words { told: Told::Rollback, stack, stated: &order.stated, detail: Some(&detail) };
    let run = match Run::begin_told(host, "rollback", words) {
        Ok(run) => run,
        Err(error) => return SyncEnd::failed(None, Outcome::Halted, error.reason()),
    };
    let id = run.id;
    let end = match line(host, &run, &chosen).await {
        Ok(()) => run.conclude(),
        Err(fault) => run.fail(fault.outcome, fault.reason),
    };
    end.unwrap_or_else(|error| SyncEnd::failed(Some(id), Outcome::Halted, error.reason()))
}

async fn line(host: &Host, run: &Run<'_>, chosen: &Chosen) -> Result<(), Fault> {
    refuse_to_observe(host)?;
    let repo = Repo::open(&host.mirror()).ok();
    run.set_commit(messages::commit(repo.as_ref(), &chosen.kept.commit, None))?;
    deploy::put_back(run, &chosen.kept, chosen.current.as_ref()).await.map_err(Fault::of)?;
    images::sweep(host).await.map_err(Fault::of)
}

/// What only looks changes nothing, not even when somebody asks for it.
pub(super) fn refuse_to_observe(host: &Host) -> Result<(), Reason> {
    if !host.settings.observe {
        return Ok(());
    }
    let what = "observe is on: nothing was changed; set `observe: false` in the configuration first";
    Err(Reason::new(Code::Observing, what))
}

/// The release that is meant, and what runs now.
#[derive(Clone)]
pub struct Chosen {
    /// Is to be put back.
    pub kept: Release,
    /// Runs now.
    pub current: Option<Release>,
}

/// Finds the release that is meant.
pub fn chosen(store: &Store, stack: &StackName, to: Option<ReleaseId>) -> Result<Chosen, Reason> {
    let kept = store.kept(stack).map_err(|e| e.reason())?;
    let current = store.current_releases().map_err(|e| e.reason())?.remove(stack);
    let halted = store.halted().map_err(|e| e.reason())?.contains(stack);
    let gone = |message: String| Reason::new(Code::ReleaseGone, message);
    let found = match (to, &current) {
        (Some(id), _) => kept.iter().find(|r| r.id == id).ok_or_else(|| {
            gone(format!("{stack} has no kept release {id}; `evenkeel releases {stack}` lists what is kept"))
        })?,
        // Nobody knows what a halted stack runs: the release that was last good is the first to put back.
        (None, Some(current)) if halted => current,
        (None, Some(current)) => release::before(&kept, current).ok_or_else(|| {
            gone(format!(
                "{stack} has no kept release before the one that runs; `evenkeel releases {stack}` lists what is kept"
            ))
        })?,
        (None, None) => kept
            .first()
            .ok_or_else(|| gone(format!("{stack} has no kept release; `evenkeel releases` lists what is kept")))?,
    };
    if !halted && current.as_ref().is_some_and(|current| current.id == found.id) {
        return Err(gone(format!(
            "{stack} runs release {} already; `evenkeel releases {stack}` lists the others",
            found.id
        )));
    }
    Ok(Chosen { kept: found.clone(), current })
}
