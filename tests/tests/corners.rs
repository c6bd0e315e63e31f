//! Corners of a deployment: what was left half done before, what others share, what people did meanwhile.

use std::fs;

use evenkeel_core::{outcome::Outcome, reason::Code};
use evenkeel_tests::{
    docker::{Container, docker, image_id},
    fixture, http, port,
    program::Run,
    receivers::webhook::Webhook,
    wait::{PATIENCE, seconds, wait_until},
    world::{World, page_at},
};
use serde_json::json;

/// The containers of a stack, as a person would list them.
fn shown(world: &World, stack: &str) -> Vec<String> {
    world.containers(stack).iter().map(Container::shown).collect()
}

#[test]
fn a_first_deployment_that_failed_is_mended_by_the_next_push() {
    let world = World::new();
    let port = port::free();
    world
        .change("Broken from the start")
        .file(&world.path("web", "compose.yml"), fixture::sick_web(1, port))
        .file(&world.path("web", "index.html"), "bad\n")
        .push();
    world.once().exits(5);
    world
        .change("Mend it")
        .file(&world.path("web", "compose.yml"), fixture::web(1, port))
        .file(&world.path("web", "index.html"), "good\n")
        .push();
    world.once().exits(0);
    assert_eq!(http::text(&page_at(port)), Ok("good".to_owned()));
}

#[test]
fn a_stack_that_was_removed_leaves_no_file_of_its_own_and_can_come_back_changed() {
    let world = World::new();
    world.change("One that stays").file(&world.path("api", "compose.yml"), fixture::sleeper(1)).push();
    let port = world.serve("one");
    let notes = world.live(&world.path("web", "notes.txt"));
    fs::write(&notes, "mine\n").unwrap();
    world.change("Away").remove(&world.path("web", "")).push();
    world.once().exits(0);
    assert!(!world.live(&world.path("web", "index.html")).exists());
    assert_eq!(fs::read_to_string(&notes).unwrap(), "mine\n");
    world
        .change("Back, and changed")
        .file(&world.path("web", "compose.yml"), fixture::web(2, port))
        .file(&world.path("web", "index.html"), "two\n")
        .push();
    world.once().exits(0);
    assert_eq!(http::text(&page_at(port)), Ok("two".to_owned()));
}

#[test]
fn a_one_shot_may_end_though_its_image_brings_a_healthcheck() {
    // The engine calls every container with a healthcheck unhealthy once it has ended.
    let world = World::new();
    let tag = format!("{}/checked:1", world.prefix());
    let context =
        world.config.put("context/Dockerfile", "FROM evenkeel-test/busybox:1\nHEALTHCHECK --interval=500ms CMD true\n");
    docker(&["build", "--quiet", "--tag", &tag, &context.parent().unwrap().to_string_lossy()]);
    let compose = format!(
        "services:
  migrate: {{ image: '{tag}', command: [sleep, '1'] }}
  app:
    image: '{tag}'
    init: true
    command: [sleep, '100000']
    depends_on: {{ migrate: {{ condition: service_completed_successfully }} }}
"
    );
    world.change("Migrate, then run").file(&world.path("web", "compose.yml"), compose).push();
    world.once().exits(0);
    assert_eq!(world.container("web", "migrate").state(), "exited");
    assert_eq!(world.container("web", "app").state(), "running");
}

#[test]
fn a_rollback_also_brings_back_a_service_that_the_candidate_only_brought_down() {
    let world = World::new();
    let compose = |db: &str| {
        format!(
            "services:
  db:
    image: evenkeel-test/busybox:1
    init: true
    command: [sh, -c, '{db} /shared/poison; exec sleep 100000']
    volumes: ['shared:/shared']
  app:
    image: evenkeel-test/busybox:1
    init: true
    command: [sh, -c, 'sleep 0.5; while [ ! -e /shared/poison ]; do sleep 0.2; done; exit 3']
    volumes: ['shared:/shared']
volumes: {{ shared: {{}} }}
"
        )
    };
    world.change("Both run").file(&world.path("app", "compose.yml"), compose("rm -f")).push();
    world.once().exits(0);
    world.change("Poison").file(&world.path("app", "compose.yml"), compose("touch")).push();
    world.once().exits(5);
    assert_eq!(world.container("app", "db").state(), "running");
    assert_eq!(world.container("app", "app").state(), "running", "it ran before this deployment");
}

