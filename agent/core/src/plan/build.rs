//! From what is wanted and what there is to a plan.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_layout::{
    drift::Mode,
    name::{GroupName, StackName},
    problem::Problem,
};

use super::{Held, Plan, Side, diff, diff::take_along, notes};
use crate::{
    change::{ServiceChange, ServiceChangeKind, StackChange, StackChangeKind, Why, WhyKind},
    release::{Candidate, Release},
};

/// The services that have a container, by Compose project.
pub type Containers = BTreeMap<String, BTreeSet<String>>;

/// What a commit wants of a server.
#[derive(Clone, Copy)]
pub struct Desired<'a> {
    /// Stacks that can be deployed.
    pub accepted: &'a [Candidate],
    /// Stacks that cannot; they keep their release.
    pub rejected: &'a [StackName],
    /// What was found on the way.
    pub problems: &'a [Problem],
    /// Where all models have the repository's root.
    pub root: &'a str,
    /// Whether a stack that is missing is to be removed. Not if the set as a whole is broken: it may only be unreadable.
    pub complete: bool,
    /// Which services that have no container get one though nothing about their stack changed.
    pub put_back: PutBack,
    /// What becomes of the services of stacks that have no release and whose projects have containers: somebody else
    /// started them.
    pub found: &'a BTreeMap<StackName, Vec<ServiceChange>>,
    /// The groups of stacks that move together, those of rejected ones too.
    pub groups: &'a BTreeMap<StackName, GroupName>,
    /// Halted stacks: nobody knows what their containers were made from, so a deployment makes all of them anew.
    pub halted: &'a [StackName],
}

/// What keeps old containers, at least for a while: not where nobody knows what they were made from.
const LESSER: [ServiceChangeKind; 4] =
    [ServiceChangeKind::None, ServiceChangeKind::Signal, ServiceChangeKind::Restart, ServiceChangeKind::StartFirst];

/// What a plan puts back although nothing about it changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutBack {
    /// Nothing: drift sees to it.
    Nothing,
    /// What drift puts back as well, where a stack does not say otherwise than the server.
    Healed(Mode),
    /// Everything: a person asked.
    Everything,
}

impl PutBack {
    fn is_for(self, candidate: &Candidate) -> bool {
        match self {
            Self::Nothing => false,
            Self::Healed(server) => candidate.drift.unwrap_or(server) == Mode::Heal,
            Self::Everything => true,
        }
    }
}

/// Makes the plan from what is wanted, the releases that run, and the containers that are there (`None` where nobody can look).
/// A stack whose candidate is its release, with all containers there, is not in it.
pub fn build(desired: Desired<'_>, releases: &BTreeMap<StackName, Release>, observed: Option<&Containers>) -> Plan {
    let mut plan = Plan {
        rejected: desired.rejected.iter().collect::<BTreeSet<_>>().into_iter().cloned().collect(),
        problems: desired.problems.to_vec(),
        ..Plan::default()
    };
    let mut changes: BTreeMap<&StackName, StackChange> = BTreeMap::new();
    for candidate in desired.accepted {
        let release = releases.get(&candidate.stack);
        let Some(change) = change(desired, candidate, release, observed) else { continue };
        if let Some(release) = release {
            let found = notes(Side::of_release(release), Side::of_candidate(candidate));
            plan.problems.extend(found.into_iter().map(|problem| problem.in_stack(&candidate.stack)));
        }
        changes.insert(&candidate.stack, change);
    }
    hold(&mut plan, &mut changes, desired, releases);
    let removed = removed(desired, releases);
    // A stack that was renamed and kept its project: the old one must go before the new one comes.
    let projects: BTreeSet<&str> = desired.accepted.iter().map(|c| c.project.as_str()).collect();
    let (first, last): (Vec<_>, Vec<_>) = removed.into_iter().partition(|r| projects.contains(r.project.as_str()));
    plan.waves.extend(removal_waves(desired.root, &first));
    plan.waves.extend(change_waves(desired, changes));
    plan.waves.extend(removal_waves(desired.root, &last));
    plan.problems.sort();
    plan.problems.dedup();
    plan
}

