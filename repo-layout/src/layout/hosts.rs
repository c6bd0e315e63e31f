//! Layout `hosts`: each server's stacks in folders under the server's own, which lies in `hosts/`, in
//! `servers/`, in `devices/` or at the root.

use super::{Draft, folders_of_stacks};
use crate::{
    name::ServerName,
    repo::{Repo, join},
    set::Origin,
};

/// The folder of the hosts and those of its folders that hold stacks; none if there are no such folders.
pub(crate) fn hosts(repo: &Repo<'_>) -> (&'static str, Vec<String>) {
    for base in ["hosts", "servers", "devices", ""] {
        let mut names = repo.folders_quietly(base);
        names.retain(|name| !folders_of_stacks(repo, &join(base, name)).is_empty());
        if !names.is_empty() {
            return (base, names);
        }
    }
    ("", Vec::new())
}

/// The stacks of one host.
pub(super) fn find(repo: &Repo<'_>, server: &ServerName) -> Vec<Draft> {
    let folder = join(hosts(repo).0, server.as_str());
    let mut drafts = Vec::new();
    for name in repo.folders(&folder) {
        let layers = repo.compose_files(&join(&folder, &name), Origin::Folder);
        if !layers.is_empty() {
            drafts.push(Draft::new(&name, layers));
        }
    }
    drafts
}
