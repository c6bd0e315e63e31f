//! What a change of the model or of files means for each service.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_layout::{problem::Problem, reload::OnChange};
use serde_json::Value;

use crate::{
    change::{ServiceChange, ServiceChangeKind, Why, WhyKind},
    model::{Model, Service},
    path::{below, is_within},
    release::{Candidate, Files, Release, SecretEnv},
    slice::{build_paths, mounted_paths},
    update,
};

/// One state of a stack: its model, its files, its secret values.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    /// The rendered model.
    pub model: &'a Model,
    /// Its slice.
    pub files: &'a Files,
    /// Values of secrets that come from the environment.
    pub secret_env: &'a SecretEnv,
}

impl<'a> Side<'a> {
    /// The state that a candidate wants.
    pub fn of_candidate(candidate: &'a Candidate) -> Self {
        Self { model: &candidate.model, files: &candidate.files, secret_env: &candidate.secret_env }
    }

    /// The state that a release has.
    pub fn of_release(release: &'a Release) -> Self {
        Self { model: &release.model, files: &release.files, secret_env: &release.secret_env }
    }
}

/// Keys of a service that change no container: when Compose acts, not what it makes.
const WITHOUT_EFFECT: &[&str] = &["profiles", "pull_policy", "develop"];

/// What happens to each service between two states of a stack, sorted by name. `None` stands for no state: the stack is made,
/// or removed. `root` is where both models have the repository's root.
///
/// A service that merely depends on a changed one is left alone; one that shares its namespaces or volumes, or asks to be
/// restarted with it, is recreated, since it would be cut off. One of which only files changed that its containers see as they
/// are gets a signal or is restarted, if it says so. What would be recreated is started first, if it asks for it and can be.
pub fn diff(root: &str, from: Option<Side<'_>>, to: Option<Side<'_>>) -> Vec<ServiceChange> {
    let (before, after) = (services(from), services(to));
    let names: BTreeSet<&str> = before.keys().chain(after.keys()).copied().collect();
    let mut changes = Vec::new();
    for name in names {
        let (change, why) = match (before.get(name), after.get(name), from.zip(to)) {
            (Some(a), Some(b), Some((from, to))) => {
                let files = of_visible_files(root, (from, *a), (to, *b));
                let mut why = whys(root, (from, *a), (to, *b));
                let kind = match (why.is_empty(), files.is_empty()) {
                    (true, true) => ServiceChangeKind::None,
                    (true, false) => taken_up(root, to, name, &files),
                    (false, _) => ServiceChangeKind::Recreate,
                };
                why.extend(files.into_values().map(|change| change.why));
                (kind, why)
            }
            (None, _, _) => (ServiceChangeKind::Create, BTreeSet::new()),
            (_, _, _) => (ServiceChangeKind::Remove, BTreeSet::new()),
        };
        let why = why.into_iter().collect();
        changes.push(ServiceChange { service: name.to_owned(), change, why });
    }
    take_along(&mut changes, &after);
    if let (Some(from), Some(to)) = (from, to) {
        start_first(root, &mut changes, from, to);
    }
    changes
}

/// Replaces by starting first what asks for it and can be.
fn start_first(root: &str, changes: &mut [ServiceChange], from: Side<'_>, to: Side<'_>) {
    for change in changes.iter_mut().filter(|c| c.change == ServiceChangeKind::Recreate) {
        let name = change.service.as_str();
        let (Some(old), Some(new)) = (from.model.service(name), to.model.service(name)) else { continue };
        let is_possible = || {
            update::obstacle(to.model, name).is_none()
                && of_networks((from, old), (to, new)).is_empty()
                && keeps_files(root, (from, old), to)
        };
        if update::wants_start_first(new) && is_possible() {
            change.change = ServiceChangeKind::StartFirst;
        }
    }
}

