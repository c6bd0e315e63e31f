//! Every code that a finding can have: what it means, why it matters, and what to do. `docs/reference/check.md` is made from it.

mod rules;

use evenkeel_layout::{nearest, problem::Severity};

pub use rules::RULES;

/// One code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Stable, `area.name`.
    pub code: &'static str,
    /// The severity that it has unless the repository's policy says otherwise.
    pub severity: Severity,
    /// What is found, in a few words.
    pub what: &'static str,
    /// Why it matters.
    pub why: &'static str,
    /// What to do about it.
    pub fix: &'static str,
}

impl Rule {
    /// Whether a repository's policy may change the severity, and an exception may allow it. What would not deploy stays an error.
    pub fn is_policy(&self) -> bool {
        self.severity != Severity::Error && !self.code.starts_with("policy.")
    }
}

/// The rule of this code.
pub fn rule(code: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.code == code)
}

/// Why a finding of this code matters; nothing for a code that is not in the catalogue.
pub fn why(code: &str) -> &'static str {
    rule(code).map_or("", |rule| rule.why)
}

/// The code that was probably meant.
pub fn nearest_code(given: &str) -> Option<&'static str> {
    // `latest` for `image.latest` is no typing error, but what people remember.
    let by_name = RULES.iter().map(|rule| rule.code).find(|code| code.split_once('.').is_some_and(|(_, n)| n == given));
    by_name.or_else(|| nearest(RULES.iter().map(|rule| rule.code), given))
}

#[cfg(test)]
#[path = "catalogue_tests.rs"]
mod tests;
