//! `update: start-first`: new containers are started beside the old ones, and go on alone when they are well. Clients that call the
//! service every 20 ms by its name do not notice, whether the new version is good or bad.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{collections::BTreeSet, fs, time::Duration};

use evenkeel_core::{outcome::Outcome, reason::Code};
use evenkeel_tests::{
    caller::{Caller, Calls},
    docker::{Container, docker, image_id},
    fixture,
    program::Run,
    skip,
    wait::{PATIENCE, wait_until},
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
    let no_start = page(2, "").replace("[httpd, -f, -p, '80', -h, /etc]", "[/no/such/program]");
    let bad = [("never healthy", sick, Code::GateUnhealthy), ("a crash loop", loops, Code::GateExited)];
    for (what, text, code) in bad.into_iter().chain([("it cannot be started", no_start, Code::ApplyFailed)]) {
        let callers = Callers::start(&world);
        world.change(what).file(&file, text).push();
        world.once().exits(4);
        let answered = callers.end_without_failure(&format!("a bad version ({what})"));
        assert_eq!(answered, versions(&["1"]), "{what}: nobody may have asked it");
        let sync = world.last_sync(Outcome::RolledBack);
        assert_eq!(sync.deployments[0].reason.as_ref().map(|reason| reason.code), Some(code), "{what}");
        let now = world.container("web", "app");
        assert_eq!((now.id(), now.started(), now.name()), (before.id(), before.started(), before.name()), "{what}");
    }
}
