//! Who is told of what.

use std::time::{Duration, Instant};

use evenkeel_core::outcome::Outcome;
use evenkeel_tests::{
    fixture, port,
    receivers::{
        discord::Discord,
        ntfy::Ntfy,
        webhook::{Delivery, Webhook},
    },
    wait::{PATIENCE, seconds, stays, wait_until},
    world::World,
};
use serde_json::{Value, json};

const KEY: &str = "the-key-of-the-webhook";

fn to_discord(world: &World, discord: &Discord) -> String {
    let url = world.config.put("discord-url", &format!("{}\n", discord.url()));
    format!("discord: {{ url_file: {} }}", url.display())
}

fn events(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|d| d.event.as_str()).collect()
}

#[test]
fn every_sink_is_told_of_a_deployment_a_rollback_and_a_refusal() {
    let mut world = World::new();
    let (webhook, discord, ntfy) = (Webhook::start(KEY), Discord::start(), Ntfy::start(world.folder()));
    let sinks =
        [webhook.sink(&world.config), to_discord(&world, &discord), format!("ntfy: {{ url: {} }}", ntfy.url("home"))];
    world.report_to(&sinks);
    world.config.source(&world.repository.url(), "300ms");
    world.start();
    let file = world.path("web", "compose.yml");
    let first = world.change("Begin").file(&file, fixture::sleeper(1)).push();
    world.wait_sync(&first, Outcome::Committed);
    let sick = fixture::sleeper(2) + "    healthcheck: { test: [CMD, 'false'], interval: 500ms, retries: 1 }\n";
    let second = world.change("Break").file(&file, sick).push();
    world.wait_sync(&second, Outcome::RolledBack);
    let third = world.change("Mine crypto").file(&file, fixture::sleeper(3)).unsigned().push();
    world.wait_sync(&third, Outcome::Refused);

    let taken = webhook.wait_taken(3);
    assert_eq!(events(&taken), ["deployed", "rolled_back", "refused"]);
    assert_eq!(webhook.refused(), Vec::<String>::new());
    let stack = world.stack("web");
    let [deployed, rolled_back, refused] = [0, 1, 2].map(|n| &taken[n].body);
    for key in [
        "schema",
        "id",
        "event",
        "server",
        "stack",
        "commit",
        "from",
        "to",
        "outcome",
        "reason",
        "services",
        "duration_ms",
        "snapshot",
        "url",
    ] {
        assert!(deployed.get(key).is_some(), "the body lacks {key}: {deployed:#}");
    }
    assert_eq!(
        (&deployed["server"], &deployed["stack"], &deployed["to"]),
        (&json!("home"), &json!(stack), &json!(first))
    );
    assert_eq!((&deployed["commit"]["id"], &deployed["commit"]["subject"]), (&json!(first), &json!("Begin")));
    assert_eq!((&rolled_back["from"], &rolled_back["reason"]["code"]), (&json!(first), &json!("gate.unhealthy")));
    assert_eq!((&refused["commit"]["id"], &refused["outcome"]), (&json!(third), &json!("refused")));
    assert!(refused["reason"]["message"].as_str().unwrap().contains("E-UNSIGNED"), "{refused:#}");

    wait_until(PATIENCE, "Discord and ntfy have three messages", || {
        let counts = (discord.messages().len(), ntfy.messages("home").len());
        if counts == (3, 3) { Ok(()) } else { Err(format!("{counts:?}, rejected: {:?}", discord.rejected())) }
    });
    for (n, commit) in [&first, &second, &third].into_iter().enumerate() {
        let (in_channel, on_phone) = (discord.messages()[n].text(), ntfy.messages("home")[n].to_string());
        assert!(in_channel.contains(&commit[..7]), "message {n} should name the commit: {in_channel}");
        assert!(on_phone.contains(&commit[..7]), "message {n} should name the commit: {on_phone}");
    }
    assert_eq!(discord.rejected(), Vec::<Value>::new());
}

