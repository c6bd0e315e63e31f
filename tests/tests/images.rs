//! Images come, are kept as long as somebody may go back to them, and go: never one that is not the agent's to remove.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::fs;

use evenkeel_core::outcome::Outcome;
use evenkeel_tests::{
    docker::{self, docker, image_id},
    engine::Engine,
    fixture,
    receivers::registry::Registry,
    wait::{PATIENCE, seconds, stays, wait_until},
    world::World,
};

/// Seven images that only the registry has.
fn publish_seven(world: &World, registry: &Registry) -> Vec<String> {
    let publish = |n: usize| {
        let local = format!("{}:made-{n}", world.prefix());
        docker::make_image(&local, &format!("{} {n}", world.prefix()));
        registry.publish(&local, &format!("app:{n}"));
        docker(&["image", "rm", &local]);
        registry.image(&format!("app:{n}"))
    };
    (1..=7).map(publish).collect()
}

fn on(image: &str) -> String {
    fixture::sleeper(1).replace("evenkeel-test/busybox:1", image)
}

#[test]
fn five_images_are_kept_and_what_nobody_goes_back_to_goes() {
    let mut world = World::new();
    world.config.set("releases", "{ keep: 4 }");
    let registry = Registry::start(world.folder());
    let images = publish_seven(&world, &registry);
    let file = world.path("app", "compose.yml");
    let mut ids = Vec::new();
    for image in &images {
        assert_eq!(image_id(image), None, "only the registry has it");
        world.change("Next").file(&file, on(image)).push();
        world.once().exits(0);
        ids.push(world.container("app", "app").image());
    }
    let here: Vec<bool> = ids.iter().map(|id| image_id(id).is_some()).collect();
    assert_eq!(here, [false, false, true, true, true, true, true], "the one that runs and four to go back to");
    assert_eq!(image_id(&images[0]), None);
    let status = world.evenkeel(&["releases", &world.stack("app"), "--format", "json"]).json();
    assert_eq!(status["releases"].as_array().unwrap().len(), 5);
}

#[test]
fn an_image_that_was_here_before_is_never_removed() {
    let mut world = World::new();
    world.config.set("releases", "{ keep: 1 }");
    let registry = Registry::start(world.folder());
    let images = publish_seven(&world, &registry);
    let file = world.path("app", "compose.yml");
    // One with a tag, one whose only tag moves on, one that a person pulled, one that gets another name, one in use.
    let (own, moving) = (format!("{}/own:1", world.prefix()), format!("{}/moving:latest", world.prefix()));
    docker::make_image(&own, &format!("{} own", world.prefix()));
    docker::make_image(&moving, &format!("{} moving", world.prefix()));
    docker(&["pull", "--quiet", &images[0]]);
    let before = [&own, &moving, &images[0]].map(|image| image_id(image).unwrap());
    for image in [&own, &moving, &images[0]] {
        world.change("Was here").file(&file, on(image)).push();
        world.once().exits(0);
    }
    docker::make_image(&moving, &format!("{} moved", world.prefix()));
    for image in &images[1..3] {
        world.change("Pulled").file(&file, on(image)).push();
        world.once().exits(0);
    }
    let mine = format!("{}/mine:1", world.prefix());
    docker(&["tag", &images[1], &mine]);
    docker(&["create", "--name", &format!("{}-using", world.prefix()), &images[2]]);
    let ours = [&images[1], &images[2]].map(|image| image_id(image).unwrap());
    for image in &images[3..] {
        world.change("On").file(&file, on(image)).push();
        world.once().exits(0);
    }
    for id in before.iter().chain(&ours) {
        assert_eq!(image_id(id).as_ref(), Some(id), "{}", docker(&["image", "ls", "--all"]));
    }
    assert_eq!(image_id(&mine).as_ref(), Some(&ours[0]), "a name that a person gave stays");
    assert_eq!(image_id(&images[3]), None, "what only we brought has gone meanwhile");
    let tags = docker(&["image", "ls", "--format", "{{.Tag}}", &format!("evenkeel-keep/{}", world.stack("app"))]);
    assert_eq!(tags.lines().count(), 2, "{tags}");
    // Who used it has gone: with the next commit the image goes as well.
    docker(&["rm", &format!("{}-using", world.prefix())]);
    world.change("Last").file(&file, on(&own)).push();
    world.once().exits(0);
    assert_eq!(image_id(&ours[1]), None);
    // Nobody sweeps what has no name.
    docker::run(&["image", "rm", &before[1]]);
}

