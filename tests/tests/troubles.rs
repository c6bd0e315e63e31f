//! What goes wrong is told, and what runs goes on running.

use std::{fs, net::TcpListener, os::unix::fs::symlink, time::Instant};

use evenkeel_core::{outcome::Outcome, reason::Code};
use evenkeel_tests::{
    docker, fixture, http, port,
    program::Run,
    receivers::{
        git_http::{GitHttp, Mood},
        registry::Registry,
    },
    repository::Repository,
    wait::seconds,
    world::{World, page_at},
};

/// One sync of a server on which a page runs; it must end with `code`, say `words`, and leave the page as it is.
#[track_caller]
fn goes_on(world: &World, port: u16, code: i32, words: &[&str]) {
    let before = world.container("web", "app");
    let run = world.once();
    run.exits(code);
    for word in words {
        assert!(run.said().contains(word), "it should say {word:?}:\n{}", run.report());
    }
    let after = world.container("web", "app");
    assert_eq!((after.id(), after.started()), (before.id(), before.started()));
    assert!(http::text(&page_at(port)).is_ok());
}

/// A world whose repository is served over HTTP, with a page that runs.
fn over_http() -> (World, GitHttp, u16) {
    let mut world = World::new();
    let server = GitHttp::start(world.folder().to_path_buf());
    world.config.source(&server.url("infra.git"), "1h");
    let port = world.serve("good");
    (world, server, port)
}

// ---------------------------------------------------------------- the repository

#[test]
fn goes_on_while_the_repository_is_down_and_follows_when_it_is_back() {
    let (world, server, port) = over_http();
    server.set(Mood::Down);
    goes_on(&world, port, 7, &[Code::SourceUnreachable.as_str()]);
    server.set(Mood::Well);
    world.change("Change the page").file(&world.path("web", "index.html"), "new\n").push();
    world.once().exits(0);
    assert_eq!(http::text(&page_at(port)), Ok("new".to_owned()));
}

#[test]
fn goes_on_while_nothing_listens_where_the_repository_was() {
    let (mut world, server, port) = over_http();
    drop(server);
    world.config.source(&format!("http://127.0.0.1:{}/infra.git", port::free()), "1h");
    goes_on(&world, port, 7, &[Code::SourceUnreachable.as_str()]);
}

#[test]
fn gives_up_on_a_slow_repository_after_its_timeout() {
    let (mut world, server, port) = over_http();
    world.config.set("source", &format!("{{ url: \"{}\", interval: 1h, timeout: 2s }}", server.url("infra.git")));
    server.set(Mood::Slow(seconds(120)));
    let started = Instant::now();
    goes_on(&world, port, 7, &[Code::SourceUnreachable.as_str()]);
    assert!(started.elapsed() < seconds(12), "{:?}", started.elapsed());
}

#[test]
fn goes_on_when_a_login_page_answers_for_the_repository() {
    let (world, server, port) = over_http();
    server.set(Mood::Babbling);
    let run = world.once();
    assert!(matches!(run.code, Some(1 | 7)), "{}", run.report());
    assert!(http::text(&page_at(port)).is_ok());
    let reason = ["source.invalid", "source.unreachable", "source.denied"];
    assert!(reason.iter().any(|code| run.said().contains(code)), "{}", run.report());
}

#[test]
fn tells_of_credentials_that_the_repository_refuses() {
    let mut world = World::new();
    let server = GitHttp::start_private(world.folder().to_path_buf(), "Basic bm9ib2R5Om5vdGhpbmc=");
    let token = world.config.put("token", "expired-token\n");
    let source = format!(
        "{{ url: \"{}\", interval: 1h, auth: {{ token_file: {} }} }}",
        server.url("infra.git"),
        token.display()
    );
    world.config.set("source", &source);
    world.change("A stack").file(&world.path("web", "compose.yml"), fixture::sleeper(1)).push();
    let run = world.once();
    run.exits(1);
    assert!(
        run.said().contains(Code::SourceDenied.as_str()) && !run.said().contains("expired-token"),
        "{}",
        run.report()
    );
}

#[test]
fn an_empty_repository_is_told_of_and_followed_once_it_has_a_commit() {
    let world = World::new();
    let run = world.once();
    run.exits(1);
    assert!(run.said().contains(Code::SourceNoRef.as_str()), "{}", run.report());
    world.change("The first").file(&world.path("web", "compose.yml"), fixture::sleeper(1)).push();
    world.once().exits(0);
    assert_eq!(world.container("web", "app").state(), "running");
}

