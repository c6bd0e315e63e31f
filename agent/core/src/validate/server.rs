//! What a repository's policy says of the stacks of one server together.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_layout::{name::StackName, nearest, problem::Problem, yaml::Step};

use super::facts::{Port, StackFacts, ports};

/// Networks that every engine has.
const BUILT_IN: &[&str] = &["bridge", "host", "none"];
/// Words in the name of a network that is there for a reverse proxy.
const PROXY_WORDS: &[&str] = &["proxy", "traefik", "caddy", "ingress", "swag"];

/// All findings between the stacks of one server. `complete` says that these are all of them: else what is missing may be in one
/// that could not be rendered.
pub fn findings(stacks: &[StackFacts<'_>], complete: bool) -> Vec<Problem> {
    let mut found = shared_ports(stacks);
    found.extend(shared_names(stacks));
    found.extend(shared_paths(stacks));
    let networks = Networks::of(stacks);
    for facts in stacks {
        found.extend(networks.databases(facts));
        found.extend(networks.external(facts, stacks, complete));
    }
    found
}

fn shared_ports(stacks: &[StackFacts<'_>]) -> Vec<Problem> {
    let mut all: Vec<(&StackFacts<'_>, &str, Port)> = Vec::new();
    let mut found = Vec::new();
    for facts in stacks {
        for (name, service, _) in facts.services() {
            for port in ports(facts, name, service) {
                let other = all
                    .iter()
                    .find(|(of, service, p)| p.collides(&port) && (of.stack, *service) != (facts.stack, name));
                if let Some((of, service, _)) = other {
                    let message =
                        format!("{name} publishes port {}, and so does {}", port.shown(), named(facts, of, service));
                    let at = facts.sources.of_item(name, "ports", |item| port.is_written(item));
                    found.push(facts.finding("port.conflict", message, at));
                } else {
                    all.push((facts, name, port));
                }
            }
        }
    }
    found
}

fn shared_names(stacks: &[StackFacts<'_>]) -> Vec<Problem> {
    let mut owners: BTreeMap<&str, (&StackFacts<'_>, &str)> = BTreeMap::new();
    let mut found = Vec::new();
    for facts in stacks {
        for (name, service, _) in facts.services() {
            let given = service.value()["container_name"].as_str().filter(|given| !given.is_empty());
            let Some(given) = given.filter(|_| !facts.sources.is_undecided(name, "container_name")) else { continue };
            if let Some((of, other)) = owners.get(given) {
                let message =
                    format!("{name} has the container name {given:?}, and so has {}", named(facts, of, other));
                found.push(facts.of_service("service.container-name", name, "container_name", message));
            } else {
                owners.insert(given, (facts, name));
            }
        }
    }
    found
}

/// A service as one says it from another stack, or from the same.
fn named(from: &StackFacts<'_>, of: &StackFacts<'_>, service: &str) -> String {
    if from.stack == of.stack { service.to_owned() } else { format!("{service} of the stack {}", of.stack) }
}

fn shared_paths(stacks: &[StackFacts<'_>]) -> Vec<Problem> {
    let mut owners: BTreeMap<&str, &StackName> = BTreeMap::new();
    let mut shared: BTreeMap<(&StackName, usize), Vec<&str>> = BTreeMap::new();
    for (index, facts) in stacks.iter().enumerate() {
        for path in &facts.files {
            if let Some(owner) = owners.get(path) {
                shared.entry((owner, index)).or_default().push(path);
            } else {
                owners.insert(path, facts.stack);
            }
        }
    }
    let tell = |((owner, index), paths): ((&StackName, usize), Vec<&str>)| {
        let first = paths.first().copied().unwrap_or_default();
        let more = if paths.len() > 1 { format!(" and {} more", paths.len() - 1) } else { String::new() };
        let facts = &stacks[index];
        let message = format!("{first}{more} is used by the stacks {owner} and {}", facts.stack);
        facts.finding("path.shared", message, facts.sources.place(&[Step::Key("services")]))
    };
    shared.into_iter().map(tell).collect()
}

/// The networks of a server by the engine's name for them.
struct Networks<'a> {
    created: BTreeMap<&'a str, &'a StackName>,
    proxied: BTreeSet<&'a str>,
}

/// A network of a stack: its key, the engine's name, and whether the stack expects it to be there.
fn networks<'a>(facts: &StackFacts<'a>) -> impl Iterator<Item = (&'a str, &'a str, bool)> {
    facts
        .model
        .section("networks")
        .into_iter()
        .map(|(key, value)| (key, value["name"].as_str().unwrap_or(key), value["external"].as_bool() == Some(true)))
}

/// The networks that a service is on, by key.
fn joined(service: &serde_json::Value) -> impl Iterator<Item = &str> {
    service["networks"].as_object().into_iter().flatten().map(|(key, _)| key.as_str())
}

impl<'a> Networks<'a> {
    fn of(stacks: &[StackFacts<'a>]) -> Self {
        let mut all = Self { created: BTreeMap::new(), proxied: BTreeSet::new() };
        for facts in stacks {
            let proxies = facts.services().filter(|(_, _, image)| image.is_some_and(|image| image.is_proxy()));
            let keys: BTreeSet<&str> = proxies.flat_map(|(_, service, _)| joined(service.value())).collect();
            for (key, name, external) in networks(facts) {
                if !external {
                    all.created.insert(name, facts.stack);
                }
                let words = external && PROXY_WORDS.iter().any(|word| name.to_ascii_lowercase().contains(word));
                // Whoever shares a stack with a proxy is on its default network without having asked for it.
                if words || (keys.contains(key) && (external || key != "default")) {
                    all.proxied.insert(name);
                }
            }
        }
        all
    }

    fn databases(&self, facts: &StackFacts<'_>) -> Vec<Problem> {
        let names: BTreeMap<&str, &str> = networks(facts).map(|(key, name, _)| (key, name)).collect();
        let mut found = Vec::new();
        for (service, value, image) in facts.services() {
            let Some(image) = image.filter(super::images::Image::is_database) else { continue };
            for key in joined(value.value()).filter(|key| names.get(key).is_some_and(|n| self.proxied.contains(n))) {
                let name = names.get(key).copied().unwrap_or(key);
                let message = format!("{service} ({}) is on {name}, the network of the reverse proxy", image.path);
                let at = facts.sources.of_item(service, "networks", |item| item == key);
                found.push(facts.finding("network.database", message, at));
            }
        }
        found
    }

    fn external(&self, facts: &StackFacts<'_>, stacks: &[StackFacts<'_>], complete: bool) -> Vec<Problem> {
        let mut found = Vec::new();
        for (key, name, _) in networks(facts).filter(|(_, _, external)| *external) {
            let steps = [Step::Key("networks"), Step::Key(key)];
            let is_open = facts.sources.top_level(&steps).is_some_and(|text| facts.sources.has_unset(&text));
            if BUILT_IN.contains(&name) || is_open || name.is_empty() {
                continue;
            }
            let at = || facts.sources.place(&steps);
            match self.created.get(name) {
                Some(owner) if *owner != facts.stack && !waits_for(stacks, facts.stack, owner) => {
                    let message = format!(
                        "the network {name} is created by the stack {owner}, which {} does not wait for",
                        facts.stack
                    );
                    let mut problem = facts.finding("network.order", message, at());
                    problem.help = format!("add `x-evenkeel: {{depends_on: [{owner}]}}`");
                    found.push(problem);
                }
                None if complete => {
                    let message = format!("no stack of the server creates the network {name}");
                    let mut problem = facts.finding("network.missing", message, at());
                    if let Some(near) = nearest(self.created.keys().copied(), name) {
                        problem.help =
                            format!("did you mean {near}, of the stack {}? Else {}", self.created[near], problem.help);
                    }
                    found.push(problem);
                }
                Some(_) | None => {}
            }
        }
        found
    }
}

/// Whether a stack is deployed after another, directly or by way of others.
fn waits_for(stacks: &[StackFacts<'_>], stack: &StackName, other: &StackName) -> bool {
    let mut open = vec![stack];
    let mut seen = BTreeSet::new();
    while let Some(name) = open.pop() {
        if name == other {
            return true;
        }
        if seen.insert(name) {
            open.extend(stacks.iter().filter(|s| s.stack == name).flat_map(|s| s.depends_on));
        }
    }
    false
}
