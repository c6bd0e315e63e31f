//! Which changes of a plan go ahead, and why the others do not.

use std::collections::BTreeMap;

use evenkeel_core::{
    change::StackChange,
    id::Digest,
    outcome::Outcome,
    plan::Plan,
    reason::{Class, Code, Reason},
    release::{Release, removal_digest},
};
use evenkeel_layout::name::StackName;

use super::{Fault, Prepared, prepare};
use crate::run::Run;

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
    pub(super) fn hold(
        &self,
        held: &[(StackName, StackName)],
        releases: &BTreeMap<StackName, Release>,
    ) -> Result<(), Fault> {
        for (stack, waits_for) in held {
            let what =
                format!("{stack} waits: it depends on {waits_for}, which cannot be deployed as this commit has it");
            let reason = Reason::new(Code::HeldByDependency, what);
            self.set_aside(stack, releases.get(stack).map(|r| &r.commit), Outcome::Held, reason)?;
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
    pub(super) fn ready<'w>(
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
            && let Some(reason) = last.reason.filter(|r| r.class == Class::Stalled)
        {
            return Ok(Some((Outcome::Aborted, reason)));
        }
        Ok(None)
    }
}
