//! Which changes of a plan go ahead, and why the others do not.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
};

use evenkeel_core::{
    change::{StackChange, StackChangeKind},
    group::{Wanted, pardoned},
    id::Digest,
    outcome::Outcome,
    plan::Plan,
    reason::{Class, Code, Reason},
    release::{Candidate, Release, removal_digest},
};
use evenkeel_layout::name::StackName;

use super::{Fault, Prepared, group, prepare};
use crate::{
    host::{now_ms, people, window},
    run::Run,
    store::{Keep, KeptOut, StoreError},
};

/// What a plan removes.
pub(super) struct Removals {
    /// Why none of it is removed, if a person has to confirm it.
    held: Option<Reason>,
    confirmed: bool,
    /// What each of the stacks that go depends on.
    depends_on: BTreeMap<StackName, Vec<StackName>>,
}

impl Removals {
    /// Whether what a person let go ahead is done with in this run: none of it waits for a window or the end of a suspension.
    pub(super) fn is_over(&self, run: &Run<'_>) -> bool {
        self.confirmed && !self.depends_on.keys().any(|stack| run.waits_for_time(stack))
    }
}

fn depends_on(going: &BTreeMap<&StackName, &Release>) -> BTreeMap<StackName, Vec<StackName>> {
    going.iter().map(|(stack, release)| ((*stack).clone(), release.depends_on.clone())).collect()
}

