use serde_json::json;

use super::*;

/// A container as Engine 26.1 tells of it, made by Compose 2.26 from [`model`].
fn container() -> Value {
    json!({
        "Id": "28c2b616d9bd5ad3f69a17d6c58a2b158ad2dc9dd8db2a0b453f129043e2bb62",
        "Image": "sha256:5ffc",
        "State": {"Status": "running", "ExitCode": 0},
        "HostConfig": {
            "Binds": ["/live/web/conf:/conf:ro"], "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m"}},
            "NetworkMode": "web_default",
            "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}], "81/udp": [{"HostIp": "", "HostPort": "99"}]},
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}, "AutoRemove": false, "ConsoleSize": [0, 0],
            "CapAdd": ["CAP_NET_ADMIN"], "CgroupnsMode": "host", "Dns": ["1.1.1.1"], "DnsOptions": null,
            "ExtraHosts": ["a:1.2.3.4"], "IpcMode": "private", "PidMode": "", "Privileged": false,
            "SecurityOpt": ["no-new-privileges:true"], "Tmpfs": {"/run": "size=1m"}, "ShmSize": 67_108_864,
            "Sysctls": {"net.core.somaxconn": "1024"}, "Runtime": "runc", "Memory": 67_108_864, "MemorySwap": 134_217_728,
            "NanoCpus": 500_000_000, "BlkioWeightDevice": null, "Init": true, "PidsLimit": 50,
            "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "rwm"}],
            "Ulimits": [{"Name": "nofile", "Hard": 200, "Soft": 100}, {"Name": "nproc", "Hard": 50, "Soft": 50}],
            "MaskedPaths": ["/proc/asound"], "ReadonlyPaths": ["/proc/bus"],
        },
        "Mounts": [
            {"Type": "bind", "Source": "/live/web/conf", "Destination": "/conf", "RW": false, "Propagation": "rprivate"},
            {"Type": "bind", "Source": "/live/web/s.txt", "Destination": "/run/secrets/s", "RW": false},
            {"Type": "volume", "Name": "web_data", "Source": "/var/lib/docker/volumes/web_data/_data", "Destination": "/data", "RW": true},
            {"Type": "volume", "Name": "8db8703f4b5b6f533ac99bd27b52787f4b6293cb19d60c3acb1dd38be6c9ff7e", "Destination": "/anon", "RW": true},
            {"Type": "volume", "Name": "9db8703f4b5b6f533ac99bd27b52787f4b6293cb19d60c3acb1dd38be6c9ff7e", "Destination": "/of-image", "RW": true},
        ],
        "Config": {
            "Hostname": "28c2b616d9bd", "User": "", "ExposedPorts": {"80/tcp": {}, "81/udp": {}, "8080/tcp": {}},
            "Tty": false, "OpenStdin": true, "Env": ["A=x$y", "PATH=/bin", "OF_IMAGE=1"], "Cmd": ["serve", "$HOME"],
            "Healthcheck": {"Test": ["CMD", "true"], "Interval": 90_000_000_000_i64, "Timeout": 2_000_000_000_i64, "Retries": 2},
            "Image": "x:1", "Entrypoint": ["/init"], "StopTimeout": 60, "WorkingDir": "/srv",
            "Labels": {"com.docker.compose.project": "web", "mine": "1", "of.image": "2"},
        },
        "NetworkSettings": {"Networks": {"web_default": {"IPAMConfig": {}, "Aliases": ["web-app-1", "app", "al"]}}},
    })
}

fn image() -> Value {
    json!({
        "Env": ["PATH=/bin", "OF_IMAGE=1"], "Cmd": ["nothing"], "Entrypoint": ["/init"], "WorkingDir": "/srv",
        "Volumes": {"/of-image": {}}, "ExposedPorts": {"8080/tcp": {}}, "Labels": {"of.image": "2"},
    })
}

