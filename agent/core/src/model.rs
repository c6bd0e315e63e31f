//! A rendered Compose model: what `docker compose config --format json` prints, read without changing it.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_layout::reload::{OnChange, Reload};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The whole model of one stack. It may hold secrets (resolved variables), so it has no `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Model(Value);

/// Where a model has the files that it watches; Compose leaves a top-level key that begins so alone.
const WATCHED: &str = "x-evenkeel-watched";
/// Where a service says something of itself.
const SAID: &str = "x-evenkeel";
/// Where a model has the script that checks its health.
const HEALTH_CHECK: &str = "x-evenkeel-health-check";
/// The same for services that get a signal when their files change, and for what happens to the others.
const RELOAD: &str = "x-evenkeel-reload";
const ON_CHANGE: &str = "x-evenkeel-on-change";

/// A text is not a Compose model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a Compose model: {0}")]
pub struct ModelError(String);

impl Model {
    /// Reads a model from JSON text. The error names the place, never the content.
    pub fn parse(json: &str) -> Result<Self, ModelError> {
        let value: Value =
            serde_json::from_str(json).map_err(|e| ModelError(format!("line {}, column {}", e.line(), e.column())))?;
        if value.is_object() { Ok(Self(value)) } else { Err(ModelError("the document is not a mapping".to_owned())) }
    }

    /// A model without anything in it.
    pub fn empty() -> Self {
        Self(Value::Object(serde_json::Map::new()))
    }

    /// The model as JSON.
    pub fn value(&self) -> &Value {
        &self.0
    }

    /// The model with every text that holds the path `from` moved under `to`; for models that were rendered in a staging place.
    #[must_use]
    pub fn rebased(&self, from: &str, to: &str) -> Self {
        let mut value = self.0.clone();
        rebase(&mut value, from.trim_end_matches('/'), to.trim_end_matches('/'));
        Self(value)
    }

    /// The model with every occurrence of a text replaced, wherever it stands in a value.
    #[must_use]
    pub fn replaced(&self, text: &str, with: &str) -> Self {
        let mut value = self.0.clone();
        for_each_text(&mut value, &mut |found| {
            if found.contains(text) {
                *found = found.replace(text, with);
            }
        });
        Self(value)
    }

    /// The model with a config or secret whose content is a variable's instead of a file's.
    #[must_use]
    pub fn handed(&self, section: &str, key: &str, variable: &str) -> Self {
        let mut value = self.0.clone();
        if let Some(Value::Object(map)) = value.get_mut(section).and_then(|section| section.get_mut(key)) {
            map.remove("file");
            map.insert("environment".to_owned(), variable.into());
        }
        Self(value)
    }

    /// The model with a network of the project's own, of this name, in place of what a key stood for.
    #[must_use]
    pub fn with_network(&self, key: &str, name: &str) -> Self {
        let mut value = self.0.clone();
        if let Some(network) = value.get_mut("networks").and_then(|networks| networks.get_mut(key)) {
            *network = serde_json::json!({ "name": name });
        }
        Self(value)
    }

    /// The model with files, absolute paths, whose change recreates its services although none mounts them.
    #[must_use]
    pub fn watching(&self, files: &[String]) -> Self {
        let mut value = self.0.clone();
        if let (Value::Object(map), false) = (&mut value, files.is_empty()) {
            map.insert(WATCHED.to_owned(), files.into());
        }
        Self(value)
    }

    /// The model with what a change in a mounted file does to its services. The paths of `reloads` are absolute.
    #[must_use]
    pub fn taking_up(&self, on_change: OnChange, reloads: &BTreeMap<String, Reload>) -> Self {
        let mut value = self.0.clone();
        if let Value::Object(map) = &mut value {
            if on_change != OnChange::default() {
                map.insert(ON_CHANGE.to_owned(), serde_json::json!(on_change));
            }
            if !reloads.is_empty() {
                map.insert(RELOAD.to_owned(), serde_json::json!(reloads));
            }
        }
        Self(value)
    }

    /// What a change in a mounted file does to services that do not say it themselves.
    pub fn on_change(&self) -> OnChange {
        serde_json::from_value(self.0[ON_CHANGE].clone()).unwrap_or_default()
    }

    /// What a service says of signals.
    pub fn reload(&self, service: &str) -> Option<Reload> {
        serde_json::from_value(self.0[RELOAD].get(service)?.clone()).ok()
    }

