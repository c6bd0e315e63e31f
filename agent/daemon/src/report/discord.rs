//! A Discord channel's webhook.
//!
//! Limits are those of Discord's documentation ("Execute Webhook", "Embed Limits"). Characters are counted in UTF-16
//! units, which are never fewer than what Discord counts.

use std::{borrow::Cow, path::Path};

use reqwest::{StatusCode, Url, header::HeaderMap};
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Client, DeliverError, Message,
    send::{pause, post_json},
    text::{fit, harmless, headline, took},
};
use crate::config::{read_secret, settings::Event};

/// Of the 2,000 characters that a message may have.
const CONTENT: usize = 500;
/// Of the 4,096 of a description: all of an embed may have 6,000, and the fields want their part.
const DESCRIPTION: usize = 3000;
/// Of the 1,024 of a field's value.
const FIELD: usize = 300;

pub(super) async fn deliver(client: &Client, url_file: &Path, message: &Message) -> Result<(), DeliverError> {
    let secret = read_secret(url_file)?;
    let url = checked(secret.expose_secret().trim())?;
    let body = serde_json::to_vec(&body(message))
        .map_err(|error| DeliverError::permanent(format!("cannot write the message: {error}")))?;
    let mut answer = post_json(client, url, HeaderMap::new(), body).await?;
    if answer.status == StatusCode::TOO_MANY_REQUESTS {
        // Discord tells the pause more precisely in the body than in the header.
        let limit: Option<RateLimit> = serde_json::from_slice(&answer.body).ok();
        answer.retry_after = limit.and_then(|limit| pause(limit.retry_after)).or(answer.retry_after);
    }
    answer.judge("Discord")
}

#[derive(Deserialize)]
struct RateLimit {
    /// In seconds.
    retry_after: f64,
}

/// The URL in the file. It is a secret, so it must not travel in the clear, but to a receiver on this machine.
fn checked(text: &str) -> Result<Url, DeliverError> {
    let wrong = || DeliverError::retry("the file of Discord's webhook does not hold an https:// URL: copy it again");
    let url = Url::parse(text).map_err(|_| wrong())?;
    let on_this_machine = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    if url.scheme() == "https" || (url.scheme() == "http" && on_this_machine) { Ok(url) } else { Err(wrong()) }
}

pub(super) fn body(message: &Message) -> Value {
    let mut fields = Vec::new();
    let mut field = |name: &str, value: Option<String>, inline: bool| {
        if let Some(value) = value.filter(|value| !value.trim().is_empty()) {
            fields.push(json!({ "name": name, "value": value, "inline": inline }));
        }
    };
    field("Server", Some(shown(message.server.as_str(), FIELD)), true);
    field("Stack", message.stack.as_ref().map(|stack| shown(stack.as_str(), FIELD)), true);
    field("Took", message.duration_ms.map(took), true);
    if let Some(commit) = &message.commit {
        field("Commit", Some(shown(&format!("{} {}", commit.id.short(), commit.subject), FIELD)), false);
        field("Author", Some(shown(&commit.author, FIELD)), true);
        let signer = commit.signer.as_ref().map(|signer| format!("{} {}", signer.principal, signer.fingerprint));
        field("Signed by", signer.map(|signer| shown(&signer, FIELD)), true);
    }
    field("Backup", message.snapshot.as_ref().map(|snapshot| shown(snapshot, FIELD)), true);
    let mut embed = json!({
        "color": color(message.event),
        "fields": fields,
        "footer": { "text": shown(&format!("Evenkeel {}", message.id), FIELD) },
    });
    if let Some(reason) = &message.reason {
        embed["description"] = escaped(&format!("{}\n{}", reason.code, harmless(&reason.message)), DESCRIPTION).into();
    }
    if let Ok(at) = jiff::Timestamp::from_second(message.at) {
        embed["timestamp"] = at.to_string().into();
    }
    json!({
        "username": "Evenkeel",
        "content": escaped(&headline(message), CONTENT),
        "embeds": [embed],
        "allowed_mentions": { "parse": [] },
    })
}

/// Text of others: no mention, no link, no markup, at most `limit` characters.
fn shown(text: &str, limit: usize) -> String {
    escaped(&harmless(text), limit)
}

/// Takes the meaning from every character that Discord's Markdown gives one.
fn escaped(text: &str, limit: usize) -> String {
    let mut line_start = true;
    let pieces = text.chars().map(|c| {
        let special = "\\*_~|`<>#[]()".contains(c) || (line_start && "-+".contains(c));
        line_start = c == '\n' || (line_start && c == ' ');
        if special { Cow::Owned(format!("\\{c}")) } else { Cow::Owned(c.to_string()) }
    });
    fit(pieces, limit, |piece| piece.encode_utf16().count())
}

fn color(event: Event) -> u32 {
    match event {
        Event::Deployed | Event::Recovered => 0x002e_8b57,
        Event::Held => 0x0080_8080,
        Event::RolledBack | Event::Drift | Event::Stale | Event::Backup => 0x00e6_9f00,
        Event::Refused | Event::Halted => 0x00c0_392b,
    }
}
