//! Where a container is reached, and what it shares with others.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    Difference,
    compare::Pair,
    value::{is_nothing, set, text, texts},
};
use crate::change::WhyKind;

/// Keys that are compared here.
pub const KEYS: [&str; 8] = ["networks", "network_mode", "ports", "expose", "extra_hosts", "links", "ipc", "pid"];
/// What a service may say of one network and is compared, or changes nothing for a container that stands.
const OF_NETWORK: [&str; 6] = ["aliases", "ipv4_address", "ipv6_address", "priority", "gw_priority", "mac_address"];

/// Where the container is not reached, or does not reach others, as its service says.
pub fn differences(pair: &Pair<'_>) -> Vec<Difference> {
    let mut found = ports(pair);
    if !is_exposed(pair) {
        found.push(Difference::new(WhyKind::Port, "expose"));
    }
    if is_nothing(&pair.service["network_mode"]) {
        found.extend(networks(pair));
    } else if !is_mode(pair, "network_mode", "NetworkMode") {
        found.push(Difference::new(WhyKind::Network, "network_mode"));
    }
    for (key, name) in [("ipc", "IpcMode"), ("pid", "PidMode")] {
        let is_own = matches!(pair.host(name).as_str(), None | Some("" | "private" | "shareable"));
        let is_same = if is_nothing(&pair.service[key]) { is_own } else { is_mode(pair, key, name) };
        if !is_same {
            found.push(Difference::new(WhyKind::Other, key));
        }
    }
    if hosts(&pair.service["extra_hosts"]) != hosts(pair.host("ExtraHosts")) {
        found.push(Difference::new(WhyKind::Other, "extra_hosts"));
    }
    if !is_linked(pair) {
        found.push(Difference::new(WhyKind::Network, "links"));
    }
    found
}

/// `service:x` is `container:ID` for the engine.
fn is_mode(pair: &Pair<'_>, key: &str, name: &str) -> bool {
    let (Some(wanted), Some(has)) = (text(&pair.service[key]), text(pair.host(name))) else { return false };
    match (wanted.strip_prefix("service:"), has.strip_prefix("container:")) {
        (Some(service), Some(id)) => pair.is_of(service, id),
        (Some(_), None) => false,
        (None, _) => wanted == has,
    }
}

/// A published port: address, port of the server, port and protocol of the container.
type Port = (String, String, String);

fn ports(pair: &Pair<'_>) -> Vec<Difference> {
    let wanted = pair.service["ports"].as_array().into_iter().flatten().filter_map(|port| {
        let protocol = text(&port["protocol"]).unwrap_or_else(|| "tcp".to_owned());
        let target = format!("{}/{protocol}", text(&port["target"])?);
        Some((text(&port["host_ip"]).unwrap_or_default(), text(&port["published"]).unwrap_or_default(), target))
    });
    let wanted: BTreeSet<Port> = wanted.collect();
    let bindings = pair.host("PortBindings").as_object().into_iter().flatten();
    let has = bindings.flat_map(|(target, hosts)| {
        let one = |host: &Value| {
            let address = text(&host["HostIp"]).unwrap_or_default();
            (address, text(&host["HostPort"]).unwrap_or_default(), target.clone())
        };
        hosts.as_array().into_iter().flatten().map(one).collect::<Vec<_>>()
    });
    let has: BTreeSet<Port> = has.collect();
    let shown = |(address, published, target): &Port| match (address.as_str(), published.as_str()) {
        ("", "") => target.clone(),
        ("", published) => format!("{published}:{target}"),
        (address, published) => format!("{address}:{published}:{target}"),
    };
    let lacking = wanted.difference(&has).map(|port| {
        let wanted = shown(port);
        Difference::new(WhyKind::Port, wanted.clone()).between(Some("not published".to_owned()), Some(wanted))
    });
    let extra = has.difference(&wanted).map(|port| {
        let found = shown(port);
        Difference::new(WhyKind::Port, found.clone()).between(Some(found), Some("not published".to_owned()))
    });
    lacking.chain(extra).collect()
}

