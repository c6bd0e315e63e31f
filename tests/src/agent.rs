//! One agent process.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{program, wait::wait_until};

/// The mark in the environment of everything that a world starts, so that its processes can be found again.
pub const MARK: &str = "EVENKEEL_TEST_WORLD";

/// A running `evenkeel agent`. Dropping it kills it.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    log: PathBuf,
}

impl Agent {
    /// Starts the agent; what it says is appended to `log`.
    #[track_caller]
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let open = || -> std::io::Result<(File, File)> {
            let file = OpenOptions::new().create(true).append(true).open(log)?;
            Ok((file.try_clone()?, file))
        };
        let (out, err) = open().unwrap_or_else(|e| panic!("cannot write {}: {e}", log.display()));
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        let child = child.unwrap_or_else(|e| panic!("cannot run {}: {e}", program::shown(command)));
        Self { child, log: log.to_path_buf() }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    #[track_caller]
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of this process can be waited for")
    }

    /// SIGKILL: it cannot tidy up.
    #[track_caller]
    pub fn kill(mut self) {
        self.child.kill().expect("a child that was not waited for can be killed");
        let status = self.child.wait().expect("a killed child ends");
        assert_eq!(status.signal(), Some(9), "the agent had ended before it was killed: {status}");
    }

    /// SIGTERM; returns the exit code and how long it took. Fails the test if it takes longer than `limit`.
    #[track_caller]
    pub fn terminate(mut self, limit: Duration) -> (Option<i32>, Duration) {
        let started = Instant::now();
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("a child that was not waited for gets signals");
        let status = wait_until(limit, "the agent ends after SIGTERM", || {
            self.ended().ok_or_else(|| format!("it still runs; its log ends so:\n{}", self.tail(15)))
        });
        (status.code(), started.elapsed())
    }

    /// The last lines of its log.
    pub fn tail(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Either may fail because it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last lines of a file; empty if there is none.
pub fn tail(file: &Path, lines: usize) -> String {
    let text = fs::read(file).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// The processes that belong to a world, with their command lines: those whose environment carries its mark, and the
/// programs of the agent's that work on files in `folder` (it gives them an environment of their own).
pub fn processes_of(world: &str, folder: &Path) -> Vec<(Pid, String)> {
    let mark = format!("{MARK}={world}");
    let folder = folder.to_string_lossy();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let marked = environment.split(|b| *b == 0).any(|entry| entry == mark.as_bytes());
        let is_ours = marked || (is_agents(pid) && line.contains(folder.as_ref()));
        is_ours.then_some((Pid::from_raw(pid)?, line))
    })
    .collect()
}

fn is_agents(pid: i32) -> bool {
    let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let programs = ["docker", "docker-compose", "evenkeel", "restic"];
    exe.file_name().is_some_and(|name| programs.iter().any(|p| name == *p))
}
