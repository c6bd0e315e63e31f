//! How a service is updated: its `x-evenkeel: update` and `overlap`, and what keeps its new containers from being started while
//! the old ones run.

use std::{collections::BTreeSet, time::Duration};

use evenkeel_layout::{duration, problem::Problem};
use serde_json::Value;

use crate::model::{Model, Service};

/// How long old and new answer together unless the service says otherwise.
const OVERLAP: Duration = Duration::from_secs(5);
/// The least and the most that a service may say.
const LEAST_OVERLAP: Duration = Duration::from_secs(1);
const MOST_OVERLAP: Duration = Duration::from_secs(10 * 60);
/// The word for it.
const START_FIRST: &str = "start-first";
/// The word for how it is done otherwise.
const RECREATE: &str = "recreate";
/// What a service may say of a network so that it can leave it and come back: the rest would be lost.
const PORTABLE: [&str; 2] = ["aliases", "priority"];

/// Whether a service asks that its new containers are started before the old ones are stopped.
pub fn wants_start_first(service: Service<'_>) -> bool {
    service.said("update").as_str() == Some(START_FIRST)
}

/// How long old and new answer together, and then how long the old ones stay for those who still know their addresses.
pub fn overlap(service: Service<'_>) -> Duration {
    read_overlap(service.said("overlap")).unwrap_or(OVERLAP)
}

fn read_overlap(said: &Value) -> Option<Duration> {
    let found = duration::parse(said.as_str()?).ok()?;
    (LEAST_OVERLAP..=MOST_OVERLAP).contains(&found).then_some(found)
}

/// What is wrong with what services say of their updates. Each message begins with the keys.
pub fn problems(model: &Model) -> Vec<Problem> {
    let mut found = Vec::new();
    for (name, service) in model.services() {
        let (update, overlap) = (service.said("update"), service.said("overlap"));
        if !update.is_null() && ![Some(START_FIRST), Some(RECREATE)].contains(&update.as_str()) {
            let message = format!("services.{name}.x-evenkeel.update is neither {START_FIRST} nor {RECREATE}");
            found.push(Problem::error("x-evenkeel.value", message, "write one of them, or remove the key"));
        }
        if !overlap.is_null() && read_overlap(overlap).is_none() {
            let message = format!("services.{name}.x-evenkeel.overlap is not between 1s and 10m");
            found.push(Problem::error("x-evenkeel.value", message, "write a whole number and a unit: `5s`"));
        }
    }
    found
}

/// What keeps two generations of a service's containers from running side by side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// The key of the service that says it.
    pub key: &'static str,
    /// What it is, after the service's name.
    pub why: String,
}

/// The first of what stands in the way of starting a service first, as far as the model tells.
pub fn obstacle(model: &Model, name: &str) -> Option<Obstacle> {
    let service = model.service(name)?;
    let found = |key, why: &str| Some(Obstacle { key, why: why.to_owned() });
    let value = service.value();
    let said = |key: &str| value[key].as_str().filter(|text| !text.is_empty());
    let list = |key: &str| value[key].as_array().into_iter().flatten();
    if list("ports").any(|port| !port["published"].is_null()) {
        return found("ports", "publishes a port of the server, which only one container can have");
    }
    if said("container_name").is_some() {
        return found("container_name", "has a name of its own, which only one container can have");
    }
    for key in ["network_mode", "pid", "ipc"] {
        let shared = said(key)
            .filter(|mode| *mode == "host" || ["service:", "container:"].iter().any(|prefix| mode.starts_with(prefix)));
        if let Some(mode) = shared {
            return found(key, &format!("shares a namespace (`{key}: {}`)", mode.split(':').next().unwrap_or(mode)));
        }
    }
    if list("volumes_from").next().is_some() {
        return found("volumes_from", "uses the volumes of another container");
    }
    if let Some(target) = service.anonymous_volumes().first() {
        return found(
            "volumes",
            &format!("has a volume without a name at {target}, which would stay with the old one"),
        );
    }
    if let Some(other) = model.services().into_iter().find(|(_, other)| other.shares_with().contains(name)) {
        return found("x-evenkeel", &format!("is what {} goes along with, which is made anew with it", other.0));
    }
    let waits = |other: &Service<'_>| other.depends_on().get(name) == Some(&"service_completed_successfully");
    if model.services().values().any(waits) {
        return found("x-evenkeel", "is meant to end: others wait for that");
    }
    if !value["pre_stop"].is_null() {
        return found("pre_stop", "has a hook that runs before it is stopped, which only Compose runs");
    }
    of_networks(model, value)
}

