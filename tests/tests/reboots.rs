//! What outlives the engine, and what comes back before the agent does: containers that are kept alive, and a machine that was
//! restarted.

use std::{fs, path::Path};

use evenkeel_core::outcome::Outcome;
use evenkeel_tests::{
    docker::Container,
    encrypted::{SECRET, age, with_key},
    engine::Engine,
    fixture,
    journal::Journal,
    wait::{PATIENCE, seconds, stays, wait_until},
    world::World,
};

/// A world on an engine of its own. Its agent looks often.
fn alone(name: &str, daemon: &str) -> Option<(World, Engine)> {
    let mut world = World::new();
    let mut engine = Engine::start(name, world.folder(), 300)?;
    engine.stop();
    engine.configure(daemon);
    engine.resume();
    world.config.set("engine", &format!("{{ socket: \"{}\" }}", engine.url()));
    world.config.source(&world.repository.url(), "300ms");
    world.config.set("gate", "{ min_healthy_time: 1s, healthy_deadline: 60s, progress_deadline: 90s }");
    Some((world, engine))
}

fn offline(compose: String, round: u32) -> String {
    compose + &format!("    network_mode: none\n    restart: unless-stopped\n    environment: {{ ROUND: '{round}' }}\n")
}

fn round(container: &Container) -> String {
    container.variable("ROUND").unwrap_or_default()
}

/// What it is, and when it was started: nobody touched it if both stay.
fn life(container: &Container) -> (String, String) {
    (container.id(), container.started())
}

/// Waits until the gate watches a deployment.
#[track_caller]
fn wait_gate(world: &World) {
    wait_until(PATIENCE, "the gate waits", || {
        let status = world.evenkeel(&["status", "--format", "json"]).json();
        let doing = status["activity"]["stacks"][0]["phase"].to_string();
        if doing.contains("gate") { Ok(()) } else { Err(doing) }
    });
}

#[test]
fn an_engine_that_leaves_its_containers_alive_may_be_restarted_in_the_middle_of_a_deployment() {
    let name = "an_engine_that_leaves_its_containers_alive_may_be_restarted_in_the_middle_of_a_deployment";
    let Some((mut world, mut engine)) = alone(name, "{ \"live-restore\": true }\n") else { return };
    let file = world.path("app", "compose.yml");
    world.change("Begin").file(&file, offline(fixture::stubborn(1, 4), 1)).push();
    world.once().exits(0);
    world.start_and_wait();

    // While Compose waits for the old container to end.
    let commit = world.change("During up").file(&file, offline(fixture::sleeper(1), 2)).push();
    world.wait_logged("Recreate");
    engine.stop();
    world.wait_logged("code=engine.unreachable");
    engine.resume();
    world.wait_sync(&commit, Outcome::Committed);
    let now = engine.container("app");
    assert_eq!((round(&now).as_str(), now.state().as_str()), ("2", "running"));

    // While the candidate is on trial: it lives on, and goes on being watched.
    let commit = world.change("During the gate").file(&file, offline(fixture::slow(1, 6), 3)).push();
    wait_gate(&world);
    let candidate = engine.container("app");
    engine.stop();
    world.wait_logged("clocks stand still");
    assert!(Path::new(&format!("/proc/{}", candidate.0["State"]["Pid"])).exists(), "it lives on");
    engine.resume();
    let sync = world.wait_sync(&commit, Outcome::Committed);
    assert_eq!(sync.deployments.len(), 1, "{sync:#?}");
    let now = engine.container("app");
    assert_eq!(life(&now), life(&candidate));
    assert_eq!((round(&now).as_str(), now.health().as_str()), ("3", "healthy"));
    let outcomes: Vec<_> = world.history().deployments(&world.stack("app")).iter().map(|d| d.outcome).collect();
    assert_eq!(outcomes, [Some(Outcome::Committed); 3]);
    world.take_agent().terminate(seconds(20));
}

/// A service that comes up with the engine and has a secret and a file, one that stays down, and a job that is done.
const REBOOTED: &str = "services:
  app:
    image: evenkeel-test/busybox:1
    init: true
    command: [sh, -c, 'cat /run/secrets/token /etc/app.conf > /seen; exec sleep 100000']
    network_mode: none
    restart: always
    secrets: [token]
    volumes: ['./app.conf:/etc/app.conf:ro']
    healthcheck: { test: [CMD, grep, -q, listen, /seen], interval: 500ms, retries: 3 }
  plain:
    image: evenkeel-test/busybox:1
    init: true
    command: [sleep, '100000']
    network_mode: none
  job:
    image: evenkeel-test/busybox:1
    command: [sh, -c, 'exit 0']
    network_mode: none
    restart: 'no'
