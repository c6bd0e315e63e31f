//! `agent.yml`: raw, then validated, all problems at once.

pub mod settings;
