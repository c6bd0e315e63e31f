//! kill -9 at every step that the journal knows, and a little after: whatever was begun is finished or put right.
//!
//! From outside, as a power cut would come: the test reads the agent's store beside it, and kills it as soon as a step
//! appears there. The steps are those that the code names, so a new one is killed at without anybody thinking of it.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{
    collections::BTreeMap,
    fs,
    hash::{BuildHasher as _, RandomState},
    thread::sleep,
    time::{Duration, Instant, SystemTime},
};

use evenkeel_core::{journal::Event, outcome::Outcome};
use evenkeel_tests::{
    docker::{Container, docker, image_id},
    fixture, http,
    journal::Journal,
    receivers::webhook::Webhook,
    wait::{PATIENCE, seconds, wait_until},
    world::{World, page_at},
};

/// After every step has had its turn, kills go on at random moments as long as this allows.
const BUDGET: Duration = seconds(40);
/// The latest that a random kill comes after its step.
const LATEST_MS: u64 = 600;

/// What a round deploys.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Push {
    Good,
    Sick,
    /// A page alone: its service gets a signal and is not made anew.
    Told,
}

/// The server as it should be: the image, the page, the Compose file.
#[derive(Clone, PartialEq, Debug)]
struct Content {
    image: u8,
    page: String,
    compose: String,
}

/// The page's service, which wants to be told when its page changes.
fn compose(image: u8, port: u16) -> String {
    fixture::web(image, port) + "    x-evenkeel: { reload: { signal: SIGWINCH } }\n"
}

/// The number by which the engine's events name that signal.
const SIGNAL: &str = "28";

struct Range {
    world: World,
    webhook: Webhook,
    port: u16,
    runs: Content,
    round: u32,
    killed_at: BTreeMap<String, u32>,
}

impl Range {
    fn new() -> Self {
        let mut world = World::new();
        let webhook = Webhook::start("the-key");
        let sink = webhook.sink(&world.config);
        world.report_to(&[sink]);
        world.config.set("gate", "{ min_healthy_time: 200ms, healthy_deadline: 20s, progress_deadline: 60s }");
        let port = world.serve("0");
        let runs = Content { image: 1, page: "0".to_owned(), compose: compose(1, port) };
        world.change("Ask for a signal").file(&world.path("web", "compose.yml"), &runs.compose).push();
        world.once().exits(0);
        Self { world, webhook, port, runs, round: 0, killed_at: BTreeMap::new() }
    }

    /// Pushes a change of image, page and Compose file, and gives what should run in the end.
    fn push(&mut self, push: Push) -> (String, Content) {
        self.round += 1;
        let page = self.round.to_string();
        let (image, compose) = match push {
            Push::Good => {
                let image = 3 - self.runs.image;
                (image, compose(image, self.port))
            }
            Push::Told => (self.runs.image, self.runs.compose.clone()),
            Push::Sick => (3, fixture::sick_web(3, self.port).replace("interval: 500ms", "interval: 200ms")),
        };
        let commit = self
            .world
            .change(&format!("Round {page}"))
            .file(&self.world.path("web", "compose.yml"), &compose)
            .file(&self.world.path("web", "index.html"), format!("{page}\n"))
            .push();
        let wanted = Content { image, page, compose };
        (commit, if push == Push::Sick { self.runs.clone() } else { wanted })
    }

    fn journal(&self) -> Journal {
        Journal::open(&self.world.server().join("state"))
    }

    /// One round: a push, a kill `delay` after each of `steps` in turn with a start in between, and a last start that has
    /// to put everything right.
    fn round(&mut self, push: Push, steps: &[&str], delay: Duration) {
        let journal = self.journal();
        let since = journal.last_deployment();
        let (from, stood) = (SystemTime::now(), self.world.container("web", "app").id());
        let (commit, wanted) = self.push(push);
        for step in steps {
            let known = journal.events(since).len();
            self.world.start();
            journal.wait_for(step, since, known);
            sleep(delay);
            self.world.take_agent().kill();
            let events = journal.events(since);
            let last = events.last().unwrap().clone();
            let interrupted = events.iter().filter(|e| *e == "interrupted").count();
            *self.killed_at.entry(format!("{last}{}", "'".repeat(interrupted))).or_default() += 1;
        }
        self.world.start();
        self.wait_settled(&commit);
        self.check(push, &commit, &wanted, &journal.events(since));
        if push == Push::Told {
            self.check_told(from, &stood);
        }
        let (code, _) = self.world.take_agent().terminate(seconds(20));
        assert_eq!(code, Some(0));
        assert_eq!(self.world.processes(), Vec::<String>::new());
        self.runs = wanted;
    }

    /// Waits until nothing is under way, and a sync of the commit has ended after the last start.
    fn wait_settled(&self, commit: &str) {
        wait_until(PATIENCE, "all that was begun has ended", || {
            let history = self.world.try_history()?;
            let open = history.syncs.iter().any(|s| s.outcome.is_none());
            let undone = history.syncs.iter().flat_map(|s| &s.deployments).any(|d| d.outcome.is_none());
            let last = history.oldest_first().last().is_some_and(|s| s.commit.as_deref() == Some(commit));
            let running = self.world.evenkeel(&["status", "--format", "json"]).json()["agent"]["running"] == true;
            if !open && !undone && last && running { Ok(()) } else { Err(format!("{:#?}", history.last())) }
        });
    }

