//! Layout `stacks`: one stack a folder, under `stacks/`, at the root, or under a folder that is named for what it holds.

use std::collections::BTreeMap;

use super::{Draft, flat, folders_of_stacks, hosts};
use crate::{
    repo::{Repo, join, split},
    set::{Layer, Origin},
};

/// The folder that is named for its stacks.
const STACKS: &str = "stacks";

/// Names that people give to folders of stacks, and to no server.
const COMMON: &[&str] = &[
    "app",
    "apps",
    "compose",
    "containers",
    "deploy",
    "docker",
    "docker-compose",
    "infra",
    "infrastructure",
    "projects",
    "services",
    "stack",
    "swarm",
];

/// Folders below which no stack is looked for: what lies there is kept, tried or written about, not run.
const DORMANT: &[&str] = &[
    "_archive",
    "_template",
    "_templates",
    "archive",
    "archived",
    "attic",
    "deprecated",
    "disabled",
    "docs",
    "old",
    "retired",
    "src",
    "template",
    "templates",
    "test",
    "tests",
    "unused",
];

/// Folders within folders of stacks.
const MAX_DEPTH: usize = 4;

/// Whether `stacks/` holds stacks.
pub(super) fn has_folder(repo: &Repo<'_>) -> bool {
    has_below(repo, STACKS, MAX_DEPTH)
}

/// Whether all folders that could be hosts have names that no host has.
pub(super) fn is_common(repo: &Repo<'_>) -> bool {
    let (base, names) = hosts(repo);
    base.is_empty() && !names.is_empty() && names.iter().all(|name| COMMON.contains(&name.as_str()))
}

/// Whether there is a stack anywhere.
pub(super) fn has_some(repo: &Repo<'_>) -> bool {
    has_below(repo, "", MAX_DEPTH)
}

fn has_below(repo: &Repo<'_>, dir: &str, depth: usize) -> bool {
    let Some(depth) = depth.checked_sub(1) else { return false };
    let is_stack = |name: &String| flat::only_file(repo, &join(dir, name)).is_some();
    let names = repo.folders_quietly(dir);
    !folders_of_stacks(repo, dir).is_empty()
        || holds_files(dir) && !flat::names(repo, dir).is_empty()
        || names.iter().any(is_stack)
        || names.iter().any(|name| !DORMANT.contains(&name.as_str()) && has_below(repo, &join(dir, name), depth))
}

/// Whether every YAML file with services in a folder is a stack of its own.
fn holds_files(dir: &str) -> bool {
    let name = split(dir).1;
    name == STACKS || COMMON.contains(&name)
}

/// Every stack that the repository holds; the server's list chooses among them.
pub(super) fn find(repo: &Repo<'_>) -> Vec<Draft> {
    if has_folder(repo) {
        return below(repo, STACKS);
    }
    // Beside folders that are named for their stacks, and beside stacks at the root, other folders hold other things.
    let is_named =
        |name: &String| COMMON.contains(&name.as_str()) && !repo.has_compose(name) && has_below(repo, name, MAX_DEPTH);
    let named: Vec<String> = repo.folders_quietly("").into_iter().filter(is_named).collect();
    let depth = if named.is_empty() && folders_of_stacks(repo, "").is_empty() { MAX_DEPTH } else { 1 };
    let mut drafts = Vec::new();
    collect(repo, "", depth, &mut drafts);
    for folder in named {
        collect(repo, &folder, MAX_DEPTH, &mut drafts);
    }
    name_apart("", &mut drafts);
    drafts
}

/// The stacks below a folder, in folders of their own.
pub(super) fn below(repo: &Repo<'_>, base: &str) -> Vec<Draft> {
    let mut drafts = Vec::new();
    collect(repo, base, MAX_DEPTH, &mut drafts);
    name_apart(base, &mut drafts);
    drafts
}

fn collect(repo: &Repo<'_>, dir: &str, depth: usize, drafts: &mut Vec<Draft>) {
    let Some(depth) = depth.checked_sub(1) else { return };
    for name in repo.folders(dir) {
        let path = join(dir, &name);
        let mut layers = repo.compose_files(&path, Origin::Folder);
        if layers.is_empty() && !repo.has_compose(&path) {
            layers.extend(flat::only_file(repo, &path).map(|file| Layer::new(file, Origin::Folder)));
            if layers.is_empty() && !DORMANT.contains(&name.as_str()) {
                collect(repo, &path, depth, drafts);
            }
        }
        if !layers.is_empty() {
            drafts.push(Draft::new(&name, layers));
        }
    }
    if holds_files(dir) {
        for name in flat::names(repo, dir) {
            drafts.extend(flat::layers(repo, dir, &name, Origin::Folder).map(|layers| Draft::new(&name, layers)));
        }
    }
}

/// Stacks whose folders have one name in different places are named after their paths.
fn name_apart(base: &str, drafts: &mut [Draft]) {
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for draft in drafts.iter() {
        *count.entry(draft.name.clone()).or_default() += 1;
    }
    for draft in drafts.iter_mut().filter(|draft| count.get(&draft.name).is_some_and(|n| *n > 1)) {
        let path = draft.layers.first().map_or("", |layer| split(&layer.path).0);
        let path = path.strip_prefix(base).unwrap_or(path).trim_start_matches('/');
        if path.ends_with(&draft.name) {
            draft.name = path.replace('/', "-");
        }
    }
}