/// Whether the files stay that the old containers mount by themselves: one that is removed and comes back is another file to them.
fn keeps_files(root: &str, old: SideOf<'_>, to: Side<'_>) -> bool {
    let (from, service) = old;
    let contents = ["configs", "secrets"].into_iter().flat_map(|section| {
        let all = from.model.section(section);
        let files = service.uses(section).into_iter().filter_map(move |key| all.get(key)?["file"].as_str());
        files.collect::<Vec<_>>()
    });
    let binds = service.binds().into_iter().map(|(source, _)| source);
    let mut alone = binds.chain(contents).filter_map(|path| below(root, path));
    alone.all(|path| from.files.contains_key(path) <= to.files.contains_key(path))
}

fn services(side: Option<Side<'_>>) -> BTreeMap<&str, Service<'_>> {
    side.map(|side| side.model.services()).unwrap_or_default()
}

/// Recreates whatever shares something with a service that gets new containers, or whose containers stop for a while.
pub fn take_along(changes: &mut [ServiceChange], after: &BTreeMap<&str, Service<'_>>) {
    use ServiceChangeKind as Kind;
    loop {
        let renewed: BTreeSet<String> = changes
            .iter()
            .filter(|c| matches!(c.change, Kind::Create | Kind::Recreate | Kind::StartFirst | Kind::Restart))
            .map(|c| c.service.clone())
            .collect();
        let mut moved = false;
        for change in changes.iter_mut() {
            if matches!(change.change, Kind::Create | Kind::Remove) {
                continue;
            }
            let Some(service) = after.get(change.service.as_str()) else { continue };
            for other in service.shares_with().into_iter().filter(|other| renewed.contains(*other)) {
                let why = Why { kind: WhyKind::Dependency, name: other.to_owned() };
                if !change.why.contains(&why) {
                    change.why.push(why);
                    change.why.sort();
                    change.change = ServiceChangeKind::Recreate;
                    moved = true;
                }
            }
        }
        if !moved {
            return;
        }
    }
}

type SideOf<'a> = (Side<'a>, Service<'a>);

fn whys(root: &str, from: SideOf<'_>, to: SideOf<'_>) -> BTreeSet<Why> {
    let mut found = BTreeSet::new();
    let (a, b) = (from.1.value(), to.1.value());
    let keys: BTreeSet<&str> = keys(a).chain(keys(b)).collect();
    for key in keys.into_iter().filter(|key| a[*key] != b[*key]) {
        found.extend(of_key(key, &a[key], &b[key]));
    }
    found.extend(of_networks(from, to));
    found.extend(of_contents("configs", WhyKind::File, root, from, to));
    found.extend(of_contents("secrets", WhyKind::Secret, root, from, to));
    let built = [build_paths(from.1, root), build_paths(to.1, root)].concat_sets();
    found.extend(of_files(WhyKind::Build, &built, from.0.files, to.0.files));
    found
}

/// A change in a file that the containers of a service see as it is on the server.
struct Visible {
    why: Why,
    /// Whether those containers that stand see the file as it is now, or only new ones do.
    reaches: bool,
}

/// The changed files that a service mounts, by itself, in a folder, or as a config or secret; and those that it watches.
fn of_visible_files(root: &str, from: SideOf<'_>, to: SideOf<'_>) -> BTreeMap<String, Visible> {
    let (a, b) = (from.0.files, to.0.files);
    let watched =
        |side: Side<'_>| side.model.watched().filter_map(|path| below(root, path)).map(str::to_owned).collect();
    let watched = [watched(from.0), watched(to.0)].concat_sets();
    let mounted = [mounted_paths(from.1, root), mounted_paths(to.1, root)].concat_sets();
    let all = [mounted.clone(), watched].concat_sets();
    let mut found = BTreeMap::new();
    for why in of_files(WhyKind::File, &all, a, b) {
        // A file that is mounted by itself and comes or goes is another one; the containers keep what they had.
        let stays = a.contains_key(&why.name) && b.contains_key(&why.name);
        let reaches = stays || !mounted.contains(&why.name);
        found.insert(why.name.clone(), Visible { why, reaches });
    }
    for (section, kind) in [("configs", WhyKind::File), ("secrets", WhyKind::Secret)] {
        let (before, after) = (from.0.model.section(section), to.0.model.section(section));
        for key in to.1.uses(section).intersection(&from.1.uses(section)) {
            let Some(path) = after.get(key).and_then(|v| v["file"].as_str()).and_then(|file| below(root, file)) else {
                continue;
            };
            if before.get(key) == after.get(key) && differ(path, a, b) {
                let why = why(kind, if kind == WhyKind::File { path } else { key });
                found.insert(path.to_owned(), Visible { why, reaches: a.contains_key(path) && b.contains_key(path) });
            }
        }
    }
    found
}

/// What a service asks for when only these files changed.
fn taken_up(root: &str, to: Side<'_>, service: &str, files: &BTreeMap<String, Visible>) -> ServiceChangeKind {
    if files.values().any(|file| !file.reaches) {
        return ServiceChangeKind::Recreate;
    }
    let is_for = |on: &[String], file: &str| {
        on.is_empty() || on.iter().filter_map(|path| below(root, path)).any(|path| is_within(file, path))
    };
    match (to.model.reload(service), to.model.on_change()) {
        (Some(reload), _) if files.keys().all(|file| is_for(&reload.on, file)) => ServiceChangeKind::Signal,
        (_, OnChange::Restart) => ServiceChangeKind::Restart,
        (_, OnChange::Recreate) => ServiceChangeKind::Recreate,
    }
}

trait ConcatSets {
    fn concat_sets(self) -> BTreeSet<String>;
}

impl<const N: usize> ConcatSets for [BTreeSet<String>; N] {
    fn concat_sets(self) -> BTreeSet<String> {
        self.into_iter().flatten().collect()
    }
}

fn keys(value: &Value) -> impl Iterator<Item = &str> {
    value.as_object().into_iter().flatten().map(|(key, _)| key.as_str())
}

fn why(kind: WhyKind, name: impl Into<String>) -> Why {
    Why { kind, name: name.into() }
}

/// What a difference in one key of the service means.
fn of_key(key: &str, a: &Value, b: &Value) -> Vec<Why> {
    match key {
        _ if WITHOUT_EFFECT.contains(&key) || key.starts_with("x-") => Vec::new(),
        "image" => vec![why(WhyKind::Image, key)],
        "environment" => of_entries(WhyKind::Env, a, b),
        "labels" | "annotations" => of_entries(WhyKind::Label, a, b),
        "command" | "entrypoint" => vec![why(WhyKind::Command, key)],
        "ports" => of_items(WhyKind::Port, a, b, port),
        "expose" => vec![why(WhyKind::Port, key)],
        "networks" => of_entries(WhyKind::Network, a, b),
        "network_mode" => vec![why(WhyKind::Network, key)],
        "volumes" => of_items(WhyKind::Volume, a, b, |v| v["target"].as_str().map(str::to_owned)),
        "volumes_from" | "tmpfs" => vec![why(WhyKind::Volume, key)],
        "healthcheck" => vec![why(WhyKind::Healthcheck, key)],
        "build" => vec![why(WhyKind::Build, key)],
        "configs" => of_items(WhyKind::File, a, b, source),
        "secrets" => of_items(WhyKind::Secret, a, b, source),
        "depends_on" => of_entries(WhyKind::Dependency, a, b),
        key => vec![why(WhyKind::Other, key)],
    }
}

/// The keys that differ between two mappings.
fn of_entries(kind: WhyKind, a: &Value, b: &Value) -> Vec<Why> {
    let names: BTreeSet<&str> = keys(a).chain(keys(b)).collect();
    // Absent and null are two things: a variable without a value is taken from elsewhere.
    names.into_iter().filter(|name| a.get(name) != b.get(name)).map(|name| why(kind, name)).collect()
}

/// The items that only one of two lists has, under a name that says which.
fn of_items(kind: WhyKind, a: &Value, b: &Value, name: impl Fn(&Value) -> Option<String>) -> Vec<Why> {
    let (a, b): (Vec<&Value>, Vec<&Value>) = (items(a).collect(), items(b).collect());
    let only = |these: &[&Value], those: &[&Value]| -> Vec<Why> {
        let missing = these.iter().filter(|item| !those.contains(item));
        missing.map(|item| why(kind, name(item).unwrap_or_else(|| "order".to_owned()))).collect()
    };
    let mut found = only(&a, &b);
    found.extend(only(&b, &a));
    if found.is_empty() {
        found.push(why(kind, "order"));
    }
    found
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn source(value: &Value) -> Option<String> {
    value["source"].as_str().or_else(|| value.as_str()).map(str::to_owned)
}

fn port(value: &Value) -> Option<String> {
    let target = match &value["target"] {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let protocol = value["protocol"].as_str().unwrap_or("tcp");
    Some(match value["published"].as_str() {
        Some(published) => format!("{published}:{target}/{protocol}"),
        None => format!("{target}/{protocol}"),
    })
}

/// Networks that the service is on and whose definition changed.
fn of_networks(from: SideOf<'_>, to: SideOf<'_>) -> Vec<Why> {
    let (a, b) = (from.0.model.section("networks"), to.0.model.section("networks"));
    let used = keys(&to.1.value()["networks"]).filter(|name| keys(&from.1.value()["networks"]).any(|n| n == *name));
    used.filter(|name| a.get(name) != b.get(name)).map(|name| why(WhyKind::Network, name)).collect()
}

/// Configs or secrets that the service uses, before and after, and whose definition or value changed: Compose itself does not
/// see it.
fn of_contents(section: &str, kind: WhyKind, root: &str, from: SideOf<'_>, to: SideOf<'_>) -> Vec<Why> {
    let (a, b) = (from.0.model.section(section), to.0.model.section(section));
    let before = from.1.uses(section);
    let both = to.1.uses(section).into_iter().filter(|key| before.contains(key));
    both.filter_map(|key| {
        let (a, b) = (a.get(key).copied(), b.get(key).copied());
        let variable = b.and_then(|b| b["environment"].as_str());
        let changed =
            a != b || variable.is_some_and(|name| from.0.secret_env.0.get(name) != to.0.secret_env.0.get(name));
        changed.then(|| why(kind, b.and_then(|b| shown_file(root, kind, b)).unwrap_or(key)))
    })
    .collect()
}

/// The path of a config's file, which is a file like any other; of a secret only the key is shown.
fn shown_file<'a>(root: &str, kind: WhyKind, definition: &'a Value) -> Option<&'a str> {
    below(root, definition["file"].as_str()?).filter(|_| kind == WhyKind::File)
}

fn differ(path: &str, a: &Files, b: &Files) -> bool {
    a.get(path) != b.get(path)
}

/// Files at or below these paths that only one side has, or that differ.
fn of_files(kind: WhyKind, paths: &BTreeSet<String>, a: &Files, b: &Files) -> Vec<Why> {
    let files: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let within = files.into_iter().filter(|file| paths.iter().any(|path| is_within(file, path)));
    within.filter(|file| differ(file, a, b)).map(|file| why(kind, file.as_str())).collect()
}

/// What a person should know of the step from one state to another, beyond the services.
pub fn notes(from: Side<'_>, to: Side<'_>) -> Vec<Problem> {
    let (before, after) = (from.model.section("volumes"), to.model.section("volumes"));
    let both = after.iter().filter_map(|(key, value)| Some((key, *before.get(key)?, *value)));
    both.filter(|(_, a, b)| a["name"] == b["name"] && a != b)
        .map(|(key, ..)| {
            let message =
                format!("the options of the volume {key:?} changed, which Compose ignores for a volume that exists");
            let help = "to apply them, copy the data, remove the volume by hand and deploy again";
            Problem::warning("volume.options", message, help)
        })
        .collect()
}
