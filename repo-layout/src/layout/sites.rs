//! Layout `sites`: the stack at the root, and one for each site, all run from the root.

use super::{Draft, folders_of_stacks, root};
use crate::{
    repo::{Repo, join},
    set::Origin,
};

/// The folder of the sites.
const SITES: &str = "sites";

/// The root's stack and those of the sites.
pub(super) fn find(repo: &Repo<'_>) -> Vec<Draft> {
    let mut drafts: Vec<Draft> = root::find(repo).into_iter().collect();
    for name in folders_of_stacks(repo, SITES) {
        let layers = repo.compose_files(&join(SITES, &name), Origin::Folder);
        if !layers.is_empty() {
            drafts.push(Draft::new(&name, layers));
        }
    }
    drafts
}
