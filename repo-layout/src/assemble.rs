//! From the layout's drafts to stacks: files read, projects named, collisions told.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    compose::{self, ComposeFile},
    env::{self, Env},
    gate::GateSpec,
    layout::{Draft, server_folder},
    name::{ServerName, StackName},
    nearest, order,
    problem::Problem,
    project::{self, Project},
    repo::{Repo, join, split},
    section::Written,
    set::{LayoutKind, Origin, Stack},
};

/// A draft with its files read.
struct Ready {
    draft: Draft,
    name: StackName,
    files: Vec<ComposeFile>,
    env_files: Vec<String>,
    project: Project,
}

/// The stacks of `drafts`, sorted by name. What is wrong is noted in `repo`.
pub(crate) fn assemble(repo: &Repo<'_>, server: &ServerName, kind: LayoutKind, drafts: Vec<Draft>) -> Vec<Stack> {
    let folder = server_folder(repo, server, kind);
    let read = |draft: Draft| repo.within(&draft.name.clone(), || read(repo, &folder, draft));
    let mut ready: Vec<Ready> = drafts.into_iter().filter_map(read).collect();
    if kind == LayoutKind::Servers {
        ready = join_projects(ready, server);
        tell_redefinitions(repo, server, &ready);
    }
    ready.sort_by(|a, b| a.name.cmp(&b.name));
    for one in &ready {
        tell_layering(repo, server, one);
    }
    tell_projects(repo, server, &ready);
    let mut stacks = depend(repo, ready);
    tell_cycles(repo, &stacks);
    stacks.sort_by(|a, b| a.name.cmp(&b.name));
    stacks
}

