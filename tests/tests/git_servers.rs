//! Ordinary troubles of Git servers: a running agent lives on, says so once, and follows when the server is well again.

use std::{
    fs,
    time::{Duration, Instant},
};

use evenkeel_core::{outcome::Outcome, reason::Code};
use evenkeel_tests::{
    agent,
    docker::Container,
    fixture, http,
    receivers::{
        git_http::{GitHttp, Mood},
        sshd::Sshd,
        webhook::Webhook,
        wire::{Flow, Wire},
    },
    wait::{PATIENCE, seconds, stays, wait_until},
    world::{World, page_at},
};
use serde_json::json;

/// `git:s3cr3t-token` in base64.
const OPENS: &str = "Basic Z2l0OnMzY3IzdC10b2tlbg==";

/// A server with a page that runs, an agent that looks often, and a way to its repository that can be troubled.
struct Troubled {
    world: World,
    wire: Wire,
    port: u16,
    before: Container,
}

impl Troubled {
    /// `source` makes the block of `agent.yml` from the way's port.
    #[track_caller]
    fn new(mut world: World, wire: Wire, source: impl FnOnce(&mut World, u16) -> serde_json::Value) -> Self {
        let mut source = source(&mut world, wire.port());
        source["interval"] = json!("300ms");
        source["timeout"] = json!("5s");
        world.config.set("source", &source.to_string());
        let port = world.serve("good");
        world.start_and_wait();
        let before = world.container("web", "app");
        Self { world, wire, port, before }
    }

    /// Over HTTP, with a token.
    #[track_caller]
    fn over_http() -> (Self, GitHttp) {
        let world = World::new();
        let server = GitHttp::start_private(world.folder().to_path_buf(), OPENS);
        let wire = Wire::to(server.port());
        let troubled = Self::new(world, wire, |world, port| {
            let token = world.config.put("token", "s3cr3t-token\n");
            json!({ "url": format!("http://127.0.0.1:{port}/infra.git"), "auth": { "token_file": token } })
        });
        (troubled, server)
    }

    /// Over SSH.
    #[track_caller]
    fn over_ssh() -> (Self, Sshd) {
        let world = World::new();
        let sshd = Sshd::start(world.folder());
        let wire = Wire::to(sshd.port());
        let troubled = Self::new(world, wire, |world, port| {
            let pinned = format!("[127.0.0.1]:{port} {}", sshd.host_key.public());
            let known_hosts = world.config.put("known_hosts", &format!("{pinned}\n"));
            let url = sshd.url(&world.repository.bare).replace(&sshd.port().to_string(), &port.to_string());
            json!({ "url": url, "auth": { "ssh_key": sshd.deploy_key.file, "known_hosts": known_hosts } })
        });
        (troubled, sshd)
    }

    /// A commit that is larger than any buffer on the way, and changes the page.
    #[track_caller]
    fn push(&self) -> String {
        let page = self.world.path("web", "index.html");
        self.world.change("Change the page").file(&page, "new\n").file("large", fixture::noise(400_000)).push()
    }

    /// Waits until the agent has said that it cannot have the repository, and sees that it says so once and leaves the
    /// page alone, though it goes on looking.
    #[track_caller]
    fn lives_on(&self, code: Code) -> String {
        let mark = format!("code={}", code.as_str());
        let told = || agent::tail(&self.world.log(), usize::MAX);
        wait_until(PATIENCE, "the agent tells of the trouble", || {
            if told().contains(&mark) { Ok(()) } else { Err(agent::tail(&self.world.log(), 5)) }
        });
        stays(seconds(4), "it is told once, and the page is as it was", || {
            let lines = told().lines().filter(|l| l.contains(" WARN ") && l.contains("/infra.git")).count();
            let now = self.world.container("web", "app");
            let is_as_before = (now.id(), now.started()) == (self.before.id(), self.before.started());
            if lines == 1 && is_as_before { Ok(()) } else { Err(format!("{lines} lines:\n{}", told())) }
        });
        assert_eq!(http::text(&page_at(self.port)), Ok("good".to_owned()));
        told().lines().find(|l| l.contains(&mark)).unwrap_or_default().to_owned()
    }

    /// The server is well again: the agent follows by itself.
    #[track_caller]
    fn follows(&self, commit: &str) {
        self.world.wait_sync(commit, Outcome::Committed);
        assert_eq!(http::text(&page_at(self.port)), Ok("new".to_owned()));
    }
}

#[test]
fn outlives_a_server_that_drips_a_byte_a_second() {
    let (troubled, _server) = Troubled::over_http();
    troubled.wire.set(Flow::Drip);
    let commit = troubled.push();
    troubled.lives_on(Code::SourceUnreachable);
    troubled.wire.set(Flow::Whole);
    troubled.follows(&commit);
}

#[test]
fn outlives_a_server_with_an_error_of_its_own() {
    let (troubled, server) = Troubled::over_http();
    server.set(Mood::Failing);
    let commit = troubled.push();
    let line = troubled.lives_on(Code::SourceUnreachable);
    assert!(line.contains("500"), "{line}");
    server.set(Mood::Well);
    troubled.follows(&commit);
}

