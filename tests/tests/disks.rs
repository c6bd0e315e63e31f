//! A disk that is full or cannot be written: nothing is half done, and what was to be done is done once there is room.

use std::fs;

use evenkeel_core::{outcome::Outcome, reason::Code};
use evenkeel_tests::{
    disk::Disk,
    engine::Engine,
    fixture, http,
    skip::is_root,
    wait::{seconds, stays},
    world::{World, page_at},
};

/// One sync that must end before anything is touched, for the reason `why`, say `words`, and leave the page as it is.
#[track_caller]
fn goes_on(world: &World, port: u16, why: Code, words: &[&str]) {
    let before = world.container("web", "app");
    let run = world.once();
    run.exits(7);
    for word in words {
        assert!(run.stdout.contains(word), "it should say {word:?}:\n{}", run.report());
    }
    world.last_sync(Outcome::Aborted).deployment(&world.stack("web")).because(why);
    let after = world.container("web", "app");
    assert_eq!((after.id(), after.started()), (before.id(), before.started()));
    assert_eq!(http::text(&page_at(port)), Ok("good".to_owned()));
}

fn large_page() -> String {
    " ".repeat(300_000) + "new\n"
}

/// Pushes a page that is larger than what a full disk has left.
#[track_caller]
fn push_page(world: &World) -> String {
    world.change("Change the page").file(&world.path("web", "index.html"), large_page()).push()
}

/// The next sync has the new page.
#[track_caller]
fn follows(world: &World, port: u16) {
    world.once().exits(0);
    assert!(http::text(&page_at(port)).is_ok_and(|page| page.trim() == "new"));
}

#[test]
fn an_agent_whose_state_has_no_room_lives_on_and_follows_once_it_has() {
    let mut world = World::new();
    if !is_root("an_agent_whose_state_has_no_room_lives_on_and_follows_once_it_has") {
        return;
    }
    let disk = Disk::mount(&world.server().join("state"), 200);
    let port = world.serve("good");
    let before = world.container("web", "app");
    world.config.source(&world.repository.url(), "300ms");
    world.start_and_wait();
    disk.fill(0);
    let commit = push_page(&world);
    world.wait_logged("code=disk.full");
    stays(seconds(2), "the agent lives, and what runs is left alone", || {
        let status = world.evenkeel(&["status"]);
        let now = world.container("web", "app");
        let is_well = status.code == Some(0) && (now.id(), now.started()) == (before.id(), before.started());
        if is_well { Ok(()) } else { Err(status.report()) }
    });
    let said = world.logged();
    let line = said.lines().find(|l| l.contains("code=disk.full")).unwrap_or_default();
    assert!(line.contains("make room") || line.contains("Make room"), "{line}");
    assert_eq!(http::text(&page_at(port)), Ok("good".to_owned()));
    disk.empty();
    world.wait_sync(&commit, Outcome::Committed);
    assert!(http::text(&page_at(port)).is_ok_and(|page| page.trim() == "new"));
}

#[test]
fn a_state_that_cannot_be_written_is_told_of_and_nothing_is_begun() {
    let world = World::new();
    if !is_root("a_state_that_cannot_be_written_is_told_of_and_nothing_is_begun") {
        return;
    }
    let disk = Disk::mount(&world.server().join("state"), 200);
    let port = world.serve("good");
    push_page(&world);
    disk.remount("ro");
    let run = world.once();
    assert!(!matches!(run.code, None | Some(0)), "{}", run.report());
    let state = world.server().join("state").display().to_string();
    for word in [state.as_str(), "Read-only file system", "can be written"] {
        assert!(run.said().contains(word), "it should say {word:?}:\n{}", run.report());
    }
    world.evenkeel(&["status"]).exits(0);
    assert_eq!(http::text(&page_at(port)), Ok("good".to_owned()));
    disk.remount("rw");
    follows(&world, port);
}

