use std::fmt::Write as _;

use insta::assert_snapshot;

use super::*;
use crate::{
    name::StackName,
    set::{Layer, Stack},
    tree::{Entry, MapTree, TreeError},
    unclaimed, waves,
};

mod large;
mod layering;
mod problems;
mod random;
mod shapes;

/// A Compose file that says nothing of interest.
const PLAIN: &str = "services:\n  app:\n    image: x\n";

fn server(name: &str) -> ServerName {
    ServerName::new(name).expect("a name")
}

fn set_of(tree: &dyn Tree, name: &str) -> StackSet {
    stack_set(tree, &server(name), None)
}

fn set(files: &[(&str, &str)]) -> StackSet {
    set_of(&MapTree::new(files.iter().copied()), "home")
}

/// A set as a person would want to read it.
fn show(set: &StackSet) -> String {
    let mut out = format!("{:?}\n", set.layout).to_lowercase();
    for Stack { name, project, layers, env_files, depends_on, .. } in &set.stacks {
        let layer = |l: &Layer| {
            let beside = Layer::new(l.path.clone(), l.origin).directory == l.directory;
            let base = if beside { String::new() } else { format!("@{}/", l.directory) };
            format!("{}={}{base}", l.path, format!("{:?}", l.origin).to_lowercase())
        };
        let layers: Vec<String> = layers.iter().map(layer).collect();
        let _ = write!(out, "{name} [{}] {}", project.as_deref().unwrap_or("?"), layers.join(" "));
        for (word, list) in
            [(" env ", env_files.clone()), (" after ", depends_on.iter().map(ToString::to_string).collect())]
        {
            if !list.is_empty() {
                let _ = write!(out, "{word}{}", list.join(" "));
            }
        }
        out.push('\n');
    }
    out + &show_problems(&set.problems)
}

fn show_problems(problems: &[Problem]) -> String {
    let mut out = String::new();
    for Problem { severity, code, server, stack, path, line, message, help } in problems {
        let place = [
            server.as_ref().map(|s| format!("server {s}")),
            stack.as_ref().map(|s| format!("stack {s}")),
            path.as_ref().map(|p| line.map_or(p.clone(), |l| format!("{p}:{l}"))),
        ];
        let place = place.into_iter().flatten().collect::<Vec<_>>().join(", ");
        let severity = format!("{severity:?}").to_lowercase();
        let _ = writeln!(out, "{severity} {code} ({place})\n  {message}\n  -> {help}");
    }
    out
}

fn codes(set: &StackSet) -> Vec<&str> {
    set.problems.iter().map(|p| p.code.as_str()).collect()
}

#[test]
fn a_folder_named_for_its_stacks_is_no_server() {
    for base in ["apps", "docker", "services"] {
        let (api, web) = (format!("{base}/api/compose.yml"), format!("{base}/web/compose.yml"));
        let found = set(&[(&api, PLAIN), (&web, PLAIN)]);
        assert_eq!(show(&found), format!("stacks\napi [api] {api}=folder\nweb [web] {web}=folder\n"));
    }
    let beside = set_of(&MapTree::new([("apps/api/compose.yml", PLAIN), ("home/web/compose.yml", PLAIN)]), "home");
    assert_eq!(show(&beside), "hosts\nweb [web] home/web/compose.yml=folder\n");
}

