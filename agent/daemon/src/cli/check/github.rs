//! `check --format github`: workflow commands, of which GitHub makes annotations beside the lines.
//! <https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands>

use std::fmt::Write as _;

use evenkeel_layout::problem::Severity;

use super::findings::{Document, Finding, summary};

/// A command for each finding, then a line for people.
pub fn commands(document: &Document) -> String {
    let mut out: String = document.problems.iter().map(command).collect();
    out.push_str(&summary(document));
    out
}

fn command(finding: &Finding) -> String {
    let problem = &finding.problem;
    let word = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "notice",
    };
    let mut out = format!("::{word} ");
    if let Some(path) = &problem.path {
        let _ = write!(out, "file={},", property(path));
        if let Some(line) = problem.line {
            let _ = write!(out, "line={line},");
        }
    }
    let of = [&finding.servers.join(","), problem.stack.as_deref().unwrap_or_default()];
    let of: Vec<&str> = of.into_iter().filter(|part| !part.is_empty()).collect();
    let title = if of.is_empty() { problem.code.clone() } else { format!("{} ({})", problem.code, of.join("/")) };
    let _ = write!(out, "title={}", property(&title));
    let mut text = problem.message.clone();
    for (label, more) in [("why", finding.why), ("help", &problem.help)] {
        if !more.is_empty() {
            let _ = write!(text, "\n{label}: {more}");
        }
    }
    let _ = writeln!(out, "::{}", data(&text));
    out
}

/// The text of a command ends with its line.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Between the colons commas and colons separate.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use evenkeel_core::validate::exceptions::Judged;
    use evenkeel_layout::problem::Problem;

    use super::{super::findings::findings, *};

    #[test]
    fn nothing_that_a_repository_says_becomes_a_command() {
        let bad = "x\n::set-output name=a::b\r%0A";
        let problem = Problem::warning("a.b", bad, "help").in_stack("s,file=x::").at("a,b:c\n.yml", Some(3));
        let (problems, allowed) = findings(Judged { problems: vec![problem], ..Judged::default() });
        let document = Document { schema: 1, servers: Vec::new(), problems, allowed, stacks: 1 };
        insta::assert_snapshot!(commands(&document), @r"
        ::warning file=a%2Cb%3Ac%0A.yml,line=3,title=a.b (s%2Cfile=x%3A%3A)::x%0A::set-output name=a::b%0D%250A%0Ahelp: help
        0 servers, 1 stack: 1 warning
        ");
    }
}
