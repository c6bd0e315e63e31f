//! Exceptions: what a repository allows, beside the line (`# evenkeel: allow CODE reason`) or in `evenkeel.yml`, and how severe it
//! takes the rest.

use std::collections::BTreeMap;

use evenkeel_layout::{
    config::CONFIG_FILE,
    policy::{Exception, Level, Policy},
    problem::{Problem, Severity},
};

use super::catalogue::{Rule, nearest_code, rule};

/// A finding that is allowed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Allowed {
    /// The finding.
    pub problem: Problem,
    /// Why it is allowed.
    pub reason: String,
    /// Whether that is said beside it, and not in `evenkeel.yml`.
    pub is_inline: bool,
}

/// What is left of findings after the repository's own policy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Judged {
    /// Sorted, each once.
    pub problems: Vec<Problem>,
    /// Sorted, each once.
    pub allowed: Vec<Allowed>,
}

/// A comment in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Inline {
    code: String,
    reason: String,
    path: String,
    line: u32,
    /// First and last line that it covers; `None` for the whole file.
    covers: Option<(u32, u32)>,
}

/// Applies the repository's policy to everything that was found. `files` are the texts in which comments count; in those of them that
/// are `whole`, everything was found that there is, so that an exception that matches nothing is told of.
pub fn judge(problems: Vec<Problem>, policy: &Policy, files: &BTreeMap<String, String>, whole: bool) -> Judged {
    let mut judged = Judged::default();
    let mut comments = Vec::new();
    for (path, text) in files {
        comments.extend(inline(path, text, &mut judged.problems));
    }
    let known = known_exceptions(policy, &mut judged.problems);
    let mut used_comments = vec![false; comments.len()];
    let mut used_exceptions = vec![false; known.len()];
    for problem in problems {
        let Some(of_code) = rule(&problem.code).filter(|rule| may_be_allowed(rule, &problem)) else {
            judged.problems.push(problem);
            continue;
        };
        if let Some(at) = comments.iter().position(|comment| comment.covers(&problem)) {
            used_comments[at] = true;
            judged.allowed.push(Allowed { problem, reason: comments[at].reason.clone(), is_inline: true });
        } else if let Some(at) = known.iter().position(|exception| covers(exception, &problem)) {
            used_exceptions[at] = true;
            judged.allowed.push(Allowed { problem, reason: known[at].reason.clone(), is_inline: false });
        } else if let Some(problem) = with_severity(problem, of_code, policy) {
            judged.problems.push(problem);
        }
    }
    if whole {
        let comments = comments.iter().zip(used_comments).filter(|(_, used)| !used);
        judged.problems.extend(comments.map(|(c, _)| unused(&c.code, &c.path, Some(c.line))));
        let known = known.iter().zip(used_exceptions).filter(|(_, used)| !used);
        judged.problems.extend(known.map(|(e, _)| unused(&e.code.text, CONFIG_FILE, e.code.line)));
    }
    judged.problems.sort();
    judged.problems.dedup();
    judged.allowed.sort();
    judged.allowed.dedup();
    judged
}

/// What would not deploy stays an error, whatever anybody says of it.
fn may_be_allowed(rule: &Rule, problem: &Problem) -> bool {
    rule.is_policy() && problem.severity != Severity::Error
}

fn with_severity(mut problem: Problem, of_code: &Rule, policy: &Policy) -> Option<Problem> {
    // A code that is milder by circumstance stays so.
    if problem.severity != of_code.severity {
        return Some(problem);
    }
    match policy.rules.iter().rev().find(|(code, _)| code.text == problem.code).map(|(_, level)| *level) {
        Some(Level::Off) => return None,
        Some(Level::Info) => problem.severity = Severity::Info,
        Some(Level::Warning) => problem.severity = Severity::Warning,
        Some(Level::Error) => problem.severity = Severity::Error,
        None => {}
    }
    Some(problem)
}

fn unused(code: &str, path: &str, line: Option<u32>) -> Problem {
    Problem::info("policy.unused", format!("nothing is found here that `{code}` would allow"), "remove the exception")
        .at(path, line)
}

/// The exceptions of `evenkeel.yml` whose codes can be allowed; the others are told of, and so are severities that cannot be.
fn known_exceptions<'a>(policy: &'a Policy, problems: &mut Vec<Problem>) -> Vec<&'a Exception> {
    for (code, _) in &policy.rules {
        problems.extend(judge_code(&code.text, "given a severity").map(|p| p.at(CONFIG_FILE, code.line)));
    }
    let mut known = Vec::new();
    for exception in &policy.exceptions {
        match judge_code(&exception.code.text, "allowed") {
            Some(problem) => problems.push(problem.at(CONFIG_FILE, exception.code.line)),
            None => known.push(exception),
        }
    }
    known
}

