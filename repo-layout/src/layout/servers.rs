//! Layout `servers`: stacks that servers share, each server's own, and its own file.

use super::{Draft, SERVERS, flat, folders_of_stacks, unknown_stack};
use crate::{
    name::ServerName,
    repo::{Repo, join, resolve, split},
    server_file::{self, Pick, ServerFile},
    set::{Layer, Origin},
};

/// A server's list.
const CONFIG: &str = "config.json";
/// The folder of a server's own stacks, if they do not lie beside its file.
const LOCAL: &str = "localStacks";

/// Folders of shared stacks, in the order in which they are looked through.
const SHARED: [&str; 2] = ["sharedStacks", "stacks"];

/// Whether the repository has the folders or lists of this layout.
pub(super) fn is_layout(repo: &Repo<'_>) -> bool {
    if repo.has_folder(SHARED[0]) {
        return true;
    }
    repo.folders_quietly(SERVERS).iter().any(|name| {
        let folder = join(SERVERS, name);
        let path = join(&folder, CONFIG);
        let own_files = || {
            repo.has_compose(&folder)
                || !folders_of_stacks(repo, &folder).is_empty()
                || repo.has_folder(&join(&folder, LOCAL))
        };
        server_file::has_key(repo, &path, "sharedStacks")
            || (server_file::has_key(repo, &path, "stacks") && own_files())
    })
}

/// The stacks of one server.
pub(super) fn find(repo: &Repo<'_>, server: &ServerName) -> Vec<Draft> {
    let folder = join(SERVERS, server.as_str());
    let path = join(&folder, CONFIG);
    let file = server_file::read(repo, server.as_str(), &path).unwrap_or_default();
    let mut drafts = shared(repo, server, &file);
    for draft in local(repo, server, &folder, &file) {
        stack_up(&mut drafts, draft);
    }
    let own = repo.compose_files(&folder, Origin::Server);
    if !own.is_empty() {
        stack_up(&mut drafts, Draft::new(server.as_str(), own));
    }
    drafts
}

/// Whether the server's list comes from a repository where a server is one project: one with `localStacks`.
pub(crate) fn is_one_project(repo: &Repo<'_>, server: &ServerName) -> bool {
    server_file::has_key(repo, &join(&join(SERVERS, server.as_str()), CONFIG), "localStacks")
}

/// Adds a stack; where one has its name, its files become higher layers of that one.
fn stack_up(drafts: &mut Vec<Draft>, draft: Draft) {
    match drafts.iter_mut().find(|d| d.name == draft.name) {
        Some(lower) => lower.layers.extend(draft.layers),
        None => drafts.push(draft),
    }
}

/// The shared stacks that the server's file names.
fn shared(repo: &Repo<'_>, server: &ServerName, file: &ServerFile) -> Vec<Draft> {
    let picks = file.shared.iter().flatten().chain(file.stacks.iter().flatten());
    let mut drafts: Vec<Draft> = Vec::new();
    for pick in picks {
        let name = &pick.written.text;
        let found = SHARED.iter().find_map(|base| shared_stack(repo, base, name));
        if let Some(layers) = found {
            stack_up(&mut drafts, Draft::new(name, layers).picked(pick));
        } else if !is_local(repo, server, name) {
            let names: Vec<String> = SHARED.iter().flat_map(|base| shared_names(repo, base)).collect();
            let names = names.iter().map(String::as_str);
            let problem = unknown_stack(server, names, name, SHARED[0]);
            repo.note(problem.at(&file.path, pick.written.line));
        }
    }
    drafts
}

/// The files of the shared stack `name` under `base`: a folder's, or one file of that name.
fn shared_stack(repo: &Repo<'_>, base: &str, name: &str) -> Option<Vec<Layer>> {
    // A name with parts would leave the folder.
    if name.is_empty() || name.contains('/') || name.starts_with('.') || !repo.has_folder(base) {
        return None;
    }
    let folder = join(base, name);
    if repo.has_folder(&folder) && repo.has_compose(&folder) {
        return Some(repo.compose_files(&folder, Origin::Shared)).filter(|l| !l.is_empty());
    }
    flat::layers(repo, base, name, Origin::Shared)
}

/// Whether a list names a stack that only this server has.
fn is_local(repo: &Repo<'_>, server: &ServerName, name: &str) -> bool {
    let folder = join(SERVERS, server.as_str());
    let plain = !name.is_empty() && !name.contains('/') && !name.starts_with('.');
    plain
        && [join(&folder, name), join(&join(&folder, LOCAL), name)]
            .iter()
            .any(|path| repo.has_folder(path) && repo.has_compose(path))
}

/// What could have been meant by a name.
fn shared_names(repo: &Repo<'_>, base: &str) -> Vec<String> {
    if !repo.has_folder(base) {
        return Vec::new();
    }
    let entries = repo.entries(base).into_iter().map(|e| e.name);
    entries.map(|name| name.trim_end_matches(".yml").trim_end_matches(".yaml").to_owned()).collect()
}

/// The server's own stacks: those that its file names, else every folder with a Compose file.
fn local(repo: &Repo<'_>, server: &ServerName, folder: &str, file: &ServerFile) -> Vec<Draft> {
    let nested = join(folder, LOCAL);
    let mut every = Vec::new();
    for base in [folder, &nested] {
        if repo.has_folder(base) {
            every.extend(repo.folders(base).into_iter().map(|name| join(base, &name)));
        }
    }
    every.retain(|path| repo.has_compose(path));
    if let Some(picks) = &file.local {
        let mut chosen = Vec::new();
        for Pick { written, .. } in picks {
            // A path from the server's folder, or a name in `localStacks/`.
            let candidates = [resolve(folder, &written.text), resolve(&nested, &written.text)];
            if let Some(path) = candidates.into_iter().flatten().find(|path| every.contains(path)) {
                chosen.push(path);
            } else {
                let names = every.iter().map(|path| split(path).1);
                let problem = unknown_stack(server, names, written.text.trim_start_matches("./"), &nested);
                repo.note(problem.at(&file.path, written.line));
            }
        }
        every = chosen;
    }
    let mut drafts: Vec<Draft> = Vec::new();
    for path in every {
        let layers = repo.compose_files(&path, Origin::Local);
        if !layers.is_empty() {
            stack_up(&mut drafts, Draft::new(split(&path).1, layers));
        }
    }
    drafts
}
