//! The second spine: one stack, from intent to record. Living and recovering run the same loop.

use std::collections::BTreeSet;

use evenkeel_core::{
    change::{ServiceChange, StackChange},
    id::ReleaseId,
    journal::{ApplyPermit, Event, Group, Progress, Purpose, Restore, SnapshotDecision, State, Todo},
    outcome::Outcome,
    plan::{self, Side},
    reason::{Code, Reason},
    release::{Candidate, Release},
};

use super::Prepared;
use crate::{
    host::{Host, people},
    run::{Deployment, End, Intent, Phase, Run},
    steps::{
        apply::{self, Target},
        backup, beside, gate,
        gate::{Stood, Watched},
        images, quiesce, restore as data,
        stage::{self, StageInput},
    },
};

/// Deploys one change of the plan and remembers how it ended. Only a store that fails is an error.
pub async fn deploy(
    run: &Run<'_>,
    change: &StackChange,
    prepared: &Prepared,
    from: Option<&Release>,
) -> Result<(), Reason> {
    if run.host.stop.is_cancelled() {
        return Err(stopped()); // it waited for its turn within the wave
    }
    if let Some(suspension) = people::suspension_of(&run.host.store, &change.stack).map_err(|e| e.reason())? {
        // Somebody suspended it while it waited.
        let (from, reason) = (from.map(|release| &release.commit), people::suspension_reason(&suspension));
        return run.set_aside(&change.stack, from, Outcome::Held, reason).map_err(|e| e.reason());
    }
    let deployment = intend(run, change, (prepared, from), None)?;
    drive(run, deployment, material(change, prepared, from).as_ref()).await
}

/// Makes the intent durable to deploy one change of the plan.
pub fn intend(
    run: &Run<'_>,
    change: &StackChange,
    (prepared, from): (&Prepared, Option<&Release>),
    group: Option<&Group>,
) -> Result<Deployment, Reason> {
    let intent = Intent {
        sync: run.id,
        stack: &change.stack,
        digest: prepared.candidate(&change.stack).map(Candidate::digest),
        from,
        commit: run.commit(),
        changes: &change.services,
        purpose: Purpose::Deploy,
        group,
    };
    Deployment::intend(run.host, &intent).map_err(|e| e.reason())
}

/// What a change is made of; a removal is made of nothing.
pub fn material<'p>(change: &StackChange, prepared: &'p Prepared, from: Option<&'p Release>) -> Option<StageInput<'p>> {
    let candidate = prepared.candidate(&change.stack)?;
    Some(StageInput { candidate, from, tree: &prepared.tree, root: &prepared.root })
}

/// Puts parts of the release back that a stack runs, from the store alone.
pub async fn heal(run: &Run<'_>, release: &Release, changes: &[ServiceChange]) -> Result<(), Reason> {
    let intent = Intent {
        sync: run.id,
        stack: &release.stack,
        digest: Some(release.digest.clone()),
        from: Some(release),
        commit: None,
        changes,
        purpose: Purpose::Heal(changes.iter().map(|change| change.service.clone()).collect()),
        group: None,
    };
    let deployment = Deployment::intend(run.host, &intent).map_err(|e| e.reason())?;
    drive(run, deployment, None).await
}

/// Puts a kept release back, as a person wants it: the way of any deployment, with nothing to bring.
pub async fn put_back(run: &Run<'_>, kept: &Release, from: Option<&Release>) -> Result<(), Reason> {
    let root = run.host.live.root().display().to_string();
    let changes = plan::diff(&root, from.map(Side::of_release), Some(Side::of_release(kept)));
    let intent = Intent {
        sync: run.id,
        stack: &kept.stack,
        digest: Some(kept.digest.clone()),
        from,
        commit: run.commit(),
        changes: &changes,
        purpose: Purpose::Again(kept.id),
        group: None,
    };
    let deployment = Deployment::intend(run.host, &intent).map_err(|e| e.reason())?;
    drive(run, deployment, None).await
}

/// How far a deployment goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Up to where its images are here.
    Staged,
    /// Up to where the server would be changed.
    Prepared,
    /// To where it waits for its group, or would go back.
    Passed,
    /// To its end.
    End,
}

