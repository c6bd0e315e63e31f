//! The kit itself: receivers that are as strict as what they stand for, and worlds that leave nothing behind.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{
    panic,
    process::Command,
    time::{Duration, Instant},
};

use axum::http::HeaderMap;
use evenkeel_tests::{
    docker::{self, Container},
    fixture, http,
    keys::Key,
    port,
    program::Run,
    receivers::{
        discord::{self, Discord},
        git_http::{GitHttp, Mood},
        ntfy::Ntfy,
        registry::Registry,
        webhook::{self, Webhook},
    },
    wait::{seconds, stays, wait_until},
    world::World,
};
use serde_json::{Value, json};

const JSON: (&str, &str) = ("Content-Type", "application/json");

fn post(url: &str, body: &Value) -> http::Response {
    http::request("POST", url, &[JSON], body.to_string().as_bytes()).unwrap()
}

fn panics(what: impl FnOnce() + panic::UnwindSafe) -> String {
    let payload = panic::catch_unwind(what).expect_err("it should have failed");
    payload.downcast_ref::<String>().cloned().unwrap_or_default()
}

// ---------------------------------------------------------------- Discord

fn embed(key: &str, length: usize) -> Value {
    json!({ "embeds": [{ "title": "t", key: "x".repeat(length) }] })
}

fn fields(count: usize, name: usize, value: usize) -> Value {
    let field = json!({ "name": "n".repeat(name), "value": "v".repeat(value) });
    json!({ "embeds": [{ "title": "t", "fields": vec![field; count] }] })
}

#[test]
fn discord_accepts_messages_at_each_documented_limit() {
    let at_the_limit = [
        json!({ "content": "x".repeat(2_000) }),
        json!({ "content": "ü".repeat(2_000) }),
        embed("title", 256),
        embed("description", 4_096),
        fields(25, 10, 10),
        fields(1, 256, 1_024),
        json!({ "embeds": vec![json!({ "title": "t" }); 10] }),
        json!({ "embeds": [{ "description": "x".repeat(4_096) }, { "description": "y".repeat(1_904) }] }),
        json!({ "embeds": [{ "title": "t", "color": 0x00FF_FFFF, "url": "https://example.org", "timestamp": "2026-11-21T09:00:00Z" }] }),
    ];
    for message in at_the_limit {
        assert_eq!(discord::faults(&message), Vec::<String>::new(), "{message}");
    }
}

#[test]
fn discord_refuses_messages_beyond_each_documented_limit() {
    let beyond = [
        (json!({}), "empty message"),
        (json!({ "content": "  " }), "empty message"),
        (json!({ "content": "x".repeat(2_001) }), "content"),
        (json!({ "content": 7 }), "not a string"),
        (json!({ "content": "x", "username": "u".repeat(81) }), "username"),
        (embed("title", 257), "title"),
        (embed("description", 4_097), "description"),
        (json!({ "embeds": [{ "footer": { "text": "x".repeat(2_049) } }] }), "footer"),
        (json!({ "embeds": [{ "author": { "name": "x".repeat(257) } }] }), "author"),
        (fields(26, 1, 1), "fields"),
        (fields(1, 257, 1), "name"),
        (fields(1, 1, 1_025), "value"),
        (fields(1, 0, 1), "required"),
        (fields(1, 1, 0), "required"),
        (json!({ "embeds": vec![json!({ "title": "t" }); 11] }), "at most 10"),
        (json!({ "embeds": [{ "description": "x".repeat(4_096) }, { "description": "y".repeat(1_905) }] }), "6000"),
        (json!({ "embeds": [{}] }), "empty"),
        (json!({ "embeds": [{ "title": "t", "color": 0x0100_0000 }] }), "color"),
        (json!({ "embeds": [{ "title": "t", "url": "javascript:x" }] }), "url"),
        (json!({ "embeds": [{ "title": "t", "timestamp": "now" }] }), "timestamp"),
        (json!({ "embeds": { "title": "t" } }), "lists"),
    ];
    for (message, word) in beyond {
        let faults = discord::faults(&message);
        assert!(faults.iter().any(|f| f.contains(word)), "{message}: {faults:?} do not speak of {word}");
    }
}

