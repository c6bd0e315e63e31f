//! Layout `hosts`: each server's stacks in folders under the server's own, which lies in `hosts/`, in
//! `servers/`, in `devices/` or at the root.

use super::{Draft, folders_of_stacks, stacks};
use crate::{
    name::ServerName,
    repo::{Repo, join},
};

/// Folders of hosts.
const BASES: [&str; 5] = ["hosts", "servers", "devices", "nodes", "machines"];

/// The folder of the hosts and those of its folders that hold stacks; none if there are no such folders.
pub(crate) fn hosts(repo: &Repo<'_>) -> (&'static str, Vec<String>) {
    for base in BASES.into_iter().chain([""]) {
        let names = names(repo, base);
        if !names.is_empty() {
            return (base, names);
        }
    }
    ("", Vec::new())
}

/// Whether there is a folder of hosts by name.
pub(super) fn has_folder(repo: &Repo<'_>) -> bool {
    BASES.iter().any(|base| !names(repo, base).is_empty())
}

fn names(repo: &Repo<'_>, base: &str) -> Vec<String> {
    let mut names = repo.folders_quietly(base);
    names.retain(|name| !folders_of_stacks(repo, &join(base, name)).is_empty());
    names
}

/// The stacks of one host.
pub(super) fn find(repo: &Repo<'_>, server: &ServerName) -> Vec<Draft> {
    stacks::below(repo, &join(hosts(repo).0, server.as_str()))
}
