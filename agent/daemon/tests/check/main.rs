//! `evenkeel check`: what it finds, in which words, and in the forms that other programs read.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails where it stands")]

use std::{collections::BTreeSet, fmt::Write as _, fs, path::PathBuf, process::Command};

use evenkeel_core::validate::catalogue::RULES;
use insta::assert_snapshot;
use serde_json::{Value, json};

mod agreement;
mod bad_input;

/// A repository that does everything that one should not.
const BAD: &[(&str, &str)] = &[
    (
        "evenkeel.yml",
        "policy:\n  rules: { service.no-memory-limit: info, image.lates: off, path.outside: off }\n  exceptions:\n    - { code: project.unnamed, reason: nothing is }\n",
    ),
    (
        "stacks/a-web/compose.yml",
        "name: web
services:
  proxy:
    image: traefik
    ports: ['80:80', '443:443/udp', '8080:8080']
    networks: [front]
    volumes: ['/var/run/docker.sock:/var/run/docker.sock:ro', '../shared.conf:/x:ro']
  app:
    image: nginx:1
    restart: unless-stopped
    mem_limit: 64m
    healthcheck: { test: [CMD, 'true'] }
    ports: ['127.0.0.1:9000:80']
    environment: [TZ, 'GREETING=hello']
networks:
  front: { name: front }
",
    ),
    (
        "stacks/b-db/compose.yml",
        "name: db
services:
  db:
    image: postgres:latest
    container_name: one
    restart: unless-stopped
    ports:
      - '5432:5432'
      - target: 80
        published: 8080
    environment:
      POSTGRES_PASSWORD: hunter22
    secrets: [key]
    networks: [front, nowhere]
  cache:
    image: redis:7
    command: redis-server --requirepass hunter22
    mem_limit: 1m # evenkeel: allow service.no-healthcheck
    restart: always # evenkeel: allow service.no-restart it has one
    healthcheck: { disable: true }
secrets: { key: { file: ./key.txt } }
networks:
  front: { external: true }
  nowhere: { external: true }
",
    ),
    ("stacks/b-db/key.txt", "hunter22\n"),
    (
        "stacks/c-odd/compose.yml",
        "name: odd
services:
  watch:
    image: containrrr/watchtower:1
    container_name: one
    privileged: true
    network_mode: host
    volumes: ['../shared.conf:/x:ro']
",
    ),
    ("stacks/c-odd/.env", "API_TOKEN=hunter22hunter22\nLEVEL=info\n"),
    ("stacks/shared.conf", "x\n"),
];

/// What no repository should be told of.
const GOOD: &[(&str, &str)] = &[(
    "stacks/web/compose.yml",
    "name: web
services:
  migrate:
    image: 'registry.example:5000/app:1'
    restart: 'no'
  app:
    image: 'registry.example:5000/app@sha256:0000000000000000000000000000000000000000000000000000000000000000'
    restart: unless-stopped
    depends_on: { migrate: { condition: service_completed_successfully } }
    deploy: { resources: { limits: { memory: 64M } } }
    healthcheck: { test: [CMD, 'true'] }
    ports: ['127.0.0.1:8080:80', '443:443', '51820:51820/udp']
    volumes: ['/srv/data:/data', 'cache:/cache']
    environment:
      DB_PASSWORD: ${DB_PASSWORD:?}
      DB_PASSWORD_FILE: /run/secrets/db
      PASSWORD_MIN_LENGTH: '12'
      DATABASE_URL: postgres://app:${DB_PASSWORD}@db/app
  built:
    build: .
    image: built
    restart: unless-stopped
    mem_limit: 1m
    healthcheck: { test: [CMD, 'true'] }
  db:
    image: 'postgres:${PG:-16}'
    restart: unless-stopped
    mem_limit: 64m
    healthcheck: { test: [CMD, pg_isready] }
volumes: { cache: {} }
",
)];

struct World {
    folder: tempfile::TempDir,
}

struct Done {
    code: i32,
    stdout: String,
}

impl World {
    fn new<T: AsRef<[u8]>>(files: &[(&str, T)]) -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap() };
        for (path, content) in files {
            let file = world.repo().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, content).unwrap();
        }
        world
    }

    fn repo(&self) -> PathBuf {
        self.folder.path().join("repo")
    }

    fn check(&self, args: &[&str]) -> Done {
        let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
        command.env("XDG_CACHE_HOME", self.folder.path().join("cache"));
        let done = command.args(["check", "--repo"]).arg(self.repo()).args(args).output().unwrap();
        Done { code: done.status.code().unwrap(), stdout: String::from_utf8(done.stdout).unwrap() }
    }
}

