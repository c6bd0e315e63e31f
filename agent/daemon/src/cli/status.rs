//! `evenkeel status`.

use std::path::PathBuf;

use evenkeel_core::outcome::Exit;

use super::output::{Failure, Output};

/// Show what runs, and since when.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  evenkeel status
  evenkeel status --format json")]
pub struct Args {
    /// The agent's configuration
    #[arg(long, value_name = "FILE", default_value = "/etc/evenkeel/agent.yml")]
    pub config: PathBuf,
}

/// Runs the verb.
pub fn run(args: &Args, _out: &Output) -> Result<Exit, Failure> {
    Err(Failure::failed("internal", format!("status is not there yet: {args:?}"), "use a newer version"))
}
