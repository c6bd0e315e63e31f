//! Files of `secrets:` and `configs:` that are encrypted in Git: in the containers, and on no disk in plain text.

use std::fs;

use evenkeel_core::outcome::Outcome;
use evenkeel_tests::{
    docker::docker,
    encrypted::{BAD, ROTATED, SECRET, age, nothing_leaks, offline, with_key},
    program,
    wait::{PATIENCE, wait_until},
    world::World,
};

/// A service that has the secret and the config and is well unless the secret is the bad one, and one that has neither.
const COMPOSE: &str = "services:
  app:
    image: evenkeel-test/busybox:1
    init: true
    command: [sleep, '100000']
    secrets: [token, { source: token, target: /etc/app/token, mode: 0400 }]
    configs: [{ source: app, target: /etc/app.conf }]
    healthcheck:
      test: [CMD-SHELL, 'if grep -q unfit /run/secrets/token; then cat /run/secrets/token; exit 1; fi']
      interval: 500ms
      timeout: 2s
      retries: 1
  other:
    image: evenkeel-test/busybox:1
    init: true
    command: [sleep, '100000']
secrets: { token: { file: ./token.age } }
configs: { app: { file: ./app.conf.age } }
";

fn token(value: &str) -> String {
    format!("{value}\n$HOME ${{X}} $$ 'of two lines'\n")
}

/// What a container of `app` has at a path.
#[track_caller]
fn seen(world: &World, path: &str) -> String {
    docker(&["exec", &world.container("db", "app").id(), "cat", path])
}

fn ids(world: &World) -> [String; 2] {
    ["app", "other"].map(|service| world.container("db", service).id())
}

/// A world whose stack runs with the secret. With the public key that files are encrypted for.
fn running() -> (World, String) {
    let mut world = World::new();
    let recipient = with_key(&mut world, "age.key");
    world
        .change("Begin")
        .file(&world.path("db", "compose.yml"), COMPOSE)
        .file(&world.path("db", "token.age"), age(&recipient, &token(SECRET)))
        .file(&world.path("db", "app.conf.age"), age(&recipient, "listen: 80\n"))
        .push();
    world.once().exits(0);
    (world, recipient)
}

#[test]
fn a_secret_file_reaches_its_container_changes_it_alone_and_comes_back() {
    let (world, recipient) = running();
    let file = world.path("db", "token.age");
    let began = ids(&world);
    assert_eq!(seen(&world, "/run/secrets/token"), token(SECRET).trim_end());
    assert_eq!(seen(&world, "/etc/app/token"), token(SECRET).trim_end());
    assert_eq!(seen(&world, "/etc/app.conf"), "listen: 80");
    let modes = docker(&["exec", &began[0], "stat", "-c", "%a", "/run/secrets/token", "/etc/app/token"]);
    assert_eq!(modes.lines().collect::<Vec<_>>(), ["444", "400"]);
    assert_eq!(fs::read(world.live(&file)).unwrap(), fs::read(world.repository.work.join(&file)).unwrap());
    nothing_leaks(&world, &[SECRET, ROTATED, BAD]);

    // As after a reboot: what was copied into a container stays with it.
    docker(&["restart", "--time", "0", &began[0]]);
    assert_eq!(seen(&world, "/run/secrets/token"), token(SECRET).trim_end());

    world.change("Encrypt it anew").file(&file, age(&recipient, &token(SECRET))).push();
    world.once().exits(0);
    assert_eq!(ids(&world), began, "nothing changed for the containers");

    world.change("Rotate").file(&file, age(&recipient, &token(ROTATED))).push();
    world.once().exits(0);
    let rotated = ids(&world);
    assert!(rotated[0] != began[0] && rotated[1] == began[1], "only the one that has the secret is made anew");
    assert_eq!(seen(&world, "/run/secrets/token"), token(ROTATED).trim_end());

    let config = world.path("db", "app.conf.age");
    world.change("Another config").file(&config, age(&recipient, "listen: 81\n")).push();
    world.once().exits(0);
    assert_eq!(seen(&world, "/etc/app.conf"), "listen: 81");
    assert_eq!(ids(&world)[1], began[1]);

    // Its healthcheck says the secret aloud; nobody else does.
    world.change("Rotate badly").file(&file, age(&recipient, &token(BAD))).push();
    world.once().exits(5);
    world.last_sync(Outcome::RolledBack);
    assert_eq!(seen(&world, "/run/secrets/token"), token(ROTATED).trim_end());
    assert_eq!(seen(&world, "/etc/app.conf"), "listen: 81");
    nothing_leaks(&world, &[SECRET, ROTATED, BAD]);
}