impl Run<'_> {
    /// Sets aside what cannot be deployed as the commit has it. It keeps its release.
    pub(super) fn reject(&self, prepared: &Prepared, releases: &BTreeMap<StackName, Release>) -> Result<(), Fault> {
        for (stack, problems) in &prepared.candidates.rejected {
            let reason = prepare::rejection(problems);
            self.set_aside(stack, releases.get(stack).map(|r| &r.commit), Outcome::Rejected, reason)?;
        }
        Ok(())
    }

    /// Sets aside what waits for a rejected stack.
    pub(super) fn hold(&self, plan: &Plan, releases: &BTreeMap<StackName, Release>) -> Result<(), Fault> {
        for held in &plan.held {
            let code = if held.as_group { Code::HeldByGroup } else { Code::HeldByDependency };
            let commit = releases.get(&held.stack).map(|r| &r.commit);
            self.set_aside(&held.stack, commit, Outcome::Held, Reason::new(code, held.to_string()))?;
        }
        Ok(())
    }

    /// Notes the stacks that need nothing.
    pub(super) fn note_steady(
        &self,
        plan: &Plan,
        prepared: &Prepared,
        releases: &BTreeMap<StackName, Release>,
    ) -> Result<(), Fault> {
        let busy = |stack: &StackName| {
            plan.changes().any(|c| c.stack == *stack) || plan.held.iter().any(|held| held.stack == *stack)
        };
        for candidate in prepared.candidates.accepted.iter().filter(|c| !busy(&c.stack)) {
            if let Some(release) = releases.get(&candidate.stack) {
                self.steady(release)?;
                self.amend(release, candidate)?;
                if self.host.store.hold(&candidate.stack)?.is_some() {
                    self.host.store.end_hold(&candidate.stack)?;
                }
            }
        }
        Ok(())
    }

    /// What changes no container needs no deployment to count.
    fn amend(&self, release: &Release, candidate: &Candidate) -> Result<(), Fault> {
        let says = (candidate.gate, candidate.drift, &candidate.window, &candidate.group);
        let said = (release.gate, release.drift, &release.window, &release.group);
        if release.digest != candidate.digest() || said == says {
            return Ok(());
        }
        let (window, group) = (candidate.window.clone(), candidate.group.clone());
        let amended = Release { gate: candidate.gate, drift: candidate.drift, window, group, ..release.clone() };
        Ok(self.host.store.amend(&amended)?)
    }

    /// The changes of a wave that may go ahead; the others are set aside with their reason. Of a group all go ahead, or none.
    pub(super) fn ready<'w>(
        &self,
        wave: &'w [StackChange],
        prepared: &Prepared,
        releases: &BTreeMap<StackName, Release>,
        removals: &Removals,
    ) -> Result<Vec<&'w StackChange>, Fault> {
        let mut found = Vec::new();
        let pardoned = self.pardoned(wave, prepared, releases)?;
        for change in wave {
            let from = releases.get(&change.stack);
            let is_pardoned = pardoned.contains(&change.stack);
            found.push((change, self.obstacle(change, prepared, (from, removals, is_pardoned))?));
        }
        let mut ready = Vec::new();
        for (change, obstacle) in &found {
            let mate = |(other, obstacle): &(&StackChange, Option<(Outcome, Reason)>)| {
                let (_, why) = obstacle.as_ref().filter(|_| change.group.is_some() && other.group == change.group)?;
                // Nobody waits for the agent's own stack, which runs as long as somebody asks.
                if why.code == Code::HeldAsOwn {
                    return None;
                }
                Some((Outcome::Held, group::waits_for(&change.stack, &other.stack, why)))
            };
            match obstacle.clone().or_else(|| found.iter().find_map(mate)) {
                None => ready.push(*change),
                Some((outcome, reason)) => {
                    let commit = releases.get(&change.stack).map(|r| &r.commit);
                    self.set_aside(&change.stack, commit, outcome, reason)?;
                }
            }
        }
        Ok(ready)
    }

    /// Stacks whose earlier failure does not count, by [`pardoned`].
    fn pardoned(
        &self,
        wave: &[StackChange],
        prepared: &Prepared,
        releases: &BTreeMap<StackName, Release>,
    ) -> Result<BTreeSet<StackName>, Fault> {
        let mut wanted = Vec::new();
        for change in wave {
            let Some(candidate) = prepared.candidate(&change.stack) else { continue };
            if self.host.own_stack(&candidate.stack, &candidate.project, &candidate.model).is_some() {
                continue; // it never moves, with whomever
            }
            let digest = candidate.digest();
            let kept_out = self.host.store.kept_out(&candidate.stack, &digest)?.filter(|out| out.keep == Keep::Failed);
            wanted.push(Wanted {
                stack: &candidate.stack,
                group: change.group.as_ref(),
                failed: kept_out.map(|out| out.reason.code),
                is_new: releases.get(&candidate.stack).is_none_or(|release| release.digest != digest),
            });
        }
        Ok(pardoned(&wanted).into_iter().cloned().collect())
    }

    /// Why these bytes, or this removal, are kept out, if they are.
    fn kept_out(&self, stack: &StackName, digest: &Digest) -> Result<Option<(Outcome, Reason)>, Fault> {
        let Some(kept_out) = self.host.store.kept_out(stack, digest)? else { return Ok(None) };
        let outcome = match kept_out.keep {
            Keep::Failed if kept_out.reason.code == Code::GroupFailed => {
                let what = format!("{stack} waits: {}", kept_out.reason.message);
                return Ok(Some((Outcome::Held, Reason::new(Code::HeldByGroup, what))));
            }
            Keep::Failed => Outcome::Quarantined,
            Keep::Halted => Outcome::Halted,
            // The reason stays as a person gave it, so that it is told once.
            Keep::Held | Keep::Accepted => return Ok(Some((Outcome::Held, kept_out.reason))),
        };
        let what = format!(
            "these very bytes failed before (commit {}: {}); they stay out until something changes",
            kept_out.commit.short(),
            kept_out.reason.message
        );
        Ok(Some((outcome, Reason::new(Code::Quarantined, what))))
    }

    /// Why a deployment may not begin at this hour. A stack that goes has the window of its release.
    fn waits_for_window(
        &self,
        change: &StackChange,
        prepared: &Prepared,
        from: Option<&Release>,
    ) -> Option<(Outcome, Reason)> {
        let of_stack = match prepared.candidate(&change.stack) {
            Some(candidate) => candidate.window.as_ref(),
            None => from.and_then(|release| release.window.as_ref()),
        };
        let window = of_stack.or(self.host.settings.window.as_ref()).filter(|_| !self.overrides)?;
        match window::closed(window, jiff::Timestamp::now()) {
            Ok(None) => None,
            Ok(Some((reason, opens))) => {
                let opens = opens.map_or(i64::MAX, jiff::Timestamp::as_millisecond);
                self.host.opens.fetch_min(opens, Ordering::Relaxed);
                Some((Outcome::Held, reason))
            }
            Err(reason) => Some((Outcome::Rejected, reason)),
        }
    }

    /// The removals of a plan, and whether a person has to let them go ahead. What waits for that is in the store, so
    /// that a confirm is bound to this very plan.
    pub(super) fn removals(&self, plan: &Plan, releases: &BTreeMap<StackName, Release>) -> Result<Removals, Fault> {
        let removed = plan.changes().filter(|change| change.change == StackChangeKind::Remove);
        let going: BTreeMap<&StackName, &Release> =
            removed.filter_map(|change| releases.get_key_value(&change.stack)).collect();
        let stacks: Vec<String> = going.keys().map(ToString::to_string).collect();
        let most = self.host.settings.prune_max;
        if stacks.len() <= most {
            self.host.store.guard(None, now_ms())?;
            return Ok(Removals { held: None, confirmed: false, depends_on: depends_on(&going) });
        }
        // The id is seen by people: what it is made of must not let them try guesses at a release's secrets.
        let told = |r: &Release| Ok((r.stack.to_string(), r.project.clone(), self.host.store.shown_digest(&r.digest)?));
        let bytes = going.values().map(|r| told(r)).collect::<Result<Vec<_>, StoreError>>()?;
        let digest = Digest::of(serde_json::json!([self.host.settings.server.as_str(), bytes]).to_string().as_bytes());
        let id: String = digest.as_str().trim_start_matches("sha256:").chars().take(12).collect();
        self.host.store.guard(Some((&id, &stacks)), now_ms())?;
        let is_confirmed = self.host.store.guarded()?.is_some_and(|guarded| guarded.confirmed.is_some());
        let what = format!(
            "{} stacks are gone from the repository ({}) and at most {most} may be removed at once; nothing is removed. If \
             this is meant, say `evenkeel confirm {id} --reason …`",
            stacks.len(),
            stacks.join(", ")
        );
        let held = (!is_confirmed).then(|| Reason::new(Code::PruneGuard, what));
        Ok(Removals { held, confirmed: is_confirmed, depends_on: depends_on(&going) })
    }

    fn removal_obstacle(
        &self,
        stack: &StackName,
        from: Option<&Release>,
        removals: &Removals,
    ) -> Result<Option<(Outcome, Reason)>, Fault> {
        if let Some(reason) = &removals.held {
            return Ok(Some((Outcome::Held, reason.clone())));
        }
        let mut dependents =
            removals.depends_on.iter().filter(|(_, needs)| needs.contains(stack)).map(|(name, _)| name);
        if let Some(dependent) = dependents.find(|dependent| self.blocks(dependent)) {
            let what = format!("{stack} stays: {dependent}, which depends on it, is to go first and is still here");
            return Ok(Some((Outcome::Held, Reason::new(Code::HeldByDependency, what))));
        }
        let removal = from.filter(|_| !self.insists).map(|release| removal_digest(&release.digest));
        removal.map_or(Ok(None), |digest| self.kept_out(stack, &digest))
    }

    fn obstacle(
        &self,
        change: &StackChange,
        prepared: &Prepared,
        (from, removals, is_pardoned): (Option<&Release>, &Removals, bool),
    ) -> Result<Option<(Outcome, Reason)>, Fault> {
        let (host, stack) = (self.host, &change.stack);
        let wanted = prepared.candidate(stack).map(|c| (&c.project, &c.model));
        let mut sides = wanted.into_iter().chain(from.map(|r| (&r.project, &r.model)));
        if let Some(reason) = sides.find_map(|(project, model)| host.own_stack(stack, project, model)) {
            return Ok(Some((Outcome::Held, reason)));
        }
        if let Some(suspension) = people::suspension_of(&host.store, stack)? {
            return Ok(Some((Outcome::Held, people::suspension_reason(&suspension))));
        }
        if let Some(waits) = self.waits_for_window(change, prepared, from) {
            return Ok(Some(waits));
        }
        if host.settings.observe {
            let what = format!("observe is on: {stack} would be changed and was not; `evenkeel plan` shows how");
            return Ok(Some((Outcome::Held, Reason::new(Code::Observing, what))));
        }
        let Some(candidate) = prepared.candidate(stack) else {
            return self.removal_obstacle(stack, from, removals);
        };
        let digest = candidate.digest();
        if let Some(kept_out) = self.kept_out(stack, &digest)?.filter(|_| !is_pardoned) {
            return Ok(Some(kept_out));
        }
        if let Some(held) = host.store.held_at(stack, &candidate.commit)? {
            // What the repository wanted when a person chose otherwise stays out with it, in later commits too.
            host.store.keep_out(stack, &KeptOut { digest, ..held.clone() }, now_ms())?;
            return Ok(Some((Outcome::Held, held.reason)));
        }
        let mut current = host.store.current_releases()?.into_values();
        if let Some(old) = current.find(|r| r.stack != *stack && r.project == candidate.project) {
            let what = format!(
                "{stack} waits: the Compose project {} still belongs to the stack {}, which has to be removed first",
                old.project, old.stack
            );
            return Ok(Some((Outcome::Held, Reason::new(Code::HeldByDependency, what))));
        }
        if let Some(blocking) = candidate.depends_on.iter().find(|d| self.is_waited_for(d)) {
            let what = format!("{stack} waits: it depends on {blocking}, which does not run what this commit wants");
            return Ok(Some((Outcome::Held, Reason::new(Code::HeldByDependency, what))));
        }
        if !self.insists
            && let Some(last) = host.store.last_end(stack)?
            && last.outcome == Outcome::Aborted
            && last.commit.as_deref() == Some(candidate.commit.as_str())
            && let Some(reason) = last.reason.filter(|r| r.class == Class::Stalled && !of_others(r.code))
        {
            return Ok(Some((Outcome::Aborted, reason)));
        }
        Ok(None)
    }
}

/// Whether it was nothing about the stack itself that ended its deployment: whoever is asked anew knows better.
fn of_others(code: Code) -> bool {
    matches!(code, Code::GroupFailed | Code::HeldBySuspension | Code::Observing)
}
