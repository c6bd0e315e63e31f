//! `evenkeel stacks`.

use std::path::PathBuf;

use evenkeel_core::outcome::Exit;

use super::output::{Failure, Output};

/// Placeholder.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  evenkeel stacks")]
pub struct Args {
    /// A work tree or a bare repository
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub repo: PathBuf,
}

/// Runs the verb.
pub fn run(args: &Args, _out: &Output) -> Result<Exit, Failure> {
    Err(Failure::failed("internal", format!("stacks is not there yet: {args:?}"), "use a newer version"))
}
