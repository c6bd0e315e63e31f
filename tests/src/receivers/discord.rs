//! A channel's webhook as Discord offers it: the same path, answers and documented limits. There is no server of
//! Discord's to run, so this one is strict instead, and its strictness is under test in `tests/kit.rs`.
//!
//! Limits: <https://discord.com/developers/docs/resources/message#embed-object-embed-limits> and
//! <https://discord.com/developers/docs/resources/webhook#execute-webhook>.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};

use super::{Server, locked};

const ID: &str = "1184012345678901234";
const TOKEN: &str = "kEpT_s3cret-7oKEn-of-the-channel";

/// A message that was accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Message(pub Value);

impl Message {
    /// All that was sent for reading: content, titles, descriptions, fields, footers, one a line; Markdown as it came.
    pub fn text(&self) -> String {
        let mut lines = vec![str_of(&self.0["content"])];
        for embed in list(&self.0["embeds"]) {
            lines.extend([str_of(&embed["author"]["name"]), str_of(&embed["title"]), str_of(&embed["description"])]);
            lines.extend(
                list(&embed["fields"]).iter().map(|f| format!("{}: {}", str_of(&f["name"]), str_of(&f["value"]))),
            );
            lines.push(str_of(&embed["footer"]["text"]));
        }
        lines.retain(|l| !l.is_empty());
        lines.join("\n")
    }

    /// The text as a reader sees it, where nothing in it has the meaning of Markdown: without the escaping backslashes.
    pub fn shown(&self) -> String {
        let (mut shown, mut escaped) = (String::new(), false);
        for c in self.text().chars() {
            if c != '\\' || escaped {
                shown.push(c);
            }
            escaped = c == '\\' && !escaped;
        }
        shown
    }

    /// Whether people could be pinged by what the text says: only an empty `parse` switches that off.
    pub fn may_ping(&self) -> bool {
        self.0["allowed_mentions"]["parse"].as_array().is_none_or(|kinds| !kinds.is_empty())
    }
}

#[derive(Debug, Default)]
struct Channel {
    messages: Vec<Message>,
    rejected: Vec<Value>,
    /// `retry_after` of the next answers.
    limits: VecDeque<f64>,
}

/// The receiver.
#[derive(Debug)]
pub struct Discord {
    server: Server,
    channel: Arc<Mutex<Channel>>,
}

impl Discord {
    /// Starts it on a free port.
    #[track_caller]
    pub fn start() -> Self {
        let channel = Arc::new(Mutex::new(Channel::default()));
        let router = Router::new()
            .route("/api/webhooks/{id}/{token}", post(execute))
            .layer(DefaultBodyLimit::max(25 * 1024 * 1024))
            .with_state(Arc::clone(&channel));
        Self { server: Server::start(router), channel }
    }

    /// The channel's webhook, which is itself a secret.
    pub fn url(&self) -> String {
        self.server.url(&format!("/api/webhooks/{ID}/{TOKEN}"))
    }

    /// The part of the URL that is secret.
    pub fn token(&self) -> &'static str {
        TOKEN
    }

    /// What was accepted, in order.
    pub fn messages(&self) -> Vec<Message> {
        locked(&self.channel).messages.clone()
    }

    /// What was answered with an error other than 429, with the error.
    pub fn rejected(&self) -> Vec<Value> {
        locked(&self.channel).rejected.clone()
    }

    /// Answers the next request with 429 and this `retry_after`, in seconds.
    pub fn limit_next(&self, retry_after: f64) {
        locked(&self.channel).limits.push_back(retry_after);
    }

    /// Whether all the 429s that were asked for have been given.
    pub fn limits_used_up(&self) -> bool {
        locked(&self.channel).limits.is_empty()
    }
}

async fn execute(
    State(channel): State<Arc<Mutex<Channel>>>,
    Path((id, token)): Path<(String, String)>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut channel = locked(&channel);
    if let Some(retry_after) = channel.limits.pop_front() {
        return limited(retry_after);
    }
    let refused = if id != ID {
        Some((StatusCode::NOT_FOUND, json!({ "message": "Unknown Webhook", "code": 10015 })))
    } else if token == TOKEN {
        check_request(&headers, &body)
    } else {
        Some((StatusCode::UNAUTHORIZED, json!({ "message": "Invalid Webhook Token", "code": 50027 })))
    };
    if let Some((status, error)) = refused {
        channel.rejected.push(error.clone());
        return (status, axum::Json(error)).into_response();
    }
    let message = serde_json::from_slice(&body).unwrap_or_default();
    channel.messages.push(Message(message));
    if query.iter().any(|(name, value)| name == "wait" && value == "true") {
        return axum::Json(json!({ "id": format!("{}", channel.messages.len()), "webhook_id": ID })).into_response();
    }
    StatusCode::NO_CONTENT.into_response()
}

