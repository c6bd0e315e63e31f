//! Services in their variety: what Compose alone would miss, and what a gate must not be fooled by.

use evenkeel_core::{outcome::Outcome, reason::Code};
use evenkeel_tests::{
    docker::{Container, docker, image_id},
    fixture, http, port,
    world::{World, page_at},
};

/// A service of this name that sleeps, and what else its definition says (indented by four spaces).
fn service(name: &str, more: &str) -> String {
    format!("  {name}:\n    image: evenkeel-test/busybox:1\n    init: true\n    command: [sleep, '100000']\n{more}")
}

fn ids(world: &World, stack: &str, services: &[&str]) -> Vec<String> {
    services.iter().map(|s| world.container(stack, s).id()).collect()
}

#[test]
fn a_service_that_is_gone_is_removed_and_what_a_person_started_stays() {
    let world = World::new();
    let file = world.path("web", "compose.yml");
    let debug = service("debug", "    profiles: [debug]\n");
    let both = format!("services:\n{}{}{debug}", service("app", ""), service("old", ""));
    world.change("Begin").file(&file, &both).push();
    world.once().exits(0);
    assert_eq!(world.containers("web").len(), 2, "a service of an inactive profile is not started");
    let live = world.live(&file).to_string_lossy().into_owned();
    docker(&["compose", "-p", &world.stack("web"), "-f", &live, "--profile", "debug", "up", "--detach", "debug"]);
    let before = ids(&world, "web", &["app", "debug"]);
    world.change("No old one").file(&file, format!("services:\n{}{debug}", service("app", ""))).push();
    world.once().exits(0);
    assert_eq!(ids(&world, "web", &["app", "debug"]), before);
    assert_eq!(world.containers("web").len(), 2, "`old` should be gone");
}

#[test]
fn a_service_that_was_removed_comes_back_with_a_rollback() {
    let world = World::new();
    let file = world.path("web", "compose.yml");
    world.change("Begin").file(&file, format!("services:\n{}{}", service("app", ""), service("old", ""))).push();
    world.once().exits(0);
    let sick = service("app", "    healthcheck: { test: [CMD, 'false'], interval: 500ms, retries: 1 }\n");
    world.change("Sick, and no old one").file(&file, format!("services:\n{sick}")).push();
    world.once().exits(5);
    for name in ["app", "old"] {
        assert_eq!(world.container("web", name).state(), "running", "{name}");
    }
}

#[test]
fn a_changed_env_file_config_or_secret_recreates_those_who_use_it() {
    let world = World::new();
    let compose = format!(
        "services:\n{}{}{}{}configs: {{ motd: {{ file: ./motd }} }}\nsecrets: {{ key: {{ file: ./key }} }}\n",
        service("env", "    env_file: [./app.env]\n"),
        service("config", "    configs: [motd]\n"),
        service("secret", "    secrets: [key]\n"),
        service("none", ""),
    );
    let all = ["env", "config", "secret", "none"];
    let mut change = world.change("Begin").file(&world.path("web", "compose.yml"), compose);
    for file in ["app.env", "motd", "key"] {
        change = change.file(&world.path("web", file), "A=1\n");
    }
    change.push();
    world.once().exits(0);
    for (n, file) in ["app.env", "motd", "key"].into_iter().enumerate() {
        let before = ids(&world, "web", &all);
        world.change("Next").file(&world.path("web", file), "A=2\n").push();
        world.once().exits(0);
        let after = ids(&world, "web", &all);
        let changed: Vec<&str> =
            all.into_iter().zip(before.iter().zip(&after)).filter(|(_, (b, a))| b != a).map(|(s, _)| s).collect();
        assert_eq!(changed, [all[n]], "after a change of {file}");
    }
    assert_eq!(world.container("web", "env").variable("A").as_deref(), Some("2"));
}

