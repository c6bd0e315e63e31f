//! Faults of the machine below the agent: disks that keep nothing, engines that are slow, restart or were restarted with the
//! machine, stores that rot. `docs/reference/faults.md` says which fault is proven where.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{fs, os::unix::fs::FileExt as _, path::Path, process::Command, time::Duration};

use evenkeel_core::{outcome::Outcome, reason::Code};
use evenkeel_tests::{
    disk::Disk,
    docker::{docker, image_id},
    engine::Engine,
    fixture, http,
    program::Run,
    range::{Aim, Operation, Range},
    receivers::socket::Socket,
    shim::Shim,
    skip::is_root,
    wait::{PATIENCE, seconds, wait_until},
    world::{World, page_at},
};

/// A stack `app` that runs image 1.
fn running(world: &World) -> String {
    let file = world.path("app", "compose.yml");
    world.change("Begin").file(&file, fixture::sleeper(1)).push();
    world.once().exits(0);
    file
}

/// The server runs image `n`, and its file says so.
#[track_caller]
fn runs(world: &World, n: u8) {
    let container = world.container("app", "app");
    let image = image_id(&format!("evenkeel-test/busybox:{n}"));
    assert_eq!((container.state(), Some(container.image())), ("running".to_owned(), image));
    let live = fs::read_to_string(world.live(&world.path("app", "compose.yml"))).unwrap();
    assert_eq!(live, fixture::sleeper(n));
}

// ---------------------------------------------------------------- disks

#[test]
fn a_journal_that_cannot_be_made_durable_is_followed_by_no_effect() {
    let mut world = World::new();
    let folder = world.folder().to_path_buf();
    let name = "a_journal_that_cannot_be_made_durable_is_followed_by_no_effect";
    let Some(shim) = Shim::set_up(name, &mut world, &folder) else { return };
    let file = running(&world);
    let before = world.container("app", "app").id();
    shim.break_paths("/state/evenkeel.db");
    world.change("Next").file(&file, fixture::sleeper(2)).push();
    let run = world.once();
    assert!(!matches!(run.code, None | Some(0)), "{}", run.report());
    assert!(run.said().contains("evenkeel.db"), "{}", run.report());
    assert_eq!(world.container("app", "app").id(), before);
    runs(&world, 1);
    shim.mend();
    world.once().exits(0);
    runs(&world, 2);
}

#[test]
fn a_live_file_that_cannot_be_made_durable_brings_the_former_release_back_and_is_tried_again() {
    let mut world = World::new();
    let folder = world.folder().to_path_buf();
    let name = "a_live_file_that_cannot_be_made_durable_brings_the_former_release_back_and_is_tried_again";
    let Some(shim) = Shim::set_up(name, &mut world, &folder) else { return };
    let file = running(&world);
    shim.break_paths("compose.yml.evenkeel-new");
    world.change("Next").file(&file, fixture::sleeper(2)).push();
    world.once();
    world.last_sync(Outcome::RolledBack).deployment(&world.stack("app")).because(Code::FileWrite);
    runs(&world, 1);
    shim.mend();
    world.once().exits(0);
    runs(&world, 2);
}

/// A file that is a mount point cannot be replaced.
struct Pinned<'a>(&'a Path);

impl<'a> Pinned<'a> {
    fn pin(file: &'a Path) -> Self {
        Run::of(Command::new("mount").arg("--bind").args([file, file])).exits(0);
        Self(file)
    }
}

impl Drop for Pinned<'_> {
    fn drop(&mut self) {
        Run::of(Command::new("umount").arg(self.0)).exits(0);
    }
}

