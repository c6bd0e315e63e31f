//! kill -9 wherever an update that starts first got somewhere: the service answers all the time, and in the end it is all of the old or
//! all of the new, with nothing left over.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{fs, time::Duration};

use evenkeel_core::outcome::Outcome;
use evenkeel_tests::{
    caller::Caller,
    docker::{Container, image_id},
    fixture,
    range::{Operation, Range},
    skip,
    wait::seconds,
};

/// A page that is updated by starting first.
fn page(image: u8, number: u32, is_well: bool) -> String {
    let test = if is_well { "wget, -q, -O, /dev/null, 'http://127.0.0.1/'" } else { "'false'" };
    format!(
        "services:
  app:
    image: evenkeel-test/busybox:{image}
    init: true
    restart: unless-stopped
    command: [httpd, -f, -p, '80', -h, /www]
    environment: {{ N: '{number}' }}
    volumes: ['./index.html:/www/index.html:ro']
    networks: {{ default: {{}}, shared: {{ aliases: [page] }} }}
    healthcheck: {{ test: [CMD, {test}], interval: 200ms, timeout: 5s, retries: 3 }}
    x-evenkeel: {{ update: start-first, overlap: 1s }}
networks: {{ shared: {{ external: true, name: NETWORK }} }}
"
    )
}

/// The server as it should be.
#[derive(Clone)]
struct Content {
    image: u8,
    page: String,
    compose: String,
}

/// A push of another image, page and Compose file.
struct Push {
    is_good: bool,
    number: u32,
    runs: Content,
}

impl Push {
    fn new(range: &mut Range, is_good: bool) -> Self {
        let mut push =
            Self { is_good, number: 0, runs: Content { image: 1, page: String::new(), compose: String::new() } };
        push.runs = push.push(range, 1, true).1;
        range.world.once().exits(0);
        push
    }

    /// Pushes the next version.
    fn push(&mut self, range: &Range, image: u8, is_well: bool) -> (String, Content) {
        self.number += 1;
        let world = &range.world;
        let compose = page(image, self.number, is_well).replace("NETWORK", &format!("{}-near_default", world.prefix()));
        let [file, index] = ["compose.yml", "index.html"].map(|name| world.path("web", name));
        let text = format!("{}\n", self.number);
        let commit = world.change(&format!("Page {}", self.number)).file(&file, &compose).file(&index, &text).push();
        (commit, Content { image, page: text, compose })
    }
}

/// The stack `web` must be all of this, once, and nothing else may be there.
#[track_caller]
fn check_runs(range: &Range, wanted: &Content, told: &str) {
    let world = &range.world;
    let all = world.containers("web");
    let shown: Vec<String> = all.iter().map(Container::shown).collect();
    assert_eq!(all.len(), 1, "{told}: {shown:?}");
    assert_eq!(all[0].name(), format!("{}-app-1", world.stack("web")), "{told}");
    let image = image_id(&format!("evenkeel-test/busybox:{}", wanted.image)).unwrap();
    assert_eq!((all[0].state().as_str(), all[0].image()), ("running", image), "{told}: {shown:?}");
    for network in [format!("{}-near_default", world.prefix()), format!("{}_default", world.stack("web"))] {
        let aliases = all[0].0["NetworkSettings"]["Networks"][&network]["Aliases"].to_string();
        assert!(aliases.contains("\"app\""), "{told}: nobody finds it on {network}: {aliases}");
    }
    let file = |name: &str| fs::read_to_string(world.live(&world.path("web", name))).unwrap();
    assert_eq!((file("index.html"), file("compose.yml")), (wanted.page.clone(), wanted.compose.clone()), "{told}");
}

impl Operation for Push {
    type Begun = (String, Content);

    fn begin(&mut self, range: &mut Range) -> Self::Begun {
        if range.world.is_running() {
            range.world.wait_running();
            assert_eq!(range.world.take_agent().terminate(seconds(20)).0, Some(0));
        }
        let is_good = self.is_good;
        let pushed = self.push(range, 3 - self.runs.image, is_good);
        range.mark();
        range.start();
        pushed
    }

    fn check(&mut self, range: &mut Range, (commit, next): Self::Begun, told: &str) {
        let ended = |range: &Range| -> Vec<Outcome> {
            let history = range.world.history();
            let all = history.deployments(&range.world.stack("web"));
            let of_commit = all.into_iter().filter(|d| d.to.as_deref() == Some(commit.as_str()));
            of_commit.filter_map(|d| d.outcome).filter(|outcome| *outcome != Outcome::Aborted).collect()
        };
        range.wait_still(&format!("it has ended after {told}"), || match ended(range).as_slice() {
            [] => Err("no end".to_owned()),
            _ => Ok(()),
        });
        // Killed in each of its tries the candidate is given up, which is right as well.
        let events = range.events();
        let tries = events.iter().filter(|event| *event == "apply_started").count();
        let is_given_up = tries == 2 && !events.iter().any(|event| event == "applied");
        let passes = self.is_good && !is_given_up;
        assert_eq!(ended(range), [if passes { Outcome::Committed } else { Outcome::RolledBack }], "{told}: {events:?}");
        if passes {
            self.runs = next;
        }
        check_runs(range, &self.runs, told);
    }
}

/// Kills an agent everywhere while somebody calls the service.
#[track_caller]
fn kill_everywhere(is_good: bool, after: Option<&str>, what: &str) {
    let mut range = Range::new();
    let compose = fixture::sleeper(1);
    range.world.change("Near").file(&range.world.path("near", "compose.yml"), &compose).push();
    range.world.once().exits(0);
    let mut push = Push::new(&mut range, is_good);
    let caller = Caller::start(&range.world.container("near", "app"), "page", "/", Duration::ZERO);
    range.everywhere_after(&mut push, after);
    let calls = caller.end();
    println!("{what}: {} of {} calls failed, slowest {:?}", calls.failed.len(), calls.count(), calls.slowest);
    range.check_kept_images("web");
    range.print(what);
    assert!(calls.failed.is_empty(), "{:?}", calls.failed);
}

#[test]
fn a_kill_in_an_update_that_starts_first_leaves_all_of_the_new() {
    if skip::is_root("a_kill_in_an_update_that_starts_first_leaves_all_of_the_new") {
        kill_everywhere(true, Some("backed_up"), "a good push that starts first");
    }
}

#[test]
fn a_kill_in_the_way_back_of_what_was_started_first_leaves_all_of_the_old() {
    if skip::is_root("a_kill_in_the_way_back_of_what_was_started_first_leaves_all_of_the_old") {
        kill_everywhere(false, Some("applied"), "a sick push that starts first");
    }
}
