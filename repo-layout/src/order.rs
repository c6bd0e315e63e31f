//! Which stack before which: cycles, and waves that can be deployed side by side.

use std::collections::{BTreeMap, BTreeSet};

use crate::{name::StackName, set::Stack};

/// The stacks in waves: each after all that it depends on. Sorted within a wave.
///
/// A dependency that is not among `stacks` counts as met. Stacks of a cycle, and those behind one, are in no wave.
pub fn waves(stacks: &[Stack]) -> Vec<Vec<StackName>> {
    let mut waiting = graph(stacks);
    let mut waves = Vec::new();
    loop {
        let ready = without_dependencies(&waiting);
        if ready.is_empty() {
            return waves;
        }
        remove(&mut waiting, &ready);
        waves.push(ready.into_iter().cloned().collect());
    }
}

/// The cycles, each beginning with its smallest name; a stack is in one at most.
pub(crate) fn cycles(stacks: &[Stack]) -> Vec<Vec<StackName>> {
    let mut waiting = graph(stacks);
    let mut cycles = Vec::new();
    loop {
        let ready = without_dependencies(&waiting);
        if !ready.is_empty() {
            remove(&mut waiting, &ready);
            continue;
        }
        // Whatever waits now depends on something that waits, so following the first one must come round.
        let Some(mut at) = waiting.keys().next().copied() else { return cycles };
        let mut trail: Vec<&StackName> = Vec::new();
        let start = loop {
            if let Some(start) = trail.iter().position(|name| *name == at) {
                break start;
            }
            trail.push(at);
            let Some(next) = waiting.get(at).and_then(|deps| deps.first()) else { return cycles };
            at = next;
        };
        let mut cycle = trail.split_off(start);
        remove(&mut waiting, &cycle.iter().copied().collect());
        let smallest = cycle.iter().enumerate().min_by_key(|(_, name)| **name).map_or(0, |(i, _)| i);
        cycle.rotate_left(smallest);
        cycles.push(cycle.into_iter().cloned().collect());
    }
}

type Graph<'a> = BTreeMap<&'a StackName, BTreeSet<&'a StackName>>;

fn graph(stacks: &[Stack]) -> Graph<'_> {
    let names: BTreeSet<&StackName> = stacks.iter().map(|s| &s.name).collect();
    let known = |s: &'_ Stack| s.depends_on.clone().into_iter().filter_map(|d| names.get(&d).copied()).collect();
    stacks.iter().map(|s| (&s.name, known(s))).collect()
}

fn without_dependencies<'a>(waiting: &Graph<'a>) -> BTreeSet<&'a StackName> {
    waiting.iter().filter(|(_, deps)| deps.is_empty()).map(|(name, _)| *name).collect()
}

fn remove<'a>(waiting: &mut Graph<'a>, gone: &BTreeSet<&'a StackName>) {
    waiting.retain(|name, _| !gone.contains(name));
    for deps in waiting.values_mut() {
        deps.retain(|dep| !gone.contains(dep));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::set::{Layer, Origin};

    fn stacks(edges: &[(&str, &[&str])]) -> Vec<Stack> {
        let name = |text: &str| StackName::new(text).expect("a name");
        let stack = |(text, deps): &(&str, &[&str])| Stack {
            depends_on: deps.iter().map(|d| name(d)).collect(),
            ..Stack::new(name(text), vec![Layer::new(format!("{text}/compose.yml"), Origin::Folder)])
        };
        edges.iter().map(stack).collect()
    }

    fn shown(groups: Vec<Vec<StackName>>) -> String {
        let group = |names: Vec<StackName>| names.iter().map(StackName::as_str).collect::<Vec<_>>().join(" ");
        groups.into_iter().map(group).collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn deploys_what_is_depended_on_first() {
        let set = stacks(&[("web", &["api", "db"]), ("db", &[]), ("api", &["db"]), ("aside", &[]), ("far", &["gone"])]);
        assert_eq!(shown(waves(&set)), "aside db far | api | web");
        assert_eq!(shown(cycles(&set)), "");
    }

    #[test]
    fn names_each_cycle_once_and_leaves_it_out() {
        let set = stacks(&[
            ("c", &["a"]),
            ("b", &["c"]),
            ("a", &["b"]),
            ("self", &["self"]),
            ("behind", &["a"]),
            ("fine", &[]),
        ]);
        assert_eq!(shown(cycles(&set)), "a b c | self");
        assert_eq!(shown(waves(&set)), "fine");
    }
}