    /// The files that it watches.
    pub fn watched(&self) -> impl Iterator<Item = &str> {
        self.0[WATCHED].as_array().into_iter().flatten().filter_map(Value::as_str)
    }

    /// The model with what its services say of themselves, by service.
    #[must_use]
    pub fn saying(&self, said: &BTreeMap<String, Value>) -> Self {
        let mut value = self.0.clone();
        for (name, said) in said {
            if let Some(Value::Object(service)) = value["services"].get_mut(name) {
                service.insert(SAID.to_owned(), said.clone());
            }
        }
        Self(value)
    }

    /// The model with a script, an absolute path, that the gate runs.
    #[must_use]
    pub fn checked_by(&self, script: &str) -> Self {
        let mut value = self.0.clone();
        if let Value::Object(map) = &mut value {
            map.insert(HEALTH_CHECK.to_owned(), script.into());
        }
        Self(value)
    }

    /// The script that the gate runs.
    pub fn health_check(&self) -> Option<&str> {
        self.0[HEALTH_CHECK].as_str()
    }

    /// The services, by name.
    pub fn services(&self) -> BTreeMap<&str, Service<'_>> {
        entries(&self.0["services"]).map(|(name, value)| (name, Service(value))).collect()
    }

    /// The service of this name.
    pub fn service(&self, name: &str) -> Option<Service<'_>> {
        self.0["services"].get(name).map(Service)
    }

    /// A top-level section (`networks`, `volumes`, `configs`, `secrets`) by key.
    pub fn section(&self, name: &str) -> BTreeMap<&str, &Value> {
        entries(&self.0[name]).collect()
    }

    /// The engine's names of the volumes that this model makes, by key; external ones too if `external`.
    pub fn volume_names(&self, external: bool) -> BTreeMap<&str, &str> {
        entries(&self.0["volumes"])
            .filter(|(_, v)| external || v["external"].as_bool() != Some(true))
            .map(|(key, v)| (key, v["name"].as_str().unwrap_or(key)))
            .collect()
    }

    /// The names of variables whose values become secrets or configs when containers are made.
    pub fn environment_secrets(&self) -> BTreeSet<&str> {
        ["secrets", "configs"]
            .into_iter()
            .flat_map(|section| entries(&self.0[section]))
            .filter_map(|(_, v)| v["environment"].as_str())
            .collect()
    }
}

fn entries(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(k, v)| (k.as_str(), v))
}

fn rebase(value: &mut Value, from: &str, to: &str) {
    for_each_text(value, &mut |text| {
        if let Some(moved) = rebase_text(text, from, to) {
            *text = moved;
        }
    });
}