    fn check(&self, push: Push, commit: &str, wanted: &Content, events: &[String]) {
        let (world, told) = (&self.world, format!("round {} of {push:?}, events {events:?}", self.round));
        let all = world.containers("web");
        let shown: Vec<String> = all.iter().map(Container::shown).collect();
        assert_eq!(all.len(), 1, "{told}: a half-made container was left: {shown:?}");
        assert_eq!(all[0].name(), format!("{}-app-1", world.stack("web")), "{told}");
        let image = image_id(&format!("evenkeel-test/busybox:{}", wanted.image)).unwrap();
        assert_eq!((all[0].state().as_str(), all[0].image()), ("running", image), "{told}: {shown:?}");
        assert_eq!(http::text(&page_at(self.port)).as_deref(), Ok(wanted.page.as_str()), "{told}");
        let file = |name: &str| fs::read_to_string(world.live(&world.path("web", name))).unwrap();
        assert_eq!(file("index.html"), format!("{}\n", wanted.page), "{told}");
        assert_eq!(file("compose.yml"), wanted.compose, "{told}");
        let outcome = if push == Push::Sick { Outcome::RolledBack } else { Outcome::Committed };
        let history = world.history();
        let mut ends: Vec<_> = history.deployments(&world.stack("web"));
        ends.retain(|d| d.to.as_deref() == Some(commit));
        let count = ends.iter().filter(|d| d.outcome == Some(outcome)).count();
        assert_eq!(count, 1, "{told}: it ends once: {ends:#?}");
        // At least once is the promise, and the id tells a repetition: so distinct ids are counted.
        wait_until(PATIENCE, &format!("the end of {told} is told"), || {
            let taken = self.webhook.taken();
            let of_commit: BTreeMap<&str, &str> = taken
                .iter()
                .filter(|d| d.body["commit"]["id"] == commit)
                .map(|d| (d.body["id"].as_str().unwrap(), d.event.as_str()))
                .collect();
            let events: Vec<&str> = of_commit.into_values().collect();
            let expected = if push == Push::Sick { "rolled_back" } else { "deployed" };
            if events == [expected] { Ok(()) } else { Err(format!("{events:?}")) }
        });
        assert_eq!(self.webhook.refused(), Vec::<String>::new());
    }

    /// The container that stood still stands, and it got the signal, perhaps more than once.
    fn check_told(&self, began: SystemTime, stood: &str) {
        assert_eq!(self.world.container("web", "app").id(), stood, "it was made anew");
        let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let (since, until) = (seconds(began).to_string(), (seconds(SystemTime::now()) + 1).to_string());
        let (container, what) = (format!("container={stood}"), "{{index .Actor.Attributes \"signal\"}}");
        let filters = ["--filter", &container, "--filter", "event=kill", "--format", what];
        let times = ["events", "--since", &since, "--until", &until];
        let told = docker(&[&times[..], &filters[..]].concat());
        assert!(told.lines().any(|signal| signal == SIGNAL), "it was not told: {told:?}");
    }

    /// Every release that is known keeps its images, and no other one does.
    fn check_kept_images(&self) {
        let known: usize = self.journal().number("SELECT count(*) FROM releases").try_into().unwrap();
        let repository = format!("evenkeel-keep/{}", self.world.stack("web"));
        let tags = docker(&["image", "ls", "--format", "{{.Tag}}", &repository]);
        assert_eq!(tags.lines().count(), known, "{tags}");
        let undone = "SELECT count(*) FROM releases WHERE state NOT IN ('current', 'former')";
        assert_eq!(self.journal().number(undone), 0);
    }
}

#[test]
fn a_kill_at_any_step_leaves_all_of_the_old_or_all_of_the_new() {
    let began = Instant::now();
    let mut range = Range::new();
    // What the first deployment went through is what a good push goes through; the rest of the names is for a sick one.
    let good = range.journal().events(range.journal().last_deployment() - 1);
    let others = Event::NAMES.iter().filter(|name| **name != "interrupted" && !good.iter().any(|step| step == *name));
    let touched = good.iter().position(|step| step == "apply_started").unwrap();
    let (before, after) = good.split_at(touched);
    // Before the apply each kill ends a deployment, and the next start begins another.
    range.round(Push::Good, &before.iter().map(String::as_str).collect::<Vec<_>>(), Duration::ZERO);
    let after = after.iter().flat_map(|step| [(Push::Good, step.as_str()), (Push::Told, step.as_str())]);
    let plan: Vec<(Push, &str)> = after.chain(others.map(|name| (Push::Sick, *name))).collect();
    for (push, name) in &plan {
        // A try that was cut short is killed again while it is taken up.
        let again = (*name == "apply_started" || *name == "rollback_started").then_some("interrupted");
        let steps: Vec<&str> = [*name].into_iter().chain(again).collect();
        range.round(*push, &steps, Duration::ZERO);
    }
    let mut random = 0;
    while began.elapsed() < BUDGET {
        let bits = RandomState::new().hash_one(());
        let (push, name) = plan[usize::try_from(bits % 97).unwrap() % plan.len()];
        range.round(push, &[name], Duration::from_millis((bits >> 8) % LATEST_MS));
        random += 1;
    }
    range.check_kept_images();
    println!(
        "killed {} times, {random} of them at random, at {} distinct states in {:?}: {:?}",
        range.killed_at.values().sum::<u32>(),
        range.killed_at.len(),
        began.elapsed(),
        range.killed_at
    );
    assert!(range.killed_at.len() >= 9, "too few distinct states: {:?}", range.killed_at);
}
