//! Adoption: which containers that somebody else started are what a stack wants already, and may stay as they are.
//!
//! Compose's own hash is no answer: it differs from version to version. What the engine tells of a container is compared
//! with the model, key by key. A key that cannot be compared counts as a difference, and what the engine tells beyond its
//! defaults has to be said by the model or by the image: a container that stays is what the repository says, or it is made
//! anew.

mod compare;
mod limits;
mod mounts;
mod network;
mod roots;
mod value;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

pub use roots::{Root, roots};

use crate::{
    change::{ServiceChange, ServiceChangeKind, Why, WhyKind},
    health::{Expected, expectations},
    id::ImageId,
    model::Model,
    plan,
};

/// A container that stands, as the engine's API tells of it. No `Debug`: its environment may hold secrets.
#[derive(Clone)]
pub struct Found {
    /// Its service.
    pub service: String,
    /// The engine's id.
    pub id: String,
    /// Its name, without the slash.
    pub name: String,
    /// When it was last started, in milliseconds since 1970; `None` if never.
    pub started_ms: Option<i64>,
    /// What `GET /containers/{id}/json` answers.
    pub inspected: Value,
    /// The `Config` of the image that it was made from; null if that is gone.
    pub image: Value,
    /// What the engine does by itself: of `GET /info` the keys [`OF_ENGINE`]; null if that is not known.
    pub engine: Value,
}

/// What is asked of the engine itself.
pub const OF_ENGINE: [&str; 3] = ["CgroupVersion", "DefaultRuntime", "LoggingDriver"];

/// What a stack wants.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// The rendered model, with paths under the live root.
    pub model: &'a Model,
    /// The Compose project.
    pub project: &'a str,
    /// The image that each service's reference stands for; one that is not here is not in it.
    pub images: &'a BTreeMap<String, ImageId>,
    /// When the files of its slice that are on the server were changed last, by their absolute paths, in milliseconds
    /// since 1970.
    pub changed: &'a BTreeMap<String, i64>,
}

/// One difference between a container and its service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Difference {
    /// What differs.
    #[serde(flatten)]
    pub why: Why,
    /// What the container has; only of what is never secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// What the repository wants; only of what is never secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wanted: Option<String>,
}

impl Difference {
    fn new(kind: WhyKind, name: impl Into<String>) -> Self {
        Self { why: Why { kind, name: name.into() }, found: None, wanted: None }
    }

    fn between(self, found: Option<String>, wanted: Option<String>) -> Self {
        Self { found, wanted, ..self }
    }
}

/// What becomes of a service when its stack is taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The service.
    pub service: String,
    /// Nothing, if its containers stay; otherwise they are made or made anew.
    pub change: ServiceChangeKind,
    /// Why they do not stay, sorted.
    pub differences: Vec<Difference>,
    /// The ids of its containers.
    pub containers: Vec<String>,
}

impl Judged {
    /// Whether its containers stay as they are.
    pub fn stays(&self) -> bool {
        self.change == ServiceChangeKind::None
    }

    /// The same, in the words of plans.
    pub fn change(&self) -> ServiceChange {
        let why: BTreeSet<Why> = self.differences.iter().map(|difference| difference.why.clone()).collect();
        ServiceChange { service: self.service.clone(), change: self.change, why: why.into_iter().collect() }
    }
}

/// Judges every service of the model, sorted by name. Containers of services that the model does not have are nobody's
/// business here.
pub fn judge(wanted: &Wanted<'_>, found: &[Found]) -> Vec<Judged> {
    let expected = expectations(wanted.model);
    let services = wanted.model.services();
    let mut judged: BTreeMap<&str, Judged> = BTreeMap::new();
    for (name, service) in &services {
        let mine: Vec<&Found> = found.iter().filter(|f| f.service == *name).collect();
        let expected = expected.get(*name);
        let replicas = expected.map_or(1, |expected| expected.replicas);
        let differences = of_service(wanted, (name, service.value()), (&mine, found), expected);
        let change = match (mine.is_empty(), differences.is_empty()) {
            // Scaled to none, there is nothing to make.
            (true, _) if replicas == 0 => ServiceChangeKind::None,
            (true, _) => ServiceChangeKind::Create,
            (false, true) => ServiceChangeKind::None,
            (false, false) => ServiceChangeKind::Recreate,
        };
        let containers = mine.iter().map(|f| f.id.clone()).collect();
        judged.insert(name, Judged { service: (*name).to_owned(), change, differences, containers });
    }
    take_along(&mut judged, wanted.model);
    judged.into_values().collect()
}

/// What shares something with a service that gets new containers does not stay either.
fn take_along(judged: &mut BTreeMap<&str, Judged>, model: &Model) {
    let mut changes: Vec<ServiceChange> = judged.values().map(Judged::change).collect();
    plan::take_along(&mut changes, &model.services());
    for change in changes {
        let Some(one) = judged.get_mut(change.service.as_str()).filter(|one| one.change() != change) else {
            continue;
        };
        one.change = change.change;
        let news = change.why.into_iter().filter(|why| !one.differences.iter().any(|d| d.why == *why));
        let news: Vec<Difference> = news.map(|why| Difference { why, found: None, wanted: None }).collect();
        one.differences.extend(news);
        one.differences.sort();
    }
}

fn of_service(
    wanted: &Wanted<'_>,
    (name, service): (&str, &Value),
    (mine, all): (&[&Found], &[Found]),
    expected: Option<&Expected>,
) -> Vec<Difference> {
    if mine.is_empty() {
        return Vec::new();
    }
    let mut differences = BTreeSet::new();
    let (replicas, may_end) = expected.map_or((1, false), |expected| (expected.replicas, expected.may_end));
    if mine.len() as u64 != replicas {
        let counts = (Some(mine.len().to_string()), Some(replicas.to_string()));
        differences.insert(Difference::new(WhyKind::Other, "replicas").between(counts.0, counts.1));
    }
    let service = value::unescaped(service);
    for found in mine {
        differences.extend(state(found, may_end));
        let pair = compare::Pair { wanted, name, service: &service, found, all };
        differences.extend(compare::differences(&pair));
    }
    differences.into_iter().collect()
}

/// What does not run cannot be taken over as it runs. What may end and ended well has done what it is for.
fn state(found: &Found, may_end: bool) -> Option<Difference> {
    let state = &found.inspected["State"];
    let status = state["Status"].as_str().unwrap_or_default();
    let has_ended = may_end && status == "exited" && state["ExitCode"].as_i64() == Some(0);
    let runs = status == "running" || has_ended;
    (!runs)
        .then(|| Difference::new(WhyKind::Other, "state").between(Some(status.to_owned()), Some("running".to_owned())))
}

#[cfg(test)]
mod tests;
