//! Who asks, as the kernel vouches for it.

use std::fs;

use axum::{extract::connect_info::Connected, serve::IncomingStream};
use evenkeel_core::people::Person;
use tokio::net::{UnixListener, unix::UCred};

/// Largest list of users that is read, in bytes.
const MAX_USERS: u64 = 4 * 1024 * 1024;
/// What the kernel says of a process that belongs to no login.
const NO_LOGIN: u32 = u32::MAX;

/// The process at the other end, as it was when it connected. `None` if the kernel does not say.
#[derive(Debug, Clone)]
pub(super) struct Peer(Option<Person>);

impl Peer {
    /// Who it is.
    pub(super) fn person(&self) -> Option<Person> {
        self.0.clone()
    }
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self(stream.io().peer_cred().ok().map(|peer| person(&peer)))
    }
}

fn person(peer: &UCred) -> Person {
    // The process waits for our answer, so its number is still its own.
    let login = peer.pid().and_then(|pid| fs::read_to_string(format!("/proc/{pid}/loginuid")).ok());
    named(peer.uid(), login.and_then(|text| text.trim().parse().ok()))
}

/// The user that this process runs as.
pub fn myself() -> Person {
    let login = fs::read_to_string("/proc/self/loginuid").ok().and_then(|text| text.trim().parse().ok());
    named(rustix::process::getuid().as_raw(), login)
}

/// A user by name; with the one who logged in, if that is another: `alice (root)`.
fn named(uid: u32, login: Option<u32>) -> Person {
    let users = users();
    let name = |uid: u32| user_name(&users, uid).unwrap_or_else(|| format!("uid {uid}"));
    let name = match login.filter(|login| *login != uid && *login != NO_LOGIN) {
        Some(login) => format!("{} ({})", name(login), name(uid)),
        None => name(uid),
    };
    Person { uid, name }
}

fn users() -> String {
    use std::io::Read as _;
    let mut text = String::new();
    let read = fs::File::open("/etc/passwd").and_then(|file| file.take(MAX_USERS).read_to_string(&mut text));
    if read.is_ok() { text } else { String::new() }
}

fn user_name(users: &str, uid: u32) -> Option<String> {
    let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let of = |fields: Vec<&str>| match fields[..] {
        [name, _, number, ..] if number.parse() == Ok(uid) && !name.is_empty() => Some(name.to_owned()),
        _ => None,
    };
    fields.into_iter().find_map(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_known_by_name_or_by_number() {
        let users = "root:x:0:0:root:/root:/bin/sh\nbroken\nalice:x:1000:1000::/home/alice:/bin/sh\n";
        assert_eq!(user_name(users, 0).as_deref(), Some("root"));
        assert_eq!(user_name(users, 1000).as_deref(), Some("alice"));
        assert_eq!(user_name(users, 7), None);
        assert_eq!(named(4_000_000_000, None).name, "uid 4000000000");
        assert!(named(0, Some(4_000_000_000)).name.starts_with("uid 4000000000 ("));
        assert_eq!(named(0, Some(NO_LOGIN)), named(0, None));
    }
}
