//! `evenkeel agent`.

use std::path::PathBuf;

use evenkeel_core::outcome::Exit;

use super::output::{Failure, Output};

/// Run the agent of this server.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  evenkeel agent
  evenkeel agent --once --config ./agent.yml")]
pub struct Args {
    /// The agent's configuration
    #[arg(long, value_name = "FILE", default_value = "/etc/evenkeel/agent.yml")]
    pub config: PathBuf,
    /// Do one sync and end with its exit code
    #[arg(long)]
    pub once: bool,
}

/// Runs the verb.
pub fn run(args: &Args, _out: &Output) -> Result<Exit, Failure> {
    Err(Failure::failed("internal", format!("agent is not there yet: {args:?}"), "use a newer version"))
}
