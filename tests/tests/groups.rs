//! Stacks that move together: all get what the commit wants, or none does.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use evenkeel_core::{outcome::Outcome, reason::Code};
use evenkeel_tests::{docker::image_id, fixture, program::Run, world::World};

/// A stack of the group `shop`; not a healthy one if it is not to be well.
fn member(image: u8, is_well: bool, needs: &str) -> String {
    let health = "    healthcheck: { test: [CMD, 'false'], interval: 300ms, retries: 1 }\n";
    let health = if is_well { "" } else { health };
    format!("{}{health}x-evenkeel: {{ group: shop, depends_on: [{needs}] }}\n", fixture::sleeper(image))
}

/// Pushes `shop-db` and what depends on it, `shop-web`.
fn push(world: &World, db: &str, web: &str) {
    let [db_file, web_file] = ["db", "web"].map(|name| world.path(name, "compose.yml"));
    let web = web.replace("NEEDS", &world.stack("db"));
    world.change("A shop").file(&db_file, db).file(&web_file, web).push();
}

fn web(image: u8, is_well: bool) -> String {
    member(image, is_well, "NEEDS")
}

fn db(image: u8) -> String {
    member(image, true, "")
}

/// Which of the images 1, 2 and 3 each of the two runs.
fn runs(world: &World) -> [u8; 2] {
    ["db", "web"].map(|stack| {
        let image = world.container(stack, "app").image();
        (1..=3).find(|n| image_id(&format!("evenkeel-test/busybox:{n}")) == Some(image.clone())).unwrap()
    })
}

fn ids(world: &World) -> [String; 2] {
    ["db", "web"].map(|stack| world.container(stack, "app").id())
}

#[test]
fn one_that_fails_takes_the_others_back_and_they_move_when_it_can() {
    let world = World::new();
    push(&world, &db(1), &web(1, true));
    world.once().exits(0);
    assert_eq!(runs(&world), [1, 1]);

    push(&world, &db(2), &web(2, false));
    world.once().exits(5);
    assert_eq!(runs(&world), [1, 1], "neither runs what the commit wants");
    let sync = world.last_sync(Outcome::RolledBack);
    sync.deployment(&world.stack("web")).because(Code::GateUnhealthy);
    let why = sync.deployment(&world.stack("db")).because(Code::GroupFailed).to_owned();
    assert!(why.contains(&world.stack("web")) && why.contains("(group shop)"), "{why}");

    // The one that failed is kept out, and the other waits for it; nothing is done again.
    let before = ids(&world);
    world.once().exits(1);
    assert_eq!(ids(&world), before);
    let status = world.status();
    let found = ["db", "web"].map(|name| status.stack(&world.stack(name)).state.clone());
    assert_eq!(found, ["held", "rolled_back"]);
    let explained = world.evenkeel(&["explain", &world.stack("db")]);
    assert!(explained.exits(0).said().contains("moves together with"), "{}", explained.report());

    push(&world, &db(2), &web(2, true));
    world.once().exits(0);
    assert_eq!(runs(&world), [2, 2]);
}

#[test]
fn a_change_in_any_of_them_has_all_tried_again() {
    let world = World::new();
    push(&world, &db(1), &web(1, true));
    world.once().exits(0);
    // What web wants of db: image 3.
    let waits_for =
        |image: u8| member(image, true, "NEEDS").replace("[sleep, '100000']", "[sh, -c, 'test -e /seen/3']");
    let web = waits_for(2)
        .replace("    init: true\n", "    init: true\n    restart: always\n    volumes: [seen:/seen]\n")
        + &format!("volumes: {{ seen: {{ name: {}-seen }} }}\n", world.prefix());
    let db = |image: u8| {
        let makes = format!("[sh, -c, 'rm -f /seen/*; touch /seen/{image}; exec sleep 100000']");
        db(image)
            .replace("[sleep, '100000']", &makes)
            .replace("    init: true\n", "    init: true\n    volumes: [seen:/seen]\n")
            + &format!("volumes: {{ seen: {{ name: {}-seen }} }}\n", world.prefix())
    };
    let web = web.replace("test -e /seen/3'", "test -e /seen/3 && exec sleep 100000'");
    push(&world, &db(2), &web);
    world.once().exits(5);
    assert_eq!(runs(&world), [1, 1]);
    world.once().exits(1);
    // Nothing about web changes: it is db that was wrong.
    push(&world, &db(3), &web);
    world.once().exits(0);
    assert_eq!(runs(&world), [3, 2]);
}

