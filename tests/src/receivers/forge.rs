//! The comments of a pull request, as GitHub has them: who may write, how long one may be, pages of a list.
//! <https://docs.github.com/en/rest/issues/comments>

use std::sync::{Arc, Mutex};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    routing::{get, patch},
};
use serde_json::{Value, json};

use super::{Server, locked};

/// Longest comment that GitHub takes, in characters.
const MAX_CHARS: usize = 65_536;

/// One comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    /// Its number.
    pub id: u64,
    /// Whether a bot wrote it.
    pub is_bot: bool,
    /// Its text.
    pub body: String,
}

type Comments = Arc<Mutex<Vec<Comment>>>;

/// The forge, with one repository `you/infra` and its pull request 7.
#[derive(Debug)]
pub struct Forge {
    server: Server,
    comments: Comments,
}

#[derive(Clone)]
struct Desk {
    comments: Comments,
    token: String,
}

#[derive(serde::Deserialize)]
struct Page {
    per_page: usize,
    page: usize,
}

impl Forge {
    /// Starts it; whoever writes must show `token`.
    #[track_caller]
    pub fn start(token: &str) -> Self {
        let comments = Comments::default();
        let desk = Desk { comments: Arc::clone(&comments), token: token.to_owned() };
        let router = Router::new()
            .route("/repos/you/infra/issues/7/comments", get(list).post(write))
            .route("/repos/you/infra/issues/comments/{id}", patch(change))
            .with_state(desk);
        Self { server: Server::start(router), comments }
    }

    /// The root of its API.
    pub fn url(&self) -> String {
        self.server.url("")
    }

    /// The comments, oldest first.
    pub fn comments(&self) -> Vec<Comment> {
        locked(&self.comments).clone()
    }

    /// A person writes a comment.
    pub fn say(&self, body: &str) {
        add(&self.comments, false, body);
    }
}

fn add(comments: &Mutex<Vec<Comment>>, is_bot: bool, body: &str) -> u64 {
    let mut comments = locked(comments);
    let id = 1000 + comments.len() as u64;
    comments.push(Comment { id, is_bot, body: body.to_owned() });
    id
}

impl Desk {
    fn admit(&self, headers: &HeaderMap) -> Result<(), StatusCode> {
        let shown = headers.get("authorization").and_then(|value| value.to_str().ok());
        if shown == Some(&format!("Bearer {}", self.token)) { Ok(()) } else { Err(StatusCode::UNAUTHORIZED) }
    }
}

fn text(body: &Value) -> Result<&str, StatusCode> {
    let text = body["body"].as_str().filter(|text| !text.is_empty() && text.chars().count() <= MAX_CHARS);
    text.ok_or(StatusCode::UNPROCESSABLE_ENTITY)
}

async fn list(
    State(desk): State<Desk>,
    Query(page): Query<Page>,
    headers: HeaderMap,
) -> Result<Json<Value>, StatusCode> {
    desk.admit(&headers)?;
    let first = page.per_page.min(100) * page.page.saturating_sub(1);
    let comments = locked(&desk.comments);
    let shown = comments.iter().skip(first).take(page.per_page.min(100)).map(|comment| {
        let kind = if comment.is_bot { "Bot" } else { "User" };
        json!({"id": comment.id, "body": comment.body, "user": {"type": kind}})
    });
    Ok(Json(shown.collect()))
}

async fn write(
    State(desk): State<Desk>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Result<(StatusCode, Json<Value>), StatusCode> {
    desk.admit(&headers)?;
    let id = add(&desk.comments, true, text(&body)?);
    Ok((StatusCode::CREATED, Json(json!({"id": id}))))
}

async fn change(
    State(desk): State<Desk>,
    Path(id): Path<u64>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Result<Json<Value>, StatusCode> {
    desk.admit(&headers)?;
    let mut comments = locked(&desk.comments);
    let comment = comments.iter_mut().find(|comment| comment.id == id).ok_or(StatusCode::NOT_FOUND)?;
    text(&body)?.clone_into(&mut comment.body);
    Ok(Json(json!({"id": id})))
}
