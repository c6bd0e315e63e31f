//! kill -9 at every step that the journal knows, with every change that the engine was asked for, and a little after:
//! whatever was begun is finished or put right. One test for each kind of thing that an agent does to a stack.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{
    fs,
    hash::{BuildHasher as _, RandomState},
    process::{Child, Stdio},
    time::Duration,
};

use evenkeel_core::{journal::Event, outcome::Outcome};
use evenkeel_tests::{
    docker::{Container, docker, image_id},
    fixture, http,
    range::{Aim, Operation, Range},
    wait::{PATIENCE, seconds, wait_until},
    world::page_at,
};

/// After every step has had its turn, kills go on at random moments as long as this allows.
const BUDGET: Duration = seconds(20);
/// The latest that a random kill comes after its step.
const LATEST_MS: u64 = 600;

/// The server as it should be: the image, the page, the Compose file.
#[derive(Clone, PartialEq, Debug)]
struct Content {
    image: u8,
    page: String,
    compose: String,
}

impl Content {
    /// A page of this number.
    fn of(number: u32, image: u8, port: u16) -> Self {
        Self { image, page: number.to_string(), compose: fixture::web(image, port) }
    }

    /// Pushes it as the stack `web`.
    fn push(&self, range: &Range) -> String {
        let world = &range.world;
        world
            .change(&format!("Page {}", self.page))
            .file(&world.path("web", "compose.yml"), &self.compose)
            .file(&world.path("web", "index.html"), format!("{}\n", self.page))
            .push()
    }
}

/// The stack `web` must be all of this, once, and nothing else may be there.
#[track_caller]
fn check_runs(range: &Range, port: u16, wanted: &Content, told: &str) {
    let world = &range.world;
    let all = world.containers("web");
    let shown: Vec<String> = all.iter().map(Container::shown).collect();
    assert_eq!(all.len(), 1, "{told}: a half-made container was left, or none: {shown:?}");
    assert_eq!(all[0].name(), format!("{}-app-1", world.stack("web")), "{told}");
    let image = image_id(&format!("evenkeel-test/busybox:{}", wanted.image)).unwrap();
    assert_eq!((all[0].state().as_str(), all[0].image()), ("running", image), "{told}: {shown:?}");
    assert_eq!(http::text(&page_at(port)).as_deref(), Ok(wanted.page.as_str()), "{told}");
    let file = |name: &str| fs::read_to_string(world.live(&world.path("web", name))).unwrap();
    assert_eq!(file("index.html"), format!("{}\n", wanted.page), "{told}");
    assert_eq!(file("compose.yml"), wanted.compose, "{told}");
}

/// A commit must have ended so, exactly once, in the history and in what was told.
#[track_caller]
fn check_ended_once(range: &Range, commit: &str, outcome: Outcome, event: &str, told: &str) {
    let stack = range.world.stack("web");
    let history = range.world.history();
    let mut ends: Vec<_> = history.deployments(&stack);
    ends.retain(|d| d.to.as_deref() == Some(commit));
    let count = ends.iter().filter(|d| d.outcome == Some(outcome)).count();
    assert_eq!(count, 1, "{told}: it ends once: {ends:#?}");
    wait_told(range, commit, &[&[event]], told);
}

/// Waits until just these events are told of a commit: one of several possibilities.
#[track_caller]
fn wait_told(range: &Range, commit: &str, expected: &[&[&str]], told: &str) {
    wait_until(PATIENCE, &format!("the end of {told} is told"), || {
        let events = range.told_of(commit);
        if expected.iter().any(|expected| *expected == events) { Ok(()) } else { Err(format!("{events:?}")) }
    });
    assert_eq!(range.webhook.refused(), Vec::<String>::new());
}

/// Waits until the last sync that ended is of this commit.
#[track_caller]
fn wait_synced(range: &Range, commit: &str) {
    range.wait_still("a sync of the commit has ended", || {
        let history = range.world.try_history()?;
        let last = history.oldest_first().last().is_some_and(|s| s.commit.as_deref() == Some(commit));
        if last { Ok(()) } else { Err(format!("{:#?}", history.last())) }
    });
}