fn model() -> Value {
    json!({
        "services": {"app": {
            "image": "x:1", "command": ["serve", "$$HOME"], "entrypoint": null, "environment": {"A": "x$$y"}, "labels": {"mine": "1"},
            "ports": [
                {"mode": "ingress", "host_ip": "127.0.0.1", "target": 80, "protocol": "tcp"},
                {"mode": "ingress", "target": 81, "published": "99", "protocol": "udp"},
            ],
            "volumes": [
                {"type": "bind", "source": "/live/web/conf", "target": "/conf", "read_only": true, "bind": {"create_host_path": true}},
                {"type": "volume", "source": "data", "target": "/data", "volume": {}},
                {"type": "volume", "target": "/anon", "volume": {}},
            ],
            "secrets": [{"source": "s", "target": "/run/secrets/s"}], "tmpfs": ["/run:size=1m"],
            "healthcheck": {"test": ["CMD", "true"], "interval": "1m30s", "timeout": "2s", "retries": 2},
            "restart": "on-failure:3", "mem_limit": "67108864", "cpus": 0.5, "pids_limit": 50, "init": true, "stdin_open": true,
            "ulimits": {"nofile": {"soft": 100, "hard": 200}, "nproc": 50}, "extra_hosts": ["a=1.2.3.4"], "cap_add": ["NET_ADMIN"],
            "security_opt": ["no-new-privileges:true"], "sysctls": {"net.core.somaxconn": "1024"}, "dns": ["1.1.1.1"],
            "logging": {"driver": "json-file", "options": {"max-size": "10m"}}, "stop_grace_period": "1m0s",
            "devices": [{"source": "/dev/null", "target": "/dev/x", "permissions": "rwm"}],
            "networks": {"default": {"aliases": ["al"]}}, "depends_on": {"db": {"condition": "service_started"}},
            "profiles": ["p"], "x-evenkeel": {"update": "recreate"},
        }},
        "networks": {"default": {"name": "web_default"}}, "volumes": {"data": {"name": "web_data"}},
        "secrets": {"s": {"name": "web_s", "file": "/live/web/s.txt"}},
    })
}

fn found(inspected: Value) -> Found {
    let id = inspected["Id"].as_str().unwrap().to_owned();
    Found {
        service: "app".to_owned(),
        id,
        name: "web-app-1".to_owned(),
        started_ms: Some(1000),
        inspected,
        image: image(),
        engine: json!({"CgroupVersion": "1", "DefaultRuntime": "runc", "LoggingDriver": "json-file"}),
    }
}

fn judged(model: &Value, found: &[Found]) -> Vec<Judged> {
    judged_with(model, found, &[])
}

/// The same with files that were changed at these times.
fn judged_with(model: &Value, found: &[Found], changed: &[(&str, i64)]) -> Vec<Judged> {
    let changed = changed.iter().map(|(path, ms)| ((*path).to_owned(), *ms)).collect();
    let model = Model::parse(&model.to_string()).unwrap();
    let images = BTreeMap::from([("app".to_owned(), ImageId("sha256:5ffc".to_owned()))]);
    judge(&Wanted { model: &model, project: "web", images: &images, changed: &changed }, found)
}

/// The kinds and names of what differs, `kind name`.
fn differing(model: &Value, container: Value) -> Vec<String> {
    let judged = judged(model, &[found(container)]);
    let kind = |why: &Why| serde_json::to_value(why.kind).unwrap().as_str().unwrap().to_owned();
    judged[0].differences.iter().map(|d| format!("{} {}", kind(&d.why), d.why.name)).collect()
}

fn with(mut value: Value, pointer: &str, new: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = value.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer} has no parent"));
    match parent {
        Value::Object(map) => _ = map.insert(key.replace("~1", "/"), new),
        Value::Array(items) => items.push(new),
        other => panic!("{pointer}: {other} has no keys"),
    }
    value
}

#[test]
fn a_container_that_compose_made_from_the_same_service_stays() {
    assert_eq!(differing(&model(), container()), Vec::<String>::new());
    let one = &judged(&model(), &[found(container())])[0];
    assert!(one.stays());
    assert_eq!(one.change().change, ServiceChangeKind::None);
}

/// A key of the service, another value of it, and what then differs.
fn changes() -> Vec<(&'static str, Value, &'static str)> {
    let mut all = changes_of_what_it_is();
    all.extend(changes_of_what_it_may());
    all
}

fn changes_of_what_it_is() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        ("environment", json!({"A": "other"}), "env A"),
        ("environment", json!({"A": "x$$y", "OF_IMAGE": "2"}), "env OF_IMAGE"),
        ("environment", json!({"A": "x$$y", "PATH": null}), "env PATH"),
        ("labels", json!({"mine": "2"}), "label mine"),
        ("command", json!(["serve"]), "command command"),
        ("command", json!(["serve", "", "$$HOME"]), "command command"),
        ("command", json!(null), "command command"),
        ("entrypoint", json!(["/other"]), "command entrypoint"),
        ("ports", json!([]), "port 127.0.0.1::80/tcp"),
        ("expose", json!(["3000"]), "port expose"),
        ("volumes", json!([]), "volume /anon"),
        ("tmpfs", json!([]), "volume tmpfs"),
        ("volumes_from", json!(["db"]), "volume volumes_from"),
        ("secrets", json!([]), "volume /run/secrets/s"),
        ("healthcheck", json!({"disable": true}), "healthcheck healthcheck"),
        (
            "healthcheck",
            json!({"test": ["CMD", "true"], "interval": "1m31s", "timeout": "2s", "retries": 2}),
            "healthcheck healthcheck",
        ),
    ]
}

