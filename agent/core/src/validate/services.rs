//! What a repository's policy says of each service by itself.

use std::collections::BTreeSet;

use evenkeel_layout::{
    problem::Problem,
    yaml::{Node, Step},
};

use super::{
    facts::{Port, StackFacts, ports},
    images::Image,
    secrets,
    source::{text_of, variables},
};
use crate::{model::Service, update};

/// TCP ports whose whole purpose is to be reached from outside: the front door, mail, names, remote access, peers.
const PUBLIC_PORTS: &[u16] = &[
    22, 25, 53, 80, 110, 143, 443, 465, 587, 853, 989, 990, 993, 995, 1194, 3478, 4190, 5222, 5269, 5349, 6881, 8448,
    22000,
];

/// Where the engine's socket lies, and the folders that hold it.
const SOCKETS: &[&str] = &[
    "/var/run/docker.sock",
    "/run/docker.sock",
    "/var/run/podman/podman.sock",
    "/run/podman/podman.sock",
    "/var/run",
    "/run",
];

/// All findings of one stack's services.
pub fn findings(facts: &StackFacts<'_>) -> Vec<Problem> {
    let awaited = awaited(facts);
    let mut found = Vec::new();
    for (name, service, image) in facts.services() {
        let one = One { facts, name, service, image };
        one.image(&mut found);
        one.ports(&mut found);
        one.rights(&mut found);
        if !is_job(service, awaited.contains(name)) {
            one.upkeep(&mut found);
        }
        one.update(&mut found);
        one.environment(&mut found);
        one.command(&mut found);
    }
    env_files(facts, &mut found);
    found
}

/// The services that others wait for to end.
fn awaited<'a>(facts: &StackFacts<'a>) -> BTreeSet<&'a str> {
    let all = facts.model.services().into_values().flat_map(|service| service.depends_on());
    all.filter(|(_, condition)| *condition == "service_completed_successfully").map(|(name, _)| name).collect()
}

/// Whether a service is meant to end: it says so, or another waits for it.
fn is_job(service: Service<'_>, is_awaited: bool) -> bool {
    let deploy = &service.value()["deploy"];
    is_awaited
        || service.value()["restart"].as_str() == Some("no")
        || deploy["restart_policy"]["condition"].as_str() == Some("none")
        || deploy["mode"].as_str().is_some_and(|mode| mode.ends_with("-job"))
}

struct One<'a> {
    facts: &'a StackFacts<'a>,
    name: &'a str,
    service: Service<'a>,
    image: Option<Image<'a>>,
}