/// Whether the agent was killed in each of its tries: then the candidate is given up, which is right as well.
fn is_given_up(range: &Range) -> bool {
    let events = range.events();
    let tries = events.iter().filter(|event| *event == "apply_started").count();
    tries == 2
        && events.iter().all(|event| event != "applied")
        && events.iter().any(|event| event == "rollback_started")
}

/// Ends the agent, which must leave nothing behind.
#[track_caller]
fn end(range: &mut Range) {
    if range.world.is_running() {
        range.world.wait_running();
        let (code, _) = range.world.take_agent().terminate(seconds(20));
        assert_eq!(code, Some(0));
    }
    assert_eq!(range.world.processes(), Vec::<String>::new());
}

// ---------------------------------------------------------------- pushes

/// A push of another image, page and Compose file, good or with a healthcheck that always fails.
struct Push {
    good: bool,
    port: u16,
    runs: Content,
    number: u32,
}

impl Push {
    fn new(range: &Range, good: bool) -> Self {
        let port = range.world.serve("0");
        Self { good, port, runs: Content::of(0, 1, port), number: 0 }
    }
}

impl Operation for Push {
    type Begun = (String, Content);

    fn begin(&mut self, range: &mut Range) -> Self::Begun {
        end(range);
        self.number += 1;
        let mut next = Content::of(self.number, 3 - self.runs.image, self.port);
        if !self.good {
            next.image = 3;
            next.compose = fixture::sick_web(3, self.port).replace("interval: 500ms", "interval: 200ms");
        }
        let commit = next.push(range);
        range.mark();
        range.start();
        (commit, if self.good { next } else { self.runs.clone() })
    }

    fn check(&mut self, range: &mut Range, (commit, wanted): Self::Begun, told: &str) {
        wait_synced(range, &commit);
        let (wanted, passes) = if is_given_up(range) { (self.runs.clone(), false) } else { (wanted, self.good) };
        check_runs(range, self.port, &wanted, told);
        let (outcome, event) =
            if passes { (Outcome::Committed, "deployed") } else { (Outcome::RolledBack, "rolled_back") };
        check_ended_once(range, &commit, outcome, event, told);
        self.runs = wanted;
    }
}

#[test]
fn a_kill_in_a_deployment_leaves_all_of_the_new() {
    let mut range = Range::new();
    let mut push = Push::new(&range, true);
    range.everywhere(&mut push);
    range.check_kept_images("web");
    range.print("a good push");
}

#[test]
fn a_kill_in_a_rollback_leaves_all_of_the_old() {
    let mut range = Range::new();
    let mut push = Push::new(&range, false);
    range.everywhere_after(&mut push, Some("applied"));
    range.check_kept_images("web");
    range.print("a sick push");
}

#[test]
fn a_kill_at_a_random_moment_leaves_all_of_the_old_or_all_of_the_new() {
    let mut range = Range::new();
    let mut push = Push::new(&range, true);
    while range.age() < BUDGET {
        let bits = RandomState::new().hash_one(());
        push.good = bits & 1 == 0;
        let names: Vec<&str> =
            Event::NAMES.iter().copied().filter(|name| !["interrupted", "left_alone"].contains(name)).collect();
        let name = names[usize::try_from((bits >> 1) % 97).unwrap() % names.len()];
        let delay = Duration::from_millis((bits >> 8) % LATEST_MS);
        range.round(&mut push, &Aim::Steps(vec![name.to_owned()], delay));
    }
    range.check_kept_images("web");
    range.print("at random");
}

// ---------------------------------------------------------------- drift

/// A container goes, and the agent makes it again: each time of another stack, for what goes again and again is put back less
/// and less often.
struct Heal {
    commit: String,
    stacks: Vec<String>,
}

impl Operation for Heal {
    type Begun = String;

