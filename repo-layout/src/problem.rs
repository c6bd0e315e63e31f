//! What is wrong with a repository, said once and in one shape.

use serde::{Deserialize, Serialize};

/// How bad a problem is. `Error` keeps a stack from being deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The stack, or the whole set, cannot be deployed.
    Error,
    /// Deployable, but probably not what was meant.
    Warning,
    /// Worth knowing.
    Info,
}

/// One finding: what, where, and what to do next. `code` is `area.name` and stable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Stable code, `area.name`.
    pub code: String,
    /// The server it concerns, if it concerns one only.
    pub server: Option<String>,
    /// The stack it concerns.
    pub stack: Option<String>,
    /// The file, relative to the repository's root.
    pub path: Option<String>,
    /// Line in that file, from 1.
    pub line: Option<u32>,
    /// What is wrong.
    pub message: String,
    /// The next thing to do.
    pub help: String,
}

impl Problem {
    fn new(severity: Severity, code: &str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            severity,
            code: code.to_owned(),
            server: None,
            stack: None,
            path: None,
            line: None,
            message: message.into(),
            help: help.into(),
        }
    }

    /// A problem that keeps its stack from being deployed.
    pub fn error(code: &str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message, help)
    }

    /// A problem that a person should look at.
    pub fn warning(code: &str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message, help)
    }

    /// Something worth knowing.
    pub fn info(code: &str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(Severity::Info, code, message, help)
    }

    /// Names the server.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "takes names and texts alike")]
    pub fn on_server(mut self, server: impl ToString) -> Self {
        self.server = Some(server.to_string());
        self
    }

    /// Names the stack.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "takes names and texts alike")]
    pub fn in_stack(mut self, stack: impl ToString) -> Self {
        self.stack = Some(stack.to_string());
        self
    }

    /// Names the file and, if known, the line.
    #[must_use]
    pub fn at(mut self, path: impl Into<String>, line: Option<u32>) -> Self {
        self.path = Some(path.into());
        self.line = line;
        self
    }
}
