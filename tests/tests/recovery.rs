//! The agent may die at any time; what it began is finished or put right.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{fs, time::Duration};

use evenkeel_core::outcome::Outcome;
use evenkeel_tests::{
    docker::{Container, image_id},
    fixture, http,
    wait::{PATIENCE, seconds, wait_until},
    world::{World, page_at},
};

/// A stack `app` that runs image 1, and an agent that polls often.
fn running(compose: &str) -> World {
    let mut world = World::new();
    world.change("Begin").file(&world.path("app", "compose.yml"), compose).push();
    world.once().exits(0);
    world.config.source(&world.repository.url(), "300ms");
    world.start_and_wait();
    world
}

/// Waits until a container of image 2 has been made.
fn wait_for_candidate(world: &World) -> Container {
    let candidate = image_id("evenkeel-test/busybox:2").unwrap();
    world.wait_container("app", "app", "of the candidate is there", |c| c.image() == candidate)
}

/// Starts the agent again and waits until the commit has ended so.
fn recovers(world: &mut World, commit: &str, outcome: Outcome) {
    world.start();
    let stack = world.stack("app");
    wait_until(PATIENCE, "the interrupted deployment comes to its end", || {
        let history = world.try_history()?;
        let of_commit = history.deployments(&stack).into_iter().rfind(|d| d.to.as_deref() == Some(commit));
        let ended = of_commit.and_then(|d| d.outcome);
        let open = history.syncs.iter().any(|s| s.outcome.is_none());
        if ended == Some(outcome) && !open { Ok(()) } else { Err(format!("{history:#?}")) }
    });
    let all = world.containers("app");
    let shown: Vec<String> = all.iter().map(Container::shown).collect();
    assert_eq!(all.len(), 1, "no half-made container may be left: {shown:?}");
    assert_eq!(all[0].name(), format!("{stack}-app-1"), "and it has its usual name");
}

#[test]
fn finishes_a_deployment_after_kill_9_in_the_gate() {
    let mut world = running(&fixture::sleeper(1));
    let commit = world.change("Slow").file(&world.path("app", "compose.yml"), fixture::slow(2, 3)).push();
    wait_for_candidate(&world);
    world.take_agent().kill();
    recovers(&mut world, &commit, Outcome::Committed);
    assert_eq!(world.container("app", "app").health(), "healthy");
}

