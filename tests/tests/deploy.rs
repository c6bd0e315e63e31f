//! A signed push becomes what runs.

use std::fs;

use evenkeel_core::{outcome::Outcome, reason::Code};
use evenkeel_tests::{
    docker::{docker, image_id},
    fixture, http,
    receivers::git_http::GitHttp,
    wait::{PATIENCE, seconds, stays, wait_until},
    world::{World, page_at},
};

#[test]
fn deploys_two_stacks_in_the_order_of_their_dependency() {
    let world = World::new();
    let web = format!("{}x-evenkeel: {{ depends_on: [{}] }}\n", fixture::sleeper(1), world.stack("api"));
    let commit = world
        .change("Two stacks")
        .file(&world.path("web", "compose.yml"), web)
        .file(&world.path("api", "compose.yml"), fixture::slow(1, 1))
        .push();
    world.once().exits(0);
    let (api, web) = (world.container("api", "app"), world.container("web", "app"));
    assert_eq!((api.health(), web.state()), ("healthy".to_owned(), "running".to_owned()));
    assert!(api.started()[..19] < web.created()[..19], "api {} web {}", api.started(), web.created());
    let sync = world.last_sync(Outcome::Committed);
    assert_eq!(sync.commit.as_deref(), Some(commit.as_str()));
    for stack in ["api", "web"] {
        let deployment = sync.deployment(&world.stack(stack)).ended(Outcome::Committed);
        assert_eq!((deployment.from.as_deref(), deployment.to.as_deref()), (None, Some(commit.as_str())));
        assert_eq!(world.status().stack(&world.stack(stack)).commit.as_deref(), Some(commit.as_str()));
    }
}

#[test]
fn recreates_only_the_service_whose_mounted_file_changed() {
    let world = World::new();
    let port = world.serve("one");
    let compose = world.path("web", "compose.yml");
    let clock = "  clock: { image: 'evenkeel-test/busybox:1', init: true, command: [sleep, '100000'] }\n";
    world.change("Add a clock").file(&compose, fixture::web(1, port) + clock).push();
    world.once().exits(0);
    let (app, clock) = (world.container("web", "app"), world.container("web", "clock"));
    world.change("Change the page").file(&world.path("web", "index.html"), "two\n").push();
    world.once().exits(0);
    assert_ne!(world.container("web", "app").id(), app.id(), "the service that mounts the file should be new");
    assert_eq!(world.container("web", "clock").id(), clock.id(), "the other service should not be touched");
    assert_eq!(http::text(&page_at(port)), Ok("two".to_owned()));
}

#[test]
fn touches_nothing_when_nothing_changed() {
    let world = World::new();
    world.serve("one");
    let before = world.container("web", "app");
    world.once().exits(0);
    world.change("Only a word").file("README.md", "words\n").push();
    world.once().exits(0);
    let after = world.container("web", "app");
    assert_eq!((after.id(), after.started()), (before.id(), before.started()));
    assert!(world.history().deployments(&world.stack("web")).len() == 1, "{:#?}", world.history());
}

#[test]
fn a_running_agent_deploys_what_is_pushed() {
    let mut world = World::new();
    let port = world.serve("one");
    world.config.source(&world.repository.url(), "300ms");
    world.start_and_wait();
    let commit = world.change("Change the page").file(&world.path("web", "index.html"), "two\n").push();
    let sync = world.wait_sync(&commit, Outcome::Committed);
    assert!(matches!(sync.trigger.as_str(), "poll" | "start"), "{}", sync.trigger);
    assert_eq!(http::text(&page_at(port)), Ok("two".to_owned()));
    let status = world.status();
    assert_eq!((status.agent.running, status.agent.pid), (true, Some(world.pid())));
    assert_eq!((status.source.tip.as_deref(), status.source.accepted.as_deref()), (Some(&*commit), Some(&*commit)));
}

#[test]
fn keeps_untracked_files_and_the_folders_that_hold_them() {
    let world = World::new();
    world.serve("one");
    let notes = world.live(&world.path("web", "data/notes.txt"));
    fs::create_dir_all(notes.parent().unwrap()).unwrap();
    fs::write(&notes, "mine\n").unwrap();
    world.change("Change the page").file(&world.path("web", "index.html"), "two\n").push();
    world.once().exits(0);
    world
        .change("Another stack instead")
        .remove(&world.path("web", ""))
        .file(&world.path("api", "compose.yml"), fixture::sleeper(1))
        .push();
    world.once().exits(0);
    assert_eq!(fs::read_to_string(&notes).unwrap(), "mine\n");
}

#[test]
fn refuses_to_overwrite_an_untracked_file_in_the_way() {
    let world = World::new();
    let port = world.serve("one");
    let file = world.live(&world.path("web", "robots.txt"));
    fs::write(&file, "mine\n").unwrap();
    let compose = fixture::web(1, port).replace("volumes: [", "volumes: ['./robots.txt:/www/robots.txt:ro', ");
    world
        .change("Bring a file of that name")
        .file(&world.path("web", "robots.txt"), "theirs\n")
        .file(&world.path("web", "compose.yml"), compose)
        .push();
    let run = world.once();
    assert_ne!(run.code, Some(0), "{}", run.report());
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine\n");
    let history = world.history();
    let message = history.last().unwrap().deployment(&world.stack("web")).because(Code::FileConflict);
    assert!(message.contains("robots.txt"), "{message}");
    assert_eq!(http::text(&page_at(port)), Ok("one".to_owned()));
}

