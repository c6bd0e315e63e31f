//! Running programs to their end.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
};

use serde_json::Value;

/// What a program said and how it ended.
#[derive(Debug, Clone)]
pub struct Run {
    /// The command, for messages.
    pub command: String,
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Run {
    /// Runs `command` with nothing on its standard input.
    #[track_caller]
    pub fn of(command: &mut Command) -> Self {
        Self::with_input(command, b"")
    }

    /// Runs `command` with `input` on its standard input.
    #[track_caller]
    pub fn with_input(command: &mut Command, input: &[u8]) -> Self {
        let shown = shown(command);
        let output = feed(command, input).unwrap_or_else(|e| panic!("cannot run {shown}: {e}"));
        Self {
            command: shown,
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Fails the test unless it ended with `code`.
    #[track_caller]
    pub fn exits(&self, code: i32) -> &Self {
        assert!(self.code == Some(code), "expected exit code {code}\n{}", self.report());
        self
    }

    /// Fails the test unless it ended well, and returns its standard output without the last line's end.
    #[track_caller]
    pub fn ok(&self) -> String {
        self.exits(0).stdout.trim_end().to_owned()
    }

    /// Standard output as one JSON document.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("standard output is not one JSON document: {e}\n{}", self.report()))
    }

    /// Both outputs.
    pub fn said(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Everything, for a failure's message.
    pub fn report(&self) -> String {
        let code = self.code.map_or_else(|| "a signal".to_owned(), |c| c.to_string());
        format!("$ {}\nended with {code}\nstdout: {}\nstderr: {}", self.command, self.stdout, self.stderr)
    }
}

fn feed(command: &mut Command, input: &[u8]) -> std::io::Result<Output> {
    let stdin = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
    let mut child = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let stdin = child.stdin.take();
    thread::scope(|scope| {
        if let Some(mut stdin) = stdin {
            scope.spawn(move || stdin.write_all(input));
        }
        child.wait_with_output()
    })
}

/// A command line as one would type it.
pub fn shown(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(|w| w.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// The program under test: `EVENKEEL_BIN`, or where `cargo build` puts it.
pub fn evenkeel() -> PathBuf {
    if let Some(path) = std::env::var_os("EVENKEEL_BIN") {
        return path.into();
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let path = target.join("debug/evenkeel");
    assert!(path.exists(), "{} is not there: run `make test`, or `cargo build -p evenkeel` first", path.display());
    path
}

/// The repository that this kit is part of.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the kit lies in a folder of the repository").to_path_buf()
}
