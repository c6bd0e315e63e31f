//! Layout `servers`: stacks that servers share, each server's own, and its own file.

use super::{Draft, SERVERS, unknown_stack};
use crate::{
    name::ServerName,
    repo::{Repo, join, resolve, split},
    server_file::{self, Pick, ServerFile},
    set::{Layer, Origin},
};

/// Folders of shared stacks, in the order in which they are looked through.
const SHARED: [&str; 2] = ["sharedStacks", "stacks"];

/// The stacks of one server.
pub(super) fn find(repo: &Repo<'_>, server: &ServerName) -> Vec<Draft> {
    let folder = join(SERVERS, server.as_str());
    let path = join(&folder, "config.json");
    let file = server_file::read(repo, server.as_str(), &path).unwrap_or_default();
    let mut drafts = shared(repo, server, &file);
    for draft in local(repo, server, &folder, &file) {
        stack_up(&mut drafts, draft);
    }
    let own = repo.compose_files(&folder, Origin::Server);
    if !own.is_empty() {
        stack_up(&mut drafts, Draft::new(server.as_str(), own));
    }
    if file.local.is_some() {
        drafts = merge_all(drafts, server, &path);
    }
    drafts
}

/// Adds a stack; where one has its name, its files become higher layers of that one.
fn stack_up(drafts: &mut Vec<Draft>, draft: Draft) {
    match drafts.iter_mut().find(|d| d.name == draft.name) {
        Some(lower) => {
            lower.layering = Some(format!("they share the name {:?}", draft.name));
            lower.layers.extend(draft.layers);
        }
        None => drafts.push(draft),
    }
}

/// A `config.json` that lists `localStacks` comes from a repository where a server is one project.
fn merge_all(drafts: Vec<Draft>, server: &ServerName, path: &str) -> Vec<Draft> {
    if drafts.len() < 2 {
        return drafts;
    }
    let mut layers: Vec<Layer> = drafts.into_iter().flat_map(|d| d.layers).collect();
    layers.sort_by_key(|l| l.origin);
    let mut merged = Draft::new(server.as_str(), layers);
    merged.layering = Some(format!("`localStacks` in {path} makes one project of them"));
    vec![merged]
}

/// The shared stacks that the server's file names.
fn shared(repo: &Repo<'_>, server: &ServerName, file: &ServerFile) -> Vec<Draft> {
    let picks = file.shared.iter().flatten().chain(file.stacks.iter().flatten());
    let mut drafts: Vec<Draft> = Vec::new();
    for Pick { written, deploy_as } in picks {
        let found = SHARED.iter().find_map(|base| shared_stack(repo, base, &written.text));
        if let Some(layers) = found {
            stack_up(&mut drafts, Draft { project: deploy_as.clone(), ..Draft::new(&written.text, layers) });
        } else {
            let names: Vec<String> = SHARED.iter().flat_map(|base| shared_names(repo, base)).collect();
            let names = names.iter().map(String::as_str);
            let problem = unknown_stack(server, names, &written.text, SHARED[0]);
            repo.note(problem.at(&file.path, written.line));
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
    let flat = |end: &str| join(base, &format!("{name}{end}"));
    let main = ["yaml", "yml"].into_iter().map(|end| flat(&format!(".{end}"))).find(|path| repo.has_file(path))?;
    let over =
        ["yml", "yaml"].into_iter().map(|end| flat(&format!(".override.{end}"))).find(|path| repo.has_file(path));
    Some([Some(main), over].into_iter().flatten().map(|path| Layer { path, origin: Origin::Shared }).collect())
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
    let nested = join(folder, "localStacks");
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
