//! Stacks that move together: all are prepared before the first is changed, and committed when all have passed.
//!
//! What becomes of them is read from their journals ([`evenkeel_core::group`]), so that a restart decides as a living agent does.

use std::collections::BTreeMap;

use evenkeel_core::{
    change::StackChange,
    group::{Verdict, verdict},
    id::SyncId,
    journal::{Event, Group, Progress, State},
    outcome::Outcome,
    plan,
    reason::{Code, Reason},
    release::Release,
};
use evenkeel_layout::name::{GroupName, StackName};
use futures_util::{StreamExt as _, stream};

use super::{
    Prepared,
    deploy::{self, Until, go_on},
};
use crate::{
    host::{Host, people},
    run::{Deployment, Run},
    steps::gate,
};

/// Changes of a wave as they are deployed: those that move alone, and those that move together.
pub type Units<'c> = (Vec<&'c StackChange>, Vec<(&'c GroupName, Vec<&'c StackChange>)>);

/// Sorts changes into those that move alone and groups. A group of which one stack changes moves alone.
pub fn units<'c>(changes: &[&'c StackChange]) -> Units<'c> {
    let mut groups: BTreeMap<&GroupName, Vec<&StackChange>> = BTreeMap::new();
    for change in changes {
        if let Some(group) = &change.group {
            groups.entry(group).or_default().push(change);
        }
    }
    let is_alone = |change: &&&StackChange| change.group.as_ref().is_none_or(|group| groups[group].len() == 1);
    let alone = changes.iter().filter(is_alone).copied().collect();
    (alone, groups.into_iter().filter(|(_, members)| members.len() > 1).collect())
}

/// Deploys the changes of one group and remembers how each ended. Only a store or an engine that fails is an error.
pub async fn deploy(
    run: &Run<'_>,
    (name, changes): (&GroupName, &[&StackChange]),
    prepared: &Prepared,
    releases: &BTreeMap<StackName, Release>,
) -> Result<(), Reason> {
    if run.host.stop.is_cancelled() {
        return Err(deploy::stopped());
    }
    if is_suspended(run, changes, releases)? {
        return Ok(());
    }
    let group = Group { name: name.clone(), members: changes.iter().map(|change| change.stack.clone()).collect() };
    let from = |change: &StackChange| releases.get(&change.stack);
    // All of them before the first is begun: a journal that lacks one tells that no more was done.
    let intend = |change: &&StackChange| deploy::intend(run, change, (prepared, from(change)), Some(&group));
    let mut all: Vec<Deployment> = changes.iter().map(intend).collect::<Result<_, _>>()?;
    tracing::info!(group = %name, stacks = all.len(), "moving together");

    let each = all.iter_mut().zip(changes).map(|(deployment, change)| async move {
        go_on(run, deployment, deploy::material(change, prepared, from(change)).as_ref(), Until::Prepared).await
    });
    side_by_side(run, each).await?;
    if run.host.stop.is_cancelled() {
        interrupt(run, all).await?;
        return Err(deploy::stopped());
    }
    apply(run, &group, all, &BTreeMap::new()).await
}

async fn side_by_side(
    run: &Run<'_>,
    each: impl Iterator<Item = impl Future<Output = Result<(), Reason>>>,
) -> Result<(), Reason> {
    let done: Vec<_> = stream::iter(each).buffer_unordered(run.host.settings.engine.parallel).collect().await;
    done.into_iter().collect()
}

/// Ends those that are prepared, of a group of which nobody was touched: the next sync looks again.
async fn interrupt(run: &Run<'_>, all: Vec<Deployment>) -> Result<(), Reason> {
    for mut deployment in all.into_iter().filter(|one| one.progress().state() == State::BackedUp) {
        deploy::record(run.host, &mut deployment, &Event::Interrupted)?;
        go_on(run, &mut deployment, None, Until::End).await?;
    }
    Ok(())
}

/// Applies and gates what is prepared, in the order of dependencies, until one fails; then judges.
async fn apply(
    run: &Run<'_>,
    group: &Group,
    mut all: Vec<Deployment>,
    ended: &BTreeMap<StackName, Progress>,
) -> Result<(), Reason> {
    let order = order(run.host, &all)?;
    for wave in &order {
        if !matches!(judge(group, &all, ended), Verdict::Wait) {
            break;
        }
        let of_wave = all.iter_mut().filter(|one| wave.contains(&one.stack));
        side_by_side(run, of_wave.map(|deployment| go_on(run, deployment, None, Until::End))).await?;
    }
    // Where one depends on another it goes back first.
    all.sort_by_key(|one| std::cmp::Reverse(order.iter().position(|wave| wave.contains(&one.stack))));
    settle(run, group, all, ended).await
}

