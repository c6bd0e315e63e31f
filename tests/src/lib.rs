//! The test kit: a [`world::World`] with a server, a signed repository and an agent, on real parts; and receivers for
//! what the agent says.
//!
//! A kit's way to say that a promise is broken is to panic, with what was waited for and what was seen instead: tests
//! read better without a `?` on each line, and the line of the test that failed is in the message.
#![expect(clippy::panic, clippy::missing_panics_doc, reason = "a test kit fails tests by panicking")]

pub mod agent;
pub mod caller;
pub mod certificate;
pub mod clock;
pub mod config;
pub mod disk;
pub mod docker;
pub mod encrypted;
pub mod engine;
pub mod example;
pub mod fixture;
pub mod http;
pub mod journal;
pub mod keys;
pub mod memory;
pub mod operator;
pub mod pack;
pub mod port;
pub mod program;
pub mod range;
pub mod receivers;
pub mod repository;
pub mod restic;
pub mod said;
pub mod shim;
pub mod skip;
pub mod wait;
pub mod world;
