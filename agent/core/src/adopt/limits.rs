//! What a container may do and use.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    Difference,
    compare::Pair,
    value::{is_nothing, mapping, number, set, text, texts},
};
use crate::change::WhyKind;

/// The engine's own size of `/dev/shm`, in bytes.
const SHM_BYTES: i64 = 64 * 1024 * 1024;

/// How a value is read on both sides.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Flag,
    Number,
    /// Minus one is as much as none.
    Limit,
    List,
    Set,
    Mapping,
    /// Capabilities go with or without `CAP_`.
    Capabilities,
}

/// A key of a service, and where the engine has it: in `HostConfig`, or in `Config`.
const ROWS: [(&str, &str, &str, Form); 32] = [
    ("privileged", "HostConfig", "Privileged", Form::Flag),
    ("read_only", "HostConfig", "ReadonlyRootfs", Form::Flag),
    ("init", "HostConfig", "Init", Form::Flag),
    ("oom_kill_disable", "HostConfig", "OomKillDisable", Form::Flag),
    ("tty", "Config", "Tty", Form::Flag),
    ("stdin_open", "Config", "OpenStdin", Form::Flag),
    ("domainname", "Config", "Domainname", Form::Text),
    ("uts", "HostConfig", "UTSMode", Form::Text),
    ("userns_mode", "HostConfig", "UsernsMode", Form::Text),
    ("cgroup_parent", "HostConfig", "CgroupParent", Form::Text),
    ("cpuset", "HostConfig", "CpusetCpus", Form::Text),
    ("cpu_shares", "HostConfig", "CpuShares", Form::Number),
    ("cpu_period", "HostConfig", "CpuPeriod", Form::Number),
    ("cpu_quota", "HostConfig", "CpuQuota", Form::Number),
    ("cpu_rt_period", "HostConfig", "CpuRealtimePeriod", Form::Number),
    ("cpu_rt_runtime", "HostConfig", "CpuRealtimeRuntime", Form::Number),
    ("cpu_count", "HostConfig", "CpuCount", Form::Number),
    ("cpu_percent", "HostConfig", "CpuPercent", Form::Number),
    ("oom_score_adj", "HostConfig", "OomScoreAdj", Form::Number),
    ("mem_swappiness", "HostConfig", "MemorySwappiness", Form::Limit),
    ("dns", "HostConfig", "Dns", Form::List),
    ("dns_search", "HostConfig", "DnsSearch", Form::List),
    ("dns_opt", "HostConfig", "DnsOptions", Form::List),
    ("device_cgroup_rules", "HostConfig", "DeviceCgroupRules", Form::List),
    ("group_add", "HostConfig", "GroupAdd", Form::Set),
    ("sysctls", "HostConfig", "Sysctls", Form::Mapping),
    ("storage_opt", "HostConfig", "StorageOpt", Form::Mapping),
    ("annotations", "HostConfig", "Annotations", Form::Mapping),
    ("cap_add", "HostConfig", "CapAdd", Form::Capabilities),
    ("cap_drop", "HostConfig", "CapDrop", Form::Capabilities),
    ("pids_limit", "HostConfig", "PidsLimit", Form::Limit),
    ("mem_reservation", "HostConfig", "MemoryReservation", Form::Number),
];

/// Keys that are compared here.
pub const KEYS: [&str; 43] = [
    "privileged",
    "read_only",
    "init",
    "oom_kill_disable",
    "tty",
    "stdin_open",
    "domainname",
    "uts",
    "userns_mode",
    "cgroup_parent",
    "cpuset",
    "cpu_shares",
    "cpu_period",
    "cpu_quota",
    "cpu_rt_period",
    "cpu_rt_runtime",
    "cpu_count",
    "cpu_percent",
    "oom_score_adj",
    "mem_swappiness",
    "dns",
    "dns_search",
    "dns_opt",
    "device_cgroup_rules",
    "group_add",
    "sysctls",
    "storage_opt",
    "annotations",
    "cap_add",
    "cap_drop",
    "pids_limit",
    "mem_reservation",
    "mem_limit",
    "memswap_limit",
    "cpus",
    "shm_size",
    "ulimits",
    "devices",
    "gpus",
    "security_opt",
    "logging",
    "runtime",
    "cgroup",
];

