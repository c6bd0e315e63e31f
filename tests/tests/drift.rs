//! What becomes of a server after its deployments: it is put back, or told, and never against a person's will.

use std::fs;

use evenkeel_core::outcome::Outcome;
use evenkeel_tests::{
    docker::docker,
    fixture,
    receivers::webhook::{Delivery, Webhook},
    wait::{PATIENCE, seconds, stays, wait_until},
    world::World,
};
use serde_json::Value;

const KEY: &str = "the-key-of-the-webhook";

/// A world with a stack of one service that runs, and a webhook that is told. The repository is asked once an hour: what
/// happens is drift's doing alone.
fn running(service: &str) -> (World, Webhook) {
    let mut world = World::new();
    let webhook = Webhook::start(KEY);
    let secret = world.config.put("webhook-secret", KEY);
    world
        .config
        .set("reports", &format!("\n  - webhook: {{ url: {}, secret_file: {} }}", webhook.url(), secret.display()));
    world.config.source(&world.repository.url(), "1h");
    let commit = world.change("Begin").file(&world.path("web", "compose.yml"), service).push();
    world.start();
    world.wait_sync(&commit, Outcome::Committed);
    wait_events(&webhook, &["deployed"]);
    (world, webhook)
}

#[track_caller]
fn wait_events(webhook: &Webhook, events: &[&str]) -> Vec<Delivery> {
    wait_until(PATIENCE, &format!("{events:?} are told"), || {
        let taken = webhook.taken();
        let told: Vec<&str> = taken.iter().map(|d| d.event.as_str()).collect();
        if told == events { Ok(taken) } else { Err(format!("{told:?}")) }
    })
}

fn reason(delivery: &Delivery) -> &str {
    delivery.body["reason"]["message"].as_str().unwrap_or_default()
}

fn drift(world: &World) -> Vec<Value> {
    let run = world.evenkeel(&["status", "--format", "json"]);
    run.json()["stacks"][0]["drift"].as_array().cloned().unwrap_or_default()
}

#[track_caller]
fn wait_no_drift(world: &World) {
    wait_until(PATIENCE, "no drift is left", || {
        let drift = drift(world);
        if drift.is_empty() { Ok(()) } else { Err(format!("{drift:?}")) }
    });
}

#[test]
fn a_container_that_is_gone_is_made_again_without_the_repository() {
    let (world, webhook) = running(&fixture::sleeper(1));
    let before = world.container("web", "app").id();
    // Neither Git nor a registry is needed to put back what was there.
    fs::rename(&world.repository.bare, world.folder().join("gone.git")).unwrap();
    docker(&["rm", "-f", &before]);

    let told = wait_events(&webhook, &["deployed", "drift", "recovered"]);
    assert!(reason(&told[1]).contains("has no container; the agent puts it back"), "{}", reason(&told[1]));
    let after = world.container("web", "app");
    assert_ne!(after.id(), before);
    assert_eq!(after.state(), "running");
    wait_no_drift(&world);
    let healed = &world.history().syncs[0];
    assert_eq!((healed.trigger.as_str(), healed.outcome), ("drift", Some(Outcome::Committed)));
}

#[test]
fn what_crashed_is_started_again_and_what_a_person_stopped_is_left_alone() {
    let (world, webhook) = running(&fixture::sleeper(1));
    let first = world.container("web", "app").id();
    docker(&["exec", &first, "sh", "-c", "kill -9 $(pidof sleep)"]);
    world.wait_container("web", "app", "is another one and runs", |c| c.id() != first && c.state() == "running");
    wait_events(&webhook, &["deployed", "drift", "recovered"]);

    let second = world.container("web", "app").id();
    docker(&["stop", "-t", "1", &second]);
    let told = wait_events(&webhook, &["deployed", "drift", "recovered", "drift"]);
    assert!(reason(&told[3]).contains("was stopped by hand"), "{}", reason(&told[3]));
    stays(seconds(2), "it stays stopped", || {
        let now = world.container("web", "app");
        if now.id() == second && now.state() == "exited" { Ok(()) } else { Err(now.shown()) }
    });
    assert_eq!(drift(&world)[0]["by_person"], true);
    docker(&["start", &second]);
    wait_events(&webhook, &["deployed", "drift", "recovered", "drift", "recovered"]);
    wait_no_drift(&world);
}

