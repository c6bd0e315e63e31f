//! Git over HTTP: Git's own `http-backend` behind a small server, as nginx would run it.

use std::{
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use tokio::{io::AsyncWriteExt as _, process::Command};

use super::{Server, locked};

/// How the server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mood {
    /// As it should.
    Well,
    /// With 503.
    Down,
    /// With 500.
    Failing,
    /// With a redirection to the same path there: scheme, host and port.
    Elsewhere(String),
    /// Not before this time has passed.
    Slow(Duration),
    /// With 200 and something that is not Git.
    Babbling,
    /// As it should, but for the pack: whoever fetches gets this one.
    Hostile(Bytes),
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    /// `Basic …`, if credentials are needed.
    authorization: Option<String>,
    mood: Mutex<Mood>,
    requests: Mutex<Vec<String>>,
    credentials: Mutex<Vec<String>>,
}

/// The server.
#[derive(Debug)]
pub struct GitHttp {
    server: Server,
    shared: Arc<Shared>,
}

impl GitHttp {
    /// Serves the repositories in the folder `root` to anyone, for reading.
    #[track_caller]
    pub fn start(root: PathBuf) -> Self {
        Self::launch(root, None)
    }

    /// Serves them only to who gives this user and password. `authorization` is the value of that header, `Basic …`.
    #[track_caller]
    pub fn start_private(root: PathBuf, authorization: &str) -> Self {
        Self::launch(root, Some(authorization.to_owned()))
    }

    #[track_caller]
    fn launch(root: PathBuf, authorization: Option<String>) -> Self {
        let shared = Arc::new(Shared {
            root,
            authorization,
            mood: Mutex::new(Mood::Well),
            requests: Mutex::default(),
            credentials: Mutex::default(),
        });
        let router = Router::new().fallback(serve).with_state(Arc::clone(&shared));
        Self { server: Server::start(router), shared }
    }

    /// The URL of a repository in the folder, such as `infra.git`.
    pub fn url(&self, name: &str) -> String {
        self.server.url(&format!("/{name}"))
    }

    /// Changes how it answers from now on.
    pub fn set(&self, mood: Mood) {
        *locked(&self.shared.mood) = mood;
    }

    /// Its port at 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// The credentials that came with requests so far.
    pub fn credentials(&self) -> Vec<String> {
        locked(&self.shared.credentials).clone()
    }

    /// What was asked for so far: method and path.
    pub fn requests(&self) -> Vec<String> {
        locked(&self.shared.requests).clone()
    }
}

async fn serve(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    locked(&shared.requests).push(format!("{} {}", request.method(), request.uri()));
    let given = request.headers().get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).map(str::to_owned);
    locked(&shared.credentials).extend(given.clone());
    let mood = locked(&shared.mood).clone();
    match &mood {
        Mood::Well | Mood::Hostile(_) => {}
        Mood::Down => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Mood::Failing => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Mood::Elsewhere(base) => {
            let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
            return (StatusCode::FOUND, [(header::LOCATION, format!("{base}{path}"))]).into_response();
        }
        Mood::Slow(time) => tokio::time::sleep(*time).await,
        Mood::Babbling => return "<html>Please log in to this network.</html>".into_response(),
    }
    if shared.authorization.is_some() && given.as_deref() != shared.authorization.as_deref() {
        let ask = [(header::WWW_AUTHENTICATE, "Basic realm=\"git\"")];
        return (StatusCode::UNAUTHORIZED, ask).into_response();
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, 64 * 1024 * 1024).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    if let Mood::Hostile(pack) = mood
        && holds(&body, "command=fetch")
    {
        return packfile(&pack, holds(&body, "done"));
    }
    match backend(&shared, &parts, body).await {
        Ok(response) => response,
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()).into_response(),
    }
}

fn holds(body: &[u8], text: &str) -> bool {
    body.windows(text.len()).any(|w| w == text.as_bytes())
}

/// A pack as the answer to a fetch (gitprotocol-v2(5)). If the client is not done, it is told that this is enough.
fn packfile(pack: &[u8], done: bool) -> Response {
    fn line(content: &[u8]) -> Vec<u8> {
        [format!("{:04x}", content.len() + 4).as_bytes(), content].concat()
    }
    let mut body = Vec::new();
    if !done {
        body.extend([line(b"acknowledgments\n"), line(b"ready\n"), b"0001".to_vec()].concat());
    }
    body.extend(line(b"packfile\n"));
    for part in pack.chunks(65_515) {
        // On the first band: data.
        body.extend(line(&[&[1], part].concat()));
    }
    body.extend(b"0000");
    ([(header::CONTENT_TYPE, "application/x-git-upload-pack-result")], body).into_response()
}

/// One request through the Common Gateway Interface (RFC 3875).
async fn backend(shared: &Shared, parts: &Parts, body: Bytes) -> std::io::Result<Response> {
    let text = |headers: &HeaderMap, name: &str| {
        headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned()
    };
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", &shared.root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("PATH_INFO", parts.uri.path())
        .env("QUERY_STRING", parts.uri.query().unwrap_or_default())
        .env("REQUEST_METHOD", parts.method.as_str())
        .env("CONTENT_TYPE", text(&parts.headers, "content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", text(&parts.headers, "content-encoding"))
        .env("GIT_PROTOCOL", text(&parts.headers, "git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdin = child.stdin.take().ok_or_else(|| std::io::Error::other("no standard input"))?;
    let feed = async move {
        // It need not read all that we send.
        let _ = stdin.write_all(&body).await;
    };
    let ((), output) = tokio::join!(feed, child.wait_with_output());
    answer(&output?.stdout)
}

fn answer(output: &[u8]) -> std::io::Result<Response> {
    let end = output.windows(4).position(|w| w == b"\r\n\r\n");
    let end = end.ok_or_else(|| std::io::Error::other("git http-backend gave no headers"))?;
    let mut status = StatusCode::OK;
    let mut response = Response::builder();
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        match line.split_once(": ") {
            Some(("Status", value)) => status = value.get(..3).and_then(|c| c.parse().ok()).unwrap_or(status),
            Some((name, value)) => response = response.header(name, value),
            None => {}
        }
    }
    response.status(status).body(Body::from(output[end + 4..].to_vec())).map_err(std::io::Error::other)
}
