//! The process between the agent and a program that it runs: it ends the program when the agent ends, however that was.
//!
//! The agent holds the write end of the supervisor's standard input and never writes to it. When the agent dies, even by
//! SIGKILL, the kernel closes that end, and the supervisor kills its whole process group: the program, its helpers (`docker`
//! runs Compose as a child of its own, which a parent-death signal would not reach) and itself.

use std::{
    ffi::OsString,
    io::{ErrorKind, Read as _},
    os::unix::process::ExitStatusExt as _,
    process::{Command, ExitCode, Stdio},
    thread,
};

/// The hidden verb that runs [`main`]: `evenkeel __child PROGRAM ARGUMENT…`.
pub const VERB: &str = "__child";

/// As a shell has it: the program could not be started.
const CANNOT_START: u8 = 127;

/// Runs a program until it ends or whoever holds our standard input is gone. Returns the program's exit code, 128 and the
/// signal's number if a signal ended it.
///
/// The caller must have made this process the leader of a process group of its own.
pub fn main(command: &[OsString]) -> ExitCode {
    let Some((program, args)) = command.split_first() else {
        eprintln!("evenkeel {VERB}: no program given");
        return ExitCode::from(CANNOT_START);
    };
    if rustix::process::getpgrp() != rustix::process::getpid() {
        eprintln!("evenkeel {VERB}: this is not for people: it needs a process group of its own");
        return ExitCode::from(CANNOT_START);
    }
    thread::spawn(end_with_the_agent);
    let status = Command::new(program).args(args).stdin(Stdio::null()).status();
    match status {
        Ok(status) => {
            let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
            ExitCode::from(u8::try_from(code).unwrap_or(1))
        }
        Err(e) => {
            eprintln!("cannot start {}: {e}", program.display());
            ExitCode::from(CANNOT_START)
        }
    }
}

/// Waits until standard input ends, then kills the process group. Never returns to anything.
fn end_with_the_agent() {
    let mut byte = [0];
    let mut stdin = std::io::stdin().lock();
    loop {
        match stdin.read(&mut byte) {
            Ok(1..) => {}
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => break,
        }
    }
    let _ = rustix::process::kill_current_process_group(rustix::process::Signal::KILL);
}