#[test]
fn a_service_that_a_person_stopped_stays_stopped_through_a_rollback() {
    let world = World::new();
    let clock = "  clock: { image: 'evenkeel-test/busybox:1', init: true, command: [sleep, '100000'] }\n";
    world.change("Two").file(&world.path("app", "compose.yml"), fixture::sleeper(1) + clock).push();
    world.once().exits(0);
    let id = world.container("app", "clock").id();
    docker(&["stop", &id]);
    let sick = fixture::sleeper(2) + "    healthcheck: { test: [CMD, 'false'], interval: 500ms, retries: 1 }\n";
    world.change("Sick").file(&world.path("app", "compose.yml"), sick + clock).push();
    world.once().exits(5);
    let clock = world.container("app", "clock");
    assert_eq!((clock.id(), clock.state()), (id, "exited".to_owned()));
}

#[test]
fn stacks_that_go_up_side_by_side_share_an_external_network_that_nobody_made() {
    let world = World::new();
    let network = world.stack("proxy-net");
    let joined = format!(
        "{}    networks: [proxy]\nnetworks: {{ proxy: {{ external: true, name: {network} }} }}\n",
        fixture::sleeper(1)
    );
    let mut change = world.change("All join the proxy's network");
    for stack in ["a", "b", "c", "d"] {
        change = change.file(&world.path(stack, "compose.yml"), &joined);
    }
    change.push();
    world.once().exits(0);
    let names = docker(&["network", "ls", "--format", "{{.Name}}"]);
    assert_eq!(names.lines().filter(|name| *name == network).count(), 1);
}

#[test]
fn a_halted_stack_is_whole_again_after_a_push_that_goes_back() {
    let mut world = World::new();
    world.config.source(&world.repository.url(), "300ms");
    let flag = world.server().join("flag");
    fs::create_dir_all(&flag).unwrap();
    fs::write(flag.join("well"), "").unwrap();
    let compose = |image: u8, test: &str| {
        format!(
            "{}    volumes: ['{}:/flag:ro']\n    healthcheck: {{ test: {test}, interval: 500ms, retries: 2 }}\n",
            fixture::sleeper(image),
            flag.display()
        )
    };
    let well = compose(1, "[CMD, test, -e, /flag/well]");
    world.change("Well").file(&world.path("app", "compose.yml"), &well).push();
    world.once().exits(0);
    world.start_and_wait();
    let sick = world.change("Sick").file(&world.path("app", "compose.yml"), compose(2, "[CMD, 'false']")).push();
    let candidate = image_id("evenkeel-test/busybox:2").unwrap();
    world.wait_container("app", "app", "of the candidate is there", |c| c.image() == candidate);
    fs::remove_file(flag.join("well")).unwrap();
    world.wait_sync(&sick, Outcome::Halted);
    let history = world.history();
    let halts = history.deployments(&world.stack("app"));
    let halts: Vec<_> = halts.into_iter().filter(|d| d.outcome == Some(Outcome::Halted)).collect();
    assert_eq!(halts.len(), 1, "it is told once: {halts:#?}");
    let why = halts[0].because(Code::RollbackFailed);
    assert!(why.contains("app"), "{why}");
    world.take_agent().terminate(seconds(30));
    world.once().exits(6);
    fs::write(flag.join("well"), "").unwrap();
    let back = world.change("Back").file(&world.path("app", "compose.yml"), &well).push();
    world.once().exits(0);
    world.last_sync(Outcome::Committed).deployment(&world.stack("app")).ended(Outcome::Committed);
    let status = world.status();
    let stack = status.stack(&world.stack("app"));
    assert_eq!((stack.state.as_str(), stack.commit.as_deref()), ("steady", Some(back.as_str())));
    assert_eq!(world.container("app", "app").health(), "healthy");
    world.once().exits(0);
}

