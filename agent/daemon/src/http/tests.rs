//! Over real connections.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

use super::*;
use crate::{
    config,
    report::{Client, client},
    trigger::{CurrentConfig, Slot, Trigger, Work, slot},
};

const SOON: Duration = Duration::from_secs(5);
const PUSH: &str = r#"{"ref":"refs/heads/main","after":"whatever"}"#;

struct World {
    address: SocketAddr,
    slot: Slot<(), ()>,
    client: Client,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
    secret: PathBuf,
    _current: watch::Sender<CurrentConfig>,
    _folder: TempDir,
}

impl World {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["secret", "allowed_signers"] {
            fs::write(at(name), "hunter2\n").unwrap();
            fs::set_permissions(at(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        let text = format!(
            "server: a\nsource: {{ url: 'file:///r' }}\ntrust: {{ allowed_signers: {} }}\nlisten: {{ hooks: '127.0.0.1:0', hook_secret_file: {} }}\n",
            at("allowed_signers").display(),
            at("secret").display(),
        );
        fs::write(at("agent.yml"), text).unwrap();
        let settings = Arc::new(config::load(&at("agent.yml")).unwrap());
        let (sender, current) = watch::channel(CurrentConfig { settings, rejected: None });
        let (waker, slot) = slot();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move { drop(stopped.await) };
        let server = tokio::spawn(serve_hooks(listener, HookState::new(current, waker), shutdown));
        let secret = at("secret");
        Self {
            address,
            slot,
            client: client().unwrap(),
            stop: Some(stop),
            server,
            secret,
            _current: sender,
            _folder: folder,
        }
    }

    /// Posts `body` with these headers and gives the status.
    async fn post(&self, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> u16 {
        let request = self.client.post(format!("http://{}/hooks/github", self.address)).body(body);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.send().await.unwrap().status().as_u16()
    }

    async fn signed(&self, event: &str, body: &str) -> u16 {
        self.post(&[("x-github-event", event), ("x-hub-signature-256", &sign(body))], body.to_owned()).await
    }

    async fn woken(&mut self) -> bool {
        timeout(Duration::from_millis(50), self.slot.next())
            .await
            .is_ok_and(|t| t == Work::Sync(BTreeSet::from([Trigger::Webhook])))
    }
}

fn sign(body: &str) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(b"hunter2").unwrap().chain_update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

#[tokio::test]
async fn an_authentic_push_to_the_tracked_branch_wakes_a_sync() {
    let mut world = World::start().await;
    assert_eq!(world.signed("push", PUSH).await, 202);
    assert!(world.woken().await);
    let gitea = [("x-gitea-event", "push"), ("x-hub-signature-256", &sign(PUSH))];
    assert_eq!(world.post(&gitea, PUSH).await, 202);
    assert!(world.woken().await);
}

#[tokio::test]
async fn other_branches_tags_and_events_wake_nobody() {
    let mut world = World::start().await;
    for (event, body) in [
        ("push", r#"{"ref":"refs/heads/other"}"#),
        ("push", r#"{"ref":"refs/tags/main"}"#),
        ("ping", r#"{"zen":"…"}"#),
        ("pull_request", PUSH),
        ("ping", "not even JSON"),
    ] {
        assert_eq!(world.signed(event, body).await, 204, "{event} {body}");
    }
    assert!(!world.woken().await);
}

#[tokio::test]
async fn what_is_not_authentic_is_not_even_parsed() {
    let mut world = World::start().await;
    let good = sign(PUSH);
    let other = sign("{}");
    let sha1 = good.replace("sha256=", "sha1=");
    for signature in ["", "sha256=", "sha256=zz", &other, &sha1, &good[..good.len() - 2], &format!("{good}00")] {
        assert_eq!(world.post(&[("x-github-event", "push"), ("x-hub-signature-256", signature)], PUSH).await, 401);
    }
    assert_eq!(world.post(&[("x-github-event", "push")], PUSH).await, 401);
    assert_eq!(world.post(&[("x-github-event", "push"), ("x-hub-signature-256", &other)], "{").await, 401);
    let twice = [("x-github-event", "push"), ("x-hub-signature-256", &*good), ("x-hub-signature-256", &*good)];
    assert_eq!(world.post(&twice, PUSH).await, 401);
    assert!(!world.woken().await);
}

#[tokio::test]
async fn authentic_nonsense_is_a_bad_request() {
    let mut world = World::start().await;
    for body in ["", "{", "[]", "{}", r#"{"ref":1}"#, "payload=%7B%7D", &"[".repeat(10_000)] {
        assert_eq!(world.signed("push", body).await, 400, "{}", &body[..body.len().min(20)]);
    }
    assert_eq!(world.post(&[("x-hub-signature-256", &sign(PUSH))], PUSH).await, 400);
    assert!(!world.woken().await);
}

#[tokio::test]
async fn a_body_over_one_mebibyte_is_refused_whatever_its_length_says() {
    let mut world = World::start().await;
    assert_eq!(world.signed("push", &"x".repeat(10 * 1024 * 1024)).await, 413);
    let chunks = (0..40).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 64 * 1024]));
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
    assert_eq!(world.post(&[("x-github-event", "push")], body).await, 413);
    let fits = format!("{PUSH}{}", " ".repeat(1024 * 1024 - PUSH.len()));
    assert_eq!(world.signed("push", &fits).await, 202);
    assert!(world.woken().await);
}

#[tokio::test]
async fn there_is_nothing_but_the_hook() {
    let world = World::start().await;
    for (method, path, status) in [
        ("GET", "/hooks/github", 405),
        ("PUT", "/hooks/github", 405),
        ("POST", "/", 404),
        ("POST", "/hooks/github/x", 404),
        ("GET", "/healthz", 404),
    ] {
        let url = format!("http://{}{path}", world.address);
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        assert_eq!(world.client.request(method, url).send().await.unwrap().status().as_u16(), status, "{path}");
    }
}

#[tokio::test]
async fn a_changed_secret_counts_at_once_and_an_unreadable_one_lets_nobody_in() {
    let world = World::start().await;
    fs::write(&world.secret, "another").unwrap();
    assert_eq!(world.signed("push", PUSH).await, 401);
    fs::remove_file(&world.secret).unwrap();
    assert_eq!(world.signed("push", PUSH).await, 503);
}

#[tokio::test]
async fn a_client_that_never_ends_its_head_is_cut_off() {
    let world = World::start().await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(b"POST /hooks/github HTTP/1.1\r\nHost: x\r\n").await.unwrap();
    let begin = Instant::now();
    let mut answer = Vec::new();
    timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.expect("cut off").ok();
    assert!(begin.elapsed() < Duration::from_secs(8));
}

#[tokio::test]
async fn many_idle_connections_keep_nobody_out_for_long() {
    let mut world = World::start().await;
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(TcpStream::connect(world.address).await.unwrap());
    }
    let status = timeout(Duration::from_secs(20), world.signed("push", PUSH)).await.expect("an answer");
    assert_eq!(status, 202);
    assert!(world.woken().await);
}

#[tokio::test]
async fn a_shutdown_ends_the_listener() {
    let mut world = World::start().await;
    drop(world.stop.take());
    timeout(SOON, &mut world.server).await.unwrap().unwrap();
    assert!(TcpStream::connect(world.address).await.is_err());
}
