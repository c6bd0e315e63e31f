//! What people tell the agent: back, once more, take it as good, leave it alone.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::fs;

use evenkeel_core::{outcome::Outcome, reason::Code};
use evenkeel_tests::{
    docker::{self, image_id},
    fixture, http, port,
    program::Run,
    receivers::webhook::Webhook,
    wait::{PATIENCE, seconds, stays, wait_until},
    world::{World, page_at},
};
use serde_json::Value;

/// What the page at `port` says.
fn page(port: u16) -> Result<String, String> {
    http::text(&page_at(port))
}

/// Three releases of one page, each with another image and text: `one`, `two`, `three`. The agent runs.
fn three_releases() -> (World, u16) {
    let mut world = World::new();
    let port = world.serve("one");
    for (image, text) in [(2, "two"), (3, "three")] {
        world
            .change(text)
            .file(&world.path("web", "compose.yml"), fixture::web(image, port))
            .file(&world.path("web", "index.html"), format!("{text}\n"))
            .push();
        world.once().exits(0);
    }
    assert_eq!(page(port), Ok("three".to_owned()));
    world.start_and_wait();
    (world, port)
}

fn json(run: &Run) -> Value {
    run.exits(0).json()
}

/// The ids of the kept releases, newest first.
fn kept(world: &World) -> Vec<i64> {
    let said = json(&world.evenkeel(&["releases", &world.stack("web"), "--format", "json"]));
    let releases = said["releases"].as_array().unwrap();
    assert_eq!(releases.iter().filter(|r| r["current"] == true).count(), 1, "{said:#}");
    releases.iter().map(|r| r["id"].as_i64().unwrap()).collect()
}

/// Makes the repository unreachable, as a pulled network cable would.
fn cut_off(world: &World) {
    fs::rename(&world.repository.bare, world.repository.bare.with_extension("away")).unwrap();
}

fn plug_in(world: &World) {
    fs::rename(world.repository.bare.with_extension("away"), &world.repository.bare).unwrap();
}

#[test]
fn an_earlier_release_comes_back_without_the_repository_and_stays_until_it_wants_something_else() {
    let (world, port) = three_releases();
    let stack = world.stack("web");
    let [three, two, one] = kept(&world)[..] else { panic!("three releases are kept: {:?}", kept(&world)) };
    cut_off(&world);
    let said = world.evenkeel(&["rollback", &stack, "--reason", "three is slow"]);
    assert!(said.exits(0).stdout.contains(&format!("release {two} put back")), "{}", said.report());
    assert_eq!(page(port), Ok("two".to_owned()));
    assert_eq!(world.container("web", "app").image(), image_id("evenkeel-test/busybox:2").unwrap());
    assert_eq!(world.status().stack(&stack).state, "held");
    world.evenkeel(&["rollback", &stack, "--to", &one.to_string(), "--reason", "so is two"]).exits(0);
    assert_eq!(page(port), Ok("one".to_owned()));
    let unknown = world.evenkeel(&["rollback", &stack, "--to", "4711", "--reason", "x"]);
    assert!(unknown.exits(2).stderr.contains("no kept release 4711"), "{}", unknown.report());
    plug_in(&world);

    let held = world.evenkeel(&["sync"]);
    assert!(held.exits(1).stdout.contains("so is two"), "it is held, and says by whom and why: {}", held.report());
    world.change("Only a word").file("README.md", "words\n").push();
    world.evenkeel(&["sync"]).exits(1);
    assert_eq!(page(port), Ok("one".to_owned()), "a commit that changes nothing of the stack changes nothing");
    let told = json(&world.evenkeel(&["history", "--format", "json"]));
    let first = told["interventions"].as_array().unwrap().last().unwrap();
    assert_eq!((&first["told"], &first["reason"]), (&Value::from("rollback"), &Value::from("three is slow")));
    assert!(first["by"]["uid"].is_u64() && first["by"]["name"].is_string(), "{first}");

    world.change("Four").file(&world.path("web", "index.html"), "four\n").push();
    world.evenkeel(&["sync"]).exits(0);
    assert_eq!((page(port), world.status().stack(&stack).state.as_str()), (Ok("four".to_owned()), "steady"));
    assert!(kept(&world).contains(&three), "what a person went back from is kept as well");
}

