//! An engine that goes away and comes back: nobody's fault, and what was begun is finished.

use evenkeel_core::{outcome::Outcome, reason::Code};
use evenkeel_tests::{
    docker::{self, image_id},
    engine::Engine,
    fixture, http,
    receivers::socket::Socket,
    wait::{PATIENCE, seconds, stays, wait_until},
    world::{World, page_at},
};

/// A world whose agent runs, looks often, and reaches the engine over a way that can be cut.
fn on_the_way() -> (World, Socket) {
    let mut world = World::new();
    let way = Socket::to_engine(&world.folder().join("engine.sock"));
    world.config.set("engine", &format!("{{ socket: \"{}\" }}", way.url()));
    world.config.source(&world.repository.url(), "300ms");
    (world, way)
}

/// Sees that the agent lives and says that the engine is away.
#[track_caller]
fn misses_it(world: &World) {
    wait_until(PATIENCE, "the status says that the engine is away", || {
        let status = world.evenkeel(&["status", "--format", "json"]);
        let status = if status.code == Some(0) { status.json() } else { return Err(status.report()) };
        let is_told = status["engine"]["reachable"] == false && status["agent"]["running"] == true;
        if is_told { Ok(()) } else { Err(format!("{status:#}")) }
    });
    let text = world.evenkeel(&["status"]).stdout;
    assert!(text.contains("does not answer"), "{text}");
}

#[test]
fn an_engine_that_is_away_for_a_while_is_missed_and_found_again() {
    let (mut world, way) = on_the_way();
    let port = world.serve("good");
    world.start_and_wait();
    let before = world.container("web", "app");
    way.cut();
    let commit = world.change("Change the page").file(&world.path("web", "index.html"), "new\n").push();
    world.wait_logged("code=engine.unreachable");
    misses_it(&world);
    let told = || world.logged().lines().filter(|l| l.contains("code=engine.unreachable")).count();
    stays(seconds(2), "it is told once, and the page is as it was", || {
        let now = world.container("web", "app");
        if told() == 1 && now.id() == before.id() { Ok(()) } else { Err(format!("told {} times", told())) }
    });
    way.restore();
    world.wait_sync(&commit, Outcome::Committed);
    assert_eq!(http::text(&page_at(port)), Ok("new".to_owned()));
}

#[test]
fn an_engine_that_leaves_while_images_are_staged_is_not_held_against_them() {
    let (mut world, way) = on_the_way();
    let port = world.serve("good");
    world.start_and_wait();
    let before = world.container("web", "app");
    let build = "    build: { dockerfile_inline: \"FROM evenkeel-test/busybox:2\\nRUN sleep 2; date > /made\", network: none }\n";
    let name = format!("{}:built", world.prefix());
    let compose = fixture::web(1, port).replace("evenkeel-test/busybox:1", &name) + build;
    let commit = world.change("Build it").file(&world.path("web", "compose.yml"), compose).push();
    world.wait_logged("building images");
    way.cut();
    world.wait_sync(&commit, Outcome::Aborted);
    misses_it(&world);
    assert_eq!(world.container("web", "app").id(), before.id());
    way.restore();
    world.wait_sync(&commit, Outcome::Committed);
    assert_eq!(Some(world.container("web", "app").image()), image_id(&name));
}

#[test]
fn an_engine_that_leaves_during_up_finds_the_deployment_where_it_was() {
    let (mut world, way) = on_the_way();
    let file = world.path("web", "compose.yml");
    world.change("Begin").file(&file, fixture::stubborn(1, 3)).push();
    world.once().exits(0);
    world.start_and_wait();
    let commit = world.change("Next").file(&file, fixture::stubborn(2, 3)).push();
    world.wait_logged("Recreate");
    way.cut();
    world.wait_logged("code=engine.unreachable");
    misses_it(&world);
    way.restore();
    world.wait_sync(&commit, Outcome::Committed);
    let now = world.container("web", "app");
    assert_eq!((Some(now.image()), now.state()), (image_id("evenkeel-test/busybox:2"), "running".to_owned()));
    assert_eq!(world.containers("web").len(), 1);
}

#[test]
fn a_gate_goes_on_when_the_engine_was_away_or_its_events_broke_off() {
    let (mut world, way) = on_the_way();
    let file = world.path("web", "compose.yml");
    world.change("Begin").file(&file, fixture::slow(1, 0)).push();
    world.once().exits(0);
    world.start_and_wait();
    let gates = |commit: &str, trouble: &dyn Fn()| {
        wait_until(PATIENCE, "the gate waits for the new container", || {
            let status = world.evenkeel(&["status", "--format", "json"]).json();
            let doing = status["activity"]["stacks"][0]["detail"].to_string();
            if doing.contains("to become healthy") { Ok(()) } else { Err(doing) }
        });
        trouble();
        let sync = world.wait_sync(commit, Outcome::Committed);
        assert_eq!(sync.deployments.len(), 1, "{sync:#?}");
    };
    let commit = world.change("Events break off").file(&file, fixture::slow(2, 4)).push();
    gates(&commit, &|| way.hang_up());
    let commit = world.change("The engine is away").file(&file, fixture::slow(1, 5)).push();
    gates(&commit, &|| {
        way.cut();
        world.wait_logged("clocks stand still");
        way.restore();
    });
    let outcomes: Vec<_> = world.history().deployments(&world.stack("web")).iter().map(|d| d.outcome).collect();
    assert_eq!(outcomes, [Some(Outcome::Committed); 3]);
}

