//! The signed JSON webhook: docs/reference/webhook.md is its contract.

use std::path::Path;

use evenkeel_core::{id::CommitId, outcome::Outcome, plan::ServiceChange};
use evenkeel_layout::name::StackName;
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::{
    Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use sha2::Sha256;

use super::{
    Client, DeliverError, Message,
    message::{Commit, Why},
    send::post_json,
};
use crate::config::{read_secret, settings::Event};

const SCHEMA: u32 = 1;

/// The body: fields as the contract orders them.
#[derive(Serialize)]
struct Body<'m> {
    schema: u32,
    id: &'m str,
    event: Event,
    server: &'m str,
    stack: Option<&'m str>,
    commit: Option<&'m Commit>,
    from: Option<&'m CommitId>,
    to: Option<&'m CommitId>,
    outcome: Outcome,
    reason: Option<&'m Why>,
    services: &'m [ServiceChange],
    duration_ms: Option<u64>,
    snapshot: Option<&'m str>,
    url: Option<&'m str>,
}

pub(super) fn body(message: &Message) -> Result<Vec<u8>, DeliverError> {
    let body = Body {
        schema: SCHEMA,
        id: &message.id,
        event: message.event,
        server: message.server.as_str(),
        stack: message.stack.as_ref().map(StackName::as_str),
        commit: message.commit.as_ref(),
        from: message.from.as_ref(),
        to: message.to.as_ref(),
        outcome: message.outcome,
        reason: message.reason.as_ref(),
        services: &message.services,
        duration_ms: message.duration_ms,
        snapshot: message.snapshot.as_deref(),
        url: message.url.as_deref(),
    };
    serde_json::to_vec(&body).map_err(|error| DeliverError::permanent(format!("cannot write the message: {error}")))
}

/// `sha256=` and the HMAC-SHA256 of `timestamp.body` in hexadecimal digits.
fn signature(secret: &SecretString, timestamp: i64, body: &[u8]) -> Result<String, DeliverError> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes())
        .map_err(|_| DeliverError::retry("the webhook's secret is no key"))?;
    mac.update(timestamp.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    Ok(format!("sha256={}", hex::encode(mac.finalize().into_bytes())))
}

pub(super) async fn deliver(
    client: &Client,
    url: &str,
    secret_file: &Path,
    message: &Message,
    now_unix: i64,
) -> Result<(), DeliverError> {
    let url = Url::parse(url).map_err(|error| DeliverError::retry(format!("the webhook's URL is none: {error}")))?;
    let body = body(message)?;
    let signature = signature(&read_secret(secret_file)?, now_unix, &body)?;
    let event = serde_json::to_value(message.event).ok();
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("evenkeel-event", event.as_ref().and_then(|event| event.as_str()).unwrap_or_default()),
        ("evenkeel-delivery", &message.id),
        ("evenkeel-timestamp", &now_unix.to_string()),
        ("evenkeel-signature", &signature),
    ] {
        let value = HeaderValue::from_str(value)
            .map_err(|_| DeliverError::permanent("the delivery's id cannot stand in a header"))?;
        headers.insert(HeaderName::from_static(name), value);
    }
    post_json(client, url, headers, body).await?.judge("the webhook's receiver")
}
