//! Git, keys and servers as they really are, against `evenkeel`'s own reading of them.

#![expect(clippy::unwrap_used, reason = "a test ends where its world cannot be made")]

mod bombs;
#[cfg(feature = "openpgp")]
mod certificates;
mod fetch;
#[cfg(feature = "openpgp")]
mod gpg;
mod history;
#[cfg(feature = "openpgp")]
mod openpgp;
mod rules;
mod signatures;
mod verify;
mod world;
