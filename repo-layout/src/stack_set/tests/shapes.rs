//! Shapes that real repositories have, beside the plain ones of each layout.

use super::*;

#[test]
fn stacks_in_groups_are_found_and_what_is_kept_away_is_not() {
    let tree = MapTree::new([
        ("docker/media/jellyfin/compose.yaml", PLAIN),
        ("docker/media/jellyfin/test/compose.yaml", PLAIN),
        ("docker/system/dns/compose.yaml", PLAIN),
        ("docker/system/db/compose.yaml", PLAIN),
        ("docker/media/db/compose.yaml", PLAIN),
        ("docker/archive/old/compose.yaml", PLAIN),
        ("kubernetes/apps/x.yaml", "kind: Deployment\n"),
    ]);
    let set = set_of(&tree, "home");
    assert_snapshot!(show(&set), @r#"
    stacks
    dns [dns] docker/system/dns/compose.yaml=folder
    docker-media-db [db] docker/media/db/compose.yaml=folder
    docker-system-db [db] docker/system/db/compose.yaml=folder
    jellyfin [jellyfin] docker/media/jellyfin/compose.yaml=folder
    error project.duplicate (server home, stack docker-media-db, docker/media/db/compose.yaml)
      the stacks docker-media-db and docker-system-db have the same project, "db"
      -> give one of them another top-level `name:`; one would take the other's containers down
    error project.duplicate (server home, stack docker-system-db, docker/system/db/compose.yaml)
      the stacks docker-system-db and docker-media-db have the same project, "db"
      -> give one of them another top-level `name:`; one would take the other's containers down
    "#);
    let paths: Vec<_> = unclaimed(&tree, &[set], None).into_iter().filter_map(|p| p.path).collect();
    assert_eq!(paths, ["docker/archive/old/compose.yaml", "docker/media/jellyfin/test/compose.yaml"]);
}

#[test]
fn folders_beside_a_folder_of_stacks_count_too() {
    assert_snapshot!(show(&set(&[
        ("apps/web/compose.yaml", PLAIN),
        ("apps/api/compose.yaml", PLAIN),
        ("bootstrap/compose.yaml", PLAIN),
        ("images/resources/agent/agent.compose.yaml", PLAIN),
    ])), @r"
    stacks
    api [api] apps/api/compose.yaml=folder
    bootstrap [bootstrap] bootstrap/compose.yaml=folder
    web [web] apps/web/compose.yaml=folder
    ");
}

#[test]
fn a_folder_may_have_one_file_with_a_name_of_its_own() {
    let tree = MapTree::new([
        ("deploy/web/web.compose.yaml", PLAIN),
        ("deploy/web/config.yaml", "listen: 80\n"),
        ("deploy/api/api.yml", PLAIN),
        ("deploy/two/docker-compose.a.yml", PLAIN),
        ("deploy/two/docker-compose.b.yml", PLAIN),
    ]);
    let set = set_of(&tree, "home");
    assert_snapshot!(show(&set), @r"
    stacks
    api [api] deploy/api/api.yml=folder
    web [web] deploy/web/web.compose.yaml=folder
    ");
    let paths: Vec<_> = unclaimed(&tree, &[set], None).into_iter().filter_map(|p| p.path).collect();
    assert_eq!(paths, ["deploy/two/docker-compose.a.yml", "deploy/two/docker-compose.b.yml"]);
}

#[test]
fn one_file_a_stack_is_understood() {
    assert_snapshot!(show(&set(&[
        ("stacks/web.yml", "name: web\nservices: {a: {image: x}}\n"),
        ("stacks/web.override.yml", "services: {a: {image: y}}\n"),
        ("stacks/api.yaml", PLAIN),
        ("stacks/values.yml", "a: 1\n"),
        ("stacks/db/compose.yml", PLAIN),
    ])), @r"
    stacks
    api [stacks] stacks/api.yaml=folder
    db [db] stacks/db/compose.yml=folder
    web [web] stacks/web.yml=folder stacks/web.override.yml=folder
    ");
}

#[test]
fn compose_file_in_an_env_file_names_the_files() {
    let tree = MapTree::new([
        ("docker-compose.yml", PLAIN),
        ("docker-compose.extra.yml", PLAIN),
        ("dns/docker-compose.yml", PLAIN),
        (".env", "COMPOSE_FILE=docker-compose.yml:dns/docker-compose.yml:gone.yml\nCOMPOSE_PROJECT_NAME=nas\n"),
    ]);
    let set = set_of(&tree, "home");
    assert_snapshot!(show(&set), @r#"
    root
    root [nas] docker-compose.yml=root dns/docker-compose.yml=root@/ env .env
    error stack.file-missing (stack root, .env)
      COMPOSE_FILE names "gone.yml", which is not in the repository
      -> correct the path, or add the file
    "#);
    let paths: Vec<_> = unclaimed(&tree, &[set], None).into_iter().filter_map(|p| p.path).collect();
    assert_eq!(paths, ["docker-compose.extra.yml"]);
    let other = MapTree::new([
        ("stacks/web/prod.yml", PLAIN),
        ("stacks/web/.env", "COMPOSE_PATH_SEPARATOR=;\nCOMPOSE_FILE=prod.yml;../shared.yml\n"),
        ("stacks/shared.yml", "services: {}\n"),
    ]);
    assert_snapshot!(show(&set_of(&other, "home")), @r"
    stacks
    shared [stacks] stacks/shared.yml=folder
    web [web] stacks/web/prod.yml=folder stacks/shared.yml=folder@stacks/web/ env stacks/web/.env
    ");
}

#[test]
fn relative_paths_may_be_stated_to_be_the_roots() {
    assert_snapshot!(show(&set(&[
        ("evenkeel.yml", "paths: root\n"),
        ("stacks/web/compose.yml", PLAIN),
        ("stacks/web/compose.override.yml", PLAIN),
    ])), @r"
    stacks
    web [web] stacks/web/compose.yml=folder@/ stacks/web/compose.override.yml=folder@/
    ");
    assert_snapshot!(show(&set(&[
        ("evenkeel.yml", "paths: file\n"),
        ("docker-compose.yml", PLAIN),
        ("docker-compose.web.yml", PLAIN),
        ("sites/a/docker-compose.yml", PLAIN),
    ])), @r"
    sites
    a [a] sites/a/docker-compose.yml=folder
    root [?] docker-compose.yml=root docker-compose.web.yml=root
    warning project.unnamed (stack root, docker-compose.yml)
      the project is named after the folder that the repository lies in
      -> state it with a top-level `name:`, so that it is the same everywhere
    ");
}

#[test]
fn servers_is_a_folder_of_game_servers_where_nothing_says_otherwise() {
    let tree = MapTree::new([
        ("stacks/web/compose.yml", PLAIN),
        ("servers/minecraft/server.properties", "x=1\n"),
        ("servers/home/config.json", r#"{"stacks": ["web"]}"#),
    ]);
    assert_eq!(servers(&tree, None), [server("home")]);
}

#[test]
fn a_list_of_stacks_beside_a_servers_own_files_is_the_layout_servers() {
    let list = r#"{"stacks": ["proxy", {"name": "web", "deployAs": "site", "envs": {"PORT": 80, "DEBUG": true},
        "watchFilesAndRestartIfChanged": ["nginx.conf", "common.conf", "gone"]}]}"#;
    let tree = MapTree::new([
        ("stacks/proxy/compose.yml", PLAIN),
        ("stacks/web/compose.yml", PLAIN),
        ("stacks/web/nginx.conf", "x"),
        ("common.conf", "x"),
        ("servers/home/config.json", list),
        ("servers/home/compose.yml", "name: home\nservices: {notes: {image: x}}\n"),
    ]);
    let set = set_of(&tree, "home");
    assert_snapshot!(show(&set), @r#"
    servers
    home [home] servers/home/compose.yml=server
    proxy [proxy] stacks/proxy/compose.yml=shared
    web [site] stacks/web/compose.yml=shared
    warning stack.watched (stack web)
      the watched file "gone" is not in the repository
      -> correct the path, or remove it from the list
    "#);
    let web = set.stacks.iter().find(|s| s.name.as_str() == "web").expect("web");
    let defaults: Vec<String> = web.defaults.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(defaults, ["DEBUG=true", "PORT=80"]);
    assert_eq!(web.watched, ["common.conf", "stacks/web/nginx.conf"]);
}

#[test]
fn what_holds_for_every_stack_and_server_is_stated_once() {
    let set = set(&[
        (
            "evenkeel.yml",
            "defaults: {gate: {min_healthy_time: 3s, healthy_deadline: 1m}}\nservers: {home: {profiles: [gpu]}}\n",
        ),
        ("stacks/web/compose.yml", "x-evenkeel: {gate: {min_healthy_time: 5s}}\nservices: {}\n"),
    ]);
    let gate = set.stacks[0].gate;
    let seconds = |time: Option<std::time::Duration>| time.map(|t| t.as_secs());
    assert_eq!((seconds(gate.min_healthy_time), seconds(gate.healthy_deadline)), (Some(5), Some(60)));
    assert_eq!(set.stacks[0].profiles, ["gpu"]);
}

#[test]
fn one_of_two_stacks_of_one_name_cannot_be_told_from_the_other() {
    assert_snapshot!(show(&set(&[("stacks/web.yml", PLAIN), ("stacks/web/compose.yml", PLAIN)])), @r"
    stacks
    web [web] stacks/web/compose.yml=folder
    error stack.duplicate (server home, stack web, stacks/web.yml)
      stacks/web/compose.yml and stacks/web.yml are both the stack web
      -> rename one of them, or remove one
    ");
}
