//! `check --format sarif`: SARIF 2.1.0, which code scanning and editors read.
//! <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>

use evenkeel_core::validate::catalogue::{RULES, Rule};
use evenkeel_layout::{config::CONFIG_FILE, problem::Severity};
use serde_json::{Value, json};

use super::findings::{Document, Finding};

/// Where paths begin: whoever reads the log knows where the repository lies.
const ROOT: &str = "%SRCROOT%";

/// The log.
pub fn log(document: &Document) -> Value {
    let rules: Vec<Value> = RULES.iter().map(rule).collect();
    let results: Vec<Value> = document.problems.iter().chain(&document.allowed).map(result).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "evenkeel",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn rule(rule: &Rule) -> Value {
    json!({
        "id": rule.code,
        "shortDescription": {"text": sentence(rule.what)},
        "fullDescription": {"text": sentence(rule.why)},
        "help": {"text": sentence(rule.fix)},
        "defaultConfiguration": {"level": level(rule.severity)},
    })
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{first}{}.", chars.as_str())
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "note",
    }
}

fn result(finding: &Finding) -> Value {
    let problem = &finding.problem;
    // GitHub shows no result without a place.
    let uri = uri(problem.path.as_deref().unwrap_or(CONFIG_FILE));
    let mut place = json!({"artifactLocation": {"uri": uri, "uriBaseId": ROOT}});
    place["region"] = json!({"startLine": problem.line.unwrap_or(1).max(1)});
    let text = if problem.help.is_empty() {
        problem.message.clone()
    } else {
        format!("{}. {}", problem.message, sentence(&problem.help))
    };
    let mut result = json!({
        "ruleId": problem.code,
        "level": level(problem.severity),
        "message": {"text": text},
        "locations": [{"physicalLocation": place}],
        "properties": {"servers": finding.servers, "stack": problem.stack},
    });
    if let Some(index) = RULES.iter().position(|rule| rule.code == problem.code) {
        result["ruleIndex"] = json!(index);
    }
    if let Some(reason) = &finding.reason {
        let kind = if finding.is_inline { "inSource" } else { "external" };
        result["suppressions"] = json!([{"kind": kind, "justification": reason}]);
    }
    result
}

/// A path as a relative URI reference: RFC 3986, and never taken for one with a scheme.
fn uri(path: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'-' | b'_' | b'~');
    path.bytes().map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_relative_uri_whatever_it_is_called() {
        assert_eq!(uri("stacks/a b/compose.yml"), "stacks/a%20b/compose.yml");
        assert_eq!(uri("http://x/%41?ö#"), "http%3A//x/%2541%3F%C3%B6%23");
    }
}
