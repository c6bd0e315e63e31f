//! SOPS files whose data key is encrypted by age: <https://getsops.io/docs/>. Every value is authenticated with its place, and
//! all of them together, in their order, by the MAC.

mod document;
mod value;
mod whole;

use std::{collections::BTreeSet, fmt::Write as _};

use sha2::{Digest as _, Sha512};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{Keys, Plain, Unreadable, age};
use document::{Document, Metadata, Node};
use value::{DataKey, Encrypted};

pub use document::Form;

/// What a MAC over encrypted values only begins with, so that it never equals one over all values: SHA-256 of `sops`.
const MAC_ONLY_ENCRYPTED: [u8; 32] = [
    0x8a, 0x3f, 0xd2, 0xad, 0x54, 0xce, 0x66, 0x52, 0x7b, 0x10, 0x34, 0xf3, 0xd1, 0x47, 0xbe, 0x0b, 0x0b, 0x97, 0x5b,
    0x3b, 0xf4, 0x4f, 0x72, 0xc6, 0xfd, 0xad, 0xec, 0x81, 0x76, 0xf2, 0x7d, 0x69,
];

/// What a value may say that it is. SOPS does not authenticate it.
const KINDS: [&str; 6] = ["str", "int", "float", "bool", "bytes", "time"];

/// The form of a file that SOPS wrote; `None` for every other file.
pub(super) fn form(content: &[u8]) -> Option<Form> {
    document::form(content)
}

/// The names of the variables, which SOPS leaves readable.
pub(super) fn names(form: Form, content: &[u8]) -> Option<BTreeSet<String>> {
    let document = document::read(form, content).ok()?;
    let is_binary = form == Form::Json && document.entries.iter().all(|(name, _)| name == "data");
    (!is_binary).then(|| document.entries.into_iter().map(|(name, _)| name).filter(|name| is_variable(name)).collect())
}

/// Writes the variables that are readable without a key, and with `marked` the others with a value that stands for theirs.
pub(super) fn stand_in(form: Form, content: &[u8], marked: bool, out: &mut Vec<u8>) {
    let Ok(document) = document::read(form, content) else { return };
    for (name, node) in document.entries.iter().filter(|(name, _)| is_variable(name)) {
        match node {
            Node::Text(text) if Encrypted::parse(text).is_some() => {
                if marked {
                    quoted(out, name, &super::mark(text.as_bytes()));
                }
            }
            Node::Text(text) => quoted(out, name, text),
            Node::Bool(flag) => quoted(out, name, &flag.to_string()),
            Node::Int(number) => quoted(out, name, &number.to_string()),
            Node::Float(number) => quoted(out, name, &number.to_string()),
            Node::Null => quoted(out, name, ""),
            Node::List(_) | Node::Map(_) => {}
        }
    }
}

/// A file whose values are decrypted and verified. No `Debug`: they are secret.
pub(super) struct Opened {
    form: Form,
    values: Vec<(String, Value)>,
}

/// What stands at a key.
enum Value {
    Nothing,
    /// As it is written, and what it is.
    Scalar(Zeroizing<String>, Is),
    Bytes,
    List(Vec<Value>),
    Map(Vec<(String, Value)>),
}

/// What a written value is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Is {
    Text,
    Number,
    Flag,
}

/// Decrypts a file and verifies its MAC.
pub(super) fn open(form: Form, content: &[u8], keys: &Keys) -> Result<Opened, Unreadable> {
    let document = document::read(form, content).map_err(Unreadable::Damaged)?;
    let key = data_key(&document.metadata, keys)?;
    let mut walk = Walk::new(form, &key, &document.metadata);
    let mut values = Vec::new();
    for (name, node) in &document.entries {
        values.push((name.clone(), walk.node(&format!("{name}:"), node)?));
    }
    walk.verify(&document)?;
    Ok(Opened { form, values })
}

