//! What Compose says, without its noise, with paths as the repository has them, and without values.

use std::{collections::BTreeSet, path::Path};

use evenkeel_layout::problem::Problem;

use super::place::place;

/// Longest message that is passed on, in characters.
const MAX_CHARS: usize = 1000;

/// A layer's text, for finding lines.
pub(super) struct Layer<'a> {
    /// Its path from the repository's root.
    pub path: &'a str,
    /// Its text.
    pub text: String,
}

/// What Compose printed on standard error, sorted by what it means.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Said {
    /// Variables that are not set.
    pub unset: BTreeSet<String>,
    /// Other warnings.
    pub warnings: Vec<String>,
    /// Everything else: why it failed.
    pub errors: Vec<String>,
}

/// Sorts standard error. `root` is where the repository's files are: paths below it are shown without it.
pub(super) fn sort(stderr: &[u8], root: &Path) -> Said {
    let mut said = Said::default();
    let prefix = format!("{}/", root.display().to_string().trim_end_matches('/'));
    for line in String::from_utf8_lossy(stderr).lines().map(str::trim).filter(|l| !l.is_empty()) {
        let (level, text) = log_line(line);
        if let Some(name) = unset_variable(&text) {
            said.unset.insert(name.to_owned());
        } else {
            let text = without_values(&text.replace(&prefix, ""));
            match level {
                Some("warning") => said.warnings.push(text),
                Some("error" | "fatal") | None => said.errors.push(text),
                Some(_) => {}
            }
        }
    }
    said.warnings.dedup();
    said
}

/// Takes a line such as `time="…" level=warning msg="…"` apart. Other lines have no level and are their own text.
fn log_line(line: &str) -> (Option<&str>, String) {
    let parts = line.split_once(" level=").and_then(|(_, rest)| rest.split_once(" msg="));
    match parts {
        Some((level, msg)) if line.starts_with("time=") => {
            // A quoted message is written as Go does, which JSON can read but for a few escapes that do not occur here.
            let text = serde_json::from_str::<String>(msg).unwrap_or_else(|_| msg.trim_matches('"').to_owned());
            (Some(level), text)
        }
        _ => (None, line.to_owned()),
    }
}

fn unset_variable(text: &str) -> Option<&str> {
    text.strip_prefix("The \"")?.split_once("\" variable is not set").map(|(name, _)| name)
}

/// Compose repeats the text that it cannot read. In a Compose file that helps; of an environment file it can be a secret.
fn without_values(text: &str) -> String {
    let markers =
        [" near \"", " in variable name \"", "quoted value ", "Invalid template: ", "key cannot contain a space"];
    let cut =
        markers.iter().filter_map(|marker| text.find(marker).map(|at| at + marker.trim_end_matches('"').len())).min();
    let text = cut.map_or(text, |at| text[..at].trim_end_matches([' ', ':']));
    text.chars().take(MAX_CHARS).collect()
}

/// Replaces every value of these variables where it stands in a text.
pub(super) fn redacted(text: &str, env_files: &[Vec<u8>]) -> String {
    let mut out = text.to_owned();
    for content in env_files {
        for line in String::from_utf8_lossy(content).lines() {
            let Some((_, value)) = line.split_once('=') else { continue };
            let value = value.trim().trim_matches(['"', '\'']);
            // Short values stand in too many words, and a number is no secret that a message could give away.
            if value.len() >= 6 && out.contains(value) {
                out = out.replace(value, "***");
            }
        }
    }
    out
}

