//! Drift: where a server differs from the releases that it should run, and what is done about it.
//!
//! What nobody did on purpose is put back; what a person did is told and left alone.

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};

pub use evenkeel_layout::drift::Mode;

pub use crate::change::DriftKind as Kind;
use crate::{
    health::{Activity, expectations},
    id::ImageId,
    model::{Model, Service},
    release::Release,
};

/// The pause after the first try to put something back; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60 * 60);

/// One difference. Its kind and name tell it from others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    /// What kind of thing.
    pub kind: Kind,
    /// The service, the network, or the file's path in the repository.
    pub name: String,
    /// Whether a person did it, as far as can be told. That is never undone.
    pub by_person: bool,
    /// For people: what was found.
    pub what: String,
}

/// A container of a project, as far as drift looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its service.
    pub service: String,
    /// The engine's id.
    pub id: String,
    /// Its name, for people.
    pub name: String,
    /// What it is doing.
    pub activity: Activity,
    /// The image it was made from.
    pub image: ImageId,
    /// The files that Compose made it from, if it says so.
    pub made_from: Option<String>,
    /// Whether a person stopped it: somebody saw that happen.
    pub stopped_by_person: bool,
}

/// What was found on the server for one stack.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The containers of its project.
    pub containers: &'a [Standing],
    /// Networks of its model that the engine does not have, by the model's key.
    pub networks_gone: &'a BTreeSet<String>,
    /// Files of its slice that are not as the release has them, each with what is wrong, for people.
    pub files: &'a [(String, String)],
    /// The file that the agent gives to Compose.
    pub model_file: &'a str,
}

/// Compares a release with what was found, sorted.
pub fn find(release: &Release, seen: &Seen<'_>) -> Vec<Finding> {
    let services = release.model.services();
    let mut found = Vec::new();
    for (name, expected) in expectations(&release.model) {
        let containers: Vec<&Standing> = seen.containers.iter().filter(|c| c.service == name).collect();
        // What somebody waits for has ended; that its container was tidied away changes nothing.
        if (containers.len() as u64) < expected.replicas && !expected.must_end {
            let what = match (containers.len(), expected.replicas) {
                (0, 1) => format!("{name} has no container"),
                (there, wanted) => format!("{name} has {there} of {wanted} containers"),
            };
            found.push(Finding { kind: Kind::Missing, name: name.clone(), by_person: false, what });
        }
        let restart = services.get(name.as_str()).map_or("no", Service::restart);
        let of_containers =
            containers.iter().flat_map(|c| differences(c, expected.may_end, restart, (release, seen.model_file)));
        found.extend(of_containers);
    }
    for key in seen.networks_gone {
        let what = format!("the network {key} is gone");
        found.push(Finding { kind: Kind::Network, name: key.clone(), by_person: false, what });
    }
    for (path, wrong) in seen.files {
        let what = format!("{path} {wrong}");
        found.push(Finding { kind: Kind::File, name: path.clone(), by_person: true, what });
    }
    found.sort();
    // One line for a service and kind, however many replicas it has.
    found.dedup_by(|a, b| (a.kind, &a.name) == (b.kind, &b.name));
    found
}