#[test]
fn a_stack_is_steady_again_when_a_push_goes_back_to_what_it_runs() {
    let world = World::new();
    world.change("Well").file(&world.path("app", "compose.yml"), fixture::sleeper(1)).push();
    world.once().exits(0);
    let sick = fixture::sleeper(2) + "    healthcheck: { test: [CMD, 'false'], interval: 500ms, retries: 1 }\n";
    world.change("Sick").file(&world.path("app", "compose.yml"), sick).push();
    world.once().exits(5);
    let id = world.container("app", "app").id();
    world.change("Back").file(&world.path("app", "compose.yml"), fixture::sleeper(1)).push();
    world.once().exits(0);
    assert_eq!(world.container("app", "app").id(), id);
    assert_eq!(world.status().stack(&world.stack("app")).state, "steady");
}

#[test]
fn a_stop_begins_no_further_stack_and_the_sync_ends_with_its_last_deployment() {
    let mut world = World::new();
    world.change("One").file(&world.path("api", "compose.yml"), fixture::sleeper(1)).push();
    world.once().exits(0);
    world.config.source(&world.repository.url(), "300ms");
    world.start_and_wait();
    let web = format!("{}x-evenkeel: {{ depends_on: [{}] }}\n", fixture::sleeper(1), world.stack("api"));
    let commit = world
        .change("Two stacks")
        .file(&world.path("web", "compose.yml"), web)
        .file(&world.path("api", "compose.yml"), fixture::slow(2, 6))
        .push();
    let candidate = image_id("evenkeel-test/busybox:2").unwrap();
    world.wait_container("api", "app", "of the candidate is there", |c| c.image() == candidate);
    world.take_agent().terminate(seconds(30));
    let history = world.history();
    assert!(history.deployments(&world.stack("web")).is_empty(), "nothing more is begun: {history:#?}");
    assert_eq!(history.of(&commit).unwrap().outcome, None, "it has not ended: {history:#?}");
    world.once().exits(0);
    let history = world.history();
    let cut = history.oldest_first().into_iter().find(|s| s.commit.as_deref() == Some(&commit)).unwrap();
    assert_eq!(cut.outcome, Some(Outcome::Committed), "{cut:#?}");
    assert_eq!(world.container("web", "app").state(), "running");
}

#[test]
fn a_stop_in_a_removals_wave_takes_nothing_else_down() {
    let mut world = World::new();
    world
        .change("Two stacks")
        .file(&world.path("api", "compose.yml"), fixture::sleeper(1))
        .file(&world.path("old", "compose.yml"), fixture::sleeper(1))
        .push();
    world.once().exits(0);
    world.config.source(&world.repository.url(), "300ms");
    world.start_and_wait();
    let change = world.change("Slow, and one less").file(&world.path("api", "compose.yml"), fixture::slow(2, 6));
    change.remove(&world.path("old", "")).push();
    let candidate = image_id("evenkeel-test/busybox:2").unwrap();
    world.wait_container("api", "app", "of the candidate is there", |c| c.image() == candidate);
    world.take_agent().terminate(seconds(30));
    assert_eq!(world.container("old", "app").state(), "running");
    assert!(world.history().deployments(&world.stack("old")).len() == 1, "{:#?}", world.history());
}

#[test]
fn each_commit_that_cannot_be_staged_is_told_once() {
    let mut world = World::new();
    let webhook = Webhook::start("the-key");
    let sink = webhook.sink(&world.config);
    world.report_to(&[sink]);
    let missing = |tag: &str| {
        let compose = fixture::sleeper(1).replace("evenkeel-test/busybox:1", &format!("127.0.0.1:1/absent:{tag}"));
        format!("{compose}    pull_policy: never\n")
    };
    for tag in ["one", "two"] {
        let commit = world.change(tag).file(&world.path("app", "compose.yml"), missing(tag)).push();
        for _ in 0..2 {
            world.once().exits(1);
        }
        let taken = webhook.taken();
        let told = taken.iter().filter(|d| d.body["commit"]["id"] == commit.as_str()).count();
        assert_eq!(told, 1, "of {tag}: {taken:#?}");
    }
}

