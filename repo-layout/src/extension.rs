//! `x-evenkeel`: what a stack says of itself in its Compose file.

use crate::{
    drift, duration,
    gate::GateSpec,
    section::{Section, Source, Written},
    window::{Window, WindowError},
    yaml::{Node, Step},
};

/// Keys of the top-level `x-evenkeel`. The schema `x-evenkeel.schema.json` names the same.
pub(crate) const KEYS: &[&str] = &["depends_on", "drift", "gate", "hooks", "window"];
/// Keys of `x-evenkeel.gate`.
pub(crate) const GATE_KEYS: &[&str] = &["healthy_deadline", "min_healthy_time"];
/// Keys of `x-evenkeel.hooks`.
pub(crate) const HOOK_KEYS: &[&str] = &["health_check"];
/// Keys of a service's `x-evenkeel`. Their values are read from the rendered model, where the layers are one.
pub(crate) const SERVICE_KEYS: &[&str] = &["probes"];
/// Keys of `defaults` in `evenkeel.yml`: what makes sense for every stack.
pub(crate) const DEFAULT_KEYS: &[&str] = &["drift", "gate", "window"];
/// Where the block stands.
pub(crate) const NAME: &str = "x-evenkeel";

/// What one file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Extension {
    /// Stacks that must be committed first.
    pub depends_on: Vec<Written>,
    /// Times of the gate.
    pub gate: GateSpec,
    /// When deployments may begin.
    pub window: Option<Window>,
    /// What is done about drift.
    pub drift: Option<drift::Mode>,
    /// The script that the gate runs, a path beside the file.
    pub health_check: Option<Written>,
}

/// Reads the block of a whole file, and refuses what its services say that has no effect.
pub(crate) fn read(source: &Source<'_>, document: &Node) -> Extension {
    let mut extension = Extension::default();
    if let Some(node) = document.get(NAME) {
        extension = read_block(&Section::new(source, vec![Step::Key(NAME)], node).only(KEYS));
    }
    for (service, body) in document.get("services").map(Node::entries).unwrap_or_default() {
        if let Some(node) = body.get(NAME) {
            let steps = vec![Step::Key("services"), Step::Key(service), Step::Key(NAME)];
            Section::new(source, steps, node).only(SERVICE_KEYS);
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

/// Reads the keys of a block that were checked already.
pub(crate) fn read_block(block: &Section<'_, '_>) -> Extension {
    let mut extension = Extension { depends_on: block.texts("depends_on").unwrap_or_default(), ..Extension::default() };
    if let Some(gate) = block.section("gate") {
        let gate = gate.only(GATE_KEYS);
        extension.gate.min_healthy_time = time(&gate, "min_healthy_time");
        extension.gate.healthy_deadline = time(&gate, "healthy_deadline");
    }
    extension.window = window(block);
    extension.drift = drift_mode(block);
    let hooks = block.section("hooks").map(|hooks| hooks.only(HOOK_KEYS));
    extension.health_check = hooks.and_then(|hooks| hooks.written("health_check"));
    extension
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
