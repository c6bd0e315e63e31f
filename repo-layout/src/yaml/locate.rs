//! Where a key stands: the line of a path of keys and indices.
//!
//! The parser tells places only in its errors. So the text is parsed again, following the path, and an error is
//! raised on purpose at the key that was asked for; the parser adds the line. That is exact for every way to write
//! YAML (flow style, anchors, several documents, comments), which a scan of the text by indentation would not be,
//! and costs one parse for each problem, of which there are few.

use std::fmt;

use serde::de::{self, DeserializeSeed, EnumAccess, IgnoredAny, MapAccess, SeqAccess, VariantAccess as _, Visitor};

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
    text::check(source).ok()?;
    for document in serde_yaml::Deserializer::from_str(source) {
        if let Err(error) = (Follow { path }).deserialize(document) {
            let found = error.to_string().contains(FOUND);
            return if found { error.location().and_then(|l| u32::try_from(l.line()).ok()) } else { None };
        }
    }
    None
}

/// Where the value at `path` begins: its offset in bytes, in the first document that has it. A value that an alias brings is
/// where its anchor is.
pub fn value_offset(source: &str, path: &[Step<'_>]) -> Option<usize> {
    text::check(source).ok()?;
    for document in serde_yaml::Deserializer::from_str(source) {
        if let Err(error) = (FollowValue { path }).deserialize(document) {
            let found = error.to_string().contains(FOUND);
            let index = error.location().filter(|_| found)?.index();
            return source.is_char_boundary(index).then_some(index);
        }
    }
    None
}

const FOUND: &str = "the place that was asked for";

/// Follows a path down and fails where it ends.
struct Follow<'a> {
    path: &'a [Step<'a>],
}

impl<'de> DeserializeSeed<'de> for Follow<'_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
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
        if rest.is_empty() {
            seq.next_element_seed(Stop)?;
        } else {
            seq.next_element_seed(Follow { path: rest })?;
        }
        while_some(|| seq.next_element::<IgnoredAny>())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let wanted = match self.path.first() {
            Some(Step::Key(key)) => Some(*key),
            _ => None,
        };
        let rest = self.path.get(1..).unwrap_or_default();
        let target = if rest.is_empty() { wanted } else { None };
        let unless = |key: &str| if target == Some(key) { Err(FOUND.to_owned()) } else { Ok(()) };
        while let Some(key) = map.next_key_seed(CheckedKey(unless))? {
            if wanted == Some(key.as_str()) {
                map.next_value_seed(Follow { path: rest })?;
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

/// Follows a path down and fails at the value where it ends.
struct FollowValue<'a> {
    path: &'a [Step<'a>],
}

impl<'de> DeserializeSeed<'de> for FollowValue<'_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.path.is_empty() { Stop.deserialize(deserializer) } else { deserializer.deserialize_any(self) }
    }
}

impl<'de> Visitor<'de> for FollowValue<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping or a sequence")
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
        seq.next_element_seed(FollowValue { path: rest })?;
        while_some(|| seq.next_element::<IgnoredAny>())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let wanted = match self.path.first() {
            Some(Step::Key(key)) => Some(*key),
            _ => None,
        };
        let rest = self.path.get(1..).unwrap_or_default();
        while let Some(key) = map.next_key_seed(CheckedKey(|_: &str| Ok(())))? {
            if wanted == Some(key.as_str()) {
                map.next_value_seed(FollowValue { path: rest })?;
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