#[test]
fn tells_of_one_refusal_once() {
    let mut world = World::new();
    let webhook = Webhook::start(KEY);
    let sinks = [webhook.sink(&world.config)];
    world.report_to(&sinks);
    world.config.source(&world.repository.url(), "300ms");
    world.start();
    let commit = world.change("Unsigned").file("README.md", "words\n").unsigned().push();
    world.wait_sync(&commit, Outcome::Refused);
    webhook.wait_taken(1);
    stays(seconds(2), "one message for one refusal", || {
        let count = webhook.deliveries().len();
        if count == 1 { Ok(()) } else { Err(format!("{count} deliveries")) }
    });
}

#[test]
fn a_sink_gets_only_what_it_asks_for() {
    let mut world = World::new();
    let (all, some) = (Webhook::start(KEY), Webhook::start(KEY));
    let sinks = [all.sink(&world.config), format!("on: [rolled_back]\n    {}", some.sink(&world.config))];
    world.report_to(&sinks);
    world.config.source(&world.repository.url(), "300ms");
    world.start();
    let file = world.path("web", "compose.yml");
    let first = world.change("Begin").file(&file, fixture::sleeper(1)).push();
    world.wait_sync(&first, Outcome::Committed);
    let sick = fixture::sleeper(2) + "    healthcheck: { test: [CMD, 'false'], interval: 500ms, retries: 1 }\n";
    world.change("Break").file(&file, sick).push();
    assert_eq!(events(&all.wait_taken(2)), ["deployed", "rolled_back"]);
    assert_eq!(events(&some.wait_taken(1)), ["rolled_back"]);
}

#[test]
fn a_failed_delivery_is_made_again_with_the_same_id() {
    let mut world = World::new();
    let webhook = Webhook::start(KEY);
    webhook.answer_next(500);
    webhook.answer_next(503);
    let sinks = [webhook.sink(&world.config)];
    world.report_to(&sinks);
    world.start();
    let commit = world.change("Begin").file(&world.path("web", "compose.yml"), fixture::sleeper(1)).push();
    world.evenkeel(&["sync"]);
    world.wait_sync(&commit, Outcome::Committed);
    let taken = webhook.wait_taken(1);
    let all = webhook.deliveries();
    assert_eq!(all.len(), 3);
    assert!(all.iter().all(|d| d.id == taken[0].id && d.body == taken[0].body), "{all:#?}");
}

#[test]
fn waits_as_long_as_discord_asks() {
    let mut world = World::new();
    let discord = Discord::start();
    discord.limit_next(2.0);
    let sinks = [to_discord(&world, &discord)];
    world.report_to(&sinks);
    world.config.source(&world.repository.url(), "300ms");
    world.start();
    world.change("Begin").file(&world.path("web", "compose.yml"), fixture::sleeper(1)).push();
    wait_until(PATIENCE, "the first try was limited", || {
        if discord.limits_used_up() { Ok(()) } else { Err("no try yet".to_owned()) }
    });
    let limited = Instant::now();
    wait_until(PATIENCE, "the message arrives", || {
        if discord.messages().is_empty() { Err("none yet".to_owned()) } else { Ok(()) }
    });
    assert!(
        limited.elapsed() > Duration::from_millis(1_800),
        "it came {:?} after a 429 that asked for 2 s",
        limited.elapsed()
    );
    assert_eq!(discord.messages().len(), 1);
}

#[test]
fn a_sink_that_is_down_changes_no_outcome_and_gets_its_message_later() {
    let mut world = World::new();
    let port = port::free();
    let secret = world.config.put("webhook-secret", KEY);
    let sink = format!("webhook: {{ url: http://127.0.0.1:{port}/evenkeel, secret_file: {} }}", secret.display());
    world.report_to(&[sink]);
    let commit = world.change("Begin").file(&world.path("web", "compose.yml"), fixture::sleeper(1)).push();
    world.once().exits(0);
    assert_eq!(world.last_sync(Outcome::Committed).commit, Some(commit));
    let webhook = Webhook::start_on(port, KEY);
    world.start();
    assert_eq!(events(&webhook.wait_taken(1)), ["deployed"]);
}

