//! Where a key stands: the line of a path of keys and indices.
//!
//! The parser tells places only in its errors. So the text is parsed again, following the path, and an error is
//! raised on purpose at the key that was asked for; the parser adds the line. That is exact for every way to write
//! YAML (flow style, anchors, several documents, comments), which a scan of the text by indentation would not be,
//! and costs one parse for each problem, of which there are few.

use std::fmt;

use serde::de::{self, DeserializeSeed, EnumAccess, IgnoredAny, MapAccess, SeqAccess, VariantAccess as _, Visitor};
use serde_yaml::Location;

use super::{CheckedKey, text};

/// One step of a path into a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// The value of a key.
    Key(&'a str),
    /// An item of a sequence, from 0.
    Index(usize),
}

/// The line, from 1, at which the last step of `path` stands, in the first document that has it.
pub fn line_of(source: &str, path: &[Step<'_>]) -> Option<u32> {
    let place = find(source, Follow { path, end: End::Key }).filter(|_| !path.is_empty())?;
    u32::try_from(place.line()).ok()
}

/// Where the value at `path` begins: its offset in bytes, in the first document that has it. A value that an alias brings is
/// where its anchor is.
pub fn value_offset(source: &str, path: &[Step<'_>]) -> Option<usize> {
    let index = find(source, Follow { path, end: End::Value })?.index();
    source.is_char_boundary(index).then_some(index)
}

fn find(source: &str, follow: Follow<'_>) -> Option<Location> {
    text::check(source).ok()?;
    for document in serde_yaml::Deserializer::from_str(source) {
        if let Err(error) = follow.deserialize(document) {
            return error.location().filter(|_| error.to_string().contains(FOUND));
        }
    }
    None
}

const FOUND: &str = "the place that was asked for";

/// Where a path ends whose last step is a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Key,
    Value,
}

/// Follows a path down and fails where it ends.
#[derive(Clone, Copy)]
struct Follow<'a> {
    path: &'a [Step<'a>],
    end: End,
}

impl<'de> DeserializeSeed<'de> for Follow<'_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.path.is_empty() { Stop.deserialize(deserializer) } else { deserializer.deserialize_any(self) }
    }
}

impl<'de> Visitor<'de> for Follow<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        self.scalar()
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        self.scalar()
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        self.scalar()
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        self.scalar()
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        self.scalar()
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.scalar()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Some((Step::Index(wanted), rest)) = self.path.split_first() else {
            return while_some(|| seq.next_element::<IgnoredAny>());
        };
        for _ in 0..*wanted {
            if seq.next_element::<IgnoredAny>()?.is_none() {
                return Ok(());
            }
        }
        seq.next_element_seed(Follow { path: rest, ..self })?;
        while_some(|| seq.next_element::<IgnoredAny>())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let wanted = match self.path.first() {
            Some(Step::Key(key)) => Some(*key),
            _ => None,
        };
        let rest = self.path.get(1..).unwrap_or_default();
        let target = wanted.filter(|_| rest.is_empty() && self.end == End::Key);
        let unless = |key: &str| if target == Some(key) { Err(FOUND.to_owned()) } else { Ok(()) };
        while let Some(key) = map.next_key_seed(CheckedKey(unless))? {
            if wanted == Some(key.as_str()) {
                map.next_value_seed(Follow { path: rest, ..self })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<(), A::Error> {
        let (_, value) = data.variant::<IgnoredAny>()?;
        value.newtype_variant_seed(self)
    }
}

impl Follow<'_> {
    /// A scalar ends any path; there is nothing below it.
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "one body for the visitor's many methods")]
    fn scalar<E>(self) -> Result<(), E> {
        Ok(())
    }
}

fn while_some<T, E>(mut next: impl FnMut() -> Result<Option<T>, E>) -> Result<(), E> {
    while next()?.is_some() {}
    Ok(())
}

/// Fails at the value, whatever it is.
struct Stop;

impl<'de> DeserializeSeed<'de> for Stop {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Stop {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FOUND)
    }
}