#[test]
fn a_file_that_a_person_changed_is_told_once_and_never_overwritten() {
    let (world, webhook) = running(&fixture::sleeper(1));
    let file = world.live(&world.path("web", "compose.yml"));
    let original = fs::read(&file).unwrap();
    fs::write(&file, "services: {}\n").unwrap();
    let told = wait_events(&webhook, &["deployed", "drift"]);
    assert!(reason(&told[1]).contains("compose.yml was changed by hand"), "{}", reason(&told[1]));
    fs::write(&file, "services: { }\n").unwrap();
    stays(seconds(2), "it is told once", || {
        let told = webhook.taken().len();
        if told == 2 { Ok(()) } else { Err(format!("{told} deliveries")) }
    });
    assert_eq!(fs::read_to_string(&file).unwrap(), "services: { }\n");
    fs::write(&file, original).unwrap();
    wait_events(&webhook, &["deployed", "drift", "recovered"]);
}

#[test]
fn with_report_nothing_is_put_back() {
    let (mut world, webhook) = running(&fixture::sleeper(1));
    world.config.set("drift", "{ mode: report, interval: 1s }");
    world.config.write();
    docker(&["rm", "-f", &world.container("web", "app").id()]);
    let told = wait_events(&webhook, &["deployed", "drift"]);
    assert!(reason(&told[1]).contains("`evenkeel sync`"), "{}", reason(&told[1]));
    stays(seconds(2), "nothing is made", || {
        if world.containers("web").is_empty() { Ok(()) } else { Err("a container".to_owned()) }
    });
    world.evenkeel(&["sync"]).exits(0);
    assert_eq!(world.container("web", "app").state(), "running");
}

#[test]
fn a_container_made_by_hand_from_the_live_folder_is_told() {
    let (world, webhook) = running(&fixture::sleeper(1));
    let folder = world.live(&format!("stacks/{}", world.stack("web")));
    let folder = folder.to_str().unwrap();
    docker(&[
        "compose",
        "-p",
        &world.stack("web"),
        "--project-directory",
        folder,
        "-f",
        &format!("{folder}/compose.yml"),
        "up",
        "-d",
        "--force-recreate",
    ]);
    let told = wait_events(&webhook, &["deployed", "drift"]);
    assert!(reason(&told[1]).contains("was made by hand from"), "{}", reason(&told[1]));
}

#[test]
fn a_stack_says_itself_what_is_done_about_its_drift() {
    let (world, webhook) = running(&(fixture::sleeper(1) + "x-evenkeel: { drift: report }\n"));
    docker(&["rm", "-f", &world.container("web", "app").id()]);
    let told = wait_events(&webhook, &["deployed", "drift"]);
    assert!(reason(&told[1]).contains("`evenkeel sync`"), "{}", reason(&told[1]));
    stays(seconds(2), "nothing is made", || {
        if world.containers("web").is_empty() { Ok(()) } else { Err("a container".to_owned()) }
    });

    // What the repository says for all stacks counts where a stack says nothing, and needs no deployment to count.
    let file = world.path("web", "compose.yml");
    world.change("Off").file(&file, fixture::sleeper(1)).file("evenkeel.yml", "defaults: { drift: off }\n").push();
    world.evenkeel(&["sync"]).exits(0);
    wait_no_drift(&world);
    docker(&["rm", "-f", &world.container("web", "app").id()]);
    stays(seconds(2), "nobody looks", || {
        if world.containers("web").is_empty() { Ok(()) } else { Err("a container".to_owned()) }
    });
    assert!(drift(&world).is_empty());
    world.evenkeel(&["sync"]).exits(0);
    let made = world.container("web", "app").id();
    world.change("Heal").file("evenkeel.yml", "defaults: { drift: heal }\n").push();
    world.evenkeel(&["sync"]).exits(0);
    assert_eq!(world.container("web", "app").id(), made, "no deployment for that");
    docker(&["rm", "-f", &made]);
    world.wait_container("web", "app", "is there again", |c| c.id() != made && c.state() == "running");
}
