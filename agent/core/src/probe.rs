//! What the gate tries besides healthchecks: the `x-evenkeel: probes` of a service, read from the rendered model.

use std::{fmt, time::Duration};

use evenkeel_layout::problem::Problem;
use serde_json::Value;

use crate::{
    model::{Model, Service},
    said::{Limits, MAX_LENGTH, Wrong, only, time, unescaped, words},
};

/// How long a probe waits for its answer unless it says otherwise.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long a probe may wait at least and at most.
const TIMEOUTS: Limits = (Duration::from_millis(100), Duration::from_secs(60), "100ms and 60s");
/// Most probes of one service.
const MAX_PROBES: usize = 10;

/// What is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// A GET of a path, with the status that is good; `None`: any from 200 to 399.
    Http {
        /// The container's port.
        port: u16,
        /// Begins with a slash.
        path: String,
        /// The one status that is good.
        status: Option<u16>,
    },
    /// A connection to the container's port.
    Tcp {
        /// The container's port.
        port: u16,
    },
    /// A command in the container, which must end with 0.
    Command(Vec<String>),
}

/// One probe: asked of each container of its service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What is tried.
    pub ask: Ask,
    /// How long its answer may take.
    pub timeout: Duration,
}

/// Its kind and what tells it from others. Not the rest of a command and not a path's query: passwords are handed over there.
impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.ask {
            Ask::Http { port, path, .. } => {
                let path = path.split(['?', '#']).next().unwrap_or_default();
                write!(f, "http {port}{path}")
            }
            Ask::Tcp { port } => write!(f, "tcp {port}"),
            Ask::Command(words) => write!(f, "command {}", words.first().map(String::as_str).unwrap_or_default()),
        }
    }
}

/// The probes of a service. What [`problems`] refuses is left out.
pub fn probes(service: Service<'_>) -> Vec<Probe> {
    let list = service.said("probes").as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().take(MAX_PROBES).filter_map(|item| read(item).ok()).collect()
}

/// What is wrong with the probes of a model. Each message begins with the keys.
pub fn problems(model: &Model) -> Vec<Problem> {
    let mut found = Vec::new();
    for (name, service) in model.services() {
        let place = format!("services.{name}.x-evenkeel.probes");
        let said = service.said("probes");
        if said.is_null() {
            continue;
        }
        let Some(list) = said.as_array() else {
            found.push(Wrong::value("is not a list", "write a list of probes").problem(&place));
            continue;
        };
        if list.len() > MAX_PROBES {
            let why = format!("has more than {MAX_PROBES} probes");
            found.push(Wrong::value(&why, "let one command in the container try several things").problem(&place));
        }
        for (index, item) in list.iter().enumerate() {
            if let Err(wrong) = read(item) {
                found.push(wrong.problem(&format!("{place} (probe {})", index + 1)));
            }
        }
    }
    found
}

fn read(item: &Value) -> Result<Probe, Wrong> {
    only(item, &["command", "http", "tcp", "timeout"])?;
    let kinds = ["http", "tcp", "command"].map(|kind| (kind, &item[kind]));
    let mut stated = kinds.into_iter().filter(|(_, value)| !value.is_null());
    let help = "write one of `http: {port, path, status}`, `tcp: {port}`, `command: [word, …]`";
    let (Some((kind, value)), None) = (stated.next(), stated.next()) else {
        return Err(Wrong::value("says not exactly one of http, tcp and command", help));
    };
    let ask = match kind {
        "http" => {
            only(value, &["path", "port", "status"])?;
            Ask::Http { port: port(value)?, path: path(value)?, status: status(value)? }
        }
        "tcp" => {
            only(value, &["port"])?;
            Ask::Tcp { port: port(value)? }
        }
        _ => Ask::Command(words(value, "command: [pg_isready, -U, app]")?),
    };
    Ok(Probe { ask, timeout: time(&item["timeout"], TIMEOUTS)?.unwrap_or(TIMEOUT) })
}

