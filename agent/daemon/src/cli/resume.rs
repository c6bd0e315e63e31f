//! `evenkeel resume`.

use evenkeel_core::outcome::Exit;
use evenkeel_layout::name::StackName;

use super::{
    output::{Failure, Output},
    tell,
};
use crate::socket::Tell;

/// End a suspension before its time.
///
/// `--all` ends what `suspend --all` began; the suspensions of single stacks go on.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  evenkeel resume immich
  evenkeel resume --all --reason \"found it\"")]
pub struct Args {
    /// The stack
    #[arg(value_name = "STACK", value_parser = tell::stack, required_unless_present = "all")]
    stack: Option<StackName>,
    /// Every stack
    #[arg(long, conflicts_with = "stack")]
    all: bool,
    /// Why, for the history
    #[arg(long, value_name = "WHY", value_parser = tell::reason)]
    reason: Option<String>,
    #[command(flatten)]
    place: tell::Where,
}

/// Runs the verb.
pub fn run(args: &Args, out: &Output) -> Result<Exit, Failure> {
    let stack = args.stack.as_ref().map(ToString::to_string);
    let tell = Tell::Resume { stack, reason: args.reason.clone().unwrap_or_default() };
    tell::run(&args.place.config, &tell, out)
}