fn for_each_text(value: &mut Value, change: &mut dyn FnMut(&mut String)) {
    match value {
        Value::String(text) => change(text),
        Value::Array(items) => items.iter_mut().for_each(|v| for_each_text(v, change)),
        Value::Object(map) => map.values_mut().for_each(|v| for_each_text(v, change)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Replaces `from` where it ends at a path boundary. `None` if nothing changes.
fn rebase_text(text: &str, from: &str, to: &str) -> Option<String> {
    if from.is_empty() || !text.contains(from) {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(from) {
        let (before, tail) = rest.split_at(at);
        let after = &tail[from.len()..];
        let ends = after.chars().next().is_none_or(|c| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.')));
        out.push_str(before);
        out.push_str(if ends { to } else { from });
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

/// One service of a model.
#[derive(Clone, Copy)]
pub struct Service<'a>(&'a Value);

impl<'a> Service<'a> {
    /// The service as JSON.
    pub fn value(&self) -> &'a Value {
        self.0
    }

    /// The image reference, if stated.
    pub fn image(&self) -> Option<&'a str> {
        self.0["image"].as_str()
    }

    /// The image reference that Compose uses: the stated one, or the one it gives to what it builds.
    pub fn image_reference(&self, project: &str, name: &str) -> String {
        self.image().map_or_else(|| format!("{project}-{name}"), str::to_owned)
    }

    /// The build section, if the image is built here.
    pub fn build(&self) -> Option<&'a Value> {
        self.0.get("build").filter(|b| !b.is_null())
    }

    /// Whether the service has a healthcheck that is not switched off. The image may bring one of its own.
    pub fn has_healthcheck(&self) -> bool {
        let check = &self.0["healthcheck"];
        check.is_object() && check["disable"].as_bool() != Some(true) && !check["test"].is_null()
    }

    /// What the service's own `x-evenkeel` says under this key; null if nothing.
    pub fn said(&self, key: &str) -> &'a Value {
        &self.0[SAID][key]
    }

    /// The restart policy; Compose's default is `no`.
    pub fn restart(&self) -> &'a str {
        self.0["restart"].as_str().unwrap_or("no")
    }

    /// `pull_policy`, if stated.
    pub fn pull_policy(&self) -> Option<&'a str> {
        self.0["pull_policy"].as_str()
    }

    /// The services that this one depends on, with the condition for each.
    pub fn depends_on(&self) -> BTreeMap<&'a str, &'a str> {
        entries(&self.0["depends_on"]).map(|(k, v)| (k, v["condition"].as_str().unwrap_or("service_started"))).collect()
    }

    /// The services whose namespaces or volumes this one shares: it must be recreated with them.
    pub fn shares_with(&self) -> BTreeSet<&'a str> {
        let namespaces = ["network_mode", "ipc", "pid"]
            .into_iter()
            .filter_map(|key| self.0[key].as_str())
            .filter_map(|mode| mode.strip_prefix("service:"));
        let volumes = self.0["volumes_from"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .filter(|text| !text.starts_with("container:"))
            .map(|text| text.split(':').next().unwrap_or(text));
        let restarted =
            entries(&self.0["depends_on"]).filter(|(_, v)| v["restart"].as_bool() == Some(true)).map(|(name, _)| name);
        namespaces.chain(volumes).chain(restarted).collect()
    }

    /// The host paths that are bind-mounted, with whether each is read-only.
    pub fn binds(&self) -> Vec<(&'a str, bool)> {
        self.volumes()
            .filter(|v| v["type"].as_str() == Some("bind"))
            .filter_map(|v| Some((v["source"].as_str()?, v["read_only"].as_bool() == Some(true))))
            .collect()
    }

    /// The keys of the named volumes that are mounted.
    pub fn named_volumes(&self) -> BTreeSet<&'a str> {
        self.volumes().filter(|v| v["type"].as_str() == Some("volume")).filter_map(|v| v["source"].as_str()).collect()
    }

    /// Where in its containers it has volumes without a name.
    pub fn anonymous_volumes(&self) -> Vec<&'a str> {
        self.volumes()
            .filter(|v| v["type"].as_str() == Some("volume") && v["source"].as_str().is_none_or(str::is_empty))
            .filter_map(|v| v["target"].as_str())
            .collect()
    }

    /// Where in its containers something is mounted that the model names: a volume, a path, memory.
    pub fn mount_targets(self) -> BTreeSet<&'a str> {
        let tmpfs = self.0["tmpfs"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let tmpfs = tmpfs.map(|text| text.split(':').next().unwrap_or(text));
        let targets = self.volumes().filter_map(|v| v["target"].as_str()).chain(tmpfs);
        targets.map(|target| target.trim_end_matches('/')).collect()
    }

    /// The keys of the networks that the service is on.
    pub fn networks(&self) -> BTreeSet<&'a str> {
        entries(&self.0["networks"]).map(|(key, _)| key).collect()
    }

    /// The keys used from a top-level section, `configs` or `secrets`.
    pub fn uses(&self, section: &str) -> BTreeSet<&'a str> {
        self.0[section]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|v| v["source"].as_str().or_else(|| v.as_str()))
            .collect()
    }

    fn volumes(&self) -> impl Iterator<Item = &'a Value> {
        self.0["volumes"].as_array().into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rebasing_moves_paths_and_leaves_longer_names_alone() {
        let model =
            Model::parse(r#"{"a":["/stage/x","/stage","/stage2/x","--f=/stage/y:/stage"],"b":{"c":1}}"#).unwrap();
        assert_eq!(
            model.rebased("/stage", "/live").value().to_string(),
            r#"{"a":["/live/x","/live","/stage2/x","--f=/live/y:/live"],"b":{"c":1}}"#
        );
    }

    #[test]
    fn a_service_shares_with_those_it_would_die_with() {
        let model = Model::parse(
            r#"{"services":{"a":{"network_mode":"service:vpn","volumes_from":["data:ro","container:x"],"depends_on":{"db":{"condition":"service_healthy","restart":true}}}}}"#,
        )
        .unwrap();
        let shares: Vec<_> = model.service("a").unwrap().shares_with().into_iter().collect();
        assert_eq!(shares, ["data", "db", "vpn"]);
    }

    #[test]
    fn a_document_that_is_no_mapping_is_no_model() {
        assert!(Model::parse("[]").is_err());
        assert!(Model::parse("{").is_err());
    }
}
