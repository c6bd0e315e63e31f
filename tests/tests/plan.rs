//! The plan against the engine: what a plan says will change is what has changed after the deployment, and nothing else has.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::collections::BTreeMap;

use evenkeel_tests::{program::Run, world::World};
use serde_json::Value;

/// Services of the stack below.
const SERVICES: [&str; 8] = ["above", "built", "config", "content", "db", "file", "plain", "side"];

/// A stack in which something can change in every way, each with a name to change it by.
fn compose(world: &World, change: &str) -> String {
    let pick = |name: &str, old: &'static str, new: &'static str| if change == name { new } else { old };
    let sleeper = "    image: evenkeel-test/busybox:1\n    init: true\n    command: [sleep, '100000']\n";
    let (env, label, inline) = (pick("env", "1", "2"), pick("label", "a", "b"), pick("inline", "x", "y"));
    let image = pick("image", "1", "2");
    let profile = pick("profile", "", "    profiles: [extra]\n");
    format!(
        "services:
  db:
    image: evenkeel-test/busybox:{image}
    init: true
    command: [sleep, '100000']
    environment: {{ LEVEL: '{env}' }}
  above:
{sleeper}    depends_on: [db]
  side:
{sleeper}    network_mode: service:db
  file:
{sleeper}    volumes: ['./mounted.txt:/mounted.txt:ro']
  config:
{sleeper}    configs: [motd]
    secrets: [key]
  content:
{sleeper}    configs: [{{ source: inline, target: /inline }}]
  built:
    build: ./image
    image: {tag}
    init: true
    command: [sleep, '100000']
  plain:
{sleeper}    labels: {{ what: '{label}' }}
{profile}configs:
  motd: {{ file: ./motd.txt }}
  inline: {{ content: '{inline}' }}
secrets: {{ key: {{ file: ./key.txt }} }}
",
        tag = format_args!("{}-built:1", world.stack("web")),
    )
}

/// What is changed, by which two files, and the services that are to change.
type Step = (&'static str, [(String, String); 2], &'static [&'static str]);

fn ids(world: &World) -> BTreeMap<&'static str, Vec<String>> {
    let of = |service| {
        let found = evenkeel_tests::docker::Container::of_service(&world.stack("web"), service);
        let mut ids: Vec<String> = found.iter().map(evenkeel_tests::docker::Container::id).collect();
        ids.sort();
        (service, ids)
    };
    SERVICES.into_iter().map(of).collect()
}

/// What the plan from one commit to another does to each service.
fn planned(world: &World, from: &str, to: &str) -> BTreeMap<String, String> {
    let repo = world.repository.work.to_string_lossy().into_owned();
    let args = ["plan", "--repo", &repo, "--server", "home", "--from", from, "--to", to, "--format", "json"];
    let said = Run::of(&mut world.command(&args)).exits(0).json();
    let services = said["servers"][0]["waves"].as_array().unwrap().iter().flat_map(|wave| wave.as_array().unwrap());
    let services = services.flat_map(|stack| stack["services"].as_array().unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    services.map(|s| (text(&s["service"]), text(&s["change"]))).filter(|(_, change)| change != "none").collect()
}

#[test]
fn what_a_plan_says_is_what_the_engine_then_shows() {
    let world = World::new();
    let path = |file: &str| world.path("web", file);
    let dockerfile = |text: &str| format!("FROM evenkeel-test/busybox:1\nLABEL what={text}\n");
    let mut from = world
        .change("Begin")
        .file(&path("compose.yml"), compose(&world, ""))
        .file(&path("mounted.txt"), "1\n")
        .file(&path("motd.txt"), "1\n")
        .file(&path("key.txt"), "1\n")
        .file(&path("image/Dockerfile"), dockerfile("one"))
        .push();
    world.once().exits(0);
    let yml = |change: &str| (path("compose.yml"), compose(&world, change));
    let two = |file: &str| (path(file), "2\n".to_owned());
    let built = (path("image/Dockerfile"), dockerfile("two"));
    let steps: Vec<Step> = vec![
        ("env and a mounted file", [yml("env"), two("mounted.txt")], &["db", "file", "side"]),
        ("image and a secret file", [yml("image"), two("key.txt")], &["config", "db", "side"]),
        ("inline content and a build context", [yml("inline"), built], &["built", "content", "db", "side"]),
        ("label and a config file", [yml("label"), two("motd.txt")], &["config", "content", "plain"]),
        ("a service that is gone", [yml("profile"), two("README.md")], &["plain"]),
        ("nothing that counts", [yml("profile"), two("NOTES.md")], &[]),
    ];
    for (what, [(file, content), (other, more)], expected) in steps {
        let before = ids(&world);
        let to = world.change(what).file(&file, content).file(&other, more).push();
        let plan = planned(&world, &from, &to);
        world.once().exits(0);
        let after = ids(&world);
        let changed: Vec<&str> = SERVICES.into_iter().filter(|service| before[service] != after[service]).collect();
        assert_eq!(plan.keys().map(String::as_str).collect::<Vec<_>>(), changed, "{what}: plan against engine");
        assert_eq!(changed, expected, "{what}: engine against what is meant");
        from = to;
    }
}