/// A network that a container could not leave and come back to as it was.
fn of_networks(model: &Model, service: &Value) -> Option<Obstacle> {
    let found = |key, why: String| Some(Obstacle { key, why });
    for key in ["links", "external_links"] {
        if service[key].as_array().is_some_and(|links| !links.is_empty()) {
            return found(key, format!("has `{key}`, which tie it to the containers that stand"));
        }
    }
    if !service["mac_address"].is_null() {
        return found("mac_address", "has an address of its own, which only one container can have".to_owned());
    }
    let definitions = model.section("networks");
    for (key, attached) in service["networks"].as_object().into_iter().flatten() {
        let name = definitions.get(key.as_str()).and_then(|network| network["name"].as_str()).unwrap_or(key);
        if ["host", "none"].contains(&name) {
            return found("networks", format!("is on the network {name}, where nothing has a name"));
        }
        let special = attached
            .as_object()
            .into_iter()
            .flatten()
            .find(|(key, value)| !PORTABLE.contains(&key.as_str()) && !value.is_null());
        if let Some((what, _)) = special {
            return found("networks", format!("has `{what}` on the network {key}, which only one container can have"));
        }
    }
    None
}

/// The names by which a service is found on each of its networks, by the engine's name of the network.
pub fn aliases<'m>(model: &'m Model, name: &'m str) -> Vec<(&'m str, BTreeSet<&'m str>)> {
    let Some(service) = model.service(name) else { return Vec::new() };
    let definitions = model.section("networks");
    let attached = service.value()["networks"].as_object().into_iter().flatten();
    let named = |key: &'m String| definitions.get(key.as_str()).and_then(|network| network["name"].as_str());
    attached
        .map(|(key, attached)| {
            let stated = attached["aliases"].as_array().into_iter().flatten().filter_map(Value::as_str);
            (named(key).unwrap_or(key), stated.chain([name]).collect())
        })
        .collect()
}

/// What the name of a network ends with on which a new container waits instead of one that it cannot leave before it is started.
pub const APART: &str = "-evenkeel-apart";

