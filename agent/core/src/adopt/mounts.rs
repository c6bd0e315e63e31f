//! What a container sees of the server's files and volumes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    Difference,
    compare::Pair,
    value::{is_nothing, mapping, text, texts},
};
use crate::change::WhyKind;

/// Keys that are compared here.
pub const KEYS: [&str; 5] = ["volumes", "volumes_from", "tmpfs", "secrets", "configs"];
/// How many digits the engine gives a volume as its name if nobody names it.
const ANONYMOUS_DIGITS: usize = 64;

/// Something that is mounted: what, and whether it can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    kind: String,
    /// A path, the engine's name of a volume; `None` for a volume without a name, and for memory.
    source: Option<String>,
    writable: bool,
    /// How mounts below it spread, if that is stated.
    propagation: Option<String>,
}

impl Mount {
    fn shown(&self) -> String {
        let source = self.source.as_deref().map(|source| format!(" {source}")).unwrap_or_default();
        let read_only = if self.writable { "" } else { ", read-only" };
        format!("{}{source}{read_only}", self.kind)
    }

    /// Whether a container that has `self` has what is wanted.
    fn is(&self, wanted: &Self) -> bool {
        let same_source = match &wanted.source {
            None => self.source.as_deref().is_none_or(is_anonymous),
            source => self.source == *source,
        };
        let spreads = wanted.propagation.is_none() || self.propagation == wanted.propagation;
        self.kind == wanted.kind && same_source && self.writable == wanted.writable && spreads
    }
}

