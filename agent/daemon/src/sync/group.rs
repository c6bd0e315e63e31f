//! Stacks that move together: all are prepared before the first is changed, and committed when all have passed.
//!
//! What becomes of them is read from their journals ([`evenkeel_core::group`]), so that a restart decides as a living agent does.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

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
    let group = Group { name: name.clone(), waves: order(changes, prepared) };
    let from = |change: &StackChange| releases.get(&change.stack);
    // All of them before the first is begun: a journal that lacks one tells that no more was done.
    let intend = |change: &&StackChange| deploy::intend(run, change, (prepared, from(change)), Some(&group));
    let mut all: Vec<Deployment> = changes.iter().map(intend).collect::<Result<_, _>>()?;
    tracing::info!(group = %name, stacks = all.len(), "moving together");
    // Nobody holds still for a backup before the images of all are here.
    for until in [Until::Staged, Until::Prepared] {
        let each = all.iter_mut().zip(changes).map(|(deployment, change)| async move {
            go_on(run, deployment, deploy::material(change, prepared, from(change)).as_ref(), until).await
        });
        side_by_side(run, each).await?;
        if run.host.stop.is_cancelled() {
            interrupt(run, all).await?;
            return Err(deploy::stopped());
        }
        if judge(&group, &all, &BTreeMap::new()) != Verdict::Wait {
            break;
        }
    }
    apply(run, &group, all, &BTreeMap::new()).await
}

/// Each after those that it depends on, be it through stacks that do not change.
fn order(changes: &[&StackChange], prepared: &Prepared) -> Vec<Vec<StackName>> {
    let waves = plan::waves(prepared.candidates.accepted.iter().map(|c| (&c.stack, c.depends_on.as_slice())));
    let changes_in = |wave: Vec<&StackName>| {
        let changing = wave.into_iter().filter(|stack| changes.iter().any(|change| change.stack == **stack));
        changing.cloned().collect::<Vec<_>>()
    };
    waves.into_iter().map(changes_in).filter(|wave| !wave.is_empty()).collect()
}

async fn side_by_side(
    run: &Run<'_>,
    each: impl Iterator<Item = impl Future<Output = Result<(), Reason>>>,
) -> Result<(), Reason> {
    let done: Vec<_> = stream::iter(each).buffer_unordered(run.host.settings.engine.parallel).collect().await;
    done.into_iter().collect()
}