/// What is wrong with a code that somebody names.
fn judge_code(code: &str, what: &str) -> Option<Problem> {
    match rule(code) {
        Some(rule) if rule.is_policy() => None,
        Some(_) => {
            let message = format!("`{code}` cannot be {what}: it would not deploy, or speaks of this policy itself");
            Some(Problem::warning("policy.exception", message, "correct what it finds, and remove this"))
        }
        None => {
            let shown: String = code.chars().take(80).collect();
            let help = nearest_code(code).map_or_else(
                || "all codes are in docs/reference/check.md".to_owned(),
                |near| format!("did you mean `{near}`?"),
            );
            Some(Problem::warning("policy.unknown-code", format!("there is no code {shown:?}"), help))
        }
    }
}

fn covers(exception: &Exception, problem: &Problem) -> bool {
    let is = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
    exception.code.text == problem.code
        && is(&exception.server, &problem.server)
        && is(&exception.stack, &problem.stack)
        && exception.covers_path(problem.path.as_deref())
}

impl Inline {
    fn covers(&self, problem: &Problem) -> bool {
        let within = match (self.covers, problem.line) {
            (None, _) => true,
            (Some((first, last)), Some(line)) => (first..=last).contains(&line),
            (Some(_), None) => false,
        };
        within && self.code == problem.code && problem.path.as_deref() == Some(self.path.as_str())
    }
}

/// The exceptions among a file's comments. What is wrong with one goes into `problems`.
fn inline(path: &str, text: &str, problems: &mut Vec<Problem>) -> Vec<Inline> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some((before, said)) = comment(line) else { continue };
        let number = number(index);
        let mut words = said.splitn(2, char::is_whitespace);
        let (code, reason) = (words.next().unwrap_or_default(), words.next().unwrap_or_default().trim());
        let wrong = if code.is_empty() || reason.is_empty() {
            let message = "an exception without a reason does not count";
            Some(Problem::warning("policy.exception", message, "write `# evenkeel: allow CODE reason`"))
        } else {
            judge_code(code, "allowed")
        };
        if let Some(problem) = wrong {
            problems.push(problem.at(path, Some(number)));
            continue;
        }
        let covers = if before.trim().is_empty() { covered_below(&lines, index) } else { Some(block(&lines, index)) };
        found.push(Inline {
            code: code.to_owned(),
            reason: reason.to_owned(),
            path: path.to_owned(),
            line: number,
            covers,
        });
    }
    found
}

/// The text before an exception's comment, and what follows `allow`.
fn comment(line: &str) -> Option<(&str, &str)> {
    let (at, _) = line.match_indices('#').find(|(at, _)| {
        let is_comment = line[..*at].chars().next_back().is_none_or(char::is_whitespace);
        is_comment && line[at + 1..].trim_start().starts_with("evenkeel:")
    })?;
    let said = line[at + 1..].trim_start().strip_prefix("evenkeel:")?.trim();
    let rest = said.strip_prefix("allow")?;
    (rest.is_empty() || rest.starts_with(char::is_whitespace)).then(|| (&line[..at], rest.trim_start()))
}

/// A comment on a line of its own is for what follows it; before everything else it is for the whole file.
fn covered_below(lines: &[&str], index: usize) -> Option<(u32, u32)> {
    let is_content = |line: &&str| !is_blank(line) && line.trim() != "---";
    if !lines[..index].iter().any(is_content) {
        return None;
    }
    let next = (index + 1..lines.len()).find(|n| !is_blank(lines[*n]));
    Some(next.map_or((number(index), number(index)), |next| block(lines, next)))
}

/// A line and everything that is indented below it.
fn block(lines: &[&str], first: usize) -> (u32, u32) {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let own = indent(lines[first]);
    // A list may stand as far left as its key.
    let is_key = lines[first].split(" #").next().is_some_and(|line| line.trim_end().ends_with(':'));
    let is_item = lines[first].trim_start().starts_with("- ");
    let belongs = |line: &str| {
        let more = indent(line) > own;
        is_blank(line) || more || (is_key && !is_item && indent(line) == own && line.trim_start().starts_with('-'))
    };
    let mut last = first;
    for (n, line) in lines.iter().enumerate().skip(first + 1) {
        if !belongs(line) {
            break;
        }
        if !is_blank(line) {
            last = n;
        }
    }
    (number(first), number(last))
}

fn is_blank(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty() || line.starts_with('#')
}

fn number(index: usize) -> u32 {
    u32::try_from(index + 1).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "exceptions_tests.rs"]
mod tests;
