//! Who may read: whoever shows the token. Without one, whoever asks this machine by an address of its own.

use std::net::IpAddr;

use base64::Engine as _;
use hyper::{
    HeaderMap, StatusCode,
    header::{self, HeaderValue},
};
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::reply::Problem;
use crate::config::{read_secret, settings};

/// Lets a request pass, or says why not.
pub(super) fn admit(page: Option<&settings::Page>, headers: &HeaderMap) -> Result<(), Problem> {
    // The configuration may have turned the page off since this connection was accepted.
    let gone = || Problem::new(StatusCode::NOT_FOUND, "off", "the page is turned off", "set listen.page in agent.yml");
    let Some(file) = &page.ok_or_else(gone)?.token_file else { return by_own_name(headers) };
    let token = read_secret(file).map_err(|error| {
        tracing::error!(%error, "nobody can read the page");
        let help = "look at the agent's log on the server";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "token.unreadable", "the page's token cannot be read now", help)
    })?;
    let shown = headers.get(header::AUTHORIZATION).and_then(shown_token);
    if shown.is_some_and(|shown| is_same(&shown, token.expose_secret().as_bytes())) {
        return Ok(());
    }
    let help =
        "send the header Authorization: Bearer <token>; a browser takes the token as a password, with any user name";
    Err(Problem::new(StatusCode::UNAUTHORIZED, "token", "the page's token is missing or wrong", help)
        // Browsers know the first; programs look for the second.
        .with(header::WWW_AUTHENTICATE, "Basic realm=\"evenkeel\", charset=\"UTF-8\"")
        .with(header::WWW_AUTHENTICATE, "Bearer realm=\"evenkeel\""))
}

/// Refuses a name that is not this machine's own: a page elsewhere could have its name lead here, and read through the
/// browser of a person who sits at this machine.
fn by_own_name(headers: &HeaderMap) -> Result<(), Problem> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if is_own_name(host) {
        return Ok(());
    }
    let help = "ask for 127.0.0.1 or localhost; behind a proxy with a name of its own, set listen.page_token_file";
    Err(Problem::new(
        StatusCode::MISDIRECTED_REQUEST,
        "host",
        "without a token only this machine itself is served",
        help,
    ))
}

fn is_own_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// The token of `Bearer <token>`, or the password of `Basic <base64 of user:password>`.
fn shown_token(value: &HeaderValue) -> Option<Vec<u8>> {
    let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().as_bytes().to_vec());
    }
    let pair = base64::engine::general_purpose::STANDARD.decode(rest.trim()).ok()?;
    let colon = pair.iter().position(|b| *b == b':')?;
    scheme.eq_ignore_ascii_case("basic").then(|| pair[colon + 1..].to_vec())
}

/// In a time that tells neither content nor length: what is compared are digests.
fn is_same(shown: &[u8], token: &[u8]) -> bool {
    Sha256::digest(shown).ct_eq(&Sha256::digest(token)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_its_own() {
        for own in ["127.0.0.1", "127.0.0.1:8420", "localhost:8420", "LocalHost", "[::1]:8420", "[::ffff:127.0.0.1]"] {
            assert!(is_own_name(own), "{own}");
        }
        for other in
            ["", "evil.example", "evil.example:8420", "127.0.0.1.evil.example", "192.0.2.1", "[2001:db8::1]:80"]
        {
            assert!(!is_own_name(other), "{other}");
        }
    }

    #[test]
    fn a_token_is_taken_as_bearer_or_as_password() {
        let shown = |text: &str| shown_token(&HeaderValue::from_str(text).unwrap());
        assert_eq!(shown("Bearer abc").unwrap(), b"abc");
        assert_eq!(shown("bearer  abc ").unwrap(), b"abc");
        assert_eq!(shown("Basic eDphOmI=").unwrap(), b"a:b");
        for none in ["abc", "Digest abc", "Basic !!!", "Basic eA=="] {
            assert_eq!(shown(none), None, "{none}");
        }
        assert!(is_same(b"abc", b"abc") && !is_same(b"abc", b"abd") && !is_same(b"", b"abc"));
    }
}