fn changes_of_what_it_may() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        ("restart", json!("always"), "other restart"),
        ("restart", json!("on-failure:4"), "other restart"),
        ("mem_limit", json!("1"), "other mem_limit"),
        ("memswap_limit", json!("1"), "other memswap_limit"),
        ("cpus", json!(0.25), "other cpus"),
        ("deploy", json!({"resources": {"limits": {"cpus": "0.25"}}}), "other cpus"),
        (
            "deploy",
            json!({"resources": {"reservations": {"devices": [{"count": -1, "capabilities": ["gpu"]}]}}}),
            "other gpus",
        ),
        ("pids_limit", json!(null), "other pids_limit"),
        ("init", json!(null), "other init"),
        ("tty", json!(true), "other tty"),
        ("privileged", json!(true), "other privileged"),
        ("read_only", json!(true), "other read_only"),
        ("ulimits", json!({}), "other ulimits"),
        ("shm_size", json!("1"), "other shm_size"),
        ("extra_hosts", json!([]), "other extra_hosts"),
        ("cap_add", json!([]), "other cap_add"),
        ("cap_drop", json!(["ALL"]), "other cap_drop"),
        ("security_opt", json!([]), "other security_opt"),
        ("sysctls", json!({}), "other sysctls"),
        ("logging", json!({"driver": "none"}), "other logging"),
        ("devices", json!([]), "other devices"),
        ("dns", json!([]), "other dns"),
        ("networks", json!({"default": null}), "network default"),
        ("networks", json!({"default": {"aliases": ["al"], "ipv4_address": "10.0.0.2"}}), "network default"),
        ("networks", json!({"default": {"aliases": ["al"]}, "other": null}), "network other"),
        ("network_mode", json!("host"), "network network_mode"),
        ("pid", json!("host"), "other pid"),
        ("ipc", json!("service:app"), "other ipc"),
        ("links", json!(["db:database"]), "network links"),
        ("hostname", json!("other"), "other hostname"),
        ("container_name", json!("other"), "other container_name"),
        ("user", json!("1000"), "other user"),
        ("working_dir", json!("/"), "other working_dir"),
        ("stop_signal", json!("SIGINT"), "other stop_signal"),
        ("stop_grace_period", json!(null), "other stop_grace_period"),
        ("runtime", json!("nvidia"), "other runtime"),
        ("scale", json!(2), "other replicas"),
        ("credential_spec", json!({"file": "x"}), "other credential_spec"),
        ("something_of_tomorrow", json!("1"), "other something_of_tomorrow"),
        ("post_start", json!([{"command": ["true"]}]), "other post_start"),
        ("security_opt", json!(["no-new-privileges:true", "systempaths=unconfined"]), "other security_opt"),
        ("logging", json!({"driver": "json-file"}), "other logging"),
        ("cgroup", json!("private"), "other runtime"),
    ]
}

#[test]
fn every_change_of_the_service_is_seen() {
    for (key, new, differs) in changes() {
        let found = differing(&with(model(), &format!("/services/app/{key}"), new.clone()), container());
        assert!(found.contains(&differs.to_owned()), "{key}: {new} gives {found:?}");
    }
}

