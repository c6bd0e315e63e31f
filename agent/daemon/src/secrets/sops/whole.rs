//! A decrypted file as a whole, in the form that it had: for what reads it as it is.

use serde::{
    Serialize, Serializer,
    ser::{Error as _, SerializeMap as _},
};
use zeroize::Zeroizing;

use super::{Form, Is, Opened, Plain, Unreadable, Value};

impl Opened {
    /// The file as `sops -d` gives it, but for layout and comments of a structured one.
    pub(in crate::secrets) fn whole(&self, file: &str) -> Result<Plain, Unreadable> {
        let no_text =
            || Unreadable::content("holds bytes that are no text", "encrypt it in a text form, such as Base64");
        if let Some(value) = self.binary(file) {
            return match value {
                Value::Scalar(text, _) => Ok(Zeroizing::new(text.as_bytes().to_vec())),
                _ => Err(no_text()),
            };
        }
        let text = match self.form {
            Form::Dotenv => return self.env(file),
            Form::Yaml => serde_yaml::to_string(&Entries(&self.values)).ok(),
            Form::Json => serde_json::to_string_pretty(&Entries(&self.values)).ok().map(|text| text + "\n"),
        };
        text.map(|text| Zeroizing::new(text.into_bytes())).ok_or_else(no_text)
    }
}

struct Entries<'a>(&'a [(String, Value)]);

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Nothing => to.serialize_unit(),
            Self::Scalar(text, Is::Flag) => to.serialize_bool(text.as_str() == "true"),
            Self::Scalar(text, Is::Number) => match (text.parse::<i64>(), text.parse::<f64>()) {
                (Ok(number), _) => to.serialize_i64(number),
                (_, Ok(number)) if number.is_finite() => to.serialize_f64(number),
                _ => to.serialize_str(text),
            },
            Self::Scalar(text, Is::Text) => to.serialize_str(text),
            Self::Bytes => Err(S::Error::custom("bytes that are no text")),
            Self::List(items) => to.collect_seq(items),
            Self::Map(entries) => Entries(entries).serialize(to),
        }
    }
}