impl One<'_> {
    fn say(&self, code: &str, key: &str, message: String) -> Problem {
        self.facts.of_service(code, self.name, key, message)
    }

    fn image(&self, found: &mut Vec<Problem>) {
        let Some(image) = self.image else { return };
        let name = self.name;
        if image.is_updater() && !self.only_watches() {
            let message = format!("{name} is {}, which updates containers by itself", image.path);
            found.push(self.say("image.updater", "image", message));
        }
        // What is built here is tagged here, and a variable decides on the server.
        if self.service.build().is_some() || image.is_pinned || self.facts.sources.is_undecided(name, "image") {
            return;
        }
        let what = match image.tag {
            None => "without a tag, which means `latest`",
            Some("latest") => "with the tag `latest`",
            Some(_) => return,
        };
        found.push(self.say("image.latest", "image", format!("{name} runs {} {what}", image.path)));
    }

    /// Whether an updater was told only to report.
    fn only_watches(&self) -> bool {
        let env = &self.service.value()["environment"];
        let is_set =
            |name: &str| env[name].as_str().is_some_and(|value| value.eq_ignore_ascii_case("true") || value == "1");
        let says = |key: &str| self.service.value()[key].to_string().contains("--monitor-only");
        is_set("WATCHTOWER_MONITOR_ONLY") || says("command") || says("entrypoint")
    }

    fn ports(&self, found: &mut Vec<Problem>) {
        let name = self.name;
        let open: Vec<Port> =
            ports(self.facts, name, self.service).into_iter().filter(|port| !port.is_local()).collect();
        let is_database = self.image.is_some_and(|image| image.is_database());
        for port in open {
            let at = self.facts.sources.of_item(name, "ports", |item| port.is_written(item));
            if is_database {
                let image = self.image.map_or("", |image| image.path);
                let message = format!("{name} ({image}) publishes port {}", port.shown());
                found.push(self.facts.finding("port.database", message, at));
            } else if port.address.is_none() && port.protocol == "tcp" && !is_public(&port) {
                let message = format!("{name} publishes port {} on every interface", port.shown());
                found.push(self.facts.finding("port.all-interfaces", message, at));
            }
        }
    }

    fn rights(&self, found: &mut Vec<Problem>) {
        let (name, value) = (self.name, self.service.value());
        if value["privileged"].as_bool() == Some(true) {
            found.push(self.say("service.privileged", "privileged", format!("{name} is privileged")));
        }
        if value["network_mode"].as_str() == Some("host") {
            found.push(self.say("service.host-network", "network_mode", format!("{name} is on the host's network")));
        }
        if self.image.is_some_and(|image| image.is_socket_proxy()) {
            return;
        }
        let sources = self.service.binds().into_iter().map(|(source, _)| source.trim_end_matches('/'));
        let found_at: Vec<&str> =
            sources.filter(|source| SOCKETS.contains(source) && self.is_written(source)).collect();
        let socket = found_at.iter().find(|source| source.rsplit_once('.').is_some_and(|(_, end)| end == "sock"));
        if let Some(source) = socket.or(found_at.first()) {
            let at = self.facts.sources.of_item(name, "volumes", |item| item.contains(source));
            let message = if socket.is_some() {
                format!("{name} mounts the engine's socket")
            } else {
                format!("{name} mounts {source}, where the engine's socket lies")
            };
            found.push(self.facts.finding("service.docker-socket", message, at));
        }
    }

    /// Whether a mount's source is what it is wherever the stack runs: `${DIR}/run` without a value is not `/run`.
    fn is_written(&self, source: &str) -> bool {
        let nodes = self.facts.sources.written(self.name, "volumes");
        let items: Vec<String> = nodes.into_iter().flat_map(Node::items).map(text_of).collect();
        let open = |item: &&String| self.facts.sources.has_unset(item);
        items.iter().filter(|item| !open(item)).any(|item| item.contains(source))
            || !items.iter().any(|item| open(&item))
    }

    /// What asks to be started first and cannot be.
    fn update(&self, found: &mut Vec<Problem>) {
        let name = self.name;
        if !update::wants_start_first(self.service) {
            return;
        }
        if let Some(update::Obstacle { key, why }) = update::obstacle(self.facts.model, name) {
            found.push(self.say("update.recreate", key, format!("{name} cannot be started first: it {why}")));
        }
    }

    /// What a service that is meant to go on running should have.
    fn upkeep(&self, found: &mut Vec<Problem>) {
        let (name, value) = (self.name, self.service.value());
        let brings = self.image.is_some_and(|image| image.brings_healthcheck());
        // One that is switched off was judged by somebody.
        if value["healthcheck"].is_null() && !brings {
            found.push(self.say("service.no-healthcheck", "healthcheck", format!("{name} has no healthcheck")));
        }
        if value["restart"].is_null() && value["deploy"]["restart_policy"].is_null() {
            found.push(self.say("service.no-restart", "restart", format!("{name} has no restart policy")));
        }
        if value["mem_limit"].is_null() && value["deploy"]["resources"]["limits"]["memory"].is_null() {
            found.push(self.say("service.no-memory-limit", "mem_limit", format!("{name} has no memory limit")));
        }
    }

    fn environment(&self, found: &mut Vec<Problem>) {
        let name = self.name;
        let values = self.service.value()["environment"].as_object().into_iter().flatten();
        for (variable, _) in values.filter(|(_, value)| value.is_null()) {
            let at = self.facts.sources.of_item(name, "environment", |item| item == variable);
            let message = format!("{name} is handed {variable} without a value");
            found.push(self.facts.finding("env.no-value", message, at));
        }
        let mut secret = BTreeSet::new();
        for node in self.facts.sources.written(name, "environment") {
            pairs(node, &mut |variable, value| {
                if secrets::is_plain_secret(variable, value) {
                    secret.insert(variable.to_owned());
                }
            });
        }
        // Only what counts in the end: a higher layer may have put a variable in its place.
        let model = &self.service.value()["environment"];
        for variable in secret.iter().filter(|v| secrets::is_plain_secret(v, model[v.as_str()].as_str().unwrap_or("")))
        {
            let is_it = |item: &str| item == variable || item.split('=').next() == Some(variable.as_str());
            let at = self.facts.sources.of_item(name, "environment", is_it);
            let message = format!("{name} has the value of {variable} written in its Compose file");
            found.push(self.facts.finding("secret.plain", message, at));
        }
    }

    fn command(&self, found: &mut Vec<Problem>) {
        for key in ["command", "entrypoint"] {
            let written = self.facts.sources.written(self.name, key);
            let Some(words) = written.first().map(|node| match node {
                Node::List(items) => items.iter().map(text_of).collect::<Vec<_>>(),
                node => text_of(node).split_whitespace().map(str::to_owned).collect(),
            }) else {
                continue;
            };
            let is_plain = |n: usize| secrets::is_plain_argument(&words[n], words.get(n + 1).map(String::as_str));
            if (0..words.len()).any(is_plain) {
                let message = format!("{} has a password written in its {key}", self.name);
                found.push(self.say("secret.plain", key, message));
            }
        }
    }
}