/// Ends those of a group that were begun, where nobody was touched: the next sync looks again.
async fn interrupt(run: &Run<'_>, all: Vec<Deployment>) -> Result<(), Reason> {
    for mut deployment in all.into_iter().filter(|one| one.progress().todo().is_some()) {
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
    for wave in &group.waves {
        if judge(group, &all, ended) != Verdict::Wait {
            break;
        }
        if stop_those_who_may_not(run, &mut all).await? {
            break;
        }
        let has_failed = AtomicBool::new(false);
        let of_wave = all.iter_mut().filter(|one| wave.contains(&one.stack));
        let each = of_wave.map(|deployment| async {
            if deployment.progress().state() == State::BackedUp && has_failed.load(Ordering::Relaxed) {
                return Ok(()); // it waited for its turn within the wave
            }
            let done = go_on(run, deployment, None, Until::Passed).await;
            has_failed.fetch_or(deployment.progress().failure().is_some(), Ordering::Relaxed);
            done
        });
        side_by_side(run, each).await?;
    }
    settle(run, group, all, ended).await
}

/// Ends those that are prepared and that a person stopped since the group was begun. Whether there are any.
async fn stop_those_who_may_not(run: &Run<'_>, all: &mut [Deployment]) -> Result<bool, Reason> {
    let mut any = false;
    for deployment in all.iter_mut().filter(|one| one.progress().state() == State::BackedUp) {
        if let Some(reason) = may_not_begin(run.host, &deployment.stack)? {
            deploy::record(run.host, deployment, &Event::Failed { reason })?;
            go_on(run, deployment, None, Until::End).await?;
            any = true;
        }
    }
    Ok(any)
}

/// What people said since the group was begun.
fn may_not_begin(host: &Host, stack: &StackName) -> Result<Option<Reason>, Reason> {
    if host.settings.observe {
        return Ok(Some(Reason::new(Code::Observing, "observe is on: it is not changed")));
    }
    let suspension = people::suspension_of(&host.store, stack).map_err(|e| e.reason())?;
    Ok(suspension.as_ref().map(people::suspension_reason))
}

/// Takes up a group, of which `found` have no end yet, after a restart.
pub async fn take_up(host: &Host, (sync, group): (SyncId, &Group), mut found: Vec<Deployment>) -> Result<(), Reason> {
    let is_here = |stack: &StackName| found.iter().any(|deployment| deployment.stack == *stack);
    let mut ended = BTreeMap::new();
    for stack in group.members().filter(|stack| !is_here(stack)) {
        if let Some(progress) = host.store.progress(sync, stack).map_err(|e| e.reason())? {
            ended.insert(stack.clone(), progress);
        }
    }
    let run = Run::resume(host, sync);
    let is_touched = |progress: &Progress| !matches!(progress.state(), State::BackedUp | State::Aborted);
    if !found.iter().map(Deployment::progress).chain(ended.values()).any(is_touched) {
        return interrupt(&run, found).await;
    }
    // Where one has failed, or may be committed, it is decided.
    if may_all_go_back(&found, &ended) && !matches!(judge(group, &found, &ended), Verdict::GoBack(_)) {
        for deployment in found.iter_mut().filter(|one| one.progress().state() == State::Passed) {
            deploy::record(host, deployment, &Event::Interrupted)?;
        }
    }
    apply(&run, group, found, &ended).await
}

/// Judges a group, of which `ended` have been concluded before, and takes the others to their end.
async fn settle(
    run: &Run<'_>,
    group: &Group,
    mut all: Vec<Deployment>,
    ended: &BTreeMap<StackName, Progress>,
) -> Result<(), Reason> {
    if may_all_go_back(&all, ended) && all.iter().all(|one| one.progress().state() == State::Passed) {
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
    let mut all: Vec<Deployment> = all.into_iter().filter(|one| one.progress().todo().is_some()).collect();
    // First the word for all, so that the files of one that goes back are nobody's who runs; then the deeds.
    for deployment in &mut all {
        if let Some(event) = after_group(run.host, deployment, word.clone()).await? {
            deploy::record(run.host, deployment, &event)?;
        }
    }
    // Where one depends on another it goes back first. Those that are at their end have it told, whatever holds up another.
    let mut done = Ok(());
    for wave in group.waves.iter().rev() {
        let of_wave = all.iter_mut().filter(|one| wave.contains(&one.stack));
        let each = of_wave.filter(|one| done.is_ok() || one.progress().todo().is_none());
        let next = side_by_side(run, each.map(|deployment| go_on(run, deployment, None, Until::End))).await;
        done = done.and(next);
    }
    done
}

/// Whether none of them may be committed.
fn may_all_go_back(all: &[Deployment], ended: &BTreeMap<StackName, Progress>) -> bool {
    let mut states = all.iter().map(Deployment::progress).chain(ended.values()).map(Progress::state);
    !states.any(|state| matches!(state, State::Retiring | State::Committed))
}

/// What a group's word is for one of them, as the journal takes it: it goes on, or goes back. `None`: it does already.
async fn after_group(
    host: &Host,
    deployment: &Deployment,
    verdict: Result<(), Reason>,
) -> Result<Option<Event>, Reason> {
    let state = deployment.progress().state();
    Ok(match verdict {
        Err(_) if matches!(state, State::RollingBack | State::GatingRollback | State::Retiring) => None,
        Err(reason) => Some(Event::Failed { reason }),
        Ok(()) if state != State::Passed => None,
        Ok(()) => {
            let to = deploy::load(host, deployment.progress().to())?;
            let seen = match &to {
                Some(to) => gate::seen_now(host, to).await,
                None => Vec::new(),
            };
            Some(Event::GroupPassed { seen })
        }
    })
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