#[test]
fn what_the_container_has_beyond_its_service_is_seen() {
    let ten = "1".repeat(64);
    for (pointer, new, differs) in [
        ("/Image", json!("sha256:other"), "image image"),
        ("/Config/Env/-", json!("MORE=1"), "env MORE"),
        ("/Config/Labels/by.hand", json!("1"), "label by.hand"),
        ("/Config/User", json!("root"), "other user"),
        ("/Config/Hostname", json!("named"), "other hostname"),
        ("/Config/ExposedPorts/1~1tcp", json!({}), "port expose"),
        ("/HostConfig/Privileged", json!(true), "other privileged"),
        ("/HostConfig/AutoRemove", json!(true), "other AutoRemove"),
        ("/HostConfig/BlkioWeight", json!(10), "other BlkioWeight"),
        ("/HostConfig/PortBindings/1~1tcp", json!([{"HostIp": "", "HostPort": "1"}]), "port 1:1/tcp"),
        (
            "/HostConfig/DeviceRequests",
            json!([{"Driver": "nvidia", "Count": -1, "Capabilities": [["gpu"]]}]),
            "other gpus",
        ),
        ("/HostConfig/MaskedPaths", json!([]), "other security_opt"),
        ("/HostConfig/ReadonlyPaths", json!(null), "other security_opt"),
        ("/HostConfig/SecurityOpt/-", json!("label=disable"), "other security_opt"),
        ("/HostConfig/Runtime", json!("nvidia"), "other runtime"),
        ("/HostConfig/MemorySwap", json!(-1), "other memswap_limit"),
        ("/Config/Cmd/-", json!(""), "command command"),
        ("/Config/Healthcheck/Test/-", json!(""), "healthcheck healthcheck"),
        ("/State/Status", json!("paused"), "other state"),
        ("/State/Status", json!("created"), "other state"),
        ("/State/Status", json!("exited"), "other state"),
        ("/HostConfig/PidMode", json!("host"), "other pid"),
        ("/HostConfig/IpcMode", json!("host"), "other ipc"),
        ("/Mounts/-", json!({"Type": "bind", "Source": "/etc", "Destination": "/etc", "RW": true}), "volume /etc"),
        ("/Mounts/-", json!({"Type": "volume", "Name": ten, "Destination": "/more", "RW": true}), "volume /more"),
        ("/NetworkSettings/Networks/extra", json!({}), "network extra"),
        ("/NetworkSettings/Networks/web_default", json!({"Aliases": ["al", "by-hand"]}), "network default"),
    ] {
        let found = differing(&model(), with(container(), pointer, new.clone()));
        assert_eq!(found, [differs], "{pointer}: {new}");
    }
}

#[test]
fn a_mount_at_another_place_tells_both_and_a_variable_neither() {
    let mut other = container();
    other["Mounts"][0]["Source"] = json!("/opt/infra/web/conf");
    other["Config"]["Env"][0] = json!("A=a secret");
    let found = &judged(&model(), &[found(other)])[0];
    assert_eq!(found.change, ServiceChangeKind::Recreate);
    let told: Vec<_> =
        found.differences.iter().map(|d| (d.why.name.as_str(), d.found.as_deref(), d.wanted.as_deref())).collect();
    let mount = ("/conf", Some("bind /opt/infra/web/conf, read-only"), Some("bind /live/web/conf, read-only"));
    assert_eq!(told, [("A", None, None), mount]);
}

#[test]
fn a_file_that_was_changed_after_the_start_may_not_be_what_the_container_has() {
    for (path, changed_ms, stays) in [
        ("/live/web/conf/a.conf", 999, true),
        ("/live/web/conf/a.conf", 1001, false),
        ("/live/web/s.txt", 1001, false),
        ("/live/web/config/a.conf", 1001, true),
        ("/live/web/compose.yml", 1001, true),
    ] {
        let judged = judged_with(&model(), &[found(container())], &[(path, changed_ms)]);
        assert_eq!(judged[0].stays(), stays, "{path} {changed_ms}");
        assert!(stays || judged[0].differences[0].why.name == path, "{:?}", judged[0].differences);
    }
}

#[test]
fn what_compose_copies_into_containers_cannot_be_seen_and_so_does_not_stay() {
    for definition in [json!({"name": "web_s", "environment": "S"}), json!({"name": "web_s", "content": "x"})] {
        let model = with(model(), "/secrets/s", definition);
        assert_eq!(differing(&model, container()), ["volume /run/secrets/s", "secret s"]);
    }
}

#[test]
fn older_compose_named_containers_with_another_joint() {
    let of_old = |name: &str| Found { name: name.to_owned(), ..found(container()) };
    for (name, stays) in
        [("web_app_1", true), ("web-app-12", true), ("web-app-x", false), ("0123456789ab_web-app-1", false)]
    {
        let mut model = model();
        model["services"]["app"]["networks"]["default"]["aliases"] = json!(["al", "web-app-1"]);
        assert_eq!(judged(&model, &[of_old(name)])[0].stays(), stays, "{name}");
    }
}

