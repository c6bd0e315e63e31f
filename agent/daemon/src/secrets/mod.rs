//! Files that are encrypted in Git: by age, or by SOPS with age keys. Decrypted in memory only.

pub mod age;
pub mod held;
mod sops;

use std::{collections::BTreeSet, path::PathBuf};

use zeroize::Zeroizing;

pub use self::age::Keys;
pub use sops::Form;

/// Largest encrypted file that is read, in bytes, and largest text that may come of it.
pub const MAX_BYTES: usize = 1024 * 1024;

/// How a file is encrypted, as its content shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// By age as a whole, binary or armoured.
    Age,
    /// By SOPS, value by value.
    Sops(Form),
}

impl Kind {
    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Sops(_) => "SOPS",
        }
    }
}

/// How a file is encrypted; `None` for every other file.
pub fn recognise(content: &[u8]) -> Option<Kind> {
    if age::is_age(content) {
        return Some(Kind::Age);
    }
    sops::form(content).map(Kind::Sops)
}

/// Why a file could not be decrypted. No message holds anything of its plain text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// There is no key to try.
    #[error("is encrypted with {0}, and there is no key to open it")]
    NoKey(&'static str),
    /// It was made for other keys.
    #[error("is encrypted with {tool} for other keys than {tried}{recipients}")]
    WrongKey {
        /// age or SOPS.
        tool: &'static str,
        /// The keys that were tried, as `the 2 here`.
        tried: String,
        /// Whom it is for, where it says so.
        recipients: String,
    },
    /// It was changed after it was encrypted, or is cut short.
    #[error("is damaged: {0}")]
    Damaged(String),
    /// It is encrypted in a way that is not for servers, or not known here.
    #[error("{what}")]
    Unsupported {
        /// What is wrong with it.
        what: String,
        /// What to do.
        help: String,
    },
    /// It was decrypted and does not hold what is needed.
    #[error("{what}")]
    Content {
        /// What is wrong with it.
        what: String,
        /// What to do.
        help: String,
    },
}

impl Unreadable {
    /// Stable code, `secrets.name`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoKey(_) => "secrets.no-key",
            Self::WrongKey { .. } => "secrets.wrong-key",
            Self::Damaged(_) => "secrets.damaged",
            Self::Unsupported { .. } => "secrets.unsupported",
            Self::Content { .. } => "secrets.content",
        }
    }

    /// The next thing to do.
    pub fn help(&self) -> String {
        match self {
            Self::NoKey(_) => "make a key with `evenkeel secrets key`, name it in agent.yml under `secrets: { age_identities: … }`, and encrypt the file for it".to_owned(),
            Self::WrongKey { tool: "SOPS", .. } => "encrypt it for this key too: `sops rotate -i --add-age age1… FILE`".to_owned(),
            Self::WrongKey { .. } => {
                "encrypt it for this key too: add its age1… to .evenkeel/recipients and run `evenkeel secrets rekey`".to_owned()
            }
            Self::Damaged(_) => "take it from an earlier commit, or encrypt it again".to_owned(),
            Self::Unsupported { help, .. } | Self::Content { help, .. } => help.clone(),
        }
    }

    fn unsupported(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Unsupported { what: what.into(), help: help.into() }
    }

    fn content(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Content { what: what.into(), help: help.into() }
    }
}

/// Plain bytes, wiped when they go.
pub type Plain = Zeroizing<Vec<u8>>;

/// Decrypts an environment file: the result is what Compose reads as one. `name` is the file's name, by which SOPS tells its
/// binary form from its JSON form.
pub fn decrypt_env(name: &str, content: &[u8], keys: Option<&Keys>) -> Result<Plain, Unreadable> {
    match kind_and_keys(content, keys)? {
        (Kind::Age, keys) => age::decrypt(content, keys),
        (Kind::Sops(form), keys) => sops::open(form, content, keys)?.env(name),
    }
}

/// Decrypts a file that is used as it is: the result is what `age -d` or `sops -d` give, a structured document in another
/// layout perhaps, and without its comments.
pub fn decrypt_file(name: &str, content: &[u8], keys: Option<&Keys>) -> Result<Plain, Unreadable> {
    match kind_and_keys(content, keys)? {
        (Kind::Age, keys) => age::decrypt(content, keys),
        (Kind::Sops(form), keys) => sops::open(form, content, keys)?.whole(name),
    }
}

fn kind_and_keys<'k>(content: &[u8], keys: Option<&'k Keys>) -> Result<(Kind, &'k Keys), Unreadable> {
    if content.len() > MAX_BYTES {
        return Err(Unreadable::content("is larger than 1 MiB", "keep large files apart from secrets"));
    }
    let kind = recognise(content).ok_or_else(|| Unreadable::content("is not encrypted", "encrypt it first"))?;
    Ok((kind, keys.ok_or(Unreadable::NoKey(kind.name()))?))
}

/// The names of the variables, where they can be told without a key: SOPS hides values only.
pub fn names(content: &[u8]) -> Option<BTreeSet<String>> {
    match recognise(content)? {
        Kind::Age => None,
        Kind::Sops(form) => sops::names(form, content),
    }
}

/// What stands in for a file that nobody can open here: its variables, as far as they are known. If `marked`, the hidden ones
/// have a value that says so and that changes with their ciphertext, else they are left out.
pub fn stand_in(name: &str, content: &[u8], marked: bool) -> Plain {
    let mut out = Plain::default();
    match recognise(content) {
        Some(Kind::Sops(form)) => sops::stand_in(form, content, marked, &mut out),
        Some(Kind::Age) if marked => sops::quoted(&mut out, &variable_like(name), &mark(content)),
        _ => {}
    }
    out
}

/// A value for one that is hidden, which is another one when the ciphertext is.
pub fn mark(ciphertext: &[u8]) -> String {
    use sha2::Digest as _;
    format!("(encrypted {})", hex::encode(&sha2::Sha256::digest(ciphertext)[..6]))
}

/// A file's name as the name of a variable: Compose takes dots and dashes, too.
fn variable_like(name: &str) -> String {
    let usable = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') { c } else { '_' };
    name.chars().map(usable).collect()
}

/// A file of keys that cannot be used. No message holds any of its content.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// It cannot be read, or others can.
    #[error(transparent)]
    File(#[from] crate::config::SecretError),
    /// It does not hold what it should.
    #[error("{}:{line}: {why}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        why: &'static str,
    },
}

#[cfg(test)]
mod tests;
