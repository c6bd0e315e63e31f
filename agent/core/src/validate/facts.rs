//! What the rules look at: the stacks of one server, each as Compose has it and as it is written.

use evenkeel_layout::{
    name::StackName,
    problem::{Problem, Severity},
    yaml::Step,
};
use serde_json::Value;

use super::{
    catalogue::rule,
    images::Image,
    source::{At, Sources},
};
use crate::{
    model::{Model, Service},
    release::Candidate,
};

/// One stack.
pub struct StackFacts<'a> {
    /// Its name.
    pub stack: &'a StackName,
    /// What Compose makes of it.
    pub model: &'a Model,
    /// What is written.
    pub sources: &'a Sources,
    /// The stacks that it waits for.
    pub depends_on: &'a [StackName],
    /// The repository's files that its containers and builds see, sorted.
    pub files: Vec<&'a str>,
}

impl<'a> StackFacts<'a> {
    /// The facts of a candidate.
    pub fn of(candidate: &'a Candidate, sources: &'a Sources) -> Self {
        let files = candidate.files.keys().filter(|path| !candidate.passive.contains(path)).map(String::as_str);
        Self {
            stack: &candidate.stack,
            model: &candidate.model,
            sources,
            depends_on: &candidate.depends_on,
            files: files.collect(),
        }
    }

    /// A finding of this stack, with the severity and the remedy of its code.
    pub fn finding(&self, code: &str, message: String, at: Option<At>) -> Problem {
        let (severity, fix) = rule(code).map_or((Severity::Warning, ""), |rule| (rule.severity, rule.fix));
        let mut problem = Problem::warning(code, message, fix).in_stack(self.stack);
        problem.severity = severity;
        match at {
            Some((path, line)) => problem.at(path, line),
            None => problem,
        }
    }

    /// A finding of a service, at one of its keys.
    pub fn of_service(&self, code: &str, service: &str, key: &str, message: String) -> Problem {
        self.finding(code, message, self.sources.of_service(service, &[Step::Key(key)]))
    }

    /// The services with their images; none for an image that is not known here.
    pub fn services(&self) -> impl Iterator<Item = (&'a str, Service<'a>, Option<Image<'a>>)> {
        let services = self.model.services().into_iter();
        services.map(|(name, service)| {
            let reference = service.image().filter(|text| !text.is_empty());
            (name, service, reference.map(Image::parse))
        })
    }
}

/// A port that is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The address; `None` for all.
    pub address: Option<String>,
    /// First and last port on the server.
    pub published: (u16, u16),
    /// The container's port.
    pub target: u64,
    /// `tcp` or `udp`.
    pub protocol: String,
}

impl Port {
    /// Whether only the server itself reaches it.
    pub fn is_local(&self) -> bool {
        self.address.as_deref().is_some_and(|a| a.starts_with("127.") || a == "::1" || a == "localhost")
    }

    /// As people write it.
    pub fn shown(&self) -> String {
        let (first, last) = self.published;
        let ports = if first == last { first.to_string() } else { format!("{first}-{last}") };
        let ports = if self.protocol == "tcp" { ports } else { format!("{ports}/{}", self.protocol) };
        self.address.as_ref().map_or(ports.clone(), |address| format!("{address}:{ports}"))
    }

    /// Whether both want the same port of the server.
    pub fn collides(&self, other: &Self) -> bool {
        let addresses = match (&self.address, &other.address) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        let ports = self.published.0 <= other.published.1 && other.published.0 <= self.published.1;
        addresses && ports && self.protocol == other.protocol
    }

    /// Whether this is how the port is written.
    pub fn is_written(&self, text: &str) -> bool {
        let container = text.rsplit(':').next().unwrap_or(text).split('/').next().unwrap_or_default();
        // The long form is read as `target=80 published=8080`.
        let long = text.split(' ').find_map(|part| part.strip_prefix("target="));
        text.contains("udp") == (self.protocol == "udp")
            && long.unwrap_or(container) == self.target.to_string()
            && (text.contains(&self.published.0.to_string()) || text.contains('$') || text.contains('-'))
    }
}

/// The published ports of a service, without those that only the server can tell.
pub fn ports(facts: &StackFacts<'_>, name: &str, service: Service<'_>) -> Vec<Port> {
    let items = service.value()["ports"].as_array().into_iter().flatten();
    let written: Vec<String> = facts
        .sources
        .written(name, "ports")
        .into_iter()
        .flat_map(evenkeel_layout::yaml::Node::items)
        .map(super::source::text_of)
        .collect();
    let unset: Vec<&String> = written.iter().filter(|item| facts.sources.has_unset(item)).collect();
    items
        .filter_map(port)
        .filter(|port| unset.is_empty() || written.iter().any(|w| port.is_written(w) && !unset.contains(&w)))
        .collect()
}

fn port(value: &Value) -> Option<Port> {
    let text = |value: &Value| value.as_str().map(str::to_owned).or_else(|| value.as_u64().map(|n| n.to_string()));
    let published = text(&value["published"])?;
    let (first, last) = published.split_once('-').unwrap_or((&published, &published));
    let address = text(&value["host_ip"]).filter(|a| !matches!(a.as_str(), "" | "0.0.0.0" | "::" | "[::]" | "*"));
    Some(Port {
        address,
        published: (first.parse().ok().filter(|port| *port > 0)?, last.parse().ok()?),
        target: text(&value["target"])?.parse().ok()?,
        protocol: value["protocol"].as_str().unwrap_or("tcp").to_owned(),
    })
}
