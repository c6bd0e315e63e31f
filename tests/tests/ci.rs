//! The GitHub Action, by running its script.

use std::{fs, process::Command};

use evenkeel_tests::{
    fixture,
    program::{self, Run},
    receivers::forge::Forge,
    world::World,
};

struct Job<'a> {
    world: &'a World,
    forge: &'a Forge,
    from: String,
    to: String,
}

impl Job<'_> {
    /// Runs the script as the action does. `token` is empty for a pull request from a fork.
    fn run(&self, token: &str, strict: bool) -> Run {
        let script = program::root().join(".github/actions/plan/run.sh");
        let signers = self.world.server().join("allowed_signers");
        let summary = self.world.folder().join("summary.md");
        let mut command = Command::new(script);
        command
            .env("EVENKEEL_BIN", program::evenkeel())
            .env("XDG_CACHE_HOME", self.world.folder().join("cache"))
            .env("REPO", &self.world.repository.work)
            .env("FROM", &self.from)
            .env("TO", &self.to)
            .env("ALLOWED_SIGNERS", signers)
            .env("STRICT", if strict { "true" } else { "false" })
            .env("TOKEN", token)
            .env("PULL_REQUEST", "7")
            .env("GITHUB_REPOSITORY", "you/infra")
            .env("GITHUB_API_URL", self.forge.url().trim_end_matches('/'))
            .env("GITHUB_STEP_SUMMARY", summary);
        Run::of(&mut command)
    }
}

#[test]
fn the_action_checks_annotates_and_keeps_one_comment_up_to_date() {
    let world = World::new();
    let forge = Forge::start("s3cret-token");
    let file = "stacks/web/compose.yml";
    let from = world.change("One").file(file, fixture::sleeper(1)).commit();
    let to = world.change("Two").file(file, fixture::sleeper(2)).commit();
    forge.say("<!-- evenkeel-plan --> is what a person may write, too");
    (0..100).for_each(|_| forge.say("talk"));
    let job = Job { world: &world, forge: &forge, from: from.clone(), to };
    let run = job.run("s3cret-token", false);
    assert!(run.exits(0).stdout.contains("::warning file=stacks/web/compose.yml,line="), "{}", run.report());
    assert!(run.stdout.contains("The commit is good."), "{}", run.report());
    assert!(!run.said().contains("s3cret-token"));
    let comments = forge.comments();
    assert_eq!(comments.len(), 102);
    assert!(comments[101].body.contains("<code>image</code>"), "{}", comments[101].body);
    assert_eq!(fs::read_to_string(world.folder().join("summary.md")).unwrap(), comments[101].body);

    let bad = world.change("Three").file(file, "services: { app: { imagee: x } }\n").unsigned().commit();
    let job = Job { to: bad, ..job };
    let run = job.run("s3cret-token", false);
    assert!(run.exits(1).stdout.contains("::error file=stacks/web/compose.yml"), "{}", run.report());
    let after = forge.comments();
    assert_eq!(after.len(), 102, "the comment is changed, not written again");
    assert_eq!(&after[..101], &comments[..101], "what people wrote stays");
    assert!(after[101].body.contains("rejected"), "{}", after[101].body);

    job.run("wrong", false).exits(1);
    let job = Job { to: from, ..job };
    assert_eq!(job.run("", false).code, Some(0), "without a token there is no comment, and that is fine");
    job.run("", true).exits(1);
    Job { to: "--help".to_owned(), ..job }.run("", false).exits(2);
}