impl Until {
    fn is_reached(self, progress: &Progress, todo: &Todo) -> bool {
        let last = match self {
            Self::Staged => State::Staged,
            Self::Prepared => State::BackedUp,
            Self::Passed => State::RollingBack,
            Self::End => return *todo == Todo::AwaitGroup,
        };
        *todo == Todo::AwaitGroup || progress.state() == last
    }
}

/// Does what the journal says comes next, and journals what came of it, until there is an end or a stop.
pub async fn drive(run: &Run<'_>, mut deployment: Deployment, material: Option<&StageInput<'_>>) -> Result<(), Reason> {
    go_on(run, &mut deployment, material, Until::End).await
}

/// The same, as far as wanted.
pub async fn go_on(
    run: &Run<'_>,
    deployment: &mut Deployment,
    material: Option<&StageInput<'_>>,
    until: Until,
) -> Result<(), Reason> {
    let done = Box::pin(go(run, deployment, material, until)).await;
    if done.is_err() {
        wake_anyway(run.host, deployment).await;
    }
    done
}

/// Where the journal cannot go on, such as on a full disk, nobody is left holding still for a backup.
pub async fn wake_anyway(host: &Host, deployment: &Deployment) {
    let progress = deployment.progress();
    if progress.state() != State::BackingUp || !progress.has_calmed() {
        return;
    }
    let from = progress.from().and_then(|id| host.store.release(id).ok().flatten());
    if let Err(reason) = Box::pin(quiesce::wake(host, from.as_ref(), progress)).await {
        tracing::error!(stack = %deployment.stack, %reason, "what held still for a backup may not run");
    }
}

async fn go(
    run: &Run<'_>,
    deployment: &mut Deployment,
    material: Option<&StageInput<'_>>,
    until: Until,
) -> Result<(), Reason> {
    let host = run.host;
    while let Some(todo) = deployment.progress().todo() {
        if until.is_reached(deployment.progress(), &todo) {
            return Ok(());
        }
        if host.stop.is_cancelled() && !touched(deployment) {
            if stays(deployment) {
                return Err(stopped());
            }
            record(host, deployment, &Event::Interrupted)?;
            continue;
        }
        let step = Step { run, host, deployment, material };
        let done = match todo {
            Todo::Stage => step.stage().await?,
            Todo::BeginBackup => step.begin_backup().await?,
            Todo::BackUp => step.back_up().await?,
            Todo::Wake => step.wake().await?,
            Todo::BeginApply => step.begin(true).await?,
            Todo::Apply(permit) => step.apply(&permit, true).await?,
            Todo::Gate => step.gate(true).await?,
            Todo::Switch(permit) => step.switch(&permit).await?,
            Todo::AwaitGroup => return Ok(()),
            Todo::Retire(permit) => step.retire(&permit).await?,
            Todo::BeginRollback => step.begin(false).await?,
            Todo::RollBack(permit) => step.apply(&permit, false).await?,
            Todo::GateRollback => step.gate(false).await?,
        };
        match done {
            // An engine that is away is no fault of a candidate: the journal stays, and the next start goes on.
            Done::Event(Event::Failed { reason }) if reason.code == Code::EngineUnreachable && stays(deployment) => {
                return Err(reason);
            }
            Done::Event(event) => record(host, deployment, &event)?,
            Done::Staged(staged) => {
                deployment.stage(host, &staged.release, &staged.contents).map_err(|e| e.reason())?;
                if let Some(id) = deployment.progress().to() {
                    images::keep(host, id).await?;
                }
            }
            Done::Stopped => return Err(stopped()),
        }
    }
    conclude(run, deployment).await
}

/// A release that the journal names. That the store lacks it is not the same as none: that would mean to take down.
pub fn load(host: &Host, id: Option<ReleaseId>) -> Result<Option<Release>, Reason> {
    let Some(id) = id else { return Ok(None) };
    let lost = || Reason::new(Code::StoreFailed, format!("the store has no release {id}; restore it from a backup"));
    host.store.release(id).map_err(|e| e.reason())?.ok_or_else(lost).map(Some)
}