/// What of `HostConfig` is compared, here or elsewhere, or is the engine's own. All else must be nothing.
const HOST: [&str; 30] = [
    "Binds",
    "CgroupnsMode",
    "ConsoleSize",
    "DeviceRequests",
    "Devices",
    "ExtraHosts",
    "IpcMode",
    "Isolation",
    "Links",
    "LogConfig",
    "MaskedPaths",
    "Memory",
    "MemoryReservation",
    "MemorySwap",
    "MemorySwappiness",
    "Mounts",
    "NanoCpus",
    "NetworkMode",
    "PidMode",
    "PidsLimit",
    "PortBindings",
    "ReadonlyPaths",
    "RestartPolicy",
    "Runtime",
    "SecurityOpt",
    "ShmSize",
    "Tmpfs",
    "Ulimits",
    "VolumesFrom",
    "Init",
];

/// Whether a container has what its service says.
type Same = fn(&Pair<'_>) -> bool;

/// Where a container may do or use something else than its service says.
pub fn differences(pair: &Pair<'_>) -> Vec<Difference> {
    let mut keys: BTreeSet<&str> = BTreeSet::new();
    for (key, part, name, form) in ROWS {
        let limits = &pair.service["deploy"]["resources"];
        let stated = match key {
            "pids_limit" => or(&limits["limits"]["pids"], &pair.service[key]),
            "mem_reservation" => or(&limits["reservations"]["memory"], &pair.service[key]),
            _ => &pair.service[key],
        };
        if !is_same(form, stated, &pair.found.inspected[part][name]) {
            keys.insert(key);
        }
    }
    let others: [(&str, Same); 10] = [
        ("mem_limit", is_memory),
        ("memswap_limit", is_swap),
        ("cpus", are_cpus),
        ("shm_size", is_shm),
        ("ulimits", are_ulimits),
        ("devices", are_devices),
        ("gpus", are_requests),
        ("security_opt", is_security),
        ("logging", is_logging),
        ("runtime", is_runtime),
    ];
    keys.extend(others.iter().filter(|(_, is_same)| !is_same(pair)).map(|(key, _)| *key));
    let mut found: Vec<Difference> = keys.into_iter().map(|key| Difference::new(WhyKind::Other, key)).collect();
    found.extend(unsaid(pair));
    found
}

/// What the engine tells of the container and nothing here compares, beyond its defaults.
fn unsaid(pair: &Pair<'_>) -> Vec<Difference> {
    let is_known = |name: &str| HOST.contains(&name) || ROWS.iter().any(|(_, _, row, _)| *row == name);
    let told = pair.found.inspected["HostConfig"].as_object().into_iter().flatten();
    let unsaid = told.filter(|(name, value)| !is_known(name) && !is_nothing(value));
    unsaid.map(|(name, _)| Difference::new(WhyKind::Other, name.as_str())).collect()
}

fn or<'v>(first: &'v Value, second: &'v Value) -> &'v Value {
    if first.is_null() { second } else { first }
}

fn is_same(form: Form, stated: &Value, has: &Value) -> bool {
    let limit = |value: &Value| number(value).map(|limit| limit.max(0));
    let capabilities = |value: &Value| -> BTreeSet<String> {
        let upper = set(value).into_iter().map(|name| name.to_ascii_uppercase());
        upper.map(|name| name.strip_prefix("CAP_").unwrap_or(&name).to_owned()).collect()
    };
    match form {
        Form::Text => text(stated) == text(has),
        Form::Flag => stated.as_bool().unwrap_or(false) == has.as_bool().unwrap_or(false),
        Form::Number => number(stated) == number(has),
        Form::Limit => limit(stated) == limit(has),
        Form::List => texts(stated) == texts(has),
        Form::Set => set(stated) == set(has),
        Form::Mapping => mapping(stated) == mapping(has),
        Form::Capabilities => capabilities(stated) == capabilities(has),
    }
}

fn limit<'p>(pair: &'p Pair<'_>, key: &str, of_deploy: &str) -> &'p Value {
    or(&pair.service["deploy"]["resources"]["limits"][of_deploy], &pair.service[key])
}

fn is_memory(pair: &Pair<'_>) -> bool {
    number(limit(pair, "mem_limit", "memory")) == number(pair.host("Memory"))
}

/// Where it is not stated, the engine takes twice the memory. Without end, beside memory that has one, somebody said so.
fn is_swap(pair: &Pair<'_>) -> bool {
    let has = number(pair.host("MemorySwap")).unwrap_or(0);
    match number(&pair.service["memswap_limit"]) {
        Some(0) => {
            let memory = number(pair.host("Memory")).unwrap_or(0);
            let is_unlimited = has == 0 || (has < 0 && memory <= 0);
            is_unlimited || Some(has) == memory.checked_mul(2)
        }
        stated => stated == Some(has),
    }
}

fn are_cpus(pair: &Pair<'_>) -> bool {
    let wanted = match limit(pair, "cpus", "cpus") {
        Value::Number(cpus) => cpus.as_f64(),
        Value::String(cpus) => cpus.parse().ok(),
        _ => Some(0.0),
    };
    let has = number(pair.host("NanoCpus")).unwrap_or(0);
    // A difference of a nanosecond is one of rounding.
    wanted.is_some_and(|wanted| number_to_float(has).is_some_and(|has| (wanted * 1e9 - has).abs() <= 1.0))
}

fn number_to_float(number: i64) -> Option<f64> {
    serde_json::Number::from(number).as_f64()
}

fn is_shm(pair: &Pair<'_>) -> bool {
    let has = number(pair.host("ShmSize")).unwrap_or(0);
    match number(&pair.service["shm_size"]) {
        Some(0) => has == 0 || has == SHM_BYTES,
        stated => stated == Some(has),
    }
}

fn are_ulimits(pair: &Pair<'_>) -> bool {
    let wanted: BTreeSet<(String, i64, i64)> = pair.service["ulimits"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, limit)| {
            let one = |key: &str| if limit.is_object() { number(&limit[key]) } else { number(limit) };
            Some((name.clone(), one("soft")?, one("hard")?))
        })
        .collect();
    let has = pair.host("Ulimits").as_array().into_iter().flatten();
    let has = has.filter_map(|limit| Some((text(&limit["Name"])?, number(&limit["Soft"])?, number(&limit["Hard"])?)));
    wanted == has.collect()
}

