//! The file of revoked keys: one public key, or one fingerprint, a line. Fingerprints are those of SSH (`SHA256:…`) or of
//! OpenPGP (40 hexadecimal digits, with or without blanks), the latter of a primary key or a subkey.

use std::collections::BTreeSet;

use evenkeel_core::trust::openpgp_fingerprint;

use super::{
    allowed_signers::{LineError, public_key},
    key,
};

/// The head of OpenSSH's binary revocation lists.
const KRL_MAGIC: &[u8] = b"SSHKRL\n\0";

/// Reads a file's content into fingerprints. A line that cannot be read is an error: it might be the very key.
pub fn parse(text: &[u8]) -> Result<BTreeSet<String>, LineError> {
    let fail = |line: usize, what: &str| LineError { line: line + 1, what: what.to_owned() };
    if text.starts_with(KRL_MAGIC) {
        return Err(fail(0, "it is a binary revocation list (KRL); write one public key or fingerprint a line"));
    }
    let mut keys = BTreeSet::new();
    for (number, line) in text.split(|&b| b == b'\n').enumerate() {
        let line = std::str::from_utf8(line).map_err(|_| fail(number, "it is not UTF-8"))?.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if key::is_fingerprint(line) {
            keys.insert(line.to_owned());
        } else if let Some(fingerprint) = openpgp_fingerprint(line) {
            keys.insert(fingerprint);
        } else {
            keys.insert(public_key(line).map_err(|what| fail(number, &what))?);
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIBLNFUECqyAHfIu8ZRL2I5XEWBHtSdRp5Vy1/CPLcZe";
    const FINGERPRINT: &str = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    #[test]
    fn keys_and_fingerprints_are_read() {
        assert_eq!(parse(format!("# gone\n{KEY} who\r\n\n{FINGERPRINT}\n").as_bytes()).unwrap().len(), 2);
    }

    #[test]
    fn fingerprints_of_openpgp_are_read_as_gpg_prints_them() {
        let plain = "0123456789ABCDEF0123456789ABCDEF01234567";
        let spaced = "0123 4567 89ab cdef 0123  4567 89AB CDEF 0123 4567";
        for text in [plain, spaced, &format!("{plain}\n{spaced}\r\n")] {
            assert_eq!(parse(text.as_bytes()), Ok([plain.to_owned()].into()), "{text}");
        }
        // A key id is no fingerprint: many keys can have it.
        assert!(parse(&plain.as_bytes()[24..]).is_err());
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        assert!(parse(b"SSHKRL\n\0\0\0").unwrap_err().what.contains("KRL"));
        assert_eq!(parse(format!("{KEY}\nodd\n").as_bytes()).unwrap_err().line, 2);
    }
}