#[test]
fn what_shares_a_namespace_goes_with_it_and_what_is_not_there_is_created() {
    let mut model = model();
    model["services"]["side"] =
        json!({"image": "y", "network_mode": "service:app", "command": null, "entrypoint": null});
    model["services"]["none"] = json!({"image": "y", "scale": 0});
    let change = |found: &[Found]| {
        let judged = judged(&model, found);
        judged.iter().map(|j| format!("{} {:?} {}", j.service, j.change, j.differences.len())).collect::<Vec<_>>()
    };
    assert_eq!(change(&[]), ["app Create 0", "none None 0", "side Create 0"]);
    let side = |id: &str| Found {
        service: "side".to_owned(),
        name: "web-side-1".to_owned(),
        id: "9".repeat(64),
        image: Value::Null,
        started_ms: None,
        inspected: json!({
            "Image": "y", "State": {"Status": "running"}, "Config": {},
            "HostConfig": {"NetworkMode": format!("container:{id}"), "MaskedPaths": ["/a"], "ReadonlyPaths": ["/b"]},
        }),
        engine: Value::Null,
    };
    let app = found(container());
    // Its image is not known here: one difference of its own.
    assert_eq!(change(&[app.clone(), side(&app.id)]), ["app None 0", "none None 0", "side Recreate 1"]);
    assert_eq!(change(&[app.clone(), side("another")]), ["app None 0", "none None 0", "side Recreate 2"]);
    let mut other = container();
    other["Config"]["User"] = json!("root");
    assert_eq!(change(&[found(other), side(&app.id)]), ["app Recreate 1", "none None 0", "side Recreate 2"]);
}

#[test]
fn what_a_container_mounts_on_its_own_is_not_excused_by_what_it_mounts_of_another() {
    let mut model = model();
    model["services"]["app"]["volumes_from"] = json!(["container:other"]);
    let of_other = json!({"Type": "bind", "Source": "/etc", "Destination": "/of-other", "RW": true});
    let has = with(container(), "/HostConfig/VolumesFrom", json!(["other"]));
    let has = with(has, "/Mounts/-", of_other);
    assert_eq!(differing(&model, has.clone()), Vec::<String>::new());
    for own in [
        with(has.clone(), "/HostConfig/Binds/-", json!("/etc:/of-other/:rw")),
        with(has.clone(), "/HostConfig/Mounts", json!([{"Type": "bind", "Source": "/etc", "Target": "/of-other"}])),
    ] {
        assert_eq!(differing(&model, own), ["volume /of-other"]);
    }
}

#[test]
fn hidden_paths_may_be_open_where_that_is_said() {
    let open = with(with(container(), "/HostConfig/MaskedPaths", json!([])), "/HostConfig/ReadonlyPaths", json!([]));
    let mut said = model();
    said["services"]["app"]["security_opt"] = json!(["no-new-privileges:true", "systempaths=unconfined"]);
    assert_eq!(differing(&said, open.clone()), Vec::<String>::new());
    assert_eq!(differing(&model(), open), ["other security_opt"]);
}

#[test]
fn what_the_engine_does_by_itself_is_no_difference() {
    let of_engine = |runtime: &str, group: &str, driver: &str, engine: Value| {
        let mut model = model();
        model["services"]["app"]["logging"] = json!(null);
        let mut has = with(container(), "/HostConfig/Runtime", json!(runtime));
        has["HostConfig"]["CgroupnsMode"] = json!(group);
        has["HostConfig"]["LogConfig"] = json!({"Type": driver, "Config": {}});
        judged(&model, &[Found { engine, ..found(has) }])[0].stays()
    };
    let info = |version: &str, runtime: &str, driver: &str| json!({"CgroupVersion": version, "DefaultRuntime": runtime, "LoggingDriver": driver});
    assert!(of_engine("io.containerd.runc.v2", "private", "json-file", Value::Null));
    assert!(!of_engine("runc", "host", "json-file", Value::Null), "it is not known whether somebody asked for that");
    assert!(of_engine("runc", "host", "json-file", info("1", "runc", "json-file")));
    assert!(!of_engine("runc", "host", "json-file", info("2", "runc", "json-file")));
    assert!(of_engine("runsc", "private", "syslog", info("2", "runsc", "syslog")));
    assert!(!of_engine("runc", "private", "json-file", info("2", "runsc", "json-file")));
    assert!(!of_engine("runc", "private", "syslog", info("2", "runc", "json-file")));
}

#[test]
fn what_may_end_and_ended_well_is_taken_over() {
    let ended = |code: i64| {
        let mut has = with(container(), "/State/Status", json!("exited"));
        has["State"]["ExitCode"] = json!(code);
        has["HostConfig"]["RestartPolicy"] = json!({"Name": "no"});
        has["Config"]["Healthcheck"] = json!(null);
        has
    };
    let mut once = model();
    once["services"]["app"]["restart"] = json!("no");
    once["services"]["app"]["healthcheck"] = json!(null);
    assert_eq!(differing(&once, ended(0)), Vec::<String>::new());
    assert_eq!(differing(&once, ended(1)), ["other state"]);
}
