//! From the layout's drafts to stacks: files read, projects named, what belongs together joined.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    compose::ComposeFile,
    config::ProjectBase,
    join::{self, Ready},
    layout::{self, Draft, server_folder},
    name::{GroupName, ServerName, StackName},
    nearest,
    order::{self, Unit},
    problem::Problem,
    project::Project,
    reload::Reload,
    repo::{Repo, resolve, split},
    section::Written,
    set::{Layer, LayoutKind, Stack},
    tell,
};

/// The stacks of `drafts`, sorted by name. What is wrong is noted in `repo`.
pub(crate) fn assemble(repo: &Repo<'_>, server: &ServerName, kind: LayoutKind, drafts: Vec<Draft>) -> Vec<Stack> {
    let folder = server_folder(repo, server, kind);
    let read = |draft: Draft| repo.within(&draft.name.clone(), || join::read(repo, &folder, draft));
    let ready: Vec<Ready> = drafts.into_iter().filter_map(read).collect();
    let one_project = kind == LayoutKind::Servers && layout::is_one_project(repo, server);
    let mut ready = match repo.config.project {
        Some(ProjectBase::Server) => join::all(repo, server, ready),
        None if one_project => join::unnamed(repo, server, ready),
        _ => join::by_project(repo, server, ready),
    };
    join::override_by_server(server, &mut ready);
    ready.sort_by(|a, b| a.name.cmp(&b.name));
    tell::names(repo, server, &mut ready);
    tell::projects(repo, server, &ready);
    let mut stacks = depend(repo, server, ready);
    tell_cycles(repo, &stacks);
    tell_groups(repo, &stacks);
    stacks.sort_by(|a, b| a.name.cmp(&b.name));
    stacks
}

/// Makes stacks of what was read, their dependencies checked.
fn depend(repo: &Repo<'_>, server: &ServerName, ready: Vec<Ready>) -> Vec<Stack> {
    let names: BTreeSet<StackName> = ready.iter().map(|one| one.name.clone()).collect();
    let joined = |one: &Ready| one.aliases.iter().map(|alias| (alias.clone(), one.name.clone())).collect::<Vec<_>>();
    let aliases: BTreeMap<StackName, StackName> = ready.iter().flat_map(joined).collect();
    let profiles = repo.config.servers.get(server).map(|s| s.profiles.clone()).unwrap_or_default();
    let mut stacks = Vec::new();
    for Ready { draft, name, files, env_files, project, above, without, .. } in ready {
        let mut said = repo.config.defaults.clone();
        let mut health_check = None;
        let mut wanted: Vec<(&str, &Written)> = Vec::new();
        for (layer, file) in draft.layers.iter().zip(&files) {
            said.overlay(file.extension.clone());
            let script = file.extension.health_check.as_ref();
            let script = script.and_then(|script| repo.within(name.as_str(), || beside(repo, layer, script)));
            health_check = script.or(health_check);
            wanted.extend(file.extension.depends_on.iter().map(|w| (layer.path.as_str(), w)));
        }
        if let Some(stated) = repo.config.stacks.get(&name) {
            wanted.extend(stated.depends_on.iter().map(|w| (repo.config.path.as_str(), w)));
        }
        let group = said.group.take().or_else(|| repo.config.stacks.get(&name)?.group.clone());
        let mut depends_on = BTreeSet::new();
        for (path, Written { text, line }) in wanted {
            let wanted = StackName::new(text).ok();
            let known = wanted.as_ref().and_then(|wanted| names.get(wanted).or_else(|| aliases.get(wanted)));
            match known {
                // What was joined with it comes with it.
                Some(known) if *known == name && wanted != Some(name.clone()) => {}
                Some(known) => drop(depends_on.insert(known.clone())),
                None => repo.note(unknown(&names, text).in_stack(&name).at(path, *line)),
            }
        }
        let watched = repo.within(name.as_str(), || watched(repo, &draft));
        let reloads = repo.within(name.as_str(), || reloads(repo, &draft.layers, &files));
        let (project, kept_name) = match project {
            Project::Known(project) => (Some(project), None),
            Project::Literal(text) if !above.is_empty() => (None, Some(text)),
            _ => (None, None),
        };
        stacks.push(Stack {
            name,
            project,
            named: kept_name,
            layers: draft.layers.into_iter().chain(above).collect(),
            env_files,
            defaults: draft.defaults,
            profiles: profiles.clone(),
            without,
            watched,
            depends_on: depends_on.into_iter().collect(),
            group,
            gate: said.gate,
            window: said.window,
            drift: said.drift,
            health_check,
            on_change: said.on_change.unwrap_or_default(),
            reloads,
        });
    }
    stacks
}

