//! Which stack before which: cycles, and waves that can be deployed side by side.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::{
    name::{GroupName, StackName},
    set::Stack,
};

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
        waves.push(ready.into_iter().collect());
    }
}

/// The cycles, each beginning with its smallest name; a stack is in one at most.
pub(crate) fn cycles(stacks: &[Stack]) -> Vec<Vec<StackName>> {
    circles(graph(stacks))
}

/// What is deployed at once: a stack that moves alone, or a group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unit {
    /// The stacks that move together.
    Group(GroupName),
    /// A stack that moves alone.
    Stack(StackName),
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(name) => write!(f, "the group {name}"),
            Self::Stack(name) => write!(f, "{name}"),
        }
    }
}

impl Unit {
    /// The unit that a stack is part of.
    pub fn of(stack: &Stack) -> Self {
        stack.group.clone().map_or_else(|| Self::Stack(stack.name.clone()), Self::Group)
    }
}

/// The cycles where each group counts as one. Of stacks that are in a cycle themselves nothing is said.
pub(crate) fn cycles_of_groups(stacks: &[Stack]) -> Vec<Vec<Unit>> {
    let in_cycle: BTreeSet<StackName> = cycles(stacks).into_iter().flatten().collect();
    let sound: BTreeMap<&StackName, &Stack> =
        stacks.iter().filter(|s| !in_cycle.contains(&s.name)).map(|s| (&s.name, s)).collect();
    let mut units: Graph<Unit> = BTreeMap::new();
    for stack in sound.values() {
        let unit = Unit::of(stack);
        let needs = stack.depends_on.iter().filter_map(|need| sound.get(need)).map(|need| Unit::of(need));
        let needs: Vec<Unit> = needs.filter(|need| *need != unit).collect();
        units.entry(unit).or_default().extend(needs);
    }
    circles(units)
}

fn circles<K: Ord + Clone>(mut waiting: Graph<K>) -> Vec<Vec<K>> {
    let mut circles = Vec::new();
    loop {
        let ready = without_dependencies(&waiting);
        if !ready.is_empty() {
            remove(&mut waiting, &ready);
            continue;
        }
        // Whatever waits now depends on something that waits, so following the first one must come round.
        let Some(mut at) = waiting.keys().next().cloned() else { return circles };
        let mut trail: Vec<K> = Vec::new();
        let start = loop {
            if let Some(start) = trail.iter().position(|name| *name == at) {
                break start;
            }
            trail.push(at.clone());
            let Some(next) = waiting.get(&at).and_then(|deps| deps.first()) else { return circles };
            at = next.clone();
        };
        let mut circle = trail.split_off(start);
        remove(&mut waiting, &circle.iter().cloned().collect());
        let smallest = circle.iter().enumerate().min_by_key(|(_, name)| *name).map_or(0, |(i, _)| i);
        circle.rotate_left(smallest);
        circles.push(circle);
    }
}

type Graph<K> = BTreeMap<K, BTreeSet<K>>;

fn graph(stacks: &[Stack]) -> Graph<StackName> {
    let names: BTreeSet<&StackName> = stacks.iter().map(|s| &s.name).collect();
    let known = |s: &Stack| s.depends_on.iter().filter(|d| names.contains(d)).cloned().collect();
    stacks.iter().map(|s| (s.name.clone(), known(s))).collect()
}

fn without_dependencies<K: Ord + Clone>(waiting: &Graph<K>) -> BTreeSet<K> {
    waiting.iter().filter(|(_, deps)| deps.is_empty()).map(|(name, _)| name.clone()).collect()
}

fn remove<K: Ord>(waiting: &mut Graph<K>, gone: &BTreeSet<K>) {
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
    fn what_moves_together_counts_as_one() {
        let grouped = |edges: &[(&str, &[&str])], of: &dyn Fn(&str) -> Option<&'static str>| {
            let mut set = stacks(edges);
            for stack in &mut set {
                stack.group = of(stack.name.as_str()).map(|name| GroupName::new(name).expect("a name"));
            }
            let shown = |circle: Vec<Unit>| circle.iter().map(ToString::to_string).collect::<Vec<_>>().join(" -> ");
            cycles_of_groups(&set).into_iter().map(shown).collect::<Vec<_>>().join(" | ")
        };
        let shop = |name: &str| matches!(name, "web" | "db").then_some("shop");
        assert_eq!(grouped(&[("web", &["db"]), ("db", &["cache"]), ("cache", &[])], &shop), "");
        let between: &[(&str, &[&str])] = &[("web", &["cache"]), ("cache", &["db"]), ("db", &[])];
        assert_eq!(grouped(between, &shop), "the group shop -> cache");
        let two = |name: &str| Some(if matches!(name, "web" | "db") { "shop" } else { "blog" });
        let crossed: &[(&str, &[&str])] = &[("web", &["page"]), ("store", &["db"]), ("db", &[]), ("page", &[])];
        assert_eq!(grouped(crossed, &two), "the group blog -> the group shop");
        assert_eq!(grouped(&[("web", &["db"]), ("db", &["web"])], &shop), "", "that is told of already");
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
