//! age: <https://age-encryption.org/v1>. Keys of the X25519 kind, which `age-keygen` makes.

use std::{
    fmt,
    io::{self, Read as _, Write as _},
    path::Path,
    str::FromStr as _,
};

use ::age::{
    DecryptError, Decryptor, Encryptor,
    armor::{ArmoredReader, ArmoredWriter, Format},
    x25519,
};
use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use super::{KeysError, MAX_BYTES, Plain, Unreadable};
use crate::config::read_secret_text;

const BINARY: &[u8] = b"age-encryption.org/v1\n";
const ARMOUR: &[u8] = b"-----BEGIN AGE ENCRYPTED FILE-----";
/// Most keys in one file.
const MAX_KEYS: usize = 64;

/// Whether a file begins as age's files do.
pub fn is_age(content: &[u8]) -> bool {
    content.starts_with(BINARY) || is_armoured(content)
}

/// Whether it is age's text form.
pub fn is_armoured(content: &[u8]) -> bool {
    content.trim_ascii_start().starts_with(ARMOUR)
}

/// Keys that open files. No `Debug`: they are secret.
pub struct Keys(Vec<x25519::Identity>);

impl Keys {
    /// Reads a file of keys as `age-keygen` writes them, which only its owner may read, or a systemd credential.
    pub fn read(path: &Path) -> Result<Self, KeysError> {
        let text = read_secret_text(path)?;
        let broken = |line, why| KeysError::Content { path: path.to_owned(), line, why };
        Self::parse(text.expose_secret()).map_err(|(line, why)| broken(line, why))
    }

    /// Reads keys, one a line. A fault is told with its line, from 1.
    pub fn parse(text: &str) -> Result<Self, (usize, &'static str)> {
        let mut keys = Vec::new();
        for (line, text) in text.lines().enumerate().map(|(n, text)| (n + 1, text.trim())) {
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            if keys.len() == MAX_KEYS {
                return Err((line, "more keys than are accepted"));
            }
            keys.push(x25519::Identity::from_str(text).map_err(|_| (line, fault_of_key(text)))?);
        }
        if keys.is_empty() { Err((1, "there is no key; make one with `evenkeel secrets key`")) } else { Ok(Self(keys)) }
    }

    /// A new key.
    pub fn generate() -> Self {
        Self(vec![x25519::Identity::generate()])
    }

    /// The file's text for these keys, as `age-keygen` writes it.
    pub fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::new());
        for key in &self.0 {
            for part in ["# public key: ", &key.to_public().to_string(), "\n", key.to_string().expose_secret(), "\n"] {
                text.push_str(part);
            }
        }
        text
    }

    /// For whom files must be encrypted so that these keys open them.
    pub fn recipients(&self) -> Vec<Recipient> {
        self.0.iter().map(|key| Recipient(key.to_public())).collect()
    }

    pub(super) fn tried(&self) -> String {
        match self.0.len() {
            1 => format!("the one here ({})", self.0[0].to_public()),
            n => format!("the {n} here"),
        }
    }
}

fn fault_of_key(text: &str) -> &'static str {
    let upper = text.to_ascii_uppercase();
    if upper.starts_with("AGE-SECRET-KEY-PQ-") {
        "a post-quantum key, which is not known here; make one with `evenkeel secrets key`"
    } else if upper.starts_with("AGE-PLUGIN-") {
        "a key of a plugin: a server has nobody to ask; make one with `evenkeel secrets key`"
    } else if text.as_bytes().starts_with(ARMOUR) || upper.starts_with("AGE-ENCRYPTION.ORG") {
        "the file of keys is itself encrypted: a server has nobody to ask for the passphrase"
    } else if text.starts_with("age1") {
        "a public key, with which nothing can be opened: put the line that begins with AGE-SECRET-KEY-1 here"
    } else if upper.contains("PRIVATE KEY") {
        "an SSH key, which is not known here; make one with `evenkeel secrets key`"
    } else {
        "no age key: one begins with AGE-SECRET-KEY-1"
    }
}

/// For whom a file is encrypted: `age1…`.
#[derive(Clone)]
pub struct Recipient(x25519::Recipient);

impl Recipient {
    /// Reads one; the error says what it is instead.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        x25519::Recipient::from_str(text).map(Self).map_err(|_| {
            if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
                "is a secret key: put its public key here, and treat that secret key as lost"
            } else if text.starts_with("ssh-") {
                "is an SSH key, which is not known here: use an age1… key"
            } else if text.starts_with("age1pq") || text.starts_with("age1tag") {
                "is a key of a kind that is not known here: use one that `evenkeel secrets key` makes"
            } else {
                "is no age1… key"
            }
        })
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Decrypts a file, binary or armoured.
pub fn decrypt(content: &[u8], keys: &Keys) -> Result<Plain, Unreadable> {
    let content = if is_armoured(content) { content.trim_ascii_start() } else { content };
    let decryptor = Decryptor::new_buffered(ArmoredReader::new(content)).map_err(|e| unreadable(&e, keys))?;
    if decryptor.is_scrypt() {
        let what = "is encrypted with a passphrase: a server has nobody to ask";
        return Err(Unreadable::unsupported(
            what,
            "encrypt it for the server's key instead: `evenkeel secrets encrypt`",
        ));
    }
    let identities = keys.0.iter().map(|key| key as &dyn ::age::Identity);
    let reader = decryptor.decrypt(identities).map_err(|e| unreadable(&e, keys))?;
    let mut plain = Zeroizing::new(Vec::with_capacity(content.len()));
    let read = reader.take(MAX_BYTES as u64 + 1).read_to_end(&mut plain);
    read.map_err(|_| Unreadable::Damaged("its text is not what was encrypted, or is cut short".to_owned()))?;
    if plain.len() > MAX_BYTES {
        return Err(Unreadable::content("holds more than 1 MiB", "keep large files apart from secrets"));
    }
    Ok(plain)
}

fn unreadable(error: &DecryptError, keys: &Keys) -> Unreadable {
    match error {
        DecryptError::NoMatchingKeys | DecryptError::KeyDecryptionFailed | DecryptError::ExcessiveWork { .. } => {
            Unreadable::WrongKey { tool: "age", tried: keys.tried(), recipients: String::new() }
        }
        DecryptError::UnknownFormat => {
            Unreadable::unsupported("is of an age format that is not known here", "encrypt it again with age 1.x")
        }
        DecryptError::InvalidMac | DecryptError::DecryptionFailed => {
            Unreadable::Damaged("it was changed after it was encrypted".to_owned())
        }
        // No header, or an error of reading bytes that are in memory; the list of errors is open.
        _ => Unreadable::Damaged("its header cannot be read; was it cut short, or its line ends changed?".to_owned()),
    }
}

/// Encrypts for these recipients, in the text form if `armour`. `None` without a recipient.
pub fn encrypt(plain: &[u8], recipients: &[Recipient], armour: bool) -> io::Result<Option<Vec<u8>>> {
    let to = recipients.iter().map(|r| &r.0 as &dyn ::age::Recipient);
    let Ok(encryptor) = Encryptor::with_recipients(to) else { return Ok(None) };
    let format = if armour { Format::AsciiArmor } else { Format::Binary };
    let mut writer = encryptor.wrap_output(ArmoredWriter::wrap_output(Vec::new(), format)?)?;
    writer.write_all(plain)?;
    Ok(Some(writer.finish()?.finish()?))
}
