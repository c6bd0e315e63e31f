//! How a repository is read, and what of it is rendered anew.

use std::{fs, process::Command};

use evenkeel_core::outcome::Outcome;
use evenkeel_tests::{fixture, program::Run, world::World};

#[test]
fn a_server_reads_a_repository_as_its_own_configuration_says() {
    let mut world = World::new();
    let web = world.stack("web");
    let compose = format!("name: {web}\n{}", fixture::sleeper(1));
    // Nothing here is recognised as it is meant: the repository's own file says something else.
    world
        .change("Not ours to change")
        .file("deploy/web.prod.yaml", &compose)
        .file("evenkeel.yml", "layuot: nonsense\n")
        .push();
    world.once().exits(1);
    assert!(world.containers("web").is_empty());

    world.config.set("layout", &format!("{{ stacks: {{ {web}: {{ files: [deploy/web.prod.yaml] }} }} }}"));
    world.once().exits(0);
    world.last_sync(Outcome::Committed);
    assert_eq!(world.container("web", "app").state(), "running");
}

#[test]
fn a_commit_renders_only_the_stacks_that_it_changes() {
    let mut world = World::new();
    // Every run of `docker` is written down.
    let (bin, log) = (world.folder().join("bin"), world.folder().join("docker.log"));
    let real = Run::of(Command::new("sh").args(["-c", "command -v docker"])).ok();
    let script = format!("#!/bin/sh\necho \"$@\" >>{}\nexec {real} \"$@\"\n", log.display());
    fs::create_dir_all(&bin).expect("the world's folder is writable");
    // Written by another process: no child of this one may have it open for writing when it is started.
    fs::write(&log, script).expect("the world's folder is writable");
    Run::of(Command::new("install").args(["-m", "755"]).arg(&log).arg(bin.join("docker"))).ok();
    let path = std::env::var("PATH").expect("there is a PATH");
    world.set_variable("PATH", format!("{}:{path}", bin.display()));
    let rendered = |world: &World| -> Vec<String> {
        let runs = fs::read_to_string(&log).unwrap_or_default();
        let configs = runs.lines().filter(|run| run.contains(" config ")).map(str::to_owned).collect::<Vec<_>>();
        let of = |name: &&str| configs.iter().any(|run| run.contains(&world.path(name, "compose.yml")));
        ["a", "b", "c"].into_iter().filter(of).map(str::to_owned).collect()
    };
    let compose = |round: u32| format!("{}    environment: {{ ROUND: '{round}' }}\n", fixture::sleeper(1));
    let mut change = world.change("Three stacks");
    for name in ["a", "b", "c"] {
        change = change.file(&world.path(name, "compose.yml"), compose(1));
    }
    let first = change.push();
    // What a person asks for renders everything: the agent finds the commit by itself.
    world.config.source(&world.repository.url(), "200ms");
    world.start_and_wait();
    world.wait_sync(&first, Outcome::Committed);
    assert_eq!(rendered(&world), ["a", "b", "c"]);

    fs::write(&log, "").expect("the world's folder is writable");
    let second = world
        .change("One of them, and what no stack reads")
        .file(&world.path("b", "compose.yml"), compose(2))
        .file("README.md", "Read me.\n")
        .push();
    world.wait_sync(&second, Outcome::Committed);
    assert_eq!(rendered(&world), ["b"]);
    assert_eq!(world.container("b", "app").variable("ROUND").as_deref(), Some("2"));
}
