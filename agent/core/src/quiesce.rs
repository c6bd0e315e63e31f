//! How a service holds still while its data is saved: its `x-evenkeel: quiesce`, read from the rendered model.

use std::time::Duration;

use evenkeel_layout::{nearest, problem::Problem};
use serde_json::Value;

use crate::{
    model::{Model, Service},
    said::{Limits, Wrong, only, time, words},
};

/// How long a command may take unless the service says otherwise.
const TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// How long a command may take at least and at most.
const TIMEOUTS: Limits = (Duration::from_secs(1), Duration::from_secs(3600), "1s and 1h");
/// An example of a command.
const EXAMPLE: &str = "before: [sh, -c, \"pg_dump app > /backup/app.sql\"]";
/// What may be said in one word.
const WORDS: [&str; 2] = ["stop", "pause"];

/// In what way a service holds still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Quiesce {
    /// Its containers are stopped, and started afterwards.
    Stop,
    /// Its containers are frozen for as long as their healthchecks bear it.
    Pause,
    /// Commands in each of its containers, which runs on.
    Commands {
        /// What makes its data whole, such as a dump. If it fails, so does the backup.
        before: Vec<String>,
        /// What undoes that.
        after: Option<Vec<String>>,
        /// How long each may take.
        timeout: Duration,
    },
}

/// How a service holds still, if it says so. What [`problems`] refuses is left out.
pub fn quiesce(service: Service<'_>) -> Option<Quiesce> {
    let said = service.said("quiesce");
    if said.is_null() { None } else { read(said).ok() }
}

/// What is wrong with what the services of a model say. Each message begins with the keys.
pub fn problems(model: &Model) -> Vec<Problem> {
    let services = model.services();
    let said = services.iter().map(|(name, service)| (*name, service.said("quiesce")));
    said.filter(|(_, said)| !said.is_null())
        .filter_map(|(name, said)| {
            let wrong = match read(said) {
                Ok(Quiesce::Stop) => cannot_stop(model, name)?,
                Ok(Quiesce::Pause | Quiesce::Commands { .. }) => return None,
                Err(wrong) => wrong,
            };
            Some(wrong.problem(&format!("services.{name}.x-evenkeel.quiesce")))
        })
        .collect()
}

/// A container that is started again has a new network; who shared the old one is left with nothing.
fn cannot_stop(model: &Model, name: &str) -> Option<Wrong> {
    let namespace = format!("service:{name}");
    let cut_off =
        |service: &Service<'_>| ["network_mode", "ipc", "pid"].iter().any(|key| service.value()[key] == namespace);
    let (other, _) = model.services().into_iter().find(|(_, service)| cut_off(service))?;
    let why = format!("stops it, and {other} shares its namespaces: it would be cut off");
    Some(Wrong::value(&why, "say `pause`, or a command that makes the data whole"))
}

fn read(said: &Value) -> Result<Quiesce, Wrong> {
    match said.as_str() {
        Some("stop") => return Ok(Quiesce::Stop),
        Some("pause") => return Ok(Quiesce::Pause),
        Some(other) => {
            let help = match nearest(WORDS, other) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("write `stop`, `pause`, or `{{ {EXAMPLE} }}`"),
            };
            return Err(Wrong::value("is no way to hold still", &help));
        }
        None => only(said, &["after", "before", "timeout"])?,
    }
    if said["before"].is_null() {
        return Err(Wrong::value("has no command `before`", &format!("write `{EXAMPLE}`")));
    }
    let after =
        if said["after"].is_null() { None } else { Some(words(&said["after"], "after: [rm, /backup/app.sql]")?) };
    let timeout = time(&said["timeout"], TIMEOUTS)?.unwrap_or(TIMEOUT);
    Ok(Quiesce::Commands { before: words(&said["before"], EXAMPLE)?, after, timeout })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_share_a_network_with_is_not_stopped() {
        let text = r#"{"services":{"vpn":{"x-evenkeel":{"quiesce":"stop"}},"app":{"network_mode":"service:vpn"}}}"#;
        let found = problems(&Model::parse(text).unwrap());
        assert_eq!(found.len(), 1);
        assert!(found[0].message.contains("stops it, and app shares"), "{found:?}");
        let paused = text.replace("stop", "pause");
        assert_eq!(problems(&Model::parse(&paused).unwrap()), []);
    }

    fn model(quiesce: &str) -> Model {
        Model::parse(&format!(r#"{{"services":{{"db":{{"x-evenkeel":{{"quiesce":{quiesce}}}}}}}}}"#)).unwrap()
    }

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn reads_each_way_to_hold_still() {
        let seconds = Duration::from_secs;
        let commands = |before: &[&str], after: Option<&[&str]>, timeout| Quiesce::Commands {
            before: words(before),
            after: after.map(words),
            timeout,
        };
        for (said, want) in [
            (r#""stop""#, Quiesce::Stop),
            (r#""pause""#, Quiesce::Pause),
            (r#"{"before":["sh","-c","dump $$HOME"]}"#, commands(&["sh", "-c", "dump $HOME"], None, seconds(300))),
            (r#"{"before":["a"],"after":["b"],"timeout":"20m"}"#, commands(&["a"], Some(&["b"]), seconds(1200))),
        ] {
            let model = model(said);
            assert_eq!(problems(&model), [], "{said}");
            assert_eq!(quiesce(model.service("db").unwrap()), Some(want), "{said}");
        }
        assert_eq!(quiesce(model("null").service("db").unwrap()), None);
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        for (said, why, help) in [
            (r#""stopp""#, "is no way to hold still", "did you mean `stop`?"),
            ("true", "is not a mapping", "after, before, timeout"),
            ("{}", "has no command `before`", "pg_dump"),
            (r#"{"befor":["a"]}"#, "has the unknown key `befor`", "did you mean `before`?"),
            (r#"{"before":"a"}"#, "has a command that is not a list", "before: [sh"),
            (r#"{"before":["a"],"after":[]}"#, "has a command that is not a list", "after: [rm"),
            (r#"{"before":["a"],"timeout":"2h"}"#, "is not between 1s and 1h", "a unit"),
        ] {
            let model = model(said);
            let found = problems(&model);
            assert!(found.len() == 1 && found[0].message.contains(why), "{said}: {found:?}");
            assert!(found[0].message.starts_with("services.db.x-evenkeel.quiesce "), "{found:?}");
            assert!(found[0].help.contains(help), "{said}: {found:?}");
            assert_eq!(quiesce(model.service("db").unwrap()), None);
        }
    }
}
