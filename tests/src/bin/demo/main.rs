//! `make demo`: one signed push after another, on a real server, narrated and checked. See `tests/demo.sh`.
//!
//!     demo            runs the six steps and cleans up; KEEP=1: stays until `demo clean`
//!     demo clean      ends a demo that was kept or left, and removes all that it made

/// Prints a line. A reader that went away (`make demo | head`) is no reason to leave containers behind.
macro_rules! tell {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($words)*);
    }};
}

/// The same on standard error.
macro_rules! complain {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($words)*);
    }};
}

mod narrator;
mod stage;
mod steps;

use std::{
    fs,
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use evenkeel_tests::agent;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::signal::unix::{SignalKind, signal};

use narrator::Narrator;
use stage::Stage;

/// Set when the demo is told to stop: from then on the steps fail for no fault of theirs.
static STOPPING: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    let folder = std::env::temp_dir().join("evenkeel-demo");
    match std::env::args().nth(1).as_deref() {
        None => run(&folder),
        Some("clean") => clean(&folder),
        Some(_) => {
            complain!("usage: demo [clean]");
            ExitCode::from(2)
        }
    }
}

fn run(folder: &Path) -> ExitCode {
    let keep = std::env::var_os("KEEP").is_some_and(|v| !v.is_empty());
    if let Err(why) = stage::is_free(folder) {
        complain!("demo: {why}");
        return ExitCode::from(2);
    }
    if let Err(e) = fs::create_dir(folder).and_then(|()| fs::write(folder.join("pid"), std::process::id().to_string()))
    {
        complain!("demo: cannot make {}: {e}", folder.display());
        return ExitCode::from(2);
    }
    clean_up_when_told(folder.to_path_buf());
    let log = folder.join("agent.log");
    panic::set_hook(Box::new(move |info| explain(info, &log)));
    let played = panic::catch_unwind(AssertUnwindSafe(|| play(folder, keep)));
    while STOPPING.load(Ordering::SeqCst) {
        // The thread that was told to stop cleans up, and ends this process.
        thread::park();
    }
    stage::remove_all(folder);
    if played.is_ok() {
        tell!("\nCleaned up: nothing of the demo is left but the images that it ran on.");
        ExitCode::SUCCESS
    } else {
        complain!("\nThe demo did not do what it says. What it had made is removed.");
        ExitCode::FAILURE
    }
}

fn play(folder: &Path, keep: bool) {
    let started = Instant::now();
    let mut stage = Stage::set(folder, Narrator::new());
    steps::all(&mut stage);
    stage.narrator.time("All six steps", started.elapsed());
    if keep {
        stage.tell_how_to_play();
        // The script that started this waits for the file, and leaves this process behind.
        fs::write(folder.join("ready"), "").expect("the demo's folder is writable");
        loop {
            thread::park();
        }
    }
}

/// Ctrl-C and `demo clean` must not leave containers behind.
fn clean_up_when_told(folder: PathBuf) {
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime of one thread can be made");
        runtime.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT can be listened to");
            let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be listened to");
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        });
        STOPPING.store(true, Ordering::SeqCst);
        tell!("\nStopped: cleaning up.");
        stage::remove_all(&folder);
        std::process::exit(130);
    });
}

fn explain(info: &PanicHookInfo<'_>, log: &Path) {
    if STOPPING.load(Ordering::SeqCst) {
        return;
    }
    let payload = info.payload();
    let message =
        payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&str>().copied());
    let place = info.location().map(|l| format!("{}:{}", l.file(), l.line())).unwrap_or_default();
    complain!("\n  FAILED  {}\n  (checked in {place})", message.unwrap_or("for no stated reason"));
    complain!("\n  The agent's log ends so:\n{}", agent::tail(log, 25));
}

fn clean(folder: &Path) -> ExitCode {
    let pid = fs::read_to_string(folder.join("pid")).ok().and_then(|t| t.parse().ok()).and_then(Pid::from_raw);
    // Only if that process is a demo still: numbers are used again.
    if let Some(pid) = pid.filter(|pid| is_demo(*pid)) {
        // It may end by itself in between.
        let _ = kill_process(pid, Signal::TERM);
        for _ in 0..300 {
            if test_kill_process(pid).is_err() {
                break;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
    stage::remove_all(folder);
    tell!("Nothing of the demo is left.");
    ExitCode::SUCCESS
}

fn is_demo(pid: Pid) -> bool {
    let program = |pid: String| fs::read_link(format!("/proc/{pid}/exe")).ok();
    let (own, other) = (program("self".to_owned()), program(pid.as_raw_nonzero().to_string()));
    own.is_some_and(|own| other.is_some_and(|other| other.file_name() == own.file_name()))
}
