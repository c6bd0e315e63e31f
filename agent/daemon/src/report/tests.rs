//! Against real HTTP servers on loopback.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, Method, Response, StatusCode, Uri},
};
use evenkeel_core::{
    id::CommitId,
    outcome::Outcome,
    plan::{ServiceChange, ServiceChangeKind, Why as Cause, WhyKind},
    reason::{Code, Reason},
};
use evenkeel_layout::name::{ServerName, StackName};
use hmac::{Hmac, KeyInit as _, Mac as _};
use proptest::prelude::*;
use serde_json::Value;
use sha2::Sha256;
use tempfile::TempDir;

use super::*;
use crate::config::settings::Event;

fn rolled_back() -> Message {
    Message {
        id: "17-webhook-1".to_owned(),
        event: Event::RolledBack,
        server: ServerName::new("home").unwrap(),
        stack: Some(StackName::new("web").unwrap()),
        commit: Some(Commit {
            id: CommitId::new(&"a1".repeat(20)).unwrap(),
            subject: "Update **api** to 2.0, see https://evil.example @everyone".to_owned(),
            author: "Ada <ada@example.org>".to_owned(),
            signer: Some(Signer { principal: "ada".to_owned(), fingerprint: "SHA256:abc".to_owned() }),
        }),
        from: Some(CommitId::new(&"b2".repeat(20)).unwrap()),
        to: Some(CommitId::new(&"b2".repeat(20)).unwrap()),
        outcome: Outcome::RolledBack,
        reason: Some(Why::from(&Reason::new(
            Code::GateUnhealthy,
            "api became unhealthy after 4 s\nlast lines of its log:\n  [ERROR] no `database`\n",
        ))),
        services: vec![ServiceChange {
            service: "api".to_owned(),
            change: ServiceChangeKind::Recreate,
            why: vec![Cause { kind: WhyKind::Image, name: "image".to_owned() }],
        }],
        duration_ms: Some(14_200),
        snapshot: None,
        url: None,
        at: 1_790_000_000,
    }
}

fn deployed() -> Message {
    Message { event: Event::Deployed, outcome: Outcome::Committed, reason: None, ..rolled_back() }
}

/// One request as it arrived.
#[derive(Clone)]
struct Request {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

impl Request {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

type Answer = (StatusCode, &'static [(&'static str, &'static str)], &'static str);

/// A server that keeps what it gets and gives the answers in turn, the last one for ever.
struct Receiver {
    address: String,
    requests: Arc<Mutex<Vec<Request>>>,
    folder: TempDir,
}

impl Receiver {
    async fn start(answers: Vec<Answer>) -> Self {
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let kept = Arc::clone(&requests);
        let app = Router::new().fallback(move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let mut kept = kept.lock().unwrap();
            let (status, answer_headers, text) = answers[kept.len().min(answers.len() - 1)];
            kept.push(Request { method, uri, headers, body });
            let response = Response::builder().status(status);
            let response =
                answer_headers.iter().fold(response, |response, (name, value)| response.header(*name, *value));
            std::future::ready(response.body(text.to_owned()).unwrap())
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, requests, folder: tempfile::tempdir().unwrap() }
    }