#[test]
fn a_retry_after_a_rollback_deploys_what_the_repository_wants() {
    let (world, port) = three_releases();
    let stack = world.stack("web");
    world.evenkeel(&["rollback", &stack, "--reason", "by mistake"]).exits(0);
    assert_eq!(page(port), Ok("two".to_owned()));
    let explained = world.evenkeel(&["explain", &stack]);
    assert!(explained.exits(0).stdout.contains(&format!("evenkeel retry {stack}")), "{}", explained.report());
    world.evenkeel(&["retry", &stack]).exits(0);
    assert_eq!((page(port), world.status().stack(&stack).state.as_str()), (Ok("three".to_owned()), "steady"));
}

#[test]
fn a_release_that_does_not_pass_any_more_gives_way_to_what_ran() {
    let mut world = World::new();
    let picky = fixture::sleeper(1)
        + "    volumes: ['./flags:/flags:ro']\n    healthcheck: { test: [CMD, test, '!', -e, /flags/bad], interval: 500ms, retries: 2 }\n";
    let (stack, path) = (world.stack("app"), world.path("app", "compose.yml"));
    world.change("One").file(&path, &picky).file(&world.path("app", "flags/good"), "").push();
    world.once().exits(0);
    world.change("Two").file(&path, fixture::sleeper(2)).push();
    world.once().exits(0);
    let flag = world.live(&world.path("app", "flags/bad"));
    fs::create_dir_all(flag.parent().unwrap()).unwrap();
    fs::write(flag, "").unwrap();
    world.start_and_wait();
    let failed = world.evenkeel(&["rollback", &stack, "--reason", "two is slow"]);
    assert!(failed.exits(5).stdout.contains("unhealthy"), "{}", failed.report());
    assert_eq!(world.container("app", "app").image(), image_id("evenkeel-test/busybox:2").unwrap());
    world.evenkeel(&["sync"]).exits(0);
    assert_eq!(world.status().stack(&stack).state, "steady");
}

#[test]
fn what_failed_is_tried_once_more_or_taken_as_it_is() {
    let mut world = World::new();
    let port = world.serve("good");
    let stack = world.stack("web");
    world.change("Break it").file(&world.path("web", "compose.yml"), fixture::sick_web(2, port)).push();
    world.once().exits(5);
    world.start_and_wait();
    let explained = world.evenkeel(&["explain", &stack]);
    for word in ["why:", "unhealthy", "next:", &format!("evenkeel accept {stack}")] {
        assert!(explained.exits(0).stdout.contains(word), "{word} is missing: {}", explained.report());
    }
    world.evenkeel(&["retry", &stack, "--reason", "perhaps now"]).exits(5);
    let tries = world.history().deployments(&stack).iter().filter(|d| d.outcome == Some(Outcome::RolledBack)).count();
    assert_eq!(tries, 2);
    world.evenkeel(&["accept", &stack, "--reason", "it is fine as it is"]).exits(0);
    assert_eq!(world.status().stack(&stack).state, "held");
    world.evenkeel(&["sync"]).exits(1);
    let history = world.history();
    let last = history.deployments(&stack).into_iter().last().unwrap();
    assert!(last.ended(Outcome::Held).because(Code::HeldByPerson).contains("it is fine as it is"));
    let nothing = world.evenkeel(&["accept", &stack, "--reason", "again"]);
    assert_eq!(nothing.code, Some(1), "{}", nothing.report());
    assert_eq!(page(port), Ok("good".to_owned()));
}

