//! One container beside its service: what it was made from, and what it runs.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    Difference, Found, Wanted, limits, mounts, network,
    value::{self, assignments, duration, is_nothing, mapping, text, words},
};
use crate::change::WhyKind;

/// What Compose says of the containers that it makes, and Docker Desktop of its own.
const LABELS_OF_OTHERS: [&str; 2] = ["com.docker.compose.", "desktop.docker.io/"];
/// Keys of a service that change no container, or that another key decides.
const WITHOUT_EFFECT: [&str; 13] = [
    "profiles",
    "pull_policy",
    "develop",
    "depends_on",
    "build",
    "scale",
    "attach",
    "platform",
    "env_file",
    "label_file",
    "extends",
    "pre_stop",
    "deploy",
];
/// Keys that are compared here.
const COMPARED: [&str; 14] = [
    "image",
    "environment",
    "labels",
    "command",
    "entrypoint",
    "healthcheck",
    "container_name",
    "hostname",
    "user",
    "working_dir",
    "stop_signal",
    "stop_grace_period",
    "mac_address",
    "restart",
];

/// A container beside what it should be.
pub struct Pair<'a> {
    /// What the stack wants.
    pub wanted: &'a Wanted<'a>,
    /// The service's name.
    pub name: &'a str,
    /// The service, without escapes.
    pub service: &'a Value,
    /// The container.
    pub found: &'a Found,
    /// All containers of the project.
    pub all: &'a [Found],
}

impl Pair<'_> {
    /// What the container was configured with.
    pub fn config(&self, key: &str) -> &Value {
        &self.found.inspected["Config"][key]
    }

    /// What the container was configured with on its host.
    pub fn host(&self, key: &str) -> &Value {
        &self.found.inspected["HostConfig"][key]
    }

    /// Whether `id` is a container of this service of the project.
    pub fn is_of(&self, service: &str, id: &str) -> bool {
        self.all.iter().any(|found| found.service == service && found.id == id)
    }
}

/// Everything in which the container is not what the service wants.
pub fn differences(pair: &Pair<'_>) -> Vec<Difference> {
    let mut found = Vec::new();
    found.extend(image(pair));
    found.extend(environment(pair));
    found.extend(labels(pair));
    found.extend(command(pair));
    found.extend(healthcheck(pair));
    found.extend(plain(pair));
    found.extend(limits::differences(pair));
    found.extend(mounts::differences(pair));
    found.extend(network::differences(pair));
    found.extend(incomparable(pair));
    found
}

/// What nobody here knows how to compare.
fn incomparable(pair: &Pair<'_>) -> Vec<Difference> {
    let is_known = |key: &str| {
        let lists: [&[&str]; 5] = [&WITHOUT_EFFECT, &COMPARED, &limits::KEYS, &mounts::KEYS, &network::KEYS];
        key.starts_with("x-") || lists.iter().any(|list| list.contains(&key))
    };
    let keys = pair.service.as_object().into_iter().flatten();
    let unknown = keys.filter(|(key, value)| !is_known(key) && !is_nothing(value));
    unknown.map(|(key, _)| Difference::new(WhyKind::Other, key.as_str())).collect()
}

fn image(pair: &Pair<'_>) -> Option<Difference> {
    let wanted = pair.wanted.images.get(pair.name);
    let has = pair.found.inspected["Image"].as_str().unwrap_or_default();
    if wanted.is_some_and(|wanted| wanted.0 == has) {
        return None;
    }
    let reference = pair.config("Image").as_str().unwrap_or_default();
    let found = format!("{reference} ({})", short(has));
    let model = pair.wanted.model.service(pair.name);
    let reference = model.map(|service| service.image_reference(pair.wanted.project, pair.name)).unwrap_or_default();
    let wanted = match wanted {
        Some(id) => format!("{reference} ({})", short(&id.0)),
        None => format!("{reference} (not here yet)"),
    };
    Some(Difference::new(WhyKind::Image, "image").between(Some(found), Some(wanted)))
}

fn short(id: &str) -> &str {
    let digits = id.strip_prefix("sha256:").unwrap_or(id);
    digits.get(..12).unwrap_or(digits)
}

/// The container's variables are those of its image and over them those of the service. Names only are told.
fn environment(pair: &Pair<'_>) -> Vec<Difference> {
    let image = assignments(&pair.found.image["Env"]);
    let has = assignments(pair.config("Env"));
    over(&mapping(&pair.service["environment"]), &has, &image, |_| false)
        .into_iter()
        .map(|name| Difference::new(WhyKind::Env, name))
        .collect()
}

fn labels(pair: &Pair<'_>) -> Vec<Difference> {
    let plain = |value: &Value| -> BTreeMap<String, String> {
        mapping(value).into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect()
    };
    let wanted = plain(&pair.service["labels"]).into_iter().map(|(key, value)| (key, Some(value))).collect();
    let is_of_others = |name: &str| LABELS_OF_OTHERS.iter().any(|prefix| name.starts_with(prefix));
    over(&wanted, &plain(pair.config("Labels")), &plain(&pair.found.image["Labels"]), is_of_others)
        .into_iter()
        .map(|name| Difference::new(WhyKind::Label, name))
        .collect()
}

/// The names under which what is there is not what is wanted over what the image brings. What is wanted as `None` is to be
/// absent.
fn over(
    wanted: &BTreeMap<String, Option<String>>,
    has: &BTreeMap<String, String>,
    image: &BTreeMap<String, String>,
    is_left: impl Fn(&str) -> bool,
) -> Vec<String> {
    let differs = wanted.iter().filter(|(name, value)| has.get(*name) != value.as_ref()).map(|(name, _)| name);
    let extra = has.iter().filter(|(name, value)| !wanted.contains_key(*name) && image.get(*name) != Some(*value));
    let lost = image.keys().filter(|name| !wanted.contains_key(*name) && !has.contains_key(*name));
    let names = differs.chain(extra.map(|(name, _)| name)).chain(lost);
    names.filter(|name| !is_left(name)).cloned().collect()
}