/// Stacks that have another name than before and are the same Compose project: the release goes with the new name, so
/// that nothing is removed and made again. Old name first. Only where it is certain: one old stack that nobody wants any
/// more, one new one that has no release.
pub fn renamed(
    accepted: &[Candidate],
    rejected: &[StackName],
    releases: &BTreeMap<StackName, Release>,
) -> Vec<(StackName, StackName)> {
    let is_wanted = |stack: &StackName| accepted.iter().any(|c| c.stack == *stack) || rejected.contains(stack);
    let fresh = accepted.iter().filter(|c| !releases.contains_key(&c.stack));
    fresh
        .filter_map(|candidate| {
            let mut before = releases.values().filter(|r| r.project == candidate.project && !is_wanted(&r.stack));
            let old = before.next().filter(|_| before.next().is_none())?;
            Some((old.stack.clone(), candidate.stack.clone()))
        })
        .collect()
}

fn change(
    desired: Desired<'_>,
    candidate: &Candidate,
    release: Option<&Release>,
    observed: Option<&Containers>,
) -> Option<StackChange> {
    let halted = desired.halted.contains(&candidate.stack);
    let same = !halted && release.is_some_and(|release| release.digest == candidate.digest());
    let by_others = desired.found.get(&candidate.stack).filter(|_| release.is_none());
    let from_release = || diff(desired.root, release.map(Side::of_release), Some(Side::of_candidate(candidate)));
    let mut services = by_others.cloned().unwrap_or_else(from_release);
    let missing = observed.is_some_and(|observed| {
        release.is_some() && add_missing(&mut services, candidate, observed.get(&candidate.project))
    });
    if same && !(missing && desired.put_back.is_for(candidate)) {
        return None;
    }
    for service in services.iter_mut().filter(|s| halted && LESSER.contains(&s.change)) {
        service.change = ServiceChangeKind::Recreate;
        service.why.push(Why { kind: WhyKind::Other, name: "halted".to_owned() });
    }
    let change = if release.is_some() { StackChangeKind::Update } else { StackChangeKind::Create };
    // What is merely put back concerns nobody else.
    let group = desired.groups.get(&candidate.stack).filter(|_| !same).cloned();
    Some(StackChange { stack: candidate.stack.clone(), change, group, services })
}

/// Creates services that have no container though they should. Returns whether there are any.
fn add_missing(services: &mut [ServiceChange], candidate: &Candidate, there: Option<&BTreeSet<String>>) -> bool {
    let mut any = false;
    for service in services.iter_mut().filter(|s| s.change != ServiceChangeKind::Remove) {
        // None wanted, none missed.
        let wanted = candidate.model.service(&service.service).is_some_and(|s| !is_scaled_to_none(s.value()));
        if wanted && !there.is_some_and(|there| there.contains(&service.service)) {
            any = true;
            if service.change != ServiceChangeKind::Create {
                service.change = ServiceChangeKind::Create;
                service.why.push(Why { kind: WhyKind::Other, name: "missing".to_owned() });
                service.why.sort();
            }
        }
    }
    if any {
        take_along(services, &candidate.model.services());
    }
    any
}

fn is_scaled_to_none(service: &serde_json::Value) -> bool {
    service["scale"].as_u64() == Some(0) || service["deploy"]["replicas"].as_u64() == Some(0)
}

/// Takes out of the changes what depends, directly or not, on a rejected stack, or moves together with one.
fn hold(
    plan: &mut Plan,
    changes: &mut BTreeMap<&StackName, StackChange>,
    desired: Desired<'_>,
    releases: &BTreeMap<StackName, Release>,
) {
    let mut blocked: BTreeMap<&StackName, (&StackName, bool)> = BTreeMap::new();
    // A file that cannot be read does not say what it moves with; what it runs says it.
    let group_of = |stack: &StackName| {
        let of_release = || releases.get(stack).filter(|_| desired.rejected.contains(stack))?.group.as_ref();
        desired.groups.get(stack).or_else(of_release)
    };
    loop {
        let in_the_way: Vec<&StackName> = desired.rejected.iter().chain(blocked.keys().copied()).collect();
        let is_mate = |one: &StackName, other: &StackName| {
            one != other && group_of(one).is_some_and(|group| group_of(other) == Some(group))
        };
        let newly: Vec<_> = desired
            .accepted
            .iter()
            .filter(|c| !blocked.contains_key(&c.stack))
            .filter_map(|c| {
                let needed = c.depends_on.iter().find(|d| in_the_way.contains(d)).map(|needed| (needed, false));
                let mate = || in_the_way.iter().find(|other| is_mate(&c.stack, other)).map(|mate| (*mate, true));
                Some((&c.stack, needed.or_else(mate)?))
            })
            .collect();
        // What does not change has been committed, whatever it depends on: nobody waits for it.
        let newly: Vec<_> = newly.into_iter().filter(|(stack, _)| changes.contains_key(stack)).collect();
        if newly.is_empty() {
            break;
        }
        blocked.extend(newly);
    }
    for (stack, (waits_for, as_group)) in blocked {
        changes.remove(stack);
        let held = Held { stack: stack.clone(), waits_for: waits_for.clone(), as_group };
        let code = if as_group { "held.group" } else { "held.dependency" };
        plan.problems.push(Problem::warning(code, held.to_string(), format!("correct {waits_for}")).in_stack(stack));
        plan.held.push(held);
    }
}

