//! `evenkeel suspend`.

use std::time::Duration;

use evenkeel_core::{outcome::Exit, people::LONGEST_SUSPENSION_MS};
use evenkeel_layout::name::StackName;

use super::{
    output::{Failure, Output},
    tell,
};
use crate::{config::parse_duration, socket::Tell};

/// Leave a stack alone for a while.
///
/// Nothing of it is deployed or removed meanwhile; what is under way goes on to its end. It ends by itself, also after a
/// restart of the agent, and then what the repository wants is deployed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  evenkeel suspend immich --for 2h --reason \"importing photos\"
  evenkeel suspend --all --for 1d --reason \"something is wrong, hands off\"")]
pub struct Args {
    /// The stack
    #[arg(value_name = "STACK", value_parser = tell::stack, required_unless_present = "all")]
    stack: Option<StackName>,
    /// Every stack
    #[arg(long, conflicts_with = "stack")]
    all: bool,
    /// For how long: 30m, 2h, 7d; at most 31d
    #[arg(long = "for", value_name = "TIME", value_parser = length)]
    length: Duration,
    /// Why, for the history and for those who ask later
    #[arg(long, value_name = "WHY", value_parser = tell::reason)]
    reason: String,
    #[command(flatten)]
    place: tell::Where,
}

/// Runs the verb.
pub fn run(args: &Args, out: &Output) -> Result<Exit, Failure> {
    let stack = args.stack.as_ref().map(ToString::to_string);
    let for_ms = u64::try_from(args.length.as_millis()).unwrap_or(u64::MAX);
    let tell = Tell::Suspend { stack, for_ms, reason: args.reason.clone() };
    tell::run(&args.place.config, &tell, out)
}

fn length(text: &str) -> Result<Duration, String> {
    let longest = Duration::from_millis(LONGEST_SUSPENSION_MS.unsigned_abs());
    match parse_duration(text) {
        Some(length) if length.is_zero() => Err("that is no time at all".to_owned()),
        Some(length) if length > longest => {
            Err("a suspension lasts 31d at most; suspend again when it is over".to_owned())
        }
        Some(length) => Ok(length),
        None => Err("write a whole number and a unit, such as 30m, 2h or 7d".to_owned()),
    }
}