#[test]
fn a_branch_that_is_gone_removes_nothing() {
    let world = World::new();
    let port = world.serve("good");
    world.repository.git(&["push", "-q", "origin", "HEAD:refs/heads/other"]);
    // A server's own current branch cannot be pushed away.
    let bare = world.repository.bare.to_string_lossy().into_owned();
    world.repository.git(&["--git-dir", &bare, "update-ref", "-d", "refs/heads/main"]);
    goes_on(&world, port, 1, &[Code::SourceNoRef.as_str(), "refs/heads/main"]);
}

#[test]
fn a_commit_without_any_stack_removes_nothing_beyond_the_guard() {
    let world = World::new();
    let port = world.serve("good");
    world.change("Another").file(&world.path("api", "compose.yml"), fixture::sleeper(1)).push();
    world.once().exits(0);
    world.change("Everything gone").remove("stacks").file("README.md", "empty\n").push();
    let run = world.once();
    assert_ne!(run.code, Some(0), "{}", run.report());
    assert_eq!(http::text(&page_at(port)), Ok("good".to_owned()));
    assert_eq!(world.container("api", "app").state(), "running");
}

// ---------------------------------------------------------------- the stacks

#[test]
fn a_syntax_error_in_one_stack_keeps_no_other_from_being_deployed() {
    let world = World::new();
    let port = world.serve("good");
    let before = world.container("web", "app").id();
    world
        .change("A slip of the finger, and a new stack")
        .file(&world.path("web", "compose.yml"), "services:\n  app:\n   image: [unclosed\n")
        .file(&world.path("api", "compose.yml"), fixture::sleeper(1))
        .push();
    world.once().exits(1);
    assert_eq!(world.container("web", "app").id(), before);
    assert_eq!(http::text(&page_at(port)), Ok("good".to_owned()));
    assert_eq!(world.container("api", "app").state(), "running");
    let history = world.history();
    let message =
        history.last().unwrap().deployment(&world.stack("web")).ended(Outcome::Rejected).because(Code::StackInvalid);
    assert!(message.contains("compose.yml"), "the message should name the file: {message}");
}

#[test]
fn an_unknown_key_of_compose_rejects_the_stack() {
    let world = World::new();
    let port = world.serve("good");
    let compose = world.path("web", "compose.yml");
    world.change("A typing error").replace(&compose, "    command:", "    comand:").push();
    goes_on(&world, port, 1, &["comand"]);
}

#[test]
fn a_variable_that_is_set_nowhere_rejects_the_stack_and_is_named() {
    let world = World::new();
    let port = world.serve("good");
    let compose = fixture::web(1, port) + "    environment: { PASSWORD: '${DB_PASSWORD}' }\n";
    world.change("Use a variable").file(&world.path("web", "compose.yml"), compose).push();
    goes_on(&world, port, 1, &["DB_PASSWORD"]);
    world.last_sync(Outcome::Rejected).deployment(&world.stack("web")).because(Code::EnvUnset);
}

#[test]
fn an_image_that_does_not_exist_stops_before_the_server_is_touched() {
    let world = World::new();
    let registry = Registry::start(world.folder());
    let port = world.serve("good");
    let compose = fixture::web(1, port).replace("evenkeel-test/busybox:1", &registry.image("app:no-such-tag"));
    world.change("A tag that nobody pushed").file(&world.path("web", "compose.yml"), compose).push();
    goes_on(&world, port, 1, &["no-such-tag"]);
    world.last_sync(Outcome::Aborted).deployment(&world.stack("web")).because(Code::ImageMissing);
    let live = fs::read_to_string(world.live(&world.path("web", "compose.yml"))).unwrap();
    assert!(live.contains("evenkeel-test/busybox:1"), "the live file should be the former one:\n{live}");
}

#[test]
fn a_registry_that_is_down_is_tried_again_later() {
    let world = World::new();
    let registry = Registry::start(world.folder());
    registry.publish("evenkeel-test/busybox:2", "app:2");
    let port = world.serve("good");
    let image = registry.image("app:2");
    let compose = fixture::web(1, port).replace("evenkeel-test/busybox:1", &image);
    drop(registry);
    world.change("While the registry is down").file(&world.path("web", "compose.yml"), &compose).push();
    goes_on(&world, port, 7, &[]);
    world.last_sync(Outcome::Aborted).deployment(&world.stack("web")).because(Code::ImagePull);
}

#[test]
fn pulls_an_image_that_only_the_registry_has() {
    let world = World::new();
    let registry = Registry::start(world.folder());
    registry.publish("evenkeel-test/busybox:2", "app:2");
    let compose = fixture::sleeper(1).replace("evenkeel-test/busybox:1", &registry.image("app:2"));
    world.change("From the registry").file(&world.path("web", "compose.yml"), compose).push();
    world.once().exits(0);
    assert_eq!(world.container("web", "app").state(), "running");
    assert_eq!(Some(world.container("web", "app").image()), docker::image_id("evenkeel-test/busybox:2"));
}