    fn begin(&mut self, range: &mut Range) -> String {
        range.settle();
        let stack = self.stacks.pop().expect("there are as many stacks as places");
        range.mark();
        docker(&["rm", "--force", &range.world.container(&stack, "app").id()]);
        stack
    }

    fn check(&mut self, range: &mut Range, stack: String, told: &str) {
        let image = image_id("evenkeel-test/busybox:1").unwrap();
        let name = format!("{}-app-1", range.world.stack(&stack));
        range.wait_still(&format!("the container is back after {told}"), || {
            let all = range.world.containers(&stack);
            let runs: Vec<_> = all.iter().map(|c| (c.name(), c.state(), c.image())).collect();
            let drift = range.count("SELECT count(*) FROM drift WHERE findings <> '[]'");
            let is_back = runs == [(name.clone(), "running".to_owned(), image.clone())];
            if is_back && drift == 0 { Ok(()) } else { Err(format!("{drift} drifts, {runs:?}")) }
        });
        wait_until(PATIENCE, &format!("the end of {told} is told"), || {
            let taken = range.webhook.taken();
            let of_stack = taken.iter().filter(|d| d.body["stack"] == range.world.stack(&stack));
            let of_stack = of_stack.filter(|d| d.body["commit"]["id"] == self.commit.as_str());
            let mut ids: Vec<(&str, &str)> = of_stack.map(|d| (d.id.as_str(), d.event.as_str())).collect();
            ids.sort_unstable();
            ids.dedup();
            let mut events: Vec<&str> = ids.into_iter().map(|(_, event)| event).collect();
            events.sort_unstable();
            // Where the drift was not yet told, or somebody else put it back at the start, there may be no more to say.
            let right = [&["deployed", "drift", "recovered"][..], &["deployed", "deployed", "drift", "recovered"]];
            if right.contains(&&events[..]) { Ok(()) } else { Err(format!("{events:?}")) }
        });
    }
}

#[test]
fn a_kill_while_drift_is_put_back_leaves_the_release_whole() {
    let mut range = Range::new();
    let stacks: Vec<String> = (0..12).map(|n| format!("s{n}")).collect();
    let mut change = range.world.change("Many");
    for stack in &stacks {
        change = change.file(&range.world.path(stack, "compose.yml"), fixture::sleeper(1));
    }
    let commit = change.push();
    range.world.once().exits(0);
    let mut heal = Heal { commit, stacks };
    range.everywhere(&mut heal);
    range.print("drift that is put back");
}

// ---------------------------------------------------------------- a person's rollback

/// A person goes back to the other one of two releases.
struct GoBack {
    port: u16,
    contents: [Content; 2],
    commits: [String; 2],
    runs: usize,
}