/// A whole number, also as text: a variable's value is one.
fn number(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|n| u16::try_from(n).ok()).or_else(|| value.as_str()?.parse().ok())
}

fn port(value: &Value) -> Result<u16, Wrong> {
    let found = number(&value["port"]).filter(|port| *port > 0);
    found.ok_or_else(|| {
        Wrong::value("has no port from 1 to 65535", "write the port that the container listens on, not a published one")
    })
}

fn path(value: &Value) -> Result<String, Wrong> {
    if value["path"].is_null() {
        return Ok("/".to_owned());
    }
    let found = value["path"].as_str().filter(|path| path.starts_with('/') && path.len() <= MAX_LENGTH);
    let is_plain = |path: &&str| path.bytes().all(|b| b.is_ascii_graphic());
    let found = found.filter(is_plain).map(unescaped);
    found.ok_or_else(|| Wrong::value("has a path that is none of a URL", "begin it with a slash: `/health`"))
}

fn status(value: &Value) -> Result<Option<u16>, Wrong> {
    if value["status"].is_null() {
        return Ok(None);
    }
    let found = number(&value["status"]).filter(|status| (100..600).contains(status));
    found.map(Some).ok_or_else(|| {
        Wrong::value(
            "has a status that HTTP does not know",
            "write one from 100 to 599, or leave it out for 200 to 399",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(probes: &str) -> Model {
        Model::parse(&format!(r#"{{"services":{{"web":{{"x-evenkeel":{{"probes":{probes}}}}}}}}}"#)).unwrap()
    }

    #[test]
    fn reads_each_kind_of_probe() {
        let model = model(
            r#"[{"http":{"port":"8080","path":"/health?token=hunter2","status":204},"timeout":"2s"},{"http":{"port":80}},{"tcp":{"port":5432}},
                {"command":["sh","-c","test $$HOME"]}]"#,
        );
        assert_eq!(problems(&model), []);
        let found = probes(model.service("web").unwrap());
        let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["http 8080/health", "http 80/", "tcp 5432", "command sh"]);
        assert_eq!(found[3].ask, Ask::Command(["sh", "-c", "test $HOME"].map(str::to_owned).to_vec()));
        assert_eq!(found[0].timeout, Duration::from_secs(2));
        assert_eq!(found[0].ask, Ask::Http { port: 8080, path: "/health?token=hunter2".to_owned(), status: Some(204) });
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        for (probes, why) in [
            (r#"{"tcp":{"port":1}}"#, "is not a list"),
            (r#"["tcp"]"#, "(probe 1) is not a mapping"),
            (r#"[{"timeout":"2s"}]"#, "(probe 1) says not exactly one of http, tcp and command"),
            (r#"[{"tcp":{"port":1},"http":{"port":1}}]"#, "(probe 1) says not exactly one"),
            (r#"[{"tcp":{"port":1}},{"tpc":{"port":1}}]"#, "(probe 2) has the unknown key `tpc`"),
            (r#"[{"tcp":{"port":0}}]"#, "has no port"),
            (r#"[{"tcp":{"port":70000}}]"#, "has no port"),
            (r#"[{"http":{"port":80,"path":"health"}}]"#, "has a path"),
            (r#"[{"http":{"port":80,"path":"/a b"}}]"#, "has a path"),
            (r#"[{"http":{"port":80,"status":9}}]"#, "has a status"),
            (r#"[{"command":"true"}]"#, "has a command"),
            (r#"[{"command":[]}]"#, "has a command"),
            (r#"[{"command":["true"],"timeout":"1h"}]"#, "has a timeout"),
        ] {
            let found = problems(&model(probes));
            assert!(found.len() == 1 && found[0].message.contains(why), "{probes}: {found:?}");
            assert!(found[0].message.starts_with("services.web.x-evenkeel.probes "), "{found:?}");
        }
        assert_eq!(problems(&model("null")), []);
    }
}
