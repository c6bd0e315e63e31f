//! The six steps, each checked by what a user would look at.

use std::time::Instant;

use evenkeel_core::{outcome::Outcome, reason::Code};
use evenkeel_tests::{
    docker::{self, Container},
    wait::{PATIENCE, seconds, stays, wait_until},
};
use serde_json::Value;

use crate::{
    narrator::say,
    stage::{Stage, TOPIC, containers, copy_example, healthy},
};

const PAGE: &str = "stacks/web/site/index.html";
const COMPOSE: &str = "stacks/web/compose.yml";

/// All six, and the end.
pub fn all(stage: &mut Stage) {
    let steps: [fn(&mut Stage); 6] = [first_push, one_file, broken_push, unsigned_push, fixed_push, killed_agent];
    for step in steps {
        let started = Instant::now();
        stage.skip_ahead();
        step(stage);
        stage.narrator.time("This step", started.elapsed());
    }
    look_back(stage);
}

fn first_push(stage: &mut Stage) {
    stage.narrator.title(
        "1/6  A signed push becomes a healthy deployment",
        "The repository holds two stacks, one folder each. `web` says that it depends on `api`, so `api` must be up and \
         healthy before `web` begins.",
    );
    stage.narrator.command("cp -r examples/quickstart/. infra && cd infra");
    copy_example("quickstart", &stage.repository.work);
    stage.narrator.command("git add --all && git commit -S -m 'Two stacks'");
    stage.narrator.command("git push");
    let commit = stage.repository.change("Two stacks").push();
    stage.start_agent();
    let sync = stage.wait(&commit, Outcome::Committed);
    for stack in ["api", "web"] {
        sync.deployment(stack).ended(Outcome::Committed);
    }
    let api = healthy("api", "api");
    let first_of_web = ["web", "clock"].map(|s| healthy("web", s).created()).into_iter().min().unwrap_or_default();
    stage.narrator.checked("api/api, web/clock and web/web run and are healthy");
    assert!(
        second(&api.started()) < second(&first_of_web),
        "web was made at {first_of_web}, api started at {}",
        api.started()
    );
    stage.narrator.checked("api was up before the first container of web was made");
    stage.page_says("It works");
    stage.ask("status");
}

fn one_file(stage: &mut Stage) {
    stage.narrator.title(
        "2/6  One mounted file changes",
        "Compose alone would not notice: the model is the same, only a mounted file differs. Only the service that mounts \
         it may be touched.",
    );
    let (web, clock, api) = (healthy("web", "web"), healthy("web", "clock"), healthy("api", "api"));
    let commit = stage.push("Change the page", |c| c.replace(PAGE, "It works", "It works twice"));
    stage.wait(&commit, Outcome::Committed);
    assert_ne!(healthy("web", "web").id(), web.id(), "web/web should have been recreated");
    stage.narrator.checked("web/web was recreated");
    assert_eq!(healthy("web", "clock").id(), clock.id(), "web/clock should not have been touched");
    assert_eq!(healthy("api", "api").id(), api.id(), "api/api should not have been touched");
    stage.narrator.checked("web/clock and api/api were not touched");
    stage.page_says("It works twice");
}

fn broken_push(stage: &mut Stage) {
    stage.narrator.title(
        "3/6  A push that breaks a healthcheck rights itself",
        "A new image, and a healthcheck with a typing error. The gate sees the container turn unhealthy and does not wait \
         for its deadline of 30 s; then the former image and files come back.",
    );
    let (before, good) = (healthy("web", "web"), stage.repository.head());
    let started = Instant::now();
    let commit = stage.push("Use busybox 2", |c| {
        c.replace(
            COMPOSE,
            "  web:\n    image: ${EVENKEEL_IMAGE:-busybox:1.36}",
            "  web:\n    image: evenkeel-test/busybox:2",
        )
        .replace(COMPOSE, "8080/index.html\"]", "8080/indxe.html\"]")
    });
    let sync = stage.wait(&commit, Outcome::RolledBack);
    let reason = sync.deployment("web").ended(Outcome::RolledBack).because(Code::GateUnhealthy).to_owned();
    stage.narrator.heard("why", &reason);
    assert!(started.elapsed() < seconds(30), "it took {:?}", started.elapsed());
    let after = healthy("web", "web");
    assert_eq!(after.image(), before.image(), "the former image should run");
    for path in [COMPOSE, PAGE] {
        stage.live_is_at(&good, path);
    }
    stage.narrator.checked("exactly the former image runs, and the live files are the former ones");
    stage.page_says("It works twice");
    stays(seconds(4), "the bad commit is not tried again", || {
        let now = containers();
        if now.iter().any(|(_, id)| *id == after.id()) { Ok(()) } else { Err(format!("{now:?}")) }
    });
    let tries =
        stage.operator.history().deployments("web").iter().filter(|d| d.outcome == Some(Outcome::RolledBack)).count();
    assert_eq!(tries, 1, "the bad commit was tried more than once");
    stage.narrator.checked("quarantined: four polls later it has not been tried again");
    stage.ask("status");
}

