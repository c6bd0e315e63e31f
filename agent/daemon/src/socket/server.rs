//! The agent's end of the socket.

use std::{
    fs::Permissions,
    future::Future,
    io,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{
    Json, Router,
    extract::{ConnectInfo, DefaultBodyLimit, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use evenkeel_core::{
    answer::{Explanation, Releases, Snapshots},
    outcome::{Exit, History, Status},
    people::Person,
};
use futures_util::future::BoxFuture;
use serde::Deserialize;
use tokio::net::UnixListener;

use super::{ActivityAnswer, Refusal, SyncAnswer, Tell, TellAnswer, peer::Peer};
use crate::host::acceptance::{AcceptEnd, AcceptRequest, may_accept};

/// Most syncs that are told at once.
const MAX_HISTORY: usize = 1000;

/// Most that is read of what a person tells, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// What the agent answers. Each gives a message for people where it cannot.
pub trait Answers: Send + Sync + 'static {
    /// The status now.
    fn status(&self) -> BoxFuture<'_, Result<Status, String>>;
    /// What the agent is doing. Asked often: it costs nothing.
    fn activity(&self) -> ActivityAnswer;
    /// The last syncs, newest first.
    fn history(&self, limit: usize) -> Result<History, String>;
    /// Asks for a sync that begins after this call, and waits for its end.
    fn sync(&self) -> BoxFuture<'_, Result<SyncAnswer, String>>;
    /// The kept releases, of one stack or of all.
    fn releases(&self, stack: Option<&str>) -> Result<Releases, Refusal>;
    /// The snapshots in the backup repository, of one stack or of all.
    fn snapshots(&self, stack: Option<String>) -> BoxFuture<'_, Result<Snapshots, Refusal>>;
    /// What there is to say of a stack, or of all.
    fn explain(&self, stack: Option<String>) -> BoxFuture<'_, Result<Explanation, Refusal>>;
    /// Does what a person tells, and waits for the end of what it begins.
    fn tell(&self, by: Person, tell: Tell) -> BoxFuture<'_, Result<TellAnswer, Refusal>>;
    /// Makes a commit the accepted one for this person, who may.
    fn accept_commit(&self, by: Person, request: AcceptRequest) -> BoxFuture<'_, Result<AcceptEnd, Refusal>>;
}

/// The socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody answers there.
    #[error("another agent answers at {0}; give this one a `paths.socket` of its own")]
    InUse(PathBuf),
    /// The system refused.
    #[error("cannot listen at {path}: {source}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Opens the socket, mode 0660. One that nobody answers at any more is taken over.
pub fn bind(path: &Path) -> Result<UnixListener, BindError> {
    let failed = |source| BindError::Io { path: path.to_owned(), source };
    if UnixStream::connect(path).is_ok() {
        return Err(BindError::InUse(path.to_owned()));
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o660)).map_err(failed)?;
    Ok(listener)
}

/// Answers until `shutdown` ends.
pub async fn serve(
    listener: UnixListener,
    answers: Arc<dyn Answers>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    let router = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/activity", get(activity))
        .route("/v1/history", get(history))
        .route("/v1/sync", post(sync))
        .route("/v1/releases", get(releases))
        .route("/v1/snapshots", get(snapshots))
        .route("/v1/explain", get(explain))
        .route("/v1/tell", post(told))
        .route("/v1/trust/accept", post(accept_commit))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(answers)
        .into_make_service_with_connect_info::<Peer>();
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(shutdown).await {
        tracing::error!(%error, "the socket failed");
    }
}

fn answer<T: serde::Serialize>(result: Result<T, String>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(message) => (StatusCode::INTERNAL_SERVER_ERROR, message).into_response(),
    }
}

async fn status(State(answers): State<Arc<dyn Answers>>) -> Response {
    answer(answers.status().await)
}

async fn activity(State(answers): State<Arc<dyn Answers>>) -> Json<ActivityAnswer> {
    Json(answers.activity())
}

#[derive(Deserialize)]
struct HistoryQuery {
    limit: Option<usize>,
}

async fn history(State(answers): State<Arc<dyn Answers>>, Query(query): Query<HistoryQuery>) -> Response {
    answer(answers.history(query.limit.unwrap_or(20).min(MAX_HISTORY)))
}

async fn sync(State(answers): State<Arc<dyn Answers>>) -> Response {
    answer(answers.sync().await)
}

fn answer_or_refuse<T: serde::Serialize>(result: Result<T, Refusal>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(refusal) => (StatusCode::CONFLICT, Json(refusal)).into_response(),
    }
}

#[derive(Deserialize)]
struct StackQuery {
    stack: Option<String>,
}

async fn releases(State(answers): State<Arc<dyn Answers>>, Query(query): Query<StackQuery>) -> Response {
    answer_or_refuse(answers.releases(query.stack.as_deref()))
}

async fn snapshots(State(answers): State<Arc<dyn Answers>>, Query(query): Query<StackQuery>) -> Response {
    answer_or_refuse(answers.snapshots(query.stack).await)
}

async fn explain(State(answers): State<Arc<dyn Answers>>, Query(query): Query<StackQuery>) -> Response {
    answer_or_refuse(answers.explain(query.stack).await)
}

async fn told(
    State(answers): State<Arc<dyn Answers>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Json(tell): Json<Tell>,
) -> Response {
    let Some(by) = peer.person() else {
        let message = "the kernel does not say who asks";
        let refusal = Refusal::new(Exit::Failed, "agent.who", message, "ask through the agent's own Unix socket");
        return answer_or_refuse::<TellAnswer>(Err(refusal));
    };
    answer_or_refuse(answers.tell(by, tell).await)
}

async fn accept_commit(
    State(answers): State<Arc<dyn Answers>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Json(request): Json<AcceptRequest>,
) -> Response {
    let agent = rustix::process::geteuid().as_raw();
    let Some(by) = peer.person().filter(|by| may_accept(by.uid, agent)) else {
        let message = "the agent refuses this: only root may say which commit is accepted";
        let refusal = Refusal::new(Exit::Usage, "trust.denied", message, "run it as root on the server");
        return answer_or_refuse::<AcceptEnd>(Err(refusal));
    };
    answer_or_refuse(answers.accept_commit(by, request).await)
}
