//! The mirror: a bare copy of the tracked branch, fetched in a process of its own.
//!
//! A blocked read of HTTP cannot be interrupted, and a parser may have faults: so the fetch runs in a child that can be
//! killed as a whole, has nothing in its environment, and dies with the agent.

use std::{ffi::OsString, io, path::Path, process::Stdio};

use evenkeel_core::id::CommitId;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
};

use super::{
    GitError,
    wire::{Answer, Credentials, Request, SshAccess},
};
use crate::config::settings::{Source, Ssh};

/// The hidden verb of the fetch process.
pub const VERB: &str = "__fetch";

/// Most bytes that the fetch process may say on one stream.
const MAX_OUTPUT_BYTES: u64 = 64 * 1024;
/// Longest token, in bytes.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// What the fetch process gets of our environment: the way to `git-upload-pack` (for
/// `file://`) and `ssh`, and to the network. Proxies are for HTTP; `ssh` uses none.
const ENVIRONMENT: &[&str] = &[
    "PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
];

/// What a fetch brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The commit at the tracked ref. Not verified.
    pub tip: CommitId,
}

/// Brings the mirror up to the tracked ref. If the ref has not moved, this costs one ref advertisement.
///
/// Ends after `source.timeout` at the latest. Dropping the future ends the fetch.
pub async fn fetch(source: &Source, mirror: &Path) -> Result<Fetched, GitError> {
    // The link stays right when the file is replaced by an upgrade while we run.
    fetch_with(Path::new("/proc/self/exe"), source, mirror).await
}

/// As [`fetch`], with the program to run: `evenkeel` itself.
pub async fn fetch_with(program: &Path, source: &Source, mirror: &Path) -> Result<Fetched, GitError> {
    let request = Request {
        url: source.url.clone(),
        reference: source.reference.clone(),
        mirror: mirror.to_owned(),
        credentials: credentials(source)?,
        ssh: source.ssh.as_ref().map(|Ssh { remote, key, known_hosts }| SshAccess {
            remote: remote.clone(),
            key: key.clone(),
            known_hosts: known_hosts.clone(),
        }),
    };
    let mut line = serde_json::to_vec(&request).map_err(|e| GitError::Internal(e.to_string()))?;
    line.push(b'\n');
    let answer = tokio::time::timeout(source.timeout, run(program, &line, source.ca_file.as_deref())).await;
    let Ok(answer) = answer else {
        return Err(GitError::Timeout { url: shown(&source.url), after: source.timeout });
    };
    outcome(answer?, source, mirror)
}

fn outcome(answer: Answer, source: &Source, mirror: &Path) -> Result<Fetched, GitError> {
    let url = shown(&source.url);
    Err(match answer {
        Answer::Tip(tip) => return Ok(Fetched { tip }),
        Answer::Unreachable(why) => GitError::Unreachable { url, why },
        Answer::Denied(why) => GitError::Denied { url, why },
        Answer::Untrusted(why) => GitError::Untrusted { url, why },
        Answer::NoRef(why) => GitError::NoRef { url, reference: source.reference.clone(), why },
        Answer::Invalid(why) | Answer::Incomplete(why) => GitError::Invalid { url, why },
        Answer::Mirror(why) => GitError::Mirror { path: mirror.to_owned(), why },
        Answer::Full => GitError::Full { path: mirror.to_owned() },
    })
}

/// Runs the fetch process to its end.
async fn run(program: &Path, request: &[u8], ca_file: Option<&Path>) -> Result<Answer, GitError> {
    let internal = |what: &str, e: io::Error| GitError::Internal(format!("{what}: {e}"));
    let mut child = Command::new(program)
        .arg(VERB)
        .env_clear()
        .envs(environment(ca_file))
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| internal("it cannot be started", e))?;
    let mut group = Group::of(&child);
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(GitError::Internal("it has no standard streams".to_owned()));
    };
    // Standard input stays open: its end tells the child that we are gone.
    let sent = async { stdin.write_all(request).await };
    let (sent, said, complained) = tokio::join!(sent, capped(stdout), capped(stderr));
    let status = child.wait().await.map_err(|e| internal("it cannot be waited for", e))?;
    group.ended();
    drop(stdin);
    let said = said.map_err(|e| internal("its answer cannot be read", e))?;
    serde_json::from_slice(&said).map_err(|_| {
        let complained = complained.unwrap_or_default();
        let last = complained.trim_ascii().split(|&b| b == b'\n').next_back().unwrap_or_default();
        let sent = sent.err().map(|e| format!(", the request was not read ({e})")).unwrap_or_default();
        GitError::Internal(format!("no answer, {status}{sent}: {}", super::commit::displayable(last, 300)))
    })
}

async fn capped(stream: impl AsyncRead + Unpin) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.take(MAX_OUTPUT_BYTES).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

/// Ends a process group when dropped, unless its leader was waited for: from then on the number may be another's.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)))
    }

    fn ended(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

fn environment(ca_file: Option<&Path>) -> Vec<(&'static str, OsString)> {
    let mut all: Vec<_> = ENVIRONMENT.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))).collect();
    if let Some(file) = ca_file {
        all.retain(|(name, _)| !name.starts_with("SSL_CERT_"));
        all.push(("SSL_CERT_FILE", file.as_os_str().to_owned()));
    }
    all
}

/// The token is read at each fetch: a renewed one counts at once.
fn credentials(source: &Source) -> Result<Option<Credentials>, GitError> {
    let Some(path) = &source.token_file else { return Ok(None) };
    let fail = |why: String| GitError::Config { path: path.clone(), why };
    let token = std::fs::read_to_string(path).map_err(|e| fail(e.to_string()))?.trim().to_owned();
    if token.is_empty() || token.len() > MAX_TOKEN_BYTES || token.chars().any(char::is_control) {
        return Err(fail("it does not hold one token on one line".to_owned()));
    }
    Ok(Some(Credentials { username: source.username.clone(), token }))
}

/// A URL without what may be a secret: user name, password, query.
pub(super) fn shown(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        None => url.to_owned(),
    }
}