#[test]
fn a_suspended_stack_is_left_alone_ends_by_itself_and_survives_a_restart() {
    let mut world = World::new();
    let webhook = Webhook::start("the-key");
    let secret = world.config.put("webhook-secret", "the-key");
    let on = "[deployed, held, recovered]";
    let sink = format!("[{{ webhook: {{ url: {}, secret_file: {} }}, on: {on} }}]", webhook.url(), secret.display());
    world.config.set("reports", &sink);
    let port = world.serve("one");
    let stack = world.stack("web");
    world.start_and_wait();
    world.evenkeel(&["suspend", &stack, "--for", "7s", "--reason", "importing"]).exits(0);
    let commit = world.change("Two").file(&world.path("web", "index.html"), "two\n").push();
    let held = world.evenkeel(&["sync"]);
    assert!(held.exits(1).stdout.contains("importing"), "{}", held.report());
    world.take_agent().kill();
    world.start_and_wait();
    assert_eq!(page(port), Ok("one".to_owned()));
    let status = json(&world.evenkeel(&["status", "--format", "json"]));
    assert_eq!(status["stacks"][0]["suspended"]["reason"], "importing", "{status:#}");
    world.wait_sync(&commit, Outcome::Committed);
    assert_eq!(page(port), Ok("two".to_owned()));
    wait_until(PATIENCE, "begin and end are told", || {
        let taken: Vec<String> = webhook.taken().iter().map(|d| d.event.clone()).collect();
        let has = |event: &str| taken.iter().any(|taken| taken == event);
        if has("held") && has("recovered") { Ok(()) } else { Err(format!("{taken:?}")) }
    });
}

#[test]
fn the_panic_switch_holds_everything_until_it_is_lifted() {
    let mut world = World::new();
    let port = world.serve("one");
    world.config.source(&world.repository.url(), "300ms");
    world.start_and_wait();
    let neither = world.evenkeel(&["suspend", "--for", "1h", "--reason", "x"]);
    assert_eq!(neither.code, Some(2), "{}", neither.report());
    world.evenkeel(&["suspend", "--all", "--for", "1h", "--reason", "something is wrong"]).exits(0);
    world.change("Two").file(&world.path("web", "index.html"), "two\n").push();
    world.change("A new one").file(&world.path("new", "compose.yml"), fixture::sleeper(1)).push();
    stays(seconds(2), "nothing is deployed", || {
        let now = (page(port), world.containers("new").len());
        if now == (Ok("one".to_owned()), 0) { Ok(()) } else { Err(format!("{now:?}")) }
    });
    world.evenkeel(&["resume", "--all"]).exits(0);
    wait_until(PATIENCE, "what waited is deployed", || {
        let now = (page(port), world.containers("new").len());
        if now == (Ok("two".to_owned()), 1) { Ok(()) } else { Err(format!("{now:?}")) }
    });
    let again = world.evenkeel(&["resume", "--all"]);
    assert_eq!(again.code, Some(1), "{}", again.report());
}

/// The stacks `a`, `b` and `c`, deployed one after the other by an agent that looks often and has a page on the returned port.
fn one_after_the_other() -> (World, u16) {
    let mut world = World::new();
    let engine = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
    world.config.set("engine", &format!("{{ socket: \"{engine}\", parallel: 1 }}"));
    world.config.set("gate", "{ min_healthy_time: 500ms, healthy_deadline: 60s, progress_deadline: 90s }");
    let page = port::free();
    world.config.set("listen", &format!("{{ page: 127.0.0.1:{page} }}"));
    world.config.source(&world.repository.url(), "300ms");
    push_three(&world, "Begin", &fixture::sleeper(1));
    world.once().exits(0);
    (world, page)
}

fn push_three(world: &World, subject: &str, compose: &str) -> String {
    let names = ["a", "b", "c"];
    names.iter().fold(world.change(subject), |c, name| c.file(&world.path(name, "compose.yml"), compose)).push()
}

