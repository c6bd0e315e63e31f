//! The process between the agent and what it runs.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use evenkeel::process::{Invocation, Runner};

const EVENKEEL: &str = env!("CARGO_BIN_EXE_evenkeel");

fn dies(pid: &str) -> bool {
    (0..200).any(|_| {
        thread::sleep(Duration::from_millis(20));
        // A zombie that nobody has waited for yet is dead.
        !std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    })
}

#[test]
fn ends_the_program_and_its_children_when_the_agent_is_gone() {
    let mut supervisor = Command::new(EVENKEEL)
        .args(["__child", "/bin/sh", "-c", "sleep 60 & echo $!; wait"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let mut pid = String::new();
    BufReader::new(supervisor.stdout.take().unwrap()).read_line(&mut pid).unwrap();
    // What the kernel does for an agent that was killed.
    drop(supervisor.stdin.take());
    supervisor.wait().unwrap();
    assert!(dies(pid.trim()), "the grandchild lives");
}

#[test]
fn refuses_to_run_in_a_group_that_is_not_its_own() {
    let done = Command::new(EVENKEEL).args(["__child", "/bin/true"]).output().unwrap();
    assert_eq!(done.status.code(), Some(127));
}

#[tokio::test]
async fn passes_on_output_and_exit_code() {
    let runner = Runner::supervised_by(Path::new(EVENKEEL));
    let invocation = Invocation {
        program: PathBuf::from("/bin/sh"),
        args: vec!["-c".to_owned(), "echo out; echo err >&2; cat; exit 7".to_owned()],
        env: vec![],
        cwd: PathBuf::from("/"),
        timeout: Duration::from_secs(20),
    };
    let done = runner.run(&invocation, None).await.unwrap();
    assert_eq!((done.code, done.stdout, done.stderr), (Some(7), b"out\n".to_vec(), b"err\n".to_vec()));
}
