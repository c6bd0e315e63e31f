//! What a change of a stack brings with it besides its services: what is pulled, built, saved before, and how long it is down.

use std::collections::BTreeSet;

use serde::Serialize;

use super::Side;
use crate::{
    change::{ServiceChangeKind, StackChange},
    model::Service,
    path::{below, is_within},
    quiesce::{Quiesce, quiesce},
};

/// How long an engine waits for a container to stop that does not say, in seconds.
const GRACE_SECS: u64 = 10;

/// A service that is down for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Down {
    /// The service.
    pub service: String,
    /// The longest that its containers may take to stop, in seconds; starting comes on top.
    pub stop_secs: u64,
}

/// A service that holds still while its data is saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HoldsStill {
    /// The service.
    pub service: String,
    /// In what way: `stop`, `pause` or `commands`.
    pub how: &'static str,
}

/// What a change of a stack brings with it. A prediction where images and data cannot be seen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Effects {
    /// Image references that were not in use before, sorted: pulled unless the server has them.
    pub pulls: Vec<String>,
    /// Services whose images are built.
    pub builds: Vec<String>,
    /// Data that is saved before, where a backup is configured: volumes by the engine's name, and folders of the repository.
    pub backs_up: Vec<String>,
    /// Services that hold still while that is saved.
    pub holds_still: Vec<HoldsStill>,
    /// Services whose containers are replaced or restarted: down from the stop of the old to the start of the new.
    pub down: Vec<Down>,
    /// Services whose new containers are started beside the old ones: not down at all.
    pub start_first: Vec<String>,
}

/// The effects of `change`, which leads from one side to the other.
pub fn effects(root: &str, change: &StackChange, from: Option<Side<'_>>, to: Option<Side<'_>>) -> Effects {
    let mut effects = Effects { backs_up: backs_up(root, from), ..Effects::default() };
    if !effects.backs_up.is_empty() {
        effects.holds_still = holds_still(from);
    }
    let before: BTreeSet<&str> = images(from).collect();
    let mut pulls = BTreeSet::new();
    for service in &change.services {
        let renewed = match service.change {
            ServiceChangeKind::Create | ServiceChangeKind::Recreate | ServiceChangeKind::StartFirst => true,
            ServiceChangeKind::Restart => false,
            ServiceChangeKind::Signal | ServiceChangeKind::None | ServiceChangeKind::Remove => continue,
        };
        let after = to.and_then(|side| side.model.service(&service.service));
        match after.filter(|_| renewed) {
            Some(after) if after.build().is_some() => effects.builds.push(service.service.clone()),
            Some(after) => {
                pulls.extend(after.image().filter(|i| !i.is_empty() && !before.contains(i)).map(str::to_owned));
            }
            None => {}
        }
        if service.change == ServiceChangeKind::StartFirst {
            effects.start_first.push(service.service.clone());
        } else if let Some(old) = from.and_then(|side| side.model.service(&service.service)) {
            effects.down.push(Down { service: service.service.clone(), stop_secs: stop_secs(old) });
        }
    }
    effects.pulls = pulls.into_iter().collect();
    effects
}

fn holds_still(from: Option<Side<'_>>) -> Vec<HoldsStill> {
    let services = from.map(|side| side.model.services()).unwrap_or_default();
    let way = |(name, service): (&str, Service<'_>)| {
        let how = match quiesce(service)? {
            Quiesce::Stop => "stop",
            Quiesce::Pause => "pause",
            Quiesce::Commands { .. } => "commands",
        };
        Some(HoldsStill { service: name.to_owned(), how })
    };
    services.into_iter().filter_map(way).collect()
}

fn images(side: Option<Side<'_>>) -> impl Iterator<Item = &str> {
    let services = side.map(|side| side.model.services()).unwrap_or_default();
    services.into_values().filter_map(|service| service.image())
}

