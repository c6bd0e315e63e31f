//! Git, keys and servers as they really are, against `evenkeel`'s own reading of them.

#![expect(clippy::unwrap_used, reason = "a test ends where its world cannot be made")]

mod fetch;
mod history;
mod signatures;
mod verify;
mod world;
