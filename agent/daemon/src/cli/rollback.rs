//! `evenkeel rollback`.

use evenkeel_core::outcome::Exit;
use evenkeel_layout::name::StackName;

use super::{
    output::{Failure, Output},
    tell,
};
use crate::socket::Tell;

/// Put an earlier release of a stack back.
///
/// Needs neither the repository nor a registry: the release is kept on this server. It goes the way of any deployment:
/// backup, apply, health gate. The stack then stays at that release until the repository wants something else of it, or
/// somebody says `retry`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  evenkeel rollback immich --reason \"uploads are slow since this morning\"
  evenkeel rollback immich --to 12 --reason \"back to before the migration\"")]
pub struct Args {
    /// The stack
    #[arg(value_name = "STACK", value_parser = tell::stack)]
    stack: StackName,
    /// The release, as `evenkeel releases` numbers them; without it, the one before what runs
    #[arg(long, value_name = "RELEASE")]
    to: Option<i64>,
    /// Why, for the history and for those who ask later
    #[arg(long, value_name = "WHY", value_parser = tell::reason)]
    reason: String,
    #[command(flatten)]
    place: tell::Where,
}

/// Runs the verb.
pub fn run(args: &Args, out: &Output) -> Result<Exit, Failure> {
    let to = args.to.map(evenkeel_core::id::ReleaseId);
    let tell = Tell::Rollback { stack: args.stack.to_string(), to, reason: args.reason.clone() };
    tell::run(&args.place.config, &tell, out)
}