#[test]
fn discord_answers_as_discord_does() {
    let discord = Discord::start();
    let hello = json!({ "content": "hello", "allowed_mentions": { "parse": [] } });
    assert_eq!(post(&discord.url(), &hello).status, 204);
    assert_eq!(post(&format!("{}?wait=true", discord.url()), &hello).json()["id"], "2");
    assert_eq!(post(&discord.url().replace("s3cret", "other"), &hello).json()["code"], 50_027);
    assert_eq!(post(&discord.url().replace("/1184", "/9999"), &hello).json()["code"], 10_015);
    assert_eq!(post(&discord.url(), &json!({ "content": "" })).status, 400);
    let untyped = http::request("POST", &discord.url(), &[], hello.to_string().as_bytes()).unwrap();
    assert_eq!(untyped.status, 400);
    discord.limit_next(1.5);
    let limited = post(&discord.url(), &hello);
    assert_eq!(
        (limited.status, limited.header("retry-after"), &limited.json()["retry_after"]),
        (429, Some("2"), &json!(1.5))
    );
    assert_eq!(discord.messages().len(), 2);
    assert_eq!(discord.rejected().len(), 4);
    assert_eq!(discord::Message(json!({ "content": r"\*a\* \\b" })).shown(), r"*a* \b");
    assert!(!discord.messages()[0].may_ping());
    assert!(discord::Message(json!({ "content": "@everyone" })).may_ping());
}

// ---------------------------------------------------------------- webhook

fn delivery(secret: &str, timestamp: u64, body: &str, event: &str) -> HeaderMap {
    let timestamp = timestamp.to_string();
    let signature = webhook::signature(secret.as_bytes(), &timestamp, body.as_bytes());
    let headers = [
        ("content-type", "application/json"),
        ("evenkeel-event", event),
        ("evenkeel-delivery", "d-1"),
        ("evenkeel-timestamp", timestamp.as_str()),
        ("evenkeel-signature", signature.as_str()),
    ];
    let pairs = headers.into_iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap()));
    pairs.collect::<Vec<(axum::http::HeaderName, axum::http::HeaderValue)>>().into_iter().collect()
}

#[test]
fn webhook_signature_is_hmac_sha256_over_timestamp_dot_body() {
    // printf '1700000000.{}' | openssl dgst -sha256 -hmac key
    let expected = "sha256=9d713ed406bb7076d4123f0dc2c39d2df5c654ed4b0cd56b52c8b4c940bd63ae";
    assert_eq!(webhook::signature(b"key", "1700000000", b"{}"), expected);
}

