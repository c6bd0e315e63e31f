//! Which files are one stack: those of one draft, those that share a project, those of one server; and what a server's own file
//! overrides.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    compose::{self, ComposeFile},
    env::{self, Env},
    layout::Draft,
    name::{ServerName, StackName},
    problem::Problem,
    project::{self, Project},
    repo::{Repo, join, resolve, split},
    set::{Layer, Origin},
};

/// Most files that are followed through `include` for their services.
const MAX_INCLUDED: usize = 64;

/// A draft with its files read.
pub(crate) struct Ready {
    pub draft: Draft,
    pub name: StackName,
    /// One for each of the draft's layers.
    pub files: Vec<ComposeFile>,
    /// The services of its files, with those that they include.
    pub services: BTreeSet<String>,
    pub env_files: Vec<String>,
    pub project: Project,
    /// Whether something besides its files says which project it is.
    is_stated: bool,
    /// Other names that it is known by: those of the drafts that it was joined from.
    pub aliases: BTreeSet<StackName>,
    /// Layers that another stack's file puts above its own.
    pub above: Vec<Layer>,
    /// Services of its layers that it does not have.
    pub without: BTreeSet<String>,
    /// The variables of its folder's environment file.
    own: Env,
}

impl Ready {
    /// The path that stands for it in a problem: its last file.
    pub fn path(&self) -> &str {
        self.draft.layers.last().map_or("", |l| l.path.as_str())
    }

    fn origin(&self) -> Option<Origin> {
        self.draft.layers.first().map(|l| l.origin)
    }

    /// Whether something says which project it is, besides the folder's name.
    fn states_project(&self) -> bool {
        let says = |file: &ComposeFile| file.name.is_some();
        self.is_stated || self.own.contains_key(project::VARIABLE) || self.files.iter().any(says)
    }

    fn has_server_file(&self) -> bool {
        self.draft.layers.iter().any(|l| l.origin == Origin::Server)
    }
}

/// Reads the files of a draft. `folder` is the server's.
pub(crate) fn read(repo: &Repo<'_>, folder: &str, draft: Draft) -> Option<Ready> {
    let first = draft.layers.first()?.path.clone();
    let name = StackName::new(&draft.name)
        .map_err(|error| {
            let problem = Problem::error("stack.name", error.to_string(), "rename the folder or file");
            repo.note(problem.at(&first, None));
        })
        .ok()?;
    let files: Vec<ComposeFile> = draft.layers.iter().map(|layer| read_file(repo, &layer.path)).collect();
    // Compose takes an empty override, but not a stack of nothing.
    if files.iter().all(|file| file.is_empty) {
        let help = "define services in it, or remove it";
        repo.note(Problem::error("compose.empty", "the file is empty", help).at(&first, None));
    }
    let (env_files, own, env) = environment(repo, folder, &draft.layers);
    let project = match &draft.project {
        _ if files.iter().any(|file| file.is_unread) => Project::Unread,
        Some(stated) => project::stated(stated),
        None => project::of(&files, split(split(&first).0).1, &own, &env),
    };
    let services = services(repo, &draft.layers, &files);
    let is_stated = draft.project.is_some();
    let (above, without, aliases) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    Some(Ready { draft, name, files, services, env_files, project, is_stated, aliases, above, without, own })
}

fn read_file(repo: &Repo<'_>, path: &str) -> ComposeFile {
    let Some(bytes) = repo.read(path) else { return ComposeFile { is_unread: true, ..ComposeFile::default() } };
    let (file, problems) = compose::parse(path, &bytes);
    for problem in problems {
        repo.note(problem);
    }
    file
}

