//! `x-evenkeel`: what a stack says of itself in its Compose file.

use std::collections::BTreeMap;

use crate::{
    drift, duration,
    gate::GateSpec,
    name::{GroupName, NameError},
    problem::Problem,
    reload::{ON_CHANGE, OnChange, ReloadSaid, SIGNALS},
    section::{Section, Source, Written},
    window::{Window, WindowError},
    yaml::{Node, Step},
};

/// Keys of the top-level `x-evenkeel`. The schema `x-evenkeel.schema.json` names the same.
pub(crate) const KEYS: &[&str] = &["depends_on", "drift", "gate", "group", "hooks", "on_change", "window"];
/// Keys of `x-evenkeel.gate`.
pub(crate) const GATE_KEYS: &[&str] = &["healthy_deadline", "min_healthy_time"];
/// Keys of `x-evenkeel.hooks`.
pub(crate) const HOOK_KEYS: &[&str] = &["health_check"];
/// Keys of a service's `x-evenkeel`. All but `reload` are read from the rendered model, where the layers are one.
pub(crate) const SERVICE_KEYS: &[&str] = &["overlap", "probes", "quiesce", "reload", "update"];
/// Keys of a service's `x-evenkeel.reload`.
pub(crate) const RELOAD_KEYS: &[&str] = &["on", "signal"];
/// Keys of `defaults` in `evenkeel.yml`: what makes sense for every stack.
pub(crate) const DEFAULT_KEYS: &[&str] = &["drift", "gate", "on_change", "window"];
/// Where the block stands.
pub(crate) const NAME: &str = "x-evenkeel";
/// Top-level keys that begin so are Evenkeel's own: it writes them into the rendered model.
const RESERVED: &str = "x-evenkeel-";

/// What one file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Extension {
    /// Stacks that must be committed first.
    pub depends_on: Vec<Written>,
    /// The stacks that it moves with.
    pub group: Option<GroupName>,
    /// Times of the gate.
    pub gate: GateSpec,
    /// What a change in a mounted file does.
    pub on_change: Option<OnChange>,
    /// Services that get a signal instead.
    pub reloads: BTreeMap<String, ReloadSaid>,
    /// When deployments may begin.
    pub window: Option<Window>,
    /// What is done about drift.
    pub drift: Option<drift::Mode>,
    /// The script that the gate runs, a path beside the file.
    pub health_check: Option<Written>,
}

impl Extension {
    /// Takes over what a later document, or a higher layer, says.
    pub fn overlay(&mut self, higher: Self) {
        self.depends_on.extend(higher.depends_on);
        self.group = higher.group.or(self.group.take());
        self.gate.overlay(higher.gate);
        self.on_change = higher.on_change.or(self.on_change);
        self.reloads.extend(higher.reloads);
        self.window = higher.window.or(self.window.take());
        self.drift = higher.drift.or(self.drift);
        self.health_check = higher.health_check.or(self.health_check.take());
    }
}

/// What is wrong with a top-level key of a Compose file that would be taken for our own.
pub fn reserved(key: &str) -> Option<Problem> {
    let shown: String = key.chars().take(80).collect();
    let message = format!("`{shown}`: top-level keys that begin with `{RESERVED}` are Evenkeel's own");
    let help = "write what the stack says of itself under `x-evenkeel:`, or give the key another name";
    key.starts_with(RESERVED).then(|| Problem::error("x-evenkeel.reserved", message, help))
}

