//! The way to the server of a repository: what is spoken over it, what proves who we are, and what a fault means.

use std::{any::Any, cell::RefCell, error::Error, sync::atomic::AtomicBool};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use gix::{
    bstr::ByteSlice as _,
    credentials::{helper::Action, protocol::Outcome},
    progress::Discard,
    protocol::transport::client::{
        TransportWithoutIO as _,
        blocking_io::{Transport, connect, http},
    },
    remote::{
        Direction,
        fetch::{RefMap, Tags},
        ref_map,
    },
};

use super::{
    error::one_line,
    mirror::shown,
    ssh,
    wire::{Answer, Credentials, Request},
};

/// What is said when the server redirects to where we do not go.
const ELSEWHERE: &str = "it sends us to another address, which is not given the token; \
    if that is right, put the final address into source.url";
/// What is said when a certificate does not convince.
const CERTIFICATE: &str = "if it is signed by a CA of your own, name that CA's certificate in source.ca_file; \
    if not, somebody may be in between";

/// What the HTTP client says when the machine has none, and what is said instead.
const NO_CERTIFICATES: &str = "No CA certificates were loaded";
const CERTIFICATES: &str = "this machine has no CA certificates, without which nothing is asked over HTTP; \
    install the package ca-certificates, or name a file of them in source.ca_file";

/// A connection to the server, opened as far as it needs to be to know the way.
struct Link {
    transport: Box<dyn Transport + Send>,
    ssh: Option<ssh::Session>,
}

impl Link {
    fn open(repo: &gix::Repository, request: &Request) -> Result<Self, Answer> {
        if let Some(access) = &request.ssh {
            let (pipes, session) = ssh::connect(access)?;
            return Ok(Self { transport: Box::new(pipes), ssh: Some(session) });
        }
        let fail = |e| classed(&e, request, &Asked::default());
        let (url, version) = remote(repo, request)?.sanitized_url_and_version(Direction::Fetch).map_err(fail)?;
        let options = connect::Options { version, ..Default::default() };
        let transport = connect::connect(url, options).map_err(fail)?;
        Ok(Self { transport, ssh: None })
    }

    /// What an error on this connection means. If it broke, `ssh` knows better than we do.
    fn fault(self, error: &gix::Error, request: &Request, asked: &Asked) -> Answer {
        drop(self.transport);
        let of_ssh = self.ssh.zip(request.ssh.as_ref()).filter(|_| lost(error));
        let told = of_ssh.and_then(|(session, access)| session.fault(access));
        told.unwrap_or_else(|| classed(error, request, asked))
    }

    fn same_host(&self, request: &Request) -> Result<(), Answer> {
        same_host(&self.transport.to_url().to_string(), request)
    }
}

/// Asks the server for its refs; `only_ours`: for the tracked one.
pub(super) fn ref_map(repo: &gix::Repository, request: &Request, only_ours: bool) -> Result<RefMap, Answer> {
    let asked = Asked::default();
    let mut link = Link::open(repo, request)?;
    let options = ref_map::Options { prefix_from_spec_as_filter_on_remote: only_ours, ..Default::default() };
    let map = remote(repo, request)?
        .to_connection_with_transport(&mut link.transport)
        .with_transport_options(http_options(request))
        .with_credentials(|action| authenticate(request, &asked, &action))
        .ref_map(Discard, options)
        .map(|(map, _)| map);
    let map = match map {
        Ok(map) => map,
        Err(error) => return Err(link.fault(&error, request, &asked)),
    };
    link.same_host(request)?;
    Ok(map)
}

/// Fetches the pack and moves the mirror's ref.
pub(super) fn receive(repo: &gix::Repository, request: &Request) -> Result<(), Answer> {
    let asked = Asked::default();
    let mut link = Link::open(repo, request)?;
    let received = remote(repo, request)?
        .to_connection_with_transport(&mut link.transport)
        .with_transport_options(http_options(request))
        .with_credentials(|action| authenticate(request, &asked, &action))
        .prepare_fetch(Discard, ref_map::Options::default())
        .and_then(|prepared| prepared.receive(Discard, &AtomicBool::new(false)));
    match received {
        Ok(_) => link.same_host(request),
        Err(error) => Err(link.fault(&error, request, &asked)),
    }
}