fn is_public(port: &Port) -> bool {
    port.published.0 == port.published.1 && PUBLIC_PORTS.contains(&port.published.0)
}

/// The variables of `environment:` in both forms, merge keys too.
fn pairs(node: &Node, each: &mut impl FnMut(&str, &str)) {
    for item in node.items() {
        match item.as_str() {
            Some(text) => {
                let (name, value) = text.split_once('=').unwrap_or((text, ""));
                each(name, value);
            }
            None => pairs(item, each),
        }
    }
    for (name, value) in node.entries() {
        if name == "<<" { pairs(value, each) } else { each(name, &text_of(value)) }
    }
}

/// Secrets in tracked environment files, and in files that are secrets.
fn env_files(facts: &StackFacts<'_>, found: &mut Vec<Problem>) {
    for file in &facts.sources.env {
        for variable in variables(&file.text).filter(|v| secrets::is_plain_secret(v.name, v.value)) {
            let message = format!("the value of {} is in the repository", variable.name);
            found.push(facts.finding("secret.plain", message, Some((file.path.clone(), Some(variable.line)))));
        }
    }
    for (name, secret) in facts.model.section("secrets") {
        let file = secret["file"].as_str().unwrap_or_default();
        let tracked = facts.files.iter().find(|path| file.ends_with(&format!("/{path}")));
        if let Some(path) = tracked {
            let at = facts.sources.place(&[Step::Key("secrets"), Step::Key(name), Step::Key("file")]);
            let message = format!("the secret {name} is the file {path}, which is in the repository");
            found.push(facts.finding("secret.plain", message, at));
        }
        if secret["content"].as_str().is_some_and(|content| !content.is_empty()) && is_literal(facts, name) {
            let at = facts.sources.place(&[Step::Key("secrets"), Step::Key(name), Step::Key("content")]);
            found.push(facts.finding("secret.plain", format!("the secret {name} is written in the Compose file"), at));
        }
    }
}

fn is_literal(facts: &StackFacts<'_>, secret: &str) -> bool {
    let steps = [Step::Key("secrets"), Step::Key(secret), Step::Key("content")];
    facts.sources.top_level(&steps).is_some_and(|text| !text.contains('$'))
}
