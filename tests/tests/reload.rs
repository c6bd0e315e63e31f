//! A change in a mounted file that a service takes up by a signal or a restart: nothing is made anew, the gate watches, and a
//! rollback does the same with the former file.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
};

use evenkeel_core::{outcome::Outcome, reason::Code};
use evenkeel_tests::{
    docker::docker,
    program::Run,
    wait::{PATIENCE, wait_until},
    world::World,
};

/// A service that reads `/conf/app.conf` when it starts and at SIGHUP, and is well unless it has read `bad`. `more` is what
/// else its definition says.
fn reader(name: &str, interval: &str, more: &str) -> String {
    format!(
        "  {name}:
    image: evenkeel-test/busybox:1
    init: true
    command: [sh, -c, 'read_it() {{ cp /conf/app.conf /tmp/read; echo read >> /tmp/times; }}; trap read_it HUP; read_it; while :; do sleep 0.1; done']
    healthcheck: {{ test: [CMD-SHELL, '! grep -q bad /tmp/read'], interval: {interval}, timeout: 5s, retries: 1 }}
    volumes: ['./app.conf:/conf/app.conf:ro']
{more}"
    )
}

const RELOAD: &str = "    x-evenkeel: { reload: { signal: SIGHUP } }\n";

/// What a service has read last, once it has read it `times` times.
#[track_caller]
fn has_read(world: &World, service: &str, times: usize) -> String {
    wait_until(PATIENCE, &format!("{service} has read its file {times} times"), || {
        let id = world.container("web", service).id();
        let found = docker(&["exec", &id, "cat", "/tmp/times"]).lines().count();
        if found == times { Ok(docker(&["exec", &id, "cat", "/tmp/read"])) } else { Err(format!("{found} lines")) }
    })
}

fn ids<'s>(world: &World, services: &[&'s str]) -> BTreeMap<&'s str, String> {
    services.iter().map(|service| (*service, world.container("web", service).id())).collect()
}

/// `service change: kinds and names of why` for each service that the newest deployment of the stack touched.
#[track_caller]
fn told(world: &World) -> Vec<String> {
    let history = world.evenkeel(&["history", "--format", "json"]).exits(0).json();
    let syncs = history["syncs"].as_array().unwrap();
    let newest = syncs.iter().max_by_key(|sync| sync["id"].as_i64()).unwrap();
    let deployment = &newest["deployments"][0];
    shown(deployment["changes"].as_array().unwrap())
}

fn shown(services: &[serde_json::Value]) -> Vec<String> {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let why = |w: &serde_json::Value| format!("{} {}", text(&w["kind"]), text(&w["name"]));
    let line = |s: &serde_json::Value| {
        let whys: Vec<String> = s["why"].as_array().unwrap().iter().map(why).collect();
        format!("{} {}: {}", text(&s["service"]), text(&s["change"]), whys.join(", "))
    };
    services.iter().filter(|s| s["change"] != "none").map(line).collect()
}

/// What the offline plan says of the step between two commits.
fn planned(world: &World, from: &str, to: &str) -> Vec<String> {
    let repo = world.repository.work.to_string_lossy().into_owned();
    let args = ["plan", "--repo", &repo, "--server", "home", "--from", from, "--to", to, "--format", "json"];
    let said = Run::of(&mut world.command(&args)).exits(0).json();
    shown(said["servers"][0]["waves"][0][0]["services"].as_array().unwrap())
}

