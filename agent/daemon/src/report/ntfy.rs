//! An ntfy topic.
//!
//! The message is published as JSON to the server's root: headers, ntfy's other way, hold no UTF-8.

use std::{borrow::Cow, fmt::Write as _, path::Path};

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::{
    Client, DeliverError, Message,
    send::post_json,
    text::{fit, harmless, heading, took},
};
use crate::config::{read_secret, settings::Event, topic_of};

/// ntfy turns a message of more than 4,096 bytes into an attached file.
const MESSAGE_BYTES: usize = 3500;
const TITLE_BYTES: usize = 250;
const COMMIT_BYTES: usize = 300;

pub(super) async fn deliver(
    client: &Client,
    url: &str,
    token_file: Option<&Path>,
    message: &Message,
) -> Result<(), DeliverError> {
    let Some((server, topic)) = topic_of(url) else {
        return Err(DeliverError::retry("the ntfy URL does not end in a topic: correct it in agent.yml"));
    };
    let body = serde_json::to_vec(&body(&topic, message))
        .map_err(|error| DeliverError::permanent(format!("cannot write the message: {error}")))?;
    let mut headers = HeaderMap::new();
    if let Some(file) = token_file {
        let token = read_secret(file)?;
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret().trim()))
            .map_err(|_| DeliverError::retry("the ntfy token has characters that no token has: write it again"))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    post_json(client, server, headers, body).await?.judge("ntfy")
}

pub(super) fn body(topic: &str, message: &Message) -> Value {
    let (tag, priority) = look(message.event);
    let mut body = json!({
        "topic": topic,
        "title": cut(&heading(message), TITLE_BYTES),
        "message": cut(&details(message), MESSAGE_BYTES),
        "tags": [tag],
        "priority": priority,
    });
    if let Some(url) = message.url.as_deref().filter(|url| url.starts_with("https://") || url.starts_with("http://")) {
        body["click"] = url.into();
    }
    body
}

/// Everything but the title. Never empty: ntfy would put a word of its own there.
fn details(message: &Message) -> String {
    let mut lines = String::new();
    if let Some(reason) = &message.reason {
        // Cut by itself, so that the commit is named however long a log's last lines are.
        let room = MESSAGE_BYTES - 2 * COMMIT_BYTES;
        let _ = writeln!(lines, "{}", cut(&harmless(&reason.message), room));
    }
    if let Some(commit) = &message.commit {
        let text = harmless(&format!("{} {}", commit.id.short(), commit.subject));
        let _ = writeln!(lines, "{}", cut(&text.replace('\n', " "), COMMIT_BYTES));
    }
    if let Some(duration_ms) = message.duration_ms {
        let _ = writeln!(lines, "took {}", took(duration_ms));
    }
    if lines.trim().is_empty() { heading(message) } else { lines.trim_end().to_owned() }
}

fn cut(text: &str, bytes: usize) -> String {
    fit(text.chars().map(|c| Cow::Owned(c.to_string())), bytes, str::len)
}

/// The emoji (by ntfy's names) and the priority: 3 is ntfy's default, 5 breaks through "do not disturb".
fn look(event: Event) -> (&'static str, u8) {
    match event {
        Event::Deployed => ("white_check_mark", 3),
        Event::RolledBack => ("rewind", 4),
        Event::Refused => ("no_entry", 4),
        Event::Held => ("hourglass", 3),
        Event::Halted => ("rotating_light", 5),
        Event::Drift => ("ocean", 3),
        Event::Stale => ("zzz", 4),
        Event::Backup => ("floppy_disk", 4),
        Event::Recovered => ("sunny", 3),
    }
}
