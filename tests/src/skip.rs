//! A test that cannot run on this machine says so, and why; the runner counts it as skipped.

use std::{fs::OpenOptions, io::Write as _, path::PathBuf, process::Command};

/// Tells that the test `name` cannot run here.
pub fn skip(name: &str, why: &str) {
    eprintln!("skipped {name}: {why}");
    let Some(file) = std::env::var_os("EVENKEEL_SKIPS") else { return };
    let opened = OpenOptions::new().create(true).append(true).open(&file);
    let told = opened.and_then(|mut file| writeln!(file, "{name}: {why}"));
    told.unwrap_or_else(|e| panic!("cannot write {}: {e}", PathBuf::from(file).display()));
}

/// Whether this process may mount and make namespaces; if not, the test `name` is told as skipped.
pub fn is_root(name: &str) -> bool {
    let may = Command::new("unshare").args(["--mount", "--uts", "true"]).output().is_ok_and(|out| out.status.success());
    if !may {
        skip(name, "it mounts file systems and makes namespaces, for which this user has no right");
    }
    may
}
