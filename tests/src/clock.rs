//! A clock that can jump: the real program, with the system's wall clock faked below it by libfaketime. The monotonic clock
//! stays what it is, as when somebody sets the time.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use crate::{operator::Operator, skip::skip};

/// The clock of one agent.
#[derive(Debug)]
pub struct Clock {
    file: PathBuf,
}

impl Clock {
    /// Gives the programs that `operator` starts a clock of their own, whose file lies in `folder`. `None`, and the test
    /// `name` is told as skipped, if libfaketime is not there.
    #[track_caller]
    pub fn set_up(name: &str, operator: &mut Operator, folder: &Path) -> Option<Self> {
        let Some(library) = library() else {
            skip(name, "there is no libfaketime: `docker/parts.sh faketime` gets it");
            return None;
        };
        let clock = Self { file: folder.join("clock") };
        clock.jump("+0");
        operator.set_variable("LD_PRELOAD", library);
        operator.set_variable("FAKETIME_TIMESTAMP_FILE", &clock.file);
        operator.set_variable("FAKETIME_NO_CACHE", "1");
        operator.set_variable("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        Some(clock)
    }

    /// Sets it so far off the right time: `+10d`, `-2h`.
    #[track_caller]
    pub fn jump(&self, by: &str) {
        let new = self.file.with_extension("new");
        let written = fs::write(&new, by).and_then(|()| fs::rename(&new, &self.file));
        written.expect("the world's folder is writable");
    }
}

/// The library that belongs to the program `faketime`: `…/lib/ARCHITECTURE/faketime/` beside `…/bin/`.
fn library() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let program = std::env::split_paths(&path).map(|folder| folder.join("faketime")).find(|file| file.is_file())?;
    let program = program.canonicalize().ok()?;
    let libraries = program.parent()?.parent()?.join("lib");
    let folders = fs::read_dir(libraries).ok()?.flatten().map(|entry| entry.path());
    let found = |folder: PathBuf| folder.join("faketime").join(OsStr::new("libfaketimeMT.so.1"));
    folders.map(found).find(|file| file.is_file())
}