#[test]
fn a_service_gets_the_signal_that_it_asks_for_and_the_others_are_made_anew() {
    let mut world = World::new();
    let (compose, conf) = (world.path("web", "compose.yml"), world.path("web", "app.conf"));
    let all = ["asks", "does-not", "without"];
    let without = "  without:\n    image: evenkeel-test/busybox:1\n    init: true\n    command: [sleep, '100000']\n";
    let text = format!("services:\n{}{}{without}", reader("asks", "500ms", RELOAD), reader("does-not", "500ms", ""));
    let from = world.change("Begin").file(&compose, &text).file(&conf, "one\n").push();
    world.once().exits(0);
    let before = ids(&world, &all);
    let to = world.change("Two").file(&conf, "two\n").push();
    let expected = [format!("asks signal: file {conf}"), format!("does-not recreate: file {conf}")];
    assert_eq!(planned(&world, &from, &to), expected);
    world.once().exits(0);
    assert_eq!(told(&world), expected);
    assert_eq!((has_read(&world, "asks", 2), has_read(&world, "does-not", 1)), ("two".to_owned(), "two".to_owned()));
    let after = ids(&world, &all);
    let made: Vec<&str> = all.into_iter().filter(|service| before[service] != after[service]).collect();
    assert_eq!(made, ["does-not"]);

    // More than the file: its containers are made anew. Another image is the same whatever the file says.
    let more = text.replace(RELOAD, &format!("{RELOAD}    environment: {{ A: '1' }}\n"));
    world.change("More").file(&compose, more).file(&conf, "three\n").push();
    world.once().exits(0);
    assert_eq!(has_read(&world, "asks", 1), "three");
    assert_ne!(world.container("web", "asks").id(), after["asks"]);

    // A person who goes back does it the same way.
    world.change("Four").file(&conf, "four\n").push();
    world.once().exits(0);
    assert_eq!(has_read(&world, "asks", 2), "four");
    world.start_and_wait();
    let (id, stack) = (world.container("web", "asks").id(), world.stack("web"));
    world.evenkeel(&["rollback", &stack, "--reason", "three was better"]).exits(0);
    assert_eq!(has_read(&world, "asks", 3), "three");
    assert_eq!(world.container("web", "asks").id(), id);
}

#[test]
fn a_signal_is_for_the_files_that_it_names_and_a_restart_for_the_others() {
    let world = World::new();
    let (compose, conf, other) =
        (world.path("web", "compose.yml"), world.path("web", "app.conf"), world.path("web", "more/x"));
    let more = "    volumes: ['./app.conf:/conf/app.conf:ro', './more:/more:ro']\n    secrets: [key]\n    \
                x-evenkeel: { reload: { signal: hup, on: [./app.conf, ./key] } }\n";
    let reader = reader("app", "500ms", more).replacen("    volumes: ['./app.conf:/conf/app.conf:ro']\n", "", 1);
    let text = format!(
        "x-evenkeel: {{ on_change: restart }}\nservices:\n{reader}  beside:\n    image: evenkeel-test/busybox:1\n    \
         init: true\n    command: [sleep, '100000']\n    network_mode: service:app\nsecrets: {{ key: {{ file: ./key }} }}\n"
    );
    let key = world.path("web", "key");
    world.change("Begin").file(&compose, text).file(&conf, "one\n").file(&other, "1\n").file(&key, "k1\n").push();
    world.once().exits(0);
    let began = ids(&world, &["app", "beside"]);
    let started = world.container("web", "app").started();

    world.change("What it names").file(&conf, "two\n").push();
    world.once().exits(0);
    assert_eq!(told(&world), [format!("app signal: file {conf}")]);
    assert_eq!(has_read(&world, "app", 2), "two");
    world.change("A secret, which is a file too").file(&key, "k2\n").push();
    world.once().exits(0);
    assert_eq!(told(&world), ["app signal: secret key"]);
    has_read(&world, "app", 3);
    assert_eq!(
        docker(&["exec", &began["app"], "cat", "/run/secrets/key"]),
        "k2",
        "the file that it sees is the new one"
    );
    assert_eq!(
        (ids(&world, &["app", "beside"]), world.container("web", "app").started()),
        (began.clone(), started.clone())
    );

    // A restart takes the network of the container with it: what shares it is made anew.
    world.change("A file beside").file(&other, "2\n").push();
    world.once().exits(0);
    assert_eq!(told(&world), [format!("app restart: file {other}"), "beside recreate: dependency app".to_owned()]);
    assert_eq!(has_read(&world, "app", 4), "two");
    let app = world.container("web", "app");
    assert!(app.id() == began["app"] && app.started() != started, "restarted, not made anew");
    assert_eq!(docker(&["exec", &app.id(), "cat", "/more/x"]), "2");
    let beside = world.container("web", "beside").id();
    assert_ne!(beside, began["beside"]);
    let namespace = |id: &str| docker(&["exec", id, "readlink", "/proc/self/ns/net"]);
    assert_eq!(namespace(&app.id()), namespace(&beside));

    // A file that comes or goes by itself is another mount.
    world.change("Gone").remove(&other).push();
    world.once().exits(0);
    assert_eq!(told(&world), [format!("app restart: file {other}"), "beside recreate: dependency app".to_owned()]);
}