fn data_key(metadata: &Metadata, keys: &Keys) -> Result<DataKey, Unreadable> {
    if metadata.groups {
        let what = "is encrypted by SOPS with its key split among groups, which is not for a server";
        return Err(Unreadable::unsupported(what, "encrypt it without `key_groups` and `shamir_threshold`"));
    }
    if metadata.age.is_empty() {
        let for_whom = if metadata.others { "for PGP keys or a cloud's key service only" } else { "for no key at all" };
        let what = format!("is encrypted by SOPS {for_whom}");
        return Err(Unreadable::unsupported(what, "add this server's age key: `sops rotate -i --add-age age1… FILE`"));
    }
    let mut last = None;
    for (_, wrapped) in &metadata.age {
        match age::decrypt(wrapped.as_bytes(), keys) {
            Ok(bytes) => {
                let broken = || Unreadable::Damaged("its data key has not 32 bytes".to_owned());
                return DataKey::new(&bytes).ok_or_else(broken);
            }
            Err(error) => last = Some(error),
        }
    }
    match last {
        // Damage of one wrapped key says nothing of the others, but that none of them opens does.
        Some(Unreadable::WrongKey { tried, .. }) => {
            let mut recipients = String::from("; it is for ");
            let named = metadata.age.iter().map(|(recipient, _)| shown(recipient)).collect::<Vec<_>>().join(", ");
            recipients.push_str(&named);
            Err(Unreadable::WrongKey { tool: "SOPS", tried, recipients })
        }
        other => Err(other.unwrap_or_else(|| Unreadable::Damaged("it has no data key".to_owned()))),
    }
}

/// A recipient as it may be shown: it comes from the file.
fn shown(recipient: &str) -> String {
    recipient.chars().filter(char::is_ascii_alphanumeric).take(70).collect()
}

struct Walk<'a> {
    form: Form,
    key: &'a DataKey,
    mac: Sha512,
    only_encrypted: bool,
}

impl<'a> Walk<'a> {
    fn new(form: Form, key: &'a DataKey, metadata: &Metadata) -> Self {
        let mut mac = Sha512::new();
        if metadata.mac_only_encrypted {
            mac.update(MAC_ONLY_ENCRYPTED);
        }
        Self { form, key, mac, only_encrypted: metadata.mac_only_encrypted }
    }

    /// Decrypts what stands at `place`, the keys on the way to it with a colon behind each; a list has none of its own.
    fn node(&mut self, place: &str, node: &Node) -> Result<Value, Unreadable> {
        match node {
            Node::Null => Ok(Value::Nothing),
            Node::Bool(flag) => {
                Ok(self.plain(if *flag { "True" } else { "False" }, if *flag { "true" } else { "false" }, Is::Flag))
            }
            Node::Int(number) => {
                let text = self.number(*number);
                Ok(self.plain(&text, &text, Is::Number))
            }
            Node::Float(number) => {
                let text = number.to_string();
                Ok(self.plain(&text, &text, Is::Number))
            }
            Node::Text(text) => self.text(place, text),
            Node::List(items) => {
                let items = items.iter().map(|item| self.node(place, item));
                Ok(Value::List(items.collect::<Result<_, _>>()?))
            }
            Node::Map(entries) => {
                let entries =
                    entries.iter().map(|(name, item)| Ok((name.clone(), self.node(&format!("{place}{name}:"), item)?)));
                Ok(Value::Map(entries.collect::<Result<_, _>>()?))
            }
        }
    }

    /// SOPS reads every number of a JSON file as a floating one.
    #[expect(clippy::cast_precision_loss, reason = "the same loss as in SOPS, whose digest this has to equal")]
    fn number(&self, number: i64) -> String {
        if self.form == Form::Json { (number as f64).to_string() } else { number.to_string() }
    }

    /// A value that was left readable.
    fn plain(&mut self, for_mac: &str, text: &str, is: Is) -> Value {
        if !self.only_encrypted {
            self.mac.update(for_mac);
        }
        Value::Scalar(Zeroizing::new(text.to_owned()), is)
    }

    fn text(&mut self, place: &str, text: &str) -> Result<Value, Unreadable> {
        let Some(encrypted) = Encrypted::parse(text) else {
            if text.starts_with("ENC[") {
                return Err(Unreadable::Damaged(format!("the value of {} cannot be read", named(place))));
            }
            return Ok(self.plain(text, text, Is::Text));
        };
        let bytes = encrypted.open(self.key, place).filter(|_| KINDS.contains(&encrypted.kind)).ok_or_else(|| {
            Unreadable::Damaged(format!("the value of {} was changed, or belongs to another key", named(place)))
        })?;
        self.mac.update(&*bytes);
        let Ok(text) = std::str::from_utf8(&bytes) else { return Ok(Value::Bytes) };
        let (text, is) = match (encrypted.kind, text) {
            ("bool", "True") => ("true", Is::Flag),
            ("bool", "False") => ("false", Is::Flag),
            ("int" | "float", text) => (text, Is::Number),
            (_, text) => (text, Is::Text),
        };
        Ok(Value::Scalar(Zeroizing::new(text.to_owned()), is))
    }

