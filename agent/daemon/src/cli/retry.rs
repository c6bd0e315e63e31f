//! `evenkeel retry`.

use evenkeel_core::outcome::Exit;
use evenkeel_layout::name::StackName;

use super::{
    output::{Failure, Output},
    tell,
};
use crate::socket::Tell;

/// Try once more what is kept out.
///
/// Lifts the quarantine of what failed before, ends a hold that a rollback or accept left, and lets a halted stack be
/// deployed again. Then it syncs, and waits for the end.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  evenkeel retry immich
  evenkeel retry --reason \"the registry is back\"")]
pub struct Args {
    /// The stack; without it, all
    #[arg(value_name = "STACK", value_parser = tell::stack)]
    stack: Option<StackName>,
    /// Why, for the history
    #[arg(long, value_name = "WHY", value_parser = tell::reason)]
    reason: Option<String>,
    #[command(flatten)]
    place: tell::Where,
}

/// Runs the verb.
pub fn run(args: &Args, out: &Output) -> Result<Exit, Failure> {
    let stack = args.stack.as_ref().map(ToString::to_string);
    let tell = Tell::Retry { stack, reason: args.reason.clone().unwrap_or_default() };
    tell::run(&args.place.config, &tell, out)
}