/// Each after those that it depends on. What could not even be staged has no order, and needs none.
fn order(host: &Host, all: &[Deployment]) -> Result<Vec<Vec<StackName>>, Reason> {
    let mut needs = BTreeMap::new();
    for deployment in all {
        if let Some(to) = deploy::load(host, deployment.progress().to())? {
            needs.insert(deployment.stack.clone(), to.depends_on);
        }
    }
    let waves = plan::waves(needs.iter().map(|(stack, needs)| (stack, needs.as_slice())));
    Ok(waves.into_iter().map(|wave| wave.into_iter().cloned().collect()).collect())
}

/// Takes up a group of which some were found waiting, after a restart.
pub async fn take_up(host: &Host, (sync, group): (SyncId, &Group), waiting: Vec<Deployment>) -> Result<(), Reason> {
    let is_here = |stack: &StackName| waiting.iter().any(|deployment| deployment.stack == *stack);
    let mut ended = BTreeMap::new();
    for stack in group.members.iter().filter(|stack| !is_here(stack)) {
        if let Some(progress) = host.store.progress(sync, stack).map_err(|e| e.reason())? {
            ended.insert(stack.clone(), progress);
        }
    }
    let run = Run::resume(host, sync);
    let is_touched = |progress: &Progress| !matches!(progress.state(), State::BackedUp | State::Aborted);
    if !waiting.iter().map(Deployment::progress).chain(ended.values()).any(is_touched) {
        return interrupt(&run, waiting).await;
    }
    apply(&run, group, waiting, &ended).await
}

/// Judges a group, of which `ended` have been concluded before, and takes the others to their end.
async fn settle(
    run: &Run<'_>,
    group: &Group,
    mut all: Vec<Deployment>,
    ended: &BTreeMap<StackName, Progress>,
) -> Result<(), Reason> {
    let may_go_back = !ended.values().any(|progress| progress.state() == State::Committed);
    if may_go_back && all.iter().all(|one| one.progress().state() == State::Passed) {
        // The first may have waited for the last as long as a gate takes.
        for deployment in &mut all {
            if let Some(reason) = has_sickened(run.host, deployment).await? {
                deploy::record(run.host, deployment, &Event::Failed { reason })?;
            }
        }
    }
    let word = match judge(group, &all, ended) {
        Verdict::Wait => return Err(deploy::stopped()),
        Verdict::GoOn => Ok(()),
        Verdict::GoBack(reason) => Err(reason),
    };
    for mut deployment in all.into_iter().filter(|one| one.progress().todo().is_some()) {
        if matches!(deployment.progress().state(), State::BackedUp | State::Passed) {
            let event = after_group(run.host, &deployment, word.clone()).await?;
            deploy::record(run.host, &mut deployment, &event)?;
        }
        go_on(run, &mut deployment, None, Until::End).await?;
    }
    Ok(())
}

/// What a group's word is for one that waits for it, as the journal takes it: it goes on, or goes back.
async fn after_group(host: &Host, deployment: &Deployment, verdict: Result<(), Reason>) -> Result<Event, Reason> {
    match (verdict, deploy::load(host, deployment.progress().to())?) {
        (Err(reason), _) => Ok(Event::Failed { reason }),
        (Ok(()), Some(to)) => Ok(Event::GroupPassed { seen: gate::seen_now(host, &to).await }),
        (Ok(()), None) => Ok(Event::GroupPassed { seen: Vec::new() }),
    }
}

/// Why one that has passed fails now, if it does: others may have taken long.
async fn has_sickened(host: &Host, deployment: &Deployment) -> Result<Option<Reason>, Reason> {
    let Some(to) = deploy::load(host, deployment.progress().to())? else { return Ok(None) };
    Ok(gate::failure_now(host, &to, deployment.progress().before()).await)
}

fn judge(group: &Group, all: &[Deployment], ended: &BTreeMap<StackName, Progress>) -> Verdict {
    verdict(group, |stack| {
        let here = all.iter().find(|deployment| deployment.stack == *stack).map(Deployment::progress);
        here.or_else(|| ended.get(stack))
    })
}

/// Whether somebody suspended one of them while they waited for their turn: then none of them moves.
fn is_suspended(
    run: &Run<'_>,
    changes: &[&StackChange],
    releases: &BTreeMap<StackName, Release>,
) -> Result<bool, Reason> {
    for change in changes {
        let Some(suspension) = people::suspension_of(&run.host.store, &change.stack).map_err(|e| e.reason())? else {
            continue;
        };
        for other in changes {
            let own = people::suspension_reason(&suspension);
            let is_it = other.stack == change.stack;
            let reason = if is_it { own } else { waits_for(&other.stack, &change.stack, &own) };
            let commit = releases.get(&other.stack).map(|release| &release.commit);
            run.set_aside(&other.stack, commit, Outcome::Held, reason).map_err(|e| e.reason())?;
        }
        return Ok(true);
    }
    Ok(false)
}

/// Why a stack waits for another one of its group.
pub fn waits_for(stack: &StackName, other: &StackName, why: &Reason) -> Reason {
    let message = format!("{stack} waits: it moves together with {other}, which does not move: {}", why.message);
    Reason { class: why.class, ..Reason::new(Code::HeldByGroup, message) }
}
