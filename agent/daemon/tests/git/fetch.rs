//! Fetching from real repositories, over files and over HTTP as `git http-backend` serves it, and from servers that
//! are none.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::world::World;
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use evenkeel::{
    config::settings::Source,
    git::{Fetched, GitError, Repo, fetch_with},
};
use evenkeel_core::reason::{Class, Code};
use tokio::io::AsyncWriteExt as _;

fn source(url: impl Into<String>) -> Source {
    Source {
        url: url.into(),
        reference: "refs/heads/main".to_owned(),
        interval: Duration::from_secs(60),
        timeout: Duration::from_secs(20),
        ca_file: None,
        token_file: None,
        username: "git".to_owned(),
        ssh: None,
    }
}

pub fn files(world: &World) -> Source {
    source(format!("file://{}", world.repo().display()))
}

pub async fn fetched(world: &World, source: &Source) -> Result<Fetched, GitError> {
    fetch_with(Path::new(env!("CARGO_BIN_EXE_evenkeel")), source, &world.path("mirror.git")).await
}

pub async fn code_of(world: &World, source: &Source) -> Code {
    fetched(world, source).await.unwrap_err().reason().code
}

fn packs(world: &World) -> usize {
    let dir = std::fs::read_dir(world.path("mirror.git/objects/pack")).unwrap();
    dir.flatten().filter(|e| e.path().extension().is_some_and(|x| x == "pack")).count()
}

/// A web server that keeps what it was asked.
struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

#[derive(Clone)]
struct Backend {
    root: PathBuf,
    /// The value of the `Authorization` header that opens it.
    password: Option<&'static str>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn serve(router: Router, asked: Arc<Mutex<Vec<String>>>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, asked }
    }

    /// `git http-backend` on a world's repositories.
    async fn git(world: &World, password: Option<&'static str>) -> Self {
        let root = world.repo().parent().unwrap().to_owned();
        let asked = Arc::default();
        let backend = Backend { root, password, asked: Arc::clone(&asked) };
        Self::serve(Router::new().fallback(http_backend).with_state(backend), asked).await
    }

    /// One answer to everything.
    async fn says(answer: impl Fn() -> Response + Clone + Send + Sync + 'static) -> Self {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = Arc::clone(&asked);
        let handler = move |request: Request| {
            kept.lock().unwrap().push(format!("{:?}", request.headers().get(header::AUTHORIZATION)));
            let answer = answer();
            async move { answer }
        };
        Self::serve(Router::new().fallback(handler), asked).await
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn source(&self) -> Source {
        source(self.url("/repo/.git"))
    }

    fn count(&self, what: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|a| a.contains(what)).count()
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
}