fn is_anonymous(name: &str) -> bool {
    name.len() == ANONYMOUS_DIGITS && name.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Where the container's mounts are not those of its service.
pub fn differences(pair: &Pair<'_>) -> Vec<Difference> {
    let mut found = unseen(pair);
    let (wanted, has) = (wanted(pair), has(pair));
    let own = own(pair);
    let is_brought = |target: &str, mount: &Mount| {
        let by_image = pair.found.image["Volumes"].as_object().is_some_and(|volumes| volumes.contains_key(target));
        let by_other = !is_nothing(&pair.service["volumes_from"]) && !own.contains(target);
        (by_image && mount.kind == "volume" && mount.source.as_deref().is_none_or(is_anonymous)) || by_other
    };
    for (target, mount) in &wanted {
        let there = has.get(target);
        if !there.is_some_and(|there| there.is(mount)) {
            let nothing = || "nothing".to_owned();
            let found_there = there.map_or_else(nothing, Mount::shown);
            let difference = Difference::new(WhyKind::Volume, target.as_str());
            found.push(difference.between(Some(found_there), Some(mount.shown())));
        }
    }
    for (target, mount) in
        has.iter().filter(|(target, mount)| !wanted.contains_key(*target) && !is_brought(target, mount))
    {
        let difference = Difference::new(WhyKind::Volume, target.as_str());
        found.push(difference.between(Some(mount.shown()), Some("nothing".to_owned())));
    }
    found.extend(newer(pair, &wanted));
    found.extend(options(pair));
    if tmpfs(&pair.service["tmpfs"]) != mapping_of_tmpfs(pair.host("Tmpfs")) {
        found.push(Difference::new(WhyKind::Volume, "tmpfs"));
    }
    if !are_shared(pair) {
        found.push(Difference::new(WhyKind::Volume, "volumes_from"));
    }
    found
}

/// Files that were changed after the container was started: it may still have what they were before, most surely one that
/// is mounted by itself and that somebody replaced.
fn newer(pair: &Pair<'_>, wanted: &BTreeMap<String, Mount>) -> Vec<Difference> {
    let Some(started_ms) = pair.found.started_ms else { return Vec::new() };
    let mounted = || wanted.values().filter(|mount| mount.kind == "bind").filter_map(|mount| mount.source.as_deref());
    let watched = || pair.wanted.model.watched();
    let is_below =
        |path: &str, mount: &str| path.strip_prefix(mount).is_some_and(|r| r.is_empty() || r.starts_with('/'));
    let is_seen = |path: &str| mounted().chain(watched()).any(|mount| is_below(path, mount));
    let newer = pair.wanted.changed.iter().filter(|(path, changed)| **changed > started_ms && is_seen(path));
    let since = || (Some("changed since the container was started".to_owned()), Some("what the commit has".to_owned()));
    newer.map(|(path, _)| Difference::new(WhyKind::File, path.as_str()).between(since().0, since().1)).collect()
}

/// What a mount may say of itself beyond what is compared: how large memory is, which part of a volume it is.
fn options(pair: &Pair<'_>) -> Vec<Difference> {
    let said = |target: &str, options: &str, name: &str| {
        let mounts = pair.host("Mounts").as_array().into_iter().flatten();
        let mut mine = mounts.filter(|mount| mount["Target"].as_str() == Some(target));
        mine.next().and_then(|mount| text(&mount[options][name]))
    };
    let volumes = pair.service["volumes"].as_array().into_iter().flatten();
    let differing = volumes.filter_map(|volume| {
        let target = volume["target"].as_str()?;
        let same = text(&volume["tmpfs"]["size"]) == said(target, "TmpfsOptions", "SizeBytes")
            && text(&volume["volume"]["subpath"]) == said(target, "VolumeOptions", "Subpath");
        (!same).then(|| Difference::new(WhyKind::Volume, target))
    });
    differing.collect()
}

fn wanted(pair: &Pair<'_>) -> BTreeMap<String, Mount> {
    let names = pair.wanted.model.volume_names(true);
    let volumes = pair.service["volumes"].as_array().into_iter().flatten().filter_map(|volume| {
        let kind = volume["type"].as_str()?.to_owned();
        let source = match (kind.as_str(), text(&volume["source"])) {
            ("volume", Some(key)) => Some(names.get(key.as_str()).map_or(key.clone(), |name| (*name).to_owned())),
            ("tmpfs", _) => None,
            (_, source) => source.map(|source| clean(&source)),
        };
        let writable = volume["read_only"].as_bool() != Some(true);
        let propagation = text(&volume["bind"]["propagation"]);
        Some((clean(volume["target"].as_str()?), Mount { kind, source, writable, propagation }))
    });
    let mut wanted: BTreeMap<String, Mount> = volumes.collect();
    for (section, folder) in [("secrets", "/run/secrets/"), ("configs", "/")] {
        let definitions = pair.wanted.model.section(section);
        for (key, target) in uses(&pair.service[section], folder) {
            if let Some(file) = definitions.get(key.as_str()).and_then(|definition| definition["file"].as_str()) {
                let source = Some(clean(&file.replace("$$", "$")));
                wanted.insert(target, Mount { kind: "bind".to_owned(), source, writable: false, propagation: None });
            }
        }
    }
    wanted
}

/// What a service uses of `secrets` or `configs`, and where it sees it.
fn uses(value: &Value, folder: &str) -> Vec<(String, String)> {
    let one = |used: &Value| {
        let key = text(&used["source"]).or_else(|| text(used))?;
        let target = text(&used["target"]).unwrap_or_else(|| key.clone());
        let target = if target.starts_with('/') { target } else { format!("{folder}{target}") };
        Some((key, target))
    };
    value.as_array().into_iter().flatten().filter_map(one).collect()
}

/// Secrets and configs that are copied into containers when they are made: what a container has of them cannot be seen from
/// outside.
fn unseen(pair: &Pair<'_>) -> Vec<Difference> {
    let mut found = Vec::new();
    for (section, kind) in [("secrets", WhyKind::Secret), ("configs", WhyKind::File)] {
        let definitions = pair.wanted.model.section(section);
        for (key, _) in uses(&pair.service[section], "/") {
            if definitions.get(key.as_str()).is_none_or(|definition| definition["file"].as_str().is_none()) {
                found.push(Difference::new(kind, key));
            }
        }
    }
    found
}

fn has(pair: &Pair<'_>) -> BTreeMap<String, Mount> {
    let mounts = pair.found.inspected["Mounts"].as_array().into_iter().flatten().filter_map(|mount| {
        let kind = mount["Type"].as_str()?.to_owned();
        let source = match kind.as_str() {
            "volume" => text(&mount["Name"]),
            "tmpfs" => None,
            _ => text(&mount["Source"]).map(|source| clean(&source)),
        };
        let writable = mount["RW"].as_bool().unwrap_or(true);
        let propagation = text(&mount["Propagation"]);
        Some((clean(mount["Destination"].as_str()?), Mount { kind, source, writable, propagation }))
    });
    mounts.collect()
}

/// Where the container mounts what was asked for on its own, and not through another container.
fn own(pair: &Pair<'_>) -> BTreeSet<String> {
    let binds = texts(pair.host("Binds"));
    // `source:target:options`; a volume without a name is its target alone.
    let target = |bind: &String| {
        let mut parts = bind.split(':');
        let first = parts.next().unwrap_or_default();
        clean(parts.next().unwrap_or(first))
    };
    let mounts = pair.host("Mounts").as_array().into_iter().flatten();
    let targets = mounts.filter_map(|mount| mount["Target"].as_str()).map(clean);
    binds.iter().map(target).chain(targets).collect()
}

/// Without a slash at its end, or two in a row.
fn clean(path: &str) -> String {
    let absolute = if path.starts_with('/') { "/" } else { "" };
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    format!("{absolute}{}", parts.join("/"))
}

fn tmpfs(value: &Value) -> BTreeMap<String, String> {
    let one = |text: String| {
        let (target, options) = text.split_once(':').unwrap_or((&text, ""));
        (target.to_owned(), options.to_owned())
    };
    texts(value).into_iter().map(one).collect()
}

fn mapping_of_tmpfs(value: &Value) -> BTreeMap<String, String> {
    mapping(value).into_iter().map(|(target, options)| (target, options.unwrap_or_default())).collect()
}

/// The engine has ids of containers, the service names of services.
fn are_shared(pair: &Pair<'_>) -> bool {
    let split = |text: &str| {
        let (name, mode) = text.rsplit_once(':').unwrap_or((text, ""));
        match mode {
            "ro" | "rw" => (name.to_owned(), mode == "ro"),
            _ => (text.to_owned(), false),
        }
    };
    let wanted: BTreeSet<(String, bool)> =
        texts(&pair.service["volumes_from"]).iter().map(|text| split(text)).collect();
    let has: BTreeSet<(String, bool)> = texts(pair.host("VolumesFrom")).iter().map(|text| split(text)).collect();
    let is_one = |(wanted, wanted_ro): &(String, bool), (id, ro): &(String, bool)| {
        let name = wanted.strip_prefix("container:");
        wanted_ro == ro && (name.is_some_and(|name| name == id) || pair.is_of(wanted, id))
    };
    wanted.len() == has.len() && wanted.iter().all(|wanted| has.iter().any(|has| is_one(wanted, has)))
}
