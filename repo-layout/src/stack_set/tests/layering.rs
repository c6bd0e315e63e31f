//! The layout `servers`: layers of one name, of one project, of a whole server, and the server's own file above all.

use super::*;
use crate::reload::{OnChange, Reload};

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
    assert_eq!(servers(&tree, None), [server("cloud"), server("home")]);
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
    assert_snapshot!(show_problems(&unclaimed(&tree, &[home, cloud], None)), @r"
    warning layout.unclaimed (sharedStacks/unused/compose.yml)
      no stack of any server uses this file
      -> name it under `stacks:` in evenkeel.yml, or list it under `ignore:`
    ");
}

#[test]
fn a_shared_and_a_local_stack_of_one_name_are_one_stack() {
    assert_snapshot!(show(&set(&[
        ("sharedStacks/proxy/compose.yml", PLAIN),
        ("servers/home/config.json", r#"{"sharedStacks": ["proxy"]}"#),
        ("servers/home/localStacks/proxy/compose.yml", PLAIN),
    ])), @r"
    servers
    proxy [proxy] sharedStacks/proxy/compose.yml=shared servers/home/localStacks/proxy/compose.yml=local
    ");
}

#[test]
fn a_service_in_the_servers_file_overrides_that_of_another_stack() {
    let tree = MapTree::new([
        ("sharedStacks/proxy/compose.yml", named("proxy", "traefik")),
        ("sharedStacks/watch/compose.yml", named("watch", "watch")),
        ("servers/home/config.json", r#"{"sharedStacks": ["proxy", "watch"]}"#.to_owned()),
        ("servers/home/compose.yml", named("home", "traefik")),
    ]);
    let set = set_of(&tree, "home");
    assert_snapshot!(show(&set), @r"
    servers
    proxy [proxy] sharedStacks/proxy/compose.yml=shared servers/home/compose.yml=server
    watch [watch] sharedStacks/watch/compose.yml=shared
    ");
    assert_eq!(set.problems, []);
}

#[test]
fn files_that_share_a_project_are_one_stack() {
    let tree = MapTree::new([
        ("sharedStacks/watch/compose.yml", named("${PROJECT}", "watch")),
        ("sharedStacks/proxy/compose.yml", named("${PROJECT}", "proxy")),
        ("sharedStacks/alone/compose.yml", named("alone", "alone")),
        ("servers/home/config.json", r#"{"sharedStacks": ["watch", "proxy", "alone"]}"#.to_owned()),
        ("servers/home/compose.yml", named("${PROJECT}", "home")),
        ("servers/cloud/config.json", r#"{"sharedStacks": ["watch", "proxy"]}"#.to_owned()),
        ("servers/cloud/.env", "PROJECT=pro\n".to_owned()),
    ]);
    assert_snapshot!(show(&set_of(&tree, "home")), @r"
    servers
    alone [alone] sharedStacks/alone/compose.yml=shared
    home [?] sharedStacks/watch/compose.yml=shared sharedStacks/proxy/compose.yml=shared servers/home/compose.yml=server
    ");
    assert_snapshot!(show(&set_of(&tree, "cloud")), @r"
    servers
    pro [pro] sharedStacks/watch/compose.yml=shared sharedStacks/proxy/compose.yml=shared env servers/cloud/.env
    ");
}

#[test]
fn local_stacks_in_a_list_make_the_server_one_project() {
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
    home [home] stacks/proxy.yml=shared servers/home/immich/compose.yml=local servers/home/compose.yml=server
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

#[test]
fn what_only_the_servers_file_has_is_its_own_stack() {
    let both = "name: home\nservices:\n  traefik: {ports: ['80:80']}\n  notes: {image: x}\n".to_owned();
    let tree = MapTree::new([
        ("sharedStacks/proxy/compose.yml", named("${SITE}-proxy", "traefik")),
        ("sharedStacks/watch/compose.yml", "include: [more.yml]\nservices: {watch: {image: x}}\n".to_owned()),
        ("sharedStacks/watch/more.yml", named("more", "notes")),
        ("servers/home/config.json", r#"{"sharedStacks": ["proxy", "watch"]}"#.to_owned()),
        ("servers/home/compose.yml", both.clone()),
        ("servers/cloud/config.json", r#"{"sharedStacks": ["proxy"]}"#.to_owned()),
        ("servers/cloud/compose.yml", both),
    ]);
    let without = |set: &StackSet| -> Vec<String> {
        let shown = |s: &Stack| format!("{} {:?} {:?} {:?}", s.name, s.without, s.named, s.project);
        set.stacks.iter().map(shown).collect()
    };
    assert_eq!(
        without(&set_of(&tree, "cloud")),
        [r#"cloud {"traefik"} None Some("home")"#, r#"proxy {"notes"} Some("${SITE}-proxy") None"#,]
    );
    // On the other server all of it overrides something, so nothing is left for a stack of its own.
    assert_eq!(
        without(&set_of(&tree, "home")),
        [r#"proxy {"notes"} Some("${SITE}-proxy") None"#, r#"watch {"traefik"} None Some("watch")"#]
    );
}

#[test]
fn what_names_a_project_of_its_own_stays_out_of_the_servers() {
    let set = set(&[
        ("stacks/proxy.yml", PLAIN),
        ("servers/home/config.json", r#"{"sharedStacks": ["proxy"], "localStacks": ["./immich", "./notes"]}"#),
        ("servers/home/immich/compose.yml", &named("immich", "db")),
        ("servers/home/notes/compose.yml", "services: {notes: {image: x}}"),
        ("servers/home/compose.yml", &named("${PROJECT}", "web2")),
    ]);
    assert_snapshot!(show(&set), @r"
    servers
    home [?] stacks/proxy.yml=shared servers/home/notes/compose.yml=local servers/home/compose.yml=server
    immich [immich] servers/home/immich/compose.yml=local
    ");
}

#[test]
fn one_project_may_be_asked_for() {
    assert_snapshot!(show(&set(&[
        ("evenkeel.yml", "project: server\n"),
        ("stacks/a/compose.yml", &named("a", "a")),
        ("stacks/a/.env", "X=1\n"),
        ("stacks/b/compose.yml", &named("b", "b")),
        ("stacks/b/.env", "X=2\n"),
        ("stacks/c/compose.yml", &named("c", "b")),
    ])), @r#"
    stacks
    home [home] stacks/a/compose.yml=folder stacks/b/compose.yml=folder stacks/c/compose.yml=folder env stacks/a/.env stacks/b/.env
    error project.env (server home, stack home, stacks/b/compose.yml)
      stacks/a/compose.yml and stacks/b/compose.yml are one project, and their `.env` files differ in X
      -> give the variable a name of its own in one of them, or set it once for both
    error project.service-twice (server home, stack home, stacks/c/compose.yml)
      stacks/c/compose.yml and stacks/b/compose.yml are one project, and both define the service "b"
      -> rename one of the two services, or give one of the files another top-level `name:`
    "#);
}

#[test]
fn a_service_says_which_signal_makes_it_look_again_and_the_highest_layer_counts() {
    let low = "x-evenkeel: {on_change: restart}\nservices:\n  app: {x-evenkeel: {reload: {signal: hup, on: ./conf.d}}}\n  db: {x-evenkeel: {reload: {signal: SIGUSR1}}}\n";
    let high = "services:\n  app: {x-evenkeel: {reload: {signal: USR2, on: [./a.conf, ../shared/b.conf]}}}\n";
    let set = set(&[("stacks/web/compose.yml", low), ("stacks/web/compose.override.yml", high)]);
    assert_eq!(set.problems, []);
    let reload = |signal: &str, on: &[&str]| Reload {
        signal: signal.to_owned(),
        on: on.iter().map(|path| (*path).to_owned()).collect(),
    };
    let stack = &set.stacks[0];
    assert_eq!(stack.on_change, OnChange::Restart);
    let expected = [
        ("app".to_owned(), reload("SIGUSR2", &["stacks/web/a.conf", "stacks/shared/b.conf"])),
        ("db".to_owned(), reload("SIGUSR1", &[])),
    ];
    assert_eq!(stack.reloads, expected.into());
}

#[test]
fn a_default_way_to_take_up_changes_counts_unless_the_stack_has_its_own() {
    let own = "x-evenkeel: {on_change: recreate}\nservices: {app: {image: x}}\n";
    let set = set(&[
        ("evenkeel.yml", "defaults: {on_change: restart}\n"),
        ("stacks/one/compose.yml", own),
        ("stacks/two/compose.yml", PLAIN),
    ]);
    let found: Vec<_> = set.stacks.iter().map(|stack| stack.on_change).collect();
    assert_eq!(found, [OnChange::Recreate, OnChange::Restart]);
}

#[test]
fn what_is_no_way_to_take_up_a_change_is_refused_with_its_line() {
    let text = "x-evenkeel:\n  on_change: restar\nservices:\n  a:\n    x-evenkeel:\n      reload: {signal: SIGKILL}\n  \
                b:\n    x-evenkeel:\n      reload: {on: [x]}\n  c:\n    x-evenkeel:\n      reload:\n        signal: HUP\n        \
                on:\n          - ../../../x\n";
    assert_snapshot!(show(&set(&[("stacks/web/compose.yml", text)])));
}
