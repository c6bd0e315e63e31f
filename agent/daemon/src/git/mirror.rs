//! The mirror: a bare copy of the tracked branch, fetched in a process of its own.
//!
//! A blocked read of HTTP cannot be interrupted, and a parser may have faults: so the fetch runs in a child that can be
//! killed as a whole, has nothing in its environment, and dies with the agent.

use std::{ffi::OsString, path::Path};

use evenkeel_core::id::CommitId;

use super::{
    GitError,
    wire::{Answer, Credentials, Request, SshAccess},
    worker::{Job, Lost},
};
use crate::config::settings::{Source, Ssh};

/// The hidden verb of the fetch process.
pub const VERB: &str = "__fetch";

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
    let job = Job { program, verb: VERB, environment: environment(source.ca_file.as_deref()), request };
    match job.ask(source.timeout).await {
        Ok(answer) => outcome(answer, source, mirror),
        Err(Lost::Deadline) => Err(GitError::Timeout { url: shown(&source.url), after: source.timeout }),
        Err(Lost::Limit(why)) => Err(GitError::TooMuch { doing: "fetching".to_owned(), why }),
        Err(Lost::Failed(why)) => Err(GitError::Internal(why)),
    }
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