fn removed<'a>(desired: Desired<'_>, releases: &'a BTreeMap<StackName, Release>) -> Vec<&'a Release> {
    if !desired.complete {
        return Vec::new();
    }
    let wanted: BTreeSet<&StackName> = desired.accepted.iter().map(|c| &c.stack).chain(desired.rejected).collect();
    releases.values().filter(|release| !wanted.contains(&release.stack)).collect()
}

fn change_waves(desired: Desired<'_>, mut changes: BTreeMap<&StackName, StackChange>) -> Vec<Vec<StackChange>> {
    // A group counts as one, by its first stack.
    let mut first: BTreeMap<&GroupName, &StackName> = BTreeMap::new();
    for (stack, group) in desired.groups {
        first.entry(group).or_insert(stack);
    }
    let head = |stack: &StackName| desired.groups.get(stack).map_or(stack, |group| first[group]).clone();
    let mut units: BTreeMap<StackName, (Vec<&StackName>, Vec<StackName>)> = BTreeMap::new();
    // Stacks that do not change are in the order too: they pass on what depends on what.
    for candidate in desired.accepted {
        let (members, needs) = units.entry(head(&candidate.stack)).or_default();
        members.push(&candidate.stack);
        needs.extend(candidate.depends_on.iter().map(head));
    }
    let order = waves(units.iter().map(|(unit, (_, needs))| (unit, needs.as_slice())));
    let members = |unit: &StackName| units[unit].0.clone();
    let waves = order.into_iter().map(|wave| {
        let mut wave: Vec<StackChange> =
            wave.into_iter().flat_map(members).filter_map(|stack| changes.remove(stack)).collect();
        wave.sort_by(|a, b| a.stack.cmp(&b.stack));
        wave
    });
    waves.filter(|wave| !wave.is_empty()).collect()
}

fn removal_waves(root: &str, removed: &[&Release]) -> Vec<Vec<StackChange>> {
    let change = |stack: &StackName| {
        let release = removed.iter().find(|r| r.stack == *stack)?;
        let services = diff(root, Some(Side::of_release(release)), None);
        Some(StackChange { stack: stack.clone(), change: StackChangeKind::Remove, group: None, services })
    };
    let order = waves(removed.iter().map(|r| (&r.stack, r.depends_on.as_slice())));
    order.into_iter().rev().map(|wave| wave.into_iter().filter_map(change).collect()).collect()
}

/// Each after what it depends on, as far as that is among them; sorted within a wave. What depends on itself in a circle,
/// which the layout refuses, comes last rather than never.
pub fn waves<'a>(stacks: impl Iterator<Item = (&'a StackName, &'a [StackName])>) -> Vec<Vec<&'a StackName>> {
    let mut waiting: BTreeMap<&StackName, &[StackName]> = stacks.collect();
    let mut waves = Vec::new();
    while !waiting.is_empty() {
        let free = |needs: &[StackName], of: &StackName| needs.iter().all(|n| n == of || !waiting.contains_key(n));
        let mut wave: Vec<&StackName> =
            waiting.iter().filter(|(stack, needs)| free(needs, stack)).map(|(stack, _)| *stack).collect();
        if wave.is_empty() {
            wave = waiting.keys().copied().collect();
        }
        for stack in &wave {
            waiting.remove(*stack);
        }
        waves.push(wave);
    }
    waves
}