#[test]
fn a_message_survives_kill_9_and_keeps_its_id() {
    let mut world = World::new();
    let webhook = Webhook::start(KEY);
    webhook.answer_next(503);
    let sinks = [webhook.sink(&world.config)];
    world.report_to(&sinks);
    world.config.source(&world.repository.url(), "300ms");
    world.start();
    world.change("Begin").file(&world.path("web", "compose.yml"), fixture::sleeper(1)).push();
    let first = wait_until(PATIENCE, "a first try", || {
        webhook.deliveries().first().cloned().ok_or_else(|| "none yet".to_owned())
    });
    world.take_agent().kill();
    world.start();
    assert_eq!(webhook.wait_taken(1)[0].id, first.id);
}

#[test]
fn a_private_ntfy_gets_its_token_and_no_log_does() {
    let mut world = World::new();
    let ntfy = Ntfy::start_private(world.folder());
    let token = world.config.put("ntfy-token", &format!("{}\n", ntfy.token()));
    let sink = format!("ntfy: {{ url: {}, token_file: {} }}", ntfy.url("home"), token.display());
    world.report_to(&[sink]);
    world.config.source(&world.repository.url(), "300ms");
    world.start();
    world.change("Begin").file(&world.path("web", "compose.yml"), fixture::sleeper(1)).push();
    wait_until(PATIENCE, "ntfy has the message", || {
        let messages = ntfy.messages("home");
        if messages.len() == 1 { Ok(()) } else { Err(format!("{messages:?}")) }
    });
    assert!(!world.logged().contains(ntfy.token()));
}

#[test]
fn the_text_of_a_commit_is_data() {
    let mut world = World::new();
    let (discord, ntfy) = (Discord::start(), Ntfy::start(world.folder()));
    let sinks = [to_discord(&world, &discord), format!("ntfy: {{ url: {} }}", ntfy.url("home"))];
    world.report_to(&sinks);
    world.config.source(&world.repository.url(), "300ms");
    world.start();
    let nasty = format!("@everyone <@1234> [click](http://evil.example) `x` **bold** {}", "long ".repeat(1_500));
    world.change(&nasty).file(&world.path("web", "compose.yml"), fixture::sleeper(1)).push();
    wait_until(PATIENCE, "both have the message", || {
        let counts = (discord.messages().len(), ntfy.messages("home").len());
        if counts == (1, 1) { Ok(()) } else { Err(format!("{counts:?}, rejected: {:?}", discord.rejected())) }
    });
    let message = &discord.messages()[0];
    assert!(!message.may_ping(), "{message:?}");
    assert!(!message.text().contains("](http://evil.example)"), "no link may survive: {}", message.text());
    let phone = &ntfy.messages("home")[0];
    assert!(phone.get("attachment").is_none(), "too long a message becomes an attachment: {phone:#}");
    assert_ne!(phone["content_type"], "text/markdown", "{phone:#}");
}

#[test]
fn a_commit_cannot_paint_on_the_operators_terminal() {
    let mut world = World::new();
    let webhook = Webhook::start(KEY);
    let sinks = [webhook.sink(&world.config)];
    world.report_to(&sinks);
    let subject = "Harmless\u{1b}[2K\u{1b}]0;owned\u{7}\u{202e}text";
    world.change(subject).file(&world.path("web", "compose.yml"), fixture::sleeper(1)).push();
    let mut said = world.once().exits(0).said();
    world.change(subject).file("README.md", "x\n").unsigned().push();
    said += &world.once().exits(4).said();
    for verb in ["status", "history"] {
        said += &world.evenkeel(&[verb, "--color", "never"]).said();
    }
    assert!(said.contains("Harmless"), "{said}");
    for bad in ['\u{1b}', '\u{7}', '\u{202e}'] {
        assert!(!said.contains(bad), "{bad:?} came through:\n{}", said.escape_debug());
    }
}
