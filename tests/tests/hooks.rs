//! The forge's webhook wakes the agent, and does nothing else.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{io::Write as _, net::TcpStream};

use evenkeel_core::outcome::Outcome;
use evenkeel_tests::{
    fixture,
    http::{self, Response},
    port,
    receivers::webhook::github_signature,
    wait::{seconds, stays},
    world::World,
};
use serde_json::{Value, json};

const SECRET: &str = "the secret that the forge knows";

struct Hooked {
    world: World,
    address: String,
}

impl Hooked {
    /// An agent that polls once an hour and has done its first poll.
    fn new() -> Self {
        let mut world = World::new();
        let address = format!("127.0.0.1:{}", port::free());
        let secret = world.config.put("hook-secret", &format!("{SECRET}\n"));
        world.config.set("listen", &format!("{{ hooks: '{address}', hook_secret_file: {} }}", secret.display()));
        let commit = world.change("Begin").file(&world.path("web", "compose.yml"), fixture::sleeper(1)).push();
        world.start_and_wait();
        world.wait_sync(&commit, Outcome::Committed);
        Self { world, address }
    }

    fn url(&self) -> String {
        format!("http://{}/hooks/github", self.address)
    }

    fn post(&self, event: &str, signature: Option<&str>, body: &[u8]) -> Response {
        let mut headers =
            vec![("Content-Type", "application/json"), ("X-GitHub-Event", event), ("X-GitHub-Delivery", "d-1")];
        headers.extend(signature.map(|s| ("X-Hub-Signature-256", s)));
        http::request("POST", &self.url(), &headers, body).unwrap()
    }

    fn signed(&self, event: &str, body: &Value) -> Response {
        let body = body.to_string();
        self.post(event, Some(&github_signature(SECRET.as_bytes(), body.as_bytes())), body.as_bytes())
    }

    fn syncs(&self) -> usize {
        self.world.history().syncs.len()
    }
}

fn push(branch: &str) -> Value {
    json!({ "ref": format!("refs/heads/{branch}"), "before": "0".repeat(40), "after": "f".repeat(40), "repository": { "clone_url": "https://evil.example/x.git" } })
}

#[test]
fn an_authentic_push_wakes_the_agent_and_its_payload_decides_nothing() {
    let hooked = Hooked::new();
    let world = &hooked.world;
    let commit = world.change("Next").file(&world.path("web", "compose.yml"), fixture::sleeper(2)).push();
    assert_eq!(hooked.signed("push", &push("main")).status, 202);
    let sync = world.wait_sync(&commit, Outcome::Committed);
    assert_eq!(sync.trigger, "webhook");
    assert!(
        world.history().syncs.iter().all(|s| s.commit.as_deref() != Some(&"f".repeat(40))),
        "the payload's commit is nobody's"
    );
}

#[test]
fn everything_else_is_turned_away_and_wakes_nothing() {
    let hooked = Hooked::new();
    let world = &hooked.world;
    world.change("Next").file(&world.path("web", "compose.yml"), fixture::sleeper(2)).push();
    let (before, body) = (hooked.syncs(), push("main").to_string());
    let other_secret = github_signature(b"guess", body.as_bytes());
    let of_other_body = github_signature(SECRET.as_bytes(), b"{}");
    let sha1 = "sha1=0123456789abcdef0123456789abcdef01234567";
    assert_eq!(hooked.post("push", None, body.as_bytes()).status, 401);
    for bad in [other_secret.as_str(), of_other_body.as_str(), sha1, "sha256=", "sha256=zz", ""] {
        assert_eq!(hooked.post("push", Some(bad), body.as_bytes()).status, 401, "{bad:?}");
    }
    assert_eq!(hooked.signed("ping", &json!({ "zen": "x" })).status, 204);
    assert_eq!(hooked.signed("issues", &json!({ "action": "opened" })).status, 204);
    assert_eq!(hooked.signed("push", &push("other")).status, 204);
    let garbage = b"this is no JSON";
    let status = hooked.post("push", Some(&github_signature(SECRET.as_bytes(), garbage)), garbage).status;
    assert!(matches!(status, 204 | 400), "{status}");
    assert_eq!(http::get(&hooked.url()).unwrap().status, 405);
    for path in ["/", "/metrics", "/healthz", "/api/status", "/hooks/other"] {
        assert_eq!(http::get(&format!("http://{}{path}", hooked.address)).unwrap().status, 404, "{path}");
    }
    stays(seconds(2), "no sync begins", || {
        if hooked.syncs() == before { Ok(()) } else { Err(format!("{:#?}", world.history())) }
    });
}

#[test]
fn a_body_beyond_one_mebibyte_is_refused_before_it_is_read() {
    let hooked = Hooked::new();
    let body = vec![b' '; 10 * 1024 * 1024];
    let signature = github_signature(SECRET.as_bytes(), &body);
    assert_eq!(hooked.post("push", Some(&signature), &body).status, 413);
    assert_eq!(hooked.post("push", None, &body).status, 413);
    assert_eq!(hooked.signed("ping", &json!({})).status, 204, "it goes on listening");
}

#[test]
fn half_a_request_blocks_nobody() {
    let hooked = Hooked::new();
    let open = || {
        let mut stream = TcpStream::connect(&hooked.address).unwrap();
        stream.write_all(b"POST /hooks/github HTTP/1.1\r\nHost: x\r\nContent-Le").unwrap();
        stream
    };
    let held: Vec<TcpStream> = (0..50).map(|_| open()).collect();
    assert_eq!(hooked.signed("ping", &json!({})).status, 204);
    drop(held);
}

#[test]
fn many_pushes_at_once_end_in_the_newest_commit() {
    let hooked = Hooked::new();
    let world = &hooked.world;
    let mut commit = String::new();
    for n in 0..5 {
        commit = world.change(&format!("Push {n}")).file("README.md", format!("{n}\n")).push();
        assert_eq!(hooked.signed("push", &push("main")).status, 202);
    }
    world.wait_sync(&commit, Outcome::Unchanged);
}

#[test]
fn the_secret_is_in_no_log() {
    let hooked = Hooked::new();
    hooked.post("push", Some("sha256=00"), b"{}");
    assert!(!hooked.world.logged().contains(SECRET));
}