#[test]
fn what_was_deployed_comes_back_without_the_key_and_without_the_repository() {
    let (mut world, recipient) = running();
    let stack = world.stack("db");
    world.change("Rotate").file(&world.path("db", "token.age"), age(&recipient, &token(ROTATED))).push();
    world.once().exits(0);
    world.start_and_wait();
    fs::remove_file(world.server().join("age.key")).unwrap();
    fs::rename(&world.repository.bare, world.repository.bare.with_extension("away")).unwrap();

    // A container that is gone is made again, with the file.
    let gone = world.container("db", "app").id();
    docker(&["rm", "--force", &gone]);
    world.wait_container("db", "app", "is made again", |c| c.id() != gone && c.health() == "healthy");
    assert_eq!(seen(&world, "/run/secrets/token"), token(ROTATED).trim_end());
    wait_until(PATIENCE, "what was missing is put back", || {
        let state = world.status().stack(&stack).state.clone();
        if state == "steady" { Ok(()) } else { Err(state) }
    });

    world.evenkeel(&["rollback", &stack, "--reason", "the old one was right"]).exits(0);
    assert_eq!(seen(&world, "/run/secrets/token"), token(SECRET).trim_end());
    nothing_leaks(&world, &[SECRET, ROTATED]);
}

#[test]
fn what_sops_encrypted_is_handed_over_in_its_own_form() {
    let mut world = World::new();
    let fixtures = program::root().join("agent/daemon/src/secrets/fixtures");
    let fixture = |name: &str| fs::read_to_string(fixtures.join(name)).unwrap();
    let key = world.config.put("age.key", &fixture("key"));
    world.config.set("secrets", &format!("{{ age_identities: {} }}", key.display()));
    let compose = COMPOSE.replace("./token.age", "./token.sops").replace("./app.conf.age", "./app.enc.yaml");
    world
        .change("Begin")
        .file(&world.path("db", "compose.yml"), compose)
        .file(&world.path("db", "token.sops"), fixture("sops.binary"))
        .file(&world.path("db", "app.enc.yaml"), fixture("sops-nested.yaml"))
        .push();
    world.once().exits(0);
    let token = seen(&world, "/run/secrets/token");
    assert!(token.starts_with("# for the fixture\nDB_PASSWORD=correct horse"), "{token}");
    let config = seen(&world, "/etc/app.conf");
    assert!(config.starts_with("outer:\n") && !config.contains("ENC[") && !config.contains("sops"), "{config}");
    let yaml = fixture("sops-nested.yaml").replace("deep:", "deeq:");
    world.change("Tamper").file(&world.path("db", "app.enc.yaml"), yaml).push();
    let run = world.once();
    assert!(run.exits(1).said().contains("app.enc.yaml"), "{}", run.report());
    assert_eq!(seen(&world, "/etc/app.conf"), config);
}

#[test]
fn what_no_container_could_see_is_refused_before_anything_is_touched() {
    let (world, _) = running();
    let (began, compose) = (ids(&world), world.path("db", "compose.yml"));
    let read_only = COMPOSE.replacen("    init: true\n", "    init: true\n    read_only: true\n", 1);
    world.change("Read-only").file(&compose, &read_only).push();
    let run = world.once();
    assert!(run.exits(1).said().contains("read_only"), "{}", run.report());
    assert_eq!(ids(&world), began);
    let repo = world.repository.work.to_string_lossy().into_owned();
    let check = offline(&world, &["check", "--repo", &repo, "--format", "json"]).exits(1).json();
    let refused: Vec<_> =
        check["problems"].as_array().unwrap().iter().filter(|p| p["code"] == "secrets.undeliverable").collect();
    assert!(!refused.is_empty() && refused.iter().all(|p| p["line"].is_u64()), "{check:#}");
    let tmpfs = COMPOSE.replacen("    init: true\n", "    init: true\n    tmpfs: [/run]\n", 1);
    world.change("A tmpfs over it").file(&compose, tmpfs).push();
    let run = world.once();
    assert!(run.exits(1).said().contains("/run is mounted over it"), "{}", run.report());
    assert_eq!(ids(&world), began);
}