impl Done {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}", self.stdout))
    }

    fn codes(&self) -> BTreeSet<String> {
        self.json()["problems"].as_array().unwrap().iter().map(|p| p["code"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn every_finding_of_the_policy_says_what_where_why_and_what_to_do() {
    let world = World::new(BAD);
    let done = world.check(&[]);
    assert_snapshot!(done.stdout);
    assert_eq!(done.code, 0, "warnings do not fail");
    assert_eq!(world.check(&["--strict"]).code, 1);
    assert!(!done.stdout.contains("hunter22"), "a secret was printed");
    let found = world.check(&["--format", "json"]).codes();
    let areas = ["image.", "network.", "path.shared", "policy.", "port.", "secret.", "service.", "env.no-value"];
    let of_policy = RULES.iter().filter(|rule| areas.iter().any(|area| rule.code.starts_with(area)));
    let missing: Vec<&str> = of_policy.map(|rule| rule.code).filter(|code| !found.contains(*code)).collect();
    assert_eq!(missing, [""; 0], "every rule has its place in the repository above");
}

#[test]
fn what_is_in_order_is_not_spoken_of() {
    let world = World::new(GOOD);
    let done = world.check(&["--format", "json"]);
    assert_eq!(done.codes(), BTreeSet::from(["env.unset".to_owned()]), "{}", done.stdout);
}

#[test]
fn a_finding_is_told_once_for_all_servers_and_can_be_allowed_beside_it() {
    let compose = "# evenkeel: allow service.no-memory-limit the machine has one job\nname: web\nservices:\n  # evenkeel: allow service.no-healthcheck nothing to ask\n  app: { image: nginx, restart: always }\n";
    let servers = "servers: { a: {}, b: {} }\n";
    let world = World::new(&[("evenkeel.yml", servers), ("stacks/web/compose.yml", compose)]);
    let said = world.check(&["--format", "json"]).json();
    let problems = said["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 1, "{said:#}");
    assert_eq!((&problems[0]["code"], &problems[0]["server"]), (&json!("image.latest"), &Value::Null));
    assert_eq!((&problems[0]["servers"], &problems[0]["line"]), (&json!(["a", "b"]), &json!(5)));
    assert!(problems[0]["why"].as_str().is_some_and(|why| !why.is_empty()));
    let reasons: Vec<&Value> = said["allowed"].as_array().unwrap().iter().map(|a| &a["reason"]).collect();
    assert_eq!(reasons, ["nothing to ask", "the machine has one job"]);
    assert!(world.check(&[]).stdout.ends_with("2 servers, 2 stacks: 1 warning; 2 allowed\n"));
}

#[test]
fn the_line_is_that_of_the_layer_that_says_it() {
    let world = World::new(&[
        (
            "stacks/web/compose.yml",
            "name: web\nservices:\n  app:\n    image: nginx:1\n    privileged: true\n    restart: always\n",
        ),
        (
            "stacks/web/compose.override.yml",
            "services:\n  app:\n    # the newest\n    image: nginx\n    mem_limit: 1m\n",
        ),
    ]);
    let said = world.check(&["--format", "json"]).json();
    let place = |code: &str| {
        let found = said["problems"].as_array().unwrap().iter().find(|p| p["code"] == code).unwrap();
        format!("{}:{}", found["path"].as_str().unwrap(), found["line"])
    };
    assert_eq!(place("image.latest"), "stacks/web/compose.override.yml:4");
    assert_eq!(place("service.privileged"), "stacks/web/compose.yml:5");
}

#[test]
fn without_compose_the_environment_files_are_judged_all_the_same() {
    let world = World::new(BAD);
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    let done = command
        .args(["check", "--format", "json", "--repo"])
        .arg(world.repo())
        .env("PATH", "/nowhere")
        .output()
        .unwrap();
    let done = Done { code: done.status.code().unwrap(), stdout: String::from_utf8(done.stdout).unwrap() };
    let expected = ["compose.missing", "policy.exception", "policy.unknown-code", "secret.plain"];
    assert_eq!(done.codes().into_iter().collect::<Vec<_>>(), expected);
    assert_eq!(done.code, 1);
}

#[test]
fn sarif_names_rules_places_and_what_is_allowed() {
    let compose = "# evenkeel: allow image.latest a demonstration\nname: web\nservices:\n  app: { image: nginx, restart: always }\n";
    let world = World::new(&[("stacks/a b/compose.yml", "services: [\n"), ("stacks/web/compose.yml", compose)]);
    let done = world.check(&["--format", "sarif"]);
    let log = done.json();
    assert_eq!((done.code, &log["version"]), (1, &json!("2.1.0")));
    let run = &log["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    for result in run["results"].as_array().unwrap() {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
        assert!(["error", "warning", "note"].contains(&result["level"].as_str().unwrap()));
        let place = &result["locations"][0]["physicalLocation"];
        let uri = place["artifactLocation"]["uri"].as_str().unwrap();
        assert!(!uri.starts_with('/') && !uri.contains([' ', ':', '\\']), "{uri}");
        assert!(place["region"]["startLine"].as_u64().unwrap() >= 1);
    }
    let allowed: Vec<&Value> =
        run["results"].as_array().unwrap().iter().filter(|r| r.get("suppressions").is_some()).collect();
    assert_eq!(allowed.len(), 1);
    assert_eq!(allowed[0]["suppressions"], json!([{"kind": "inSource", "justification": "a demonstration"}]));
}

#[test]
fn a_format_that_a_verb_does_not_have_is_wrong_usage() {
    let world = World::new(GOOD);
    assert_eq!(world.check(&["--format", "markdown"]).code, 2);
    let github = world.check(&["--format", "github"]);
    assert!(
        github.code == 0 && github.stdout.starts_with("::warning file=stacks/web/compose.yml,line="),
        "{}",
        github.stdout
    );
}

/// `EVENKEEL_UPDATE=1 cargo test -p evenkeel --test check the_reference` writes the page.
#[test]
fn the_reference_lists_each_code_with_why_and_fix() {
    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/check.md");
    const BEGIN: &str = "<!-- made from the catalogue: do not edit below -->\n";
    let page = fs::read_to_string(PAGE).unwrap();
    let (above, below) = page.split_once(BEGIN).unwrap();
    let mut made = String::new();
    for rule in RULES {
        let severity = format!("{:?}", rule.severity).to_lowercase();
        let (code, what, why, fix) = (rule.code, rule.what, rule.why, rule.fix);
        write!(made, "\n### {code}\n\n{severity}: {what}.\n\n- Why: {why}.\n- Fix: {fix}.\n").unwrap();
    }
    if std::env::var_os("EVENKEEL_UPDATE").is_some() {
        fs::write(PAGE, format!("{above}{BEGIN}{made}")).unwrap();
        return;
    }
    assert_eq!(below, made, "run it with EVENKEEL_UPDATE=1");
}
