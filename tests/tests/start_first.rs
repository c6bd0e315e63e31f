//! `update: start-first`: new containers are started beside the old ones, and go on alone when they are well. Clients that call the
//! service every 20 ms by its name do not notice, whether the new version is good or bad.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt as _, time::Duration};

use evenkeel_core::{outcome::Outcome, reason::Code};
use evenkeel_tests::{
    caller::{Caller, Calls},
    docker::{Container, docker, image_id, remove_with_volume},
    program::Run,
    skip,
    wait::seconds,
    world::World,
};
use serde_json::Value;

/// A page that tells its version, and a container from which it is called. `more` is what else the page's definition says.
fn page(image: u8, more: &str) -> String {
    format!(
        "services:
  app:
    image: evenkeel-test/busybox:{image}
    init: true
    restart: unless-stopped
    command: [httpd, -f, -p, '80', -h, /etc]
    healthcheck: {{ test: [CMD, wget, -q, -O, /dev/null, 'http://127.0.0.1/evenkeel-release'], interval: 300ms, timeout: 5s, retries: 3 }}
    x-evenkeel: {{ update: start-first, overlap: 2s }}
{more}  near:
    image: evenkeel-test/busybox:1
    init: true
    command: [sleep, '100000']
"
    )
}

/// Two clients: one resolves the name for each call, one remembers for a second what it has resolved, as a reverse proxy does.
struct Callers([Caller; 2]);

impl Callers {
    #[track_caller]
    fn start(world: &World) -> Self {
        let near = world.container("web", "near");
        let caller = |ms| Caller::start(&near, "app", "/evenkeel-release", Duration::from_millis(ms));
        Self([caller(0), caller(1000)])
    }

    /// Ends them, and prints and gives what came of it.
    #[track_caller]
    fn end(self, what: &str) -> [Calls; 2] {
        let all = self.0.map(Caller::end);
        for (calls, who) in all.iter().zip(["resolves each time", "remembers for 1 s"]) {
            let (failed, count) = (calls.failed.len(), calls.count());
            println!(
                "{what}, {who}: {failed} of {count} calls failed; answers {:?}, slowest {:?}",
                calls.answers, calls.slowest
            );
        }
        all
    }

    /// No call may have failed; gives who answered.
    #[track_caller]
    fn end_without_failure(self, what: &str) -> BTreeSet<String> {
        let all = self.end(what);
        for calls in &all {
            assert!(calls.failed.is_empty() && calls.count() > 50, "{what}: {:?}", calls.failed);
        }
        all.into_iter().flat_map(|calls| calls.answers.into_keys()).collect()
    }
}