/// What is exposed beyond what the service says is the image's.
fn is_exposed(pair: &Pair<'_>) -> bool {
    let with_protocol = |port: String| if port.contains('/') { port } else { format!("{port}/tcp") };
    let keys = |value: &Value| -> BTreeSet<String> {
        value.as_object().into_iter().flatten().map(|(port, _)| with_protocol(port.clone())).collect()
    };
    let stated: BTreeSet<String> = set(&pair.service["expose"]).into_iter().map(with_protocol).collect();
    let has = keys(pair.config("ExposedPorts"));
    if stated.iter().any(|port| port.contains('-')) {
        return true; // a range changes nothing but what is told
    }
    let mut known = keys(&pair.found.image["ExposedPorts"]);
    let ports = pair.service["ports"].as_array().into_iter().flatten();
    known.extend(ports.filter_map(|port| {
        let protocol = text(&port["protocol"]).unwrap_or_else(|| "tcp".to_owned());
        Some(format!("{}/{protocol}", text(&port["target"])?))
    }));
    stated.is_subset(&has) && has.iter().all(|port| stated.contains(port) || known.contains(port))
}

fn networks(pair: &Pair<'_>) -> Vec<Difference> {
    let sections = pair.wanted.model.section("networks");
    let name_of = |key: &str| {
        let name = sections.get(key).and_then(|network| network["name"].as_str());
        name.map_or_else(|| format!("{}_{key}", pair.wanted.project), str::to_owned)
    };
    let none = serde_json::Map::from_iter([("default".to_owned(), Value::Null)]);
    let stated = pair.service["networks"].as_object().filter(|stated| !stated.is_empty()).unwrap_or(&none);
    let has = &pair.found.inspected["NetworkSettings"]["Networks"];
    let mut found = Vec::new();
    for (key, said) in stated {
        let name = name_of(key);
        let endpoint = has.get(&name);
        if !endpoint.is_some_and(|endpoint| is_endpoint(pair, said, endpoint)) {
            let there = if endpoint.is_some() { "in another way" } else { "not connected" };
            let difference = Difference::new(WhyKind::Network, key.as_str());
            found.push(difference.between(Some(there.to_owned()), Some(name)));
        }
    }
    let wanted: BTreeSet<String> = stated.keys().map(|key| name_of(key)).collect();
    for (name, _) in has.as_object().into_iter().flatten().filter(|(name, _)| !wanted.contains(*name)) {
        let difference = Difference::new(WhyKind::Network, name.as_str());
        found.push(difference.between(Some(name.clone()), Some("not connected".to_owned())));
    }
    found
}

/// Whether a container is on a network as its service says: under which names, with which addresses.
fn is_endpoint(pair: &Pair<'_>, said: &Value, endpoint: &Value) -> bool {
    let aliases = set(&said["aliases"]);
    let names = set(&endpoint["Aliases"]);
    let short = pair.found.id.get(..12).unwrap_or_default();
    let own = [pair.name, pair.found.name.as_str(), short];
    let by_hand = names.iter().any(|name| !aliases.contains(name) && !own.contains(&name.as_str()));
    let address = |key: &str, name: &str| {
        let stated = text(&said[key]);
        stated == text(&endpoint["IPAMConfig"][name])
    };
    let unknown = said.as_object().into_iter().flatten();
    let mut unknown = unknown.filter(|(key, value)| !OF_NETWORK.contains(&key.as_str()) && !is_nothing(value));
    let mac = text(&said["mac_address"]);
    aliases.is_subset(&names)
        && !by_hand
        && address("ipv4_address", "IPv4Address")
        && address("ipv6_address", "IPv6Address")
        && (mac.is_none() || mac == text(&endpoint["MacAddress"]))
        && unknown.next().is_none()
}

/// `host=address` and `host:address` mean the same.
fn hosts(value: &Value) -> BTreeSet<(String, String)> {
    let split = |text: String| text.split_once(['=', ':']).map(|(host, address)| (host.to_owned(), address.to_owned()));
    match value {
        Value::Object(map) => {
            map.iter().flat_map(|(host, addresses)| texts(addresses).into_iter().map(|a| (host.clone(), a))).collect()
        }
        list => texts(list).into_iter().filter_map(split).collect(),
    }
}

/// Each stated link is a name under which the container reaches another one.
fn is_linked(pair: &Pair<'_>) -> bool {
    let stated = texts(&pair.service["links"]);
    let endpoints = pair.found.inspected["NetworkSettings"]["Networks"].as_object().into_iter().flatten();
    let mut has: Vec<String> = endpoints.flat_map(|(_, endpoint)| texts(&endpoint["Links"])).collect();
    has.extend(texts(pair.host("Links")));
    stated.iter().all(|link| {
        let alias = link.rsplit_once(':').map_or(link.as_str(), |(_, alias)| alias);
        has.iter().any(|link| link.rsplit_once([':', '/']).is_some_and(|(_, name)| name == alias))
    })
}