/// Ends what was found unfinished and what nobody may go on with. It is told as any other end.
pub async fn leave_alone(run: &Run<'_>, deployment: &mut Deployment, reason: Reason) -> Result<(), Reason> {
    record(run.host, deployment, &Event::LeftAlone { reason })?;
    conclude(run, deployment).await
}

/// Journals an event. Before a restore ends, what it leaves behind is tidied; where a person must act, all stays.
pub fn record(host: &Host, deployment: &mut Deployment, event: &Event) -> Result<(), Reason> {
    let ends = deployment
        .progress()
        .clone()
        .next(event)
        .is_ok_and(|next| next.state().outcome().is_some_and(|outcome| outcome != Outcome::Halted));
    if let (Some(restore), true) = (deployment.progress().restore(), ends) {
        data::tidy(restore);
    }
    deployment.record(host, event).map_err(|e| e.reason())
}

/// Why a sync ends before its work is done when the agent is asked to stop.
pub fn stopped() -> Reason {
    Reason::new(Code::Interrupted, "the agent was asked to stop; what it began is taken up at its next start")
}

/// Whether the server may have been changed already.
fn touched(deployment: &Deployment) -> bool {
    deployment.progress().state().is_touched()
}

/// Whether it is taken up where it is: it may have been changed, or, while it is only prepared, others that move with it.
fn stays(deployment: &Deployment) -> bool {
    let progress = deployment.progress();
    touched(deployment) || (progress.group().is_some() && progress.state() == State::BackedUp)
}

/// What came of a step.
enum Done {
    Event(Event),
    Staged(Box<stage::Staged>),
    Stopped,
}

impl Done {
    fn of(result: Result<Event, Reason>) -> Self {
        Self::Event(result.unwrap_or_else(|reason| Event::Failed { reason }))
    }
}

struct Step<'a> {
    run: &'a Run<'a>,
    host: &'a Host,
    deployment: &'a Deployment,
    material: Option<&'a StageInput<'a>>,
}

