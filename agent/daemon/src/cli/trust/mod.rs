//! `evenkeel trust`: set up, show and correct what this server trusts.

mod accept;
mod advice;
mod ask;
mod choose;
mod files;
mod given;
mod init;
mod status;
mod survey;

use clap::Subcommand;
use evenkeel_core::outcome::Exit;

use super::output::{Failure, Output};

/// Set up, show and correct what this server trusts.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  evenkeel trust init --url https://github.com/you/infra.git --branch main
  evenkeel trust status
  evenkeel trust accept 1c5f0a2b9d3e --reason 'history was cleaned'")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Init(Box<init::Args>),
    Status(status::Args),
    Accept(accept::Args),
}

/// Runs the verb.
pub fn run(args: &Args, out: &Output) -> Result<Exit, Failure> {
    match &args.verb {
        Verb::Init(args) => init::run(args, out),
        Verb::Status(args) => status::run(args, out),
        Verb::Accept(args) => accept::run(args, out),
    }
}
