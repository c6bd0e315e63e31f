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
    let states = ["db", "web"].map(|name| status.stack(&world.stack(name)).state.clone());
    assert_eq!(states, ["held", "rolled_back"]);
    let explained = world.evenkeel(&["explain", &world.stack("db")]);
    assert!(explained.exits(0).said().contains("moves together with"), "{}", explained.report());

    push(&world, &db(2), &web(2, true));
    world.once().exits(0);
    assert_eq!(runs(&world), [2, 2]);
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