secrets: { token: { file: ./token.age } }
";

#[test]
fn after_a_reboot_in_which_containers_come_first_all_is_as_it_was_and_what_stayed_down_is_started() {
    let name = "after_a_reboot_in_which_containers_come_first_all_is_as_it_was_and_what_stayed_down_is_started";
    let Some((mut world, mut engine)) = alone(name, "{}\n") else { return };
    let recipient = with_key(&mut world, "age.key");
    let change = world.change("Begin").file(&world.path("app", "compose.yml"), REBOOTED);
    let change = change.file(&world.path("app", "token.age"), age(&recipient, &format!("{SECRET}\n")));
    let commit = change.file(&world.path("app", "app.conf"), "listen: 80\n").push();
    world.start_and_wait();
    world.wait_sync(&commit, Outcome::Committed);
    let before = ["app", "plain", "job"].map(|service| engine.container(service));
    // The power fails: nobody says goodbye, and what lay in memory is gone.
    world.take_agent().kill();
    let run = world.server().join("run");
    engine.reboot();
    fs::remove_dir_all(&run).unwrap();
    fs::create_dir(&run).unwrap();
    let came = wait_until(PATIENCE, "what is always to run is healthy before the agent comes", || {
        let now = engine.container("app");
        if now.health() == "healthy" { Ok(now) } else { Err(now.shown()) }
    });
    let seen = engine.docker(&["exec", &came.id(), "cat", "/seen"]).ok();
    assert_eq!(seen, format!("{SECRET}\nlisten: 80"), "its secret and its file are there without the agent");
    assert_eq!(engine.container("plain").state(), "exited");

    world.start_and_wait();
    wait_until(PATIENCE, "what has no restart policy is started again", || {
        let now = engine.container("plain");
        if now.state() == "running" { Ok(()) } else { Err(now.shown()) }
    });
    wait_until(PATIENCE, "all is well", || {
        let status = world.evenkeel(&["status", "--format", "json"]).json();
        let stack = &status["stacks"][0];
        let is_well =
            stack["state"] == "steady" && stack["health"] == "healthy" && stack["drift"] == serde_json::json!([]);
        if is_well && status["activity"].is_null() { Ok(()) } else { Err(format!("{status:#}")) }
    });
    stays(seconds(4), "nothing else is touched", || {
        let [app, job] = ["app", "job"].map(|service| engine.container(service));
        let is_so = life(&app) == life(&came) && app.id() == before[0].id() && life(&job) == life(&before[2]);
        if is_so { Ok(()) } else { Err(format!("{} {}", app.shown(), job.shown())) }
    });
    let next = world.change("Another file").file(&world.path("app", "app.conf"), "listen: 81\n").push();
    world.wait_sync(&next, Outcome::Committed);
    let now = engine.container("app");
    assert_eq!(engine.docker(&["exec", &now.id(), "cat", "/seen"]).ok(), format!("{SECRET}\nlisten: 81"));
    world.take_agent().terminate(seconds(20));
}

#[test]
fn a_deployment_that_a_power_cut_ended_is_finished_after_the_reboot() {
    let Some((mut world, mut engine)) =
        alone("a_deployment_that_a_power_cut_ended_is_finished_after_the_reboot", "{}\n")
    else {
        return;
    };
    let file = world.path("app", "compose.yml");
    world.change("Begin").file(&file, offline(fixture::sleeper(1), 1)).push();
    world.once().exits(0);
    let journal = Journal::open(&world.server().join("state"));
    for (n, step) in [(2, "apply_started"), (3, "applied")] {
        let since = journal.last_deployment();
        let commit = world.change(step).file(&file, offline(fixture::slow(1, 3), n)).push();
        world.start_and_wait();
        journal.wait_for(step, since, 0);
        world.take_agent().kill();
        engine.reboot();
        world.start_and_wait();
        wait_until(PATIENCE, "it has ended", || {
            let outcomes = journal.outcomes(since);
            if outcomes.first().is_some_and(|o| o != "open") { Ok(()) } else { Err(format!("{outcomes:?}")) }
        });
        assert_eq!(journal.outcomes(since), ["committed"], "cut off at {step}");
        let now = engine.container("app");
        assert_eq!((round(&now), now.health()), (n.to_string(), "healthy".to_owned()), "cut off at {step}");
        let status = world.status();
        assert_eq!(status.stack(&world.stack("app")).commit.as_deref(), Some(commit.as_str()));
        world.take_agent().terminate(seconds(20));
    }
}