#[test]
fn a_candidate_that_failed_keeps_its_image_until_its_stack_got_further() {
    let world = World::new();
    let registry = Registry::start(world.folder());
    let images = publish_seven(&world, &registry);
    let (file, other) = (world.path("app", "compose.yml"), world.path("other", "compose.yml"));
    world.change("Begin").file(&file, on(&images[0])).file(&other, fixture::sleeper(1)).push();
    world.once().exits(0);
    let sick = on(&images[1]) + "    healthcheck: { test: [CMD, 'false'], interval: 200ms, retries: 1 }\n";
    world.change("Sick").file(&file, sick).file(&other, fixture::sleeper(2)).push();
    world.once().exits(5);
    let failed = image_id(&images[1]);
    assert!(failed.is_some(), "another stack that got further takes nothing of this one's");
    world.change("Mended").file(&file, on(&images[2])).push();
    world.once().exits(0);
    assert_eq!(image_id(&failed.unwrap()), None);
}

// ---------------------------------------------------------------- others on the same engine

/// A world on an engine of its own, whose registry has the images `app:1` and `app:2`: prunes hurt nobody else.
fn alone(name: &str) -> Option<(World, Engine, Registry)> {
    let mut world = World::new();
    let engine = Engine::start(name, world.folder(), 400)?;
    world.config.set("engine", &format!("{{ socket: \"{}\" }}", engine.url()));
    world.config.set("gate", "{ min_healthy_time: 1s, healthy_deadline: 60s, progress_deadline: 90s }");
    let registry = Registry::start_beside(&engine, world.folder());
    for n in 1..=2 {
        let image = registry.image(&format!("app:{n}"));
        let made = engine.docker(&["create", "evenkeel-test/busybox:1"]).ok();
        engine.docker(&["commit", "--change", &format!("LABEL n={n}"), &made, &image]).exits(0);
        engine.docker(&["rm", &made]).exits(0);
        engine.docker(&["push", "--quiet", &image]).exits(0);
        engine.docker(&["image", "rm", &image]).exits(0);
    }
    engine.docker(&["image", "rm", "evenkeel-test/busybox:1"]).exits(0);
    Some((world, engine, registry))
}

fn offline(compose: String) -> String {
    compose + "    network_mode: none\n"
}

fn id_of(engine: &Engine, reference: &str) -> Option<String> {
    let run = engine.docker(&["image", "inspect", "--format", "{{.Id}}", reference]);
    (run.code == Some(0)).then(|| run.stdout.trim().to_owned())
}

/// The one container of the stack `app`: its image and state.
fn container(engine: &Engine) -> (String, String) {
    let id = engine.docker(&["ps", "--all", "--quiet", "--filter", "label=com.docker.compose.service=app"]).ok();
    let run = engine.docker(&["inspect", "--format", "{{.Image}} {{.State.Status}}", &id]);
    run.ok().split_once(' ').map(|(image, state)| (image.to_owned(), state.to_owned())).unwrap()
}

#[test]
fn a_prune_of_everything_between_any_two_steps_does_no_harm() {
    let Some((mut world, engine, registry)) = alone("a_prune_of_everything_between_any_two_steps_does_no_harm") else {
        return;
    };
    let images = [1, 2].map(|n| registry.image(&format!("app:{n}")));
    let prune = || engine.docker(&["system", "prune", "--all", "--force", "--volumes"]).exits(0).code;
    let file = world.path("app", "compose.yml");
    world.change("Begin").file(&file, offline(on(&images[0]))).push();
    world.once().exits(0);
    let first = container(&engine);
    prune();
    assert_eq!(container(&engine), first, "what runs stays");

    // While the candidate is on trial, the image of the way back has no container: it comes from its registry again.
    let sick = offline(on(&images[1]))
        + "    healthcheck: { test: [CMD, test, -e, /never], interval: 1s, timeout: 1s, retries: 12 }\n";
    let commit = world.change("Sick").file(&file, sick).push();
    world.start();
    let candidate = || {
        engine.docker(&[
            "ps",
            "--quiet",
            "--filter",
            "label=com.docker.compose.service=app",
            "--filter",
            "health=starting",
        ])
    };
    wait_until(PATIENCE, "the candidate is on trial", || {
        if candidate().stdout.trim().is_empty() { Err("none yet".to_owned()) } else { Ok(()) }
    });
    prune();
    assert_eq!(id_of(&engine, &first.0), None, "the prune took it");
    world.wait_sync(&commit, Outcome::RolledBack);
    assert_eq!(container(&engine), first);
    world.take_agent().terminate(seconds(20));

    // Nothing runs while the agent is away, and nothing is left: the release comes back whole.
    let id = engine.docker(&["ps", "--all", "--quiet"]).ok();
    engine.docker(&["rm", "--force", &id]).exits(0);
    prune();
    assert_eq!(engine.docker(&["image", "ls", "--quiet"]).ok(), "");
    world.change("Fine").file(&file, offline(on(&images[0])) + "    environment: { N: '1' }\n").push();
    world.once().exits(0);
    assert_eq!(container(&engine), first);

    // A person goes back to what was pruned.
    world.change("Two").file(&file, offline(on(&images[1]))).push();
    world.once().exits(0);
    assert_ne!(container(&engine).0, first.0);
    prune();
    world.start_and_wait();
    world.evenkeel(&["rollback", &world.stack("app"), "--reason", "a test"]).exits(0);
    assert_eq!(container(&engine), first);
}