#[test]
fn takes_down_a_stack_that_is_gone_and_keeps_its_volumes() {
    let world = World::new();
    let data = "services:\n  app:\n    image: evenkeel-test/busybox:1\n    init: true\n    command: [sleep, '100000']\n    volumes: ['data:/data']\nvolumes: { data: {} }\n";
    world
        .change("Two stacks")
        .file(&world.path("db", "compose.yml"), data)
        .file(&world.path("web", "compose.yml"), fixture::sleeper(1))
        .push();
    world.once().exits(0);
    let web = world.container("web", "app").id();
    world.change("No db any more").remove(&world.path("db", "")).push();
    world.once().exits(0);
    assert!(world.containers("db").is_empty(), "{:?}", world.containers("db"));
    assert!(docker(&["volume", "ls", "-q"]).contains(&format!("{}_data", world.stack("db"))), "its volume must stay");
    assert_eq!(world.container("web", "app").id(), web);
    let history = world.history();
    let removal = history.last().unwrap().deployment(&world.stack("db")).ended(Outcome::Committed);
    assert_eq!(removal.to, None);
}

#[test]
fn takes_down_nothing_when_more_stacks_are_gone_than_the_guard_lets_go() {
    let world = World::new();
    let mut change = world.change("Three stacks");
    for stack in ["a", "b", "c"] {
        change = change.file(&world.path(stack, "compose.yml"), fixture::sleeper(1));
    }
    change.push();
    world.once().exits(0);
    world.change("Oops").remove(&world.path("a", "")).remove(&world.path("b", "")).push();
    let run = world.once();
    assert_ne!(run.code, Some(0), "{}", run.report());
    for stack in ["a", "b", "c"] {
        assert_eq!(world.container(stack, "app").state(), "running");
    }
    let history = world.history();
    history.last().unwrap().deployment(&world.stack("a")).because(Code::PruneGuard);
}

#[test]
fn gives_services_the_variables_of_the_server_and_follows_their_change() {
    let mut world = World::new();
    let compose = fixture::sleeper(1) + "    environment: { GREETING: '${GREETING:?}', NAME: '${NAME}' }\n";
    world.config.put("env/_server.env", "GREETING=hello\nNAME=server\n");
    world.config.put(&format!("env/{}.env", world.stack("web")), "NAME=web\n");
    world.change("Greet").file(&world.path("web", "compose.yml"), compose).push();
    world.once().exits(0);
    let before = world.container("web", "app");
    assert_eq!(before.variable("GREETING").as_deref(), Some("hello"));
    assert_eq!(before.variable("NAME").as_deref(), Some("web"), "the stack's own file is the higher one");
    world.start_and_wait();
    world.config.put("env/_server.env", "GREETING=good morning\nNAME=server\n");
    world.wait_container("web", "app", "has the new greeting", |c| {
        c.variable("GREETING").as_deref() == Some("good morning") && c.state() == "running"
    });
}

#[test]
fn accepts_a_service_that_ends_well_and_does_not_run_it_again() {
    let world = World::new();
    let migrate = "  migrate:
    image: evenkeel-test/busybox:1
    command: [sh, -c, 'echo run >> /data/runs']
    restart: 'no'
    volumes: ['data:/data']
volumes: { data: {} }
";
    let compose = format!(
        "{}    depends_on: {{ migrate: {{ condition: service_completed_successfully }} }}\n{migrate}",
        fixture::sleeper(1)
    );
    world.change("Migrate once").file(&world.path("db", "compose.yml"), &compose).push();
    world.once().exits(0);
    let migrated = world.container("db", "migrate");
    assert_eq!(migrated.state(), "exited");
    world
        .change("Change the app")
        .file(&world.path("db", "compose.yml"), compose.replacen("100000", "100001", 1))
        .push();
    world.once().exits(0);
    let volume = format!("{}_data:/data", world.stack("db"));
    let runs = docker(&["run", "--rm", "--volume", &volume, "evenkeel-test/busybox:1", "cat", "/data/runs"]);
    assert_eq!(runs, "run", "the migration should have run once");
}

#[test]
fn builds_an_image_from_the_repository_and_builds_again_when_a_file_of_it_changes() {
    let world = World::new();
    let compose = "services:\n  app:\n    build: .\n    init: true\n    command: [sleep, '100000']\n";
    world
        .change("Build")
        .file(&world.path("app", "compose.yml"), compose)
        .file(&world.path("app", "Dockerfile"), "FROM evenkeel-test/busybox:1\nCOPY version /version\n")
        .file(&world.path("app", "version"), "1\n")
        .push();
    world.once().exits(0);
    let version = |world: &World| docker(&["exec", &world.container("app", "app").id(), "cat", "/version"]);
    assert_eq!(version(&world), "1");
    world.change("Next version").file(&world.path("app", "version"), "2\n").push();
    world.once().exits(0);
    assert_eq!(version(&world), "2");
}