#[test]
fn a_port_that_is_taken_brings_the_former_release_back() {
    let world = World::new();
    let port = world.serve("good");
    let taken = TcpListener::bind(("127.0.0.1", port::free())).unwrap();
    let compose = fixture::web(2, taken.local_addr().unwrap().port());
    world.change("Another port").file(&world.path("web", "compose.yml"), compose).push();
    let run = world.once();
    run.exits(5);
    assert_eq!(http::text(&page_at(port)), Ok("good".to_owned()));
    let sync = world.last_sync(Outcome::RolledBack);
    let message = sync.deployment(&world.stack("web")).because(Code::ApplyFailed);
    assert!(
        message.contains(&taken.local_addr().unwrap().port().to_string()),
        "the message should name the port: {message}"
    );
}

#[test]
fn a_file_that_leads_out_of_the_repository_is_refused() {
    let world = World::new();
    let port = world.serve("good");
    let folder = world.repository.work.join(world.path("web", ""));
    symlink("/etc", folder.join("out")).unwrap();
    let compose = fixture::web(1, port).replace("volumes: [", "volumes: ['./out:/out:ro', ");
    world.change("A way out").file(&world.path("web", "compose.yml"), compose).push();
    let run = world.once();
    assert_ne!(run.code, Some(0), "{}", run.report());
    assert!(http::text(&page_at(port)).is_ok());
    assert!(!world.live(&world.path("web", "out")).exists(), "the link must not reach the live tree");
}

// ---------------------------------------------------------------- the server

#[test]
fn an_engine_that_is_away_is_tried_again_later() {
    let mut world = World::new();
    let port = world.serve("good");
    world.config.set("engine", &format!("{{ socket: \"unix://{}/no.sock\" }}", world.folder().display()));
    goes_on(&world, port, 7, &[Code::EngineUnreachable.as_str()]);
}

#[test]
fn without_docker_compose_it_says_what_to_install() {
    let world = World::new();
    world.change("A stack").file(&world.path("web", "compose.yml"), fixture::sleeper(1)).push();
    world.config.write();
    let mut command = world.command(&["agent", "--once", "--config"]);
    let run = Run::of(command.arg(world.config.file()).env("PATH", "/nowhere"));
    run.exits(7);
    assert!(run.said().contains("`docker`") && run.said().contains("Compose"), "{}", run.report());
    assert!(world.containers("web").is_empty());
}

#[test]
fn a_second_agent_on_one_state_folder_refuses_to_start() {
    let mut world = World::new();
    let port = world.serve("good");
    world.start_and_wait();
    let (first, pid) = (world.container("web", "app"), world.pid());
    let run = world.evenkeel(&["agent"]);
    assert!(!matches!(run.code, None | Some(0)), "{}", run.report());
    assert!(run.said().contains("state"), "it should say which folder is in use: {}", run.report());
    let once = world.evenkeel(&["agent", "--once"]);
    assert!(!matches!(once.code, None | Some(0)), "{}", once.report());
    assert_eq!(world.status().agent.pid, Some(pid));
    assert_eq!(world.container("web", "app").id(), first.id());
    assert!(http::text(&page_at(port)).is_ok());
}

#[test]
fn a_repository_of_another_owner_is_no_reason_to_run_its_code() {
    // Git hooks and configuration of the repository must never run on the server.
    let world = World::new();
    let marker = world.folder().join("ran");
    let script = format!("#!/bin/sh\ntouch {}\n", marker.display());
    for hook in ["post-checkout", "post-merge", "reference-transaction", "update"] {
        let file = world.repository.bare.join("hooks").join(hook);
        fs::write(&file, &script).unwrap();
    }
    world.change("A stack").file(&world.path("web", "compose.yml"), fixture::sleeper(1)).push();
    world.once().exits(0);
    assert!(!marker.exists());
}

#[test]
fn another_repository_at_the_same_place_is_refused() {
    let world = World::new();
    let port = world.serve("good");
    let other = Repository::make(&world.folder().join("other"), world.repository.key.clone());
    other.change("Another world").file(&world.path("web", "compose.yml"), fixture::sleeper(1)).push();
    fs::remove_dir_all(&world.repository.bare).unwrap();
    fs::rename(&other.bare, &world.repository.bare).unwrap();
    goes_on(&world, port, 4, &["E-DIVERGED"]);
}