#[test]
fn makes_one_stack_of_each_folder_under_stacks() {
    assert_snapshot!(show(&set(&[
        (".env", "A=1\n"),
        ("README.md", "text"),
        ("stacks/web/compose.yml", "x-evenkeel: {depends_on: [api]}\nservices: {}\n"),
        ("stacks/web/compose.override.yml", PLAIN),
        ("stacks/api/docker-compose.yaml", "name: the-api\nservices: {}\n"),
        ("stacks/api/.env", "B=2\n"),
        ("stacks/notes/README.md", "no stack"),
    ])), @r"
    stacks
    api [the-api] stacks/api/docker-compose.yaml=folder env .env stacks/api/.env
    web [web] stacks/web/compose.yml=folder stacks/web/compose.override.yml=folder env .env after api
    ");
}

#[test]
fn takes_an_encrypted_environment_file_above_the_plain_one_beside_it() {
    let files = [("stacks/api/compose.yml", PLAIN), ("stacks/api/.env", "B=2\n"), ("stacks/api/.env.age", "x")];
    let env = " env stacks/api/.env stacks/api/.env.age";
    assert_eq!(show(&set(&files)), format!("stacks\napi [api] stacks/api/compose.yml=folder{env}\n"));
}

#[test]
fn makes_one_stack_of_each_folder_at_the_root() {
    assert_snapshot!(show(&set(&[
        ("Web.Site/docker-compose.yml", PLAIN),
        ("api/compose.yaml", PLAIN),
        ("docs/guide.md", "text"),
        (".github/compose.yml", PLAIN),
        ("examples/compose.yml", PLAIN),
    ])), @r"
    stacks
    Web.Site [website] Web.Site/docker-compose.yml=folder
    api [api] api/compose.yaml=folder
    ");
}

#[test]
fn runs_what_the_servers_list_names() {
    let files = [
        ("stacks/web/compose.yml", PLAIN),
        ("stacks/api/compose.yml", PLAIN),
        ("stacks/db/compose.yml", PLAIN),
        ("servers/home/config.json", "{\n  \"stacks\": [\n    \"web\",\n    \"ap\",\n    \"nowhere\"\n  ]\n}\n"),
        ("servers/cloud/.env", ""),
    ];
    assert_snapshot!(show(&set(&files)), @r#"
    stacks
    web [web] stacks/web/compose.yml=folder
    error stack.unknown (server home, stack ap, servers/home/config.json:4)
      there is no stack "ap"
      -> did you mean `api`?
    error stack.unknown (server home, stack nowhere, servers/home/config.json:5)
      there is no stack "nowhere"
      -> create stacks/nowhere/compose.yml, or remove the name
    "#);
    assert_snapshot!(show(&set_of(&MapTree::new(files), "cloud")), @r"
    stacks
    api [api] stacks/api/compose.yml=folder env servers/cloud/.env
    db [db] stacks/db/compose.yml=folder env servers/cloud/.env
    web [web] stacks/web/compose.yml=folder env servers/cloud/.env
    ");
}

#[test]
fn reads_entries_that_are_objects() {
    let list = r#"{"stacks": ["api", {
      "name": "web", "deployAs": "site",
      "envs": {"K": "v"}, "watchFilesAndRestartIfChanged": ["f"], "enviroment": 1
    }, {"deployAs": "x"}, "api"], "shardStacks": []}"#;
    assert_snapshot!(show(&set(&[
        ("stacks/web/compose.yml", PLAIN),
        ("stacks/api/compose.yml", PLAIN),
        ("servers/home/config.json", list),
    ])), @r#"
    stacks
    api [api] stacks/api/compose.yml=folder
    web [site] stacks/web/compose.yml=folder
    error config.value (server home, servers/home/config.json:4)
      this entry names no stack
      -> write "name" or {"name": "…"}
    warning config.unknown-key (server home, servers/home/config.json:3)
      the key "enviroment" has no effect
      -> known here: deployAs, envs, name, watchFilesAndRestartIfChanged
    warning config.unknown-key (server home, servers/home/config.json:4)
      the key "shardStacks" has no effect
      -> did you mean `sharedStacks`?
    warning config.value (server home, servers/home/config.json:4)
      "api" is named twice
      -> remove one of the two
    warning stack.watched (stack web)
      the watched file "f" is not in the repository
      -> correct the path, or remove it from the list
    "#);
}

#[test]
fn takes_the_file_that_compose_would_take_and_tells_of_the_other() {
    assert_snapshot!(show(&set(&[
        ("stacks/web/docker-compose.yml", PLAIN),
        ("stacks/web/compose.yml", PLAIN),
        ("stacks/web/docker-compose.override.yml", PLAIN),
    ])), @r"
    stacks
    web [web] stacks/web/compose.yml=folder stacks/web/docker-compose.override.yml=folder
    warning layout.two-files (stack web, stacks/web/docker-compose.yml)
      stacks/web/docker-compose.yml is not used, because stacks/web/compose.yml is beside it
      -> keep one of the two; `docker compose` takes stacks/web/compose.yml, and so does Evenkeel
    ");
}

#[test]
fn names_projects_as_compose_does() {
    let named = |name: &str| format!("name: {name}\nservices: {{}}\n");
    let files = [
        (".env", "SITE=home\n".to_owned()),
        ("stacks/a/compose.yml", named("${SITE}-a")),
        ("stacks/b/compose.yml", named("b1")),
        ("stacks/b/.env", "COMPOSE_PROJECT_NAME=b2\n".to_owned()),
        ("stacks/c/compose.yml", named("c1")),
        ("stacks/c/compose.override.yml", named("c2")),
        ("stacks/d/compose.yml", named("${SECRET}")),
        ("stacks/e/compose.yml", named("\"--\"")),
        ("stacks/f/compose.yml", named("c2")),
    ];
    assert_snapshot!(show(&set_of(&MapTree::new(files), "any")), @r#"
    stacks
    a [home-a] stacks/a/compose.yml=folder env .env
    b [b2] stacks/b/compose.yml=folder env .env stacks/b/.env
    c2 [c2] stacks/c/compose.yml=folder stacks/c/compose.override.yml=folder stacks/f/compose.yml=folder env .env
    d [?] stacks/d/compose.yml=folder env .env
    e [?] stacks/e/compose.yml=folder env .env
    error project.invalid (stack e, stacks/e/compose.yml:1)
      no project name can be made of "--"
      -> set a top-level `name:` of a-z, 0-9, _ and -, beginning with a letter or a digit
    "#);
}

#[test]
fn evenkeel_yml_states_stacks_servers_and_what_to_ignore() {
    let files = [
        (
            "evenkeel.yml",
            "layout: stacks\nignore: [\"stacks/old*\"]\nservers:\n  home: {stacks: [gpu, web]}\n  cloud: {}\n\
             stacks:\n  gpu: {files: [apps/base.yml, apps/gpu.yml], depends_on: [web]}\n  web: {depends_on: []}\n",
        ),
        ("apps/base.yml", "name: gpu\nservices: {}\n"),
        ("apps/gpu.yml", PLAIN),
        ("stacks/web/compose.yml", PLAIN),
        ("stacks/api/compose.yml", PLAIN),
        ("stacks/old-one/compose.yml", PLAIN),
    ];
    let tree = MapTree::new(files);
    assert_eq!(servers(&tree, None), [server("cloud"), server("home")]);
    assert_snapshot!(show(&set_of(&tree, "home")), @r"
    stacks
    gpu [gpu] apps/base.yml=explicit apps/gpu.yml=explicit after web
    web [web] stacks/web/compose.yml=folder
    ");
    assert_snapshot!(show(&set_of(&tree, "cloud")), @r"
    stacks
    api [api] stacks/api/compose.yml=folder
    gpu [gpu] apps/base.yml=explicit apps/gpu.yml=explicit after web
    web [web] stacks/web/compose.yml=folder
    ");
    let sets = [set_of(&tree, "home"), set_of(&tree, "cloud")];
    assert_eq!(unclaimed(&tree, &sets, None), []);
}

#[test]
fn stacks_whose_files_are_stated_make_the_layout_explicit() {
    let files = [
        ("evenkeel.yml", "stacks:\n  one: {files: [./a/one.yml]}\n  two: {files: [a/tow.yml, /etc/x.yml, ../y.yml]}\n"),
        ("a/one.yml", PLAIN),
        ("a/two.yml", PLAIN),
        ("b/compose.yml", PLAIN),
    ];
    assert_snapshot!(show(&set(&files)), @r#"
    explicit
    one [a] a/one.yml=explicit
    error stack.file-missing (stack two, evenkeel.yml:3)
      the file "../y.yml" is not in the repository
      -> correct the path
    error stack.file-missing (stack two, evenkeel.yml:3)
      the file "/etc/x.yml" is not in the repository
      -> correct the path
    error stack.file-missing (stack two, evenkeel.yml:3)
      the file "a/tow.yml" is not in the repository
      -> did you mean `a/two.yml`?
    "#);
}

#[test]
fn the_agents_own_block_takes_the_place_of_evenkeel_yml() {
    let tree = MapTree::new([
        ("evenkeel.yml", "nonsense: true\n"),
        ("stacks/web/compose.yml", PLAIN),
        ("stacks/api/compose.yml", PLAIN),
    ]);
    let (config, problems) = LayoutConfig::parse("agent.yml", b"ignore: [stacks/api]\n");
    assert_eq!(problems, []);
    let set = stack_set(&tree, &server("home"), Some(&config));
    assert_snapshot!(show(&set), @r"
    stacks
    web [web] stacks/web/compose.yml=folder
    ");
}

#[test]
fn is_printed_as_the_contract_says() {
    let set = set(&[("stacks/web/compose.yml", "name: ${X}\nservices: {}\n"), ("stacks/web/.env", "")]);
    let json = serde_json::to_string(&set).expect("JSON");
    assert_snapshot!(json, @r#"
    {"layout":"stacks","stacks":[{"name":"web","project":null,"layers":[{"path":"stacks/web/compose.yml","origin":"folder"}],"env_files":["stacks/web/.env"],"depends_on":[]}],"problems":[]}
    "#);
}

#[test]
fn orders_stacks_in_waves() {
    let after = |names: &str| format!("x-evenkeel: {{depends_on: [{names}]}}\nservices: {{}}\n");
    let tree = MapTree::new([
        ("stacks/web/compose.yml", after("api, db")),
        ("stacks/api/compose.yml", after("db")),
        ("stacks/db/compose.yml", after("")),
    ]);
    let name = |text: &str| StackName::new(text).expect("a name");
    assert_eq!(waves(&set_of(&tree, "any").stacks), [[name("db")], [name("api")], [name("web")]]);
}

#[test]
fn gives_a_host_the_stacks_of_its_folder() {
    for base in ["hosts/", "servers/", "devices/", ""] {
        let files = [
            (format!("{base}home/web/compose.yml"), PLAIN),
            (format!("{base}home/.env"), "A=1\n"),
            (format!("{base}home/api/docker-compose.yml"), PLAIN),
            (format!("{base}cloud/web/compose.yml"), PLAIN),
            (format!("{base}docs/guide.md"), "text"),
        ];
        let tree = MapTree::new(files);
        assert_eq!(servers(&tree, None), [server("cloud"), server("home")]);
        let shown = show(&set_of(&tree, "home")).replace(base, "");
        assert_eq!(
            shown,
            "hosts\napi [api] home/api/docker-compose.yml=folder env home/.env\n\
             web [web] home/web/compose.yml=folder env home/.env\n"
        );
        assert_eq!(codes(&set_of(&tree, "docs")), ["server.unknown"]);
    }
}

#[test]
fn merges_a_root_file_with_its_parts_but_not_with_those_for_elsewhere() {
    let tree = MapTree::new([
        ("docker-compose.yml", PLAIN),
        ("docker-compose.override.yml", PLAIN),
        ("docker-compose.vault.yml", PLAIN),
        ("docker-compose.monitoring.yaml", "name: tower\nservices: {}\n"),
        ("docker-compose.dev.yml", PLAIN),
        ("docker-compose.test.override.yml", PLAIN),
        ("configs/a.conf", "x"),
        (".env", "X=1\n"),
    ]);
    let set = set_of(&tree, "any");
    assert_snapshot!(show(&set), @r"
    root
    root [tower] docker-compose.yml=root docker-compose.override.yml=root docker-compose.monitoring.yaml=root docker-compose.vault.yml=root env .env
    ");
    assert_snapshot!(show_problems(&unclaimed(&tree, &[set], None)), @r"
    warning layout.unclaimed (docker-compose.dev.yml)
      no stack of any server uses this file
      -> name it under `stacks:` in evenkeel.yml, or list it under `ignore:`
    warning layout.unclaimed (docker-compose.test.override.yml)
      no stack of any server uses this file
      -> name it under `stacks:` in evenkeel.yml, or list it under `ignore:`
    ");
    assert_snapshot!(show(&self::set(&[("compose.yml", PLAIN)])), @r"
    root
    root [?] compose.yml=root
    warning project.unnamed (stack root, compose.yml)
      the project is named after the folder that the repository lies in
      -> state it with a top-level `name:`, so that it is the same everywhere
    ");
}

#[test]
fn sites_are_run_from_the_root_beside_its_own_stack() {
    let set = set(&[("docker-compose.yml", PLAIN), ("sites/a/docker-compose.yml", PLAIN)]);
    assert_snapshot!(show(&set), @r"
    sites
    a [a] sites/a/docker-compose.yml=folder@/
    root [?] docker-compose.yml=root
    warning project.unnamed (stack root, docker-compose.yml)
      the project is named after the folder that the repository lies in
      -> state it with a top-level `name:`, so that it is the same everywhere
    ");
}