#[test]
fn a_live_tree_without_room_stops_before_anything_is_touched() {
    let world = World::new();
    if !is_root("a_live_tree_without_room_stops_before_anything_is_touched") {
        return;
    }
    let disk = Disk::mount(&world.server().join("live"), 100);
    let port = world.serve("good");
    push_page(&world);
    disk.fill(0);
    let live = world.server().join("live").display().to_string();
    goes_on(&world, port, Code::DiskFull, &[&live, "make room", "nothing was changed"]);
    disk.empty();
    disk.remount("ro");
    goes_on(&world, port, Code::FileWrite, &[&live, "nothing was changed"]);
    disk.remount("rw");
    follows(&world, port);
}

#[test]
fn a_live_tree_that_fills_up_in_the_middle_keeps_its_files_whole_and_rolls_back() {
    let mut world = World::new();
    if !is_root("a_live_tree_that_fills_up_in_the_middle_keeps_its_files_whole_and_rolls_back") {
        return;
    }
    let disk = Disk::mount(&world.server().join("live"), 100);
    let port = world.serve("good");
    let file = world.path("web", "compose.yml");
    let build = "    build: { dockerfile_inline: \"FROM evenkeel-test/busybox:2\\nRUN sleep 4\", network: none }\n";
    let name = format!("{}:built", world.prefix());
    let compose = fixture::web(1, port).replace("evenkeel-test/busybox:1", &name) + build;
    world.config.source(&world.repository.url(), "1h");
    world.start_and_wait();
    let commit = world
        .change("A new page, with an image that is long in the making")
        .file(&file, &compose)
        .file(&world.path("web", "index.html"), large_page())
        .push();
    let sync = std::thread::scope(|scope| {
        let sync = scope.spawn(|| world.evenkeel(&["sync"]));
        world.wait_logged("building images");
        disk.fill(0);
        sync.join().expect("the program ran")
    });
    sync.exits(5);
    let ended = world.wait_sync(&commit, Outcome::RolledBack);
    let why = ended.deployment(&world.stack("web")).because(Code::DiskFull).to_owned();
    assert!(why.contains("make room"), "{why}");
    assert_eq!(http::text(&page_at(port)), Ok("good".to_owned()));
    assert_eq!(fs::read_to_string(world.live(&world.path("web", "index.html"))).ok().as_deref(), Some("good\n"));
    assert_eq!(fs::read_to_string(world.live(&file)).ok(), Some(fixture::web(1, port)));
    disk.empty();
    // It says nothing about those bytes: they are not kept out.
    world.evenkeel(&["sync"]).exits(0);
    assert!(http::text(&page_at(port)).is_ok_and(|page| page.trim() == "new"));
}

#[test]
fn an_engine_without_room_for_an_image_is_left_as_it_is() {
    let mut world = World::new();
    let name = "an_engine_without_room_for_an_image_is_left_as_it_is";
    let Some(engine) = Engine::start(name, world.folder(), 96) else { return };
    world.config.set("engine", &format!("{{ socket: \"{}\" }}", engine.url()));
    let file = world.path("app", "compose.yml");
    world.change("Begin").file(&file, fixture::sleeper(1) + "    network_mode: none\n").push();
    world.once().exits(0);
    let runs = || engine.docker(&["ps", "--no-trunc", "--format", "{{.ID}} {{.Image}}"]).ok();
    let before = runs();
    assert!(before.contains("evenkeel-test/busybox:1"), "{before}");
    let large = "    build: { dockerfile_inline: \"FROM evenkeel-test/busybox:1\\nRUN dd if=/dev/zero of=/large bs=1M count=150\", network: none }\n";
    let large = fixture::sleeper(1).replace("busybox:1", "large:1") + "    network_mode: none\n" + large;
    world.change("A large image").file(&file, large).push();
    let run = world.once();
    run.exits(7);
    let why = world.last_sync(Outcome::Aborted).deployment(&world.stack("app")).because(Code::DiskFull).to_owned();
    assert!(why.contains("docker system df") && run.stdout.contains(&why), "{}", run.report());
    assert_eq!(runs(), before);
    engine.disk.remount("size=900m");
    world.once().exits(0);
    assert!(runs().contains("evenkeel-test/large:1"), "{}", runs());
}
