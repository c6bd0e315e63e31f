//! Values of a service's `x-evenkeel` as the rendered model has them, and what is wrong with them.

use std::time::Duration;

use evenkeel_layout::{duration, nearest, problem::Problem};
use serde_json::Value;

/// Most words of a command, and most bytes of a text.
pub(crate) const MAX_LENGTH: usize = 2000;
/// Most characters of a key that are shown.
const MAX_SHOWN: usize = 80;

/// What is wrong with a value, without its place.
pub(crate) struct Wrong {
    code: &'static str,
    why: String,
    help: String,
}

impl Wrong {
    pub(crate) fn value(why: &str, help: &str) -> Self {
        Self { code: "x-evenkeel.value", why: why.to_owned(), help: help.to_owned() }
    }

    pub(crate) fn problem(self, place: &str) -> Problem {
        Problem::error(self.code, format!("{place} {}", self.why), self.help)
    }
}

/// Refuses what is no mapping, or has other keys than these.
pub(crate) fn only(value: &Value, known: &[&str]) -> Result<(), Wrong> {
    let Some(map) = value.as_object() else {
        return Err(Wrong::value("is not a mapping", &format!("write some of these keys: {}", known.join(", "))));
    };
    match map.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => {
            let help = match nearest(known.iter().copied(), key) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("remove it; known here: {}", known.join(", ")),
            };
            let shown: String = key.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect();
            Err(Wrong { code: "x-evenkeel.unknown-key", why: format!("has the unknown key `{shown}`"), help })
        }
    }
}

/// The words of a command.
pub(crate) fn words(value: &Value, example: &str) -> Result<Vec<String>, Wrong> {
    let list = value.as_array().filter(|list| !list.is_empty() && list.len() <= MAX_LENGTH);
    let words = list.and_then(|list| list.iter().map(|word| word.as_str().map(unescaped)).collect());
    words.ok_or_else(|| {
        let help = format!("write it as a list: `{example}`");
        Wrong::value("has a command that is not a list of words", &help)
    })
}

/// The least and the most that a time may be, and both in words.
pub(crate) type Limits = (Duration, Duration, &'static str);

/// A timeout within its limits; `None` if nothing is said.
pub(crate) fn time(value: &Value, (least, most, shown): Limits) -> Result<Option<Duration>, Wrong> {
    if value.is_null() {
        return Ok(None);
    }
    let found = value.as_str().and_then(|text| duration::parse(text).ok());
    found.filter(|time| (least..=most).contains(time)).map(Some).ok_or_else(|| {
        Wrong::value(&format!("has a timeout that is not between {shown}"), "write a whole number and a unit: `2s`")
    })
}

/// Compose writes each dollar sign of a model twice.
pub(crate) fn unescaped(text: &str) -> String {
    text.replace("$$", "$")
}
