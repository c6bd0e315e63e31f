//! What a verb says: text or one JSON document on standard output, diagnostics on standard error.

use std::{
    cell::Cell,
    io::{ErrorKind, Write},
};

use clap::ValueEnum;
use evenkeel_core::{outcome::Exit, reason::Code};
use serde::Serialize;

/// The version of every JSON document that the command line prints.
pub const SCHEMA: u32 = 1;

/// The form of standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON document.
    Json,
    /// SARIF 2.1.0: `check` only.
    Sarif,
    /// Workflow commands of GitHub Actions: `check` only.
    Github,
    /// A comment for a pull request: `plan` only.
    Markdown,
}

/// Why a verb did not do its work: what happened, what to do next, and with which code the program ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The program's exit code.
    pub exit: Exit,
    /// Stable code, `area.name`.
    pub code: String,
    /// What happened, and where.
    pub message: String,
    /// The next thing to do.
    pub help: String,
}

impl Failure {
    /// A failure that ends with this exit code.
    pub fn new(exit: Exit, code: &str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { exit, code: code.to_owned(), message: message.into(), help: help.into() }
    }

    /// Wrong usage or configuration: exit code 2.
    pub fn usage(code: &str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(Exit::Usage, code, message, help)
    }

    /// The work failed: exit code 1.
    pub fn failed(code: &str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(Exit::Failed, code, message, help)
    }

    /// Worth trying again: exit code 7.
    pub fn transient(code: Code, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(Exit::Transient, code.as_str(), message, help)
    }
}

#[derive(Serialize)]
struct ErrorDocument<'a> {
    schema: u32,
    error: ErrorBody<'a>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: &'a str,
    message: &'a str,
    help: &'a str,
}

/// Where a verb writes to.
#[derive(Debug, Clone)]
pub struct Output {
    format: Format,
    has_failed: Cell<bool>,
}

impl Output {
    /// Output in this form.
    pub fn new(format: Format) -> Self {
        Self { format, has_failed: Cell::new(false) }
    }

    /// Whether something could not be written to standard output, other than for want of a reader.
    pub fn has_failed(&self) -> bool {
        self.has_failed.get()
    }

    /// The form that is asked for.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether one JSON document is asked for.
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Prints the verb's answer: `document` as JSON, or the text that `text` makes of it.
    pub fn answer<T: Serialize>(&self, document: &T, text: impl FnOnce(&T) -> String) {
        match self.format {
            Format::Json => self.json(document),
            Format::Text | Format::Sarif | Format::Github | Format::Markdown => self.write(text(document).as_bytes()),
        }
    }

    /// Prints one JSON document.
    pub fn json<T: Serialize + ?Sized>(&self, document: &T) {
        match serde_json::to_string_pretty(document) {
            Ok(mut text) => {
                text.push('\n');
                self.write(text.as_bytes());
            }
            Err(e) => self.note(&format!("cannot write the answer as JSON: {e}")),
        }
    }

    /// Prints text on standard output as it stands.
    pub fn text(&self, text: &str) {
        self.write(text.as_bytes());
    }

    /// Prints diagnostics that end in a line break themselves on standard error.
    pub fn note_text(&self, text: &str) {
        let _ = write!(anstream::stderr(), "{text}");
    }

    /// Prints one diagnostic line on standard error.
    pub fn note(&self, line: &str) {
        let _ = writeln!(anstream::stderr(), "{line}");
    }

    /// Prints why the verb did not do its work: for people on standard error, and the JSON document if asked for.
    pub fn failure(&self, failure: &Failure) {
        let red = anstyle::AnsiColor::Red.on_default().bold();
        self.note(&format!("{red}error{red:#}: {}", failure.message));
        if !failure.help.is_empty() {
            self.note(&format!("help: {}", failure.help));
        }
        if self.is_json() {
            self.error_document(failure);
        }
    }

    /// Prints the JSON document of a failure.
    pub fn error_document(&self, failure: &Failure) {
        let Failure { code, message, help, .. } = failure;
        self.json(&ErrorDocument { schema: SCHEMA, error: ErrorBody { code, message, help } });
    }

    fn write(&self, bytes: &[u8]) {
        let mut stdout = anstream::stdout();
        if let Err(e) = stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            // `evenkeel … | head` is fine; a full disk is not.
            if e.kind() != ErrorKind::BrokenPipe {
                self.has_failed.set(true);
                self.note(&format!("cannot write to standard output: {e}"));
            }
        }
    }
}
