//! What the command line promises to people and to programs.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use evenkeel_core::outcome::Outcome;
use evenkeel_tests::{
    fixture,
    keys::Key,
    program::{self, Run},
    wait::{seconds, wait_until},
    world::World,
};
use serde_json::{Value, json};

/// Runs a verb on a repository, with no configuration, no agent and no engine in reach.
fn offline(world: &World, args: &[&str]) -> Run {
    Run::of(world.command(args).env("DOCKER_HOST", "unix:///nowhere.sock"))
}

fn example(name: &str) -> String {
    program::root().join("examples").join(name).to_string_lossy().into_owned()
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect()
}

#[track_caller]
fn has_keys(value: &Value, keys: &[&str]) {
    for key in keys {
        assert!(value.get(key).is_some(), "{key} is missing in {value:#}");
    }
}

#[test]
fn every_example_is_a_complete_repository() {
    let world = World::new();
    for entry in fs::read_dir(program::root().join("examples")).unwrap().flatten().filter(|e| e.path().is_dir()) {
        let repo = entry.path().to_string_lossy().into_owned();
        let run = offline(&world, &["check", "--repo", &repo, "--format", "json"]);
        run.exits(0);
        let problems = run.json()["problems"].clone();
        assert!(problems.as_array().unwrap().iter().all(|p| p["severity"] != "error"), "{repo}: {problems:#}");
    }
}

#[test]
fn stacks_says_what_a_server_gets() {
    let world = World::new();
    let run = offline(&world, &["stacks", "--repo", &example("quickstart"), "--server", "any", "--format", "json"]);
    let said = run.exits(0).json();
    assert_eq!((&said["schema"], &said["server"], &said["layout"]), (&json!(1), &json!("any"), &json!("stacks")));
    assert_eq!(names(&said["stacks"]), ["api", "web"]);
    assert_eq!(said["stacks"][1]["project"], "quickstart-web");
    assert_eq!(said["stacks"][1]["depends_on"], json!(["api"]));
    assert_eq!(said["stacks"][1]["layers"], json!([{ "path": "stacks/web/compose.yml", "origin": "folder" }]));
    has_keys(&said["stacks"][1], &["env_files"]);
    let home = offline(&world, &["stacks", "--repo", &example("servers"), "--server", "home", "--format", "json"]);
    assert_eq!(names(&home.exits(0).json()["stacks"]), ["front", "notes", "watch"]);
}

#[test]
fn render_is_what_compose_itself_makes_of_the_files() {
    let world = World::new();
    let repo = example("quickstart");
    let run = offline(&world, &["render", "--repo", &repo, "--server", "any", "web", "--format", "json"]);
    let model = run.exits(0).json();
    let web = &model["services"]["web"];
    assert_eq!((&model["name"], &web["image"]), (&json!("quickstart-web"), &json!("busybox:1.36")));
    let source = web["volumes"][0]["source"].as_str().unwrap();
    assert!(Path::new(source).is_absolute() && source.ends_with("stacks/web/site/index.html"), "{source}");
    let live = offline(
        &world,
        &["render", "--repo", &repo, "--server", "any", "web", "--live-root", "/srv/live", "--format", "json"],
    );
    let moved = live.exits(0).json();
    assert_eq!(moved["services"]["web"]["volumes"][0]["source"], "/srv/live/stacks/web/site/index.html");
}

#[test]
fn render_names_a_variable_that_is_set_nowhere() {
    let world = World::new();
    let compose = fixture::sleeper(1) + "    environment: { A: '${NOT_SET_ANYWHERE}' }\n";
    world.change("A variable").file("stacks/web/compose.yml", compose).commit();
    let repo = world.repository.work.to_string_lossy().into_owned();
    let args = ["render", "--repo", &repo, "--server", "home", "web", "--format", "json"];
    let run = offline(&world, &args);
    run.exits(1);
    assert!(run.said().contains("NOT_SET_ANYWHERE"), "{}", run.report());
    run.json();
    let allowed = offline(&world, &[&args[..], &["--allow-unset"]].concat());
    assert_eq!(allowed.exits(0).json()["services"]["app"]["environment"]["A"], "");
    let file = world.config.put("some.env", "NOT_SET_ANYWHERE=now\n").to_string_lossy().into_owned();
    let given = offline(&world, &[&args[..], &["--env-file", &file]].concat());
    assert_eq!(given.exits(0).json()["services"]["app"]["environment"]["A"], "now");
}

#[test]
fn check_finds_what_would_be_rejected_and_says_where() {
    let world = World::new();
    world.change("A typing error").file("stacks/web/compose.yml", "services:\n  app:\n    imagee: x\n").commit();
    let repo = world.repository.work.to_string_lossy().into_owned();
    let run = offline(&world, &["check", "--repo", &repo, "--format", "json"]);
    let said = run.exits(1).json();
    has_keys(&said, &["schema", "servers", "problems"]);
    let problem = said["problems"].as_array().unwrap().iter().find(|p| p["severity"] == "error").unwrap();
    has_keys(problem, &["code", "server", "stack", "path", "line", "message", "help"]);
    assert_eq!((&problem["stack"], &problem["path"]), (&json!("web"), &json!("stacks/web/compose.yml")));
}