#[test]
fn a_live_file_that_cannot_be_replaced_brings_the_former_release_back_and_is_tried_again() {
    let world = World::new();
    if !is_root("a_live_file_that_cannot_be_replaced_brings_the_former_release_back_and_is_tried_again") {
        return;
    }
    let file = running(&world);
    let live = world.live(&file);
    let pinned = Pinned::pin(&live);
    world.change("Next").file(&file, fixture::sleeper(2)).push();
    world.once();
    world.last_sync(Outcome::RolledBack).deployment(&world.stack("app")).because(Code::FileWrite);
    runs(&world, 1);
    let beside: Vec<_> = fs::read_dir(live.parent().unwrap()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(beside, ["compose.yml"], "nothing half-made is left");
    drop(pinned);
    world.once().exits(0);
    runs(&world, 2);
}

#[test]
fn a_live_tree_that_is_read_only_stops_before_anything_is_touched() {
    let world = World::new();
    if !is_root("a_live_tree_that_is_read_only_stops_before_anything_is_touched") {
        return;
    }
    let disk = Disk::mount(&world.server().join("live"), 80);
    let file = running(&world);
    let before = world.container("app", "app").id();
    disk.remount("ro");
    world.change("Next").file(&file, fixture::sleeper(2)).push();
    world.once().exits(7);
    world.last_sync(Outcome::Aborted).deployment(&world.stack("app")).because(Code::FileWrite);
    assert_eq!(world.container("app", "app").id(), before);
    runs(&world, 1);
    disk.remount("rw");
    world.once().exits(0);
    runs(&world, 2);
}

// ---------------------------------------------------------------- the store

#[test]
fn a_store_that_rotted_halts_the_agent_and_nothing_is_touched() {
    let world = World::new();
    let port = world.serve("good");
    let before = world.container("web", "app");
    let store = world.server().join("state/evenkeel.db");
    for beside in ["-wal", "-shm"] {
        // Only there after an unclean end.
        let _ = fs::remove_file(format!("{}{beside}", store.display()));
    }
    let good = fs::read(&store).unwrap();
    // The first page, with what the file is, is as it was; of the others nothing can be made out.
    let rot = vec![0xa5; good.len() - 4096];
    fs::OpenOptions::new().write(true).open(&store).unwrap().write_all_at(&rot, 4096).unwrap();
    world.change("Change the page").file(&world.path("web", "index.html"), "new\n").push();
    let run = world.once();
    run.exits(6);
    assert!(run.said().contains("evenkeel.db") && run.said().contains("malformed"), "{}", run.report());
    let after = world.container("web", "app");
    assert_eq!((after.id(), after.started()), (before.id(), before.started()));
    assert_eq!(http::text(&page_at(port)), Ok("good".to_owned()));
    fs::write(&store, good).unwrap();
    world.once().exits(0);
    assert_eq!(http::text(&page_at(port)), Ok("new".to_owned()));
}

// ---------------------------------------------------------------- engines and registries

#[test]
fn a_slow_engine_is_waited_for_and_fails_nothing() {
    let mut world = World::new();
    let way = Socket::to_engine(&world.folder().join("engine.sock"));
    world.config.set("engine", &format!("{{ socket: \"{}\" }}", way.url()));
    let port = world.serve("good");
    way.slow_down(Duration::from_millis(250));
    world
        .change("Next")
        .file(&world.path("web", "compose.yml"), fixture::web(2, port))
        .file(&world.path("web", "index.html"), "new\n")
        .push();
    world.once().exits(0);
    assert_eq!(http::text(&page_at(port)), Ok("new".to_owned()));
    assert_eq!(Some(world.container("web", "app").image()), image_id("evenkeel-test/busybox:2"));
}

/// A push of an image whose tag somebody moves after it was staged.
struct Moved {
    tag: String,
}

impl Operation for Moved {
    type Begun = ();

    fn begin(&mut self, range: &mut Range) {
        let world = &range.world;
        docker(&["tag", "evenkeel-test/busybox:2", &self.tag]);
        let compose = fixture::sleeper(1).replace("evenkeel-test/busybox:1", &self.tag);
        world.change("Next").file(&world.path("app", "compose.yml"), compose).push();
        range.mark();
        range.start();
    }

    fn check(&mut self, range: &mut Range, (): (), told: &str) {
        range.settle();
        assert_eq!(range.ended(), ["committed"], "{told}");
        let staged = image_id("evenkeel-test/busybox:2");
        assert_eq!(Some(range.world.container("app", "app").image()), staged, "{told}");
        assert_eq!(image_id(&self.tag), staged, "{told}: the tag stands for what runs");
    }
}

#[test]
fn a_tag_that_moves_between_staging_and_apply_changes_nothing_about_what_is_applied() {
    let mut range = Range::new();
    running(&range.world);
    let tag = format!("{}/app:latest", range.world.prefix());
    let mut moved = Moved { tag: tag.clone() };
    range.round_with(&mut moved, &Aim::Steps(vec!["apply_started".to_owned()], Duration::ZERO), |_| {
        docker(&["tag", "evenkeel-test/busybox:3", &tag]);
    });
}

#[test]
fn what_stood_still_after_a_reboot_is_started_and_nothing_else_is_touched() {
    let mut world = World::new();
    let again = fixture::sleeper(1) + "    restart: unless-stopped\n";
    world
        .change("Two")
        .file(&world.path("app", "compose.yml"), fixture::sleeper(1))
        .file(&world.path("other", "compose.yml"), again)
        .push();
    world.config.source(&world.repository.url(), "1h");
    world.once().exits(0);
    let before = world.container("other", "app");
    // As a machine that went down: the engine starts again what has a restart policy, and nothing of the rest.
    docker(&["kill", &world.container("app", "app").id()]);
    world.start_and_wait();
    let back = world.wait_container("app", "app", "runs again", |c| c.state() == "running");
    assert_eq!(Some(back.image()), image_id("evenkeel-test/busybox:1"));
    assert_eq!(world.containers("app").len(), 1);
    let after = world.container("other", "app");
    assert_eq!((after.id(), after.started()), (before.id(), before.started()));
}

#[test]
fn containers_that_live_on_without_their_engine_are_found_again_as_they_are() {
    let mut world = World::new();
    let name = "containers_that_live_on_without_their_engine_are_found_again_as_they_are";
    let Some(mut engine) = Engine::start(name, world.folder(), 300) else { return };
    engine.stop();
    engine.configure("{ \"live-restore\": true }\n");
    engine.resume();
    world.config.set("engine", &format!("{{ socket: \"{}\" }}", engine.url()));
    world.config.set("gate", "{ min_healthy_time: 1s, healthy_deadline: 60s, progress_deadline: 90s }");
    world.config.source(&world.repository.url(), "300ms");
    let file = world.path("app", "compose.yml");
    let compose = |n: u8| fixture::sleeper(1) + &format!("    network_mode: none\n    environment: {{ N: '{n}' }}\n");
    world.change("Begin").file(&file, compose(1)).push();
    world.once().exits(0);
    world.start_and_wait();
    let seen = |engine: &Engine| engine.docker(&["ps", "--no-trunc", "--format", "{{.ID}} {{.State}}"]).ok();
    let before = seen(&engine);
    let pid = engine.docker(&["inspect", "--format", "{{.State.Pid}}", before.split(' ').next().unwrap()]).ok();
    engine.stop();
    assert!(Path::new(&format!("/proc/{pid}")).exists(), "it lives on");
    let commit = world.change("Meanwhile").file("README.md", "words\n").push();
    world.wait_logged("code=engine.unreachable");
    engine.resume();
    wait_until(PATIENCE, "the commit is accepted and nothing else was done", || {
        let accepted = world.status().source.accepted;
        let idle = world.try_history()?.syncs.iter().all(|s| s.outcome.is_some());
        if accepted.as_ref() == Some(&commit) && idle { Ok(()) } else { Err(format!("{accepted:?}")) }
    });
    assert_eq!(seen(&engine), before);
    let commit = world.change("Next").file(&file, compose(2)).push();
    world.wait_sync(&commit, Outcome::Committed);
    assert_ne!(seen(&engine), before);
    world.take_agent().terminate(seconds(20));
}
