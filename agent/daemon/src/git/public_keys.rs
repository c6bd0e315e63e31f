//! Public keys as people hand them on: the lines of a `.pub` file, of `authorized_keys`, of a forge's `USER.keys`.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    allowed_signers::{LineError, MAX_FILE_BYTES},
    commit::displayable,
    key::{self, KeyError},
};

/// A public key of a kind that is accepted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PublicKey {
    /// Its kind, such as `ssh-ed25519`.
    pub kind: String,
    /// Its wire form.
    pub base64: String,
    /// `SHA256:…`.
    pub fingerprint: String,
}

impl PublicKey {
    /// Reads a key from its wire form.
    pub(super) fn of(blob: &[u8]) -> Result<Self, KeyError> {
        let key = key::read(blob)?;
        Ok(Self { kind: key.kind, base64: STANDARD.encode(blob), fingerprint: key.fingerprint })
    }

    /// The kind in one word, as people say it: `ed25519`, `rsa`, `ecdsa`, `ed25519-sk`, `ecdsa-sk`.
    pub fn short_kind(&self) -> &str {
        match self.kind.as_str() {
            "ssh-ed25519" => "ed25519",
            "ssh-rsa" => "rsa",
            "sk-ssh-ed25519@openssh.com" => "ed25519-sk",
            "sk-ecdsa-sha2-nistp256@openssh.com" => "ecdsa-sk",
            kind if kind.starts_with("ecdsa-") => "ecdsa",
            other => other,
        }
    }
}

/// One line of such a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The key, or why a key of this kind is not accepted.
    pub key: Result<PublicKey, String>,
    /// What stands behind it, mostly whose it is; fit for display.
    pub comment: String,
}

/// Reads a list of keys. A line that is none is an error with its number; a key that stands there twice counts once.
pub fn parse(text: &[u8]) -> Result<Vec<Listed>, LineError> {
    let fail = |line: usize, what: &str| LineError { line, what: what.to_owned() };
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(fail(1, "the list has more than 1 MiB"));
    }
    let (mut keys, mut seen) = (Vec::new(), BTreeSet::new());
    for (number, line) in text.split(|&b| b == b'\n').enumerate() {
        let line = std::str::from_utf8(line).map_err(|_| fail(number + 1, "it is not UTF-8"))?.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let listed = one(line).map_err(|what| fail(number + 1, what))?;
        if listed.key.as_ref().map_or(true, |key| seen.insert(key.fingerprint.clone())) {
            keys.push(listed);
        }
    }
    Ok(keys)
}

fn one(line: &str) -> Result<Listed, &'static str> {
    let mut fields = line.split_ascii_whitespace();
    let (Some(kind), Some(base64)) = (fields.next(), fields.next()) else {
        return Err("it is no public key; a line is: kind, base64 text, and perhaps whose it is");
    };
    if kind.starts_with("-----") {
        return Err(
            "it is a private key or something else in armour; give the public key (the file that ends in .pub)",
        );
    }
    let blob = STANDARD
        .decode(base64)
        .map_err(|_| "it is no public key; a line is: kind, base64 text, and perhaps whose it is")?;
    if key::kind(&blob) != Some(kind) {
        return Err("the public key is not of the kind that stands before it");
    }
    let key = match PublicKey::of(&blob) {
        Ok(key) => Ok(key),
        Err(KeyError::Unsupported { reason, .. }) => Err(reason),
        Err(KeyError::Malformed) => return Err("the public key cannot be read"),
    };
    let comment = fields.collect::<Vec<_>>().join(" ");
    Ok(Listed { key, comment: displayable(comment.as_bytes(), 100) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIBLNFUECqyAHfIu8ZRL2I5XEWBHtSdRp5Vy1/CPLcZe";

    #[test]
    fn a_list_is_read_with_its_comments_and_each_key_once() {
        let keys = parse(format!("# mine\r\n{KEY} ada@home laptop\r\n\n{KEY}\n").as_bytes()).unwrap();
        assert_eq!(keys.len(), 1);
        assert_eq!(keys[0].comment, "ada@home laptop");
        let key = keys[0].key.as_ref().unwrap();
        assert_eq!((key.short_kind(), format!("{} {}", key.kind, key.base64)), ("ed25519", KEY.to_owned()));
    }

    #[test]
    fn what_is_no_public_key_is_named_by_its_line() {
        for (text, says) in [
            ("\nnonsense", "no public key"),
            ("\n<html> <body>", "no public key"),
            ("\n-----BEGIN OPENSSH PRIVATE KEY-----", "private key"),
            ("\nssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIIBLNFUECqyAHfIu8ZRL2I5XEWBHtSdRp5Vy1/CPLcZe", "kind"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.line == 2 && error.what.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_key_of_a_kind_that_is_not_accepted_is_told_and_is_no_error() {
        let blob = [&7_u32.to_be_bytes()[..], b"ssh-dss", &[0; 8]].concat();
        let keys = parse(format!("ssh-dss {}\n{KEY}", STANDARD.encode(blob)).as_bytes()).unwrap();
        assert!(keys[0].key.as_ref().unwrap_err().contains("ssh-dss"));
        assert!(keys[1].key.is_ok());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in "[ -~\n]{0,120}") {
            let _ = parse(&bytes);
            let _ = parse(format!("ssh-ed25519 {text}").as_bytes());
        }
    }
}
