//! `evenkeel verify`.

use std::path::PathBuf;

use evenkeel_core::outcome::Exit;

use super::output::{Failure, Output};

/// Check the signatures of commits.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  evenkeel verify --repo . --allowed-signers allowed_signers
  evenkeel verify --repo . --allowed-signers allowed_signers main~5..main")]
pub struct Args {
    /// A work tree or a bare repository
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub repo: PathBuf,
    /// Keys that may sign, as ssh-keygen reads them
    #[arg(long, value_name = "FILE")]
    pub allowed_signers: Option<PathBuf>,
    /// Keys that never count, one public key a line
    #[arg(long, value_name = "FILE")]
    pub revoked: Option<PathBuf>,
    /// A revision, or a range `A..B`; default HEAD
    #[arg(value_name = "REV|A..B")]
    pub revision: Option<String>,
}

/// Runs the verb.
pub fn run(args: &Args, _out: &Output) -> Result<Exit, Failure> {
    Err(Failure::failed("internal", format!("verify is not there yet: {args:?}"), "use a newer version"))
}