#[test]
fn the_panic_switch_holds_what_has_not_begun_and_all_that_drifts_and_ends_by_itself() {
    let (mut world, page) = one_after_the_other();
    let commit = push_three(&world, "Next", &fixture::slow(2, 5));
    world.start_and_wait();
    let second = image_id("evenkeel-test/busybox:2").unwrap();
    wait_until(PATIENCE, "the first is on trial", || {
        let now = world.containers("a").pop().ok_or("there is none")?;
        if now.image() == second && now.health() == "starting" { Ok(()) } else { Err(now.shown()) }
    });
    world.evenkeel(&["suspend", "--all", "--for", "20s", "--reason", "something is wrong"]).exits(0);
    // What was under way goes on to its end; what waited for its turn in the same sync does not begin.
    let sync = world.wait_sync(&commit, Outcome::Held);
    sync.deployment(&world.stack("a")).ended(Outcome::Committed);
    for name in ["b", "c"] {
        let message = sync.deployment(&world.stack(name)).ended(Outcome::Held).because(Code::HeldBySuspension);
        assert!(message.contains("something is wrong") && message.contains("evenkeel resume --all"), "{message}");
    }
    let asked = world.evenkeel(&["sync"]);
    assert!(asked.exits(1).stdout.contains("something is wrong"), "it says why nothing happens: {}", asked.report());
    let explained = world.evenkeel(&["explain", &world.stack("b")]);
    assert!(explained.exits(0).stdout.contains("evenkeel resume --all"), "{}", explained.report());
    let shown = |path: &str| http::text(&format!("http://127.0.0.1:{page}{path}")).unwrap();
    assert!(shown("/").contains("Every stack is suspended until") && shown("/").contains("something is wrong"));
    let metrics = shown("/metrics");
    for line in
        ["evenkeel_suspended 1".to_owned(), format!("evenkeel_stack_suspended{{stack=\"{}\"}} 1", world.stack("c"))]
    {
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }
    // Nor is anything put back; but what a person orders by name is done.
    docker::docker(&["rm", "--force", &world.container("a", "app").id()]);
    docker::docker(&["rm", "--force", &world.container("c", "app").id()]);
    wait_until(PATIENCE, "the drift is told", || {
        let status = world.evenkeel(&["status", "--format", "json"]).json();
        let drift = &status["stacks"][2]["drift"];
        if drift[0]["kind"] == "missing" { Ok(()) } else { Err(format!("{status:#}")) }
    });
    world.evenkeel(&["rollback", &world.stack("a"), "--reason", "it was fine before"]).exits(0);
    assert_eq!(world.container("a", "app").image(), image_id("evenkeel-test/busybox:1").unwrap());
    stays(seconds(2), "nothing else is put back", || {
        let found = world.containers("c").len();
        if found == 0 { Ok(()) } else { Err(format!("{found}")) }
    });
    // It ends by itself, and all that waited is done.
    for name in ["b", "c"] {
        world.wait_container(name, "app", "is as the commit wants it", |c| {
            c.image() == second && c.health() == "healthy"
        });
    }
    wait_until(PATIENCE, "nothing is suspended any more", || {
        let text = shown("/metrics");
        if text.contains("\nevenkeel_suspended 0\n") { Ok(()) } else { Err(text) }
    });
}

/// A window that is closed for hours, and one that is open.
fn windows() -> [String; 2] {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() / 60 % 1440;
    let clock = |minutes: u64| format!("{:02}:{:02}", minutes % 1440 / 60, minutes % 60);
    let span = |from: u64| format!("{}-{} UTC", clock(now + from), clock(now + from + 120));
    [span(600), span(1440 - 60)]
}

