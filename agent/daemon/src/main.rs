//! The `evenkeel` program.

use std::{ffi::OsString, process::ExitCode};

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    // Hidden verbs: parts of the agent that run as processes of their own. They are matched before the command line is
    // parsed, so that nothing but the agent itself sees them.
    match args.get(1).and_then(|verb| verb.to_str()) {
        Some(evenkeel::process::supervisor::VERB) => evenkeel::process::supervisor::main(&args[2..]),
        Some(evenkeel::git::VERB) => evenkeel::git::child::main(),
        Some(evenkeel::git::apart::VERIFY_VERB) => evenkeel::git::apart::main(),
        _ => evenkeel::cli::main(&args),
    }
}
