//! A receiver of the signed JSON webhook, which checks each delivery as a careful user would: the signature over the raw
//! bytes first, then the age, then the content.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;

use super::{Server, locked};
use crate::{
    config::Config,
    port,
    wait::{PATIENCE, wait_until},
};

/// A delivery older or newer than this, in seconds, is refused: it could be a replay.
const FRESH_SECONDS: u64 = 300;

/// A delivery whose signature and age are good.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// `Evenkeel-Delivery`.
    pub id: String,
    /// `Evenkeel-Event`.
    pub event: String,
    /// The body.
    pub body: Value,
    /// The status that it was answered with.
    pub answered: u16,
}

#[derive(Debug, Default)]
struct Inbox {
    deliveries: Vec<Delivery>,
    refused: Vec<String>,
    answers: VecDeque<u16>,
}

/// The receiver.
#[derive(Debug)]
pub struct Webhook {
    server: Server,
    secret: String,
    inbox: Arc<Mutex<Inbox>>,
}

impl Webhook {
    /// Starts it on a free port; deliveries must be signed with `secret`.
    #[track_caller]
    pub fn start(secret: &str) -> Self {
        Self::start_on(port::free(), secret)
    }

    /// Starts it on this port.
    #[track_caller]
    pub fn start_on(port: u16, secret: &str) -> Self {
        let inbox = Arc::new(Mutex::new(Inbox::default()));
        let state = (Arc::clone(&inbox), secret.as_bytes().to_vec());
        let router = Router::new().route("/evenkeel", post(receive)).with_state(state);
        Self { server: Server::start_on(port, router), secret: secret.to_owned(), inbox }
    }

    /// The sink of a configuration that delivers here, one item of a YAML list. The key is put beside the configuration.
    #[track_caller]
    pub fn sink(&self, config: &Config) -> String {
        let file = format!("webhook-{}", self.server.port());
        let secret = config.put(&file, &self.secret);
        format!("webhook: {{ url: {}, secret_file: {} }}", self.url(), secret.display())
    }

    /// Waits until so many deliveries were taken, and gives them.
    #[track_caller]
    pub fn wait_taken(&self, count: usize) -> Vec<Delivery> {
        wait_until(PATIENCE, &format!("{count} deliveries are taken"), || {
            let taken = self.taken();
            if taken.len() >= count {
                Ok(taken)
            } else {
                Err(format!("{:?}, refused: {:?}", self.deliveries(), self.refused()))
            }
        })
    }

    /// Where deliveries go.
    pub fn url(&self) -> String {
        self.server.url("/evenkeel")
    }

    /// Everything that came with a good signature, in order, also what was then answered with an error on demand.
    pub fn deliveries(&self) -> Vec<Delivery> {
        locked(&self.inbox).deliveries.clone()
    }

    /// What was answered with 2xx.
    pub fn taken(&self) -> Vec<Delivery> {
        self.deliveries().into_iter().filter(|d| d.answered < 300).collect()
    }

    /// Why deliveries were refused.
    pub fn refused(&self) -> Vec<String> {
        locked(&self.inbox).refused.clone()
    }

    /// Answers the next delivery with this status, though it is good.
    pub fn answer_next(&self, status: u16) {
        locked(&self.inbox).answers.push_back(status);
    }
}

type Shared = (Arc<Mutex<Inbox>>, Vec<u8>);

async fn receive(State((inbox, secret)): State<Shared>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let mut inbox = locked(&inbox);
    match check(&secret, &headers, &body, now()) {
        Ok(mut delivery) => {
            delivery.answered = inbox.answers.pop_front().unwrap_or(204);
            let answer = StatusCode::from_u16(delivery.answered).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            inbox.deliveries.push(delivery);
            answer
        }
        Err(why) => {
            inbox.refused.push(why);
            StatusCode::UNAUTHORIZED
        }
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// `sha256=` and the hexadecimal HMAC-SHA256 over `timestamp`, a dot, and `body`.
pub fn signature(secret: &[u8], timestamp: &str, body: &[u8]) -> String {
    format!("sha256={}", hex::encode(mac(secret, &[timestamp.as_bytes(), b".", body]).finalize().into_bytes()))
}

/// `sha256=` and the hexadecimal HMAC-SHA256 over `body` alone: GitHub's way, `X-Hub-Signature-256`.
pub fn github_signature(secret: &[u8], body: &[u8]) -> String {
    format!("sha256={}", hex::encode(mac(secret, &[body]).finalize().into_bytes()))
}

fn mac(secret: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac
}

/// A delivery, if it is signed with `secret`, fresh at `now` (seconds), and complete; else why not.
pub fn check(secret: &[u8], headers: &HeaderMap, body: &[u8], now: u64) -> Result<Delivery, String> {
    let header = |name: &str| {
        let value = headers.get(name).and_then(|v| v.to_str().ok());
        value.map(str::to_owned).ok_or_else(|| format!("no header {name}"))
    };
    let (timestamp, given) = (header("evenkeel-timestamp")?, header("evenkeel-signature")?);
    let given =
        given.strip_prefix("sha256=").and_then(|h| hex::decode(h).ok()).ok_or("the signature is not sha256=hex")?;
    let expected = mac(secret, &[timestamp.as_bytes(), b".", body]);
    expected.verify_slice(&given).map_err(|_| "the signature is wrong".to_owned())?;
    let sent: u64 = timestamp.parse().map_err(|_| format!("the timestamp {timestamp:?} is not in seconds"))?;
    if sent.abs_diff(now) > FRESH_SECONDS {
        return Err(format!("the timestamp {sent} is {} s away", sent.abs_diff(now)));
    }
    if !header("content-type")?.starts_with("application/json") {
        return Err("the body is not said to be application/json".to_owned());
    }
    let body: Value = serde_json::from_slice(body).map_err(|e| format!("the body is not JSON: {e}"))?;
    let (id, event) = (header("evenkeel-delivery")?, header("evenkeel-event")?);
    if body["event"] != event.as_str() {
        return Err(format!("the header says {event}, the body {}", body["event"]));
    }
    Ok(Delivery { id, event, body, answered: 0 })
}