impl Step<'_> {
    async fn phase<T>(&self, phase: Phase, work: impl Future<Output = Result<T, Reason>>) -> Result<T, Reason> {
        self.run.phase_of(Some(&self.deployment.stack), phase, work).await
    }

    /// The releases on both sides, as the store has them.
    fn releases(&self) -> Result<(Option<Release>, Option<Release>), Reason> {
        let progress = self.deployment.progress();
        Ok((load(self.host, progress.from())?, load(self.host, progress.to())?))
    }

    /// What shall run and what may run instead: forward for a candidate, back for a rollback.
    fn sides<'r>(forward: bool, from: Option<&'r Release>, to: Option<&'r Release>) -> Target<'r> {
        if forward { Target { to, other: from } } else { Target { to: from, other: to } }
    }

    async fn stage(&self) -> Result<Done, Reason> {
        if self.deployment.is_heal() {
            let (from, _) = self.releases()?;
            let here = self.phase(Phase::Stage, stage::check_way_back(self.host, from.as_ref())).await;
            return Ok(Done::of(here.map(|()| Event::Staged { to: from.map(|r| r.id) })));
        }
        let again = self.deployment.progress().again();
        if let Some(restore) = self.deployment.progress().restore() {
            return self.bring(restore).await;
        }
        let work = async {
            match (again, self.material) {
                (Some(kept), _) => stage::again(self.host, kept, self.releases()?.0.as_ref()).await.map(Some),
                (None, Some(material)) => stage::stage(self.host, material, self.deployment.id).await.map(Some),
                (None, None) => Ok(None),
            }
        };
        let work = self.phase(Phase::Stage, work);
        tokio::select! {
            staged = work => Ok(match staged {
                Ok(Some(staged)) => Done::Staged(Box::new(staged)),
                Ok(None) => Done::Event(Event::Staged { to: None }),
                Err(reason) => Done::Event(Event::Failed { reason }),
            }),
            () = self.host.stop.cancelled() => Ok(Done::Event(Event::Interrupted)),
        }
    }

    /// Brings data out of a snapshot: what is staged of a restore.
    async fn bring(&self, restore: &Restore) -> Result<Done, Reason> {
        let (Some(release), _) = self.releases()? else {
            return Err(Reason::new(Code::Internal, "a restore of no release; please report this"));
        };
        let work = self.phase(Phase::Stage, data::bring(self.host, restore, &release));
        tokio::select! {
            brought = work => Ok(Done::of(brought.map(|()| Event::Staged { to: Some(release.id) }))),
            () = self.host.stop.cancelled() => Ok(Done::Event(Event::Interrupted)),
        }
    }

    /// Decides who holds still for the backup: it is written before anybody does.
    async fn begin_backup(&self) -> Result<Done, Reason> {
        let saves_nothing = self.deployment.is_heal() || self.deployment.progress().restore().is_some();
        let (from, _) = self.releases()?;
        let quiet = Box::pin(quiesce::quiet(self.host, from.as_ref().filter(|_| !saves_nothing))).await;
        Ok(Done::of(quiet.map(|quiet| Event::BackupStarted { quiet })))
    }

    async fn wake(&self) -> Result<Done, Reason> {
        let (from, _) = self.releases()?;
        let wake = Box::pin(quiesce::wake(self.host, from.as_ref(), self.deployment.progress()));
        let woken = self.phase(Phase::Backup, wake).await;
        Ok(Done::of(woken.map(|()| Event::Woken)))
    }

    async fn back_up(&self) -> Result<Done, Reason> {
        let decided = |snapshot| Ok(Done::Event(Event::BackedUp { snapshot, left_out: Vec::new() }));
        if self.deployment.is_heal() {
            return decided(SnapshotDecision::SameRelease);
        }
        if let Some(restore) = self.deployment.progress().restore() {
            return decided(SnapshotDecision::KeptAside(restore.aside()));
        }
        let (from, to) = self.releases()?;
        let backup = Box::pin(backup::back_up(self.host, from.as_ref(), to.as_ref(), self.deployment.progress()));
        let work = self.phase(Phase::Backup, backup);
        let decided = tokio::select! {
            result = work => result,
            () = self.host.stop.cancelled() => return Ok(Done::Event(Event::Interrupted)),
        };
        if let (Ok(Event::BackedUp { snapshot: SnapshotDecision::Taken(id), .. }), Some(mut to)) = (&decided, to) {
            to.snapshot = Some(id.clone());
            self.host.store.amend(&to).map_err(|e| e.reason())?;
        }
        Ok(Done::of(decided))
    }

    /// Spends a try: it is written before anything is touched.
    async fn begin(&self, forward: bool) -> Result<Done, Reason> {
        let (from, to) = self.releases()?;
        let project = from.as_ref().or(to.as_ref()).map(|r| r.project.clone()).unwrap_or_default();
        let (shall_run, _) = if forward { (&to, &from) } else { (&from, &to) };
        if let Some(release) = shall_run
            && let Err(reason) = images::be_here(self.host, release).await
        {
            if reason.code == Code::Interrupted {
                return Ok(if stays(self.deployment) { Done::Stopped } else { Done::Event(Event::Interrupted) });
            }
            // Of a candidate that was staged a moment ago: the next sync brings it anew.
            let code = if forward && reason.code == Code::ImageMissing { Code::ImagePull } else { reason.code };
            return Ok(Done::Event(Event::Failed { reason: Reason::new(code, reason.message) }));
        }
        let begun = async {
            let (before, ailing) = apply::standing(self.host, &project, self.deployment.progress().heal()).await?;
            if !forward {
                return Ok(Event::RollbackStarted { before });
            }
            let beside = self.beside(from.as_ref(), to.as_ref()).await?;
            Ok(Event::ApplyStarted { before, ailing, beside })
        };
        Ok(Done::of(begun.await))
    }

    /// The services that are started beside their old containers. Not where parts of a release or data are put back.
    async fn beside(&self, from: Option<&Release>, to: Option<&Release>) -> Result<Vec<String>, Reason> {
        let is_plain = !self.deployment.is_heal() && self.deployment.progress().restore().is_none();
        match (from, to) {
            (Some(from), Some(to)) if is_plain => beside::chosen(self.host, from, to).await,
            _ => Ok(Vec::new()),
        }
    }

    async fn apply(&self, permit: &ApplyPermit, forward: bool) -> Result<Done, Reason> {
        let (from, to) = self.releases()?;
        let target = Self::sides(forward, from.as_ref(), to.as_ref());
        let phase = if forward { Phase::Apply } else { Phase::Rollback };
        let done = self.phase(phase, apply::apply(self.host, permit, target)).await;
        Ok(Done::of(done.map(|()| if forward { Event::Applied } else { Event::RollbackApplied })))
    }

    async fn gate(&self, forward: bool) -> Result<Done, Reason> {
        let (from, to) = self.releases()?;
        let target = Self::sides(forward, from.as_ref(), to.as_ref());
        let progress = self.deployment.progress();
        let signalled = apply::signalled(self.host, target);
        let (before, ailing) = (progress.before(), progress.ailing());
        let since_ms = self.deployment.started_ms;
        let beside = if forward { progress.beside() } else { &[] };
        let stood = Stood { before, ailing, back: !forward, beside, signalled: &signalled, since_ms };
        let watch = async {
            Ok::<_, Reason>(match (target.to, target.other) {
                (Some(release), _) => gate::watch(self.host, release, self.host.gate_policy(release.gate), stood).await,
                (None, Some(gone)) => {
                    let spared = if forward { &[][..] } else { progress.stood() };
                    gate::absent(self.host, gone, spared, self.host.settings.gate.healthy_deadline).await
                }
                (None, None) => Watched::Passed(Vec::new()),
            })
        };
        Ok(match self.phase(Phase::Gate, watch).await? {
            Watched::Passed(seen) if forward => Done::Event(Event::GatePassed { seen }),
            Watched::Passed(_) => Done::Event(Event::RollbackPassed),
            Watched::Failed(reason) => Done::Event(Event::Failed { reason }),
            Watched::Stopped => Done::Stopped,
        })
    }
}

