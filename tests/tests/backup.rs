//! Before a stack changes, its volumes are saved with the real restic.

use std::{fs, process::Command};

use evenkeel_core::{outcome::Outcome, reason::Code};
use evenkeel_tests::{
    docker::{image_id, remove_with_volume},
    fixture::noise,
    program::Run,
    receivers::webhook::Webhook,
    restic::Restic,
    wait::{PATIENCE, wait_until},
    world::World,
};
use serde_json::Value;

const KEY: &str = "the-key-of-the-webhook";

/// A service with a volume, into which it writes once.
fn compose(image: u8) -> String {
    format!(
        "services:
  app:
    image: evenkeel-test/busybox:{image}
    init: true
    command: [sh, -c, '[ -e /data/file ] || echo precious > /data/file; sleep 100000']
    volumes: ['data:/data']
volumes: {{ data: {{}} }}
"
    )
}

fn reporting(world: &mut World) -> Webhook {
    let webhook = Webhook::start(KEY);
    let sink = webhook.sink(&world.config);
    world.report_to(&[sink]);
    webhook
}

/// The body of the newest of this many reports.
fn report(webhook: &Webhook, count: usize) -> Value {
    webhook.wait_taken(count)[count - 1].body.clone()
}

#[test]
fn the_volumes_of_a_stack_are_saved_before_it_changes_and_can_be_restored() {
    let mut world = World::new();
    let (restic, webhook) = (Restic::init(&world.config, &world.folder().join("backups")), reporting(&mut world));
    restic.configure(&mut world.config);
    let file = world.path("db", "compose.yml");
    world.change("Begin").file(&file, compose(1)).push();
    world.once().exits(0);
    let before = restic.snapshots().len();
    world.change("Next").file(&file, compose(2)).push();
    world.once().exits(0);
    let snapshots = restic.snapshots();
    assert_eq!(snapshots.len(), before + 1, "{snapshots:#?}");
    let id = snapshots.last().unwrap()["id"].as_str().unwrap().to_owned();
    let target = world.folder().join("restored");
    restic.run(&["restore", &id, "--target", &target.to_string_lossy()]);
    let found = Run::of(Command::new("find").arg(&target).args(["-type", "f", "-name", "file"])).ok();
    assert_eq!(fs::read_to_string(&found).unwrap(), "precious\n", "{found}");
    world.start();
    let told = report(&webhook, 2)["snapshot"].to_string();
    assert!(told.contains(&id[..8]), "the report should name the snapshot {id}: {told}");
}

#[test]
fn without_a_backup_configured_the_report_says_so() {
    let mut world = World::new();
    let webhook = reporting(&mut world);
    world.change("Begin").file(&world.path("db", "compose.yml"), compose(1)).push();
    world.once().exits(0);
    world.start();
    let body = report(&webhook, 1);
    assert!(body["snapshot"].is_null() || body["snapshot"].to_string().to_lowercase().contains("not"), "{body:#}");
}

#[test]
fn a_backup_that_fails_stops_the_deployment_before_the_server_is_touched() {
    let mut world = World::new();
    let restic = Restic::init(&world.config, &world.folder().join("backups"));
    let file = world.path("db", "compose.yml");
    world.change("Begin").file(&file, compose(1)).push();
    world.once().exits(0);
    let before = world.container("db", "app");
    restic.configure(&mut world.config);
    world.config.put("restic-password", "wrong\n");
    world.change("Next").file(&file, compose(2)).push();
    let run = world.once();
    run.exits(7);
    let after = world.container("db", "app");
    assert_eq!((after.id(), after.state()), (before.id(), "running".to_owned()));
    let message =
        world.last_sync(Outcome::Aborted).deployment(&world.stack("db")).because(Code::BackupFailed).to_owned();
    assert!(message.to_lowercase().contains("password"), "{message}");
    assert!(!run.said().contains("correct horse"));
    world.config.put("restic-password", "correct horse\n");
    world.once().exits(0);
    assert_eq!(world.container("db", "app").image(), image_id("evenkeel-test/busybox:2").unwrap());
}

#[test]
fn a_backup_that_is_not_required_does_not_hold_a_deployment_up() {
    let mut world = World::new();
    let password = world.config.put("restic-password", "x\n");
    let yaml = format!(
        "{{ repository: {}/none, password_file: {}, required: false }}",
        world.folder().display(),
        password.display()
    );
    let file = world.path("db", "compose.yml");
    world.change("Begin").file(&file, compose(1)).push();
    world.once().exits(0);
    world.config.set("backup", &yaml);
    world.change("Next").file(&file, compose(2)).push();
    world.once().exits(0);
    assert_eq!(world.container("db", "app").image(), image_id("evenkeel-test/busybox:2").unwrap());
    assert!(world.logged().to_lowercase().contains("backup"), "the log should tell of it");
}

