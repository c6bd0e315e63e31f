//! Each repository of `examples/`, checked and deployed as a user would: one for each layout.

use std::process::Command;

use evenkeel_core::outcome::Outcome;
use evenkeel_tests::{
    docker, example, http, port,
    program::Run,
    wait::{PATIENCE, wait_until},
    world::World,
};

/// A world whose server, of this name, has deployed an example: these stacks. `variables` are what a user sets on the server.
fn deployed((name, server): (&str, &str), names: &[&str], variables: &[(&str, u16)]) -> World {
    let mut world = World::new();
    let folder = example::folder(name).display().to_string();
    let check = Run::of(&mut world.command(&["check", "--repo", &folder, "--format", "json"]));
    assert_eq!(check.exits(0).json()["servers"].as_array().map(Vec::is_empty), Some(false), "{}", check.report());
    let unclaimed = |problem: &serde_json::Value| problem["code"] == "layout.unclaimed";
    assert!(!check.json()["problems"].as_array().expect("a list").iter().any(unclaimed), "{}", check.report());

    let is_stack = names.contains(&server);
    world.config.set("server", &if is_stack { world.stack(server) } else { server.to_owned() });
    let mut env = "EVENKEEL_IMAGE=evenkeel-test/busybox:1\n".to_owned();
    env.extend(variables.iter().map(|(name, value)| format!("{name}={value}\n")));
    world.config.put("env/_server.env", &env);
    example::push(&world, name, names);
    world.once().exits(0);
    world.last_sync(Outcome::Committed);
    // Nothing moves by itself: the same commit again changes nothing.
    world.once().exits(0);
    world.last_sync(Outcome::Unchanged);
    assert_eq!(stacks(&world), names);
    world
}

/// The stacks that run here, by `evenkeel status`, as the example calls them.
fn stacks(world: &World) -> Vec<String> {
    let own = |name: &str| name.strip_prefix(&format!("{}-", world.prefix())).unwrap_or(name).to_owned();
    let mut names: Vec<String> = world.status().stacks.iter().map(|stack| own(&stack.name)).collect();
    names.sort();
    names
}

/// A root stack is called `root` in every repository: its tags are removed by its services, which differ.
struct RootTags(&'static [&'static str]);

impl Drop for RootTags {
    fn drop(&mut self) {
        let all = docker::run(&["image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "evenkeel-keep/root"]).stdout;
        let is_own = |tag: &str| self.0.iter().any(|service| tag.ends_with(&format!("-{service}")));
        let own: Vec<&str> = all.lines().filter(|tag| is_own(tag)).collect();
        docker::sweep(&own);
    }
}

fn page(port: u16, path: &str) -> String {
    http::text(&format!("http://127.0.0.1:{port}/{path}")).expect("the page is served")
}

/// What a command prints in the one container of a service.
fn inside(world: &World, stack: &str, service: &str, command: &[&str]) -> Run {
    let id = world.container(stack, service).id();
    Run::of(Command::new("docker").args(["exec", &id]).args(command))
}

/// Waits until a log of a watching service says that what it watches is up.
fn sees_it_up(world: &World, stack: &str, service: &str, log: &str) {
    wait_until(PATIENCE, &format!("{service} sees what it watches"), || {
        let said = inside(world, stack, service, &["cat", log]);
        if said.stdout.contains(" up\n") { Ok(()) } else { Err(said.report()) }
    });
}

#[test]
fn quickstart_serves_its_page_beside_the_api_that_it_waits_for() {
    let port = port::free();
    let world = deployed(("quickstart", "home"), &["api", "web"], &[("WEB_PORT", port)]);
    assert!(page(port, "index.html").contains("It works"));
    assert!(page(port, "clock/now.txt").ends_with("UTC"));
    assert!(inside(&world, "quickstart-api", "api", &["cat", "/data/starts.txt"]).ok().starts_with("started "));
}

#[test]
fn servers_gives_each_server_the_shared_stacks_that_it_names_and_its_own() {
    let (front, notes) = (port::free(), port::free());
    let world =
        deployed(("servers", "home"), &["front", "notes", "watch"], &[("FRONT_PORT", front), ("NOTES_PORT", notes)]);
    assert!(page(front, "index.html").contains("This server is up."));
    assert_eq!(page(notes, "index.html"), "Notes");
    sees_it_up(&world, "home-watch", "watch", "/seen/log.txt");

    let world = deployed(("servers", "cloud"), &["cloud", "front"], &[("FRONT_PORT", port::free())]);
    assert_eq!(world.container("cloud", "report").variable("TZ").as_deref(), Some("UTC"));
}

#[test]
fn hosts_gives_each_host_what_lies_in_its_folder() {
    let port = port::free();
    let world = deployed(("hosts", "nas"), &["backup", "files"], &[("FILES_PORT", port)]);
    assert!(page(port, "index.html").contains("Nothing is shared yet."));
    let packed = inside(&world, "nas-backup", "backup", &["tar", "-tzf", "/archive/newest.tar.gz"]);
    assert!(packed.ok().contains("index.html"), "{}", packed.report());

    let port = port::free();
    let world = deployed(("hosts", "edge"), &["home", "watch"], &[("HOME_PORT", port)]);
    assert!(page(port, "index.html").contains("This host is up."));
    sees_it_up(&world, "edge-watch", "watch", "/seen/log.txt");
}

#[test]
fn sites_runs_every_site_from_the_root_behind_the_front_page() {
    let port = port::free();
    let _tags = RootTags(&["front"]);
    let world = deployed(("sites", "home"), &["blog", "root", "shop"], &[("FRONT_PORT", port)]);
    assert_eq!(page(port, "cgi-bin/sites"), "blog up\nshop up");

    // As its README says: a site is removed by removing its folder.
    world.change("Close the shop").remove(&format!("sites/{}", world.stack("shop"))).push();
    world.once().exits(0);
    assert_eq!(stacks(&world), ["blog", "root"]);
    assert!(world.containers("sites-shop").is_empty());
    assert_eq!(page(port, "cgi-bin/sites"), "blog up\nshop down");
}

#[test]
fn root_is_one_stack_of_a_file_and_its_parts() {
    let port = port::free();
    let _tags = RootTags(&["web", "clock", "probe"]);
    let world = deployed(("root", "home"), &["root"], &[("WEB_PORT", port)]);
    assert!(page(port, "index.html").contains("homeserver"));
    assert!(page(port, "clock/now.txt").contains("UTC"));
    sees_it_up(&world, "homeserver", "probe", "/seen/log.txt");
    let web = world.container("homeserver", "web");
    assert_eq!(web.0.pointer("/Config/Labels/monitored").and_then(|label| label.as_str()), Some("yes"));
    assert_eq!(web.0.pointer("/HostConfig/ReadonlyRootfs"), Some(&serde_json::json!(true)));
}