/// What comes after the gate where services were started beside their old containers.
impl Step<'_> {
    async fn switch(&self, permit: &ApplyPermit) -> Result<Done, Reason> {
        let to = self.candidate()?;
        let signalled = BTreeSet::new();
        let stood = Stood {
            before: permit.stood(),
            ailing: permit.ailing(),
            back: false,
            beside: permit.beside(),
            signalled: &signalled,
            since_ms: self.deployment.started_ms,
        };
        let policy = self.host.gate_policy(to.gate);
        let switched = self.phase(Phase::Gate, beside::switch(self.host, permit, &to, policy, stood)).await;
        Ok(match switched {
            Ok(Watched::Passed(_)) => Done::Event(Event::Switched),
            Ok(Watched::Failed(reason)) | Err(reason) => Done::Event(Event::Failed { reason }),
            Ok(Watched::Stopped) => Done::Stopped,
        })
    }

    async fn retire(&self, permit: &ApplyPermit) -> Result<Done, Reason> {
        let (from, to) = (self.releases()?.0, self.candidate()?);
        let retired = self.phase(Phase::Retire, beside::retire(self.host, permit, (from.as_ref(), &to))).await?;
        Ok(retired.map_or(Done::Stopped, Done::Event))
    }

    fn candidate(&self) -> Result<Release, Reason> {
        let no_candidate = || Reason::new(Code::Internal, "nothing was started beside a removal; please report this");
        self.releases()?.1.ok_or_else(no_candidate)
    }
}

/// After the end: what is remembered of it, and what is not needed any more. A failure here is a warning.
async fn conclude(run: &Run<'_>, deployment: &Deployment) -> Result<(), Reason> {
    let progress = deployment.progress();
    let outcome = progress.state().outcome().unwrap_or(Outcome::Halted);
    run.ended(End { stack: deployment.stack.clone(), outcome, reason: progress.failure().cloned() });
    images::let_past_go(run.host, &deployment.stack).await
}