fn read(repo: &Repo<'_>, folder: &str, draft: Draft) -> Option<Ready> {
    let first = draft.layers.first()?.path.clone();
    let name = StackName::new(&draft.name)
        .map_err(|error| {
            let problem = Problem::error("stack.name", error.to_string(), "rename the folder or file");
            repo.note(problem.at(&first, None));
        })
        .ok()?;
    let mut files = Vec::new();
    for layer in &draft.layers {
        let Some(bytes) = repo.read(&layer.path) else {
            files.push(ComposeFile { is_unread: true, ..ComposeFile::default() });
            continue;
        };
        let (file, problems) = compose::parse(&layer.path, &bytes);
        for problem in problems {
            repo.note(problem);
        }
        files.push(file);
    }
    // Compose takes an empty override, but not a stack of nothing.
    if files.iter().all(|file| file.is_empty) {
        let help = "define services in it, or remove it";
        repo.note(Problem::error("compose.empty", "the file is empty", help).at(&first, None));
    }
    let dir = split(&first).0;
    let own = join(dir, ".env");
    let mut env_files: Vec<String> = Vec::new();
    for path in [".env".to_owned(), own.clone(), join(folder, ".env")].into_iter().flat_map(env::with_encrypted) {
        if !env_files.contains(&path) && repo.reaches_file(&path) {
            env_files.push(path);
        }
    }
    let (mut all, mut of_folder) = (Env::new(), Env::new());
    for path in env_files.iter().filter(|path| !env::is_encrypted(path)) {
        let text = repo.read(path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        env::read_over(&mut all, &text);
        if *path == own {
            env::read_over(&mut of_folder, &text);
        }
    }
    let project = match &draft.project {
        _ if files.iter().any(|file| file.is_unread) => Project::Unread,
        Some(stated) => project::stated(stated),
        None => project::of(&files, split(dir).1, &of_folder, &all),
    };
    Some(Ready { draft, name, files, env_files, project })
}

/// Files that share a project are one stack: named after the server if its own file is among them, else after the
/// project.
fn join_projects(ready: Vec<Ready>, server: &ServerName) -> Vec<Ready> {
    let mut joined: Vec<Ready> = Vec::new();
    for one in ready {
        let same = |other: &Ready| other.project == one.project && one.project.shown().is_some();
        let Some(lower) = joined.iter_mut().find(|other| same(other)) else {
            joined.push(one);
            continue;
        };
        lower.draft.layers.extend(one.draft.layers);
        lower.files.extend(one.files);
        lower.env_files.extend(one.env_files);
        lower.draft.layering = Some(format!("they share the project {}", one.project.shown().unwrap_or_default()));
        let of_server = lower.draft.layers.iter().any(|l| l.origin == Origin::Server);
        let after_project = match &one.project {
            Project::Known(text) if !of_server => StackName::new(text).ok(),
            _ => None,
        };
        lower.name = after_project.or_else(|| StackName::new(server.as_str()).ok()).unwrap_or(one.name);
    }
    for one in &mut joined {
        let mut layers: Vec<_> = one.draft.layers.drain(..).zip(one.files.drain(..)).collect();
        layers.sort_by_key(|(layer, _)| layer.origin);
        (one.draft.layers, one.files) = layers.into_iter().unzip();
        let mut seen = BTreeSet::new();
        one.env_files.retain(|path| seen.insert(path.clone()));
    }
    joined
}

fn tell_layering(repo: &Repo<'_>, server: &ServerName, one: &Ready) {
    if let Some(why) = &one.draft.layering {
        let message = format!("{} are layers of one stack ({why}); this is not supported yet", one.draft.paths());
        let help = "give each stack its own folder, service names and top-level `name:`";
        let path = one.draft.layers.last().map(|l| l.path.clone()).unwrap_or_default();
        let problem = Problem::error("layout.layering", message, help).on_server(server);
        repo.note(problem.in_stack(&one.name).at(path, None));
    }
}

/// A service in the server's own file that another stack defines too would override that one.
fn tell_redefinitions(repo: &Repo<'_>, server: &ServerName, ready: &[Ready]) {
    let is_own = |one: &&Ready| one.draft.layers.iter().all(|l| l.origin == Origin::Server);
    let Some(own) = ready.iter().find(is_own) else { return };
    let own_services: BTreeSet<&String> = own.files.iter().flat_map(|f| &f.services).collect();
    for other in ready.iter().filter(|one| one.name != own.name) {
        let services: BTreeSet<&String> = other.files.iter().flat_map(|f| &f.services).collect();
        let Some(service) = services.intersection(&own_services).next() else { continue };
        let (own_paths, paths) = (own.draft.paths(), other.draft.paths());
        for (name, path) in [(&own.name, &own_paths), (&other.name, &paths)] {
            let message =
                format!("{own_paths} redefines the service {service:?} of {paths}; this layering is not supported yet");
            let help = format!("rename the service in {own_paths}, or change it in {paths}");
            let problem = Problem::error("layout.layering", message, help).on_server(server);
            repo.note(problem.in_stack(name).at(path.split(", ").next().unwrap_or_default(), None));
        }
    }
}

fn tell_projects(repo: &Repo<'_>, server: &ServerName, ready: &[Ready]) {
    let mut owners: BTreeMap<&Project, &Ready> = BTreeMap::new();
    for one in ready {
        let path = one.draft.layers.last().map_or("", |l| l.path.as_str());
        if let Project::Bad { why, line } = &one.project {
            let help = "set a top-level `name:` of a-z, 0-9, _ and -, beginning with a letter or a digit";
            let path = if line.is_some() { named_in(one) } else { path };
            repo.note(Problem::error("project.invalid", why, help).in_stack(&one.name).at(path, *line));
            continue;
        }
        if one.project == Project::Checkout {
            let message = "the project is named after the folder that the repository lies in";
            let help = "state it with a top-level `name:`, so that it is the same everywhere";
            repo.note(Problem::warning("project.unnamed", message, help).in_stack(&one.name).at(path, None));
        }
        let Some(other) = owners.insert(&one.project, one) else { continue };
        let Some(shown) = one.project.shown() else { continue };
        for (this, that) in [(one, other), (other, one)] {
            let message = format!("the stacks {} and {} have the same project, {shown}", this.name, that.name);
            let help = "give one of them another top-level `name:`; one would take the other's containers down";
            let path = this.draft.layers.last().map_or("", |l| l.path.as_str());
            let problem = Problem::error("project.duplicate", message, help).on_server(server);
            repo.note(problem.in_stack(&this.name).at(path, None));
        }
    }
}

/// The layer whose `name:` counts.
fn named_in(one: &Ready) -> &str {
    let pairs = one.draft.layers.iter().zip(&one.files);
    pairs.rev().find(|(_, file)| file.name.is_some()).map_or("", |(layer, _)| layer.path.as_str())
}

/// Makes stacks of what was read, their dependencies checked.
fn depend(repo: &Repo<'_>, ready: Vec<Ready>) -> Vec<Stack> {
    let names: BTreeSet<StackName> = ready.iter().map(|one| one.name.clone()).collect();
    let mut stacks = Vec::new();
    for Ready { draft, name, files, env_files, project } in ready {
        let mut gate = GateSpec::default();
        let mut window = None;
        let mut wanted: Vec<(&str, &Written)> = Vec::new();
        for (layer, file) in draft.layers.iter().zip(&files) {
            gate.overlay(file.extension.gate);
            window = file.extension.window.clone().or(window);
            wanted.extend(file.extension.depends_on.iter().map(|w| (layer.path.as_str(), w)));
        }
        if let Some(stated) = repo.config.stacks.get(&name) {
            wanted.extend(stated.depends_on.iter().map(|w| (repo.config.path.as_str(), w)));
        }
        let mut depends_on = BTreeSet::new();
        for (path, Written { text, line }) in wanted {
            match StackName::new(text).ok().filter(|wanted| names.contains(wanted)) {
                Some(wanted) => drop(depends_on.insert(wanted)),
                None => repo.note(unknown(&names, text).in_stack(&name).at(path, *line)),
            }
        }
        stacks.push(Stack {
            name,
            project: if let Project::Known(project) = project { Some(project) } else { None },
            layers: draft.layers,
            env_files,
            depends_on: depends_on.into_iter().collect(),
            gate,
            window,
        });
    }
    stacks
}

fn unknown(names: &BTreeSet<StackName>, given: &str) -> Problem {
    let help = match nearest(names.iter().map(StackName::as_str), given) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "name a stack that this server runs, or remove the dependency".to_owned(),
    };
    let shown: String = given.chars().take(80).collect();
    Problem::error("depends.unknown", format!("it depends on {shown:?}, which is no stack of this server"), help)
}

fn tell_cycles(repo: &Repo<'_>, stacks: &[Stack]) {
    for cycle in order::cycles(stacks) {
        let names = cycle.iter().chain(cycle.first()).map(StackName::as_str).collect::<Vec<_>>();
        let message = format!("stacks depend on each other in a circle: {}", names.join(" -> "));
        for name in &cycle {
            let help = "remove one of these from `depends_on`";
            let layers = stacks.iter().find(|s| s.name == *name).map(|s| &s.layers);
            let path = layers.and_then(|l| l.first()).map_or("", |l| l.path.as_str());
            repo.note(Problem::error("depends.cycle", &message, help).in_stack(name).at(path, None));
        }
    }
}
