//! Many stacks, and one with many services.

use std::fmt::Write as _;

use evenkeel_core::outcome::Outcome;
use evenkeel_tests::{docker::Container, fixture, world::World};

/// Stacks on the server. Most of them have a service that is scaled to nothing: their deployments are whole, without a
/// container that an engine would take its time for.
const STACKS: usize = 200;
/// Of these, so many run a container.
const RUNNING: usize = 4;

#[test]
fn two_hundred_stacks_are_deployed_and_one_of_them_changes_alone() {
    let mut world = World::new();
    let engine = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
    world.config.set("engine", &format!("{{ socket: \"{engine}\", parallel: 8 }}"));
    world.config.set("gate", "{ min_healthy_time: 100ms, healthy_deadline: 60s, progress_deadline: 300s }");
    let compose = |n: usize, round: u32| {
        let scale = if n < RUNNING { "" } else { "    scale: 0\n" };
        format!("{}    network_mode: none\n    environment: {{ ROUND: '{round}' }}\n{scale}", fixture::sleeper(1))
    };
    let mut change = world.change("Two hundred");
    for n in 0..STACKS {
        change = change.file(&world.path(&format!("s{n}"), "compose.yml"), compose(n, 1));
    }
    change.push();
    world.once().exits(0);
    let sync = world.last_sync(Outcome::Committed);
    assert_eq!(sync.deployments.len(), STACKS);
    assert_eq!(world.status().stacks.len(), STACKS);
    let before: Vec<Container> = (0..RUNNING).map(|n| world.container(&format!("s{n}"), "app")).collect();

    world.change("One of them").file(&world.path("s1", "compose.yml"), compose(1, 2)).push();
    world.once().exits(0);
    let sync = world.last_sync(Outcome::Committed);
    assert_eq!(sync.deployments.iter().map(|d| d.stack.clone()).collect::<Vec<_>>(), [world.stack("s1")]);
    for (n, before) in before.iter().enumerate() {
        assert_eq!(world.container(&format!("s{n}"), "app").id() == before.id(), n != 1, "s{n}");
    }
}

#[test]
fn a_stack_of_forty_services_is_one_deployment_and_changes_service_by_service() {
    let world = World::new();
    let compose = |changed: usize| {
        let mut text = "services:\n".to_owned();
        for n in 0..40 {
            let command = if n == changed { "[sleep, '100001']" } else { "[sleep, '100000']" };
            let _ = writeln!(
                text,
                "  s{n}: {{ image: 'evenkeel-test/busybox:1', init: true, network_mode: none, command: {command} }}"
            );
        }
        text
    };
    let file = world.path("many", "compose.yml");
    world.change("Forty").file(&file, compose(99)).push();
    world.once().exits(0);
    let before = world.containers("many");
    assert_eq!(before.len(), 40);
    world.change("One of them").file(&file, compose(7)).push();
    world.once().exits(0);
    let after = world.containers("many");
    let kept = after.iter().filter(|c| before.iter().any(|b| b.id() == c.id())).count();
    assert_eq!((after.len(), kept), (40, 39));
}