/// The environment files of layers, lowest first: the root's, their folders', the server's. With the variables of the folders
/// of the first layer, and of all.
fn environment(repo: &Repo<'_>, folder: &str, layers: &[Layer]) -> (Vec<String>, Env, Env) {
    let own = layers.first().map_or_else(String::new, |first| join(split(&first.path).0, ".env"));
    let beside = layers.iter().map(|layer| join(split(&layer.path).0, ".env"));
    let mut paths: Vec<String> = Vec::new();
    let names = [".env".to_owned()].into_iter().chain(beside).chain([join(folder, ".env")]);
    for path in names.flat_map(env::with_encrypted) {
        if !paths.contains(&path) && repo.reaches_file(&path) {
            paths.push(path);
        }
    }
    let (mut all, mut of_folder) = (Env::new(), Env::new());
    for path in paths.iter().filter(|path| !env::is_encrypted(path)) {
        let text = repo.read(path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        env::read_over(&mut all, &text);
        if *path == own {
            env::read_over(&mut of_folder, &text);
        }
    }
    (paths, of_folder, all)
}

/// The services of files and of what these include.
fn services(repo: &Repo<'_>, layers: &[Layer], files: &[ComposeFile]) -> BTreeSet<String> {
    let mut found: BTreeSet<String> = files.iter().flat_map(|f| f.services.iter().cloned()).collect();
    let of = |base: &str, file: &ComposeFile| -> Vec<String> {
        file.included.iter().filter_map(|written| resolve(base, written)).collect()
    };
    let mut waiting: Vec<String> = layers.iter().zip(files).flat_map(|(l, f)| of(&l.directory, f)).collect();
    let mut seen = BTreeSet::new();
    while let Some(path) = waiting.pop() {
        if seen.len() >= MAX_INCLUDED || !seen.insert(path.clone()) || !repo.reaches_file(&path) {
            continue;
        }
        let Some(bytes) = repo.read(&path) else { continue };
        let (file, _) = compose::parse(&path, &bytes);
        waiting.extend(of(split(&path).0, &file));
        found.extend(file.services);
    }
    found
}

/// Joins everything: a server that is one project.
pub(crate) fn all(repo: &Repo<'_>, server: &ServerName, ready: Vec<Ready>) -> Vec<Ready> {
    let Ok(name) = StackName::new(server.as_str()) else { return ready };
    if ready.len() < 2 {
        return ready;
    }
    let project = servers_project(server, &ready);
    let group = ready.into_iter().map(|one| Ready { project: project.clone(), ..one }).collect();
    vec![flatten(repo, server, name, group)]
}

/// Joins what names no project with the server's; what names one is that.
pub(crate) fn unnamed(repo: &Repo<'_>, server: &ServerName, mut ready: Vec<Ready>) -> Vec<Ready> {
    let project = servers_project(server, &ready);
    for one in ready.iter_mut().filter(|one| !one.states_project() && one.project.shown().is_some()) {
        one.project = project.clone();
        one.is_stated = true;
    }
    by_project(repo, server, ready)
}

/// What the server's own file says, else the server's name.
fn servers_project(server: &ServerName, ready: &[Ready]) -> Project {
    let own = ready.iter().find(|one| one.has_server_file() && one.states_project());
    own.map_or_else(|| project::stated(&server.as_str().to_lowercase()), |one| one.project.clone())
}

/// Joins files that share a project: one stack, named after the server if its own file is among them, else after the project.
pub(crate) fn by_project(repo: &Repo<'_>, server: &ServerName, ready: Vec<Ready>) -> Vec<Ready> {
    let mut groups: Vec<Vec<Ready>> = Vec::new();
    for one in ready {
        match groups.iter_mut().find(|group| group.iter().all(|other| belong(other, &one))) {
            Some(group) => group.push(one),
            None => groups.push(vec![one]),
        }
    }
    let taken: BTreeSet<StackName> =
        groups.iter().filter(|g| g.len() == 1).flatten().map(|one| one.name.clone()).collect();
    let join_group = |group: Vec<Ready>| match group.len() {
        1 => group,
        _ => vec![flatten(repo, server, group_name(&group, server, &taken), group)],
    };
    groups.into_iter().flat_map(join_group).collect()
}

/// Whether two drafts are one project because their files say so. Folders that happen to have one name do not.
fn belong(one: &Ready, other: &Ready) -> bool {
    let folder = |ready: &Ready| ready.draft.layers.first().map(|l| split(&l.path).0.to_owned());
    let meant = || one.states_project() && other.states_project() || folder(one) == folder(other);
    one.project == other.project && one.project.shown().is_some() && meant()
}

fn group_name(group: &[Ready], server: &ServerName, taken: &BTreeSet<StackName>) -> StackName {
    let of_server = || StackName::new(server.as_str()).ok().filter(|name| !taken.contains(name));
    let of_project = || match group.first().map(|one| &one.project) {
        Some(Project::Known(text)) => StackName::new(text).ok().filter(|name| !taken.contains(name)),
        _ => None,
    };
    let chosen = if group.iter().any(Ready::has_server_file) { of_server() } else { of_project().or_else(of_server) };
    chosen.unwrap_or_else(|| group[0].name.clone())
}

/// Makes one of a group, which is not empty: lower origins first, else in their order.
fn flatten(repo: &Repo<'_>, server: &ServerName, name: StackName, mut group: Vec<Ready>) -> Ready {
    group.sort_by_key(Ready::origin);
    tell_twice(repo, server, &name, &group);
    tell_environment(repo, server, &name, &group);
    let mut parts = group.into_iter();
    let mut whole = parts.next().expect("a group is made with its first member");
    whole.aliases.insert(std::mem::replace(&mut whole.name, name));
    for part in parts {
        whole.draft.layers.extend(part.draft.layers);
        whole.draft.defaults.extend(part.draft.defaults);
        whole.draft.watched.extend(part.draft.watched);
        whole.files.extend(part.files);
        whole.services.extend(part.services);
        whole.env_files.extend(part.env_files);
        whole.aliases.insert(part.name);
    }
    let mut layers: Vec<_> = whole.draft.layers.drain(..).zip(whole.files.drain(..)).collect();
    layers.sort_by_key(|(layer, _)| layer.origin);
    (whole.draft.layers, whole.files) = layers.into_iter().unzip();
    order_environment(&mut whole.env_files, &whole.draft.layers);
    whole
}

/// The root's file, those of the layers, the server's; each once.
fn order_environment(files: &mut Vec<String>, layers: &[Layer]) {
    let rank = |path: &String| {
        let folder = split(path).0;
        let of_folder = match layers.iter().position(|layer| split(&layer.path).0 == folder) {
            _ if folder.is_empty() => 0,
            Some(at) if layers[at].origin != Origin::Server => at + 1,
            _ => layers.len() + 1,
        };
        // What is encrypted counts above the file beside it.
        (of_folder, env::is_encrypted(path))
    };
    files.sort_by_key(rank);
    files.dedup();
}

/// Two files of one rank that define one service would take each other's container down when they are run one by one, and
/// nobody can say which one is meant.
fn tell_twice(repo: &Repo<'_>, server: &ServerName, stack: &StackName, group: &[Ready]) {
    let mut owners: BTreeMap<(Option<Origin>, &str), &Ready> = BTreeMap::new();
    for one in group {
        for service in &one.services {
            let Some(other) = owners.insert((one.origin(), service), one) else { continue };
            let (this, that) = (one.path(), other.path());
            let message = format!("{this} and {that} are one project, and both define the service {service:?}");
            let help = "rename one of the two services, or give one of the files another top-level `name:`";
            let problem = Problem::error("project.service-twice", message, help).on_server(server);
            repo.note(problem.in_stack(stack).at(this, None));
        }
    }
}

/// One project has one environment: files that come together cannot each have their own value of a variable.
fn tell_environment(repo: &Repo<'_>, server: &ServerName, stack: &StackName, group: &[Ready]) {
    let mut values: BTreeMap<&str, (&str, &Ready)> = BTreeMap::new();
    for one in group {
        for (name, value) in one.own.iter().filter(|(name, _)| !name.starts_with("COMPOSE_")) {
            let Some((other, first)) = values.insert(name, (value, one)) else { continue };
            if other != value && first.path() != one.path() {
                let message = format!(
                    "{} and {} are one project, and their `.env` files differ in {name}",
                    first.path(),
                    one.path()
                );
                let help = "give the variable a name of its own in one of them, or set it once for both";
                let problem = Problem::error("project.env", message, help).on_server(server);
                repo.note(problem.in_stack(stack).at(one.path(), None));
            }
        }
    }
}

/// A service in the server's own file that another stack has is a last layer of that stack; what is left is the server's stack.
pub(crate) fn override_by_server(server: &ServerName, ready: &mut Vec<Ready>) {
    let is_own = |one: &Ready| {
        one.name.as_str() == server.as_str() && one.draft.layers.iter().all(|layer| layer.origin == Origin::Server)
    };
    let Some(at) = ready.iter().position(is_own) else { return };
    let mut own = ready.remove(at);
    let mut given = BTreeSet::new();
    for other in ready.iter_mut() {
        let common: BTreeSet<String> = own.services.intersection(&other.services).cloned().collect();
        if common.is_empty() {
            continue;
        }
        other.above.clone_from(&own.draft.layers);
        other.without = own.services.difference(&other.services).cloned().collect();
        given.extend(common);
    }
    let is_given_away = !given.is_empty() && given == own.services;
    own.without = given;
    if !is_given_away {
        ready.push(own);
    }
}
