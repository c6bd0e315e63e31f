//! What `check` found, each thing once, whatever number of servers it concerns.

use std::{collections::BTreeMap, fmt::Write as _};

use evenkeel_core::validate::{
    catalogue::why,
    exceptions::{Allowed, Judged},
};
use evenkeel_layout::{
    name::ServerName,
    problem::{Problem, Severity},
};
use serde::Serialize;

use crate::cli::text::{self, DIM};

/// One finding.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// What, where, and what to do. `server` is empty if it concerns several.
    #[serde(flatten)]
    pub problem: Problem,
    /// The servers that it concerns; none if it concerns no server in particular.
    pub servers: Vec<String>,
    /// Why it matters.
    pub why: &'static str,
    /// Why it is allowed, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether the reason is written beside it.
    #[serde(skip)]
    pub is_inline: bool,
}

/// The whole answer.
#[derive(Debug, Serialize)]
pub struct Document {
    /// The version of this shape.
    pub schema: u32,
    /// The servers that were checked.
    pub servers: Vec<ServerName>,
    /// What was found, worst first.
    pub problems: Vec<Finding>,
    /// What was found and is allowed.
    pub allowed: Vec<Finding>,
    /// How many stacks there are.
    #[serde(skip)]
    pub stacks: usize,
}

impl Document {
    /// Whether any finding is as bad as this.
    pub fn has(&self, severity: Severity) -> bool {
        self.problems.iter().any(|finding| finding.problem.severity == severity)
    }
}

/// The findings of a judgement.
pub fn findings(judged: Judged) -> (Vec<Finding>, Vec<Finding>) {
    let problems = judged.problems.into_iter().map(|problem| (problem, None));
    let allowed =
        judged.allowed.into_iter().map(|Allowed { problem, reason, is_inline }| (problem, Some((reason, is_inline))));
    (once(problems), once(allowed))
}

type Reason = Option<(String, bool)>;

/// Joins what differs in its server only.
fn once(problems: impl Iterator<Item = (Problem, Reason)>) -> Vec<Finding> {
    let mut found: BTreeMap<(Problem, Reason), Vec<String>> = BTreeMap::new();
    for (mut problem, reason) in problems {
        let server = problem.server.take();
        found.entry((problem, reason)).or_default().extend(server);
    }
    let finding = |((mut problem, reason), servers): ((Problem, Reason), Vec<String>)| {
        if let [only] = servers.as_slice() {
            problem.server = Some(only.clone());
        }
        let why = why(&problem.code);
        let (reason, is_inline) = reason.unzip();
        Finding { problem, servers, why, reason, is_inline: is_inline.unwrap_or_default() }
    };
    found.into_iter().map(finding).collect()
}

/// The answer for people: a line for each finding, why and help once for a kind.
pub fn as_text(document: &Document) -> String {
    let mut out = String::new();
    let problems = &document.problems;
    for (n, finding) in problems.iter().enumerate() {
        out.push_str(&text::problem_line(&finding.problem, &finding.servers));
        let next = problems.get(n + 1).map(|next| &next.problem);
        let ends = |same: &dyn Fn(&Problem) -> bool| next.is_none_or(|next| !same(next));
        let Problem { code, help, severity, .. } = &finding.problem;
        if !finding.why.is_empty() && ends(&|next| next.code == *code && next.severity == *severity) {
            let _ = writeln!(out, "  {DIM}why: {}{DIM:#}", finding.why);
        }
        if !help.is_empty() && ends(&|next| next.code == *code && next.help == *help) {
            let _ = writeln!(out, "  {DIM}help: {}{DIM:#}", text::shown(help));
        }
    }
    out.push_str(&summary(document));
    out
}

/// `2 servers, 5 stacks: 1 error, 3 warnings; 2 allowed`.
pub fn summary(document: &Document) -> String {
    let (servers, stacks) = (text::plural(document.servers.len(), "server"), text::plural(document.stacks, "stack"));
    let count = text::count(&document.problems.iter().map(|finding| finding.problem.severity).collect::<Vec<_>>());
    let allowed =
        if document.allowed.is_empty() { String::new() } else { format!("; {} allowed", document.allowed.len()) };
    format!("{servers}, {stacks}: {count}{allowed}\n")
}