#[test]
fn a_stack_that_is_renamed_and_keeps_its_project_is_taken_over_as_it_runs() {
    let world = World::new();
    let projects = ["x", "y"].map(|p| world.stack(p));
    let named = |project: &str| format!("name: {project}\n{}", fixture::sleeper(1));
    world
        .change("Two")
        .file(&world.path("one", "compose.yml"), named(&projects[0]))
        .file(&world.path("two", "compose.yml"), named(&projects[1]))
        .push();
    world.once().exits(0);
    let ids = || projects.clone().map(|p| Container::of_project(&p).iter().map(Container::id).collect::<Vec<_>>());
    let before = ids();
    world
        .change("Other folders")
        .remove(&world.path("one", ""))
        .remove(&world.path("two", ""))
        .file(&world.path("first", "compose.yml"), named(&projects[0]))
        .file(&world.path("second", "compose.yml"), named(&projects[1]))
        .push();
    let work = world.repository.work.to_string_lossy().into_owned();
    let plan = Run::of(&mut world.command(&[
        "plan", "--repo", &work, "--server", "home", "--from", "HEAD~1", "--to", "HEAD", "--format", "json",
    ]))
    .json();
    let renamed = [("one", "first"), ("two", "second")]
        .map(|(from, to)| json!({ "from": world.stack(from), "to": world.stack(to) }));
    assert_eq!(plan["servers"][0]["renamed"], json!(renamed), "{plan:#}");
    let changes = plan["servers"][0]["waves"].to_string();
    assert!(!changes.contains("\"remove\"") && !changes.contains("\"create\""), "{plan:#}");
    world.once().exits(0);
    assert_eq!(ids(), before, "nothing may be removed or made anew for a name");
    let runs: Vec<String> = world.status().stacks.iter().map(|s| format!("{} {}", s.name, s.state)).collect();
    let expected = ["first", "second"].map(|name| format!("{} steady", world.stack(name)));
    assert_eq!(runs, expected);
    // The images of its former life are still kept and let go under the name that they had.
    world
        .change("On")
        .file(&world.path("first", "compose.yml"), named(&projects[0]).replace("busybox:1", "busybox:2"))
        .push();
    world.once().exits(0);
    let kept = world.evenkeel(&["releases", &world.stack("first"), "--format", "json"]).json();
    assert_eq!(kept["releases"].as_array().map(Vec::len), Some(3), "{kept:#}");
}

#[test]
fn a_replica_that_somebody_removed_is_made_again_with_the_next_change() {
    let world = World::new();
    let two = fixture::sleeper(1) + "    scale: 2\n";
    let clock =
        |n: u8| format!("  clock: {{ image: 'evenkeel-test/busybox:{n}', init: true, command: [sleep, '9999'] }}\n");
    world.change("Two").file(&world.path("app", "compose.yml"), two.clone() + &clock(1)).push();
    world.once().exits(0);
    let all = Container::of_service(&world.stack("app"), "app");
    docker(&["rm", "--force", &all[0].id()]);
    world.change("Another clock").file(&world.path("app", "compose.yml"), two + &clock(2)).push();
    world.once().exits(0);
    assert_eq!(Container::of_service(&world.stack("app"), "app").len(), 2, "{:?}", shown(&world, "app"));
}

#[test]
fn a_persons_own_container_in_a_project_does_not_keep_the_stack_from_being_removed() {
    let world = World::new();
    world
        .change("Two stacks")
        .file(&world.path("api", "compose.yml"), fixture::sleeper(1))
        .file(&world.path("app", "compose.yml"), fixture::sleeper(1))
        .push();
    world.once().exits(0);
    let file = world.folder().join("mine.yml");
    fs::write(&file, fixture::sleeper(1).replace("app:", "mine:")).unwrap();
    docker(&["compose", "-p", &world.stack("app"), "-f", &file.to_string_lossy(), "up", "--detach"]);
    let mine = world.container("app", "mine").id();
    world.change("Away").remove(&world.path("app", "")).push();
    world.once().exits(0);
    assert_eq!(world.container("app", "mine").id(), mine);
    assert_eq!(world.containers("app").len(), 1, "{:?}", shown(&world, "app"));
    world.once().exits(0);
    wait_until(PATIENCE, "the removal is told once", || {
        let history = world.history();
        let removed = history.deployments(&world.stack("app")).len();
        if removed == 2 { Ok(()) } else { Err(format!("{history:#?}")) }
    });
}
