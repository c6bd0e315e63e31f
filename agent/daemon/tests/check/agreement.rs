//! `evenkeel check` says yes and no where Compose does: what a commit broke and a later one mended, each way.

use std::{collections::BTreeSet, process::Command, thread};

use super::World;

/// What is wrong, a Compose file that has it, and the same file mended.
type Shape = (&'static str, &'static str, &'static str);

/// Bodies of one service.
const SERVICE: &[Shape] = &[
    ("unclosed-quote", "image: \"x", "image: \"x\""),
    ("unclosed-bracket", "image: x\n    command: [a, b", "image: x\n    command: [a, b]"),
    ("tab", "image: x\n\trestart: always", "image: x\n    restart: always"),
    ("bad-indentation", "image: x\n   restart: always", "image: x\n    restart: always"),
    ("no-space", "image:x", "image: x"),
    ("key-twice", "image: x\n    image: y", "image: y"),
    ("unknown-alias", "image: x\n    labels: *nobody", "image: x\n    labels: &nobody {a: b}"),
    ("merge-of-a-word", "image: x\n    <<: hello", "image: x\n    <<: {restart: always}"),
    ("unknown-key", "image: x\n    imgae: y", "image: x"),
    ("no-image", "restart: always", "image: x\n    restart: always"),
    ("image-is-a-list", "image: [x]", "image: x"),
    ("ports-is-a-number", "image: x\n    ports: 80", "image: x\n    ports: [80]"),
    ("bad-port", "image: x\n    ports: ['80:eighty']", "image: x\n    ports: ['80:80']"),
    ("port-too-high", "image: x\n    ports: ['99999:80']", "image: x\n    ports: ['9999:80']"),
    ("port-parts", "image: x\n    ports: ['1:2:3:4']", "image: x\n    ports: ['127.0.0.1:2:3']"),
    ("port-ranges-differ", "image: x\n    ports: ['80-82:80-81']", "image: x\n    ports: ['80-81:80-81']"),
    ("port-protocol", "image: x\n    ports: ['80:80/tpc']", "image: x\n    ports: ['80:80/tcp']"),
    ("bad-duration", "image: x\n    stop_grace_period: 5 sec", "image: x\n    stop_grace_period: 5s"),
    (
        "bad-interval",
        "image: x\n    healthcheck: {test: x, interval: soon}",
        "image: x\n    healthcheck: {test: x, interval: 5s}",
    ),
    ("bad-memory", "image: x\n    mem_limit: 64q", "image: x\n    mem_limit: 64m"),
    ("bad-cpus", "image: x\n    cpus: many", "image: x\n    cpus: '1.5'"),
    (
        "healthcheck-test",
        "image: x\n    healthcheck: {test: [true]}",
        "image: x\n    healthcheck: {test: [CMD, 'true']}",
    ),
    ("healthcheck-key", "image: x\n    healthcheck: {tset: x}", "image: x\n    healthcheck: {test: x}"),
    ("environment-is-a-map-of-lists", "image: x\n    environment: {A: [1]}", "image: x\n    environment: {A: '1'}"),
    ("environment-is-a-flag", "image: x\n    environment: {A: true}", "image: x\n    environment: {A: 'true'}"),
    ("command-is-a-map", "image: x\n    command: {a: b}", "image: x\n    command: a b"),
    ("labels-is-a-number", "image: x\n    labels: 5", "image: x\n    labels: [a=5]"),
    ("restart-is-a-flag", "image: x\n    restart: no", "image: x\n    restart: 'no'"),
    ("undefined-volume", "image: x\n    volumes: ['data:/data']", "image: x\n    volumes: ['./data:/data']"),
    (
        "volume-without-target",
        "image: x\n    volumes: [{type: bind, source: ./a}]",
        "image: x\n    volumes: [{type: bind, source: ./a, target: /a}]",
    ),
    (
        "volume-type",
        "image: x\n    volumes: [{type: bnid, source: ./a, target: /a}]",
        "image: x\n    volumes: [{type: bind, source: ./a, target: /a}]",
    ),
    ("undefined-network", "image: x\n    networks: [front]", "image: x\n    networks: [default]"),
    ("undefined-secret", "image: x\n    secrets: [key]", "image: x"),
    ("undefined-config", "image: x\n    configs: [motd]", "image: x"),
    ("unknown-dependency", "image: x\n    depends_on: [nobody]", "image: x\n    depends_on: [other]"),
    (
        "dependency-condition",
        "image: x\n    depends_on: {other: {condition: healthy}}",
        "image: x\n    depends_on: {other: {condition: service_started}}",
    ),
    ("dependency-on-itself", "image: x\n    depends_on: [app]", "image: x\n    depends_on: [other]"),
    (
        "network-of-nobody",
        "image: x\n    network_mode: 'service:nobody'",
        "image: x\n    network_mode: 'service:other'",
    ),
    ("volumes-of-nobody", "image: x\n    volumes_from: [nobody]", "image: x\n    volumes_from: [other]"),
    ("link-to-nobody", "image: x\n    links: [nobody]", "image: x\n    links: [other]"),
    ("extends-nobody", "extends: {service: nobody}", "extends: {service: other}"),
    ("extends-a-missing-file", "extends: {file: none.yml, service: a}", "image: x"),
    ("open-variable", "image: 'x:${TAG'", "image: 'x:${TAG:-1}'"),
    ("bad-variable", "image: 'x:${1TAG}'", "image: 'x:${TAG:-1}'"),
    ("lone-dollar", "image: x\n    command: echo $", "image: x\n    command: echo $$"),
    ("replicas", "image: x\n    deploy: {replicas: two}", "image: x\n    deploy: {replicas: 2}"),
    (
        "ulimit",
        "image: x\n    ulimits: {nofile: {sotf: 1, hard: 2}}",
        "image: x\n    ulimits: {nofile: {soft: 1, hard: 2}}",
    ),
    (
        "network-and-mode",
        "image: x\n    network_mode: host\n    networks: [default]",
        "image: x\n    network_mode: host",
    ),
    ("profile-name", "image: x\n    profiles: ['a b']", "image: x\n    profiles: [a]"),
    ("image-reference", "image: 'x:1:2'", "image: 'x:1'"),
    ("device-is-a-map", "image: x\n    devices: {a: b}", "image: x\n    devices: ['/dev/null']"),
    ("override-of-nothing", "image: x\n    ports: !overide [80]", "image: x\n    ports: !override [80]"),
];

/// Whole files.
const FILES: &[Shape] = &[
    ("missing-include", "include: [none.yml]\nservices: {app: {image: x}}\n", "services: {app: {image: x}}\n"),
    (
        "project-name",
        "name: My Project\nservices: {app: {image: x}}\n",
        "name: my-project\nservices: {app: {image: x}}\n",
    ),
    ("project-is-a-list", "name: [a]\nservices: {app: {image: x}}\n", "name: a\nservices: {app: {image: x}}\n"),
    ("no-services", "name: none\n", "name: none\nservices: {app: {image: x}}\n"),
    ("services-is-a-list", "services: [app]\n", "services: {app: {image: x}}\n"),
    ("unknown-section", "services: {app: {image: x}}\nvolume: {}\n", "services: {app: {image: x}}\nvolumes: {}\n"),
    ("service-name", "services: {'my app': {image: x}}\n", "services: {my-app: {image: x}}\n"),
    ("empty", "", "services: {app: {image: x}}\n"),
    (
        "container-name-twice",
        "services: {a: {image: x, container_name: c}, b: {image: x, container_name: c}}\n",
        "services: {a: {image: x, container_name: c}, b: {image: x, container_name: d}}\n",
    ),
    (
        "dependency-cycle",
        "services: {a: {image: x, depends_on: [b]}, b: {image: x, depends_on: [a]}}\n",
        "services: {a: {image: x, depends_on: [b]}, b: {image: x}}\n",
    ),
    (
        "secret-without-source",
        "services: {app: {image: x, secrets: [s]}}\nsecrets: {s: {}}\n",
        "services: {app: {image: x, secrets: [s]}}\nsecrets: {s: {environment: HOME}}\n",
    ),
    (
        "config-with-two-sources",
        "services: {app: {image: x, configs: [c]}}\nconfigs: {c: {content: x, file: ./c}}\n",
        "services: {app: {image: x, configs: [c]}}\nconfigs: {c: {content: x}}\n",
    ),
    (
        "external-volume-with-driver",
        "services: {app: {image: x, volumes: ['v:/v']}}\nvolumes: {v: {external: true, driver: local}}\n",
        "services: {app: {image: x, volumes: ['v:/v']}}\nvolumes: {v: {driver: local}}\n",
    ),
    ("old-version", "version: 3\nservices: {app: {image: x}}\n", "version: '3'\nservices: {app: {image: x}}\n"),
    ("secrets-list", "services: {app: {image: x}}\nsecrets: [s]\n", "services: {app: {image: x}}\n"),
];

/// Shapes that Compose 2.26 takes although they look broken. A later one may refuse them; then so does the check.
const TAKEN: &[&str] = &[
    "environment-is-a-flag",
    "restart-is-a-flag",
    "volume-type",
    "lone-dollar",
    "profile-name",
    "image-reference",
    "override-of-nothing",
    "project-name",
    "no-services",
    "container-name-twice",
];

/// Where the answers differ on purpose: Compose says no, and so does a server, but a check elsewhere warns. Each with the
/// warning's code.
const ONLY_ON_THE_SERVER: &[(&str, &str, &str)] = &[
    ("required-variable", "services: {app: {image: 'x:${TAG:?say which}'}}\n", "env.unset"),
    ("missing-env-file", "services: {app: {image: x, env_file: [secret.env]}}\n", "env.file"),
    ("empty-source", "services: {app: {image: x, volumes: ['${DATA}:/data']}}\n", "env.unset"),
];

/// Where the answers differ on purpose: Compose says yes, and Evenkeel says no, with this code.
const STRICTER: &[(&str, &str, &str)] = &[(
    "out-of-the-repository",
    "services: {app: {image: x, env_file: [{path: ../../../a.env, required: false}]}}\n",
    "path.outside",
)];

fn shapes() -> Vec<(String, String, bool)> {
    let service = |body: &str| format!("services:\n  app:\n    {body}\n  other:\n    image: y\n");
    let both = |name: &str, broken: String, mended: String| {
        [(format!("{name}-broken"), broken, true), (format!("{name}-mended"), mended, false)]
    };
    let services = SERVICE.iter().flat_map(|(name, broken, mended)| both(name, service(broken), service(mended)));
    let files = FILES.iter().flat_map(|(name, broken, mended)| both(name, (*broken).to_owned(), (*mended).to_owned()));
    services.chain(files).collect()
}

/// The stacks of the repository to which `evenkeel check` says no, and all its problems as stack and code.
fn check(stacks: &[(String, String)]) -> (BTreeSet<String>, BTreeSet<(String, String)>) {
    let files: Vec<(String, &str)> =
        stacks.iter().map(|(name, text)| (format!("stacks/{name}/compose.yml"), text.as_str())).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    let said = World::new(&files).check(&["--format", "json"]).json();
    let problems = said["problems"].as_array().unwrap();
    let word = |problem: &serde_json::Value, key: &str| problem[key].as_str().unwrap_or_default().to_owned();
    let errors = problems.iter().filter(|problem| problem["severity"] == "error");
    for error in errors.clone() {
        assert!(error["path"].is_string(), "an error says where: {error}");
    }
    let codes = problems.iter().map(|problem| (word(problem, "stack"), word(problem, "code"))).collect();
    (errors.map(|error| word(error, "stack")).collect(), codes)
}

/// The stacks to which `docker compose config -q` says no, run in each one's own folder.
fn compose(stacks: &[(String, String)]) -> BTreeSet<String> {
    let files: Vec<(String, &str)> =
        stacks.iter().map(|(name, text)| (format!("stacks/{name}/compose.yml"), text.as_str())).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    let world = World::new(&files);
    let refuses = |name: &String| {
        let folder = world.repo().join("stacks").join(name);
        let done = Command::new("docker").args(["compose", "config", "-q"]).current_dir(folder).output().unwrap();
        !done.status.success()
    };
    let half = |part: &[(String, String)]| -> Vec<String> {
        part.iter().map(|(name, _)| name).filter(|name| refuses(name)).cloned().collect()
    };
    let (one, other) = stacks.split_at(stacks.len() / 2);
    thread::scope(|scope| {
        let first = scope.spawn(|| half(one));
        half(other).into_iter().chain(first.join().unwrap()).collect()
    })
}

#[test]
fn check_says_yes_and_no_where_compose_does() {
    let shapes = shapes();
    let stacks: Vec<(String, String)> = shapes.iter().map(|(name, text, _)| (name.clone(), text.clone())).collect();
    let (ours, _) = check(&stacks);
    let theirs = compose(&stacks);
    let differ: Vec<String> = stacks
        .iter()
        .map(|(name, _)| name)
        .filter(|name| ours.contains(*name) != theirs.contains(*name))
        .map(|name| format!("{name}: Compose says {}", if theirs.contains(name) { "no" } else { "yes" }))
        .collect();
    assert_eq!(differ, [""; 0]);
    // The shapes are what they are called: else they prove nothing.
    let is_taken = |name: &str| TAKEN.iter().any(|taken| name.strip_suffix("-broken") == Some(taken));
    let is_wrong = |name: &String, broken: bool| theirs.contains(name) != broken && !is_taken(name);
    let wrong: Vec<&String> =
        shapes.iter().filter(|(name, _, broken)| is_wrong(name, *broken)).map(|(name, ..)| name).collect();
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn check_differs_from_compose_only_where_it_is_meant() {
    let all = ONLY_ON_THE_SERVER.iter().chain(STRICTER);
    let stacks: Vec<(String, String)> = all.map(|(name, text, _)| ((*name).to_owned(), (*text).to_owned())).collect();
    let (ours, codes) = check(&stacks);
    let theirs = compose(&stacks);
    for (name, _, code) in ONLY_ON_THE_SERVER {
        assert!(!ours.contains(*name) && theirs.contains(*name), "{name}: {codes:?}");
        assert!(codes.contains(&((*name).to_owned(), (*code).to_owned())), "{name}: {codes:?}");
    }
    for (name, _, code) in STRICTER {
        assert!(ours.contains(*name) && !theirs.contains(*name), "{name}: {codes:?}");
        assert!(codes.contains(&((*name).to_owned(), (*code).to_owned())), "{name}: {codes:?}");
    }
}
