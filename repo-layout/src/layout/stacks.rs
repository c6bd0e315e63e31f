//! Layout `stacks`: one stack a folder, under `stacks/`, at the root, or under a folder that is named for what it holds.

use super::{Draft, folders_of_stacks, hosts};
use crate::{
    repo::{Repo, join},
    set::Origin,
};

/// Names that people give to the folder of all their stacks, and to no server.
const COMMON: &[&str] = &["apps", "compose", "containers", "docker", "services"];

/// The folder of stacks with a common name, if no other one could be a server's.
pub(super) fn common(repo: &Repo<'_>) -> Option<&'static str> {
    let (base, names) = hosts(repo);
    let [only] = names.as_slice() else { return None };
    COMMON.iter().copied().find(|name| base.is_empty() && only == name)
}

/// Every stack that the repository holds; the server's list chooses among them.
pub(super) fn find(repo: &Repo<'_>) -> Vec<Draft> {
    let has_some = |dir: &str| !folders_of_stacks(repo, dir).is_empty();
    let base = match common(repo) {
        _ if repo.has_folder("stacks") => "stacks",
        Some(common) if !has_some("") => common,
        _ => "",
    };
    let mut drafts = Vec::new();
    for name in repo.folders(base) {
        let layers = repo.compose_files(&join(base, &name), Origin::Folder);
        if !layers.is_empty() {
            drafts.push(Draft::new(&name, layers));
        }
    }
    drafts
}
