//! `evenkeel history`.

use std::path::PathBuf;

use evenkeel_core::outcome::Exit;

use super::output::{Failure, Output};

/// Show past syncs and what they did, newest first.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  evenkeel history
  evenkeel history --format json")]
pub struct Args {
    /// The agent's configuration
    #[arg(long, value_name = "FILE", default_value = "/etc/evenkeel/agent.yml")]
    pub config: PathBuf,
}

/// Runs the verb.
pub fn run(args: &Args, _out: &Output) -> Result<Exit, Failure> {
    Err(Failure::failed("internal", format!("history is not there yet: {args:?}"), "use a newer version"))
}
