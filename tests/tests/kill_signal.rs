//! kill -9 while a service is told that its files changed: it has the new file, got the signal, and stands where it stood.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{
    fs,
    time::{Duration, SystemTime},
};

use evenkeel_core::outcome::Outcome;
use evenkeel_tests::{
    docker::docker,
    fixture, http,
    range::{Operation, Range},
    wait::{PATIENCE, seconds, wait_until},
    world::page_at,
};

/// The number by which the engine's events name the signal of this test.
const SIGNAL: &str = "28";

/// A push of another page alone: its service gets a signal and is not made anew.
struct Told {
    port: u16,
    page: u32,
    container: String,
    began: SystemTime,
}

impl Operation for Told {
    type Begun = String;

    fn begin(&mut self, range: &mut Range) -> String {
        if range.world.is_running() {
            range.world.wait_running();
            let (code, _) = range.world.take_agent().terminate(seconds(20));
            assert_eq!(code, Some(0));
        }
        self.container = range.world.container("web", "app").id();
        self.began = SystemTime::now();
        let page = format!("{}\n", self.page + 1);
        let world = &range.world;
        let commit = world.change("Page").file(&world.path("web", "index.html"), page).push();
        range.mark();
        range.start();
        commit
    }

    fn check(&mut self, range: &mut Range, commit: String, told: &str) {
        range.wait_still("a sync of the commit has ended", || {
            let history = range.world.try_history()?;
            let last = history.oldest_first().last().is_some_and(|s| s.commit.as_deref() == Some(&commit));
            if last { Ok(()) } else { Err(format!("{:#?}", history.last())) }
        });
        // A kill in each of its tries: then the candidate is given up, and the former page is back.
        let passes = !range.events().iter().any(|event| event == "rollback_started");
        self.page += u32::from(passes);
        let world = &range.world;
        assert_eq!(http::text(&page_at(self.port)), Ok(self.page.to_string()), "{told}");
        let file = fs::read_to_string(world.live(&world.path("web", "index.html"))).unwrap();
        assert_eq!(file, format!("{}\n", self.page), "{told}");
        let history = world.history();
        let mut ends = history.deployments(&world.stack("web"));
        ends.retain(|d| d.to.as_deref() == Some(&commit));
        let outcome = if passes { Outcome::Committed } else { Outcome::RolledBack };
        assert_eq!(ends.iter().filter(|d| d.outcome == Some(outcome)).count(), 1, "{told}: {ends:#?}");
        let expected = if passes { "deployed" } else { "rolled_back" };
        wait_until(PATIENCE, &format!("the end of {told} is told"), || {
            let events = range.told_of(&commit);
            if events == [expected] { Ok(()) } else { Err(format!("{events:?}")) }
        });
        if passes {
            assert_eq!(world.container("web", "app").id(), self.container, "{told}: it was made anew");
            let signals = self.signals();
            assert!(signals.lines().any(|signal| signal == SIGNAL), "{told}: it was not told: {signals:?}");
        }
    }
}

impl Told {
    /// The signals that the container got since the push, perhaps one more than once.
    fn signals(&self) -> String {
        let moment = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs().to_string();
        let (since, until) = (moment(self.began), moment(SystemTime::now() + Duration::from_secs(1)));
        let container = format!("container={}", self.container);
        let shown = "{{index .Actor.Attributes \"signal\"}}";
        let filters = ["--filter", &container, "--filter", "event=kill", "--format", shown];
        docker(&[&["events", "--since", &since, "--until", &until][..], &filters[..]].concat())
    }
}

#[test]
fn a_kill_while_a_service_is_told_of_a_file_leaves_it_standing_and_told() {
    let mut range = Range::new();
    let port = range.world.serve("0");
    let compose = fixture::web(1, port) + "    x-evenkeel: { reload: { signal: SIGWINCH } }\n";
    range.world.change("Ask for a signal").file(&range.world.path("web", "compose.yml"), compose).push();
    range.world.once().exits(0);
    let mut told = Told { port, page: 0, container: String::new(), began: SystemTime::now() };
    range.everywhere(&mut told);
    range.check_kept_images("web");
    range.print("a service that is told");
}
