//! A push that does not become healthy rights itself.

use std::{fs, time::Instant};

use evenkeel_core::{outcome::Outcome, reason::Code};
use evenkeel_tests::{
    docker::{docker, image_id},
    fixture, http,
    wait::{seconds, stays},
    world::{World, page_at},
};

/// A page that runs, then a push with another image, another page and a healthcheck that always fails.
fn broken(world: &World) -> (u16, String) {
    let port = world.serve("good");
    let commit = world
        .change("Break it")
        .file(&world.path("web", "compose.yml"), fixture::sick_web(2, port))
        .file(&world.path("web", "index.html"), "bad\n")
        .push();
    (port, commit)
}

#[test]
fn goes_back_to_exactly_the_former_image_and_files() {
    let world = World::new();
    let (port, commit) = broken(&world);
    let before = world.container("web", "app");
    let former = fs::read_to_string(world.live(&world.path("web", "compose.yml"))).unwrap();
    let started = Instant::now();
    world.once().exits(5);
    assert!(
        started.elapsed() < seconds(18),
        "the gate should fail at once, not at its deadline: {:?}",
        started.elapsed()
    );
    let after = world.container("web", "app");
    assert_eq!((after.image(), after.health()), (before.image(), "healthy".to_owned()));
    assert_eq!(http::text(&page_at(port)), Ok("good".to_owned()));
    assert_eq!(fs::read_to_string(world.live(&world.path("web", "compose.yml"))).unwrap(), former);
    assert_eq!(fs::read_to_string(world.live(&world.path("web", "index.html"))).unwrap(), "good\n");
    let sync = world.last_sync(Outcome::RolledBack);
    assert_eq!(sync.commit.as_deref(), Some(commit.as_str()));
    let message = sync.deployment(&world.stack("web")).ended(Outcome::RolledBack).because(Code::GateUnhealthy);
    assert!(message.contains("app"), "the message should name the service: {message}");
    let status = world.status();
    assert_eq!(status.source.accepted, Some(commit), "trust accepted the commit, whatever became of it");
    let runs = status.stack(&world.stack("web")).commit.clone();
    assert_ne!(runs, status.source.accepted, "the stack runs the commit before");
}

#[test]
fn does_not_try_the_same_bytes_again() {
    let world = World::new();
    broken(&world);
    world.once().exits(5);
    let before = world.container("web", "app");
    let again = world.once();
    assert!(again.exits(5).said().contains("these very bytes failed before"), "{}", again.report());
    world.change("Only a word").file("README.md", "words\n").push();
    world.once().exits(5);
    let after = world.container("web", "app");
    assert_eq!((after.id(), after.started()), (before.id(), before.started()), "nothing may be touched");
    let history = world.history();
    let stack = world.stack("web");
    let tries = history.deployments(&stack).iter().filter(|d| d.outcome == Some(Outcome::RolledBack)).count();
    assert_eq!(tries, 1, "{history:#?}");
    let last = history.last().unwrap();
    last.deployment(&stack).ended(Outcome::Quarantined).because(Code::Quarantined);
}

#[test]
fn deploys_the_fix() {
    let world = World::new();
    let (port, _) = broken(&world);
    world.once().exits(5);
    let commit = world.change("Fix it").file(&world.path("web", "compose.yml"), fixture::web(2, port)).push();
    world.once().exits(0);
    assert_eq!(world.container("web", "app").image(), image_id("evenkeel-test/busybox:2").unwrap());
    assert_eq!(http::text(&page_at(port)), Ok("bad".to_owned()));
    assert_eq!(world.status().stack(&world.stack("web")).commit, Some(commit));
}

#[test]
fn a_crash_loop_without_a_healthcheck_is_no_success() {
    let world = World::new();
    world.change("Sleep").file(&world.path("app", "compose.yml"), fixture::sleeper(1)).push();
    world.once().exits(0);
    let before = world.container("app", "app");
    let crash = "services:\n  app:\n    image: evenkeel-test/busybox:2\n    command: [sh, -c, 'echo no such table; sleep 0.2; exit 3']\n    restart: always\n";
    world.change("Crash").file(&world.path("app", "compose.yml"), crash).push();
    world.once().exits(5);
    let after = world.container("app", "app");
    assert_eq!((after.image(), after.state()), (before.image(), "running".to_owned()));
    let sync = world.last_sync(Outcome::RolledBack);
    let message = sync.deployment(&world.stack("app")).because(Code::GateExited);
    assert!(message.contains('3') && message.contains("no such table"), "exit code and last log lines: {message}");
}

