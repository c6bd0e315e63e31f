//! kill -9 wherever a deployment of stacks that move together got somewhere: in the end both run all of the old, or both all of
//! the new.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::fs;

use evenkeel_tests::{
    docker::{Container, image_id},
    fixture,
    range::{Operation, Range},
    skip,
    wait::seconds,
};

/// A push of another image to both stacks. The second depends on the first, and is not well if the push is not good.
struct Push {
    is_good: bool,
    number: u32,
    /// The image and the Compose files that run.
    runs: (u8, [String; 2]),
}

impl Push {
    fn new(range: &mut Range, is_good: bool) -> Self {
        let mut push = Self { is_good, number: 0, runs: (1, Default::default()) };
        push.runs = push.push(range, 1, true);
        range.world.once().exits(0);
        push
    }

    /// Pushes the next version.
    fn push(&mut self, range: &Range, image: u8, is_well: bool) -> (u8, [String; 2]) {
        self.number += 1;
        let world = &range.world;
        let said = format!("    environment: {{ N: '{}' }}\nx-evenkeel: {{ group: shop", self.number);
        let sick = "    healthcheck: { test: [CMD, 'false'], interval: 200ms, retries: 1 }\n";
        let sick = if is_well { "" } else { sick };
        let db = format!("{}{said} }}\n", fixture::sleeper(image));
        let web = format!("{}{sick}{said}, depends_on: [{}] }}\n", fixture::sleeper(image), world.stack("db"));
        let [of_db, of_web] = ["db", "web"].map(|name| world.path(name, "compose.yml"));
        world.change(&format!("Shop {}", self.number)).file(&of_db, &db).file(&of_web, &web).push();
        (image, [db, web])
    }
}

impl Operation for Push {
    type Begun = (u8, [String; 2]);

    fn begin(&mut self, range: &mut Range) -> Self::Begun {
        if range.world.is_running() {
            range.world.wait_running();
            assert_eq!(range.world.take_agent().terminate(seconds(20)).0, Some(0));
        }
        let is_good = self.is_good;
        let pushed = self.push(range, 3 - self.runs.0, is_good);
        range.mark();
        range.start();
        pushed
    }

    fn check(&mut self, range: &mut Range, next: Self::Begun, told: &str) {
        range.settle();
        let (ended, events) = (range.ended(), range.events());
        // Killed in each of its tries a candidate is given up, which is right as well.
        let is_back = ended.iter().any(|outcome| outcome == "rolled_back");
        let twice = ["apply_started", "interrupted", "apply_started", "interrupted"];
        let is_given_up = events.windows(4).any(|four| four == twice);
        assert_eq!(is_back, !self.is_good || is_given_up, "{told}: {ended:?} {events:?}");
        if !is_back {
            self.runs = next;
        }
        if !self.is_good {
            let blamed = |name: &str| {
                let stack = range.world.stack(name);
                let by_itself = "reason ->> 'code' <> 'group.failed'";
                range.count(&format!("SELECT count(*) FROM kept_out WHERE stack = '{stack}' AND {by_itself}"))
            };
            assert_eq!((blamed("db"), blamed("web") > 0), (0, true), "{told}: only one is to blame");
        }
        let (image, files) = &self.runs;
        let image = image_id(&format!("evenkeel-test/busybox:{image}")).unwrap();
        for (name, compose) in ["db", "web"].into_iter().zip(files) {
            let all = range.world.containers(name);
            let shown: Vec<String> = all.iter().map(Container::shown).collect();
            assert_eq!(all.len(), 1, "{told}: {shown:?}");
            assert_eq!((all[0].state().as_str(), all[0].image()), ("running", image.clone()), "{told}: {shown:?}");
            let live = range.world.live(&range.world.path(name, "compose.yml"));
            assert_eq!(fs::read_to_string(live).unwrap(), *compose, "{told}");
        }
    }
}

#[track_caller]
fn kill_everywhere(is_good: bool, after: &str, what: &str) {
    let mut range = Range::new();
    let mut push = Push::new(&mut range, is_good);
    range.everywhere_after(&mut push, Some(after));
    for stack in ["db", "web"] {
        range.check_kept_images(stack);
    }
    range.print(what);
}

#[test]
fn a_kill_while_stacks_move_together_leaves_both_with_the_new() {
    if skip::is_root("a_kill_while_stacks_move_together_leaves_both_with_the_new") {
        kill_everywhere(true, "backup_started", "a good push of a group");
    }
}

#[test]
fn a_kill_while_stacks_go_back_together_leaves_both_with_the_old() {
    if skip::is_root("a_kill_while_stacks_go_back_together_leaves_both_with_the_old") {
        kill_everywhere(false, "failed", "a sick push of a group");
    }
}
