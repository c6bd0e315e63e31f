//! A YAML document as a plain tree whose every node can say on which line it stands.

use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, IgnoredAny, MapAccess, SeqAccess, VariantAccess, Visitor,
};

/// A value of the document. Duplicate keys are kept, so that both can be pointed at.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Null,
    Flag(bool),
    Whole(u64),
    /// A number that is negative or has a fraction: no key takes one.
    Number,
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
    /// A value with a `!tag`: no key takes one.
    Tagged,
}

impl Node {
    /// What it is, for a message. Never its content, which may be a secret in the wrong place.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Flag(_) => "true or false",
            Self::Whole(_) | Self::Number => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a block of keys",
            Self::Tagged => "a tagged value",
        }
    }
}

/// One step from a node to a node in it, by position: names are not unique while duplicates are possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The n-th key of a mapping.
    Entry(usize),
    /// The n-th item of a list.
    Item(usize),
}

/// The document's text is no YAML; the line counts from 1.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub(super) line: Option<usize>,
    pub(super) message: String,
}

/// Reads one document. An empty one is [`Node::Null`].
pub(super) fn parse(text: &str) -> Result<Node, SyntaxError> {
    serde_yaml::from_str(text)
        .map_err(|error| SyntaxError { line: error.location().map(|at| at.line()), message: error.to_string() })
}

/// The line, from 1, on which the key or item at the end of `path` stands.
///
/// The YAML crate tells positions in errors only. So the document is read again with a visitor that fails at the
/// wanted place: exact for every style of YAML, and paid only when there is a problem to point at.
pub(super) fn line_of(text: &str, path: &[Step]) -> Option<usize> {
    let error = Probe(path).deserialize(serde_yaml::Deserializer::from_str(text)).err()?;
    Some(error.location()?.line())
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Node, E> {
        Ok(Node::Flag(flag))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Node, E> {
        Ok(Node::Whole(number))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Number)
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some((key, value)) = entries.next_entry::<Node, Node>()? {
            let key = match key {
                Node::Text(text) => text,
                Node::Whole(number) => number.to_string(),
                Node::Flag(flag) => flag.to_string(),
                other => format!("({})", other.kind()),
            };
            map.push((key, value));
        }
        Ok(Node::Map(map))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Node, A::Error> {
        let (_, value) = tagged.variant::<String>()?;
        value.newtype_variant::<IgnoredAny>()?;
        Ok(Node::Tagged)
    }
}

/// Walks down a path and fails at its end.
struct Probe<'p>(&'p [Step]);

impl<'de> DeserializeSeed<'de> for Probe<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.0.is_empty() { deserializer.deserialize_any(Fail) } else { deserializer.deserialize_any(self) }
    }
}

impl<'de> Visitor<'de> for Probe<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the way to a position")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Some((Step::Item(wanted), rest)) = self.0.split_first() else { return Ok(()) };
        for _ in 0..*wanted {
            items.next_element::<IgnoredAny>()?;
        }
        items.next_element_seed(Probe(rest)).map(drop)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let Some((Step::Entry(wanted), rest)) = self.0.split_first() else { return Ok(()) };
        for _ in 0..*wanted {
            entries.next_entry::<IgnoredAny, IgnoredAny>()?;
        }
        if rest.is_empty() {
            return entries.next_key_seed(Probe(&[])).map(drop);
        }
        entries.next_key::<IgnoredAny>()?;
        entries.next_value_seed(Probe(rest))
    }
}

/// Accepts nothing: each of a visitor's default methods is an error, and the error has the position.
struct Fail;

impl Visitor<'_> for Fail {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a position")
    }
}

#[cfg(test)]
mod tests {
    use super::{Step::*, *};

    const TEXT: &str = "a: 1\n\n# a comment\nb:\n  c: { d: x,\n       e: y }\nlist:\n  - one\n  - two: |\n      text\n    three: &x 3\nb: !tag again\n";

    #[test]
    fn every_key_and_item_knows_its_line() {
        for (path, line) in [
            (&[Entry(0)][..], 1),
            (&[Entry(1)], 4),
            (&[Entry(1), Entry(0), Entry(0)], 5),
            (&[Entry(1), Entry(0), Entry(1)], 6),
            (&[Entry(2), Item(0)], 8),
            (&[Entry(2), Item(1), Entry(1)], 11),
            (&[Entry(3)], 12),
        ] {
            assert_eq!(line_of(TEXT, path), Some(line), "{path:?}");
        }
    }

    #[test]
    fn duplicate_keys_are_both_there() {
        let Node::Map(entries) = parse(TEXT).unwrap() else { panic!("a map") };
        assert_eq!(entries.iter().map(|(k, _)| k.as_str()).collect::<Vec<_>>(), ["a", "b", "list", "b"]);
        assert_eq!(entries[3].1, Node::Tagged);
    }

    #[test]
    fn a_syntax_error_has_a_line() {
        assert_eq!(parse("a: 1\nb: [\n").unwrap_err().line, Some(3));
        assert_eq!(parse("").unwrap(), Node::Null);
    }
}