/// Reads the block of a whole file, and those of its services.
pub(crate) fn read(source: &Source<'_>, document: &Node) -> Extension {
    let mut extension = Extension::default();
    for (key, _) in document.entries() {
        if let Some(problem) = reserved(key) {
            source.add(&[Step::Key(key)], problem);
        }
    }
    if let Some(node) = document.get(NAME) {
        extension = read_block(&Section::new(source, vec![Step::Key(NAME)], node).only(KEYS));
    }
    for (service, body) in document.get("services").map(Node::entries).unwrap_or_default() {
        if let Some(node) = body.get(NAME) {
            let steps = vec![Step::Key("services"), Step::Key(service), Step::Key(NAME)];
            let block = Section::new(source, steps, node).only(SERVICE_KEYS);
            let said = block.section("reload").and_then(|reload| read_reload(&reload.only(RELOAD_KEYS)));
            extension.reloads.extend(said.map(|said| (service.clone(), said)));
        }
    }
    extension
}

/// One span, or a list of spans. What cannot be read is a problem, so that nothing begins at a wrong hour.
fn window(block: &Section<'_, '_>) -> Option<Window> {
    let written = block.one_or_more("window")?;
    let mut spans = Vec::new();
    for (steps, text) in &written {
        match text.parse() {
            Ok(span) => spans.push(span),
            Err(error) => {
                let error: WindowError = error;
                block.refuse(steps, &error.to_string(), "correct the window, or remove it");
            }
        }
    }
    if written.is_empty() {
        block.refuse(&[Step::Key("window")], "it has no span", "write one, or remove the key");
    }
    Window::new(spans)
}

fn read_reload(block: &Section<'_, '_>) -> Option<ReloadSaid> {
    let on = block.one_or_more("on").unwrap_or_default();
    let on = on.into_iter().map(|(steps, text)| Written { text, line: block.line(&steps) }).collect();
    let Some(signal) = block.text("signal") else {
        block.refuse(&[], "it names no signal", "write `signal: SIGHUP`, or the one that the program takes");
        return None;
    };
    let upper = signal.to_ascii_uppercase();
    let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    if SIGNALS.contains(&full.as_str()) {
        return Some(ReloadSaid { signal: full, on });
    }
    let shown: String = signal.chars().take(40).collect();
    let help = format!("one of {}; to end and start the service again say `on_change: restart`", SIGNALS.join(", "));
    block.refuse(&[Step::Key("signal")], &format!("{shown:?} is no signal to read files again"), &help);
    None
}

/// Reads the keys of a block that were checked already.
pub(crate) fn read_block(block: &Section<'_, '_>) -> Extension {
    let mut extension = Extension { depends_on: block.texts("depends_on").unwrap_or_default(), ..Extension::default() };
    extension.group = group(block);
    if let Some(gate) = block.section("gate") {
        let gate = gate.only(GATE_KEYS);
        extension.gate.min_healthy_time = time(&gate, "min_healthy_time");
        extension.gate.healthy_deadline = time(&gate, "healthy_deadline");
    }
    extension.on_change = block.one_of("on_change", ON_CHANGE);
    extension.window = window(block);
    extension.drift = drift_mode(block);
    let hooks = block.section("hooks").map(|hooks| hooks.only(HOOK_KEYS));
    extension.health_check = hooks.and_then(|hooks| hooks.written("health_check"));
    extension
}

/// The group that a block names.
pub(crate) fn group(block: &Section<'_, '_>) -> Option<GroupName> {
    let refuse = |error: NameError| block.refuse(&[Step::Key("group")], &error.to_string(), "rename the group");
    GroupName::new(block.text("group")?).map_err(refuse).ok()
}

fn drift_mode(block: &Section<'_, '_>) -> Option<drift::Mode> {
    let text = block.text("drift")?;
    let found = drift::MODES.iter().find(|(word, _)| *word == text);
    if found.is_none() {
        let why = format!("{text:?} is none of heal, report and off");
        block.refuse(&[Step::Key("drift")], &why, "write one of them, or remove the key");
    }
    found.map(|(_, mode)| *mode)
}

fn time(gate: &Section<'_, '_>, key: &str) -> Option<std::time::Duration> {
    duration::parse(gate.text(key)?)
        .map_err(|error| gate.refuse(&[Step::Key(key)], &error.to_string(), "correct the duration"))
        .ok()
}