fn are_devices(pair: &Pair<'_>) -> bool {
    let wanted = pair.service["devices"].as_array().into_iter().flatten().filter_map(|device| {
        if let Value::String(device) = device {
            let mut parts = device.split(':');
            let source = parts.next()?.to_owned();
            let target = parts.next().map_or_else(|| source.clone(), str::to_owned);
            return Some((source, target, parts.next().unwrap_or("rwm").to_owned()));
        }
        let source = text(&device["source"])?;
        let target = text(&device["target"]).unwrap_or_else(|| source.clone());
        Some((source, target, text(&device["permissions"]).unwrap_or_else(|| "rwm".to_owned())))
    });
    let has = pair.host("Devices").as_array().into_iter().flatten().filter_map(|device| {
        let permissions = text(&device["CgroupPermissions"]).unwrap_or_default();
        Some((text(&device["PathOnHost"])?, text(&device["PathInContainer"])?, permissions))
    });
    wanted.collect::<BTreeSet<_>>() == has.collect()
}

/// Devices that a driver gives, such as GPUs: driver, count, ids, capabilities.
type Request = (String, i64, BTreeSet<String>, BTreeSet<String>);

fn are_requests(pair: &Pair<'_>) -> bool {
    let wanted_one = |request: &Value, also: Option<&str>| -> Request {
        let count = match &request["count"] {
            Value::String(all) if all == "all" => -1,
            count => number(count).unwrap_or(0),
        };
        let mut capabilities = set(&request["capabilities"]);
        capabilities.extend(also.map(str::to_owned));
        (text(&request["driver"]).unwrap_or_default(), count, set(&request["device_ids"]), capabilities)
    };
    let reserved = pair.service["deploy"]["resources"]["reservations"]["devices"].as_array().into_iter().flatten();
    let gpus = pair.service["gpus"].as_array().into_iter().flatten();
    let wanted = reserved.map(|one| wanted_one(one, None)).chain(gpus.map(|one| wanted_one(one, Some("gpu"))));
    let has = pair.host("DeviceRequests").as_array().into_iter().flatten().map(|request| {
        let capabilities = request["Capabilities"].as_array().into_iter().flatten().flat_map(set).collect();
        let count = number(&request["Count"]).unwrap_or(0);
        (text(&request["Driver"]).unwrap_or_default(), count, set(&request["DeviceIDs"]), capabilities)
    });
    wanted.collect::<BTreeSet<Request>>() == has.collect()
}

