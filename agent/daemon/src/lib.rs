//! The agent: adapters, the two spines, HTTP and the command line. See ARCHITECTURE.md for the layers.

pub mod config;
pub mod metrics;
pub mod process;
pub mod store;
pub mod terminal;

pub mod backup;
pub mod cache;
pub mod compose;
pub mod engine;
pub mod git;
pub mod report;
pub mod secrets;
pub mod tree;

pub mod host;
pub mod run;
pub mod steps;
pub mod sync;
pub mod trigger;

pub mod http;
pub mod socket;

pub mod service;

pub mod cli;
