//! Reading values of a model and of the engine's API in one form.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::Value;

/// The value with `$$`, as a rendered model has it, read as Compose reads it: `$`.
pub fn unescaped(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace("$$", "$")),
        Value::Array(items) => Value::Array(items.iter().map(unescaped).collect()),
        Value::Object(map) => Value::Object(map.iter().map(|(key, value)| (key.clone(), unescaped(value))).collect()),
        other => other.clone(),
    }
}

/// A scalar as text; `None` for null, for nothing and for what is none.
pub fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A whole number, also one that is written as text; 0 for nothing.
pub fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Null => Some(0),
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The texts of a list, or of what is written as a single one.
pub fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().filter_map(text).collect(),
        one => text(one).into_iter().collect(),
    }
}

/// The words of a command, or of what is written as a single one. An empty one is a word, too.
pub fn words(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().map(|item| text(item).unwrap_or_default()).collect(),
        one => text(one).into_iter().collect(),
    }
}

/// The texts of a list whose order says nothing.
pub fn set(value: &Value) -> BTreeSet<String> {
    texts(value).into_iter().collect()
}

/// A mapping to texts. A key without a value is there, as `None`.
pub fn mapping(value: &Value) -> BTreeMap<String, Option<String>> {
    let entry = |(key, value): (&String, &Value)| {
        let text = match value {
            Value::Null => None,
            value => Some(text(value).unwrap_or_default()),
        };
        (key.clone(), text)
    };
    value.as_object().into_iter().flatten().map(entry).collect()
}

/// `KEY=value` texts as a mapping.
pub fn assignments(value: &Value) -> BTreeMap<String, String> {
    let split = |text: &str| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        (key.to_owned(), value.to_owned())
    };
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(split).collect()
}

/// A duration as Compose prints it, such as `1m30s` or `1.5s`.
pub fn duration(text: &str) -> Option<Duration> {
    let (mut total, mut rest) = (Duration::ZERO, text);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(|b| !b.is_ascii_digit() && *b != b'.').count();
        let (unit, after) = after.split_at(letters);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total = total.checked_add(Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?)?;
        rest = after;
    }
    Some(total)
}

/// Whether a value of the engine's API stands for nothing that anybody asked for.
pub fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.iter().all(is_nothing),
        Value::Object(map) => map.is_empty(),
    }
}
