//! `policy:` in `evenkeel.yml`: how severe findings are here, and which are allowed. The codes themselves are not judged here.

use crate::{
    section::{Section, Written},
    yaml::Step,
};

/// Keys of `policy`.
pub(crate) const KEYS: &[&str] = &["exceptions", "rules"];
/// Keys of an item of `policy.exceptions`.
pub(crate) const EXCEPTION_KEYS: &[&str] = &["code", "path", "reason", "server", "stack"];
/// Values of `policy.rules.<code>`.
pub(crate) const LEVELS: &[(&str, Level)] =
    &[("off", Level::Off), ("info", Level::Info), ("warning", Level::Warning), ("error", Level::Error)];

/// How severe a finding is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// It is not reported.
    Off,
    /// Worth knowing.
    Info,
    /// Worth looking at.
    Warning,
    /// `check` fails.
    Error,
}

/// A finding that is allowed, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    /// The finding's code.
    pub code: Written,
    /// Only on this server.
    pub server: Option<String>,
    /// Only in this stack.
    pub stack: Option<String>,
    /// Only in files that this pattern matches.
    pub path: Option<String>,
    /// Why.
    pub reason: String,
}

impl Exception {
    /// Whether it speaks of a place.
    pub fn covers_path(&self, path: Option<&str>) -> bool {
        self.path.as_ref().is_none_or(|pattern| path.is_some_and(|path| crate::glob::matches(pattern, path)))
    }
}

/// What a repository says of findings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Severities by code.
    pub rules: Vec<(Written, Level)>,
    /// What is allowed.
    pub exceptions: Vec<Exception>,
}

impl Policy {
    pub(crate) fn read(root: &Section<'_, '_>) -> Self {
        let Some(policy) = root.section("policy") else { return Self::default() };
        let policy = policy.only(KEYS);
        let mut read = Self::default();
        if let Some(rules) = policy.section("rules") {
            read.rules = rules.keys().filter_map(|code| Some((code.clone(), level(&rules, &code.text)?))).collect();
        }
        for item in policy.items("exceptions") {
            read.exceptions.extend(exception(&item.only(EXCEPTION_KEYS)));
        }
        read
    }
}

fn level(rules: &Section<'_, '_>, code: &str) -> Option<Level> {
    // Older YAML reads `off` as false, and so may whoever writes it.
    let text = rules.text(code).map(|text| if text == "false" { "off" } else { text });
    let found = LEVELS.iter().find(|(name, _)| Some(*name) == text).map(|(_, level)| *level);
    if found.is_none() {
        rules.refuse(&[Step::Key(code)], "unknown severity", "one of off, info, warning, error");
    }
    found
}

fn exception(item: &Section<'_, '_>) -> Option<Exception> {
    let text = |key: &str| item.text(key).map(str::to_owned).filter(|text| !text.trim().is_empty());
    let (code, reason) = (item.written("code"), text("reason"));
    if code.is_none() {
        item.refuse(&[], "it names no `code`", "say which finding it allows: `code: image.latest`");
    }
    if reason.is_none() {
        item.refuse(&[], "it gives no `reason`", "say why, for whoever reads it in a year: `reason: …`");
    }
    Some(Exception { code: code?, server: text("server"), stack: text("stack"), path: text("path"), reason: reason? })
}
