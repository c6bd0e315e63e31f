//! `evenkeel completions`: what a shell needs to complete the command line.

use clap::CommandFactory;
use clap_complete::Shell;
use evenkeel_core::outcome::Exit;

use super::{Cli, output::Failure, output::Output};

/// Print a completion script for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  evenkeel completions bash > /etc/bash_completion.d/evenkeel
  evenkeel completions zsh > ~/.zfunc/_evenkeel")]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
pub fn run(args: &Args, out: &Output) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "evenkeel", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    if out.is_json() {
        out.json(&serde_json::json!({"schema": super::output::SCHEMA, "script": script}));
    } else {
        out.text(&script);
    }
    Ok(Exit::Fine)
}