fn unsigned_push(stage: &mut Stage) {
    stage.narrator.title(
        "4/6  An unsigned push is refused",
        "Somebody got hold of the forge account, but not of the signing key.",
    );
    let (before, accepted) = (containers(), stage.operator.status().source.accepted);
    let change = stage.repository.change("Mine crypto").replace(PAGE, "It works twice", "All your base").unsigned();
    stage.show_diff();
    stage.narrator.command("git commit -a --no-gpg-sign -m 'Mine crypto'");
    stage.narrator.command("git push");
    let commit = change.push();
    stage.wait(&commit, Outcome::Refused);
    assert_eq!(containers(), before, "no container may have been touched");
    stage.live_is_at("HEAD~1", PAGE);
    stage.narrator.checked("no container and no file was touched");
    let source = stage.operator.status().source;
    assert_eq!((source.accepted, source.refused.is_some()), (accepted, true), "status should tell of the refusal");
    stage.page_says("It works twice");
}

fn fixed_push(stage: &mut Stage) {
    stage.narrator.title(
        "5/6  The fixed push is deployed",
        "The unsigned commit goes out of the branch, and the typing error out of the healthcheck.",
    );
    stage.narrator.command("git reset --hard HEAD~1");
    stage.repository.git(&["reset", "-q", "--hard", "HEAD~1"]);
    let change = stage.repository.change("Spell the healthcheck right").replace(COMPOSE, "indxe.html", "index.html");
    stage.show_diff();
    stage.narrator.command("git commit -a -S -m 'Spell the healthcheck right'");
    stage.narrator.command("git push --force");
    let commit = change.commit();
    stage.repository.force_push();
    stage.wait(&commit, Outcome::Committed);
    let image = docker::image_id("evenkeel-test/busybox:2").expect("the image was used a step ago");
    assert_eq!(healthy("web", "web").image(), image, "the new image should run");
    stage.narrator.checked("web/web runs the new image and is healthy");
    stage.page_says("It works twice");
}

fn killed_agent(stage: &mut Stage) {
    stage.narrator.title(
        "6/6  The agent is killed in the middle of a deployment",
        "kill -9: it cannot tidy up. What it meant to do is in its journal, so after a restart it goes on from there.",
    );
    let before = healthy("web", "web");
    let commit =
        stage.push("Change the page again", |c| c.replace(PAGE, "It works twice", "It works whatever happens"));
    wait_until(seconds(30), "the new container of web is being made", || {
        let now = Container::of_service("quickstart-web", "web");
        let shown: Vec<String> = now.iter().map(Container::shown).collect();
        if now.iter().any(|c| c.id() != before.id()) { Ok(()) } else { Err(format!("{shown:?}")) }
    });
    stage.kill_agent();
    stage.let_agent_speak();
    stage.ask("status");
    stage.start_agent();
    wait_until(PATIENCE, "the interrupted deployment comes to its end", || {
        let history = stage.operator.try_history()?;
        let of_commit = history.deployments("web").into_iter().rfind(|d| d.to.as_deref() == Some(&commit)).cloned();
        match of_commit {
            Some(d) if d.outcome == Some(Outcome::Committed) => Ok(()),
            other => Err(format!("{other:#?}")),
        }
    });
    stage.let_agent_speak();
    stage.narrator.checked("the deployment was taken up where it had been left, and finished");
    let all = containers();
    assert_eq!(all.len(), 3, "there should be three containers: {all:?}");
    healthy("web", "web");
    stage.narrator.checked("web/web is healthy, and no half-made container is left");
    stage.page_says("It works whatever happens");
}

fn look_back(stage: &mut Stage) {
    wait_until(PATIENCE, "the agent is at rest", || {
        let open: Vec<_> = stage.operator.try_history()?.syncs.into_iter().filter(|s| s.outcome.is_none()).collect();
        if open.is_empty() { Ok(()) } else { Err(format!("{open:#?}")) }
    });
    stage.narrator.title("What happened", "Everything is in the agent's store, with the agent running or not.");
    stage.ask("history");
    stage.narrator.title("What you were told", "Each of the receivers got every message, once and in order.");
    let expected = ["deployed", "deployed", "deployed", "rolled_back", "refused", "deployed", "deployed"];
    let events = wait_until(seconds(20), "all reports are delivered", || {
        let events: Vec<String> = stage.webhook.taken().into_iter().map(|d| d.event).collect();
        let main: Vec<&String> = events.iter().filter(|e| expected.contains(&e.as_str())).collect();
        let same = stage.discord.messages().len() == events.len() && stage.ntfy.messages(TOPIC).len() == events.len();
        if main == expected.iter().collect::<Vec<_>>() && same { Ok(events) } else { Err(format!("{events:?}")) }
    });
    say("On your phone (ntfy):");
    for message in stage.ntfy.messages(TOPIC) {
        let text = |key: &str| message[key].as_str().unwrap_or_default().to_owned();
        stage.narrator.heard("ntfy", &text("title"));
        stage.narrator.heard("    ", &text("message"));
    }
    tell!();
    say("In the Discord channel (each with server, stack, commit, author and signer below it):");
    for message in stage.discord.messages() {
        assert!(!message.may_ping(), "a message could ping people: {message:?}");
        stage.narrator.heard("discord", message.shown().lines().next().unwrap_or_default());
    }
    assert_eq!((stage.discord.rejected(), stage.webhook.refused()), (Vec::<Value>::new(), Vec::<String>::new()));
    tell!();
    stage.narrator.checked(&format!(
        "{} signed JSON deliveries, every signature good: {}",
        events.len(),
        events.join(", ")
    ));
    stage.narrator.checked("Discord's limits were kept, and nobody could be pinged by a commit's text");
}

/// The time without its fraction, which Docker prints with a varying number of digits.
fn second(time: &str) -> &str {
    time.get(..19).unwrap_or(time)
}
