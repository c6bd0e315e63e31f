//! Builds the adapters and joins what they do.

pub mod candidates;
