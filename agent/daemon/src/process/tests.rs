use std::sync::Mutex;
use std::time::Instant;

use super::*;

fn shell(script: &str) -> Invocation {
    Invocation {
        program: PathBuf::from("/bin/sh"),
        args: vec!["-c".to_owned(), script.to_owned()],
        env: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned()), ("GIVEN".to_owned(), "yes".to_owned())],
        cwd: PathBuf::from("/"),
        timeout: Duration::from_secs(20),
    }
}

fn alive(pid: &str) -> bool {
    // A zombie that nobody has waited for yet is dead.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

async fn until_dead(pid: &str) -> bool {
    for _ in 0..100 {
        if !alive(pid) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

#[tokio::test]
async fn gives_only_the_stated_environment_and_reads_both_outputs() {
    let done = Runner::plain()
        .run(&shell("env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= | sort; echo no >&2; exit 3"), None)
        .await
        .unwrap();
    assert_eq!(done.code, Some(3));
    assert_eq!(String::from_utf8(done.stdout).unwrap(), "GIVEN=yes\nPATH=/usr/bin:/bin\n");
    assert_eq!(String::from_utf8(done.stderr).unwrap(), "no\n");
}

#[tokio::test]
async fn shows_progress_line_by_line() {
    let lines = Mutex::new(Vec::new());
    let on_line = |line: &str| lines.lock().unwrap().push(line.to_owned());
    Runner::plain().run(&shell("printf 'one\\ntwo\\n\\nthree' >&2"), Some(&on_line)).await.unwrap();
    assert_eq!(*lines.lock().unwrap(), ["one", "two", "", "three"]);
}

#[tokio::test]
async fn kills_the_whole_group_at_the_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let mut invocation = shell("sleep 60 & echo $! > pid; wait");
    invocation.cwd = folder.path().to_owned();
    invocation.timeout = Duration::from_millis(500);
    let began = Instant::now();
    let result = Runner::plain().run(&invocation, None).await;
    assert!(matches!(result, Err(RunError::Timeout { .. })));
    assert!(began.elapsed() < Duration::from_secs(10));
    let pid = std::fs::read_to_string(folder.path().join("pid")).unwrap();
    assert!(until_dead(pid.trim()).await, "the grandchild lives");
}

#[tokio::test]
async fn what_runs_alone_leaves_nothing_in_the_background() {
    let folder = tempfile::tempdir().unwrap();
    let mut invocation = shell("sleep 1000 & echo $! > pid; echo done; exit 3");
    invocation.cwd = folder.path().to_owned();
    let done = Runner::plain().run_alone(&invocation).await.unwrap();
    assert_eq!((done.code, done.stdout), (Some(3), b"done\n".to_vec()), "its own end is told");
    let pid = std::fs::read_to_string(folder.path().join("pid")).unwrap();
    assert!(until_dead(pid.trim()).await, "what it started lives");
}

#[tokio::test]
async fn kills_the_whole_group_when_the_future_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let mut invocation = shell("sleep 60 & echo $! > pid; wait");
    invocation.cwd = folder.path().to_owned();
    let cancelled = timeout(Duration::from_millis(500), Runner::plain().run(&invocation, None)).await;
    assert!(cancelled.is_err());
    let pid = std::fs::read_to_string(folder.path().join("pid")).unwrap();
    assert!(until_dead(pid.trim()).await, "the grandchild lives");
}

#[tokio::test]
async fn refuses_endless_output() {
    let result = Runner::plain().run(&shell("yes"), None).await;
    assert!(matches!(result, Err(RunError::TooMuchOutput { .. })));
}

#[tokio::test]
async fn keeps_the_end_of_a_long_standard_error() {
    let done = Runner::plain().run(&shell("yes | head -c 3000000 >&2; echo last >&2"), None).await.unwrap();
    assert_eq!(done.stderr.len(), MAX_STDERR_BYTES);
    assert!(done.stderr.ends_with(b"last\n"));
}

#[tokio::test]
async fn says_which_program_is_missing() {
    let mut invocation = shell("");
    invocation.program = PathBuf::from("/nowhere/docker");
    let error = Runner::plain().run(&invocation, None).await.err().unwrap();
    assert!(error.to_string().contains("/nowhere/docker"), "{error}");
}

#[test]
fn never_shows_a_value_of_the_environment() {
    let text = format!("{:?}", shell("echo 'a b'"));
    assert!(text.contains("GIVEN") && !text.contains("yes"), "{text}");
    assert_eq!(shell("a b").command_line(), "sh -c 'a b'");
}