#[test]
fn webhook_takes_only_what_is_signed_fresh_and_whole() {
    let body = r#"{"event":"deployed"}"#;
    let check = |headers: HeaderMap, body: &str| webhook::check(b"s", &headers, body.as_bytes(), 1_000_000);
    assert_eq!(check(delivery("s", 1_000_100, body, "deployed"), body).unwrap().event, "deployed");
    let mut unsigned = delivery("s", 1_000_000, body, "deployed");
    unsigned.remove("evenkeel-signature");
    let mut nameless = delivery("s", 1_000_000, body, "deployed");
    nameless.remove("evenkeel-delivery");
    let mut shifted = delivery("s", 1_000_000, body, "deployed");
    shifted.insert("evenkeel-timestamp", "1000001".parse().unwrap());
    for (headers, body, word) in [
        (unsigned, body, "evenkeel-signature"),
        (nameless, body, "evenkeel-delivery"),
        (shifted, body, "wrong"),
        (delivery("other", 1_000_000, body, "deployed"), body, "wrong"),
        (delivery("s", 1_000_000, body, "deployed"), r#"{"event":"refused"}"#, "wrong"),
        (delivery("s", 999_000, body, "deployed"), body, "away"),
        (delivery("s", 1_000_000, body, "refused"), body, "header says"),
        (delivery("s", 1_000_000, "no", "deployed"), "no", "not JSON"),
    ] {
        let why = check(headers, body).unwrap_err();
        assert!(why.contains(word), "{why}");
    }
}

#[test]
fn webhook_answers_on_demand_and_records_all() {
    let webhook = Webhook::start("s");
    webhook.answer_next(503);
    for expected in [503, 204] {
        let body = r#"{"event":"deployed"}"#;
        let headers = delivery("s", webhook::now(), body, "deployed");
        let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        assert_eq!(http::request("POST", &webhook.url(), &headers, body.as_bytes()).unwrap().status, expected);
    }
    assert_eq!(post(&webhook.url(), &json!({})).status, 401);
    assert_eq!(webhook.deliveries().len(), 2);
    assert_eq!(webhook.taken().len(), 1);
    assert_eq!(webhook.refused().len(), 1);
}

// ---------------------------------------------------------------- ntfy and Git over HTTP

#[test]
fn ntfy_gives_back_what_was_sent() {
    let folder = tempfile::tempdir().unwrap();
    let ntfy = Ntfy::start(folder.path());
    assert_eq!(ntfy.messages("topic"), Vec::<Value>::new());
    assert_eq!(http::request("POST", &ntfy.url("topic"), &[("Title", "hello")], b"world").unwrap().status, 200);
    let messages = ntfy.messages("topic");
    assert_eq!((&messages[0]["title"], &messages[0]["message"]), (&json!("hello"), &json!("world")));
}

#[test]
fn a_private_ntfy_wants_its_token() {
    let folder = tempfile::tempdir().unwrap();
    let ntfy = Ntfy::start_private(folder.path());
    assert_eq!(http::request("POST", &ntfy.url("topic"), &[], b"x").unwrap().status, 403);
    let bearer = format!("Bearer {}", ntfy.token());
    let answer = http::request("POST", &ntfy.url("topic"), &[("Authorization", &bearer)], b"x").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(ntfy.messages("topic").len(), 1);
}

#[test]
fn git_is_served_over_http_with_moods_and_credentials() {
    let folder = tempfile::tempdir().unwrap();
    let key = Key::make(&folder.path().join("keys"), "alice");
    let repository = evenkeel_tests::repository::Repository::make(folder.path(), key);
    let head = repository.change("One file").file("a", "1\n").push();
    let server = GitHttp::start(folder.path().to_path_buf());
    let url = server.url("infra.git");
    assert_eq!(repository.git(&["ls-remote", &url, "refs/heads/main"]).split('\t').next(), Some(head.as_str()));
    repository.git(&["clone", "-q", &url, "../over-http"]);
    let ask = || Run::of(Command::new("git").args(["ls-remote", &url]).env("GIT_TERMINAL_PROMPT", "0"));
    server.set(Mood::Down);
    assert!(ask().stderr.contains("503"), "{}", ask().report());
    server.set(Mood::Babbling);
    assert!(!ask().stdout.contains(&head), "{}", ask().report());
    assert!(server.requests().iter().any(|r| r.starts_with("POST /infra.git/git-upload-pack")));

    // "me:secret"
    let private = GitHttp::start_private(folder.path().to_path_buf(), "Basic bWU6c2VjcmV0");
    let url = private.url("infra.git");
    assert_ne!(Run::of(Command::new("git").args(["ls-remote", &url]).env("GIT_TERMINAL_PROMPT", "0")).code, Some(0));
    repository.git(&["ls-remote", &url.replace("http://", "http://me:secret@")]);
}

// ---------------------------------------------------------------- worlds

#[test]
fn commits_are_signed_as_git_itself_verifies() {
    let world = World::new();
    let file = world.server().join("allowed_signers").display().to_string();
    let config = format!("gpg.ssh.allowedSignersFile={file}");
    let verdict = |id: &str| {
        let mut command = Command::new("git");
        Run::of(command.args(["-c", &config, "verify-commit", id]).current_dir(&world.repository.work))
    };
    let signed = world.change("Signed").file("a", "1\n").push();
    verdict(&signed).exits(0);
    let unsigned = world.change("Unsigned").file("a", "2\n").unsigned().push();
    verdict(&unsigned).exits(1);
    let mallory = Key::make(&world.folder().join("keys"), "mallory");
    let other = world.change("By another").file("a", "3\n").signed_by(&mallory).push();
    assert_ne!(verdict(&other).code, Some(0));
    let tip = world.repository.git(&["ls-remote", &world.repository.url(), "refs/heads/main"]);
    assert!(tip.starts_with(&other), "{tip}");
    assert!(world.repository.key.fingerprint().starts_with("SHA256:"));
}

#[test]
fn a_world_removes_what_it_made_even_after_a_failure() {
    let world = World::new();
    let (prefix, folder) = (world.prefix().to_owned(), world.folder().to_path_buf());
    let project = world.stack("web");
    let port = port::free();
    let failure = panics(panic::AssertUnwindSafe(move || {
        let world = world;
        world.change("A page").file(&world.path("web", "compose.yml"), fixture::web(1, port)).commit();
        std::fs::write(world.repository.work.join(world.path("web", "index.html")), "hello\n").unwrap();
        let file = world.repository.work.join(world.path("web", "compose.yml"));
        docker::docker(&["compose", "-f", &file.to_string_lossy(), "up", "--detach", "--wait", "--quiet-pull"]);
        assert_eq!(http::text(&format!("http://127.0.0.1:{port}/")), Ok("hello".to_owned()));
        assert_eq!(world.container("web", "app").health(), "healthy");
        docker::docker(&["volume", "create", &world.stack("volume")]);
        docker::docker(&["tag", "evenkeel-test/busybox:1", &format!("evenkeel-keep/{}-web:1-app", world.prefix())]);
        let mut left =
            Command::new("sleep").arg("1000").env(evenkeel_tests::agent::MARK, world.prefix()).spawn().unwrap();
        assert_eq!(world.processes().len(), 1);
        std::thread::spawn(move || left.wait());
        panic!("{}", "on purpose");
    }));
    assert_eq!(failure, "on purpose");
    assert_eq!(Container::of_project(&project), []);
    for list in [vec!["network", "ls", "--format", "{{.Name}}"], vec!["volume", "ls", "-q"], vec!["image", "ls"]] {
        assert!(!docker::docker(&list).contains(&prefix), "{list:?}");
    }
    assert_eq!(evenkeel_tests::agent::processes_of(&prefix, &folder), []);
    assert!(!folder.exists());
}

/// Starts a Compose file of the fixtures without any agent, and returns when its container is as `good` says.
fn compose_up(world: &World, stack: &str, text: &str, good: impl Fn(&Container) -> bool) -> Duration {
    let file = world.config.put(&format!("{stack}.yml"), text);
    world.config.put("index.html", "hello\n");
    docker::docker(&["compose", "-p", &world.stack(stack), "-f", &file.to_string_lossy(), "up", "--detach"]);
    let started = Instant::now();
    world.wait_container(stack, "app", "is as it should be", good);
    started.elapsed()
}

#[test]
fn fixtures_are_well_sick_slow_and_stubborn() {
    let world = World::new();
    let health = |wanted: &'static str| move |c: &Container| c.health() == wanted;
    assert!(compose_up(&world, "web", &fixture::web(1, port::free()), health("healthy")) < seconds(8));
    assert!(compose_up(&world, "sick", &fixture::sick_web(2, port::free()), health("unhealthy")) < seconds(8));
    assert!(compose_up(&world, "slow", &fixture::slow(3, 2), health("healthy")) > seconds(1));
    compose_up(&world, "sleeper", &fixture::sleeper(1), |c| c.state() == "running");
    compose_up(&world, "stubborn", &fixture::stubborn(1, 2), |c| c.state() == "running");
    for (stack, stubborn) in [("sleeper", false), ("stubborn", true)] {
        let stopping = Instant::now();
        docker::docker(&["stop", &world.container(stack, "app").id()]);
        assert_eq!(stopping.elapsed() > Duration::from_millis(1_800), stubborn, "{stack}: {:?}", stopping.elapsed());
    }
}

#[test]
fn a_registry_gives_what_was_published_and_only_that() {
    let world = World::new();
    let registry = Registry::start(world.folder());
    registry.publish("evenkeel-test/busybox:2", "app:2");
    assert_eq!(docker::image_id(&registry.image("app:2")), None);
    docker::docker(&["pull", "--quiet", &registry.image("app:2")]);
    assert_eq!(docker::image_id(&registry.image("app:2")), docker::image_id("evenkeel-test/busybox:2"));
    let absent = docker::run(&["pull", &registry.image("app:3")]);
    assert!(absent.code != Some(0) && absent.said().contains("manifest unknown"), "{}", absent.report());
}

#[test]
fn a_world_has_short_paths_and_names_of_its_own() {
    let (one, two) = (World::new(), World::new());
    let socket = one.server().join("run/agent.sock");
    assert!(socket.as_os_str().len() < 100, "{}", socket.display());
    assert!(!one.prefix().starts_with(two.prefix()) && !two.prefix().starts_with(one.prefix()));
    assert_ne!(port::free(), port::free());
}

#[test]
fn waiting_says_what_for_and_what_was_seen() {
    let message = panics(|| wait_until(Duration::from_millis(100), "the moon rises", || Err("clouds".to_owned())));
    assert!(message.contains("the moon rises") && message.contains("clouds"), "{message}");
    let message = panics(|| stays(seconds(1), "dark", || Err("a light".to_owned())));
    assert!(message.contains("dark") && message.contains("a light"), "{message}");
}