#[test]
fn those_who_share_a_network_namespace_are_recreated_together() {
    let world = World::new();
    let file = world.path("vpn", "compose.yml");
    let compose = |version: &str| {
        format!(
            "services:\n{}{}{}",
            service("vpn", &format!("    environment: {{ V: '{version}' }}\n")),
            service("torrent", "    network_mode: service:vpn\n"),
            service("other", "    depends_on: [vpn]\n")
        )
    };
    world.change("Begin").file(&file, compose("1")).push();
    world.once().exits(0);
    let other = world.container("vpn", "other").id();
    world.change("Next").file(&file, compose("2")).push();
    world.once().exits(0);
    assert_eq!(world.container("vpn", "other").id(), other, "a mere dependent is not touched");
    let (vpn, torrent) = (world.container("vpn", "vpn"), world.container("vpn", "torrent"));
    let namespace = |id: &str| docker(&["exec", id, "readlink", "/proc/self/ns/net"]);
    assert_eq!(namespace(&vpn.id()), namespace(&torrent.id()), "the second must live in the first one's new namespace");
}

#[test]
fn every_replica_counts() {
    let world = World::new();
    let file = world.path("web", "compose.yml");
    world.change("Two").file(&file, format!("services:\n{}", service("app", "    deploy: { replicas: 2 }\n"))).push();
    world.once().exits(0);
    assert_eq!(Container::of_service(&world.stack("web"), "app").len(), 2);
    // The second replica fails: it finds the first one's mark in their volume.
    let compose = "services:
  app:
    image: evenkeel-test/busybox:2
    init: true
    command: [sh, -c, 'mkdir /data/first && exec sleep 100000; sleep 1; exit 1']
    deploy: { replicas: 2 }
    volumes: ['data:/data']
volumes: { data: {} }
";
    world.change("One of two fails").file(&file, compose).push();
    world.once().exits(5);
    let first = image_id("evenkeel-test/busybox:1");
    let all = Container::of_service(&world.stack("web"), "app");
    assert!(all.len() == 2 && all.iter().all(|c| Some(c.image()) == first && c.state() == "running"), "{all:?}");
}

#[test]
fn an_image_that_brings_its_own_healthcheck_is_gated_by_it() {
    let world = World::new();
    world.change("Begin").file(&world.path("app", "compose.yml"), fixture::sleeper(1)).push();
    world.once().exits(0);
    let before = world.container("app", "app").image();
    world
        .change("An image that is never well")
        .file(
            &world.path("app", "compose.yml"),
            "services:\n  app:\n    build: .\n    init: true\n    command: [sleep, '100000']\n",
        )
        .file(
            &world.path("app", "Dockerfile"),
            "FROM evenkeel-test/busybox:2\nHEALTHCHECK --interval=1s --retries=2 CMD false\n",
        )
        .push();
    world.once().exits(5);
    assert_eq!(world.container("app", "app").image(), before);
    world.last_sync(Outcome::RolledBack).deployment(&world.stack("app")).because(Code::GateUnhealthy);
}

#[test]
fn a_service_that_ends_well_again_and_again_is_not_well() {
    let world = World::new();
    world.change("Begin").file(&world.path("app", "compose.yml"), fixture::sleeper(1)).push();
    world.once().exits(0);
    let compose = "services:\n  app:\n    image: evenkeel-test/busybox:2\n    command: [sh, -c, 'sleep 0.3; exit 0']\n    restart: unless-stopped\n";
    world.change("Ends at once").file(&world.path("app", "compose.yml"), compose).push();
    world.once().exits(5);
    assert_eq!(Some(world.container("app", "app").image()), image_id("evenkeel-test/busybox:1"));
    world.last_sync(Outcome::RolledBack).deployment(&world.stack("app")).because(Code::GateExited);
}

#[test]
fn a_service_that_sickens_within_the_stable_time_is_not_well() {
    let mut world = World::new();
    world.config.set("gate", "{ min_healthy_time: 5s, healthy_deadline: 30s, progress_deadline: 90s }");
    world.change("Begin").file(&world.path("app", "compose.yml"), fixture::sleeper(1)).push();
    world.once().exits(0);
    let compose = "services:
  app:
    image: evenkeel-test/busybox:2
    init: true
    command: [sh, -c, 'touch /well; sleep 3; rm /well; sleep 100000']
    healthcheck: { test: [CMD, test, -e, /well], interval: 500ms, retries: 1 }
";
    world.change("Well for three seconds").file(&world.path("app", "compose.yml"), compose).push();
    world.once().exits(5);
    assert_eq!(Some(world.container("app", "app").image()), image_id("evenkeel-test/busybox:1"));
}