    fn secret(&self, content: &str) -> PathBuf {
        let path = self.folder.path().join(hex::encode(content));
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn webhook(&self) -> Sink {
        sink(SinkKind::Webhook { url: format!("{}/hook", self.address), secret_file: self.secret("hunter2\n") })
    }

    fn discord(&self) -> Sink {
        sink(SinkKind::Discord { url_file: self.secret(&format!("{}/api/webhooks/1/hunter2\n", self.address)) })
    }

    fn ntfy(&self) -> Sink {
        let url = format!("{}/alerts", self.address);
        sink(SinkKind::Ntfy { url, token_file: Some(self.secret("tk_hunter2\n")) })
    }

    fn only(&self) -> Request {
        let requests = self.requests.lock().unwrap();
        assert_eq!(requests.len(), 1);
        requests[0].clone()
    }
}

fn sink(kind: SinkKind) -> Sink {
    Sink { name: "sink-1".to_owned(), on: std::collections::BTreeSet::new(), kind }
}

const OK: Answer = (StatusCode::OK, &[], "ok");

async fn send(sink: &Sink, message: &Message) -> Result<(), DeliverError> {
    deliver(&client().unwrap(), sink, message, 1_790_000_100).await
}

#[tokio::test]
async fn a_webhook_is_signed_and_has_exactly_the_documented_body() {
    let receiver = Receiver::start(vec![OK]).await;
    send(&receiver.webhook(), &rolled_back()).await.unwrap();
    let request = receiver.only();
    assert_eq!((request.method.as_str(), request.uri.path()), ("POST", "/hook"));
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!(request.header("evenkeel-event"), "rolled_back");
    assert_eq!(request.header("evenkeel-delivery"), "17-webhook-1");
    assert_eq!(request.header("evenkeel-timestamp"), "1790000100");
    // Checked as a receiver would: from the header's text and the bytes that arrived.
    let mut mac = Hmac::<Sha256>::new_from_slice(b"hunter2").unwrap();
    mac.update(format!("{}.", request.header("evenkeel-timestamp")).as_bytes());
    mac.update(&request.body);
    let signature = hex::decode(request.header("evenkeel-signature").strip_prefix("sha256=").unwrap()).unwrap();
    mac.verify_slice(&signature).unwrap();
    insta::assert_json_snapshot!(request.json());
    // Compared with what `openssl dgst -sha256 -hmac` prints for the same text.
    let known = Hmac::<Sha256>::new_from_slice(b"key").unwrap().chain_update(b"1.{}").finalize().into_bytes();
    assert_eq!(hex::encode(known), KNOWN_HMAC);
}

#[tokio::test]
async fn discord_gets_no_mention_link_or_markup_of_a_commit() {
    let receiver = Receiver::start(vec![(StatusCode::NO_CONTENT, &[], "")]).await;
    send(&receiver.discord(), &rolled_back()).await.unwrap();
    let request = receiver.only();
    assert_eq!(request.uri.path(), "/api/webhooks/1/hunter2");
    let text = String::from_utf8(request.body.to_vec()).unwrap();
    for bad in ["@everyone", "https://", "**", "ada@example"] {
        assert!(!text.contains(bad), "{bad} in {text}");
    }
    insta::assert_json_snapshot!(request.json());
}

#[tokio::test]
async fn ntfy_gets_a_title_a_priority_and_the_token() {
    let receiver = Receiver::start(vec![OK]).await;
    send(&receiver.ntfy(), &rolled_back()).await.unwrap();
    let request = receiver.only();
    assert_eq!((request.method.as_str(), request.uri.path()), ("POST", "/"));
    assert_eq!(request.header("authorization"), "Bearer tk_hunter2");
    insta::assert_json_snapshot!(request.json());
}

#[tokio::test]
async fn a_rate_limit_is_honoured_as_the_receiver_states_it() {
    let discord =
        (StatusCode::TOO_MANY_REQUESTS, &[("retry-after", "9")] as &[_], r#"{"retry_after":1.5,"global":false}"#);
    let receiver = Receiver::start(vec![discord]).await;
    for (sink, after) in [(receiver.discord(), 1500), (receiver.webhook(), 9000)] {
        let Err(DeliverError::Retry { after: told, .. }) = send(&sink, &deployed()).await else { panic!("no retry") };
        assert_eq!(told, Some(Duration::from_millis(after)));
    }
}

#[tokio::test]
async fn a_redirect_is_never_followed() {
    let elsewhere = Receiver::start(vec![OK]).await;
    let to: &'static str = format!("{}/x", elsewhere.address).leak();
    let headers: &'static [_] = vec![("location", to)].leak();
    for status in [StatusCode::FOUND, StatusCode::TEMPORARY_REDIRECT] {
        let receiver = Receiver::start(vec![(status, headers, "")]).await;
        assert!(matches!(send(&receiver.webhook(), &deployed()).await, Err(DeliverError::Permanent { .. })));
    }
    assert!(elsewhere.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn no_error_tells_a_url_or_a_secret() {
    let refusing = Receiver::start(vec![(StatusCode::UNAUTHORIZED, &[], "hunter2")]).await;
    let mut gone = Receiver::start(vec![OK]).await;
    gone.address = "http://127.0.0.1:1".to_owned();
    for receiver in [&refusing, &gone] {
        for sink in [receiver.webhook(), receiver.discord(), receiver.ntfy()] {
            let error = send(&sink, &deployed()).await.unwrap_err();
            assert!(matches!(error, DeliverError::Retry { .. }));
            let text = format!("{error} {error:?}");
            assert!(!text.contains("hunter2") && !text.contains("/hook") && !text.contains("127.0.0.1"), "{text}");
        }
    }
    let nonsense = sink(SinkKind::Discord { url_file: gone.secret("hunter2 is no URL") });
    assert!(!send(&nonsense, &deployed()).await.unwrap_err().to_string().contains("hunter2"));
    let remote = sink(SinkKind::Discord { url_file: gone.secret("http://192.0.2.1/hunter2") });
    assert!(send(&remote, &deployed()).await.unwrap_err().to_string().contains("https://"));
}

#[tokio::test]
async fn an_endless_answer_does_not_hold_us_up() {
    let endless: &'static str = "x".repeat(8 * 1024 * 1024).leak();
    let receiver = Receiver::start(vec![(StatusCode::INTERNAL_SERVER_ERROR, &[], endless)]).await;
    assert!(matches!(send(&receiver.webhook(), &deployed()).await, Err(DeliverError::Retry { .. })));
}

#[test]
fn a_headline_says_what_happened_where_and_why() {
    let held = |outcome| Message { event: Event::Held, outcome, ..rolled_back() };
    let not_taken = |outcome| Message { event: Event::Refused, outcome, ..rolled_back() };
    let refused = Message {
        event: Event::Refused,
        stack: None,
        reason: Some(Why { code: Code::TrustRefused, message: "E-UNSIGNED: it has no signature".to_owned() }),
        ..rolled_back()
    };
    let all = [
        deployed(),
        Message { to: None, commit: None, ..deployed() },
        rolled_back(),
        refused,
        held(Outcome::Held),
        not_taken(Outcome::Rejected),
        not_taken(Outcome::Aborted),
        held(Outcome::Quarantined),
        Message { event: Event::Halted, ..rolled_back() },
        Message { event: Event::Stale, commit: None, stack: None, ..rolled_back() },
        Message { event: Event::Backup, commit: None, stack: None, ..rolled_back() },
        Message { event: Event::Recovered, reason: None, commit: None, ..rolled_back() },
        Message { event: Event::Recovered, reason: None, commit: None, stack: None, ..rolled_back() },
    ];
    let lines: Vec<String> = all.iter().map(|message| headline(message).replace('\u{200b}', "")).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn a_message_comes_back_from_the_outbox_as_it_was() {
    let json = serde_json::to_string(&rolled_back()).unwrap();
    assert_eq!(serde_json::from_str::<Message>(&json).unwrap(), rolled_back());
}

/// Discord's documented limits, counted in characters as its documentation does.
fn assert_within_discords_limits(body: &Value) {
    let count = |value: &Value| value.as_str().map_or(0, |text| text.chars().count());
    assert!(count(&body["content"]) <= 2000);
    let embeds = body["embeds"].as_array().unwrap();
    assert!(embeds.len() <= 10);
    let mut total = 0;
    for embed in embeds {
        let fields = embed["fields"].as_array().unwrap();
        assert!(count(&embed["title"]) <= 256 && count(&embed["description"]) <= 4096 && fields.len() <= 25);
        assert!(count(&embed["footer"]["text"]) <= 2048);
        total += count(&embed["title"]) + count(&embed["description"]) + count(&embed["footer"]["text"]);
        for field in fields {
            assert!((1..=256).contains(&count(&field["name"])) && (1..=1024).contains(&count(&field["value"])));
            total += count(&field["name"]) + count(&field["value"]);
        }
    }
    assert!(total <= 6000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_a_commit_says_stays_within_discords_and_ntfys_limits(
        subject in any::<String>(), author in any::<String>(), piece in any::<String>(), times in 0_usize..2000,
    ) {
        let mut message = rolled_back();
        let commit = message.commit.as_mut().unwrap();
        (commit.subject, commit.author) = (subject.repeat(times % 50), author.repeat(times % 50));
        message.reason.as_mut().unwrap().message = piece.repeat(times);
        assert_within_discords_limits(&discord::body(&message));
        let ntfy = ntfy::body("alerts", &message);
        prop_assert!((1..=4096).contains(&ntfy["message"].as_str().unwrap().len()));
        prop_assert!((1..=250).contains(&ntfy["title"].as_str().unwrap().len()));
    }
}

const KNOWN_HMAC: &str = "1ba6b8171186efc613e8bcc0cbdab2748f24984d7c5a84faa2637afa0e40d224";
