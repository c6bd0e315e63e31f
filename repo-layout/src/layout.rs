//! The layouts: which one a repository has, and what each finds in it.

use std::collections::BTreeMap;

use crate::{
    compose::MAIN_FILES,
    config::PathBase,
    name::ServerName,
    nearest,
    problem::Problem,
    repo::{Repo, join, resolve, split},
    section::Written,
    server_file::{self, Pick},
    set::{Layer, LayoutKind, Origin},
};

mod flat;
mod hosts;
mod root;
mod servers;
mod sites;
mod stacks;

pub(crate) use hosts::hosts;
pub(crate) use servers::is_one_project;

/// A stack as a layout finds it, before its files are read.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    /// Its folder's or file's name; not checked yet.
    pub name: String,
    /// Its files, lowest first; never empty.
    pub layers: Vec<Layer>,
    /// The project, if something besides the files states it.
    pub project: Option<String>,
    /// Variables for it, below all environment files.
    pub defaults: BTreeMap<String, String>,
    /// Files whose change recreates its services, as written.
    pub watched: Vec<Written>,
}

impl Draft {
    fn new(name: &str, layers: Vec<Layer>) -> Self {
        Self { name: name.to_owned(), layers, project: None, defaults: BTreeMap::new(), watched: Vec::new() }
    }

    /// With what a server's list says of it.
    fn picked(self, pick: &Pick) -> Self {
        let (project, defaults, watched) = (pick.deploy_as.clone(), pick.envs.clone(), pick.watched.clone());
        Self { project, defaults, watched, ..self }
    }
}

/// The folder of the servers, and of one of them.
pub(crate) const SERVERS: &str = "servers";

/// Folder of a server.
pub(crate) fn server_folder(repo: &Repo<'_>, server: &ServerName, kind: LayoutKind) -> String {
    let base = if kind == LayoutKind::Hosts { hosts(repo).0 } else { SERVERS };
    join(base, server.as_str())
}

/// The folders in a folder that hold a Compose file; nothing is noted.
fn folders_of_stacks(repo: &Repo<'_>, dir: &str) -> Vec<String> {
    let mut folders = repo.folders_quietly(dir);
    folders.retain(|name| repo.has_compose(&join(dir, name)));
    folders
}

/// The layout that the repository states or shows; `None` if it has no Compose file that a layout knows.
pub(crate) fn recognise(repo: &Repo<'_>) -> Option<LayoutKind> {
    let explicit = repo.config.stacks.values().any(|s| !s.files.is_empty());
    let stated = repo.config.layout.or(explicit.then_some(LayoutKind::Explicit));
    stated.or_else(|| recognise_by_shape(repo))
}

fn recognise_by_shape(repo: &Repo<'_>) -> Option<LayoutKind> {
    let any_below = |dir: &str| !folders_of_stacks(repo, dir).is_empty();
    let root_file = repo.has_compose("");
    if servers::is_layout(repo) {
        Some(LayoutKind::Servers)
    } else if stacks::has_folder(repo) {
        Some(LayoutKind::Stacks)
    } else if !root_file && hosts::has_folder(repo) {
        Some(LayoutKind::Hosts)
    } else if !root_file && (any_below("") || stacks::is_common(repo)) {
        Some(LayoutKind::Stacks)
    } else if !root_file && !hosts(repo).1.is_empty() {
        Some(LayoutKind::Hosts)
    } else if root_file && any_below("sites") {
        Some(LayoutKind::Sites)
    } else if root_file {
        Some(LayoutKind::Root)
    } else {
        stacks::has_some(repo).then_some(LayoutKind::Stacks)
    }
}

/// The stacks of a server. What is stated in `evenkeel.yml` comes besides what the layout finds, and wins.
pub(crate) fn find(repo: &Repo<'_>, server: &ServerName, kind: LayoutKind) -> Vec<Draft> {
    let mut drafts = match kind {
        LayoutKind::Stacks => stacks::find(repo),
        LayoutKind::Servers => servers::find(repo, server),
        LayoutKind::Explicit => Vec::new(),
        LayoutKind::Hosts => hosts::find(repo, server),
        LayoutKind::Root => root::find(repo).into_iter().collect(),
        LayoutKind::Sites => sites::find(repo),
    };
    let stated = explicit(repo);
    drafts.retain(|d| !stated.iter().any(|s| s.name == d.name));
    drafts.extend(stated);
    let must_have_some = !matches!(kind, LayoutKind::Servers | LayoutKind::Hosts);
    if drafts.is_empty() && must_have_some && !repo.has_errors() {
        none(repo);
    }
    let mut chosen = choose(repo, server, kind, drafts);
    if path_base(repo, kind) == PathBase::Root {
        for layer in chosen.iter_mut().flat_map(|draft| &mut draft.layers) {
            layer.directory.clear();
        }
    }
    chosen
}