#[test]
fn files_that_several_mount_come_back_before_those_who_go_back() {
    let world = World::new();
    let shared = "shared/version";
    let reads = |image: u8, wants: &str, more: &str| {
        format!(
            "services:
  app:
    image: evenkeel-test/busybox:{image}
    init: true
    restart: always
    command: [sh, -c, 'grep -q {wants} /version && exec sleep 100000']
    volumes: ['../../{shared}:/version:ro']
{more}x-evenkeel: {{ group: shop }}
"
        )
    };
    let [db, web] = ["db", "web"].map(|name| world.path(name, "compose.yml"));
    let push = |image: u8, text: &str, more: &str| {
        let change = world.change(text).file(&db, reads(image, text, "")).file(&web, reads(image, text, more));
        change.file(shared, format!("{text}\n")).push();
    };
    push(1, "one", "");
    world.once().exits(0);
    push(2, "two", "    healthcheck: { test: [CMD, 'false'], interval: 300ms, retries: 1 }\n");
    world.once().exits(5);
    assert_eq!(runs(&world), [1, 1], "{}", world.logged());
    assert_eq!(std::fs::read_to_string(world.live(shared)).unwrap(), "one\n");
}

#[test]
fn one_that_changes_alone_moves_alone() {
    let world = World::new();
    push(&world, &db(1), &web(1, true));
    world.once().exits(0);
    let before = ids(&world);
    push(&world, &db(1), &web(2, true));
    world.once().exits(0);
    assert_eq!((runs(&world), ids(&world)[0].clone()), ([1, 2], before[0].clone()));
}

#[test]
fn nobody_is_touched_when_one_cannot_be_prepared() {
    let world = World::new();
    push(&world, &db(1), &web(1, true));
    world.once().exits(0);
    let before = ids(&world);
    let nowhere = web(2, true).replace("evenkeel-test/busybox:2", "127.0.0.1:1/nowhere/nothing:1");
    push(&world, &db(2), &nowhere);
    world.once();
    assert_eq!(ids(&world), before);
    let sync = world.last_sync(Outcome::Aborted);
    sync.deployment(&world.stack("db")).because(Code::GroupFailed);
    let history = world.evenkeel(&["history", "--format", "json"]).exits(0).json();
    let told = history["syncs"][0]["deployments"].to_string();
    assert!(told.contains("staged") && !told.contains("backup_started"), "nobody holds still for nothing: {told}");
    push(&world, &db(2), &web(2, true));
    world.once().exits(0);
    assert_eq!(runs(&world), [2, 2]);
}

#[test]
fn none_moves_while_one_is_suspended_or_cannot_be_deployed() {
    let world = World::new();
    push(&world, &db(1), &web(1, true));
    world.once().exits(0);
    let before = ids(&world);
    push(&world, &db(2), "services: { app: { image: [] } }\nx-evenkeel: { group: shop }\n");
    let repo = world.repository.work.to_string_lossy().into_owned();
    let plan = Run::of(&mut world.command(&["plan", "--repo", &repo, "--from", "HEAD~1", "--to", "HEAD"]));
    assert!(plan.said().contains(&format!("held: waits for {}", world.stack("web"))), "{}", plan.report());
    world.once();
    assert_eq!(ids(&world), before);
    world.last_sync(Outcome::Rejected).deployment(&world.stack("db")).because(Code::HeldByGroup);
    // What is no YAML does not say what it moves with.
    push(&world, &db(3), "services: {\n");
    world.once();
    assert_eq!(ids(&world), before);
    world.last_sync(Outcome::Rejected).deployment(&world.stack("db")).because(Code::HeldByGroup);

    let mut world = world;
    world.start_and_wait();
    world.evenkeel(&["suspend", &world.stack("web"), "--for", "1h", "--reason", "hands off"]).exits(0);
    push(&world, &db(2), &web(2, true));
    world.evenkeel(&["sync"]);
    assert_eq!(ids(&world), before);
    let status = world.status();
    assert_eq!(status.stack(&world.stack("db")).state, "held");
    world.evenkeel(&["resume", &world.stack("web"), "--reason", "done"]).exits(0);
    world.evenkeel(&["sync"]).exits(0);
    assert_eq!(runs(&world), [2, 2]);
}

#[test]
fn a_first_deployment_that_fails_leaves_none_of_them() {
    let world = World::new();
    push(&world, &db(1), &web(1, false));
    world.once().exits(5);
    assert_eq!((world.containers("db").len(), world.containers("web").len()), (0, 0));
    push(&world, &db(1), &web(1, true));
    world.once().exits(0);
    assert_eq!(runs(&world), [1, 1]);
}

#[test]
fn what_a_person_put_back_stays_and_the_others_wait_for_it() {
    let mut world = World::new();
    for image in [1, 2] {
        push(&world, &db(image), &web(image, true));
        world.once().exits(0);
    }
    world.start_and_wait();
    world.evenkeel(&["rollback", &world.stack("db"), "--reason", "two is slow"]).exits(0);
    assert_eq!(runs(&world), [1, 2]);
    push(&world, &db(2), &web(3, true));
    world.evenkeel(&["sync"]).exits(1);
    assert_eq!(runs(&world), [1, 2], "a change in the other one is no word against the person's");
    assert_eq!(world.status().stack(&world.stack("web")).state, "held");
    world.evenkeel(&["retry", &world.stack("db")]).exits(0);
    world.evenkeel(&["sync"]).exits(0);
    assert_eq!(runs(&world), [2, 3]);
}