fn versions(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// The containers of a service as name, state and image.
#[track_caller]
fn of_service(world: &World, service: &str) -> Vec<(String, String, String)> {
    let found = Container::of_service(&world.stack("web"), service);
    found.iter().map(|c| (c.name(), c.state(), c.image())).collect()
}

/// What the newest deployment says happened to a service.
#[track_caller]
fn told(world: &World, service: &str) -> String {
    let history = world.evenkeel(&["history", "--format", "json"]).exits(0).json();
    let newest = history["syncs"].as_array().unwrap().iter().max_by_key(|sync| sync["id"].as_i64()).unwrap().clone();
    let changes = newest["deployments"][0]["changes"].as_array().unwrap().clone();
    let change = changes.iter().find(|change| change["service"] == service).unwrap();
    change["change"].as_str().unwrap().to_owned()
}

#[test]
fn no_call_fails_while_a_good_version_takes_over_again_and_again() {
    if !skip::is_root("no_call_fails_while_a_good_version_takes_over_again_and_again") {
        return;
    }
    let world = World::new();
    let file = world.path("web", "compose.yml");
    world.change("One").file(&file, page(1, "")).push();
    world.once().exits(0);
    let near = world.container("web", "near").id();
    for (image, before) in [(2, "1"), (3, "2"), (1, "3")] {
        let old = world.container("web", "app").id();
        let callers = Callers::start(&world);
        world.change("Next").file(&file, page(image, "")).push();
        world.once().exits(0);
        let answered = callers.end_without_failure(&format!("a good version {image}"));
        assert_eq!(answered, versions(&[before, &image.to_string()]));
        let app = format!("{}-app-1", world.stack("web"));
        let wanted = image_id(&format!("evenkeel-test/busybox:{image}")).unwrap();
        assert_eq!(of_service(&world, "app"), [(app, "running".to_owned(), wanted)]);
        assert_ne!(world.container("web", "app").id(), old);
        assert_eq!(told(&world, "app"), "start-first");
        assert_eq!(world.container("web", "near").id(), near);
    }
    // Nothing is left to do, for the agent or for Compose.
    world.once().exits(0);
    let (app, stack) = (world.container("web", "app").id(), world.stack("web"));
    let folder = world.live(&world.path("web", ""));
    let model = world.server().join("state/models").join(format!("{stack}.json"));
    let args =
        ["compose", "-p", &stack, "--project-directory", folder.to_str().unwrap(), "-f", model.to_str().unwrap()];
    docker(&[&args[..], &["up", "--detach", "--no-build"]].concat());
    assert_eq!(world.container("web", "app").id(), app);
    // A person who goes back does it the same way.
    let mut world = world;
    world.start_and_wait();
    let callers = Callers::start(&world);
    world.evenkeel(&["rollback", &stack, "--reason", "three was better"]).exits(0);
    assert_eq!(callers.end_without_failure("a person's rollback"), versions(&["1", "3"]));
    world.take_agent().terminate(seconds(20));
    // What is made anew the plain way has its plain name again.
    let plain = page(2, "").replace("update: start-first, ", "");
    world.change("Plain").file(&file, plain).push();
    world.once().exits(0);
    assert_eq!(of_service(&world, "app")[0].0, format!("{stack}-app-1"));
    assert_eq!(told(&world, "app"), "recreate");
}

#[test]
fn no_call_fails_while_a_bad_version_is_tried() {
    if !skip::is_root("no_call_fails_while_a_bad_version_is_tried") {
        return;
    }
    let world = World::new();
    let file = world.path("web", "compose.yml");
    world.change("One").file(&file, page(1, "")).push();
    world.once().exits(0);
    let before = world.container("web", "app");
    let sick = page(2, "").replace("wget, -q, -O, /dev/null, 'http://127.0.0.1/evenkeel-release'", "'false'");
    let loops = page(3, "").replace("[httpd, -f, -p, '80', -h, /etc]", "[sh, -c, 'exit 3']");
    let no_start =
        page(2, "").replacen("init: true", "init: false", 1).replace("[httpd, -f, -p, '80', -h, /etc]", "[/no/such]");
    let bad = [("never healthy", sick, Code::GateUnhealthy), ("a crash loop", loops, Code::GateExited)];
    for (what, text, code) in bad.into_iter().chain([("it cannot be started", no_start, Code::ApplyFailed)]) {
        let callers = Callers::start(&world);
        world.change(what).file(&file, text).push();
        world.once().exits(5);
        let answered = callers.end_without_failure(&format!("a bad version ({what})"));
        assert_eq!(answered, versions(&["1"]), "{what}: nobody may have asked it");
        let sync = world.last_sync(Outcome::RolledBack);
        sync.deployment(&world.stack("web")).because(code);
        let now = world.container("web", "app");
        assert_eq!((now.id(), now.started(), now.name()), (before.id(), before.started(), before.name()), "{what}");
    }
}

#[test]
fn one_that_sickens_while_both_answer_goes_again_and_the_old_one_was_there_all_the_time() {
    if !skip::is_root("one_that_sickens_while_both_answer_goes_again_and_the_old_one_was_there_all_the_time") {
        return;
    }
    let world = World::new();
    let file = world.path("web", "compose.yml");
    world.change("One").file(&file, page(1, "")).push();
    world.once().exits(0);
    let before = world.container("web", "app");
    let callers = Callers::start(&world);
    let sickens = page(2, "")
        .replace("overlap: 2s", "overlap: 60s")
        .replace("[httpd, -f, -p, '80', -h, /etc]", "[sh, -c, '(sleep 5; touch /sick) & exec httpd -f -p 80 -h /etc']")
        .replace("wget, -q, -O, /dev/null, 'http://127.0.0.1/evenkeel-release'", "test, '!', -e, /sick");
    world.change("Sickens").file(&file, sickens).push();
    world.once().exits(5);
    let [calls, _] = callers.end("a version that sickens while both answer");
    assert_eq!(calls.answers.into_keys().collect::<BTreeSet<_>>(), versions(&["1", "2"]));
    assert!(calls.failed.is_empty(), "{:?}", calls.failed);
    world.last_sync(Outcome::RolledBack).deployment(&world.stack("web")).because(Code::GateUnhealthy);
    let now = world.container("web", "app");
    assert_eq!((now.id(), now.started(), now.name()), (before.id(), before.started(), before.name()));
}

/// Replicas on two networks, with another name on one of them, that need a job to end first and mount a file and a folder.
fn larger(image: u8, replicas: u8, test: &str) -> String {
    format!(
        "services:
  app:
    image: evenkeel-test/busybox:{image}
    init: true
    restart: unless-stopped
    command: [httpd, -f, -p, '80', -h, /www]
    healthcheck: {{ test: [CMD, {test}], interval: 300ms, timeout: 5s, retries: 3 }}
    x-evenkeel: {{ update: start-first, overlap: 1s }}
    deploy: {{ replicas: {replicas} }}
    networks: {{ default: {{}}, front: {{ aliases: [www] }} }}
    volumes: ['./index.html:/www/index.html:ro', './more:/www/more:ro', 'data:/data']
    depends_on: {{ job: {{ condition: service_completed_successfully }} }}
  job:
    image: evenkeel-test/busybox:{image}
    command: [sh, -c, 'sleep 1; touch /data/{image}']
    volumes: ['data:/data']
  near:
    image: evenkeel-test/busybox:1
    init: true
    command: [sleep, '100000']
    networks: [front]
volumes: {{ data: {{}} }}
networks: {{ front: {{}} }}
"
    )
}

#[test]
fn replicas_networks_jobs_and_files_come_along() {
    if !skip::is_root("replicas_networks_jobs_and_files_come_along") {
        return;
    }
    let world = World::new();
    let [file, index, more] = ["compose.yml", "index.html", "more/x"].map(|name| world.path("web", name));
    let well = "test, -e, /data/1";
    world.change("One").file(&file, larger(1, 2, well)).file(&index, "one\n").file(&more, "1\n").push();
    world.once().exits(0);
    let (stack, inode) = (world.stack("web"), fs::metadata(world.live(&index)).unwrap().ino());
    let ids = || -> BTreeSet<String> { Container::of_service(&stack, "app").iter().map(Container::id).collect() };
    let first = ids();
    let near = world.container("web", "near");
    let calls = Caller::start(&near, "www", "/", Duration::ZERO);
    // A job that must end before them is made anew, and waited for: their healthcheck wants what it has done.
    let next = larger(2, 3, "test, -e, /data/2");
    world.change("Two").file(&file, next).file(&index, "two\n").file(&more, "2\n").push();
    world.once().exits(0);
    let names: Vec<String> = of_service(&world, "app").into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, [1, 2, 3].map(|n| format!("{stack}-app-{n}")));
    assert!(ids().is_disjoint(&first));
    let second = ids();

    let bad = larger(1, 2, "'false'");
    world.change("Bad").file(&file, bad).file(&index, "bad\n").file(&more, "bad\n").push();
    world.once().exits(5);
    let calls = calls.end();
    println!("replicas: {} of {} calls failed, slowest {:?}", calls.failed.len(), calls.count(), calls.slowest);
    assert!(calls.failed.is_empty(), "{:?}", calls.failed);
    assert_eq!(ids(), second, "the old ones were left alone");
    assert_eq!(fs::metadata(world.live(&index)).unwrap().ino(), inode);
    for container in Container::of_service(&stack, "app") {
        let seen = docker(&["exec", &container.id(), "cat", "/www/index.html", "/www/more/x"]);
        assert_eq!(seen, "two\n2", "{}", container.shown());
    }
    // A later change still reaches all of them.
    world.change("Three").file(&file, larger(2, 1, well)).file(&index, "three\n").push();
    world.once().exits(0);
    let seen = docker(&["exec", &world.container("web", "app").id(), "cat", "/www/index.html"]);
    assert_eq!((seen.as_str(), of_service(&world, "app")[0].0.clone()), ("three", format!("{stack}-app-1")));
}