/// Where relative paths are resolved.
fn path_base(repo: &Repo<'_>, kind: LayoutKind) -> PathBase {
    let run_from_root = matches!(kind, LayoutKind::Root | LayoutKind::Sites);
    repo.config.paths.unwrap_or(if run_from_root { PathBase::Root } else { PathBase::File })
}

/// Tells of a repository without any stack.
pub(crate) fn none(repo: &Repo<'_>) {
    let help = "add stacks/NAME/compose.yml, or name the files under `stacks:` in evenkeel.yml";
    repo.note(Problem::error("layout.none", "the repository has no Compose file that makes a stack", help));
}

/// The stacks whose files are stated.
fn explicit(repo: &Repo<'_>) -> Vec<Draft> {
    let mut drafts = Vec::new();
    for (name, stack) in &repo.config.stacks {
        let mut layers = Vec::new();
        for file in &stack.files {
            let path = resolve("", &file.text).filter(|p| !p.is_empty());
            if let Some(path) = path.filter(|p| repo.reaches_file(p)) {
                layers.push(Layer::new(path, Origin::Explicit));
            } else {
                let message = format!("the file {:?} is not in the repository", file.text);
                let help = nearest_file(repo, &file.text).unwrap_or_else(|| "correct the path".to_owned());
                let problem = Problem::error("stack.file-missing", message, help).in_stack(name);
                repo.note(problem.at(&repo.config.path, file.line));
            }
        }
        if !layers.is_empty() {
            drafts.push(Draft::new(name.as_str(), layers));
        }
    }
    drafts
}

fn nearest_file(repo: &Repo<'_>, written: &str) -> Option<String> {
    let path = resolve("", written)?;
    let (dir, name) = split(&path);
    let entries = repo.entries(dir);
    let near = nearest(entries.iter().map(|e| e.name.as_str()), name)?;
    Some(format!("did you mean `{}`?", join(dir, near)))
}

/// Keeps the stacks that the server's list names, if there is one; a name that is not there is a problem.
fn choose(repo: &Repo<'_>, server: &ServerName, kind: LayoutKind, drafts: Vec<Draft>) -> Vec<Draft> {
    let Some((path, picks)) = picked(repo, server, kind) else { return drafts };
    let mut chosen: Vec<Draft> = Vec::new();
    for pick in picks {
        if let Some(draft) = drafts.iter().find(|d| d.name == pick.written.text) {
            chosen.push(draft.clone().picked(&pick));
        } else {
            let names = drafts.iter().map(|d| d.name.as_str());
            repo.note(unknown_stack(server, names, &pick.written.text, "stacks").at(&path, pick.written.line));
        }
    }
    chosen.sort_by(|a, b| a.name.cmp(&b.name));
    chosen.dedup_by(|a, b| a.name == b.name);
    chosen
}

/// The list of stacks that names what this server runs: `evenkeel.yml`'s, else that of its `config.json`.
fn picked(repo: &Repo<'_>, server: &ServerName, kind: LayoutKind) -> Option<(String, Vec<Pick>)> {
    if let Some(stacks) = repo.config.servers.get(server).and_then(|s| s.stacks.as_ref()) {
        let picks = stacks.iter().cloned().map(Pick::named);
        return Some((repo.config.path.clone(), picks.collect()));
    }
    // The layout `servers` reads its own file, where the names are not of all stacks.
    if kind == LayoutKind::Servers {
        return None;
    }
    let path = join(&server_folder(repo, server, kind), "config.json");
    let file = server_file::read(repo, server.as_str(), &path)?;
    Some((file.path, file.stacks?))
}

/// A stack that a list names and nobody has; `folder` is where it could be created.
fn unknown_stack<'n>(server: &ServerName, names: impl Iterator<Item = &'n str>, given: &str, folder: &str) -> Problem {
    let shown: String = given.chars().take(80).collect();
    let help = match nearest(names, given) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("create {folder}/{shown}/{}, or remove the name", MAIN_FILES[1]),
    };
    let message = format!("there is no stack {shown:?}");
    Problem::error("stack.unknown", message, help).on_server(server).in_stack(shown)
}
