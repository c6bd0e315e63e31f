//! Layout `stacks`: one stack a folder, under `stacks/` or at the root.

use super::Draft;
use crate::{
    repo::{Repo, join},
    set::Origin,
};

/// Every stack that the repository holds; the server's list chooses among them.
pub(super) fn find(repo: &Repo<'_>) -> Vec<Draft> {
    let base = if repo.has_folder("stacks") { "stacks" } else { "" };
    let mut drafts = Vec::new();
    for name in repo.folders(base) {
        let layers = repo.compose_files(&join(base, &name), Origin::Folder);
        if !layers.is_empty() {
            drafts.push(Draft::new(&name, layers));
        }
    }
    drafts
}