#[test]
fn a_service_that_never_becomes_healthy_fails_at_the_deadline() {
    let mut world = World::new();
    world.config.set("gate", "{ min_healthy_time: 1s, healthy_deadline: 4s, progress_deadline: 30s }");
    world.change("Sleep").file(&world.path("app", "compose.yml"), fixture::sleeper(1)).push();
    world.once().exits(0);
    let before = world.container("app", "app").image();
    world.change("Too slow").file(&world.path("app", "compose.yml"), fixture::slow(2, 60)).push();
    world.once().exits(5);
    assert_eq!(world.container("app", "app").image(), before);
    world.last_sync(Outcome::RolledBack).deployment(&world.stack("app")).because(Code::GateDeadline);
}

#[test]
fn a_first_deployment_that_fails_leaves_nothing_running_and_no_volume_lost() {
    let world = World::new();
    let compose = "services:
  app:
    image: evenkeel-test/busybox:1
    init: true
    command: [sh, -c, 'echo precious > /data/file; sleep 100000']
    volumes: ['data:/data']
    healthcheck: { test: [CMD, 'false'], interval: 500ms, retries: 2 }
volumes: { data: {} }
";
    world.change("Broken from the start").file(&world.path("db", "compose.yml"), compose).push();
    world.once().exits(5);
    assert!(world.containers("db").is_empty(), "{:?}", world.containers("db"));
    let volume = format!("{}_data:/data", world.stack("db"));
    assert_eq!(
        docker(&["run", "--rm", "--volume", &volume, "evenkeel-test/busybox:1", "cat", "/data/file"]),
        "precious"
    );
    world.last_sync(Outcome::RolledBack).deployment(&world.stack("db")).because(Code::GateUnhealthy);
}

#[test]
fn one_broken_stack_keeps_no_other_from_being_deployed_but_those_that_need_it() {
    let world = World::new();
    let needs = format!("{}x-evenkeel: {{ depends_on: [{}] }}\n", fixture::sleeper(1), world.stack("bad"));
    world
        .change("Three stacks")
        .file(&world.path("bad", "compose.yml"), fixture::sleeper(1))
        .file(&world.path("good", "compose.yml"), fixture::sleeper(1))
        .file(&world.path("needs", "compose.yml"), &needs)
        .push();
    world.once().exits(0);
    let before = ["bad", "needs"].map(|s| world.container(s, "app").image());
    let sick = fixture::sleeper(2) + "    healthcheck: { test: [CMD, 'false'], interval: 500ms, retries: 1 }\n";
    world
        .change("Break one, update all")
        .file(&world.path("bad", "compose.yml"), sick)
        .file(&world.path("good", "compose.yml"), fixture::sleeper(2))
        .file(&world.path("needs", "compose.yml"), needs.replace("busybox:1", "busybox:2"))
        .push();
    world.once().exits(1);
    assert_eq!(world.container("good", "app").image(), image_id("evenkeel-test/busybox:2").unwrap());
    assert_eq!(["bad", "needs"].map(|s| world.container(s, "app").image()), before);
    let history = world.history();
    let sync = history.last().unwrap();
    sync.deployment(&world.stack("good")).ended(Outcome::Committed);
    sync.deployment(&world.stack("bad")).ended(Outcome::RolledBack);
    sync.deployment(&world.stack("needs")).ended(Outcome::Held).because(Code::HeldByDependency);
}

#[test]
fn brings_back_the_former_image_though_its_tag_has_moved() {
    let world = World::new();
    let tag = format!("{}/app:latest", world.prefix());
    docker(&["tag", "evenkeel-test/busybox:1", &tag]);
    let well = fixture::sleeper(1).replace("evenkeel-test/busybox:1", &tag);
    world.change("One").file(&world.path("app", "compose.yml"), &well).push();
    world.once().exits(0);
    let before = world.container("app", "app").image();
    docker(&["tag", "evenkeel-test/busybox:2", &tag]);
    let sick = well + "    healthcheck: { test: [CMD, 'false'], interval: 500ms, retries: 1 }\n";
    world.change("Two").file(&world.path("app", "compose.yml"), sick).push();
    world.once().exits(5);
    assert_eq!(world.container("app", "app").image(), before);
    assert_eq!(image_id(&tag), Some(before), "the tag should stand for the image that runs");
}

#[test]
fn a_running_agent_does_not_try_a_quarantined_commit_at_each_poll() {
    let mut world = World::new();
    let (port, commit) = broken(&world);
    world.config.source(&world.repository.url(), "300ms");
    world.start();
    world.wait_sync(&commit, Outcome::RolledBack);
    let id = world.container("web", "app").id();
    stays(seconds(3), "the rolled-back container stays", || {
        let now = world.container("web", "app").id();
        if now == id { Ok(()) } else { Err(now) }
    });
    assert_eq!(http::text(&page_at(port)), Ok("good".to_owned()));
}
