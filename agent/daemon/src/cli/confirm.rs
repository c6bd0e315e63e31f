//! `evenkeel confirm`.

use evenkeel_core::outcome::Exit;

use super::{
    output::{Failure, Output},
    tell,
};
use crate::socket::Tell;

/// Let a plan go ahead that removes many stacks.
///
/// More stacks at once than `prune.max` are removed only when a person says so, of that very plan: `evenkeel status` shows its
/// id. When anything about what is removed changes, so does the id.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  evenkeel confirm 5d41402abc4b --reason \"the old stacks are gone\"")]
pub struct Args {
    /// The plan's id
    #[arg(value_name = "PLAN-ID")]
    plan: String,
    /// Why, for the history and for those who ask later
    #[arg(long, value_name = "WHY", value_parser = tell::reason)]
    reason: String,
    #[command(flatten)]
    place: tell::Where,
}

/// Runs the verb.
pub fn run(args: &Args, out: &Output) -> Result<Exit, Failure> {
    let tell = Tell::Confirm { plan: args.plan.clone(), reason: args.reason.clone() };
    tell::run(&args.place.config, &tell, out)
}
