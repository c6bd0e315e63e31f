//! The server's name, where it is the host's.

use std::process::Command;

use evenkeel_core::outcome::Outcome;
use evenkeel_tests::{fixture, program::Run, skip::is_root, world::World};

/// `agent --once` on a host of this name: in a namespace of its own for names.
fn once_on(world: &World, host: &str) -> Run {
    world.config.write();
    let inner = world.command(&["agent", "--once", "--config"]);
    let mut command = Command::new("unshare");
    command.args(["--uts", "sh", "-c", "hostname \"$1\" && shift && exec \"$@\"", "sh", host]);
    command.arg(inner.get_program()).args(inner.get_args()).arg(world.config.file());
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir(world.server());
    Run::of(&mut command)
}

/// Two servers with a stack each.
fn two_servers(world: &World) -> [String; 2] {
    let [a, b] = ["a", "b"].map(|name| format!("hosts/{name}/{}/compose.yml", world.stack(name)));
    world.change("Two hosts").file(&a, fixture::sleeper(1)).file(&b, fixture::sleeper(1)).push();
    [a, b]
}

#[test]
fn a_host_with_a_new_name_does_not_become_another_server() {
    let mut world = World::new();
    if !is_root("a_host_with_a_new_name_does_not_become_another_server") {
        return;
    }
    world.config.unset("server");
    two_servers(&world);
    once_on(&world, "a").exits(0);
    let before = world.container("a", "app");

    let run = once_on(&world, "b");
    run.exits(1);
    let words = ["this host was called a and is now called b", "`server: a`", "`server: b`", "nothing is changed"];
    for word in words {
        assert!(run.stdout.contains(word), "it should say {word:?}:\n{}", run.report());
    }
    assert_eq!(world.container("a", "app").id(), before.id());
    assert!(world.containers("b").is_empty());
    let history = world.last_sync(Outcome::Aborted);
    assert!(history.deployments.is_empty(), "{history:#?}");
    assert!(world.evenkeel(&["status"]).stdout.contains("is now called b"));

    // The old name, said in the configuration: all goes on.
    world.config.set("server", "a");
    once_on(&world, "b").exits(0);
    assert_eq!(world.container("a", "app").id(), before.id());
    // The new one, said by a person, is meant.
    world.config.set("server", "b");
    once_on(&world, "b").exits(0);
    assert_eq!(world.container("b", "app").state(), "running");
    assert!(world.containers("a").is_empty());
}

#[test]
fn a_new_name_that_means_the_same_stacks_is_no_trouble() {
    let mut world = World::new();
    if !is_root("a_new_name_that_means_the_same_stacks_is_no_trouble") {
        return;
    }
    world.config.unset("server");
    world.change("Begin").file(&world.path("web", "compose.yml"), fixture::sleeper(1)).push();
    once_on(&world, "old").exits(0);
    let before = world.container("web", "app");
    once_on(&world, "new").exits(0);
    assert_eq!(world.container("web", "app").id(), before.id());
}

#[test]
fn a_name_for_which_the_repository_has_nothing_removes_nothing() {
    let mut world = World::new();
    if !is_root("a_name_for_which_the_repository_has_nothing_removes_nothing") {
        return;
    }
    world.config.unset("server");
    two_servers(&world);
    once_on(&world, "a").exits(0);
    let before = world.container("a", "app");
    once_on(&world, "localhost").exits(1);
    let sync = world.last_sync(Outcome::Aborted);
    assert!(sync.deployments.is_empty(), "{sync:#?}");
    assert_eq!(world.container("a", "app").id(), before.id());
    once_on(&world, "a").exits(0);
}
