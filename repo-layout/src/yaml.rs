//! YAML, read defensively: anything a repository may hold ends in a [`Node`] or in an error with a line.
//!
//! Limits, so that no file makes the reader hang or eat the memory: [`MAX_YAML_BYTES`], nesting (128, the parser's
//! own), [`MAX_NODES`] after aliases are expanded. Compose's tags are understood as far as is needed here: `!reset`
//! is [`Node::Reset`], any other tag is dropped and its value kept. Merge keys (`<<`) stay keys like any other.

use std::{cell::Cell, collections::BTreeSet, fmt};

use serde::de::{self, DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess as _, Visitor};

mod locate;
mod text;

pub use locate::{Step, line_of, value_offset};
pub use text::decode;

/// Largest YAML file that is parsed, in bytes. The parser's events need a hundred times a file's size.
pub const MAX_YAML_BYTES: usize = 1024 * 1024;

/// Most values that one file may hold once its aliases are expanded.
pub const MAX_NODES: usize = 500_000;

/// A value. Scalars keep no type: what is read here is text, and Compose judges the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// Nothing, or `null`.
    Null,
    /// Tagged `!reset`: takes away what a lower layer says.
    Reset,
    /// A text, number or boolean.
    Scalar(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in the file's order; keys are unique.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// The value at `key`, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    /// The mapping's entries; none for anything else.
    pub fn entries(&self) -> &[(String, Node)] {
        if let Node::Map(entries) = self { entries } else { &[] }
    }

    /// The sequence's items; none for anything else.
    pub fn items(&self) -> &[Node] {
        if let Node::List(items) = self { items } else { &[] }
    }

    /// The text of a scalar.
    pub fn as_str(&self) -> Option<&str> {
        if let Node::Scalar(text) = self { Some(text) } else { None }
    }

    /// What it is, for a message.
    pub fn what(&self) -> &'static str {
        match self {
            Node::Null => "nothing",
            Node::Reset => "!reset",
            Node::Scalar(_) => "a single value",
            Node::List(_) => "a list",
            Node::Map(_) => "a mapping",
        }
    }
}

/// Why a text is not usable YAML.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct YamlError {
    /// Line from 1, if known.
    pub line: Option<u32>,
    /// What is wrong.
    pub message: String,
    /// The next thing to do.
    pub help: String,
}

impl YamlError {
    fn new(line: Option<u32>, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { line, message: message.into(), help: help.into() }
    }
}

/// Parses every document of `text`. An empty text is no document, or one that is [`Node::Null`].
pub fn parse(text: &str) -> Result<Vec<Node>, YamlError> {
    text::check(text)?;
    let left = Cell::new(MAX_NODES);
    let mut documents = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        documents.push(Reader(&left).deserialize(document).map_err(|error| readable(&error))?);
    }
    Ok(documents)
}

fn readable(error: &serde_yaml::Error) -> YamlError {
    let line = error.location().and_then(|l| u32::try_from(l.line()).ok());
    let whole = error.to_string();
    // The parser's messages go on with places, which a problem has in a field of its own.
    let message = whole.split_once(" at line ").map_or(whole.as_str(), |(text, _)| text);
    if message.contains("repetition limit") || message.contains(TOO_MANY) {
        return YamlError::new(line, TOO_MANY, "write the values out, or use fewer and smaller anchors");
    }
    if message.contains("recursion limit") {
        return YamlError::new(line, "nested too deeply", "keep the nesting below 128 levels");
    }
    let help = if message.contains("is given twice") {
        "remove one of the two; YAML does not merge them"
    } else if message.contains("tab") || message.contains("cannot start any token") {
        "indent with spaces, and quote values that begin with a special character"
    } else {
        "correct the YAML; `docker compose config` shows the same error"
    };
    YamlError::new(line, format!("not valid YAML: {message}"), help)
}

const TOO_MANY: &str = "aliases expand to too many values";

/// Reads one value, taking one from the file's budget.
struct Reader<'a>(&'a Cell<usize>);

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Node;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        let left = self.0.get().checked_sub(1).ok_or_else(|| de::Error::custom(TOO_MANY))?;
        self.0.set(left);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_owned()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Reader(self.0))? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries: Vec<(String, Node)> = Vec::new();
        let mut seen = BTreeSet::new();
        let mut once = |key: &str| {
            let shown = || format!("the key {:?} is given twice", key.chars().take(80).collect::<String>());
            if seen.insert(key.to_owned()) { Ok(()) } else { Err(shown()) }
        };
        while let Some(key) = map.next_key_seed(CheckedKey(&mut once))? {
            entries.push((key, map.next_value_seed(Reader(self.0))?));
        }
        Ok(Node::Map(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Node, A::Error> {
        let (tag, value) = data.variant::<String>()?;
        let node = value.newtype_variant_seed(Reader(self.0))?;
        Ok(if tag.trim_start_matches('!') == "reset" { Node::Reset } else { node })
    }
}

/// Reads a key as text and lets `check` refuse it. The refusal is raised inside the parser's call, which is where
/// the parser adds the key's place.
struct CheckedKey<F>(F);

impl<'de, F: FnOnce(&str) -> Result<(), String>> DeserializeSeed<'de> for CheckedKey<F> {
    type Value = String;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<F: FnOnce(&str) -> Result<(), String>> Visitor<'_> for CheckedKey<F> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key that is a single value")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<String, E> {
        (self.0)(key).map_err(E::custom)?;
        Ok(key.to_owned())
    }
}

#[cfg(test)]
mod tests;