#[test]
fn plan_says_which_services_change_and_why() {
    let world = World::new();
    let (compose, page) = ("stacks/web/compose.yml", "stacks/web/index.html");
    let clock = "  clock: { image: 'evenkeel-test/busybox:1', command: [sleep, '1'] }\n";
    let first = world.change("One").file(compose, fixture::web(1, 8088) + clock).file(page, "one\n").commit();
    let second = world.change("Two").file(page, "two\n").commit();
    let third = world.change("Three").file(compose, fixture::web(2, 8088) + clock).commit();
    let repo = world.repository.work.to_string_lossy().into_owned();
    let plan = |from: &str, to: &str, more: &[&str]| {
        offline(
            &world,
            &[&["plan", "--repo", &repo, "--server", "home", "--from", from, "--to", to, "--format", "json"], more]
                .concat(),
        )
    };
    let created = plan("empty", &first, &[]).exits(0).json();
    let stack = &created["servers"][0]["waves"][0][0];
    assert_eq!((&stack["stack"], &stack["change"]), (&json!("web"), &json!("create")));
    for (to, kind) in [(&second, "file"), (&third, "image")] {
        let from = if kind == "file" { &first } else { &second };
        let run = plan(from, to, &["--exit-code"]);
        let said = run.exits(3).json();
        let stack = &said["servers"][0]["waves"][0][0];
        assert_eq!(stack["change"], "update");
        let services = stack["services"].as_array().unwrap();
        let of = |name: &str| {
            services.iter().find(|s| s["service"] == name).map(|s| (s["change"].clone(), s["why"].clone()))
        };
        let (change, why) = of("app").unwrap();
        assert_eq!(change, "recreate");
        assert_eq!(why.as_array().unwrap().iter().map(|w| w["kind"].clone()).collect::<Vec<_>>(), [json!(kind)]);
        assert!(of("clock").is_none_or(|(change, _)| change == "none"), "{services:?}");
    }
    let none = plan(&third, &third, &["--exit-code"]).exits(0).json();
    assert_eq!(none["servers"][0]["waves"], json!([]));
    assert_eq!(plan("no-such-revision", &third, &[]).code, Some(2));
}

#[test]
fn verify_judges_as_git_does() {
    let world = World::new();
    let mallory = Key::make(&world.folder().join("keys"), "mallory");
    let good = world.change("Good").file("a", "1\n").commit();
    let unsigned = world.change("Unsigned").file("a", "2\n").unsigned().commit();
    let unknown = world.change("By another").file("a", "3\n").signed_by(&mallory).commit();
    let repo = world.repository.work.to_string_lossy().into_owned();
    let signers = world.server().join("allowed_signers").to_string_lossy().into_owned();
    let verify = |revision: &str| {
        offline(&world, &["verify", "--repo", &repo, "--allowed-signers", &signers, revision, "--format", "json"])
    };
    let said = verify(&good).exits(0).json();
    assert_eq!((&said["schema"], &said["verdict"]), (&json!(1), &json!("good")));
    let signer = &said["commits"][0]["signer"];
    assert_eq!(
        (&signer["principal"], &signer["fingerprint"]),
        (&json!("alice@example.org"), &json!(world.repository.key.fingerprint()))
    );
    let range = verify(&format!("{good}..{unknown}")).exits(4).json();
    let verdicts: Vec<(&Value, &Value)> =
        range["commits"].as_array().unwrap().iter().map(|c| (&c["id"], &c["verdict"])).collect();
    assert_eq!(verdicts, [(&json!(unsigned), &json!("unsigned")), (&json!(unknown), &json!("unknown-key"))]);
    assert_eq!(range["commits"][0]["code"], "E-UNSIGNED");
    assert_eq!(verify(&format!("{good}..{good}")).exits(0).json()["commits"], json!([]));
    verify("no-such-revision").exits(2);
}

#[test]
fn status_and_history_answer_with_and_without_the_agent() {
    let mut world = World::new();
    let commit = world.change("Begin").file(&world.path("web", "compose.yml"), fixture::sleeper(1)).push();
    world.start_and_wait();
    world.wait_sync(&commit, Outcome::Committed);
    let socket = world.server().join("run/agent.sock");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    let with = world.evenkeel(&["status", "--format", "json"]).json();
    has_keys(&with["source"], &["ref", "tip", "accepted", "refused"]);
    has_keys(&with["stacks"][0], &["name", "state", "commit", "digest", "health", "since", "last"]);
    has_keys(&with["agent"], &["running", "version", "pid"]);
    assert_eq!(with["agent"]["running"], true);
    let history = world.evenkeel(&["history", "--format", "json"]).json();
    has_keys(&history["syncs"][0], &["id", "commit", "trigger", "started", "ended", "outcome", "deployments"]);
    has_keys(&history["syncs"][0]["deployments"][0], &["stack", "from", "to", "outcome", "reason"]);
    world.take_agent().kill();
    let without = world.evenkeel(&["status", "--format", "json"]).exits(0).json();
    assert_eq!((&without["agent"]["running"], &without["stacks"][0]["commit"]), (&json!(false), &json!(commit)));
    assert_eq!(world.evenkeel(&["history", "--format", "json"]).exits(0).json(), history);
    let text = world.evenkeel(&["status"]);
    assert!(text.exits(0).said().contains("does not run"), "{}", text.report());
}

