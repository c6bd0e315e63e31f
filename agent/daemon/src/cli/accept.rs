//! `evenkeel accept`.

use evenkeel_core::outcome::Exit;
use evenkeel_layout::name::StackName;

use super::{
    output::{Failure, Output},
    tell,
};
use crate::socket::Tell;

/// Take what a stack runs now as good.
///
/// For one that is rolled back or halted, and that you have looked at: it counts as its current release. What failed stays
/// out until the repository wants something else of the stack. The next deployment of a stack that was halted makes all
/// its containers anew.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  evenkeel accept immich --reason \"started by hand, it works\"")]
pub struct Args {
    /// The stack
    #[arg(value_name = "STACK", value_parser = tell::stack)]
    stack: StackName,
    /// Why, for the history and for those who ask later
    #[arg(long, value_name = "WHY", value_parser = tell::reason)]
    reason: String,
    #[command(flatten)]
    place: tell::Where,
}

/// Runs the verb.
pub fn run(args: &Args, out: &Output) -> Result<Exit, Failure> {
    let tell = Tell::Accept { stack: args.stack.to_string(), reason: args.reason.clone() };
    tell::run(&args.place.config, &tell, out)
}