#[test]
fn a_registry_that_hangs_on_the_way_back_holds_up_no_stop_and_is_asked_again() {
    let Some((mut world, engine, registry)) =
        alone("a_registry_that_hangs_on_the_way_back_holds_up_no_stop_and_is_asked_again")
    else {
        return;
    };
    let images = [1, 2].map(|n| registry.image(&format!("app:{n}")));
    let file = world.path("app", "compose.yml");
    world.change("Begin").file(&file, offline(on(&images[0]))).push();
    world.once().exits(0);
    let first = container(&engine);
    let sick = "    healthcheck: { test: [CMD, test, -e, /never], interval: 1s, timeout: 1s, retries: 8 }\n";
    world.change("Sick").file(&file, offline(on(&images[1])) + sick).push();
    world.start_and_wait();
    wait_until(PATIENCE, "the candidate is on trial", || {
        let starting = engine.docker(&["ps", "--quiet", "--filter", "health=starting"]).stdout;
        if starting.trim().is_empty() { Err("none yet".to_owned()) } else { Ok(()) }
    });
    engine.docker(&["system", "prune", "--all", "--force"]).exits(0);
    registry.hang();
    world.wait_logged("asking the registry for it again");
    let status = world.evenkeel(&["status"]);
    assert!(status.stdout.contains("bringing back"), "{}", status.report());
    let (code, _) = world.take_agent().terminate(seconds(20));
    assert_eq!(code, Some(0));
    registry.go_on();
    world.start_and_wait();
    wait_until(PATIENCE, "the former release runs again", || {
        let history = world.try_history()?;
        let last = history.deployments(&world.stack("app")).last().and_then(|d| d.outcome);
        if last == Some(Outcome::RolledBack) { Ok(()) } else { Err(format!("{last:?}")) }
    });
    assert_eq!(container(&engine), first);
    world.take_agent().terminate(seconds(20));
}

#[test]
fn who_updates_and_who_restarts_containers_beside_the_agent_is_told_of_and_left_alone() {
    let mut world = World::new();
    let file = world.path("app", "compose.yml");
    let moving = format!("{}/app:latest", world.prefix());
    docker(&["tag", "evenkeel-test/busybox:1", &moving]);
    world.change("Begin").file(&file, on(&moving)).push();
    world.config.source(&world.repository.url(), "1h");
    world.start_and_wait();
    world.wait_container("app", "app", "runs", |c| c.state() == "running");
    wait_until(PATIENCE, "it is committed", || {
        let status = world.status();
        status.stacks.first().filter(|s| s.state == "steady").map(|_| ()).ok_or_else(|| format!("{status:?}"))
    });

    // As a tool that restarts what is unhealthy.
    let before = world.container("app", "app");
    docker(&["restart", "--time", "1", &before.id()]);
    stays(seconds(2), "a restart is no drift", || {
        let now = world.container("app", "app");
        if now.id() == before.id() { Ok(()) } else { Err(now.shown()) }
    });

    // As a tool that updates images: pull, stop, remove, and make it again as it was.
    docker(&["tag", "evenkeel-test/busybox:2", &moving]);
    let mut create = vec!["create".to_owned(), "--name".to_owned(), before.name(), "--init".to_owned()];
    for (key, value) in before.0["Config"]["Labels"].as_object().unwrap() {
        create.extend(["--label".to_owned(), format!("{key}={}", value.as_str().unwrap())]);
    }
    create.extend(["--network".to_owned(), format!("{}_default", world.stack("app")), moving.clone()]);
    create.extend(["sleep", "100000"].map(str::to_owned));
    docker(&["stop", "--time", "1", &before.id()]);
    docker(&["rm", &before.id()]);
    let create: Vec<&str> = create.iter().map(String::as_str).collect();
    let updated = docker(&create);
    docker(&["start", &updated]);
    world.wait_logged("runs another image than");
    stays(seconds(3), "nobody fights about it", || {
        let now = world.container("app", "app");
        if now.id() == updated && now.state() == "running" { Ok(()) } else { Err(now.shown()) }
    });
    // The next commit of the stack makes what it says, with the image that the commit names.
    let commit = world.change("Ours").file(&file, fixture::sleeper(3)).push();
    world.evenkeel(&["sync"]).exits(0);
    world.wait_sync(&commit, Outcome::Committed);
    assert_eq!(Some(world.container("app", "app").image()), image_id("evenkeel-test/busybox:3"));
    assert_eq!(world.containers("app").len(), 1);
    fs::metadata(world.live(&file)).unwrap();
}
