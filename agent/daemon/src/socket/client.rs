//! The command line's end of the socket.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use evenkeel_core::{
    answer::{Explanation, Releases, Snapshots},
    outcome::{History, Status},
};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, StatusCode, body::Bytes};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::{ActivityAnswer, Refusal, SyncAnswer, Tell, TellAnswer};
use crate::host::acceptance::{AcceptEnd, AcceptRequest};

/// Most that is read of an answer, in bytes.
const MAX_ANSWER: usize = 64 * 1024 * 1024;
/// How long a question may take that starts nothing. The agent gives the engine ten seconds.
const QUICK: Duration = Duration::from_secs(15);

/// The agent could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers: the agent does not run.
    #[error("no agent answers at {0}")]
    NotRunning(PathBuf),
    /// This user may not ask.
    #[error("not allowed to open {0}: run this as root, or as a member of the socket's group")]
    Denied(PathBuf),
    /// The agent could not.
    #[error("the agent answered: {0}")]
    Refused(String),
    /// The agent does not do it, and says why.
    #[error("{}", .0.message)]
    Declined(Refusal),
    /// Somebody listens there and says nothing.
    #[error("the agent at {0} did not answer within {limit} s", limit = QUICK.as_secs())]
    Silent(PathBuf),
    /// The conversation broke off; the agent was perhaps stopped.
    #[error("the agent at {path} stopped answering: {why}")]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What happened.
        why: String,
    },
}

/// Asks for the status.
pub async fn status(socket: &Path) -> Result<Status, ClientError> {
    quick(socket, "/v1/status").await
}

/// Asks what the agent is doing.
pub async fn activity(socket: &Path) -> Result<ActivityAnswer, ClientError> {
    quick(socket, "/v1/activity").await
}

/// Asks for the last syncs.
pub async fn history(socket: &Path, limit: usize) -> Result<History, ClientError> {
    quick(socket, &format!("/v1/history?limit={limit}")).await
}

/// Asks for a sync and waits for its end, however long that takes.
pub async fn sync(socket: &Path) -> Result<SyncAnswer, ClientError> {
    ask(socket, Method::POST, "/v1/sync", Vec::new()).await
}

/// Asks for the kept releases.
pub async fn releases(socket: &Path, stack: Option<&str>) -> Result<Releases, ClientError> {
    quick(socket, &about("/v1/releases", stack)).await
}

/// Asks for the snapshots. restic may have to ask a server far away.
pub async fn snapshots(socket: &Path, stack: Option<&str>) -> Result<Snapshots, ClientError> {
    ask(socket, Method::GET, &about("/v1/snapshots", stack), Vec::new()).await
}

/// Asks what there is to say of a stack, or of all.
pub async fn explain(socket: &Path, stack: Option<&str>) -> Result<Explanation, ClientError> {
    quick(socket, &about("/v1/explain", stack)).await
}

/// Tells the agent what a person wants, and waits for the end of what that begins, however long it takes.
pub async fn tell(socket: &Path, tell: &Tell) -> Result<TellAnswer, ClientError> {
    let body = serde_json::to_vec(tell);
    let body = body.map_err(|e| ClientError::Broken { path: socket.to_owned(), why: e.to_string() })?;
    ask(socket, Method::POST, "/v1/tell", body).await
}

/// Says which commit is accepted. Looking at a long history takes a while.
pub async fn accept_commit(socket: &Path, request: &AcceptRequest) -> Result<AcceptEnd, ClientError> {
    let body = serde_json::to_vec(request);
    let body = body.map_err(|e| ClientError::Broken { path: socket.to_owned(), why: e.to_string() })?;
    ask(socket, Method::POST, "/v1/trust/accept", body).await
}

/// A stack's name is checked before it comes here: it needs no escape.
fn about(path: &str, stack: Option<&str>) -> String {
    stack.map_or_else(|| path.to_owned(), |stack| format!("{path}?stack={stack}"))
}

async fn quick<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T, ClientError> {
    let silent = |_| ClientError::Silent(socket.to_owned());
    tokio::time::timeout(QUICK, ask(socket, Method::GET, path, Vec::new())).await.map_err(silent)?
}

async fn ask<T: DeserializeOwned>(socket: &Path, method: Method, path: &str, body: Vec<u8>) -> Result<T, ClientError> {
    let broken = |why: String| ClientError::Broken { path: socket.to_owned(), why };
    let stream = UnixStream::connect(socket).await.map_err(|e| match e.kind() {
        io::ErrorKind::PermissionDenied => ClientError::Denied(socket.to_owned()),
        _ => ClientError::NotRunning(socket.to_owned()),
    })?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| broken(e.to_string()))?;
    let connection = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "evenkeel")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|e| broken(e.to_string()))?;
    let answer = sender.send_request(request).await.map_err(|e| broken(e.to_string()))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map_err(|e| broken(e.to_string()))?;
    let body = body.to_bytes();
    connection.abort();
    if status == StatusCode::CONFLICT
        && let Ok(refusal) = serde_json::from_slice(&body)
    {
        return Err(ClientError::Declined(refusal));
    }
    if !status.is_success() {
        return Err(ClientError::Refused(String::from_utf8_lossy(&body).into_owned()));
    }
    serde_json::from_slice(&body).map_err(|_| broken("its answer is from another version".to_owned()))
}
