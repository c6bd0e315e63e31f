//! The fetch process: `evenkeel __fetch`. It reads one request from standard input, fetches, and says how it went.

use std::{
    any::Any,
    cell::RefCell,
    io::{BufRead as _, Read as _, Write as _},
    path::Path,
    process::ExitCode,
    sync::atomic::AtomicBool,
    thread,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use evenkeel_core::id::CommitId;
use gix::{
    bstr::ByteSlice as _,
    credentials::{helper::Action, protocol::Outcome},
    progress::Discard,
    protocol::{
        handshake::Ref,
        transport::client::blocking_io::{Transport, connect, http},
    },
    remote::{
        Direction,
        fetch::{RefMap, Tags},
        ref_map,
    },
};
use rustix::process::{Resource, Rlimit, Signal, kill_current_process_group, setrlimit};

use super::{
    error::one_line,
    mirror::{VERB, shown},
    repo::Repo,
    wire::{Answer, Credentials, Request},
};

/// What is said when the server redirects to where we do not go.
const ELSEWHERE: &str = "it sends us to another address, which is not given the token; \
    if that is right, put the final address into source.url";

/// Longest request, in bytes.
const MAX_REQUEST_BYTES: u64 = 64 * 1024;
/// Most memory that the fetch may map, in bytes: packs are mapped whole.
const MAX_MEMORY_BYTES: u64 = 8 << 30;
/// Largest file that the fetch may write, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 30;

/// Runs the verb. The exit code says only whether there is an answer.
pub fn main() -> ExitCode {
    if rustix::process::getpgrp() != rustix::process::getpid() {
        eprintln!("evenkeel {VERB}: this is not for people: it needs a process group of its own");
        return ExitCode::FAILURE;
    }
    let mut line = String::new();
    let read = std::io::stdin().lock().take(MAX_REQUEST_BYTES).read_line(&mut line);
    // The error is not printed whole: it could quote the token.
    let request: Request = match read.map_err(|e| e.to_string()).and_then(|_| {
        serde_json::from_str(&line).map_err(|e| format!("the request is damaged in column {}", e.column()))
    }) {
        Ok(request) => request,
        Err(why) => {
            eprintln!("evenkeel {VERB}: {why}");
            return ExitCode::FAILURE;
        }
    };
    thread::spawn(end_with_the_agent);
    limit();
    // Fails only if a provider is there already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let answer = run(&request).unwrap_or_else(|answer| answer);
    match serde_json::to_string(&answer).map(|text| writeln!(std::io::stdout(), "{text}")) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Waits until the agent closes our standard input, or is gone, and ends this process and its helpers. Not by the
/// kernel's parent-death signal: that one follows the thread that started us, and the agent's threads come and go.
fn end_with_the_agent() {
    let mut byte = [0];
    while matches!(std::io::stdin().lock().read(&mut byte), Ok(1..)) {}
    let _ = kill_current_process_group(Signal::KILL);
}

/// Bounds what a hostile server can make us use. A limit that cannot be set is none.
fn limit() {
    let to = |bytes| Rlimit { current: Some(bytes), maximum: Some(bytes) };
    let _ = setrlimit(Resource::As, to(MAX_MEMORY_BYTES));
    let _ = setrlimit(Resource::Fsize, to(MAX_FILE_BYTES));
    let _ = setrlimit(Resource::Core, to(0));
}

/// A mirror that turns out to be damaged is thrown away, once: everything in it can be fetched again.
fn run(request: &Request) -> Result<Answer, Answer> {
    sweep(&request.mirror);
    let fresh = !request.mirror.exists();
    match fetch(request) {
        Err(Answer::Mirror(_) | Answer::Incomplete(_)) if !fresh => {
            discard(&request.mirror)?;
            fetch(request)
        }
        other => other,
    }
}

fn fetch(request: &Request) -> Result<Answer, Answer> {
    let mut repo = open(&request.mirror, None)?;
    let (tip, hash) = advertised(&repo, request)?;
    if repo.object_hash() != hash {
        drop(repo);
        discard(&request.mirror)?;
        repo = open(&request.mirror, Some(hash))?;
    }
    let commit = CommitId::new(&tip.to_string()).map_err(|e| Answer::Invalid(e.to_string()))?;
    if !has(&request.mirror, &commit)? {
        receive(&repo, request)?;
        if !has(&request.mirror, &commit)? {
            return Err(Answer::Incomplete(format!("it did not send the commit {} that it names", commit.short())));
        }
    }
    Ok(Answer::Tip(commit))
}

/// Whether the mirror has the commit and its tree, undamaged.
fn has(mirror: &Path, commit: &CommitId) -> Result<bool, Answer> {
    use evenkeel_layout::tree::Tree as _;
    let repo = Repo::open(mirror).map_err(|e| Answer::Mirror(e.to_string()))?;
    Ok(repo.tree(commit).is_ok_and(|tree| tree.list("").is_ok()))
}

/// Opens the mirror, or makes it.
fn open(mirror: &Path, hash: Option<gix::hash::Kind>) -> Result<gix::Repository, Answer> {
    let options = gix::open::Options::isolated().config_overrides(["core.useReplaceRefs=false"]);
    let fail = |e: gix::Error| Answer::Mirror(one_line(&e));
    let repo = if mirror.exists() {
        gix::ThreadSafeRepository::open_opts(mirror, options).map_err(fail)?
    } else {
        std::fs::create_dir_all(mirror).map_err(|e| Answer::Mirror(e.to_string()))?;
        let create = gix::create::Options { object_hash: hash, ..Default::default() };
        gix::ThreadSafeRepository::init_opts(mirror, gix::create::Kind::Bare, create, options).map_err(fail)?
    };
    Ok(repo.to_thread_local())
}

fn discard(mirror: &Path) -> Result<(), Answer> {
    std::fs::remove_dir_all(mirror).map_err(|e| Answer::Mirror(format!("it cannot be removed: {e}")))
}

/// Removes what a killed fetch left behind. Nobody else writes there: there is one agent a state folder.
fn sweep(mirror: &Path) {
    let Ok(entries) = std::fs::read_dir(mirror.join("objects/pack")) else { return };
    for entry in entries.flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(b".tmp") {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Asks the server where the ref is: one ref advertisement.
fn advertised(repo: &gix::Repository, request: &Request) -> Result<(gix::ObjectId, gix::hash::Kind), Answer> {
    let map = ref_map(repo, request, true)?;
    let wanted = request.reference.as_bytes();
    let found = map.remote_refs.iter().map(Ref::unpack).find(|(name, ..)| name.as_bytes() == wanted);
    if let Some(id) = found.and_then(|(_, id, _)| id) {
        return Ok((id.to_owned(), map.object_hash));
    }
    // The server was asked for this ref only; what else it has helps the operator.
    let all = ref_map(repo, request, false)?;
    Err(Answer::NoRef(absent(&all.remote_refs.iter().map(|r| r.unpack().0.to_string()).collect::<Vec<_>>())))
}

fn ref_map(repo: &gix::Repository, request: &Request, only_ours: bool) -> Result<RefMap, Answer> {
    let asked = Asked::default();
    let mut transport = transport(repo, request)?;
    let options = ref_map::Options { prefix_from_spec_as_filter_on_remote: only_ours, ..Default::default() };
    let map = remote(repo, request)?
        .to_connection_with_transport(&mut transport)
        .with_transport_options(http_options(request))
        .with_credentials(|action| authenticate(request, &asked, &action))
        .ref_map(Discard, options)
        .map(|(map, _)| map)
        .map_err(|e| classed(&e, request, &asked))?;
    same_host(&transport.to_url().to_string(), request)?;
    Ok(map)
}

/// Why the ref is not there, as far as the other names tell.
fn absent(names: &[String]) -> String {
    let mut branches: Vec<String> = names
        .iter()
        .filter_map(|n| n.strip_prefix("refs/heads/"))
        .map(|n| format!("{:.60}", n.escape_debug()))
        .collect();
    branches.sort();
    match branches.len() {
        0 => "it has no branch at all; the repository may be empty".to_owned(),
        n if n > 5 => format!("it has {n} other branches, {} among them", branches[0]),
        _ => format!("its branches are {}", branches.join(", ")),
    }
}

/// Fetches the pack and moves the mirror's ref.
fn receive(repo: &gix::Repository, request: &Request) -> Result<(), Answer> {
    let asked = Asked::default();
    let mut transport = transport(repo, request)?;
    remote(repo, request)?
        .to_connection_with_transport(&mut transport)
        .with_transport_options(http_options(request))
        .with_credentials(|action| authenticate(request, &asked, &action))
        .prepare_fetch(Discard, ref_map::Options::default())
        .and_then(|prepared| prepared.receive(Discard, &AtomicBool::new(false)))
        .map_err(|e| classed(&e, request, &asked))?;
    same_host(&transport.to_url().to_string(), request)
}

fn remote<'r>(repo: &'r gix::Repository, request: &Request) -> Result<gix::Remote<'r>, Answer> {
    let spec = format!("+{0}:{0}", request.reference);
    let made = repo
        .remote_at_without_url_rewrite(request.url.as_str())
        .and_then(|remote| remote.with_refspecs([spec.as_str()], Direction::Fetch));
    made.map(|remote| remote.with_fetch_tags(Tags::None)).map_err(|e| Answer::Invalid(one_line(&e)))
}

fn transport(repo: &gix::Repository, request: &Request) -> Result<Box<dyn Transport + Send>, Answer> {
    let asked = Asked::default();
    let (url, version) =
        remote(repo, request)?.sanitized_url_and_version(Direction::Fetch).map_err(|e| classed(&e, request, &asked))?;
    let options = connect::Options { version, ..Default::default() };
    connect::connect(url, options).map_err(|e| classed(&e, request, &asked))
}

/// What the server asked of us, for the message when it goes wrong.
type Asked = RefCell<Option<&'static str>>;

/// The options of the transport. The token goes with each request from the first on: then the transport follows no
/// redirection at all, and the token is seen by the configured scheme, host and port only.
fn http_options(request: &Request) -> Box<dyn Any> {
    let mut options = http::Options::default();
    if let Some(Credentials { username, token }) = &request.credentials {
        let basic = STANDARD.encode(format!("{username}:{token}"));
        options.extra_headers.push(format!("Authorization: Basic {basic}"));
    }
    Box::new(options)
}

/// The server wants credentials, or others than those it has got: there are no more.
fn authenticate(request: &Request, asked: &Asked, action: &Action) -> gix::Result<Option<Outcome>> {
    let Action::Get(_) = action else { return Ok(None) };
    let why = match &request.credentials {
        None => "it asks for credentials, and no token is configured",
        Some(_) => "it does not accept the configured token",
    };
    asked.replace(Some(why));
    Err(gix::Error::from_error(std::io::Error::other(why)))
}

/// Scheme, host and port of a URL.
fn authority(url: &str) -> Option<(String, String, Option<u16>)> {
    let url = gix::url::parse(url.as_bytes().as_bstr()).ok()?;
    let scheme = url.scheme.as_str().to_ascii_lowercase();
    Some((scheme, url.host()?.to_ascii_lowercase(), url.port_or_default()))
}

fn same_host(reached: &str, request: &Request) -> Result<(), Answer> {
    let http = request.url.get(..4).is_some_and(|head| head.eq_ignore_ascii_case("http"));
    if !http || authority(reached) == authority(&request.url) {
        return Ok(());
    }
    Err(Answer::Denied(format!(
        "it sends us to another host ({}); put that address into source.url if it is right",
        shown(reached)
    )))
}

/// Sorts an error by who must act.
fn classed(error: &gix::Error, request: &Request, asked: &Asked) -> Answer {
    if let Some(why) = asked.take() {
        return Answer::Denied(why.to_owned());
    }
    if error.downcast_any_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_redirect) {
        return Answer::Denied(ELSEWHERE.to_owned());
    }
    let mut why = one_line(error);
    if let Some(token) = request.credentials.as_ref().map(|c| &c.token) {
        why = why.replace(token.as_str(), "…");
    }
    let classes = || error.classify();
    if classes().is_permission_denied() || classes().is_unauthenticated() {
        Answer::Denied(why)
    } else if let Some(path) = request.url.strip_prefix("file://").filter(|_| lost(error)) {
        unserved(path)
    } else if classes().is_retryable() || lost(error) {
        Answer::Unreachable(why)
    } else {
        Answer::Invalid(why)
    }
}

/// Why `git-upload-pack` said nothing of a repository on this machine.
fn unserved(path: &str) -> Answer {
    use std::os::unix::fs::MetadataExt as _;
    let owner = std::fs::metadata(path).map(|m| m.uid());
    match owner {
        Ok(owner) if owner != rustix::process::geteuid().as_raw() => Answer::Denied(format!(
            "git serves no repository that another user owns, unless told to: git config --system --add safe.directory {path:?}"
        )),
        _ => Answer::Invalid(format!("git-upload-pack ended without an answer; try: git ls-remote file://{path}")),
    }
}

/// Whether the connection broke.
fn lost(error: &gix::Error) -> bool {
    use std::io::ErrorKind as Kind;
    error.downcast_any_ref::<std::io::Error>().is_some_and(|e| {
        matches!(
            e.kind(),
            Kind::UnexpectedEof | Kind::BrokenPipe | Kind::ConnectionReset | Kind::ConnectionAborted | Kind::TimedOut
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_server_is_told_by_scheme_host_and_port() {
        let own = authority("https://git.example/x/y.git");
        assert!(own.is_some());
        assert_eq!(own, authority("https://GIT.example:443/elsewhere"));
        assert_eq!(own, authority("https://user@git.example/x"));
        for other in [
            "http://git.example/x",
            "https://git.example:8443/x",
            "https://git.example.evil/x",
            "https://evil/git.example",
        ] {
            assert_ne!(own, authority(other), "{other}");
        }
        assert_eq!(authority("file:///x"), None);
    }

    #[test]
    fn a_url_is_shown_without_secrets() {
        assert_eq!(shown("https://user:pw@host:1/p?token=x"), "https://host:1/p");
        assert_eq!(shown("file:///srv/x.git"), "file:///srv/x.git");
    }
}