#[test]
fn a_server_that_redirects_to_another_host_gets_nowhere_and_no_token_gets_there() {
    let (troubled, server) = Troubled::over_http();
    let thief = GitHttp::start_private(troubled.world.folder().to_path_buf(), OPENS);
    server.set(Mood::Elsewhere(thief.url("").trim_end_matches('/').to_owned()));
    let commit = troubled.push();
    let line = troubled.lives_on(Code::SourceDenied);
    assert!(line.contains("another address"), "{line}");
    assert_eq!(thief.credentials(), [""; 0]);
    assert_eq!(thief.requests(), [""; 0]);
    server.set(Mood::Well);
    troubled.follows(&commit);
}

#[test]
fn outlives_a_web_page_in_the_repositorys_place() {
    let (troubled, server) = Troubled::over_http();
    server.set(Mood::Babbling);
    let commit = troubled.push();
    let line = troubled.lives_on(Code::SourceInvalid);
    assert!(line.contains("a web page"), "{line}");
    server.set(Mood::Well);
    troubled.follows(&commit);
}

#[test]
fn outlives_an_http_connection_that_breaks_in_the_middle_of_a_pack() {
    let (troubled, _server) = Troubled::over_http();
    troubled.wire.set(Flow::CutAfter(150_000));
    let commit = troubled.push();
    let line = troubled.lives_on(Code::SourceUnreachable);
    assert!(line.contains("the connection broke"), "{line}");
    troubled.wire.set(Flow::Whole);
    troubled.follows(&commit);
}

#[test]
fn outlives_an_ssh_connection_that_breaks_in_the_middle_of_a_pack() {
    let (troubled, _sshd) = Troubled::over_ssh();
    troubled.wire.set(Flow::CutAfter(150_000));
    let commit = troubled.push();
    let line = troubled.lives_on(Code::SourceUnreachable);
    assert!(line.contains("the connection broke"), "{line}");
    troubled.wire.set(Flow::Whole);
    troubled.follows(&commit);
}

#[test]
fn a_network_that_is_away_for_long_is_asked_less_and_less_and_costs_nothing_but_time() {
    let world = World::new();
    let server = GitHttp::start_private(world.folder().to_path_buf(), OPENS);
    let wire = Wire::to(server.port());
    let webhook = Webhook::start("the-key");
    let sink = webhook.sink(&world.config);
    let troubled = Troubled::new(world, wire, |world, port| {
        let token = world.config.put("token", "s3cr3t-token\n");
        world.report_to(&[sink]);
        json!({ "url": format!("http://127.0.0.1:{port}/infra.git"), "auth": { "token_file": token } })
    });
    let told = webhook.wait_taken(1).len();
    troubled.wire.set(Flow::Refused);
    let commit = troubled.push();
    troubled.lives_on(Code::SourceUnreachable);
    let refused = || troubled.wire.refused();
    wait_until(PATIENCE, "it has looked some times in vain", || {
        if refused().len() >= 5 { Ok(()) } else { Err(format!("{} times", refused().len())) }
    });
    let looks = refused();
    // 300 ms, doubled each time: four failures make it 4.8 s, less the 5 % that chance may take.
    let last = looks[4] - looks[3];
    assert!(last > seconds(4), "the fifth look came {last:?} after the fourth, of {looks:?}");
    // A poll in vain is no news to anybody.
    assert_eq!(webhook.deliveries().len(), told);
    let status = troubled.world.evenkeel(&["status"]).stdout;
    assert!(status.contains("cannot reach"), "{status}");
    troubled.wire.set(Flow::Whole);
    troubled.follows(&commit);
    assert_eq!(webhook.wait_taken(told + 1).len(), told + 1);
}

/// What a deployment of a small stack may take besides, and what a loaded machine adds.
const REASONABLE: Duration = seconds(45);

#[test]
fn follows_a_commit_of_five_thousand_files() {
    let world = World::new();
    let port = world.serve("good");
    let folder = world.repository.work.join(world.path("web", "data"));
    for at in 0..5_000 {
        let file = folder.join(format!("{:02}/file-{at}.txt", at % 100));
        fs::create_dir_all(file.parent().expect("it has a folder"))
            .and_then(|()| fs::write(&file, format!("{at}\n")))
            .expect("the world's folder is writable");
    }
    let compose = fixture::web(1, port).replace("volumes: [", "volumes: ['./data:/data:ro', ");
    world.change("Many files").file(&world.path("web", "compose.yml"), compose).push();
    let begun = Instant::now();
    world.once().exits(0);
    let took = begun.elapsed();
    eprintln!("5,000 files: {took:?}");
    assert!(took < REASONABLE, "{took:?}");
    let last = world.live(&world.path("web", "data/99/file-4999.txt"));
    assert_eq!(fs::read_to_string(last).ok().as_deref(), Some("4999\n"));

    // The next commit does not pay for them again.
    world.change("One of them").file(&world.path("web", "data/07/file-7.txt"), "seven\n").push();
    let begun = Instant::now();
    world.once().exits(0);
    eprintln!("one of them: {:?}", begun.elapsed());
    let changed = world.live(&world.path("web", "data/07/file-7.txt"));
    assert_eq!(fs::read_to_string(changed).ok().as_deref(), Some("seven\n"));
}
