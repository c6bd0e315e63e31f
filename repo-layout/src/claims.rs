//! Compose files that no stack claims: each a stack that somebody may believe to be running.

use std::collections::BTreeSet;

use crate::{
    compose,
    config::{CONFIG_FILE, LayoutConfig},
    problem::Problem,
    repo::{Repo, join, resolve, split},
    set::StackSet,
    tree::{EntryKind, Tree},
};

/// Deepest folder that is looked into.
const MAX_DEPTH: usize = 32;

/// Folders in which every YAML file is taken for a stack's.
const STACK_FOLDERS: &[&str] = &["localStacks", "sharedStacks", "stacks"];

/// A warning for each Compose file that no stack of `sets`, the sets of all servers, has as a layer or takes in through
/// `include` or `extends`. Files that are ignored, vendored or examples are left out; of examples it is told how many. `config` as in [`crate::stack_set`].
pub fn unclaimed(tree: &dyn Tree, sets: &[StackSet], config: Option<&LayoutConfig>) -> Vec<Problem> {
    let own = LayoutConfig::of_repository(tree, config);
    let repo = Repo::new(tree, config.unwrap_or(&own), Vec::new());
    let mut claimed = BTreeSet::new();
    let layers = sets.iter().flat_map(|set| &set.stacks).flat_map(|stack| &stack.layers);
    for layer in layers {
        claim(&repo, &layer.path, &mut claimed);
    }
    // What the sets say of a file already need not be said twice.
    let told = sets.iter().flat_map(|set| &set.problems).filter(|p| p.code == "layout.two-files");
    claimed.extend(told.filter_map(|problem| problem.path.clone()));
    let (mut found, mut examples) = (Vec::new(), Vec::new());
    look(&repo, "", MAX_DEPTH, (&mut found, &mut examples));
    for (folder, files) in examples {
        if files.iter().any(|path| claimed.contains(path)) {
            continue;
        }
        let many =
            if files.len() == 1 { "a Compose file".to_owned() } else { format!("{} Compose files", files.len()) };
        let message = format!("{many} below this folder: taken for examples, and left out");
        let help = format!("if some of them are stacks, name them under `stacks:` in {CONFIG_FILE}");
        repo.note(Problem::info("layout.examples", message, help).at(folder, None));
    }
    for path in found.into_iter().filter(|path| !claimed.contains(path)) {
        let help = format!("name it under `stacks:` in {CONFIG_FILE}, or list it under `ignore:`");
        repo.note(Problem::warning("layout.unclaimed", "no stack of any server uses this file", help).at(path, None));
    }
    let mut problems = repo.into_problems();
    problems.retain(|p| matches!(&*p.code, "layout.examples" | "layout.unclaimed" | "tree.unreadable"));
    problems
}

/// Adds a file and what it takes in.
fn claim(repo: &Repo<'_>, path: &str, claimed: &mut BTreeSet<String>) {
    let mut waiting = vec![path.to_owned()];
    while let Some(path) = waiting.pop() {
        if !claimed.insert(path.clone()) {
            continue;
        }
        let Some(bytes) = repo.read(&path) else { continue };
        let (file, _) = compose::parse(&path, &bytes);
        let taken = file.extended.iter().chain(&file.included);
        waiting.extend(taken.filter_map(|written| resolve(split(&path).0, written)));
    }
}

/// A folder of examples, and the Compose files below it.
type Examples = (String, Vec<String>);

/// Looks for Compose files, and apart from them for those of folders of examples.
fn look(repo: &Repo<'_>, dir: &str, depth: usize, (found, examples): (&mut Vec<String>, &mut Vec<Examples>)) {
    let Some(depth) = depth.checked_sub(1) else { return };
    for entry in repo.entries(dir) {
        let path = join(dir, &entry.name);
        match entry.kind {
            EntryKind::Directory => look(repo, &path, depth, (found, examples)),
            EntryKind::File { .. } if is_compose(dir, &entry.name) => found.push(path),
            EntryKind::File { .. } | EntryKind::Symlink | EntryKind::Submodule => {}
        }
    }
    for path in repo.examples(dir) {
        let mut files = Vec::new();
        look(repo, &path, depth, (&mut files, &mut Vec::new()));
        if !files.is_empty() {
            examples.push((path, files));
        }
    }
}

/// `compose.yml`, `docker-compose.vault.yaml`, `vault.compose.yaml`, …, and any YAML file that lies directly among stacks.
fn is_compose(dir: &str, name: &str) -> bool {
    let Some((stem, "yml" | "yaml")) = name.rsplit_once('.') else { return false };
    let parts: Vec<&str> = stem.split(['.', '-', '_']).collect();
    let named = parts.starts_with(&["docker", "compose"]) || [parts.first(), parts.last()].contains(&Some(&"compose"));
    named || STACK_FOLDERS.contains(&split(dir).1)
}
