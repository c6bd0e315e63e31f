//! A disk that cannot keep what it is given: a library beneath the real program lets `fsync` fail, where a test says.

use std::{fs, path::PathBuf, process::Command};

use crate::{operator::Operator, program::Run, skip::skip};

/// Reads the file that `EVENKEEL_TEST_BROKEN` names each time: what it holds is part of the paths that are broken.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int is_broken(int fd) {
    char part[4096], link[64], path[4096];
    const char *file = getenv("EVENKEEL_TEST_BROKEN");
    int from = file ? open(file, O_RDONLY | O_CLOEXEC) : -1;
    if (from < 0) return 0;
    ssize_t length = read(from, part, sizeof part - 1);
    close(from);
    if (length <= 0) return 0;
    part[length] = 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return strstr(path, part) != NULL;
}

static int sync_with(const char *name, int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    if (is_broken(fd)) { errno = EIO; return -1; }
    return real(fd);
}

int fsync(int fd) { return sync_with("fsync", fd); }
int fdatasync(int fd) { return sync_with("fdatasync", fd); }
"#;

/// The disk of one agent.
#[derive(Debug)]
pub struct Shim {
    says: PathBuf,
}

impl Shim {
    /// Puts a disk that is in order beneath the programs that `operator` starts; its files lie in `folder`. `None`, and the
    /// test `name` is told as skipped, where there is no C compiler.
    #[track_caller]
    pub fn set_up(name: &str, operator: &mut Operator, folder: &std::path::Path) -> Option<Self> {
        if Command::new("cc").arg("--version").output().is_err() {
            skip(name, "there is no C compiler `cc`");
            return None;
        }
        let (source, library) = (folder.join("shim.c"), folder.join("shim.so"));
        fs::write(&source, SOURCE).expect("the world's folder is writable");
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl");
        Run::of(&mut compile).exits(0);
        let shim = Self { says: folder.join("broken") };
        operator.set_variable("LD_PRELOAD", library);
        operator.set_variable("EVENKEEL_TEST_BROKEN", &shim.says);
        Some(shim)
    }

    /// From now on no file whose path holds this can be made durable.
    #[track_caller]
    pub fn break_paths(&self, with: &str) {
        let new = self.says.with_extension("new");
        let written = fs::write(&new, with).and_then(|()| fs::rename(&new, &self.says));
        written.expect("the world's folder is writable");
    }

    /// It is in order again.
    #[track_caller]
    pub fn mend(&self) {
        fs::remove_file(&self.says).expect("it was broken");
    }
}
