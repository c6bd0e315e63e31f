//! What is wrong with `agent.yml`: all of it at once, each with its place and its remedy.

use std::{fmt, path::PathBuf};

/// One thing that is wrong in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// Line in the file, from 1; `None` if it is about the file as a whole.
    pub line: Option<usize>,
    /// The key, with dots: `source.interval`, `reports[0].webhook.url`; empty for the whole file.
    pub key: String,
    /// What is wrong. Never holds the value of a secret.
    pub message: String,
    /// The next thing to do.
    pub help: String,
}

/// Everything that is wrong with the configuration file; nothing of it was taken over.
///
/// Its text is one `file:line: key: message` and one indented remedy for each problem, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The file.
    pub file: PathBuf,
    /// At least one, sorted by line.
    pub problems: Vec<ConfigProblem>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.problems.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            write!(f, "{}:", self.file.display())?;
            if let Some(line) = problem.line {
                write!(f, "{line}:")?;
            }
            if !problem.key.is_empty() {
                write!(f, " {}:", problem.key)?;
            }
            write!(f, " {}", problem.message)?;
            if !problem.help.is_empty() {
                write!(f, "\n    {}", problem.help)?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// The known word that was probably meant: at most a third of the letters differ.
pub(super) fn nearest<'w>(typed: &str, known: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    // A key of thousands of letters is no typing error, and the distance costs the product of the lengths.
    if typed.len() > 64 {
        return None;
    }
    known
        .into_iter()
        .map(|word| (distance(typed, word), word))
        .filter(|(distance, word)| *distance <= (word.len().max(typed.len()) / 3).max(1))
        .min()
        .map(|(_, word)| word)
}

/// How many letters must be put in, left out or replaced (Levenshtein's distance).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, r) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(l != *r);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_miss_finds_its_word() {
        let known = ["interval", "timeout", "url", "ref"];
        assert_eq!(nearest("intervall", known), Some("interval"));
        assert_eq!(nearest("time_out", known), Some("timeout"));
        assert_eq!(nearest("uri", known), Some("url"));
        assert_eq!(nearest("branch", known), None);
        assert_eq!(nearest(&"x".repeat(5000), known), None);
    }
}