#[test]
fn finishes_a_deployment_after_kill_9_while_compose_replaces_a_container() {
    let mut world = running(&fixture::stubborn(1, 4));
    let commit = world.change("Next").file(&world.path("app", "compose.yml"), fixture::stubborn(2, 4)).push();
    wait_until(PATIENCE, "docker compose up is at work", || {
        let running = world.processes();
        let up = |line: &&String| line.contains("compose") && line.contains(" up ");
        if running.iter().any(|l| up(&l)) { Ok(()) } else { Err(format!("{running:?}")) }
    });
    std::thread::sleep(seconds(1));
    world.take_agent().kill();
    wait_until(seconds(5), "compose dies with the agent", || {
        let left: Vec<String> = world.processes().into_iter().filter(|l| l.contains("compose")).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    recovers(&mut world, &commit, Outcome::Committed);
    let container = world.container("app", "app");
    assert_eq!(
        (container.state(), container.image()),
        ("running".to_owned(), image_id("evenkeel-test/busybox:2").unwrap())
    );
}

#[test]
fn rolls_back_a_bad_candidate_that_was_in_the_gate_at_kill_9() {
    let mut world = running(&fixture::sleeper(1));
    let before = world.container("app", "app").image();
    let sick = fixture::slow(2, 1)
        .replace("test: [CMD, test, -e, /ready]", "test: [CMD, 'false']")
        .replace("start_period: 60s", "start_period: 3s");
    let commit = world.change("Sick").file(&world.path("app", "compose.yml"), sick).push();
    wait_for_candidate(&world);
    world.take_agent().kill();
    recovers(&mut world, &commit, Outcome::RolledBack);
    let container = world.container("app", "app");
    assert_eq!((container.state(), container.image()), ("running".to_owned(), before));
}

#[test]
fn finishes_a_rollback_after_kill_9_in_it() {
    let mut world = running(&fixture::stubborn(1, 3));
    let before = world.container("app", "app").image();
    let sick = fixture::stubborn(2, 3) + "    healthcheck: { test: [CMD, 'false'], interval: 500ms, retries: 1 }\n";
    let commit = world.change("Sick").file(&world.path("app", "compose.yml"), sick).push();
    let candidate = wait_for_candidate(&world);
    wait_until(PATIENCE, "the candidate is being stopped", || {
        let ups = world.processes().iter().filter(|l| l.contains("compose") && l.contains(" up ")).count();
        let now = Container::of_project(&world.stack("app"));
        let sick = now.iter().any(|c| c.id() == candidate.id() && c.health() == "unhealthy");
        if sick && ups > 0 { Ok(()) } else { Err(format!("{ups} compose up, sick: {sick}")) }
    });
    world.take_agent().kill();
    recovers(&mut world, &commit, Outcome::RolledBack);
    let container = world.container("app", "app");
    assert_eq!((container.state(), container.image()), ("running".to_owned(), before));
}

/// Four moments, or as many as `EVENKEEL_CHAOS_ROUNDS` says.
#[test]
fn comes_to_the_right_end_wherever_kill_9_strikes() {
    let rounds: u32 = std::env::var("EVENKEEL_CHAOS_ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(4);
    let mut world = World::new();
    world.change("Begin").file(&world.path("app", "compose.yml"), fixture::slow(1, 0)).push();
    world.once().exits(0);
    world.config.source(&world.repository.url(), "200ms");
    for round in 0..rounds {
        let image = if round % 2 == 0 { 2 } else { 1 };
        let compose = fixture::slow(image, 0).replace("100000", &format!("{}", 200_000 + round));
        let commit = world.change("Next").file(&world.path("app", "compose.yml"), compose).push();
        world.start();
        // A deployment takes two to three seconds: spread over it.
        std::thread::sleep(Duration::from_millis(u64::from(300 + 2_600 * round / rounds)));
        world.take_agent().kill();
        recovers(&mut world, &commit, Outcome::Committed);
        let container = world.container("app", "app");
        let wanted = image_id(&format!("evenkeel-test/busybox:{image}"));
        assert_eq!((container.health(), Some(container.image())), ("healthy".to_owned(), wanted), "round {round}");
        world.take_agent().terminate(seconds(10));
    }
}

#[test]
fn touches_nothing_when_it_is_only_restarted() {
    let mut world = running(&fixture::sleeper(1));
    let before = world.container("app", "app");
    world.take_agent().kill();
    world.start_and_wait();
    let commit = world.change("Only a word").file("README.md", "words\n").push();
    wait_until(PATIENCE, "the new commit is accepted", || {
        let accepted = world.status().source.accepted;
        if accepted.as_deref() == Some(&commit) { Ok(()) } else { Err(format!("{accepted:?}")) }
    });
    let after = world.container("app", "app");
    assert_eq!((after.id(), after.started()), (before.id(), before.started()));
}

#[test]
fn ends_at_once_on_sigterm_while_it_waits() {
    let mut world = running(&fixture::sleeper(1));
    let before = world.container("app", "app");
    let (code, took) = world.take_agent().terminate(seconds(10));
    assert_eq!(code, Some(0));
    assert!(took < seconds(3), "{took:?}");
    assert_eq!(world.container("app", "app").id(), before.id());
    assert_eq!(world.processes(), Vec::<String>::new());
    let status = world.status();
    assert_eq!((status.agent.running, status.stacks.len()), (false, 1), "status works without the agent, and says so");
}

#[test]
fn ends_on_sigterm_in_a_deployment_and_finishes_it_later() {
    let mut world = running(&fixture::sleeper(1));
    let commit = world.change("Slow").file(&world.path("app", "compose.yml"), fixture::slow(2, 6)).push();
    wait_for_candidate(&world);
    let (code, _) = world.take_agent().terminate(seconds(30));
    assert_eq!(code, Some(0));
    assert_eq!(world.processes(), Vec::<String>::new());
    recovers(&mut world, &commit, Outcome::Committed);
}

#[test]
fn an_unreadable_store_halts_and_never_begins_from_nothing() {
    let mut world = World::new();
    let port = world.serve("good");
    let state = world.server().join("state");
    let is_store = |file: &std::path::Path| fs::read(file).is_ok_and(|b| b.starts_with(b"SQLite format 3\0"));
    let store = fs::read_dir(&state)
        .unwrap()
        .flatten()
        .map(|e| e.path())
        .find(|p| is_store(p))
        .expect("a store in the state folder");
    let good = fs::read(&store).unwrap();
    fs::write(&store, "not a database, but long enough to be taken for one\n".repeat(200)).unwrap();
    for beside in ["-wal", "-shm"] {
        // Only there after an unclean end.
        let _ = fs::remove_file(format!("{}{beside}", store.display()));
    }
    world.change("Change the page").file(&world.path("web", "index.html"), "new\n").push();
    let run = world.once();
    run.exits(6);
    assert!(run.said().contains("store"), "{}", run.report());
    assert_eq!(http::text(&page_at(port)), Ok("good".to_owned()));
    fs::write(&store, good).unwrap();
    world.config.unset("observe");
    world.once().exits(0);
    assert_eq!(http::text(&page_at(port)), Ok("new".to_owned()));
}