#[test]
fn makes_an_external_network_that_nobody_made() {
    let world = World::new();
    let network = world.stack("proxy-net");
    let compose = format!(
        "{}    networks: [proxy]\nnetworks: {{ proxy: {{ external: true, name: {network} }} }}\n",
        fixture::sleeper(1)
    );
    world.change("Join the proxy's network").file(&world.path("web", "compose.yml"), compose).push();
    world.once().exits(0);
    assert_eq!(world.container("web", "app").state(), "running");
    assert!(docker(&["network", "ls", "--format", "{{.Name}}"]).lines().any(|n| n == network));
}

#[test]
fn changes_nothing_while_it_only_observes() {
    let mut world = World::new();
    world.config.set("observe", "true");
    world.change("A stack").file(&world.path("web", "compose.yml"), fixture::sleeper(1)).push();
    world.once();
    assert!(world.containers("web").is_empty());
    assert!(!world.live(&world.path("web", "compose.yml")).exists());
    world.config.unset("observe");
    world.once().exits(0);
    assert_eq!(world.container("web", "app").state(), "running");
}

#[test]
fn fetches_over_http_with_credentials() {
    let mut world = World::new();
    // "git:the-token-of-the-forge"
    let basic = "Basic Z2l0OnRoZS10b2tlbi1vZi10aGUtZm9yZ2U=";
    let server = GitHttp::start_private(world.folder().to_path_buf(), basic);
    let token = world.config.put("token", "the-token-of-the-forge\n");
    let source = format!(
        "{{ url: \"{}\", interval: 1h, auth: {{ token_file: {} }} }}",
        server.url("infra.git"),
        token.display()
    );
    world.config.set("source", &source);
    let commit = world.change("A stack").file(&world.path("web", "compose.yml"), fixture::sleeper(1)).push();
    world.once().exits(0);
    assert_eq!(world.status().source.accepted, Some(commit));
    assert!(!world.logged().contains("the-token-of-the-forge"));
}

#[test]
fn keeps_the_images_of_kept_releases_from_being_pruned() {
    let world = World::new();
    let label = format!("of={}", world.prefix());
    let make = |version: &str| {
        let tag = format!("{}/app:{version}", world.prefix());
        let context = world.config.put("Dockerfile", &format!("FROM evenkeel-test/busybox:{version}\nLABEL {label}\n"));
        docker(&["build", "--quiet", "--tag", &tag, &context.parent().unwrap().to_string_lossy()]);
        tag
    };
    world.config.put(".dockerignore", "*\n");
    let (one, two) = (make("1"), make("2"));
    let compose = |tag: &str| fixture::sleeper(1).replace("evenkeel-test/busybox:1", tag);
    world.change("One").file(&world.path("web", "compose.yml"), compose(&one)).push();
    world.once().exits(0);
    let first = world.container("web", "app").image();
    world.change("Two").file(&world.path("web", "compose.yml"), compose(&two)).push();
    world.once().exits(0);
    assert_ne!(world.container("web", "app").image(), first);
    // As when a tag has moved on: nobody's name stands for the former image any more.
    docker(&["image", "rm", &one]);
    docker(&["image", "prune", "--force", "--filter", &format!("label={label}")]);
    assert_eq!(image_id(&first), Some(first), "the former release's image must survive a prune");
}

#[test]
fn takes_a_changed_configuration_and_keeps_the_old_one_while_the_new_is_invalid() {
    let mut world = World::new();
    let port = world.serve("one");
    world.start_and_wait();
    world
        .config
        .put("agent.yml", &format!("{}sauce: 1\n", world.config.text().replace("interval: 1h", "interval: 300ms")));
    wait_until(PATIENCE, "the agent tells of the unknown key", || {
        let log = world.logged();
        if log.contains("sauce") { Ok(()) } else { Err(log) }
    });
    let commit = world.change("Change the page").file(&world.path("web", "index.html"), "two\n").push();
    stays(seconds(2), "the invalid file has no effect", || match http::text(&page_at(port)) {
        Ok(page) if page == "one" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    world.config.source(&world.repository.url(), "300ms");
    world.config.write();
    world.wait_sync(&commit, Outcome::Committed);
    assert_eq!(http::text(&page_at(port)), Ok("two".to_owned()));
}

#[test]
fn leaves_other_projects_on_the_engine_alone() {
    let world = World::new();
    let file = world.folder().join("other.yml");
    fs::write(&file, fixture::sleeper(1)).unwrap();
    let project = world.stack("other");
    let up = ["compose", "-p", &project, "-f", &file.to_string_lossy(), "up", "--detach"];
    docker(&up);
    let other = world.container("other", "app").id();
    world.serve("one");
    world
        .change("Another stack instead")
        .remove(&world.path("web", ""))
        .file(&world.path("api", "compose.yml"), fixture::sleeper(1))
        .push();
    world.once().exits(0);
    assert!(world.containers("web").is_empty());
    let after = world.container("other", "app");
    assert_eq!((after.id(), after.state()), (other, "running".to_owned()));
}
