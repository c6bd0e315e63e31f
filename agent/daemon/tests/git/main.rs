//! Git, keys and servers as they really are, against `evenkeel`'s own reading of them.

#![expect(clippy::unwrap_used, reason = "a test ends where its world cannot be made")]

mod bombs;
mod cases;
#[cfg(feature = "openpgp")]
mod certificates;
mod container;
mod fetch;
#[cfg(feature = "openpgp")]
mod forge;
#[cfg(feature = "openpgp")]
mod gpg;
mod history;
#[cfg(feature = "openpgp")]
mod init;
#[cfg(feature = "openpgp")]
mod openpgp;
mod rules;
mod signatures;
mod ssh;
mod verify;
mod world;