/// The plan of the step between two commits.
fn planned(world: &World, from: &str, to: &str, format: &str) -> Run {
    let repo = world.repository.work.to_string_lossy().into_owned();
    Run::of(
        &mut world
            .command(&["plan", "--repo", &repo, "--server", "home", "--from", from, "--to", to, "--format", format]),
    )
}

#[test]
fn what_cannot_be_started_first_is_made_anew_and_said_beforehand() {
    let world = World::new();
    let file = world.path("web", "compose.yml");
    let one = world.change("One").file(&file, page(1, "")).push();
    world.once().exits(0);
    let two = world.change("Two").file(&file, page(2, "")).push();
    let stack = world.stack("web");
    let plan = planned(&world, &one, &two, "json").exits(0).json()["servers"][0].clone();
    assert_eq!(plan["waves"][0][0]["services"][0]["change"], "start-first");
    let effects = plan["effects"][&stack].clone();
    assert_eq!((effects["start_first"][0].as_str(), effects["down"].clone()), (Some("app"), Value::Array(vec![])));
    for (format, text) in [("text", "not down: app (the new ones are started first)"), ("markdown", "| start-first |")]
    {
        let shown = planned(&world, &one, &two, format).ok();
        assert!(shown.contains(text), "{shown}");
    }

    let name = format!("    container_name: {stack}-app-own\n");
    let three = world.change("Three").file(&file, page(3, &name)).push();
    let plan = planned(&world, &one, &three, "json").exits(0).json()["servers"][0].clone();
    assert_eq!(plan["waves"][0][0]["services"][0]["change"], "recreate");
    assert_eq!(plan["effects"][&stack]["down"][0]["service"], "app");
    let repo = world.repository.work.to_string_lossy().into_owned();
    let check = Run::of(&mut world.command(&["check", "--repo", &repo, "--format", "json"])).exits(0).json();
    let problems = check["problems"].as_array().unwrap();
    let found = problems.iter().find(|problem| problem["code"] == "update.recreate").expect("it is found");
    assert_eq!((found["path"].as_str(), found["line"].as_u64()), (Some(file.as_str()), Some(9)), "{found}");
    assert!(
        found["message"].as_str().unwrap().contains("app cannot be started first: it has a name of its own"),
        "{found}"
    );
    world.once().exits(0);
    assert_eq!(
        (told(&world, "app"), world.container("web", "app").name()),
        ("recreate".to_owned(), format!("{stack}-app-own"))
    );
}