#[test]
fn a_maintenance_window_gates_the_beginning_and_a_person_may_override_it() {
    let mut world = World::new();
    let [closed, open] = windows();
    world.config.set("window", &closed);
    let app = fixture::sleeper(1) + &format!("x-evenkeel: {{ window: ['{open}'] }}\n");
    world
        .change("One that has a window of its own")
        .file(&world.path("app", "compose.yml"), &app)
        .file(&world.path("other", "compose.yml"), fixture::sleeper(1))
        .push();
    world.start_and_wait();
    let held = world.evenkeel(&["sync"]);
    assert!(held.exits(1).stdout.contains(&format!("maintenance window ({closed})")), "{}", held.report());
    assert_eq!((world.containers("app").len(), world.containers("other").len()), (1, 0));
    let explained = world.evenkeel(&["explain", &world.stack("other")]);
    assert!(explained.exits(0).stdout.contains("evenkeel sync --override"), "{}", explained.report());
    let bare = world.evenkeel(&["sync", "--override"]);
    assert_eq!(bare.code, Some(2), "without a reason: {}", bare.report());
    world.evenkeel(&["sync", "--override", "--reason", "it cannot wait"]).exits(0);
    assert_eq!(world.containers("other").len(), 1);
    let told = json(&world.evenkeel(&["history", "--format", "json"]));
    assert_eq!(told["syncs"][0]["stated"]["reason"], "it cannot wait", "{told:#}");
}

#[test]
fn a_confirm_is_for_the_very_plan_that_it_names() {
    let mut world = World::new();
    let names = ["a", "b", "c"];
    let mut change = world.change("Four").file(&world.path("d", "compose.yml"), fixture::sleeper(1));
    for name in names {
        change = change.file(&world.path(name, "compose.yml"), fixture::sleeper(1));
    }
    change.push();
    world.once().exits(0);
    world.start_and_wait();
    world.change("Two go").remove(&world.path("a", "")).remove(&world.path("b", "")).push();
    world.evenkeel(&["sync"]).exits(1);
    let waiting = || json(&world.evenkeel(&["status", "--format", "json"]))["guarded"].clone();
    let first = waiting()["plan"].as_str().unwrap().to_owned();
    let running = || names.map(|name| world.containers(name).len());
    assert_eq!(running(), [1, 1, 1], "nothing is removed");
    let other = world.evenkeel(&["confirm", "000000000000", "--reason", "x"]);
    assert!(other.exits(2).stderr.contains(&first), "the one that waits is named: {}", other.report());
    world.change("All go").remove(&world.path("c", "")).push();
    world.evenkeel(&["sync"]).exits(1);
    let second = waiting()["plan"].as_str().unwrap().to_owned();
    assert_ne!(first, second);
    assert_eq!(
        world.evenkeel(&["confirm", &first, "--reason", "x"]).code,
        Some(2),
        "another plan is not confirmed by it"
    );
    assert_eq!(running(), [1, 1, 1]);
    // What is confirmed while all is left alone goes when that is over, without being asked for again.
    world.evenkeel(&["suspend", "--all", "--for", "1h", "--reason", "one moment"]).exits(0);
    world.evenkeel(&["confirm", &second, "--reason", "they are not needed any more"]).exits(1);
    assert_eq!(running(), [1, 1, 1]);
    world.evenkeel(&["sync"]).exits(1);
    world.evenkeel(&["resume", "--all"]).exits(0);
    wait_until(PATIENCE, "what was confirmed is gone", || {
        let now = (running(), waiting());
        if now == ([0, 0, 0], Value::Null) { Ok(()) } else { Err(format!("{now:?}")) }
    });
}

#[test]
fn a_store_from_a_newer_version_halts_the_agent_and_stays_as_it_is() {
    let world = World::new();
    world.serve("one");
    let file = world.server().join("state/evenkeel.db");
    let set = |version: u32| {
        let db = rusqlite::Connection::open(&file).unwrap();
        db.pragma_update(None, "user_version", version).unwrap();
    };
    let known: u32 =
        rusqlite::Connection::open(&file).unwrap().query_row("PRAGMA user_version", [], |r| r.get(0)).unwrap();
    set(99);
    let halted = world.once();
    assert!(halted.exits(6).said().contains("version 99"), "{}", halted.report());
    set(known);
    world.once().exits(0);
}
