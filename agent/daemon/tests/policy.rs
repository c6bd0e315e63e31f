//! What `evenkeel check` finds unwise: each finding by itself, in a tree that has nothing else to find.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

use std::{fs, process::Command};

use serde_json::Value;

/// A service that there is nothing to say of.
const SOUND: &str = "    image: nginx:1.27
    restart: unless-stopped
    mem_limit: 64m
    healthcheck: { test: [CMD, 'true'] }
";

/// A stack of one service, with more lines of it.
fn stack(name: &str, service: &str) -> String {
    format!("name: {name}\nservices:\n  {name}:\n{service}")
}

fn sound(name: &str, more: &str) -> String {
    stack(name, &format!("{SOUND}{more}"))
}

/// The same without the line that has this word, or with another line in its place.
fn but(word: &str, instead: &str) -> String {
    let lines = SOUND.lines().map(|line| if line.contains(word) { instead } else { line });
    stack("web", &(lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n") + "\n"))
}

/// What is found in a tree of these files: code, place and remedy of each.
fn found(files: &[(&str, String)]) -> Vec<(String, String, String)> {
    let folder = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let file = folder.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    let cache = tempfile::tempdir().unwrap();
    command.env("XDG_CACHE_HOME", cache.path());
    let done = command.args(["check", "--format", "json", "--repo"]).arg(folder.path()).output().unwrap();
    let said: Value = serde_json::from_slice(&done.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let problems = said["problems"].as_array().unwrap().iter();
    problems.map(|p| (text(&p["code"]), format!("{}:{}", text(&p["path"]), p["line"]), text(&p["help"]))).collect()
}

/// Fails unless this, at this place, is all that is found.
#[track_caller]
fn finds(files: &[(&str, String)], code: &str, place: &str) -> String {
    let found = found(files);
    let shown: Vec<(&str, &str)> = found.iter().map(|(code, place, _)| (code.as_str(), place.as_str())).collect();
    assert_eq!(shown, [(code, place)]);
    found[0].2.clone()
}

/// Fails unless this is all that is found in one stack.
#[track_caller]
fn finds_in(compose: String, code: &str, line: u32) {
    finds(&[(WEB, compose)], code, &format!("{WEB}:{line}"));
}

const WEB: &str = "stacks/web/compose.yml";
const OTHER: &str = "stacks/other/compose.yml";

#[test]
fn a_sound_stack_is_not_spoken_of() {
    assert_eq!(found(&[(WEB, sound("web", "    ports: ['127.0.0.1:9000:80', '443:443']\n"))]), []);
}

#[test]
fn a_database_or_cache_with_a_published_port() {
    for image in ["postgres:16", "redis:7", "registry.example/library/mariadb:11"] {
        let compose = but("image:", &format!("    image: {image}")) + "    ports: ['5432:5432']\n";
        finds_in(compose, "port.database", 8);
    }
}

#[test]
fn a_database_or_cache_on_the_network_of_the_proxy() {
    let proxy = sound("proxy", "    networks: [traefik]\nnetworks: { traefik: { name: traefik } }\n");
    let proxy = proxy.replace("nginx:1.27", "traefik:3.1");
    let cache = "x-evenkeel: { depends_on: [proxy] }\n".to_owned()
        + &but("image:", "    image: redis:7")
        + "    networks: [traefik]\nnetworks: { traefik: { external: true } }\n";
    let files = [("stacks/proxy/compose.yml", proxy), (WEB, cache)];
    finds(&files, "network.database", "stacks/web/compose.yml:9");
}

#[test]
fn a_port_on_all_interfaces() {
    finds_in(sound("web", "    ports: ['9000:80']\n"), "port.all-interfaces", 8);
}

#[test]
fn rights_over_the_server() {
    finds_in(sound("web", "    privileged: true\n"), "service.privileged", 8);
    finds_in(sound("web", "    network_mode: host\n"), "service.host-network", 8);
    let socket = "    volumes: ['/var/run/docker.sock:/var/run/docker.sock:ro']\n";
    finds_in(sound("web", socket), "service.docker-socket", 8);
}

#[test]
fn what_every_service_that_goes_on_should_have() {
    finds_in(but("healthcheck", ""), "service.no-healthcheck", 3);
    finds_in(but("restart", ""), "service.no-restart", 3);
    finds_in(but("mem_limit", ""), "service.no-memory-limit", 3);
}

#[test]
fn an_image_that_is_another_one_tomorrow() {
    finds_in(but("image:", "    image: nginx"), "image.latest", 4);
    finds_in(but("image:", "    image: nginx:latest"), "image.latest", 4);
    for updater in ["containrrr/watchtower:1.7", "nickfedor/watchtower:1", "pyouroboros/ouroboros:1"] {
        finds_in(but("image:", &format!("    image: {updater}")), "image.updater", 4);
    }
}

#[test]
fn a_secret_in_plain_text() {
    finds_in(sound("web", "    environment: { DB_PASSWORD: hunter22 }\n"), "secret.plain", 8);
    finds_in(sound("web", "    command: [serve, --password, hunter22]\n"), "secret.plain", 8);
    let tracked = [(WEB, sound("web", "")), ("stacks/web/.env", "A=1\nAPI_TOKEN=hunter22hunter22\n".to_owned())];
    finds(&tracked, "secret.plain", "stacks/web/.env:2");
    let file = sound("web", "    secrets: [key]\nsecrets: { key: { file: ./key.txt } }\n");
    finds(&[(WEB, file), ("stacks/web/key.txt", "hunter22\n".to_owned())], "secret.plain", "stacks/web/compose.yml:9");
}

#[test]
fn a_network_that_nobody_creates() {
    let compose = sound("web", "    networks: [out]\nnetworks: { out: { external: true } }\n");
    finds_in(compose, "network.missing", 9);
}

#[test]
fn two_stacks_that_want_the_same() {
    let two = |more: &str| [(OTHER, sound("other", more)), (WEB, sound("web", more))];
    finds(&two("    ports: ['127.0.0.1:9000:80']\n"), "port.conflict", "stacks/web/compose.yml:8");
    finds(&two("    container_name: the-one\n"), "service.container-name", "stacks/web/compose.yml:8");
    let [one, other] = two("    volumes: ['../shared.conf:/x:ro']\n");
    finds(&[one, other, ("stacks/shared.conf", "x\n".to_owned())], "path.shared", "stacks/web/compose.yml:2");
}

#[test]
fn a_variable_without_a_value() {
    finds_in(sound("web", "    environment: [TZ]\n"), "env.no-value", 8);
}

#[test]
fn a_stack_that_no_server_has_and_one_that_is_misspelt() {
    let servers = |names: &str| ("evenkeel.yml", format!("servers:\n  home: {{ stacks: [{names}] }}\n"));
    let (web, other) = ((WEB, sound("web", "")), (OTHER, sound("other", "")));
    finds(&[servers("web"), web.clone(), other], "layout.unclaimed", "stacks/other/compose.yml:null");
    let unclaimed_too = found(&[servers("wbe"), web.clone()]);
    let unknown = unclaimed_too.iter().find(|(code, ..)| code == "stack.unknown").unwrap();
    assert_eq!((unknown.1.as_str(), unknown.2.as_str()), ("evenkeel.yml:2", "did you mean `web`?"));
}