/// The CGI protocol, as far as `git http-backend` needs it.
async fn http_backend(State(backend): State<Backend>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default();
    backend.asked.lock().unwrap().push(format!("{} {} {query}", parts.method, parts.uri.path()));
    if backend.password.is_some_and(|wanted| text(&parts.headers, "authorization") != wanted) {
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=\"git\"")]).into_response();
    }
    let mut child = tokio::process::Command::new("git")
        .arg("http-backend")
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("GIT_PROJECT_ROOT", &backend.root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", parts.method.as_str())
        .env("PATH_INFO", parts.uri.path())
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", text(&parts.headers, "content-type"))
        .env("HTTP_CONTENT_ENCODING", text(&parts.headers, "content-encoding"))
        .env("GIT_PROTOCOL", text(&parts.headers, "git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&to_bytes(body, 1 << 20).await.unwrap()).await.unwrap();
    drop(stdin);
    let out = child.wait_with_output().await.unwrap().stdout;
    let end = out.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let mut response = Response::builder();
    for line in std::str::from_utf8(&out[..end]).unwrap().split("\r\n") {
        let (name, value) = line.split_once(": ").unwrap();
        response = match name {
            "Status" => response.status(value[..3].parse::<u16>().unwrap()),
            _ => response.header(name, value),
        };
    }
    response.body(Body::from(out[end + 4..].to_vec())).unwrap()
}

#[tokio::test]
async fn fetches_one_branch_and_nothing_else() {
    let world = World::new();
    let tip = world.commit_unsigned("1");
    world.git(["tag", "v1"]);
    world.git(["branch", "other"]);
    for source in [files(&world), Server::git(&world, None).await.source()] {
        assert_eq!(fetched(&world, &source).await.unwrap().tip, tip);
        let mirror = Repo::open(&world.path("mirror.git")).unwrap();
        assert_eq!(mirror.resolve("main"), Some(tip.clone()));
        assert_eq!((mirror.resolve("v1"), mirror.resolve("other")), (None, None));
        std::fs::remove_dir_all(world.path("mirror.git")).unwrap();
    }
}

#[tokio::test]
async fn an_unmoved_branch_costs_one_advertisement() {
    let world = World::new();
    world.commit_unsigned("1");
    let server = Server::git(&world, None).await;
    fetched(&world, &server.source()).await.unwrap();
    server.asked.lock().unwrap().clear();
    fetched(&world, &server.source()).await.unwrap();
    let asked = server.asked.lock().unwrap().clone();
    // The protocol's greeting, and the one ref.
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert_eq!(packs(&world), 1);
}

#[tokio::test]
async fn follows_the_branch_forward_and_back() {
    let world = World::new();
    let first = world.commit_unsigned("1");
    let server = Server::git(&world, None).await;
    fetched(&world, &server.source()).await.unwrap();
    let second = world.commit_unsigned("2");
    assert_eq!(fetched(&world, &server.source()).await.unwrap().tip, second);
    world.git(["reset", "-q", "--hard", first.as_str()]);
    assert_eq!(fetched(&world, &server.source()).await.unwrap().tip, first);
    let aside = world.commit_unsigned("aside");
    assert_eq!(fetched(&world, &server.source()).await.unwrap().tip, aside);
    assert!(Repo::open(&world.path("mirror.git")).unwrap().has(&aside));
}

#[tokio::test]
async fn the_object_format_is_the_servers() {
    let world = World::new();
    std::fs::remove_dir_all(world.repo()).unwrap();
    world.git(["init", "-q", "-b", "main", "--object-format=sha256", "repo"]);
    let tip = world.commit_unsigned("1");
    assert_eq!(fetched(&world, &files(&world)).await.unwrap().tip, tip);
    assert_eq!(tip.as_str().len(), 64);
}

#[tokio::test]
async fn a_damaged_mirror_is_fetched_again_and_leftovers_are_swept() {
    let world = World::new();
    let tip = world.commit_unsigned("1");
    fetched(&world, &files(&world)).await.unwrap();
    std::fs::write(world.path("mirror.git/objects/pack/.tmpabc"), "x").unwrap();
    fetched(&world, &files(&world)).await.unwrap();
    assert!(!world.path("mirror.git/objects/pack/.tmpabc").exists());

    std::fs::write(world.path("mirror.git/HEAD"), "").unwrap();
    assert_eq!(fetched(&world, &files(&world)).await.unwrap().tip, tip);
    for entry in std::fs::read_dir(world.path("mirror.git/objects/pack")).unwrap().flatten() {
        std::fs::remove_file(entry.path()).unwrap();
    }
    assert_eq!(fetched(&world, &files(&world)).await.unwrap().tip, tip);
    assert!(Repo::open(&world.path("mirror.git")).unwrap().has(&tip));
}

#[tokio::test]
async fn says_what_is_missing() {
    let world = World::new();
    let empty = fetched(&world, &files(&world)).await.unwrap_err();
    assert_eq!(empty.reason().code, Code::SourceNoRef);
    assert!(empty.to_string().contains("empty"), "{empty}");
    world.commit_unsigned("1");
    let other = Source { reference: "refs/heads/prod".to_owned(), ..files(&world) };
    let missing = fetched(&world, &other).await.unwrap_err();
    assert!(missing.to_string().contains("its branches are main"), "{missing}");
    assert_eq!(code_of(&world, &source("file:///nowhere/at/all")).await, Code::SourceUnreachable);
}

#[tokio::test]
async fn a_server_that_is_away_is_worth_another_try() {
    let world = World::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let away = source(format!("http://{}/x", listener.local_addr().unwrap()));
    drop(listener);
    let error = fetched(&world, &away).await.unwrap_err();
    assert_eq!((error.reason().code, error.reason().class), (Code::SourceUnreachable, Class::Transient));
    for status in [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE] {
        let server = Server::says(move || status.into_response()).await;
        assert_eq!(code_of(&world, &server.source()).await, Code::SourceUnreachable, "{status}");
    }
}

#[tokio::test]
async fn a_web_page_is_not_a_repository() {
    let world = World::new();
    let page = Server::says(|| ([(header::CONTENT_TYPE, "text/html")], "<html>hello</html>").into_response()).await;
    assert_eq!(code_of(&world, &page.source()).await, Code::SourceInvalid);
    let absent = Server::says(|| StatusCode::NOT_FOUND.into_response()).await;
    assert_eq!(code_of(&world, &absent.source()).await, Code::SourceInvalid);
}

#[tokio::test]
async fn a_token_opens_its_own_server_and_is_said_to_nobody_else() {
    // `git:s3cr3t-token` in base64.
    const OPENS: &str = "Basic Z2l0OnMzY3IzdC10b2tlbg==";
    let world = World::new();
    let tip = world.commit_unsigned("1");
    let server = Server::git(&world, Some(OPENS)).await;
    let token = |text: &str| Source { token_file: Some(world.write("token", text)), ..server.source() };

    assert_eq!(code_of(&world, &server.source()).await, Code::SourceDenied);
    let wrong = fetched(&world, &token("another-token")).await.unwrap_err();
    assert_eq!(wrong.reason().code, Code::SourceDenied, "{wrong}");
    assert!(!format!("{wrong} {wrong:?}").contains("another-token"), "{wrong:?}");
    assert_eq!(code_of(&world, &token("")).await, Code::SourceDenied);
    assert_eq!(fetched(&world, &token("s3cr3t-token\n")).await.unwrap().tip, tip);

    // A server that sends us on to another one, which then asks for the token.
    let thief =
        Server::says(|| (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=\"x\"")]).into_response())
            .await;
    let elsewhere = thief.url("/repo/.git/info/refs?service=git-upload-pack");
    let sends_on =
        Server::says(move || (StatusCode::FOUND, [(header::LOCATION, elsewhere.clone())]).into_response()).await;
    let lured = Source { url: sends_on.url("/repo/.git"), ..token("s3cr3t-token") };
    assert_eq!(code_of(&world, &lured).await, Code::SourceDenied);
    assert_eq!(thief.count(""), 0, "it was asked");

    let forbidden = Server::says(|| StatusCode::FORBIDDEN.into_response()).await;
    assert_eq!(code_of(&world, &forbidden.source()).await, Code::SourceDenied);
}