#[test]
fn status_answers_when_the_agent_hangs_and_when_its_configuration_broke() {
    let mut world = World::new();
    let commit = world.change("Begin").file(&world.path("web", "compose.yml"), fixture::sleeper(1)).push();
    world.start_and_wait();
    world.wait_sync(&commit, Outcome::Committed);
    let valid = fs::read_to_string(world.config.file()).unwrap();
    world.config.put("agent.yml", &valid.replace("server: home", "server: 'not a name'"));
    wait_until(seconds(10), "status tells of the configuration", || {
        let said = world.evenkeel(&["status"]).exits(0).said();
        if said.contains("is invalid") { Ok(()) } else { Err(said) }
    });
    world.evenkeel(&["history", "--format", "json"]).exits(0).json();
    world.evenkeel(&["sync"]).exits(2);
    world.config.put("agent.yml", &valid);

    let agent = i32::try_from(world.pid()).ok().and_then(rustix::process::Pid::from_raw).unwrap();
    rustix::process::kill_process(agent, rustix::process::Signal::STOP).unwrap();
    let hung = world.evenkeel(&["status", "--format", "json"]);
    rustix::process::kill_process(agent, rustix::process::Signal::CONT).unwrap();
    let said = hung.exits(0).json();
    assert_eq!(said["stacks"][0]["commit"], json!(commit));
    assert!(said["notices"][0].as_str().unwrap().contains("did not answer"), "{said:#}");
}

#[test]
fn status_says_when_the_last_sync_failed_as_a_whole() {
    let mut world = World::new();
    world.change("Begin").file(&world.path("web", "compose.yml"), fixture::sleeper(1)).push();
    world.once().exits(0);
    world.config.source("file:///no/such/repository.git", "1h").write();
    let once = world.once();
    assert_ne!(once.code, Some(0));
    assert!(once.said().contains("it does not exist"), "{}", once.report());
    let status = world.evenkeel(&["status"]);
    assert!(status.exits(0).said().contains("the last sync failed: "), "{}", status.report());
}

#[test]
fn sync_tells_the_running_agent_and_ends_as_the_sync_does() {
    let mut world = World::new();
    let commit = world.change("Begin").file(&world.path("web", "compose.yml"), fixture::sleeper(1)).push();
    world.start_and_wait();
    world.wait_sync(&commit, Outcome::Committed);
    let commit = world.change("Next").file(&world.path("web", "compose.yml"), fixture::sleeper(2)).push();
    world.evenkeel(&["sync"]).exits(0);
    assert_eq!(world.last_sync(Outcome::Committed).commit, Some(commit));
    world.change("Unsigned").file("README.md", "x\n").unsigned().push();
    world.evenkeel(&["sync"]).exits(4);
    world.take_agent().kill();
    let run = world.evenkeel(&["sync"]);
    assert!(!matches!(run.code, None | Some(0)), "{}", run.report());
}

#[test]
fn a_bad_configuration_is_told_whole_with_lines_and_remedies() {
    let world = World::new();
    world
        .config
        .put("agent.yml", "server: home\nsource:\n  url: ftp://x\n  intervall: 1m\ngate: { min_healthy_time: 5 }\n");
    let run = world.evenkeel(&["agent", "--once"]);
    run.exits(2);
    for word in ["agent.yml:3", "agent.yml:4", "intervall", "interval", "agent.yml:5"] {
        assert!(run.said().contains(word), "it should say {word:?}: {}", run.report());
    }
    let missing = Run::of(&mut world.command(&["agent", "--once", "--config", "/no/such/agent.yml"]));
    missing.exits(2);
}

#[test]
fn wrong_usage_ends_with_2_and_json_all_the_same() {
    let world = World::new();
    for args in [&["no-such-verb"][..], &["stacks", "--no-such-flag"], &["render"]] {
        Run::of(&mut world.command(args)).exits(2);
    }
    let run =
        Run::of(&mut world.command(&["stacks", "--repo", "/no/such/folder", "--server", "x", "--format", "json"]));
    assert_ne!(run.code, Some(0));
    run.json();
    let help = Run::of(&mut world.command(&["--help"])).ok();
    for verb in ["agent", "plan", "sync", "status", "history", "verify", "stacks", "render", "check"] {
        assert!(help.contains(verb), "--help should name {verb}");
    }
}
