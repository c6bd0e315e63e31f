//! The layout `servers`, and the layering of it that is told of instead of being done wrongly.

use super::*;

fn named(name: &str, service: &str) -> String {
    format!("name: {name}\nservices:\n  {service}:\n    image: x\n")
}

#[test]
fn gives_a_server_its_shared_its_local_and_its_own_stacks() {
    let tree = MapTree::new([
        (".env", "SITE=none\n".to_owned()),
        ("sharedStacks/proxy.yml", named("${SITE}-proxy", "proxy")),
        ("sharedStacks/watch/compose.yml", named("${SITE}-watch", "watch")),
        ("sharedStacks/watch/.env", "X=1\n".to_owned()),
        ("sharedStacks/unused/compose.yml", named("unused", "unused")),
        ("stacks/mail/compose.yml", named("mail", "mail")),
        ("servers/home/config.json", r#"{"sharedStacks": ["watch", "proxy", "mail"]}"#.to_owned()),
        ("servers/home/.env", "SITE=home\n".to_owned()),
        ("servers/home/compose.yml", named("home", "report")),
        ("servers/home/localStacks/notes/compose.yml", named("notes", "notes")),
        ("servers/home/photos/docker-compose.yml", named("photos", "photos")),
        ("servers/cloud/config.json", r#"{"sharedStacks": ["proxi"]}"#.to_owned()),
    ]);
    assert_eq!(servers(&tree), [server("cloud"), server("home")]);
    let (home, cloud) = (set_of(&tree, "home"), set_of(&tree, "cloud"));
    assert_snapshot!(show(&home), @r"
    servers
    home [home] servers/home/compose.yml=server env .env servers/home/.env
    mail [mail] stacks/mail/compose.yml=shared env .env servers/home/.env
    notes [notes] servers/home/localStacks/notes/compose.yml=local env .env servers/home/.env
    photos [photos] servers/home/photos/docker-compose.yml=local env .env servers/home/.env
    proxy [home-proxy] sharedStacks/proxy.yml=shared env .env servers/home/.env
    watch [home-watch] sharedStacks/watch/compose.yml=shared env .env sharedStacks/watch/.env servers/home/.env
    ");
    assert_snapshot!(show(&cloud), @r#"
    servers
    error stack.unknown (server cloud, stack proxi, servers/cloud/config.json:1)
      there is no stack "proxi"
      -> did you mean `proxy`?
    "#);
    assert_snapshot!(show_problems(&unclaimed(&tree, &[home, cloud])), @r"
    warning layout.unclaimed (sharedStacks/unused/compose.yml)
      no stack of any server uses this file
      -> name it under `stacks:` in evenkeel.yml, or list it under `ignore:`
    ");
}

#[test]
fn tells_of_a_shared_and_a_local_stack_of_one_name() {
    assert_snapshot!(show(&set(&[
        ("sharedStacks/proxy/compose.yml", PLAIN),
        ("servers/home/config.json", r#"{"sharedStacks": ["proxy"]}"#),
        ("servers/home/localStacks/proxy/compose.yml", PLAIN),
    ])), @r#"
    servers
    proxy [proxy] sharedStacks/proxy/compose.yml=shared servers/home/localStacks/proxy/compose.yml=local
    error layout.layering (server home, stack proxy, servers/home/localStacks/proxy/compose.yml)
      sharedStacks/proxy/compose.yml, servers/home/localStacks/proxy/compose.yml are layers of one stack (they share the name "proxy"); this is not supported yet
      -> give each stack its own folder, service names and top-level `name:`
    "#);
}

#[test]
fn tells_of_a_server_file_that_redefines_a_service() {
    let tree = MapTree::new([
        ("sharedStacks/proxy/compose.yml", named("proxy", "traefik")),
        ("sharedStacks/watch/compose.yml", named("watch", "watch")),
        ("servers/home/config.json", r#"{"sharedStacks": ["proxy", "watch"]}"#.to_owned()),
        ("servers/home/compose.yml", named("home", "traefik")),
    ]);
    let set = set_of(&tree, "home");
    assert_snapshot!(show(&set), @r#"
    servers
    home [home] servers/home/compose.yml=server
    proxy [proxy] sharedStacks/proxy/compose.yml=shared
    watch [watch] sharedStacks/watch/compose.yml=shared
    error layout.layering (server home, stack home, servers/home/compose.yml)
      servers/home/compose.yml redefines the service "traefik" of sharedStacks/proxy/compose.yml; this layering is not supported yet
      -> rename the service in servers/home/compose.yml, or change it in sharedStacks/proxy/compose.yml
    error layout.layering (server home, stack proxy, sharedStacks/proxy/compose.yml)
      servers/home/compose.yml redefines the service "traefik" of sharedStacks/proxy/compose.yml; this layering is not supported yet
      -> rename the service in servers/home/compose.yml, or change it in sharedStacks/proxy/compose.yml
    "#);
    assert_eq!(set.rejected().into_iter().collect::<Vec<_>>(), ["home", "proxy"]);
}

#[test]
fn joins_files_that_share_a_project_and_tells_of_it() {
    let tree = MapTree::new([
        ("sharedStacks/watch/compose.yml", named("${PROJECT}", "watch")),
        ("sharedStacks/proxy/compose.yml", named("${PROJECT}", "proxy")),
        ("sharedStacks/alone/compose.yml", named("alone", "alone")),
        ("servers/home/config.json", r#"{"sharedStacks": ["watch", "proxy", "alone"]}"#.to_owned()),
        ("servers/home/compose.yml", named("${PROJECT}", "home")),
        ("servers/cloud/config.json", r#"{"sharedStacks": ["watch", "proxy"]}"#.to_owned()),
        ("servers/cloud/.env", "PROJECT=pro\n".to_owned()),
    ]);
    assert_snapshot!(show(&set_of(&tree, "home")), @r#"
    servers
    alone [alone] sharedStacks/alone/compose.yml=shared
    home [?] sharedStacks/watch/compose.yml=shared sharedStacks/proxy/compose.yml=shared servers/home/compose.yml=server
    error layout.layering (server home, stack home, servers/home/compose.yml)
      sharedStacks/watch/compose.yml, sharedStacks/proxy/compose.yml, servers/home/compose.yml are layers of one stack (they share the project "${PROJECT}"); this is not supported yet
      -> give each stack its own folder, service names and top-level `name:`
    "#);
    assert_snapshot!(show(&set_of(&tree, "cloud")), @r#"
    servers
    pro [pro] sharedStacks/watch/compose.yml=shared sharedStacks/proxy/compose.yml=shared env servers/cloud/.env
    error layout.layering (server cloud, stack pro, sharedStacks/proxy/compose.yml)
      sharedStacks/watch/compose.yml, sharedStacks/proxy/compose.yml are layers of one stack (they share the project "pro"); this is not supported yet
      -> give each stack its own folder, service names and top-level `name:`
    "#);
}

#[test]
fn tells_of_a_server_that_is_one_project() {
    assert_snapshot!(show(&set(&[
        ("stacks/proxy.yml", PLAIN),
        (
            "servers/home/config.json",
            "{\"sharedStacks\": [\"proxy\"],\n\"localStacks\": [\"./immich\", \"./pipd\"]}",
        ),
        ("servers/home/immich/compose.yml", PLAIN),
        ("servers/home/piped/compose.yml", PLAIN),
        ("servers/home/compose.yml", PLAIN),
    ])), @r#"
    servers
    home [stacks] stacks/proxy.yml=shared servers/home/immich/compose.yml=local servers/home/compose.yml=server
    error layout.layering (server home, stack home, servers/home/compose.yml)
      stacks/proxy.yml, servers/home/immich/compose.yml, servers/home/compose.yml are layers of one stack (`localStacks` in servers/home/config.json makes one project of them); this is not supported yet
      -> give each stack its own folder, service names and top-level `name:`
    error stack.unknown (server home, stack pipd, servers/home/config.json:2)
      there is no stack "pipd"
      -> did you mean `piped`?
    "#);
}

#[test]
fn a_name_in_a_list_cannot_leave_its_folder() {
    let list = r#"{"sharedStacks": ["../secret", "a/b", "", ".."], "localStacks": ["../cloud/x", "/etc"]}"#;
    let set = set(&[
        ("sharedStacks/a/b.yml", PLAIN),
        ("secret.yml", PLAIN),
        ("servers/home/config.json", list),
        ("servers/cloud/x/compose.yml", PLAIN),
    ]);
    assert_eq!(set.stacks, []);
    assert_eq!(codes(&set), ["stack.unknown"; 6]);
}