fn stop_secs(service: Service<'_>) -> u64 {
    service.value()["stop_grace_period"].as_str().and_then(seconds).unwrap_or(GRACE_SECS)
}

/// A duration as Compose prints it: `1m30s`. Less than a second counts as one.
fn seconds(text: &str) -> Option<u64> {
    let mut total_ms: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        let factor_ms = match unit {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1000,
            "ms" => 1,
            _ => return None,
        };
        total_ms = total_ms.checked_add(number.parse::<u64>().ok()?.checked_mul(factor_ms)?)?;
        rest = after;
    }
    Some(total_ms.div_ceil(1000))
}

/// The data of what runs: its volumes, and writable bind mounts below the root that Git does not fill.
fn backs_up(root: &str, from: Option<Side<'_>>) -> Vec<String> {
    let Some(side) = from else { return Vec::new() };
    let used: BTreeSet<&str> = side.model.services().values().flat_map(Service::named_volumes).collect();
    let volumes = side.model.volume_names(true).into_iter().filter(|(key, _)| used.contains(key));
    let mut found: BTreeSet<String> = volumes.map(|(_, name)| name.to_owned()).collect();
    for (source, read_only) in side.model.services().values().flat_map(Service::binds) {
        let Some(path) = below(root, source).filter(|_| !read_only) else { continue };
        if !side.files.keys().any(|file| is_within(file, path)) {
            found.insert(path.to_owned());
        }
    }
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{change::StackChangeKind, model::Model, plan::diff, release::SecretEnv};

    fn model(image: &str) -> Model {
        Model::parse(&format!(
            r#"{{"services":{{"app":{{"image":"{image}","stop_grace_period":"1m0s","volumes":[
                {{"type":"volume","source":"data","target":"/d"}},{{"type":"bind","source":"/live/web/state","target":"/s"}},
                {{"type":"bind","source":"/live/web/conf","target":"/c","read_only":true}}]}},"side":{{"image":"s:1","x-evenkeel":{{"quiesce":"pause"}}}},
                "built":{{"build":{{"context":"/live/web"}},"environment":{{"A":"{image}"}}}}}},
                "volumes":{{"data":{{"name":"web_data"}},"unused":{{"name":"web_unused"}}}}}}"#
        ))
        .expect("a model")
    }

    #[test]
    fn tells_what_is_pulled_built_saved_and_down() {
        let (files, secret_env) = (BTreeMap::new(), SecretEnv::default());
        let (old, new) = (model("x:1"), model("x:2"));
        let side = |model| Side { model, files: &files, secret_env: &secret_env };
        let (from, to) = (Some(side(&old)), Some(side(&new)));
        let change = StackChange {
            stack: evenkeel_layout::name::StackName::new("web").expect("a name"),
            change: StackChangeKind::Update,
            group: None,
            services: diff("/live", from, to),
        };
        let found = effects("/live", &change, from, to);
        assert_eq!((found.pulls, found.builds), (vec!["x:2".to_owned()], vec!["built".to_owned()]));
        assert_eq!(found.backs_up, ["web/state", "web_data"]);
        assert_eq!(found.holds_still, [HoldsStill { service: "side".to_owned(), how: "pause" }]);
        let down: Vec<_> = found.down.iter().map(|d| (d.service.as_str(), d.stop_secs)).collect();
        assert_eq!(down, [("app", 60), ("built", 10)]);
        let created = effects("/live", &change, None, to);
        assert!(created.down.is_empty() && created.backs_up.is_empty() && created.holds_still.is_empty());
        let mut first = change.clone();
        first.services.iter_mut().for_each(|s| s.change = ServiceChangeKind::StartFirst);
        let found = effects("/live", &first, from, to);
        assert_eq!(
            (found.start_first, found.pulls),
            (vec!["app", "built", "side"].into_iter().map(str::to_owned).collect(), vec!["x:2".to_owned()])
        );
        assert!(found.down.is_empty());
    }
}