fn limited(retry_after: f64) -> Response {
    let error = json!({ "message": "You are being rate limited.", "retry_after": retry_after, "global": false });
    // The header is in whole seconds, the body is exact.
    let seconds = format!("{:.0}", retry_after.ceil());
    (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, seconds)], axum::Json(error)).into_response()
}

fn check_request(headers: &HeaderMap, body: &[u8]) -> Option<(StatusCode, Value)> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("application/json") {
        let error = json!({ "message": format!("Expected \"Content-Type\" header to be one of application/json, got {kind:?}."), "code": 50035 });
        return Some((StatusCode::BAD_REQUEST, error));
    }
    let Ok(message) = serde_json::from_slice::<Value>(body) else {
        return Some((
            StatusCode::BAD_REQUEST,
            json!({ "message": "The request body contains invalid JSON.", "code": 50109 }),
        ));
    };
    let faults = faults(&message);
    (!faults.is_empty())
        .then(|| (StatusCode::BAD_REQUEST, json!({ "message": "Invalid Form Body", "code": 50035, "errors": faults })))
}

/// What Discord would not accept in a message, each with its place. Lengths are in characters.
pub fn faults(message: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    if !message.is_object() {
        return vec!["the body is not an object".to_owned()];
    }
    let embeds = list(&message["embeds"]);
    if str_of(&message["content"]).trim().is_empty() && embeds.is_empty() {
        faults.push("content: cannot send an empty message".to_owned());
    }
    length(&mut faults, "content", &message["content"], 2_000);
    length(&mut faults, "username", &message["username"], 80);
    if embeds.len() > 10 {
        faults.push(format!("embeds: {} of at most 10", embeds.len()));
    }
    if ["embeds", "attachments", "components"].iter().any(|k| !message[k].is_null() && !message[k].is_array()) {
        faults.push("embeds, attachments and components are lists".to_owned());
    }
    let mut sum = 0;
    for (n, embed) in embeds.iter().enumerate() {
        check_embed(&mut faults, &format!("embeds[{n}]"), embed);
        sum += embed_characters(embed);
    }
    if sum > 6_000 {
        faults.push(format!("embeds: {sum} characters in all, of at most 6000"));
    }
    faults
}

fn check_embed(faults: &mut Vec<String>, at: &str, embed: &Value) {
    length(faults, &format!("{at}.title"), &embed["title"], 256);
    length(faults, &format!("{at}.description"), &embed["description"], 4_096);
    length(faults, &format!("{at}.footer.text"), &embed["footer"]["text"], 2_048);
    length(faults, &format!("{at}.author.name"), &embed["author"]["name"], 256);
    if embed_characters(embed) == 0 && embed["image"].is_null() && embed["thumbnail"].is_null() {
        faults.push(format!("{at}: an embed cannot be empty"));
    }
    let url = &embed["url"];
    if !url.is_null() && !url.as_str().is_some_and(|u| u.starts_with("http://") || u.starts_with("https://")) {
        faults.push(format!("{at}.url: not a well formed URL"));
    }
    let color = &embed["color"];
    if !color.is_null() && color.as_u64().is_none_or(|c| c > 0x00FF_FFFF) {
        faults.push(format!("{at}.color: not between 0 and 16777215"));
    }
    let timestamp = &embed["timestamp"];
    if !timestamp.is_null() && !timestamp.as_str().is_some_and(|t| t.len() >= 19 && t.as_bytes()[10] == b'T') {
        faults.push(format!("{at}.timestamp: not an ISO 8601 timestamp"));
    }
    let fields = list(&embed["fields"]);
    if fields.len() > 25 {
        faults.push(format!("{at}.fields: {} of at most 25", fields.len()));
    }
    for (n, field) in fields.iter().enumerate() {
        for (name, limit) in [("name", 256), ("value", 1_024)] {
            let at = format!("{at}.fields[{n}].{name}");
            if str_of(&field[name]).trim().is_empty() {
                faults.push(format!("{at}: this field is required"));
            }
            length(faults, &at, &field[name], limit);
        }
    }
}

fn length(faults: &mut Vec<String>, at: &str, value: &Value, limit: usize) {
    match value {
        Value::Null => {}
        Value::String(text) => {
            let count = text.chars().count();
            if count > limit {
                faults.push(format!("{at}: {count} characters of at most {limit}"));
            }
        }
        _ => faults.push(format!("{at}: not a string")),
    }
}

/// What counts towards the 6,000 characters of all embeds of a message.
fn embed_characters(embed: &Value) -> usize {
    let fields = list(&embed["fields"]);
    let of_fields = fields.iter().flat_map(|f| [&f["name"], &f["value"]]);
    [&embed["title"], &embed["description"], &embed["footer"]["text"], &embed["author"]["name"]]
        .into_iter()
        .chain(of_fields)
        .map(|v| v.as_str().map_or(0, |t| t.chars().count()))
        .sum()
}

fn str_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