fn differences(
    container: &Standing,
    may_end: bool,
    restart: &str,
    (release, model_file): (&Release, &str),
) -> Vec<Finding> {
    let finding = |kind, by_person, what: String| Finding { kind, name: container.service.clone(), by_person, what };
    let mut found = Vec::new();
    let name = &container.name;
    match container.activity {
        Activity::Running | Activity::Restarting => {}
        Activity::Exited(0) if may_end && !container.stopped_by_person => {}
        Activity::Paused => found.push(finding(Kind::Stopped, true, format!("{name} is paused"))),
        Activity::Created => found.push(finding(Kind::Stopped, false, format!("{name} was never started"))),
        Activity::Exited(code) => {
            // The engine starts such a container again, whatever its exit code, unless somebody stopped it.
            let by_person = container.stopped_by_person || matches!(restart, "always" | "unless-stopped");
            let who = if by_person { " by hand" } else { "" };
            found.push(finding(Kind::Stopped, by_person, format!("{name} was stopped{who} (exit code {code})")));
        }
    }
    if let Some(wanted) = release.images.get(&container.service)
        && wanted.id != container.image
    {
        let what = format!("{name} runs another image than {} of its release", wanted.reference);
        found.push(finding(Kind::Image, true, what));
    }
    // What was taken over was made from other files, and is what the release wants all the same.
    let made_from = container.made_from.as_deref().filter(|_| !release.has_adopted(&container.id));
    if let Some(other) = made_from.filter(|made_from| *made_from != model_file) {
        found.push(finding(Kind::Config, true, format!("{name} was made by hand from {other}")));
    }
    found
}

impl Finding {
    /// Whether the agent puts it back.
    pub fn is_healed(&self, mode: Mode) -> bool {
        mode == Mode::Heal && !self.by_person && matches!(self.kind, Kind::Missing | Kind::Stopped | Kind::Network)
    }

    /// Whether it is the same difference as another, however it is worded.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.kind, &self.name) == (other.kind, &other.name)
    }
}

/// What is new in `found` and was not `known`; each is told once.
pub fn news<'f>(known: &[Finding], found: &'f [Finding]) -> Vec<&'f Finding> {
    found.iter().filter(|f| !known.iter().any(|k| k.is_same(f))).collect()
}

/// The services that are made anew to put findings back: those that are missing or stopped, those on a network that
/// is gone, and what shares something with one of them.
pub fn services_to_heal(model: &Model, findings: &[Finding], mode: Mode) -> BTreeSet<String> {
    let services = model.services();
    let mut chosen = BTreeSet::new();
    for finding in findings.iter().filter(|f| f.is_healed(mode)) {
        if finding.kind == Kind::Network {
            let on_it = services.iter().filter(|(_, service)| service.networks().contains(finding.name.as_str()));
            chosen.extend(on_it.map(|(name, _)| (*name).to_owned()));
        } else {
            chosen.insert(finding.name.clone());
        }
    }
    let by_person = |name: &str| findings.iter().any(|f| f.by_person && f.kind == Kind::Stopped && f.name == name);
    loop {
        let also: Vec<String> = services
            .iter()
            .filter(|(name, _)| !chosen.contains(**name) && !by_person(name))
            .filter(|(_, service)| service.shares_with().iter().any(|other| chosen.contains(*other)))
            .map(|(name, _)| (*name).to_owned())
            .collect();
        if also.is_empty() {
            return chosen;
        }
        chosen.extend(also);
    }
}

/// What is told of new findings: what was found, and what happens now.
pub fn words(news: &[&Finding], mode: Mode) -> String {
    let what: Vec<&str> = news.iter().map(|f| f.what.as_str()).collect();
    let what = what.join("; ");
    let left: Vec<&&Finding> = news.iter().filter(|f| !f.is_healed(mode)).collect();
    let next = if left.is_empty() {
        "the agent puts it back"
    } else if left.iter().any(|f| f.kind == Kind::File) {
        "bring the change into the repository or undo it: a commit that changes this file will not overwrite it"
    } else if left.iter().all(|f| f.kind == Kind::Stopped) {
        "it is left alone; `docker start` ends it, or a commit without the service"
    } else {
        "it is left alone; `evenkeel sync` or a commit puts the release's own back"
    };
    format!("{what}; {next}")
}

/// How long to wait after so many tries to put something back.
pub fn pause(tries: u32) -> Duration {
    let doubled = 2_u32.checked_pow(tries.saturating_sub(1)).and_then(|factor| FIRST_PAUSE.checked_mul(factor));
    doubled.map_or(LONGEST_PAUSE, |pause| pause.min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests;