#[test]
fn a_container_that_was_killed_for_want_of_memory_is_told_of_as_that() {
    let world = World::new();
    world.change("Begin").file(&world.path("app", "compose.yml"), fixture::sleeper(1)).push();
    world.once().exits(0);
    let compose = "services:\n  app:\n    image: evenkeel-test/busybox:2\n    command: [sh, -c, 'sleep 0.5; exec tail /dev/zero']\n    mem_limit: 16m\n    memswap_limit: 16m\n";
    world.change("Eat").file(&world.path("app", "compose.yml"), compose).push();
    world.once().exits(5);
    assert_eq!(Some(world.container("app", "app").image()), image_id("evenkeel-test/busybox:1"));
    world.last_sync(Outcome::RolledBack).deployment(&world.stack("app")).because(Code::GateOom);
}

#[test]
fn values_arrive_as_they_were_written() {
    let world = World::new();
    world.config.put("env/_server.env", "PASSWORD='pa$$word ${NOT} #1 \"x\"'\nPLAIN=a=b\nSPACED=\"two words\"\n");
    let compose = fixture::sleeper(1)
        + "    environment:
      PASSWORD: '${PASSWORD}'
      PLAIN: ${PLAIN}
      SPACED: ${SPACED}
      DOLLAR: 'costs $$5'
      MODE: '0755'
";
    world.change("Values").file(&world.path("app", "compose.yml"), compose).push();
    world.once().exits(0);
    let container = world.container("app", "app");
    for (name, value) in [
        ("PASSWORD", "pa$$word ${NOT} #1 \"x\""),
        ("PLAIN", "a=b"),
        ("SPACED", "two words"),
        ("DOLLAR", "costs $5"),
        ("MODE", "0755"),
    ] {
        assert_eq!(container.variable(name).as_deref(), Some(value), "{name}");
    }
}

#[test]
fn names_with_spaces_and_other_letters_are_names() {
    let world = World::new();
    let port = port::free();
    let compose = fixture::web(1, port).replace("'./index.html:", "'./my page – größe.html:");
    let page = world.path("web", "my page – größe.html");
    world.change("Begin").file(&world.path("web", "compose.yml"), compose).file(&page, "one\n").push();
    world.once().exits(0);
    assert_eq!(http::text(&page_at(port)), Ok("one".to_owned()));
    world.change("Next").file(&page, "two\n").push();
    world.once().exits(0);
    assert_eq!(http::text(&page_at(port)), Ok("two".to_owned()));
}

#[test]
fn a_mounted_folder_is_followed_and_never_made_anew() {
    let world = World::new();
    let port = port::free();
    let compose = fixture::web(1, port).replace("'./index.html:/www/index.html:ro'", "'./www:/www:ro'");
    world
        .change("Begin")
        .file(&world.path("web", "compose.yml"), compose)
        .file(&world.path("web", "www/index.html"), "one\n")
        .file(&world.path("web", "www/old.html"), "old\n")
        .push();
    world.once().exits(0);
    let folder = world.live(&world.path("web", "www"));
    let inode =
        |path: &std::path::Path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).expect("it is there"));
    let before = inode(&folder);
    world
        .change("Next")
        .file(&world.path("web", "www/index.html"), "two\n")
        .remove(&world.path("web", "www/old.html"))
        .push();
    world.once().exits(0);
    assert_eq!(http::text(&page_at(port)), Ok("two".to_owned()));
    assert!(http::text(&format!("{}old.html", page_at(port))).is_err(), "a file that is gone from the commit is gone");
    assert_eq!(inode(&folder), before);
}

#[test]
fn stacks_in_one_folder_tree_do_not_take_each_others_files() {
    let world = World::new();
    let shared = "stacks/shared.conf";
    let compose = fixture::sleeper(1) + "    volumes: ['../shared.conf:/shared.conf:ro']\n";
    world
        .change("Begin")
        .file(&world.path("a", "compose.yml"), &compose)
        .file(&world.path("b", "compose.yml"), &compose)
        .file(shared, "1\n")
        .push();
    world.once().exits(0);
    world.change("Without a").remove(&world.path("a", "")).push();
    world.once().exits(0);
    let b = world.container("b", "app").id();
    assert_eq!(docker(&["exec", &b, "cat", "/shared.conf"]), "1", "the file that b still mounts must stay");
    assert!(world.live(shared).exists());
}