#[test]
fn what_happens_while_the_gates_events_are_cut_off_is_heard_afterwards() {
    let (mut world, way) = on_the_way();
    let file = world.path("web", "compose.yml");
    let small = |image| fixture::slow(image, 100) + "    mem_limit: 16m\n    memswap_limit: 16m\n";
    world.change("Begin").file(&file, fixture::sleeper(1)).push();
    world.once().exits(0);
    world.start_and_wait();
    let commit = world.change("A worker that dies").file(&file, small(2)).push();
    let container = world.wait_container("web", "app", "starts", |c| c.health() == "starting");
    wait_until(PATIENCE, "the gate waits for it", || {
        let status = world.evenkeel(&["status", "--format", "json"]).json();
        let doing = status["activity"]["stacks"][0]["detail"].to_string();
        if doing.contains("to become healthy") { Ok(()) } else { Err(doing) }
    });
    way.cut();
    // Only an event tells of it: the container runs on.
    assert_eq!(docker::run(&["exec", &container.id(), "tail", "/dev/zero"]).code, Some(137));
    world.wait_logged("clocks stand still");
    way.restore();
    let sync = world.wait_sync(&commit, Outcome::RolledBack);
    sync.deployment(&world.stack("web")).because(Code::GateOom);
}

#[test]
fn what_a_person_stops_while_the_events_are_cut_off_stays_stopped() {
    let (mut world, way) = on_the_way();
    world.config.set("gate", "{ min_healthy_time: 500ms, healthy_deadline: 20s, progress_deadline: 60s }");
    world.change("Begin").file(&world.path("web", "compose.yml"), fixture::sleeper(1)).push();
    world.once().exits(0);
    world.start_and_wait();
    let container = world.container("web", "app");
    let findings = || {
        let status = world.evenkeel(&["status", "--format", "json"]).json();
        status["stacks"][0]["drift"].clone()
    };
    // Heard in time, and over again.
    docker::docker(&["stop", "--time", "1", &container.id()]);
    wait_until(PATIENCE, "it is told", || {
        let drift = findings();
        if drift[0]["by_person"] == true { Ok(()) } else { Err(format!("{drift:#}")) }
    });
    docker::docker(&["start", &container.id()]);
    wait_until(PATIENCE, "it is over", || match findings().as_array().map(Vec::len) {
        Some(0) => Ok(()),
        _ => Err(format!("{:#}", findings())),
    });
    way.cut();
    docker::docker(&["stop", "--time", "1", &container.id()]);
    way.restore();
    wait_until(PATIENCE, "it is known who stopped it", || {
        let drift = findings();
        if drift[0]["by_person"] == true { Ok(()) } else { Err(format!("{drift:#}")) }
    });
    stays(seconds(3), "it stays stopped", || {
        let now = world.container("web", "app");
        if (now.id(), now.state()) == (container.id(), "exited".to_owned()) { Ok(()) } else { Err(now.shown()) }
    });
}

#[test]
fn an_engine_that_is_stopped_and_started_is_worked_with_again() {
    let mut world = World::new();
    let name = "an_engine_that_is_stopped_and_started_is_worked_with_again";
    let Some(mut engine) = Engine::start(name, world.folder(), 300) else { return };
    world.config.set("engine", &format!("{{ socket: \"{}\" }}", engine.url()));
    world.config.source(&world.repository.url(), "300ms");
    world.config.set("gate", "{ min_healthy_time: 1s, healthy_deadline: 60s, progress_deadline: 90s }");
    let file = world.path("app", "compose.yml");
    let compose = |text: String, round: u32| {
        text + &format!(
            "    network_mode: none\n    restart: unless-stopped\n    environment: {{ ROUND: '{round}' }}\n"
        )
    };
    world.change("Begin").file(&file, compose(fixture::sleeper(1), 1)).push();
    world.once().exits(0);
    world.start_and_wait();
    let running = |engine: &Engine| engine.docker(&["ps", "--format", "{{.Names}}: {{.Status}}"]).ok();

    // While there is nothing to do.
    engine.stop();
    misses_it(&world);
    engine.resume();
    let commit = world.change("Next").file(&file, compose(fixture::sleeper(1), 2)).push();
    world.wait_sync(&commit, Outcome::Committed);
    assert_eq!(running(&engine).lines().count(), 1, "{}", running(&engine));

    // In the middle of a deployment.
    let commit = world.change("Slow").file(&file, compose(fixture::slow(1, 3), 3)).push();
    wait_until(PATIENCE, "the gate waits", || {
        let status = world.evenkeel(&["status", "--format", "json"]).json();
        let doing = status["activity"]["stacks"][0]["phase"].to_string();
        if doing.contains("gate") { Ok(()) } else { Err(doing) }
    });
    engine.stop();
    misses_it(&world);
    engine.resume();
    world.wait_sync(&commit, Outcome::Committed);
    assert!(running(&engine).contains("(healthy)"), "{}", running(&engine));
    world.take_agent().terminate(seconds(20));
}
