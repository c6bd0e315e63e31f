//! Repositories that are reached over SSH: `ssh://git@host:22/path` and `git@host:path`.

use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

/// What a user's name may hold besides letters and digits.
const USER_SIGNS: &str = "._+-@";

/// Where a repository is on another machine.
///
/// Its parts reach `ssh` as arguments of their own. None of them can be taken for an option, and a part that only a
/// shell or `ssh` itself would read in another way does not get in here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshRemote {
    /// Who to log in as; forges use the same name, mostly `git`, for everybody.
    pub user: Option<String>,
    /// A name or an address, without brackets.
    pub host: String,
    /// Another port than 22.
    pub port: Option<u16>,
    /// As the server's shell would see it: relative to the user's home unless it begins with `/`.
    pub path: String,
}

impl SshRemote {
    /// Whether a text is meant as such a URL: `ssh://…`, or a colon before the first slash and no scheme, as Git has it.
    pub fn is_meant(text: &str) -> bool {
        let colon_first = || text.split('/').next().is_some_and(|head| head.contains(':'));
        text.starts_with("ssh://") || (!text.contains("://") && colon_first())
    }

    /// Reads either form. The error says what is wrong and never repeats the text, which may hold a password.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (login, port, path) = match text.strip_prefix("ssh://") {
            Some(rest) => Self::split_url(rest)?,
            None => Self::split_short(text)?,
        };
        let (user, host) = match login.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, login),
        };
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if !is_host(host) {
            return Err(
                "has no host that can be used: a name of letters, digits, `.`, `-` and `_`, or [an IPv6 address]",
            );
        }
        if user.is_some_and(|user| user.contains(':')) {
            return Err("has a password in it, which `ssh` cannot use");
        }
        if user.is_some_and(|user| !is_name(user, USER_SIGNS)) {
            return Err("has a user name that cannot be used");
        }
        if path.trim_matches('/').is_empty() || path.starts_with('-') || path.contains(char::is_control) {
            return Err("has no path of a repository after the host");
        }
        Ok(Self { user: user.map(str::to_owned), host: host.to_owned(), port, path })
    }

    /// The same with this user; `None` if that cannot be a user's name.
    pub fn with_user(self, user: &str) -> Option<Self> {
        is_name(user, USER_SIGNS).then(|| Self { user: Some(user.to_owned()), ..self })
    }

    /// `user@host:port/path`, where the path may hold `%20` and the like.
    fn split_url(rest: &str) -> Result<(&str, Option<u16>, String), &'static str> {
        let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        let end_of_host = authority.rfind(']').unwrap_or(0);
        let (login, port) = match authority.rfind(':').filter(|at| *at > end_of_host) {
            Some(at) => (&authority[..at], Some(&authority[at + 1..])),
            None => (authority, None),
        };
        // `user:password@host` is no port; the user's check names it.
        if port.is_some_and(|port| port.contains('@')) {
            return Err("has a password in it, which `ssh` cannot use");
        }
        let port = port.filter(|port| !port.is_empty()).map(str::parse::<u16>).transpose();
        let port = port.ok().filter(|port| *port != Some(0)).ok_or("has a port that is none")?;
        let path = percent_decoded(path).ok_or("has a `%` in its path that begins no character")?;
        // `/~user/x` stands for that user's home, which has no leading slash.
        let path = if path.starts_with("/~") { path[1..].to_owned() } else { path };
        Ok((login, port, path))
    }

    /// `user@host:path`, taken as it stands.
    fn split_short(text: &str) -> Result<(&str, Option<u16>, String), &'static str> {
        let end_of_host = text.find("]:").map_or(0, |at| at + 1);
        let colon = text[end_of_host..].find(':').map(|at| at + end_of_host).ok_or("has no colon after the host")?;
        let (login, path) = (&text[..colon], &text[colon + 1..]);
        // `user:password@host:path` would make the user the host.
        if !login.contains('@') && path.split('/').next().is_some_and(|head| head.contains('@')) {
            return Err("has a password in it, which `ssh` cannot use");
        }
        Ok((login, None, path.to_owned()))
    }
}

fn is_host(host: &str) -> bool {
    host.parse::<Ipv6Addr>().is_ok() || is_name(host, ".-_")
}

/// Letters, digits and some others, and never like an option.
fn is_name(text: &str, others: &str) -> bool {
    (1..=255).contains(&text.len())
        && !text.starts_with('-')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first == b'%' {
            let digits = after.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(text: &str) -> (Option<String>, String, Option<u16>, String) {
        let SshRemote { user, host, port, path } = SshRemote::parse(text).unwrap();
        (user, host, port, path)
    }

    #[test]
    fn both_forms_are_read_as_git_reads_them() {
        for (text, user, host, port, path) in [
            ("git@example.org:you/infra.git", Some("git"), "example.org", None, "you/infra.git"),
            ("example.org:/srv/git/x", None, "example.org", None, "/srv/git/x"),
            ("git@[2001:db8::1]:x", Some("git"), "2001:db8::1", None, "x"),
            ("git@example.org:a%20b 'c\".git", Some("git"), "example.org", None, "a%20b 'c\".git"),
            ("ssh://git@example.org/you/infra.git", Some("git"), "example.org", None, "/you/infra.git"),
            ("ssh://git@example.org:2222/x", Some("git"), "example.org", Some(2222), "/x"),
            ("ssh://[::1]:2222/x", None, "::1", Some(2222), "/x"),
            ("ssh://example.org/~you/x", None, "example.org", None, "~you/x"),
            ("ssh://example.org/a%20b/x", None, "example.org", None, "/a b/x"),
        ] {
            assert!(SshRemote::is_meant(text), "{text}");
            assert_eq!(parts(text), (user.map(str::to_owned), host.to_owned(), port, path.to_owned()), "{text}");
        }
        for other in ["https://example.org:443/x", "file:///a:b", "/srv/a:b", "./a:b", "main"] {
            assert!(!SshRemote::is_meant(other), "{other}");
        }
    }

    #[test]
    fn nothing_that_could_be_an_option_or_a_command_gets_in() {
        for text in [
            "ssh://-oProxyCommand=x/y",
            "ssh://git@-oProxyCommand=x/y",
            "-oProxyCommand=x:y",
            "git@-host:y",
            "-l@host:y",
            "git@host:-x",
            "git@ho st:x",
            "git@$(id):x",
            "git@host`id`:x",
            "g it@host:x",
            "ssh://you:hunter2@example.org/x",
            "you:hunter2@example.org:x",
            "ssh://example.org:0/x",
            "ssh://example.org:99999/x",
            "ssh://example.org/",
            "ssh://example.org",
            "ssh://example.org/a%0ab",
            "ssh://example.org/a%zz",
            "ssh://example.org/a%ff",
            "ssh:///x",
            "host:",
            ":x",
        ] {
            assert!(SshRemote::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "(ssh://)?[-a-z@:/\\[\\]%0-9 é'\"]{0,40}") {
            if let Ok(remote) = SshRemote::parse(&text) {
                prop_assert!(!remote.host.starts_with('-') && !remote.path.starts_with('-'));
                prop_assert!(remote.user.is_none_or(|user| !user.starts_with('-')));
            }
        }
    }
}