#[test]
fn data_that_only_the_old_container_has_is_not_left_behind() {
    let world = World::new();
    let (file, image) = (world.path("web", "compose.yml"), format!("{}-image:1", world.prefix()));
    let made = docker(&["create", "evenkeel-test/busybox:1"]);
    docker(&["commit", "--change", "VOLUME /data", &made, &image]);
    docker(&["rm", &made]);
    let text =
        |n: u8| page(1, &format!("    environment: {{ N: '{n}' }}\n")).replacen("evenkeel-test/busybox:1", &image, 1);
    world.change("One").file(&file, text(1)).push();
    world.once().exits(0);
    docker(&["exec", &world.container("web", "app").id(), "touch", "/data/mine"]);
    world.change("Two").file(&file, text(2)).push();
    world.once().exits(0);
    assert_eq!(docker(&["exec", &world.container("web", "app").id(), "ls", "/data"]), "mine");
    assert!(world.logged().contains("it is made anew, not started first"), "{}", world.logged());
    remove_with_volume(&world.container("web", "app").id(), "/data");
}

#[test]
fn a_service_that_is_down_anyway_is_made_anew() {
    let world = World::new();
    let file = world.path("web", "compose.yml");
    world.change("One").file(&file, page(1, "")).push();
    world.once().exits(0);
    docker(&["kill", &world.container("web", "app").id()]);
    world.change("Two").file(&file, page(2, "")).push();
    world.once().exits(0);
    let wanted = image_id("evenkeel-test/busybox:2").unwrap();
    assert_eq!(of_service(&world, "app"), [(format!("{}-app-1", world.stack("web")), "running".to_owned(), wanted)]);
    assert!(world.logged().contains("what stands is not well"), "{}", world.logged());
}