/// `a:b` and `a=b` mean the same. A container that is privileged or shares the server's processes or memory gets
/// `label=disable` from the engine.
fn is_security(pair: &Pair<'_>) -> bool {
    let read = |value: &Value| -> BTreeSet<String> {
        let one = |option: String| match option.split_once([':', '=']) {
            Some(("no-new-privileges", "true")) | None => {
                option.split([':', '=']).next().unwrap_or_default().to_owned()
            }
            Some((name, value)) => format!("{name}={value}"),
        };
        set(value).into_iter().map(one).collect()
    };
    let mut wanted = read(&pair.service["security_opt"]);
    let mut has = read(pair.host("SecurityOpt"));
    let is_host = |name: &str| pair.host(name).as_str() == Some("host");
    let is_privileged = pair.host("Privileged").as_bool() == Some(true);
    if is_privileged || is_host("PidMode") || is_host("IpcMode") {
        has.retain(|option| option != "label=disable" || wanted.contains(option));
    }
    // The engine keeps no such option, but what became of it: lists of paths that are empty.
    let is_unconfined = wanted.remove("systempaths=unconfined");
    has.remove("systempaths=unconfined");
    wanted == has && (is_privileged || are_paths_hidden(pair) != is_unconfined)
}

/// Whether parts of `/proc` and `/sys` are hidden from the container or cannot be written, as the engine does by itself. Both
/// lists: one alone that is empty is nobody's default.
fn are_paths_hidden(pair: &Pair<'_>) -> bool {
    ["MaskedPaths", "ReadonlyPaths"].iter().all(|name| !texts(pair.host(name)).is_empty())
}

/// What is not stated has to be the engine's own. The options that its configuration gives to all containers are not known.
fn is_logging(pair: &Pair<'_>) -> bool {
    let (stated, has) = (&pair.service["logging"], pair.host("LogConfig"));
    let driver = text(&has["Type"]).unwrap_or_default();
    let same_driver = match (text(&stated["driver"]), text(&pair.found.engine["LoggingDriver"])) {
        (Some(stated), _) => stated == driver,
        (None, Some(default)) => driver.is_empty() || driver == default,
        (None, None) => ["", "json-file", "local", "journald"].contains(&driver.as_str()),
    };
    same_driver && mapping(&stated["options"]) == mapping(&has["Config"])
}

/// What is not stated has to be the engine's own: its usual runtime, and a control group of the container's own, unless the
/// server has control groups of the first version.
fn is_runtime(pair: &Pair<'_>) -> bool {
    let engine = &pair.found.engine;
    let plain = |name: String| if name == "io.containerd.runc.v2" { "runc".to_owned() } else { name };
    let default_runtime = text(&engine["DefaultRuntime"]).map_or_else(|| "runc".to_owned(), plain);
    let runtime = text(pair.host("Runtime"));
    let same_runtime = match text(&pair.service["runtime"]) {
        Some(stated) => runtime == Some(stated),
        None => runtime.is_none_or(|runtime| plain(runtime) == default_runtime),
    };
    let group = text(pair.host("CgroupnsMode"));
    let same_group = match (text(&pair.service["cgroup"]), group.as_deref()) {
        (Some(stated), has) => has == Some(stated.as_str()),
        (None, None | Some("private")) => true,
        (None, Some(_)) => engine["CgroupVersion"] == "1",
    };
    same_runtime && same_group
}