/// As the engine merges them: an entrypoint that is stated drops the image's command.
fn command(pair: &Pair<'_>) -> Vec<Difference> {
    let list = |value: &Value| words(value);
    let (entrypoint, command) = (&pair.service["entrypoint"], &pair.service["command"]);
    let image = &pair.found.image;
    let wanted_entrypoint = if entrypoint.is_null() { list(&image["Entrypoint"]) } else { list(entrypoint) };
    let stated = list(command);
    let wanted_command = if stated.is_empty() && list(entrypoint).is_empty() { list(&image["Cmd"]) } else { stated };
    let mut found = Vec::new();
    if list(pair.config("Entrypoint")) != wanted_entrypoint {
        found.push(Difference::new(WhyKind::Command, "entrypoint"));
    }
    if list(pair.config("Cmd")) != wanted_command {
        found.push(Difference::new(WhyKind::Command, "command"));
    }
    found
}

fn healthcheck(pair: &Pair<'_>) -> Option<Difference> {
    let (stated, image, has) =
        (&pair.service["healthcheck"], &pair.found.image["Healthcheck"], pair.config("Healthcheck"));
    let different = || Some(Difference::new(WhyKind::Healthcheck, "healthcheck"));
    if stated["disable"].as_bool() == Some(true) {
        return if words(&has["Test"]) == ["NONE"] { None } else { different() };
    }
    let own = words(&stated["test"]);
    let test = if own.is_empty() { words(&image["Test"]) } else { own };
    let time = |key: &str, of_image: &str| match &stated[key] {
        Value::String(written) => duration(written).and_then(|time| i64::try_from(time.as_nanos()).ok()),
        _ => value::number(&image[of_image]),
    };
    let keys = [
        ("interval", "Interval"),
        ("timeout", "Timeout"),
        ("start_period", "StartPeriod"),
        ("start_interval", "StartInterval"),
    ];
    let same = test == words(&has["Test"])
        && keys.iter().all(|(key, name)| time(key, name) == value::number(&has[*name]))
        && number_or(&stated["retries"], &image["Retries"]) == value::number(&has["Retries"]);
    if same { None } else { different() }
}

fn number_or(stated: &Value, image: &Value) -> Option<i64> {
    if stated.is_null() { value::number(image) } else { value::number(stated) }
}

/// Single values that are the image's, the engine's or Compose's where the service does not say them.
fn plain(pair: &Pair<'_>) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut differ = |key: &str, is_same: bool| {
        if !is_same {
            found.push(Difference::new(WhyKind::Other, key));
        }
    };
    let stated = |key: &str| text(&pair.service[key]);
    for (key, name) in [("user", "User"), ("working_dir", "WorkingDir"), ("stop_signal", "StopSignal")] {
        let wanted = stated(key).or_else(|| text(&pair.found.image[name]));
        let has = text(pair.config(name));
        // An engine of old writes its default down.
        let is_default = key == "stop_signal" && wanted.is_none() && has.as_deref() == Some("SIGTERM");
        differ(key, wanted == has || is_default);
    }
    let grace = stated("stop_grace_period").and_then(|text| duration(&text)).map(|time| time.as_secs());
    differ("stop_grace_period", grace == pair.config("StopTimeout").as_u64());
    differ("hostname", is_hostname(pair));
    differ("container_name", is_name(pair));
    let mac = stated("mac_address");
    let has = [text(pair.config("MacAddress")), text(&pair.found.inspected["NetworkSettings"]["MacAddress"])];
    differ("mac_address", mac.is_none() || has.contains(&mac));
    differ("restart", is_restart(pair));
    found
}

/// Without a name of its own a container is called by the beginning of its id, unless another one's name is its own.
fn is_hostname(pair: &Pair<'_>) -> bool {
    let has = text(pair.config("Hostname"));
    if let Some(wanted) = text(&pair.service["hostname"]) {
        return has == Some(wanted);
    }
    let is_shared = !is_nothing(&pair.service["network_mode"]) || !is_nothing(&pair.service["uts"]);
    is_shared || has.as_deref() == pair.found.id.get(..12)
}

/// Compose of old joined the parts with `_`.
fn is_name(pair: &Pair<'_>) -> bool {
    if let Some(wanted) = text(&pair.service["container_name"]) {
        return pair.found.name == wanted;
    }
    ["-", "_"].iter().any(|joint| {
        let beginning = format!("{}{joint}{}{joint}", pair.wanted.project, pair.name);
        let number = pair.found.name.strip_prefix(&beginning);
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
    })
}

fn is_restart(pair: &Pair<'_>) -> bool {
    let policy = &pair.service["deploy"]["restart_policy"];
    let (name, tries) = if policy.is_object() {
        let name = match policy["condition"].as_str().unwrap_or("any") {
            "none" => "no".to_owned(),
            "any" => "always".to_owned(),
            other => other.to_owned(),
        };
        (name, value::number(&policy["max_attempts"]))
    } else {
        let stated = text(&pair.service["restart"]).unwrap_or_else(|| "no".to_owned());
        match stated.split_once(':') {
            Some((name, tries)) => (name.to_owned(), tries.parse().ok()),
            None => (stated, Some(0)),
        }
    };
    let has = pair.host("RestartPolicy");
    let has_name = text(&has["Name"]).unwrap_or_else(|| "no".to_owned());
    has_name == name && value::number(&has["MaximumRetryCount"]) == tries
}
