//! The way in: a tree and a server's name to the server's stacks.

use crate::{
    assemble::assemble,
    config::LayoutConfig,
    layout::{self, SERVERS},
    name::ServerName,
    nearest,
    problem::Problem,
    repo::{Repo, join},
    set::{LayoutKind, StackSet},
    tree::Tree,
};

/// The stacks of `server` in `tree`.
///
/// `config` takes the place of the repository's own `evenkeel.yml`: it is the same block in a server's `agent.yml`.
/// Problems are in the set. An error without a stack concerns the whole set: then what is missing from it must not be
/// taken for removed.
pub fn stack_set(tree: &dyn Tree, server: &ServerName, config: Option<&LayoutConfig>) -> StackSet {
    let (own, problems) = if config.is_none() { LayoutConfig::read(tree) } else { Default::default() };
    let repo = Repo::new(tree, config.unwrap_or(&own), problems);
    let kind = layout::recognise(&repo);
    let stacks = match kind {
        Some(kind) if is_known(&repo, server, kind) => {
            let drafts = layout::find(&repo, server, kind);
            assemble(&repo, server, kind, drafts)
        }
        Some(_) => Vec::new(),
        None => {
            layout::none(&repo);
            Vec::new()
        }
    };
    // Nothing is recognised in an empty repository; `stacks` is what the help above leads to.
    StackSet { layout: kind.unwrap_or(LayoutKind::Stacks), stacks, problems: repo.into_problems() }
}

/// The servers that the repository knows: the folders of `servers/` (in the layout `hosts`: the hosts' folders) and the
/// names in `evenkeel.yml`, sorted.
/// Empty for a repository without servers, where any server runs every stack. `config` as in [`stack_set`].
pub fn servers(tree: &dyn Tree, config: Option<&LayoutConfig>) -> Vec<ServerName> {
    let own = LayoutConfig::of_repository(tree, config);
    let repo = Repo::new(tree, config.unwrap_or(&own), Vec::new());
    names(&repo, layout::recognise(&repo))
}

fn names(repo: &Repo<'_>, kind: Option<LayoutKind>) -> Vec<ServerName> {
    let mut names: Vec<ServerName> = repo.config.servers.keys().cloned().collect();
    let (base, folders) = match kind {
        Some(LayoutKind::Hosts) => layout::hosts(repo),
        Some(LayoutKind::Servers) => (SERVERS, repo.folders_quietly(SERVERS)),
        // Elsewhere `servers/` may hold anything: game servers, notes.
        _ => {
            let mut folders = repo.folders_quietly(SERVERS);
            let says_something = |name: &String| {
                ["config.json", ".env", ".env.example"]
                    .iter()
                    .any(|file| repo.has_file(&join(&join(SERVERS, name), file)))
            };
            folders.retain(says_something);
            (SERVERS, folders)
        }
    };
    for folder in folders {
        match ServerName::new(&folder) {
            Ok(name) => names.push(name),
            Err(error) => {
                let problem = Problem::warning("server.name", error.to_string(), "rename the folder");
                repo.note(problem.at(join(base, &folder), None));
            }
        }
    }
    names.sort();
    names.dedup();
    names
}

/// Whether the repository has the server; where it knows of no server, it has any.
fn is_known(repo: &Repo<'_>, server: &ServerName, kind: LayoutKind) -> bool {
    let names = names(repo, Some(kind));
    if names.is_empty() || names.contains(server) {
        return true;
    }
    let known = || names.iter().map(ServerName::as_str);
    let help = nearest(known(), server.as_str()).map_or_else(
        || format!("it has {}; add the folder servers/{server} for another", known().collect::<Vec<_>>().join(", ")),
        |near| format!("did you mean `{near}`?"),
    );
    let message = format!("the repository has no server {:?}", server.as_str());
    repo.note(Problem::error("server.unknown", message, help).on_server(server));
    false
}

#[cfg(test)]
mod tests;