/// The script that a layer names, which must be in the repository: what runs is what was signed.
fn beside(repo: &Repo<'_>, layer: &Layer, script: &Written) -> Option<String> {
    let found = resolve(split(&layer.path).0, &script.text).filter(|path| repo.reaches_file(path));
    if found.is_none() {
        let shown: String = script.text.chars().take(80).collect();
        let message = format!("`x-evenkeel.hooks.health_check`: {shown:?} is not in the repository");
        let help = "add the script, or correct its path, which begins at the folder of this file";
        repo.note(Problem::error("x-evenkeel.value", message, help).at(&layer.path, script.line));
    }
    found
}

/// The watched files of a draft: beside its first file, else from the root.
fn watched(repo: &Repo<'_>, draft: &Draft) -> Vec<String> {
    let folder = draft.layers.first().map_or("", |layer| split(&layer.path).0);
    let mut found = Vec::new();
    for Written { text, .. } in &draft.watched {
        let candidates = [resolve(folder, text), resolve("", text)];
        if let Some(path) = candidates.into_iter().flatten().find(|path| repo.reaches_file(path)) {
            found.push(path);
        } else {
            let message = format!("the watched file {text:?} is not in the repository");
            repo.note(Problem::warning("stack.watched", message, "correct the path, or remove it from the list"));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// What services say of signals, their paths taken from where their layer's are. A higher layer's word counts.
fn reloads(repo: &Repo<'_>, layers: &[Layer], files: &[ComposeFile]) -> BTreeMap<String, Reload> {
    let mut found = BTreeMap::new();
    for (layer, file) in layers.iter().zip(files) {
        for (service, said) in &file.extension.reloads {
            let mut on = Vec::new();
            for Written { text, line } in &said.on {
                if let Some(path) = resolve(&layer.directory, text) {
                    on.push(path);
                } else {
                    let message = format!("{service}: `reload.on` names {text:?}, which is not in the repository");
                    let help = "name files and folders of the repository that the service mounts";
                    repo.note(Problem::error("x-evenkeel.value", message, help).at(&layer.path, *line));
                }
            }
            found.insert(service.clone(), Reload { signal: said.signal.clone(), on });
        }
    }
    found
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

/// Groups that cannot be put in order, or that have one stack only.
fn tell_groups(repo: &Repo<'_>, stacks: &[Stack]) {
    let note = |stack: &Stack, problem: Problem| {
        let path = stack.layers.first().map_or("", |layer| layer.path.as_str());
        repo.note(problem.in_stack(&stack.name).at(path, None));
    };
    for cycle in order::cycles_of_groups(stacks) {
        let names = cycle.iter().chain(cycle.first()).map(ToString::to_string).collect::<Vec<_>>();
        let message = format!("stacks that move together wait for themselves: {}", names.join(" -> "));
        for stack in stacks.iter().filter(|stack| cycle.contains(&Unit::of(stack))) {
            let help = "take what is between them into the group, or remove one of these from `depends_on`";
            note(stack, Problem::error("group.cycle", &message, help));
        }
    }
    let mut groups: BTreeMap<&GroupName, Vec<&Stack>> = BTreeMap::new();
    for stack in stacks {
        if let Some(group) = &stack.group {
            groups.entry(group).or_default().push(stack);
        }
    }
    for (group, members) in &groups {
        let [only] = members[..] else { continue };
        let others = groups.keys().filter(|other| *other != group).map(|other| other.as_str());
        let help = match nearest(others, group.as_str()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "give the stacks that move with it the same `group`, or remove the key".to_owned(),
        };
        let message = format!("nothing else on this server is in the group {group}");
        note(only, Problem::info("group.alone", message, help));
    }
}