/// `evenkeel rollback` to the release of a commit, without waiting for its end: the agent that it speaks to may die.
fn say_rollback(range: &Range, commit: &str) -> Child {
    let release = range.count(&format!(
        "SELECT max(id) FROM releases WHERE state IN ('current', 'former') AND body ->> 'commit' = '{commit}'"
    ));
    let world = &range.world;
    let mut command = world.command(&["rollback", &world.stack("web"), "--reason", "a test", "--to"]);
    command.arg(release.to_string()).arg("--config").arg(world.config.file());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

impl Operation for GoBack {
    type Begun = (usize, Child);

    fn begin(&mut self, range: &mut Range) -> Self::Begun {
        range.settle();
        let to = 1 - self.runs;
        range.mark();
        (to, say_rollback(range, &self.commits[to]))
    }

    fn check(&mut self, range: &mut Range, (to, mut person): Self::Begun, told: &str) {
        person.wait().unwrap();
        range.wait_still(&format!("all has ended after {told}"), || Ok(()));
        let ended = range.ended();
        // Before anything was touched it ends, and the person says it again.
        let touched = range.events().iter().any(|event| event == "apply_started");
        let given_up = is_given_up(range);
        let expected = match (touched, given_up) {
            (false, _) => "aborted",
            (true, false) => "committed",
            (true, true) => "rolled_back",
        };
        assert_eq!(ended.iter().filter(|outcome| *outcome == expected).count(), 1, "{told}: {ended:?}");
        self.runs = if touched && !given_up { to } else { 1 - to };
        check_runs(range, self.port, &self.contents[self.runs], told);
    }
}

#[test]
fn a_kill_while_a_person_goes_back_leaves_all_of_the_one_or_all_of_the_other() {
    let mut range = Range::new();
    let port = range.world.serve("0");
    let contents = [Content::of(0, 1, port), Content::of(1, 2, port)];
    let commits = [range.world.repository.head(), contents[1].push(&range)];
    range.world.once().exits(0);
    range.everywhere(&mut GoBack { port, contents, commits, runs: 1 });
    range.check_kept_images("web");
    range.print("a person's rollback");
}

/// A person goes back to a release that the data does not suit any more: what ran comes back.
struct GoBackInVain {
    commits: [String; 2],
}

/// Two versions that share a volume: the first is not well once the second has been there.
fn migrating(image: u8) -> String {
    let test = if image == 1 { "['CMD', test, '!', -e, /data/two]" } else { "['CMD', test, -e, /data/two]" };
    let run = if image == 1 { "exec sleep 100000" } else { "touch /data/two; exec sleep 100000" };
    format!(
        "services:
  app:
    image: evenkeel-test/busybox:{image}
    init: true
    command: [sh, -c, '{run}']
    volumes: ['data:/data']
    healthcheck: {{ test: {test}, interval: 200ms, timeout: 2s, retries: 2 }}
volumes: {{ data: {{}} }}
"
    )
}

impl Operation for GoBackInVain {
    type Begun = Child;

    fn begin(&mut self, range: &mut Range) -> Child {
        range.settle();
        range.mark();
        say_rollback(range, &self.commits[0])
    }

    fn check(&mut self, range: &mut Range, mut person: Child, told: &str) {
        person.wait().unwrap();
        range.wait_still(&format!("all has ended after {told}"), || Ok(()));
        let ended = range.ended();
        let touched = range.events().iter().any(|event| event == "apply_started");
        let expected = if touched { "rolled_back" } else { "aborted" };
        assert_eq!(ended.iter().filter(|outcome| *outcome == expected).count(), 1, "{told}: {ended:?}");
        let all = range.world.containers("web");
        let shown: Vec<String> = all.iter().map(Container::shown).collect();
        let image = image_id("evenkeel-test/busybox:2").unwrap();
        let ours = format!("{}-app-1", range.world.stack("web"));
        let runs: Vec<_> = all.iter().map(|c| (c.name(), c.state(), c.health(), c.image())).collect();
        assert_eq!(runs, [(ours, "running".to_owned(), "healthy".to_owned(), image)], "{told}: {shown:?}");
        let file = range.world.live(&range.world.path("web", "compose.yml"));
        assert_eq!(fs::read_to_string(file).unwrap(), migrating(2), "{told}");
    }
}

#[test]
fn a_kill_while_a_person_goes_back_in_vain_leaves_all_of_what_ran() {
    let mut range = Range::new();
    let file = range.world.path("web", "compose.yml");
    let push = |image| {
        let commit = range.world.change("Next").file(&file, migrating(image)).push();
        range.world.once().exits(0);
        commit
    };
    let commits = [push(1), push(2)];
    range.everywhere_after(&mut GoBackInVain { commits }, Some("applied"));
    range.check_kept_images("web");
    range.print("a person's rollback in vain");
}

// ---------------------------------------------------------------- removals

/// The stack `web` beside another one goes from the repository.
struct Remove {
    number: u32,
}

/// A page with a volume, and a file of the live folder that is not the repository's.
fn with_volume(number: u32) -> String {
    fixture::sleeper(1)
        + &format!("    environment: {{ N: '{number}' }}\n    volumes: ['data:/data']\nvolumes: {{ data: {{}} }}\n")
}

/// What nobody may take away with a stack.
#[track_caller]
fn check_left(range: &Range, told: &str) {
    let world = &range.world;
    assert!(world.live(&world.path("web", "notes.txt")).exists(), "{told}: an untracked file stays");
    let volume = format!("{}_data", world.stack("web"));
    assert_eq!(docker(&["volume", "ls", "--quiet", "--filter", &format!("name=^{volume}$")]), volume, "{told}");
}

/// Nothing of the stack `web` is there any more.
#[track_caller]
fn check_gone(range: &Range, told: &str) {
    let world = &range.world;
    let shown: Vec<String> = world.containers("web").iter().map(Container::shown).collect();
    assert_eq!(shown, Vec::<String>::new(), "{told}");
    assert!(!world.live(&world.path("web", "compose.yml")).exists(), "{told}: its files go with it");
    let network = format!("name=^{}_default$", world.stack("web"));
    assert_eq!(docker(&["network", "ls", "--quiet", "--filter", &network]), "", "{told}");
    assert_eq!(world.container("rest", "app").state(), "running", "{told}");
}

impl Operation for Remove {
    type Begun = String;

    fn begin(&mut self, range: &mut Range) -> String {
        end(range);
        self.number += 1;
        let world = &range.world;
        world.change("Come").file(&world.path("web", "compose.yml"), with_volume(self.number)).push();
        world.once().exits(0);
        fs::write(world.live(&world.path("web", "notes.txt")), "mine\n").unwrap();
        let commit = world.change("Go").remove(&world.path("web", "")).push();
        range.mark();
        range.start();
        commit
    }

    fn check(&mut self, range: &mut Range, commit: String, told: &str) {
        wait_synced(range, &commit);
        let ended = range.ended();
        assert_eq!(ended.iter().filter(|outcome| *outcome == "committed").count(), 1, "{told}: {ended:?}");
        let given_up = is_given_up(range);
        let is_fine =
            |outcome: &str| ["committed", "aborted"].contains(&outcome) || (given_up && outcome == "rolled_back");
        assert!(ended.iter().all(|outcome| is_fine(outcome)), "{told}: {ended:?}");
        check_gone(range, told);
        check_left(range, told);
        let expected: &[&str] = if given_up { &["rolled_back", "deployed"] } else { &["deployed"] };
        wait_told(range, &commit, &[expected], told);
    }
}

#[test]
fn a_kill_while_a_stack_is_removed_leaves_nothing_of_it_but_its_data() {
    let mut range = Range::new();
    range.world.change("Rest").file(&range.world.path("rest", "compose.yml"), fixture::sleeper(1)).push();
    range.world.once().exits(0);
    range.everywhere(&mut Remove { number: 0 });
    range.print("a removal");
}

/// A stack that is sick from its first day.
struct Install {
    number: u32,
}

impl Operation for Install {
    type Begun = String;

    fn begin(&mut self, range: &mut Range) -> String {
        end(range);
        self.number += 1;
        let compose = with_volume(self.number).replace(
            "    volumes:",
            "    healthcheck: { test: [CMD, 'false'], interval: 200ms, retries: 2 }\n    volumes:",
        );
        let world = &range.world;
        let commit = world.change("Come").file(&world.path("web", "compose.yml"), compose).push();
        range.mark();
        range.start();
        commit
    }

    fn check(&mut self, range: &mut Range, commit: String, told: &str) {
        wait_synced(range, &commit);
        check_gone(range, told);
        check_left(range, told);
        check_ended_once(range, &commit, Outcome::RolledBack, "rolled_back", told);
    }
}

#[test]
fn a_kill_while_a_sick_new_stack_is_taken_down_leaves_nothing_but_its_data() {
    let mut range = Range::new();
    range.world.change("Rest").file(&range.world.path("rest", "compose.yml"), fixture::sleeper(1)).push();
    range.world.once().exits(0);
    let notes = range.world.live(&range.world.path("web", "notes.txt"));
    fs::create_dir_all(notes.parent().unwrap()).unwrap();
    fs::write(notes, "mine\n").unwrap();
    range.everywhere(&mut Install { number: 0 });
    range.print("a sick new stack");
}
