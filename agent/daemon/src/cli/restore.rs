//! `evenkeel restore`.

use evenkeel_core::outcome::Exit;
use evenkeel_layout::name::StackName;

use super::{
    output::{Failure, Output},
    tell,
};
use crate::socket::Tell;

/// Bring the data of a stack back from a snapshot.
///
/// The data comes out of the snapshot beside what is there. Then the stack is stopped, what was there is put aside, whole,
/// the restored data takes its place, and the stack is started and has to pass its health gate. If it does not, what was
/// there before runs again. Nothing is overwritten or deleted; the answer says where the old data is.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  evenkeel snapshots immich
  evenkeel restore immich --reason \"the import deleted the albums\"
  evenkeel restore immich --snapshot 1a2b3c4d --reason \"back to Friday\"")]
pub struct Args {
    /// The stack
    #[arg(value_name = "STACK", value_parser = tell::stack)]
    stack: StackName,
    /// The snapshot, as `evenkeel snapshots` names it; without it, the newest of the stack
    #[arg(long, value_name = "ID", value_parser = snapshot)]
    snapshot: Option<String>,
    /// Why, for the history and for those who ask later
    #[arg(long, value_name = "WHY", value_parser = tell::reason)]
    reason: String,
    #[command(flatten)]
    place: tell::Where,
}

fn snapshot(text: &str) -> Result<String, String> {
    let is_id = (6..=64).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if is_id { Ok(text.to_owned()) } else { Err("a snapshot's id has 6 to 64 of the digits 0-9 a-f".to_owned()) }
}

/// Runs the verb.
pub fn run(args: &Args, out: &Output) -> Result<Exit, Failure> {
    let (stack, snapshot) = (args.stack.to_string(), args.snapshot.clone());
    tell::run(&args.place.config, &Tell::Restore { stack, snapshot, reason: args.reason.clone() }, out)
}