#[test]
fn a_file_that_a_service_cannot_take_up_comes_back_byte_for_byte_with_its_mode() {
    let world = World::new();
    let (compose, conf) = (world.path("web", "compose.yml"), world.path("web", "app.conf"));
    // So slow a healthcheck that only one from before the signal is there when the stable time is over.
    let text = format!("services:\n{}", reader("app", "3s", RELOAD));
    let good = b"one\r\n\0\xff no line's end".as_slice();
    let mode =
        |mode: u32| fs::set_permissions(world.repository.work.join(&conf), Permissions::from_mode(mode)).unwrap();
    let change = world.change("Begin").file(&compose, text).file(&conf, good);
    mode(0o755);
    change.push();
    world.once().exits(0);
    let live = world.live(&conf);
    let standing = || (fs::read(&live).unwrap(), fs::metadata(&live).unwrap().permissions().mode() & 0o777);
    assert_eq!(standing(), (good.to_vec(), 0o755));

    let change = world.change("Bad").file(&conf, "bad\n");
    mode(0o644);
    change.push();
    world.once().exits(5);
    world.last_sync(Outcome::RolledBack).deployment(&world.stack("web")).because(Code::GateUnhealthy);
    assert_eq!(standing(), (good.to_vec(), 0o755));
    world.wait_container("web", "app", "is healthy again", |c| c.health() == "healthy");
    let read = docker(&["exec", &world.container("web", "app").id(), "sha256sum", "/tmp/read", "/conf/app.conf"]);
    let sums: Vec<&str> = read.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(sums.len() == 2 && sums[0] == sums[1], "it runs with the former file: {read}");
}

#[test]
fn a_service_that_was_well_gets_the_signal_again_on_the_way_back() {
    let world = World::new();
    let (compose, conf) = (world.path("web", "compose.yml"), world.path("web", "app.conf"));
    let well = "  other:\n    image: evenkeel-test/busybox:1\n    init: true\n    command: [sleep, '100000']\n";
    let sick = format!("{well}    healthcheck: {{ test: [CMD, 'false'], interval: 500ms, retries: 1 }}\n");
    let text = |other: &str| format!("services:\n{}{other}", reader("app", "500ms", RELOAD));
    world.change("Begin").file(&compose, text(well)).file(&conf, "one\n").push();
    world.once().exits(0);
    let id = world.container("web", "app").id();
    world.change("Two").file(&compose, text(&sick)).file(&conf, "two\n").push();
    world.once().exits(5);
    assert_eq!(has_read(&world, "app", 3), "one", "the first file, after the second one, after the first one");
    assert_eq!(world.container("web", "app").id(), id);
}

#[test]
fn a_service_that_does_not_run_sees_the_file_all_the_same() {
    let world = World::new();
    let (compose, conf) = (world.path("web", "compose.yml"), world.path("web", "app.conf"));
    let job = "services:
  job:
    image: evenkeel-test/busybox:1
    command: [cp, /conf/app.conf, /tmp/read]
    restart: 'no'
    volumes: ['./app.conf:/conf/app.conf:ro']
    x-evenkeel: { reload: { signal: SIGHUP } }
";
    world.change("Begin").file(&compose, job).file(&conf, "one\n").push();
    world.once().exits(0);
    let first = world.container("web", "job").id();
    world.change("Two").file(&conf, "two\n").push();
    world.once().exits(0);
    let again = world.container("web", "job");
    assert_ne!(again.id(), first);
    let copied = docker(&["cp", &format!("{}:/tmp/read", again.id()), "-"]);
    assert!(copied.lines().any(|line| line.contains("two")), "{copied:?}");
}
