//! The first spine: one commit on one server, from a trigger to the end of its last deployment.

mod deploy;
mod prepare;
mod recover;

use std::{collections::BTreeMap, sync::Arc};

use evenkeel_core::{
    change::{StackChange, StackChangeKind},
    id::Digest,
    outcome::Outcome,
    plan::Plan,
    reason::{Code, Reason},
    release::{Release, removal_digest},
    trust::VerifiedRevision,
};
use evenkeel_layout::name::StackName;
use futures_util::{StreamExt as _, stream};

pub use prepare::{Cache, Prepared};
pub use recover::recover;

use crate::{
    config::settings::Event,
    git::{self, Repo},
    host::{
        Host,
        messages::{self, Happening},
        now_ms,
    },
    run::{Phase, Run, SyncEnd},
    store::{RefusedTip, StoreError},
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

/// One sync, with a record of its end, whatever that is. `insists` says that a person or a change asked for it, so
/// that what waits for one is tried again.
pub async fn sync(host: &Host, cache: &mut Cache, trigger: &str, insists: bool) -> SyncEnd {
    let run = match Run::begin(host, trigger, insists) {
        Ok(run) => run,
        Err(error) => return SyncEnd::failed(None, Outcome::Halted, error.reason()),
    };
    let id = run.id;
    if insists {
        cache.clear();
    }
    let end = match line(host, cache, &run).await {
        Ok(()) => run.conclude(),
        Err(fault) => run.fail(fault.outcome, fault.reason),
    };
    end.unwrap_or_else(|error| SyncEnd::failed(Some(id), Outcome::Halted, error.reason()))
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
    host.store.contact(&fetched.tip, now_ms())?;
    let revision = run.phase(Phase::Trust, trust(host, run, fetched)).await.map_err(Fault::from)??;
    let prepared = run.phase(Phase::Render, cache.prepare(host, &revision)).await?;
    let containers = run.phase(Phase::Observe, host.engine.containers()).await;
    let containers = containers.map_err(|e| e.reason(Code::EngineUnreachable))?;
    let releases = host.store.current_releases()?;
    let plan = prepared.plan(host, &releases, &containers)?;
    Ok(Seen { prepared, releases, plan })
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
    run.hold(&plan.held, &releases)?;
    run.note_steady(&plan, &prepared, &releases)?;
    let removals = plan.waves.iter().flatten().filter(|c| c.change == StackChangeKind::Remove).count();
    for wave in &plan.waves {
        if host.stop.is_cancelled() {
            return Err(deploy::stopped().into());
        }
        let ready = run.ready(wave, &prepared, &releases, removals)?;
        stream::iter(ready)
            .map(|change| deploy::deploy(run, change, &prepared, releases.get(&change.stack)))
            .buffer_unordered(host.settings.engine.parallel)
            .collect::<Vec<Result<(), Reason>>>()
            .await
            .into_iter()
            .collect::<Result<(), Reason>>()?;
    }
    cache.tidy(host);
    Ok(())
}

/// Judges the tip. What is accepted is durable at once, whatever the deployments then do.
async fn trust(host: &Host, run: &Run<'_>, fetched: git::Fetched) -> Result<Result<VerifiedRevision, Fault>, Reason> {
    let (mirror, settings) = (host.mirror(), host.settings.trust.clone());
    let accepted = host.store.accepted().map_err(|e| e.reason())?;
    let accepted = accepted.map(|(commit, payload)| evenkeel_core::trust::Accepted { commit, payload });
    let tip = fetched.tip.clone();
    let judged = tokio::task::spawn_blocking(move || {
        let verdict = git::verify(&mirror, &settings, &tip, accepted.as_ref(), now_ms() / 1000)?;
        let repo = Repo::open(&mirror)?;
        let commit = messages::commit(Some(&repo), &tip, verdict.as_ref().ok());
        Ok::<_, git::GitError>((verdict, commit))
    })
    .await
    .map_err(|_| Reason::new(Code::Internal, "judging the commits panicked; please report this"))?;
    let (verdict, commit) = judged.map_err(|e| e.reason())?;
    run.set_commit(commit).map_err(|e| e.reason())?;
    match verdict {
        Ok(revision) => {
            let was_refused = host.store.source_state().map_err(|e| e.reason())?.refused.is_some();
            host.store.accept(revision.tip(), revision.payload_digest(), now_ms()).map_err(|e| e.reason())?;
            if was_refused {
                run.tell_whole(Event::Recovered, Outcome::Committed, None)?;
            }
            Ok(Ok(revision))
        }
        Err(refusal) => {
            let reason = refusal.to_reason();
            let refused = RefusedTip {
                tip: fetched.tip.to_string(),
                commit: refusal.commit.to_string(),
                code: refusal.code.as_str().to_owned(),
                message: reason.message.clone(),
            };
            if host.store.refuse(&refused).map_err(|e| e.reason())? {
                run.tell_whole(Event::Refused, Outcome::Refused, Some(&reason))?;
            }
            Ok(Err(Fault { outcome: Outcome::Refused, reason }))
        }
    }
}

impl Run<'_> {
    /// Tells of something that concerns the whole commit.
    fn tell_whole(&self, event: Event, outcome: Outcome, reason: Option<&Reason>) -> Result<(), Reason> {
        let messages = self.host.tell(&Happening {
            stack: None,
            event,
            commit: self.commit(),
            from: None,
            to: None,
            outcome,
            reason,
            services: &[],
            duration_ms: None,
            snapshot: None,
        });
        self.host.store.enqueue(&messages, now_ms()).map_err(|e| e.reason())?;
        self.host.outbox.notify_one();
        Ok(())
    }

    /// Sets aside what cannot be deployed as the commit has it. It keeps its release.
    fn reject(&self, prepared: &Prepared, releases: &BTreeMap<StackName, Release>) -> Result<(), Fault> {
        for (stack, problems) in &prepared.candidates.rejected {
            let reason = prepare::rejection(problems);
            self.set_aside(stack, releases.get(stack).map(|r| &r.commit), Outcome::Rejected, reason)?;
        }
        Ok(())
    }

    /// Sets aside what waits for a rejected stack.
    fn hold(&self, held: &[(StackName, StackName)], releases: &BTreeMap<StackName, Release>) -> Result<(), Fault> {
        for (stack, waits_for) in held {
            let what =
                format!("{stack} waits: it depends on {waits_for}, which cannot be deployed as this commit has it");
            let reason = Reason::new(Code::HeldByDependency, what);
            self.set_aside(stack, releases.get(stack).map(|r| &r.commit), Outcome::Held, reason)?;
        }
        Ok(())
    }

    /// Notes the stacks that need nothing.
    fn note_steady(
        &self,
        plan: &Plan,
        prepared: &Prepared,
        releases: &BTreeMap<StackName, Release>,
    ) -> Result<(), Fault> {
        let busy = |stack: &StackName| {
            plan.changes().any(|c| c.stack == *stack) || plan.held.iter().any(|(held, _)| held == stack)
        };
        for candidate in prepared.candidates.accepted.iter().filter(|c| !busy(&c.stack)) {
            if let Some(release) = releases.get(&candidate.stack) {
                self.steady(release)?;
            }
        }
        Ok(())
    }

    /// The changes of a wave that may go ahead; the others are set aside with their reason.
    fn ready<'w>(
        &self,
        wave: &'w [StackChange],
        prepared: &Prepared,
        releases: &BTreeMap<StackName, Release>,
        removals: usize,
    ) -> Result<Vec<&'w StackChange>, Fault> {
        let mut ready = Vec::new();
        for change in wave {
            let from = releases.get(&change.stack);
            match self.obstacle(change, prepared, (from, removals))? {
                None => ready.push(change),
                Some((outcome, reason)) => self.set_aside(&change.stack, from.map(|r| &r.commit), outcome, reason)?,
            }
        }
        Ok(ready)
    }

    /// Why these bytes, or this removal, are kept out, if they are.
    fn kept_out(&self, stack: &StackName, digest: &Digest) -> Result<Option<(Outcome, Reason)>, Fault> {
        let Some(kept_out) = self.host.store.quarantined(stack, digest)? else { return Ok(None) };
        let outcome = if kept_out.halted { Outcome::Halted } else { Outcome::Quarantined };
        let what = format!(
            "these very bytes failed before (commit {}: {}); they stay out until something changes",
            kept_out.commit.short(),
            kept_out.reason.message
        );
        Ok(Some((outcome, Reason::new(Code::Quarantined, what))))
    }

    fn obstacle(
        &self,
        change: &StackChange,
        prepared: &Prepared,
        (from, removals): (Option<&Release>, usize),
    ) -> Result<Option<(Outcome, Reason)>, Fault> {
        let (host, stack) = (self.host, &change.stack);
        if host.settings.observe {
            let what = format!("observe is on: {stack} would be changed and was not; `evenkeel plan` shows how");
            return Ok(Some((Outcome::Held, Reason::new(Code::Observing, what))));
        }
        let Some(candidate) = prepared.candidate(stack) else {
            let most = host.settings.prune_max;
            let too_many = removals > most;
            let what = format!(
                "{removals} stacks are gone from the repository and at most {most} may be removed at once; nothing is removed. If this is meant, raise prune.max for a while"
            );
            if too_many {
                return Ok(Some((Outcome::Held, Reason::new(Code::PruneGuard, what))));
            }
            let removal = from.filter(|_| !self.insists).map(|release| removal_digest(&release.digest));
            return removal.map_or(Ok(None), |digest| self.kept_out(stack, &digest));
        };
        if let Some(kept_out) = self.kept_out(stack, &candidate.digest())? {
            return Ok(Some(kept_out));
        }
        let mut current = host.store.current_releases()?.into_values();
        if let Some(old) = current.find(|r| r.stack != *stack && r.project == candidate.project) {
            let what = format!(
                "{stack} waits: the Compose project {} still belongs to the stack {}, which has to be removed first",
                old.project, old.stack
            );
            return Ok(Some((Outcome::Held, Reason::new(Code::HeldByDependency, what))));
        }
        if let Some(blocking) = candidate.depends_on.iter().find(|d| self.blocks(d)) {
            let what = format!("{stack} waits: it depends on {blocking}, which does not run what this commit wants");
            return Ok(Some((Outcome::Held, Reason::new(Code::HeldByDependency, what))));
        }
        if !self.insists
            && let Some(last) = host.store.last_end(stack)?
            && last.outcome == Outcome::Aborted
            && last.commit.as_deref() == Some(candidate.commit.as_str())
            && let Some(reason) = last.reason.filter(|r| r.class == evenkeel_core::reason::Class::Stalled)
        {
            return Ok(Some((Outcome::Aborted, reason)));
        }
        Ok(None)
    }
}