fn remote<'r>(repo: &'r gix::Repository, request: &Request) -> Result<gix::Remote<'r>, Answer> {
    let spec = format!("+{0}:{0}", request.reference);
    let made = repo
        .remote_at_without_url_rewrite(request.url.as_str())
        .and_then(|remote| remote.with_refspecs([spec.as_str()], Direction::Fetch));
    made.map(|remote| remote.with_fetch_tags(Tags::None)).map_err(|e| Answer::Invalid(one_line(&e)))
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
    if is_full(error) {
        return Answer::Full;
    }
    let mut why = in_words(error);
    if why.contains(NO_CERTIFICATES) {
        return Answer::Untrusted(CERTIFICATES.to_owned());
    }
    if let Some(token) = request.credentials.as_ref().map(|c| &c.token) {
        why = why.replace(token.as_str(), "…");
    }
    if why.contains("invalid peer certificate") {
        return Answer::Untrusted(format!("{why}; {CERTIFICATE}"));
    }
    let classes = || error.classify();
    if classes().is_permission_denied() || classes().is_unauthenticated() {
        Answer::Denied(why)
    } else if request.url.strip_prefix("file://").is_some_and(|path| !std::path::Path::new(path).exists()) {
        // A disk that is not mounted is the likeliest cause, and comes back by itself.
        Answer::Unreachable("it does not exist".to_owned())
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

/// What happened, for a person.
fn in_words(error: &gix::Error) -> String {
    let text = one_line(error);
    match status(error) {
        Some(status) => format!("it answered with HTTP status {status}"),
        None if any_cause(error, |e| e.downcast_ref().is_some_and(reqwest::Error::is_body)) => {
            "the connection broke in the middle of an answer".to_owned()
        }
        // In the words of Git's documentation (gitprotocol-http(5)), which not everybody knows.
        None if text.contains("'dumb' protocol") => {
            "what answers is a web page or something else that is not Git's protocol".to_owned()
        }
        None => text,
    }
}

/// Whether there was no room on our own disk.
pub(super) fn is_full(error: &gix::Error) -> bool {
    let of_system = |e: &std::io::Error| e.kind() == std::io::ErrorKind::StorageFull;
    any_cause(error, |cause| cause.downcast_ref().is_some_and(of_system))
}

/// Whether the connection broke.
fn lost(error: &gix::Error) -> bool {
    use std::io::ErrorKind as Kind;
    let of_http =
        |e: &reqwest::Error| e.is_request() || e.is_connect() || e.is_body() || e.is_decode() || e.is_timeout();
    let of_system = |e: &std::io::Error| {
        let kinds =
            [Kind::UnexpectedEof, Kind::BrokenPipe, Kind::ConnectionReset, Kind::ConnectionAborted, Kind::TimedOut];
        kinds.contains(&e.kind())
    };
    any_cause(error, |cause| cause.downcast_ref().is_some_and(of_http) || cause.downcast_ref().is_some_and(of_system))
}

/// The status with which an HTTP server refused, if that is what happened.
fn status(error: &gix::Error) -> Option<reqwest::StatusCode> {
    let mut found = None;
    any_cause(error, |cause| {
        found = found.or_else(|| cause.downcast_ref::<reqwest::Error>()?.status());
        found.is_some()
    });
    found
}

/// Whether an error, or one of the causes of one, is so.
fn any_cause(error: &gix::Error, mut is_so: impl FnMut(&(dyn Error + 'static)) -> bool) -> bool {
    error.iter_errors().any(|e| {
        let mut next = Some(e as &(dyn Error + 'static));
        while let Some(cause) = next {
            if is_so(cause) {
                return true;
            }
            // What is wrapped in an error of the system is not among its sources.
            let wrapped = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            next = wrapped.map(|e| e as &(dyn Error + 'static)).or_else(|| cause.source());
        }
        false
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
