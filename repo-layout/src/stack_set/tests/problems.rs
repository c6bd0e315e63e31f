//! What is wrong with a repository is said with its place and the next thing to do, and stays with its stack.

use super::*;

#[test]
fn a_file_that_is_not_yaml_rejects_its_own_stack_only() {
    let set = set(&[
        ("stacks/good/compose.yml", PLAIN),
        ("stacks/good/compose.override.yml", "# nothing\n"),
        ("stacks/bad/compose.yml", "services:\n  app:\n    image: x\n   ports: []\n"),
        ("stacks/tabs/compose.yml", "services:\n\tapp: {}\n"),
        ("stacks/twice/compose.yml", "services:\n  app: {}\n  app: {}\n"),
        ("stacks/empty/compose.yml", "# nothing\n"),
        ("stacks/list/compose.yml", "- a\n"),
        ("stacks/shape/compose.yml", "name: shape\nservices: [a]\n"),
    ]);
    assert_snapshot!(show(&set), @r#"
    stacks
    bad [?] stacks/bad/compose.yml=folder
    empty [empty] stacks/empty/compose.yml=folder
    good [good] stacks/good/compose.yml=folder stacks/good/compose.override.yml=folder
    list [list] stacks/list/compose.yml=folder
    shape [shape] stacks/shape/compose.yml=folder
    tabs [?] stacks/tabs/compose.yml=folder
    twice [?] stacks/twice/compose.yml=folder
    error compose.empty (stack empty, stacks/empty/compose.yml)
      the file is empty
      -> define services in it, or remove it
    error compose.syntax (stack bad, stacks/bad/compose.yml:4)
      not valid YAML: did not find expected key
      -> correct the YAML; `docker compose config` shows the same error
    error compose.syntax (stack list, stacks/list/compose.yml:1)
      the file is a list, not a mapping
      -> begin it with `services:`
    error compose.syntax (stack shape, stacks/shape/compose.yml:2)
      `services` is a list, not a mapping
      -> write `name: {…}` for each service
    error compose.syntax (stack tabs, stacks/tabs/compose.yml:2)
      not valid YAML: found character that cannot start any token
      -> indent with spaces, and quote values that begin with a special character
    error compose.syntax (stack twice, stacks/twice/compose.yml:3)
      not valid YAML: services: the key "app" is given twice
      -> remove one of the two; YAML does not merge them
    "#);
    assert!(!set.is_broken());
    assert!(!set.rejected().contains("good"));
}

#[test]
fn examples_are_no_stacks_and_are_told_of_once() {
    let files = [
        ("stacks/web/compose.yml", PLAIN),
        ("examples/a/compose.yml", PLAIN),
        ("examples/b/docker-compose.yml", PLAIN),
        ("examples/b/examples/c/compose.yml", PLAIN),
        ("stacks/web/example/compose.yml", PLAIN),
        ("vendor/x/compose.yml", PLAIN),
        ("docs/examples/README.md", "nothing to run"),
    ];
    let told = |config: &str| {
        let tree = MapTree::new(files.iter().copied().chain([("evenkeel.yml", config)]));
        show_problems(&unclaimed(&tree, &[set_of(&tree, "any")], None))
    };
    assert_snapshot!(told(""), @"
    info layout.examples (examples)
      2 Compose files below this folder: taken for examples, and left out
      -> if some of them are stacks, name them under `stacks:` in evenkeel.yml
    info layout.examples (stacks/web/example)
      a Compose file below this folder: taken for examples, and left out
      -> if some of them are stacks, name them under `stacks:` in evenkeel.yml
    ");
    assert_eq!(told("ignore: ['examples/**', 'stacks/web/example']\n"), "");
}

#[test]
fn a_top_level_key_that_would_be_taken_for_our_own_is_refused() {
    let text = "x-common: &c {a: 1}\nx-evenkeel-health-check: /bin/sh\nx-evenkeels: {}\nservices:\n  app: {image: x, x-evenkeel-x: 1}\n";
    let set = set(&[("stacks/web/compose.yml", text), ("stacks/web/compose.override.yml", "x-evenkeel-watched: []\n")]);
    assert_snapshot!(show(&set), @"
    stacks
    web [web] stacks/web/compose.yml=folder stacks/web/compose.override.yml=folder
    error x-evenkeel.reserved (stack web, stacks/web/compose.override.yml:1)
      `x-evenkeel-watched`: top-level keys that begin with `x-evenkeel-` are Evenkeel's own
      -> write what the stack says of itself under `x-evenkeel:`, or give the key another name
    error x-evenkeel.reserved (stack web, stacks/web/compose.yml:2)
      `x-evenkeel-health-check`: top-level keys that begin with `x-evenkeel-` are Evenkeel's own
      -> write what the stack says of itself under `x-evenkeel:`, or give the key another name
    ");
    assert!(set.rejected().contains("web"));
}

#[test]
fn x_evenkeel_refuses_what_it_does_not_know() {
    let text = "x-evenkeel:\n  depend_on: [a]\n  depends_on: db\n  gate:\n    min_healthy_time: 10\n    min_healty: 2s\n    \
                healthy_deadline: 1m\n  owner: x\nservices:\n  app:\n    image: x\n    x-evenkeel: {first: start}\n";
    let set = set(&[("stacks/web/compose.yml", text)]);
    assert_snapshot!(show(&set), @r#"
    stacks
    web [web] stacks/web/compose.yml=folder
    error x-evenkeel.unknown-key (stack web, stacks/web/compose.yml:2)
      unknown key `x-evenkeel.depend_on`
      -> did you mean `depends_on`?
    error x-evenkeel.unknown-key (stack web, stacks/web/compose.yml:6)
      unknown key `x-evenkeel.gate.min_healty`
      -> remove it; known here: healthy_deadline, min_healthy_time
    error x-evenkeel.unknown-key (stack web, stacks/web/compose.yml:8)
      unknown key `x-evenkeel.owner`
      -> remove it; known here: depends_on, drift, gate, group, hooks, on_change, window
    error x-evenkeel.unknown-key (stack web, stacks/web/compose.yml:12)
      unknown key `services.app.x-evenkeel.first`
      -> remove it; known here: overlap, probes, quiesce, reload, update
    error x-evenkeel.value (stack web, stacks/web/compose.yml:3)
      `x-evenkeel.depends_on` is a single value
      -> make it a list
    error x-evenkeel.value (stack web, stacks/web/compose.yml:5)
      `x-evenkeel.gate.min_healthy_time`: "10" is not a duration: write a whole number and a unit, as in 500ms, 10s, 5m, 2h or 7d
      -> correct the duration
    "#);
    assert_eq!(set.stacks[0].gate.healthy_deadline, Some(std::time::Duration::from_mins(1)));
}

#[test]
fn a_gate_of_a_higher_layer_wins() {
    let gate = |text: &str| format!("x-evenkeel: {{gate: {{{text}}}}}\nservices: {{}}\n");
    let set = set_of(
        &MapTree::new([
            ("stacks/web/compose.yml", gate("min_healthy_time: 1s, healthy_deadline: 1m")),
            ("stacks/web/compose.override.yml", gate("min_healthy_time: 500ms")),
        ]),
        "any",
    );
    let gate = set.stacks[0].gate;
    assert_eq!((gate.min_healthy_time, gate.healthy_deadline), {
        use std::time::Duration;
        (Some(Duration::from_millis(500)), Some(Duration::from_mins(1)))
    });
}

#[test]
fn evenkeel_yml_refuses_what_it_does_not_know() {
    let text = "layout: stack\nprofile: x\nproject: server\nservers:\n  home: {stack: [web], profiles: [gpu]}\n  \"a b\": {}\n\
                stacks:\n  web: {file: [x], depends_on: [1, [2]]}\nignore: examples\n";
    let set = set(&[("evenkeel.yml", text), ("stacks/web/compose.yml", PLAIN)]);
    assert_snapshot!(show(&set), @r#"
    stacks
    web [web] stacks/web/compose.yml=folder
    error config.unknown-key (evenkeel.yml:2)
      unknown key `profile`
      -> remove it; known here: defaults, ignore, layout, paths, policy, project, servers, stacks
    error config.unknown-key (evenkeel.yml:5)
      unknown key `servers.home.stack`
      -> did you mean `stacks`?
    error config.unknown-key (evenkeel.yml:8)
      unknown key `stacks.web.file`
      -> did you mean `files`?
    error config.value (evenkeel.yml:1)
      `layout`: unknown layout "stack"
      -> did you mean `stacks`?
    error config.value (evenkeel.yml:6)
      `servers.a b`: server name "a b" is not usable: use 1 to 63 of the characters a-z A-Z 0-9 . _ -, beginning with a letter or a digit
      -> rename the server
    error config.value (evenkeel.yml:8)
      `stacks.web.depends_on[1]` is a list
      -> make it a single value
    error config.value (evenkeel.yml:9)
      `ignore` is a single value
      -> make it a list
    error depends.unknown (stack web, evenkeel.yml:8)
      it depends on "1", which is no stack of this server
      -> name a stack that this server runs, or remove the dependency
    "#);
    assert!(set.is_broken());
}

#[test]
fn tells_of_groups_that_cannot_move_or_are_alone() {
    let of =
        |group: &str, needs: &str| format!("x-evenkeel:\n  group: {group}\n  depends_on: [{needs}]\nservices: {{}}\n");
    let tree = MapTree::new([
        ("evenkeel.yml", "stacks: { web: { group: other }, cache: { group: shops } }\n".to_owned()),
        ("stacks/web/compose.yml", of("shop", "between")),
        ("stacks/between/compose.yml", "x-evenkeel: { depends_on: [db] }\nservices: {}\n".to_owned()),
        ("stacks/db/compose.yml", of("shop", "")),
        ("stacks/cache/compose.yml", "services: {}\n".to_owned()),
        ("stacks/bad/compose.yml", of("'a b'", "")),
    ]);
    let set = set_of(&tree, "any");
    let groups: Vec<_> = set.stacks.iter().map(|s| s.group.as_ref().map_or("", |group| group.as_str())).collect();
    assert_eq!(groups, ["", "", "shops", "shop", "shop"], "a stack's own files count more than evenkeel.yml");
    assert_snapshot!(show(&set), @r#"
    stacks
    bad [bad] stacks/bad/compose.yml=folder
    between [between] stacks/between/compose.yml=folder after db
    cache [cache] stacks/cache/compose.yml=folder
    db [db] stacks/db/compose.yml=folder
    web [web] stacks/web/compose.yml=folder after between
    error group.cycle (stack between, stacks/between/compose.yml)
      stacks that move together wait for themselves: the group shop -> between -> the group shop
      -> take what is between them into the group, or remove one of these from `depends_on`
    error group.cycle (stack db, stacks/db/compose.yml)
      stacks that move together wait for themselves: the group shop -> between -> the group shop
      -> take what is between them into the group, or remove one of these from `depends_on`
    error group.cycle (stack web, stacks/web/compose.yml)
      stacks that move together wait for themselves: the group shop -> between -> the group shop
      -> take what is between them into the group, or remove one of these from `depends_on`
    error x-evenkeel.value (stack bad, stacks/bad/compose.yml:2)
      `x-evenkeel.group`: group name "a b" is not usable: use 1 to 63 of the characters a-z A-Z 0-9 . _ -, beginning with a letter or a digit
      -> rename the group
    info group.alone (stack cache, stacks/cache/compose.yml)
      nothing else on this server is in the group shops
      -> did you mean `shop`?
    "#);
}

#[test]
fn tells_of_dependencies_that_cannot_be() {
    let after = |names: &str| format!("x-evenkeel:\n  depends_on:\n    - {names}\nservices: {{}}\n");
    let tree = MapTree::new([
        ("stacks/a/compose.yml", after("b")),
        ("stacks/b/compose.yml", after("c")),
        ("stacks/c/compose.yml", after("a")),
        ("stacks/web/compose.yml", after("databse")),
        ("stacks/database/compose.yml", after("nothing/like it")),
    ]);
    assert_snapshot!(show(&set_of(&tree, "any")), @r#"
    stacks
    a [a] stacks/a/compose.yml=folder after b
    b [b] stacks/b/compose.yml=folder after c
    c [c] stacks/c/compose.yml=folder after a
    database [database] stacks/database/compose.yml=folder
    web [web] stacks/web/compose.yml=folder
    error depends.cycle (stack a, stacks/a/compose.yml)
      stacks depend on each other in a circle: a -> b -> c -> a
      -> remove one of these from `depends_on`
    error depends.cycle (stack b, stacks/b/compose.yml)
      stacks depend on each other in a circle: a -> b -> c -> a
      -> remove one of these from `depends_on`
    error depends.cycle (stack c, stacks/c/compose.yml)
      stacks depend on each other in a circle: a -> b -> c -> a
      -> remove one of these from `depends_on`
    error depends.unknown (stack database, stacks/database/compose.yml:3)
      it depends on "nothing/like it", which is no stack of this server
      -> name a stack that this server runs, or remove the dependency
    error depends.unknown (stack web, stacks/web/compose.yml:3)
      it depends on "databse", which is no stack of this server
      -> did you mean `database`?
    "#);
}

#[test]
fn refuses_links_and_tells_of_submodules() {
    let tree =
        MapTree::new([("stacks/web/compose.yml", PLAIN), ("shared/compose.yml", PLAIN), ("stacks/notes", "text")])
            .with_symlink("stacks/linked", "../shared")
            .with_symlink("stacks/outside", "/srv/outside")
            .with_symlink("stacks/README", "notes")
            .with_symlink("stacks/file/compose.yml", "../web/compose.yml")
            .with_symlink("data", "/srv/data")
            .with_submodule("stacks/theirs");
    assert_snapshot!(show(&set_of(&tree, "any")), @r"
    stacks
    web [web] stacks/web/compose.yml=folder
    error tree.symlink (stack file, stacks/file/compose.yml)
      stacks/file/compose.yml is a symbolic link, which is refused here
      -> put the file or folder itself there: a link could lead out of what was signed
    error tree.symlink (stack linked, stacks/linked)
      stacks/linked is a symbolic link, which is refused here
      -> put the file or folder itself there: a link could lead out of what was signed
    error tree.symlink (stack outside, stacks/outside)
      stacks/outside is a symbolic link, which is refused here
      -> put the file or folder itself there: a link could lead out of what was signed
    info tree.submodule (stacks/theirs)
      the submodule stacks/theirs is ignored: its content is not in this repository
      -> copy its Compose file into the repository if it is to be deployed
    ");
}

#[test]
fn refuses_links_on_the_way_to_a_stated_file() {
    let tree = MapTree::new([("evenkeel.yml", "stacks:\n  web: {files: [a/b/c.yml]}\n"), ("x/b/c.yml", PLAIN)])
        .with_symlink("a", "x");
    assert_eq!(codes(&set_of(&tree, "any")), ["stack.file-missing", "tree.symlink"]);
}

#[test]
fn refuses_folder_names_that_are_no_stack_names() {
    assert_snapshot!(show(&set(&[("stacks/my app/compose.yml", PLAIN), ("stacks/web/compose.yml", PLAIN)])), @r#"
    stacks
    web [web] stacks/web/compose.yml=folder
    error stack.name (stack my app, stacks/my app/compose.yml)
      stack name "my app" is not usable: use 1 to 63 of the characters a-z A-Z 0-9 . _ -, beginning with a letter or a digit
      -> rename the folder or file
    "#);
}

#[test]
fn a_server_that_is_not_there_is_told_with_the_nearest() {
    let files = [("stacks/web/compose.yml", PLAIN), ("servers/home/.env", ""), ("servers/cloud/.env", "")];
    let tree = MapTree::new(files);
    assert_snapshot!(show(&set_of(&tree, "hoem")), @r#"
    stacks
    error server.unknown (server hoem)
      the repository has no server "hoem"
      -> did you mean `home`?
    "#);
    assert_snapshot!(show(&set_of(&tree, "elsewhere")), @r#"
    stacks
    error server.unknown (server elsewhere)
      the repository has no server "elsewhere"
      -> it has cloud, home; add the folder servers/elsewhere for another
    "#);
}

#[test]
fn a_repository_without_a_compose_file_is_told_so() {
    assert_snapshot!(show(&set(&[("README.md", "text")])), @r"
    stacks
    error layout.none ()
      the repository has no Compose file that makes a stack
      -> add stacks/NAME/compose.yml, or name the files under `stacks:` in evenkeel.yml
    ");
    assert_snapshot!(show(&set(&[])), @r"
    stacks
    error layout.none ()
      the repository has no Compose file that makes a stack
      -> add stacks/NAME/compose.yml, or name the files under `stacks:` in evenkeel.yml
    ");
}

#[test]
fn a_config_json_that_is_none_is_told_with_its_line() {
    assert_snapshot!(show(&set(&[
        ("stacks/web/compose.yml", PLAIN),
        ("servers/home/config.json", "{\n  \"stacks\": [\"web\",]\n}\n"),
    ])), @r#"
    stacks
    web [web] stacks/web/compose.yml=folder
    error config.syntax (server home, servers/home/config.json:2)
      not valid JSON: trailing comma at line 2 column 20
      -> write it as {"stacks": ["name", …]} or {"sharedStacks": ["name", …]}
    "#);
}

#[test]
fn names_compose_files_that_nobody_uses() {
    let tree = MapTree::new([
        ("stacks/web/compose.yml", "include:\n  - ../../parts/compose.parts.yml\n  - path: [more.yml]\nservices: {}\n"),
        ("stacks/web/more.yml", PLAIN),
        ("stacks/web/docker-compose.dev.yml", PLAIN),
        ("stacks/flat.yml", PLAIN),
        ("parts/compose.parts.yml", "services:\n  a:\n    extends: {file: ../base/docker-compose.yml, service: a}\n"),
        ("base/docker-compose.yml", PLAIN),
        ("reverse-proxy/traefik/docker-compose.yml", PLAIN),
        ("doco/main.compose.yaml", PLAIN),
        ("vendor/x/compose.yml", PLAIN),
        ("web/node_modules/x/compose.yml", PLAIN),
        (".github/compose.yml", PLAIN),
        ("composer.yml", "x"),
        (".pre-commit.yml", "x"),
    ]);
    assert_snapshot!(show_problems(&unclaimed(&tree, &[set_of(&tree, "any")], None)), @r"
    warning layout.unclaimed (doco/main.compose.yaml)
      no stack of any server uses this file
      -> name it under `stacks:` in evenkeel.yml, or list it under `ignore:`
    warning layout.unclaimed (reverse-proxy/traefik/docker-compose.yml)
      no stack of any server uses this file
      -> name it under `stacks:` in evenkeel.yml, or list it under `ignore:`
    warning layout.unclaimed (stacks/web/docker-compose.dev.yml)
      no stack of any server uses this file
      -> name it under `stacks:` in evenkeel.yml, or list it under `ignore:`
    ");
}

/// A tree whose store is gone.
struct Broken;

impl Tree for Broken {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, TreeError> {
        Err(TreeError { path: path.to_owned(), why: "the store is gone".to_owned() })
    }

    fn list(&self, dir: &str) -> Result<Vec<Entry>, TreeError> {
        Err(TreeError { path: dir.to_owned(), why: "the store is gone".to_owned() })
    }
}

#[test]
fn a_tree_that_cannot_be_read_breaks_the_set_but_not_the_program() {
    let set = set_of(&Broken, "home");
    assert!(set.is_broken());
    assert!(codes(&set).contains(&"tree.unreadable"));
    assert_eq!(servers(&Broken, None), []);
    assert_eq!(unclaimed(&Broken, &[set], None)[0].code, "tree.unreadable");
}

#[test]
fn a_file_that_is_too_large_rejects_its_own_stack_only() {
    let large = "#".repeat(crate::tree::MAX_FILE_BYTES + 1);
    let set = set(&[("stacks/large/compose.yml", &large), ("stacks/web/compose.yml", PLAIN)]);
    assert!(!set.is_broken(), "{}", show(&set));
    assert_eq!(set.rejected().into_iter().collect::<Vec<_>>(), ["large"]);
}