    /// Compares the MAC with that of the file, which is encrypted for the time of its last change.
    fn verify(self, document: &Document) -> Result<(), Unreadable> {
        let Metadata { mac, last_modified, .. } = &document.metadata;
        let damaged = |why: &str| Unreadable::Damaged(why.to_owned());
        let encrypted = Encrypted::parse(mac).ok_or_else(|| damaged("it has no MAC"))?;
        let stated = encrypted.open(self.key, last_modified);
        let stated = stated.ok_or_else(|| damaged("its MAC or the time of its last change was changed"))?;
        let mut found = String::new();
        for byte in self.mac.finalize() {
            let _ = write!(found, "{byte:02X}");
        }
        if bool::from(found.as_bytes().ct_eq(&stated)) {
            return Ok(());
        }
        Err(damaged("its values are not those that its MAC stands for: one was removed, added, moved or changed"))
    }
}

/// The place of a value as a person reads it. It comes from the file.
fn named(place: &str) -> String {
    let place = place.trim_end_matches(':').replace(':', ".");
    place.chars().take(80).map(|c| if c.is_control() { '?' } else { c }).collect()
}

impl Opened {
    /// The variables as an environment file that Compose reads.
    pub(super) fn env(&self, file: &str) -> Result<Plain, Unreadable> {
        if let Some(value) = self.binary(file) {
            return match value {
                Value::Scalar(text, _) => Ok(Zeroizing::new(text.as_bytes().to_vec())),
                _ => Err(Unreadable::content("holds no text", "encrypt a file of KEY=value lines")),
            };
        }
        let mut out = Zeroizing::new(Vec::new());
        for (name, value) in &self.values {
            self.line(&mut out, name, value)?;
        }
        Ok(out)
    }

    /// The one value of what SOPS calls a binary file, which is the whole of it.
    fn binary(&self, file: &str) -> Option<&Value> {
        match (self.form, self.values.as_slice()) {
            (Form::Json, [(name, value)]) if name == "data" && !has_extension(file, "json") => Some(value),
            _ => None,
        }
    }

    fn line(&self, out: &mut Vec<u8>, name: &str, value: &Value) -> Result<(), Unreadable> {
        let flat = "an environment is flat: keep NAME: value at the topmost level, and anything else in another file";
        let text = match value {
            Value::Nothing => "",
            Value::Scalar(text, _) => text,
            Value::Bytes => {
                return Err(Unreadable::content(format!("holds bytes that are no text at {}", named(name)), flat));
            }
            Value::List(_) | Value::Map(_) => {
                return Err(Unreadable::content(format!("holds more than a value at {}", named(name)), flat));
            }
        };
        if self.form == Form::Dotenv {
            // As it was before it was encrypted, with quotes and all.
            out.extend([name, "=", &text.replace('\n', "\\n"), "\n"].concat().as_bytes());
            return Ok(());
        }
        if !is_variable(name) {
            return Err(Unreadable::content(format!("has a key that is no variable's name: {}", named(name)), flat));
        }
        if text.contains('\0') {
            return Err(Unreadable::content(format!("holds a NUL at {}", named(name)), flat));
        }
        quoted(out, name, text);
        Ok(())
    }
}

/// Writes a variable so that Compose reads this very value.
pub(super) fn quoted(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend([name, "=\""].concat().as_bytes());
    for byte in value.bytes() {
        // Compose expands variables in what it reads, unless they are escaped.
        if matches!(byte, b'\\' | b'"' | b'$') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.extend(b"\"\n");
}

fn has_extension(file: &str, extension: &str) -> bool {
    file.rsplit_once('.').is_some_and(|(_, found)| found.eq_ignore_ascii_case(extension))
}

fn is_variable(name: &str) -> bool {
    let first = name.bytes().next();
    first.is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}
