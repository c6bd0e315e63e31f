//! `POST /hooks/github`: the forge says that a branch moved.
//!
//! Authenticate, then parse, then wake: the payload decides nothing but whether to look now. Gitea and Forgejo sign in
//! the same way and send the same headers.

use std::sync::Arc;

use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::{Body as _, Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE, EXPECT, HeaderValue},
};
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use sha2::Sha256;
use tokio::sync::watch;

use super::serve::Body;
use crate::{
    config::read_secret,
    trigger::{CurrentConfig, Trigger, Waker},
};

/// Largest payload, in bytes. GitHub's own limit is 25 MB, for events that we do not take.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// How much of a payload that is too large is read and thrown away, in bytes. A client that is still sending when we
/// close sees a broken connection instead of the answer.
const MAX_DRAIN_BYTES: usize = 32 * 1024 * 1024;

const PATH: &str = "/hooks/github";

/// What the listener needs: the configuration in force, for the branch and the secret's file, and whom to wake.
#[derive(Clone)]
pub struct HookState {
    current: watch::Receiver<CurrentConfig>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl HookState {
    /// Follows `current`, so that a changed branch or secret counts at once; only the address needs a new listener.
    pub fn new<R: Send + 'static, O: Send + 'static>(
        current: watch::Receiver<CurrentConfig>,
        waker: Waker<R, O>,
    ) -> Self {
        Self { current, wake: Arc::new(move || waker.wake(Trigger::Webhook)) }
    }
}

/// Answers one request.
pub(super) async fn answer(hook: HookState, request: Request<Incoming>) -> Response<Body> {
    let (status, text) = match judge(&hook, request).await {
        Ok(Verdict::Queued) => (StatusCode::ACCEPTED, "queued\n"),
        Ok(Verdict::NotForUs) => (StatusCode::NO_CONTENT, ""),
        Err((status, text)) => {
            tracing::info!(status = status.as_u16(), "a request to the webhook listener was turned away: {text}");
            (status, text)
        }
    };
    let mut response = Response::new(Full::from(text).boxed_unsync());
    *response.status_mut() = status;
    if !text.is_empty() {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

/// What an authentic request comes to.
enum Verdict {
    /// The tracked branch moved: a sync was asked for.
    Queued,
    /// Another event, or another branch.
    NotForUs,
}

type Refusal = (StatusCode, &'static str);

async fn judge(hook: &HookState, request: Request<Incoming>) -> Result<Verdict, Refusal> {
    if request.uri().path() != PATH {
        return Err((StatusCode::NOT_FOUND, "there is only /hooks/github here\n"));
    }
    if request.method() != Method::POST {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "use POST\n"));
    }
    let (head, body) = request.into_parts();
    let body = read(&head.headers, body).await?;
    // The borrow must not live across an await, nor block a reload.
    let (reference, secret_file) = {
        let settings = Arc::clone(&hook.current.borrow().settings);
        let hooks = settings.listen.hooks.as_ref().ok_or((StatusCode::NOT_FOUND, "webhooks are turned off\n"))?;
        (settings.source.reference.clone(), hooks.secret_file.clone())
    };
    let secret = read_secret(&secret_file).map_err(|error| {
        tracing::error!(%error, "no webhook can be checked");
        (StatusCode::SERVICE_UNAVAILABLE, "the server cannot check signatures now\n")
    })?;
    if !is_authentic(&head.headers, secret.expose_secret().as_bytes(), &body) {
        return Err((StatusCode::UNAUTHORIZED, "X-Hub-Signature-256 is missing or wrong\n"));
    }
    match event(&head.headers) {
        None => Err((StatusCode::BAD_REQUEST, "X-GitHub-Event is missing\n")),
        Some("push") => {
            let push: Push = serde_json::from_slice(&body).map_err(|_| {
                (
                    StatusCode::BAD_REQUEST,
                    "this is not a push event in JSON: choose the content type application/json\n",
                )
            })?;
            if push.reference != reference {
                return Ok(Verdict::NotForUs);
            }
            (hook.wake)();
            Ok(Verdict::Queued)
        }
        Some(_) => Ok(Verdict::NotForUs),
    }
}

/// The one part of a push event that is read.
#[derive(Deserialize)]
struct Push {
    #[serde(rename = "ref")]
    reference: String,
}

/// The whole body, or 413 if it is larger than the cap: whatever its declared length says.
async fn read(headers: &HeaderMap, mut body: Incoming) -> Result<Bytes, Refusal> {
    const TOO_LARGE: Refusal = (StatusCode::PAYLOAD_TOO_LARGE, "a payload has at most 1 MiB here\n");
    let declared = body.size_hint().exact();
    if declared.is_some_and(|bytes| bytes > MAX_BODY_BYTES as u64) && headers.contains_key(EXPECT) {
        // The client has not begun to send and waits for our word.
        return Err(TOO_LARGE);
    }
    let (mut kept, mut seen) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| (StatusCode::BAD_REQUEST, "the body broke off\n"))?;
        let Some(data) = frame.data_ref() else { continue };
        seen += data.len();
        if seen <= MAX_BODY_BYTES {
            kept.extend_from_slice(data);
        } else if seen > MAX_DRAIN_BYTES {
            break;
        }
    }
    if seen > MAX_BODY_BYTES { Err(TOO_LARGE) } else { Ok(kept.into()) }
}

/// Whether the one signature header is the HMAC-SHA256 of the raw body. Compared in constant time.
fn is_authentic(headers: &HeaderMap, secret: &[u8], body: &[u8]) -> bool {
    let mut signatures = headers.get_all("x-hub-signature-256").iter();
    let (Some(signature), None) = (signatures.next(), signatures.next()) else { return false };
    let Some(digits) = signature.as_bytes().strip_prefix(b"sha256=") else { return false };
    let (Ok(claimed), Ok(mac)) = (hex::decode(digits), Hmac::<Sha256>::new_from_slice(secret)) else { return false };
    mac.chain_update(body).verify_slice(&claimed).is_ok()
}

fn event(headers: &HeaderMap) -> Option<&str> {
    ["x-github-event", "x-gitea-event", "x-forgejo-event"].into_iter().find_map(|name| headers.get(name)?.to_str().ok())
}
