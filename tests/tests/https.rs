//! Repositories behind TLS and proxies: with a token, with a private CA, and with neither.

use std::path::PathBuf;

use evenkeel_core::reason::Code;
use evenkeel_tests::{
    certificate::{self, Certificate},
    fixture, port,
    program::Run,
    receivers::{git_http::GitHttp, proxy::Proxy, wire::Wire},
    world::World,
};
use serde_json::json;

const TOKEN: &str = "s3cr3t-token";
/// `git:s3cr3t-token` in base64.
const OPENS: &str = "Basic Z2l0OnMzY3IzdC10b2tlbg==";

/// A world whose repository is private and behind TLS, with a certificate that nobody else's CA has signed.
struct OverTls {
    world: World,
    server: GitHttp,
    tls: Wire,
    ca: PathBuf,
}

impl OverTls {
    /// The configuration has all that is needed. A commit with a stack is there.
    fn new() -> Self {
        let world = World::new();
        let server = GitHttp::start_private(world.folder().to_path_buf(), OPENS);
        let certificate = Certificate::make(&world.folder().join("ca"));
        let tls = Wire::tls_to(server.port(), &certificate);
        world.config.put("token", &format!("{TOKEN}\n"));
        world.change("A stack").file(&world.path("web", "compose.yml"), fixture::sleeper(1)).push();
        let mut this = Self { world, server, tls, ca: certificate.ca };
        this.configure("127.0.0.1", true);
        this
    }

    fn configure(&mut self, host: &str, with_ca: bool) {
        let source = json!({
            "url": format!("https://{host}:{}/infra.git", self.tls.port()),
            "interval": "1h",
            "timeout": "20s",
            "ca_file": with_ca.then_some(&self.ca),
            "auth": { "token_file": self.world.server().join("token") },
        });
        self.world.config.set("source", &source.to_string());
    }

    /// One sync with these variables in the agent's environment.
    #[track_caller]
    fn once_with(&self, environment: &[(&str, &str)]) -> Run {
        self.world.config.write();
        let mut command = self.world.command(&["agent", "--once", "--config"]);
        command.arg(self.world.config.file()).envs(environment.iter().copied());
        Run::of(&mut command)
    }

    #[track_caller]
    fn is_deployed(&self) {
        assert_eq!(self.world.container("web", "app").state(), "running");
    }
}

#[track_caller]
fn fails(run: &Run, code: i32, reason: Code, words: &[&str]) {
    run.exits(code);
    for word in words.iter().chain(&[reason.as_str()]) {
        assert!(run.said().contains(word), "it should say {word:?}:\n{}", run.report());
    }
}

#[test]
fn follows_a_repository_over_https_with_a_token_and_a_private_ca() {
    let over = OverTls::new();
    over.once_with(&[]).exits(0);
    over.is_deployed();
    let tip = over.world.change("Another").file("README.md", "new\n").push();
    over.once_with(&[]).exits(0);
    assert_eq!(over.world.status().source.accepted, Some(tip));
    assert!(!over.world.logged().contains(TOKEN));
}

#[test]
fn a_certificate_of_an_unknown_ca_is_refused_before_the_token_is_sent() {
    let mut over = OverTls::new();
    over.configure("127.0.0.1", false);
    fails(&over.once_with(&[]), 1, Code::SourceUntrusted, &["source.ca_file", "UnknownIssuer"]);
    assert_eq!(over.server.requests(), [""; 0]);
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let mut over = OverTls::new();
    over.configure("localhost", true);
    fails(&over.once_with(&[]), 1, Code::SourceUntrusted, &["localhost"]);
    assert_eq!(over.server.requests(), [""; 0]);
}

#[test]
fn a_token_that_is_not_accepted_is_told_and_not_repeated() {
    let over = OverTls::new();
    over.world.config.put("token", "hunter2\n");
    let run = over.once_with(&[]);
    fails(&run, 1, Code::SourceDenied, &["source.auth"]);
    assert!(!run.said().contains("hunter2"), "{}", run.report());
    // A renewed one counts at once.
    over.world.config.put("token", TOKEN);
    over.once_with(&[]).exits(0);
}

#[test]
fn a_proxy_of_the_environment_is_used_and_never_sees_the_token() {
    let mut over = OverTls::new();
    over.configure(certificate::NAME, true);
    // Without it nobody knows the name.
    fails(&over.once_with(&[]), 7, Code::SourceUnreachable, &[certificate::NAME]);
    let proxy = Proxy::to(over.tls.port());
    over.once_with(&[("https_proxy", &proxy.url())]).exits(0);
    over.is_deployed();
    let asked = proxy.asked();
    assert!(!asked.is_empty());
    for head in asked {
        assert!(head.starts_with(&format!("CONNECT {}:{}", certificate::NAME, over.tls.port())), "{head}");
        assert!(!head.contains("Z2l0"), "{head}");
    }
}

#[test]
fn no_proxy_goes_past_the_proxy() {
    let over = OverTls::new();
    let nobody = format!("http://127.0.0.1:{}", port::free());
    fails(&over.once_with(&[("https_proxy", &nobody)]), 7, Code::SourceUnreachable, &[]);
    over.once_with(&[("https_proxy", &nobody), ("no_proxy", "example.org,127.0.0.1")]).exits(0);
    over.is_deployed();
}

#[test]
fn plain_http_goes_through_its_own_proxy() {
    let mut world = World::new();
    let server = GitHttp::start(world.folder().to_path_buf());
    let proxy = Proxy::to(server.port());
    world.config.source(&format!("http://{}/infra.git", certificate::NAME), "1h");
    world.change("A stack").file(&world.path("web", "compose.yml"), fixture::sleeper(1)).push();
    world.config.write();
    let mut command = world.command(&["agent", "--once", "--config"]);
    Run::of(command.arg(world.config.file()).env("http_proxy", proxy.url())).exits(0);
    let asked = proxy.asked();
    let first = format!("GET http://{}/infra.git/info/refs", certificate::NAME);
    assert!(asked.first().is_some_and(|head| head.starts_with(&first)), "{asked:?}");
}