#[tokio::test]
async fn another_host_is_not_followed_to() {
    let world = World::new();
    world.commit_unsigned("1");
    let real = Server::git(&world, None).await;
    let elsewhere = real.url("/repo/.git/info/refs?service=git-upload-pack");
    let sends_on =
        Server::says(move || (StatusCode::FOUND, [(header::LOCATION, elsewhere.clone())]).into_response()).await;
    let error = fetched(&world, &sends_on.source()).await.unwrap_err();
    assert_eq!(error.reason().code, Code::SourceDenied);
    assert!(error.to_string().contains("another host"), "{error}");
}

#[tokio::test]
async fn a_server_that_drips_is_left_at_the_deadline() {
    let world = World::new();
    let drips = || {
        let drops = futures_util::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            // The first four say: a line of 4,369 bytes.
            Some((Ok::<_, std::io::Error>("1"), ()))
        });
        let kind = [(header::CONTENT_TYPE, "application/x-git-upload-pack-advertisement")];
        (kind, Body::from_stream(drops)).into_response()
    };
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silence = format!("http://{}/x", silent.local_addr().unwrap());
    for url in [Server::says(drips).await.url("/x"), silence] {
        let begun = Instant::now();
        let slow = Source { timeout: Duration::from_secs(2), ..source(url) };
        let error = fetched(&world, &slow).await.unwrap_err();
        assert!(matches!(error, GitError::Timeout { .. }), "{error}");
        assert_eq!(error.reason().class, Class::Transient);
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn the_fetch_process_dies_with_whoever_started_it() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_evenkeel"))
        .arg("__fetch")
        .env_clear()
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let request = serde_json::json!({
        "url": format!("http://{}/x", silent.local_addr().unwrap()),
        "reference": "refs/heads/main",
        "mirror": dir.path().join("mirror.git"),
        "credentials": null,
    });
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(format!("{request}\n").as_bytes()).await.unwrap();
    let _connected = silent.accept().await.unwrap();
    drop(stdin);
    let status = tokio::time::timeout(Duration::from_secs(5), child.wait()).await.unwrap().unwrap();
    assert!(!status.success());
}