#[test]
fn a_repository_that_somebody_else_has_is_waited_for() {
    let mut world = World::new();
    let restic = Restic::init(&world.config, &world.folder().join("backups"));
    restic.configure(&mut world.config);
    let file = world.path("db", "compose.yml");
    world.change("Begin").file(&file, compose(1)).push();
    world.once().exits(0);
    let before = world.container("db", "app");
    // Something to read for long, so that the other one has the repository for itself meanwhile.
    let large = world.folder().join("large");
    fs::write(&large, noise(400_000)).unwrap();
    restic.run(&["backup", &large.to_string_lossy()]);
    let mut other = restic.command(&["check", "--read-data", "--limit-download", "20"]).spawn().unwrap();
    wait_until(PATIENCE, "the other one has it for itself", || {
        let locks = fs::read_dir(restic.repository.join("locks")).unwrap().count();
        if locks > 0 { Ok(()) } else { Err(format!("{:?}", other.try_wait())) }
    });
    world.change("Next").file(&file, compose(2)).push();
    let run = world.once();
    run.exits(7);
    assert!(other.try_wait().unwrap().is_none(), "it should still have had the repository");
    other.kill().unwrap();
    other.wait().unwrap();
    let why = world.last_sync(Outcome::Aborted).deployment(&world.stack("db")).because(Code::BackupFailed).to_owned();
    assert!(why.contains("locked by another process") && why.contains("restic unlock"), "{why}");
    assert_eq!(world.container("db", "app").id(), before.id());
    // It was killed and has left its lock, which binds nobody any more.
    world.once().exits(0);
    assert_eq!(world.container("db", "app").image(), image_id("evenkeel-test/busybox:2").unwrap());
}

#[test]
fn a_repository_that_is_gone_is_told_of_and_not_made_anew() {
    let mut world = World::new();
    let restic = Restic::init(&world.config, &world.folder().join("backups"));
    restic.configure(&mut world.config);
    let file = world.path("db", "compose.yml");
    world.change("Begin").file(&file, compose(1)).push();
    world.once().exits(0);
    world.change("Next").file(&file, compose(2)).push();
    world.once().exits(0);
    let before = world.container("db", "app");
    // As if its disk were not mounted.
    let elsewhere = world.folder().join("elsewhere");
    fs::rename(&restic.repository, &elsewhere).unwrap();
    fs::create_dir(&restic.repository).unwrap();
    world.change("Once more").file(&file, compose(1)).push();
    world.once().exits(7);
    let why = world.last_sync(Outcome::Aborted).deployment(&world.stack("db")).because(Code::BackupFailed).to_owned();
    assert!(why.contains("is gone") && why.contains("mounted") && why.contains("nothing was changed"), "{why}");
    assert_eq!(fs::read_dir(&restic.repository).unwrap().count(), 0, "no other one may be made in its place");
    assert_eq!(world.container("db", "app").id(), before.id());
    fs::remove_dir(&restic.repository).unwrap();
    fs::rename(&elsewhere, &restic.repository).unwrap();
    let snapshots = restic.snapshots().len();
    world.once().exits(0);
    assert_eq!(restic.snapshots().len(), snapshots + 1);
}

#[test]
fn a_rollback_says_how_the_data_comes_back_and_what_no_snapshot_has() {
    let mut world = World::new();
    let restic = Restic::init(&world.config, &world.folder().join("backups"));
    restic.configure(&mut world.config);
    let file = world.path("db", "compose.yml");
    // A container that is made anew has the anonymous volume of the one before: in the end one is left.
    let compose = |image: u8| compose(image).replace("['data:/data']", "['data:/data', /cache]");
    world.change("Begin").file(&file, compose(1)).push();
    world.once().exits(0);
    let outside = world.folder().join("outside");
    fs::create_dir(&outside).unwrap();
    let sick = compose(2)
        .replace("/cache]", &format!("/cache, '{}:/outside']", outside.display()))
        .replace("volumes: {", "    healthcheck: { test: [CMD, 'false'], interval: 300ms, retries: 1 }\nvolumes: {");
    world.change("Sick").file(&file, sick).push();
    world.once().exits(5);
    let id = restic.ids().pop().unwrap();
    let (stack, sync) = (world.stack("db"), world.last_sync(Outcome::RolledBack));
    let why = sync.deployment(&stack).because(Code::GateUnhealthy);
    let command = format!("evenkeel restore {stack} --snapshot {} --reason", &id[..8]);
    assert!(why.contains(&command), "{why}");
    let history = world.evenkeel(&["history", "--format", "json"]).json();
    let steps = history["syncs"][0]["deployments"][0]["steps"].as_array().unwrap().clone();
    let backed_up = steps.iter().find(|step| step["event"] == "backed_up").unwrap()["detail"].to_string();
    assert!(backed_up.contains(&format!("{} (outside the live tree)", outside.display())), "{backed_up}");
    assert!(backed_up.contains("/cache of app (an anonymous volume)"), "{backed_up}");
    let started = world.evenkeel(&["snapshots", &stack, "--format", "json"]);
    assert_eq!(started.exits(0).json()["snapshots"][0]["id"], id.as_str());
    remove_with_volume(&world.container("db", "app").id(), "/cache");
}