/// Makes a problem of Compose's failure, with the file and, as far as it can be told, the line.
pub(super) fn problem(errors: &[String], layers: &[Layer<'_>]) -> Problem {
    let text = errors.join("\n");
    if let Some(name) = required_variable(&text) {
        return required(name, &text, layers);
    }
    let message = if text.is_empty() { "Compose failed and did not say why".to_owned() } else { text.clone() };
    let problem = Problem::error("compose.invalid", message, help(&text));
    match place(&text, layers) {
        Some((path, line)) => problem.at(path, line),
        None => problem,
    }
}

/// The variable that Compose says must be set.
pub(super) fn required_variable(errors: &str) -> Option<&str> {
    let (_, rest) = errors.split_once("required variable ")?;
    rest.split([' ', ':', '\n']).next()
}

/// A part of every made-up value, by which it is found again. Long enough to be in no real value.
pub(super) const MARK: &str = "unset-variable-";

/// A value for a variable that is set nowhere, of the kind that its first use asks for: a path, a port, or just a word.
pub(super) fn plausible_value(name: &str, layers: &[Layer<'_>]) -> String {
    let line = uses(name, layers).and_then(|(path, line)| {
        let layer = layers.iter().find(|l| l.path == path)?;
        layer.text.lines().nth(line as usize - 1)
    });
    let line = line.unwrap_or_default();
    let after = line.split_once(name).map_or("", |(_, rest)| rest.split_once('}').map_or(rest, |(_, rest)| rest));
    let digit = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    if name.contains("PORT") || after.strip_prefix(':').is_some_and(digit) {
        return "1".to_owned();
    }
    // `${DIR}/x:/x`: the source of a mount.
    let is_source = after.split(['"', '\'', ' ']).next().is_some_and(|rest| rest.contains(":/"));
    let word = format!("{MARK}{}-", name.to_ascii_lowercase());
    if is_source { format!("/{word}") } else { word }
}

/// Said of a stack that cannot be rendered without the variables that it lacks here.
pub(super) fn undecided(problem: &Problem) -> Problem {
    let message =
        format!("cannot be judged without its variables; with made-up ones Compose says: {}", problem.message);
    let mut undecided =
        Problem::warning("env.unset", message, "give the variables defaults, or check it where they are set");
    (undecided.path, undecided.line) = (problem.path.clone(), problem.line);
    undecided
}

fn required(name: &str, text: &str, layers: &[Layer<'_>]) -> Problem {
    let (_, why) = text.split_once("is missing a value").unwrap_or_default();
    let why = why.trim_start_matches(':').trim();
    let why = if why.is_empty() { String::new() } else { format!(": {why}") };
    unset(name, layers, &format!("the variable {name} must be set and is not{why}"))
}

/// The problem of a variable that is set nowhere. A name that no layer uses comes out of an environment file, where a `$` in a
/// value begins a variable: then the name is a part of a value and is not shown.
pub(super) fn unset_problem(name: &str, layers: &[Layer<'_>]) -> Problem {
    if uses(name, layers).is_some() {
        return unset(name, layers, &format!("the variable {name} is used and set nowhere"));
    }
    Problem::error(
        "env.unset",
        "a value in an environment file, or a file that a layer includes, uses a variable that is set nowhere",
        "set it; if a value of an environment file has a `$` of its own, put the value in single quotes",
    )
    .at(layers.first().map_or("", |l| l.path), None)
}

fn unset(name: &str, layers: &[Layer<'_>], message: &str) -> Problem {
    // Without the name, so that it is said once for all of them.
    let help = "set it in an environment file beside the stack or on the server (_server.env or <stack>.env), or give it a default: ${NAME:-…}";
    let problem = Problem::error("env.unset", message, help);
    match uses(name, layers) {
        Some((path, line)) => problem.at(path, Some(line)),
        None => problem.at(layers.first().map_or("", |l| l.path), None),
    }
}

/// The first place that uses a variable.
fn uses<'a>(name: &str, layers: &[Layer<'a>]) -> Option<(&'a str, u32)> {
    layers.iter().find_map(|layer| {
        let index = layer.text.lines().position(|line| !line.trim_start().starts_with('#') && names(line, name))?;
        Some((layer.path, u32::try_from(index + 1).ok()?))
    })
}

/// Whether a line has `$NAME` or `${NAME`, not escaped by another `$`.
fn names(line: &str, name: &str) -> bool {
    line.match_indices('$').any(|(at, _)| {
        let escaped = line[..at].chars().rev().take_while(|c| *c == '$').count() % 2 == 1;
        let rest = &line[at + 1..];
        let rest = rest.strip_prefix('{').unwrap_or(rest);
        let ends = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        !escaped && rest.strip_prefix(name).is_some_and(ends)
    })
}

fn help(text: &str) -> &'static str {
    if text.contains("not found") || text.contains("no such file") || text.contains("Couldn't find env file") {
        "add the file to the repository, or place it on the server; for an env_file that may be missing say `required: false`"
    } else if text.contains("depends on undefined service") {
        "name a service of this stack, or use x-evenkeel's depends_on for another stack"
    } else if text.contains("setenv: invalid argument") {
        "give each line of the environment files a name: one of them begins with `=`"
    } else if text.contains("remote resource is disabled") {
        "copy the file into the repository: only what a signed commit holds is deployed"
    } else {
        "correct the file; `docker compose config` in its folder says the same"
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