/// The model as a service's new containers are made from, and which of the engine's networks stand in for which. Compose puts a
/// container on a second network that is external by that network's id, and the engine lets it leave only by the name. `None`: there
/// is no such network. The service itself is the same, and so is what Compose remembers of it.
pub fn apart(model: &Model, name: &str) -> Option<(Model, Vec<(String, String)>)> {
    let attached = model.service(name)?.value()["networks"].as_object()?;
    let priority = |key: &str| attached[key]["priority"].as_i64().unwrap_or(0);
    let mut keys: Vec<&String> = attached.keys().collect();
    keys.sort_by_key(|key| (-priority(key), key.as_str()));
    let definitions = model.section("networks");
    let external = keys.into_iter().skip(1).filter_map(|key| {
        let network = definitions.get(key.as_str()).filter(|network| network["external"].as_bool() == Some(true))?;
        Some((key, network["name"].as_str().unwrap_or(key)))
    });
    let project = model.value()["name"].as_str().unwrap_or_default();
    let mut changed = model.clone();
    let mut stand_ins = Vec::new();
    for (key, real) in external {
        let stand_in = format!("{project}_{key}{APART}");
        changed = changed.with_network(key, &stand_in);
        stand_ins.push((stand_in, real.to_owned()));
    }
    (!stand_ins.is_empty()).then_some((changed, stand_ins))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(service: &str) -> Model {
        Model::parse(&format!(
            r#"{{"name":"p","services":{{"web":{service},"db":{{"networks":{{"default":null}}}}}},
                "networks":{{"default":{{"name":"p_default"}},"front":{{"name":"front","external":true}}}}}}"#
        ))
        .unwrap()
    }

    #[test]
    fn reads_what_a_service_says() {
        for (said, wants, ms) in [
            (r#"{"update":"start-first"}"#, true, 5000),
            (r#"{"update":"start-first","overlap":"90s"}"#, true, 90_000),
            (r#"{"update":"recreate","overlap":"1s"}"#, false, 1000),
            ("null", false, 5000),
        ] {
            let model = model(&format!(r#"{{"x-evenkeel":{said}}}"#));
            assert_eq!(problems(&model), [], "{said}");
            let service = model.service("web").unwrap();
            assert_eq!((wants_start_first(service), overlap(service)), (wants, Duration::from_millis(ms)), "{said}");
        }
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        for (said, place) in [
            (r#"{"update":"first"}"#, "services.web.x-evenkeel.update "),
            (r#"{"update":true}"#, "services.web.x-evenkeel.update "),
            (r#"{"overlap":"5"}"#, "services.web.x-evenkeel.overlap "),
            (r#"{"overlap":5}"#, "services.web.x-evenkeel.overlap "),
            (r#"{"overlap":"500ms"}"#, "services.web.x-evenkeel.overlap "),
            (r#"{"overlap":"1h"}"#, "services.web.x-evenkeel.overlap "),
        ] {
            let found = problems(&model(&format!(r#"{{"x-evenkeel":{said}}}"#)));
            assert!(found.len() == 1 && found[0].message.starts_with(place), "{said}: {found:?}");
        }
    }

    #[test]
    fn knows_what_two_generations_cannot_share() {
        for (service, key) in [
            (r#"{"ports":[{"target":80,"published":"8080"}]}"#, "ports"),
            (r#"{"container_name":"web"}"#, "container_name"),
            (r#"{"network_mode":"host"}"#, "network_mode"),
            (r#"{"network_mode":"service:db"}"#, "network_mode"),
            (r#"{"pid":"host"}"#, "pid"),
            (r#"{"ipc":"container:x"}"#, "ipc"),
            (r#"{"volumes_from":["db"]}"#, "volumes_from"),
            (r#"{"volumes":[{"type":"volume","target":"/data"}]}"#, "volumes"),
            (r#"{"pre_stop":[{"command":"x"}]}"#, "pre_stop"),
            (r#"{"links":["db:x"]}"#, "links"),
            (r#"{"mac_address":"02:42:ac:11:65:43"}"#, "mac_address"),
            (r#"{"networks":{"default":{"ipv4_address":"10.0.0.9"}}}"#, "networks"),
            (r#"{"networks":{"default":{"driver_opts":{"a":"b"}}}}"#, "networks"),
        ] {
            let found = obstacle(&model(service), "web").unwrap_or_else(|| panic!("{service} can be started first"));
            assert_eq!(found.key, key, "{found:?}");
        }
        for service in [
            r#"{"networks":{"default":null,"front":{"aliases":["www"],"priority":10}}}"#,
            r#"{"ports":[{"target":80}],"network_mode":"bridge","ipc":"shareable"}"#,
            r#"{"volumes":[{"type":"volume","source":"data","target":"/data"}],"hostname":"web"}"#,
        ] {
            assert_eq!(obstacle(&model(service), "web"), None, "{service}");
        }
    }

    #[test]
    fn one_that_others_go_along_with_or_wait_for_to_end_is_no_candidate() {
        for other in [
            r#"{"network_mode":"service:web"}"#,
            r#"{"volumes_from":["web:ro"]}"#,
            r#"{"depends_on":{"web":{"condition":"service_started","restart":true}}}"#,
            r#"{"depends_on":{"web":{"condition":"service_completed_successfully"}}}"#,
        ] {
            let model = Model::parse(&format!(r#"{{"services":{{"web":{{}},"other":{other}}}}}"#)).unwrap();
            assert_eq!(obstacle(&model, "web").map(|found| found.key), Some("x-evenkeel"), "{other}");
        }
    }

    #[test]
    fn is_found_by_its_own_name_and_the_stated_ones() {
        let model = model(r#"{"networks":{"default":null,"front":{"aliases":["www"]}}}"#);
        let found = aliases(&model, "web");
        assert_eq!(found, [("p_default", BTreeSet::from(["web"])), ("front", BTreeSet::from(["web", "www"]))]);
    }

    #[test]
    fn waits_apart_where_a_second_network_is_not_the_projects_own() {
        let of = |service: &str| {
            let stand_ins = apart(&model(service), "web").map(|(changed, stand_ins)| {
                assert_eq!(changed.service("web").unwrap().value(), model(service).service("web").unwrap().value());
                let names = changed.section("networks");
                let is_own = |(apart, _): &(String, String)| {
                    names.values().any(|network| network["name"] == apart.as_str() && network["external"].is_null())
                };
                assert!(stand_ins.iter().all(is_own));
                stand_ins
            });
            stand_ins.unwrap_or_default()
        };
        let expected = [("p_front-evenkeel-apart".to_owned(), "front".to_owned())];
        assert_eq!(of(r#"{"networks":{"default":null,"front":null}}"#), expected);
        assert_eq!(of(r#"{"networks":{"front":{"priority":1},"default":null}}"#), []);
        assert_eq!(of(r#"{"networks":{"front":null}}"#), []);
        assert_eq!(of(r#"{"networks":{"default":null}}"#), []);
    }
}
