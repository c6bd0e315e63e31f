//! Registries that are slow, or that ask for a login.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use evenkeel_core::{outcome::Outcome, reason::Code};
use evenkeel_tests::{
    docker::image_id,
    fixture, http,
    receivers::{
        registry::Registry,
        wire::{Flow, Wire},
    },
    wait::{PATIENCE, seconds, stays, wait_until},
    world::{World, page_at},
};
use serde_json::{Value, json};

/// `git:s3cr3t` in base64: the login of a private registry of the kit's.
const LOGIN: &str = "Z2l0OnMzY3IzdA==";

/// A Docker `config.json` with a login, and what of the usual one Docker needs to find its own plugins.
fn docker_config(world: &World, registry: &str, login: &str) -> PathBuf {
    let usual = std::env::var("DOCKER_CONFIG").map(PathBuf::from).ok();
    let usual = usual.and_then(|folder| fs::read_to_string(folder.join("config.json")).ok()).unwrap_or_default();
    let mut config: Value = serde_json::from_str(&usual).unwrap_or_else(|_| json!({}));
    config["auths"] = json!({ registry: { "auth": login } });
    world.config.put("docker/config.json", &config.to_string())
}

#[test]
fn a_slow_registry_holds_nobody_up_and_is_waited_for() {
    let mut world = World::new();
    let registry = Registry::start(world.folder());
    registry.publish("evenkeel-test/busybox:2", "app:2");
    let wire = Wire::to(registry.port());
    world.config.source(&world.repository.url(), "300ms");
    let port = world.serve("good");
    world.start_and_wait();
    wire.set(Flow::Drip);
    let image = format!("127.0.0.1:{}/app:2", wire.port());
    let compose = fixture::web(1, port).replace("evenkeel-test/busybox:1", &image);
    let commit = world.change("From a slow registry").file(&world.path("web", "compose.yml"), compose).push();
    let doing = || world.evenkeel(&["status", "--format", "json"]).json()["activity"]["stacks"][0]["detail"].clone();
    wait_until(PATIENCE, "the status says what is pulled", || match doing() {
        detail if detail == "pulling images of app" => Ok(()),
        other => Err(other.to_string()),
    });
    stays(seconds(3), "it goes on, and the page is as it was", || {
        let page = http::text(&page_at(port));
        if doing() == "pulling images of app" && page.as_deref() == Ok("good") {
            Ok(())
        } else {
            Err(format!("{page:?}"))
        }
    });
    wire.set(Flow::Whole);
    world.wait_sync(&commit, Outcome::Committed);
    assert_eq!(Some(world.container("web", "app").image()), image_id("evenkeel-test/busybox:2"));
    evenkeel_tests::docker::sweep(&[&image]);
}

/// A registry that asks for a login and has `app:2`.
fn private_with_app(world: &World) -> Registry {
    let open = Registry::start(world.folder());
    open.publish("evenkeel-test/busybox:2", "app:2");
    drop(open);
    Registry::start_private(world.folder())
}

#[test]
fn a_registry_that_asks_for_a_login_gets_the_one_that_is_configured() {
    let mut world = World::new();
    let registry = private_with_app(&world);
    let port = world.serve("good");
    let compose = fixture::web(1, port).replace("evenkeel-test/busybox:1", &registry.image("app:2"));
    let file = docker_config(&world, "elsewhere.invalid", LOGIN);
    world.config.set("engine", &format!("{{ socket: \"{}\", registry_auth: {} }}", engine(), file.display()));
    world.config.source(&world.repository.url(), "300ms");
    world.start_and_wait();
    let commit = world.change("A private image").file(&world.path("web", "compose.yml"), compose).push();
    let refused = |commit: &str| {
        let sync = world.wait_sync(commit, Outcome::Aborted);
        let why = sync.deployment(&world.stack("web")).because(Code::ImageMissing).to_owned();
        assert!(why.contains("docker login") && why.contains("engine.registry_auth"), "{why}");
        assert_eq!(http::text(&page_at(port)), Ok("good".to_owned()));
    };
    refused(&commit);
    // One that it does not accept.
    docker_config(&world, registry.image("").trim_end_matches('/'), "Z2l0Ondyb25n");
    let ended = world.evenkeel(&["sync"]);
    ended.exits(1);
    refused(&commit);
    assert!(!world.logged().contains("Z2l0Ondyb25n") && !ended.said().contains("Z2l0Ondyb25n"));
    // The right one counts as soon as it is there: nobody has to push again.
    docker_config(&world, registry.image("").trim_end_matches('/'), LOGIN);
    world.wait_sync(&commit, Outcome::Committed);
    assert_eq!(Some(world.container("web", "app").image()), image_id("evenkeel-test/busybox:2"));
}

#[test]
fn a_credential_helper_on_the_path_is_asked_and_one_that_is_not_there_is_named() {
    let mut world = World::new();
    let registry = private_with_app(&world);
    let port = world.serve("good");
    let file = docker_config(&world, "elsewhere.invalid", LOGIN);
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    config["credHelpers"] = json!({ registry.image("").trim_end_matches('/'): "evk" });
    world.config.put("docker/config.json", &config.to_string());
    world.config.set("engine", &format!("{{ socket: \"{}\", registry_auth: {} }}", engine(), file.display()));
    let compose = fixture::web(1, port).replace("evenkeel-test/busybox:1", &registry.image("app:2"));
    let commit = world.change("A private image").file(&world.path("web", "compose.yml"), compose).push();
    world.once().exits(7);
    let sync = world.wait_sync(&commit, Outcome::Aborted);
    let why = sync.deployment(&world.stack("web")).because(Code::ImagePull).to_owned();
    assert!(why.contains("docker-credential-evk") && why.contains("PATH"), "{why}");

    // As a package installs it: it gets the registry on standard input, and knows the login from elsewhere.
    let folder = world.folder().join("helpers");
    fs::create_dir(&folder).unwrap();
    let asked = folder.join("asked");
    let helper = format!(
        "#!/bin/sh\n[ \"$1\" = get ] || exit 1\nread -r url\necho \"$url\" >> {}\n\
         printf '{{\"ServerURL\":\"%s\",\"Username\":\"git\",\"Secret\":\"s3cr3t\"}}' \"$url\"\n",
        asked.display()
    );
    let program = folder.join("docker-credential-evk");
    fs::write(&program, helper).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    world.set_variable("PATH", format!("{}:{path}", folder.display()));
    let run = world.once();
    run.exits(0);
    assert_eq!(Some(world.container("web", "app").image()), image_id("evenkeel-test/busybox:2"));
    let asked = fs::read_to_string(asked).unwrap();
    assert!(asked.contains(registry.image("").trim_end_matches('/')), "{asked}");
    assert!(!world.logged().contains("s3cr3t") && !run.said().contains("s3cr3t"));
}

fn engine() -> String {
    std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned())
}
