//! `evenkeel man`: the manual pages, made from the same definition as `--help`. For packagers, so it is hidden.

use std::path::PathBuf;

use clap::CommandFactory;
use evenkeel_core::outcome::Exit;

use super::{Cli, output::Failure, output::Output};

/// Write the manual pages into a folder: evenkeel(1), and one for each verb.
#[derive(Debug, clap::Args)]
#[command(hide = true)]
#[command(after_help = "\
Examples:
  evenkeel man /usr/local/share/man/man1")]
pub struct Args {
    /// The folder; it must exist
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Writes the pages.
pub fn run(args: &Args, out: &Output) -> Result<Exit, Failure> {
    clap_mangen::generate_to(Cli::command(), &args.folder).map_err(|e| {
        let what = format!("cannot write the manual pages into {}: {e}", args.folder.display());
        Failure::failed("man.failed", what, "name a folder that exists and that you may write")
    })?;
    if out.is_json() {
        out.json(&serde_json::json!({"schema": super::output::SCHEMA, "folder": args.folder}));
    }
    Ok(Exit::Fine)
}
