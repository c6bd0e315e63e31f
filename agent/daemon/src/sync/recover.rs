//! After a restart: every deployment that the journal shows unfinished is finished or put right, before anything else.

use evenkeel_core::{
    id::SyncId,
    journal::{Event, Group, State},
    outcome::Outcome,
    reason::{Code, Reason},
    release::Release,
};

use super::{
    deploy::{self, Until},
    group,
};
use crate::{
    git::Repo,
    host::{Host, messages, now_ms},
    run::{Deployment, Run},
    steps::images,
    store::Unfinished,
};

/// Takes up every unfinished deployment, oldest first. Gives how many there were.
pub async fn recover(host: &Host) -> Result<usize, Reason> {
    let unfinished = host.store.unfinished().map_err(|e| e.reason())?;
    let count = unfinished.len();
    if count > 0 {
        // Without the engine nothing can be finished, and no try is spent on it.
        host.engine.version().await.map_err(|e| e.reason(Code::EngineUnreachable))?;
    }
    let mut waiting: Vec<((SyncId, Group), Vec<Deployment>)> = Vec::new();
    for found in unfinished {
        if host.stop.is_cancelled() {
            return Err(deploy::stopped());
        }
        tracing::warn!(stack = %found.stack, state = ?found.progress.state(), "taking up an unfinished deployment");
        let sync = found.sync;
        let deployment = take_up(host, found).await?;
        let is_open = deployment.progress().todo().is_some();
        let Some(group) = deployment.progress().group().filter(|_| is_open).cloned() else { continue };
        match waiting.iter_mut().find(|(key, _)| *key == (sync, group.clone())) {
            Some((_, members)) => members.push(deployment),
            None => waiting.push(((sync, group), vec![deployment])),
        }
    }
    for ((sync, group), members) in waiting {
        group::take_up(host, (sync, &group), members).await?;
    }
    if host.stop.is_cancelled() {
        return Err(deploy::stopped());
    }
    // A kill right after an end leaves what comes after it undone.
    for stack in host.store.stacks_with_past(host.settings.releases_keep).map_err(|e| e.reason())? {
        images::let_past_go(host, &stack).await?;
    }
    if count > 0 {
        images::sweep(host).await?;
    }
    host.store.end_open_syncs(Outcome::Aborted, now_ms()).map_err(|e| e.reason())?;
    Ok(count)
}

/// Takes one up: to its end, or one of a group as far as it gets without being changed any further.
async fn take_up(host: &Host, found: Unfinished) -> Result<Deployment, Reason> {
    let from = load(host, found.progress.from())?;
    let to = load(host, found.progress.to())?;
    if found.progress.digest().is_some() && found.progress.to().is_some() && to.is_none() {
        return Err(Reason::new(
            Code::StoreFailed,
            format!("the store has no candidate for {}; restore it from a backup", found.stack),
        ));
    }
    let mut sides = from.iter().chain(&to);
    let own = sides.find_map(|r| host.own_stack(&found.stack, &r.project, &r.model));
    let repo = Repo::open(&host.mirror()).ok();
    let commit = found.commit.as_ref().map(|id| messages::commit(repo.as_ref(), id, None));
    let run = Run::resume(host, found.sync);
    let mut deployment = Deployment::found(found, commit, from.as_ref());
    if let Some(reason) = own {
        // An agent that did not know its own stack began it. To go on would end this agent as it ended that one.
        deploy::leave_alone(&run, &mut deployment, reason).await?;
        return Ok(deployment);
    }
    let is_of_group = deployment.progress().group().is_some();
    if is_of_group && matches!(deployment.progress().state(), State::BackedUp | State::Passed) {
        return Ok(deployment); // what becomes of it depends on the others
    }
    if let Err(reason) = deploy::record(host, &mut deployment, &Event::Interrupted) {
        deploy::wake_anyway(host, &deployment).await;
        return Err(reason);
    }
    let state = deployment.progress().state();
    if !is_of_group || state == State::Waking || state.outcome().is_some() {
        deploy::go_on(&run, &mut deployment, None, Until::End).await?;
    }
    Ok(deployment)
}

fn load(host: &Host, id: Option<evenkeel_core::id::ReleaseId>) -> Result<Option<Release>, Reason> {
    match id {
        Some(id) => host.store.release(id).map_err(|e| e.reason()),
        None => Ok(None),
    }
}
