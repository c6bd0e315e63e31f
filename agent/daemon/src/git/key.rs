//! Public keys of SSH: which kinds are accepted, and their fingerprints.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use sha2::{Digest as _, Sha256};
use ssh_key::{HashAlg, PublicKey, public::KeyData};

/// Shortest RSA modulus that is accepted, in bits.
const MIN_RSA_BITS: usize = 2048;
/// Longest, as OpenSSH has it.
const MAX_RSA_BITS: usize = 16 * 1024;

/// Why a blob is no key that counts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read.
    #[error("it is not a public key of SSH")]
    Malformed,
    /// It is a key of a kind that is not accepted.
    #[error("{reason}")]
    Unsupported {
        /// The key's fingerprint.
        fingerprint: String,
        /// The kind, and what to use instead.
        reason: String,
    },
}

/// A key that can be checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The key.
    pub data: KeyData,
    /// Its kind, such as `ssh-ed25519`.
    pub kind: String,
    /// `SHA256:…`, as `ssh-keygen -l` prints it.
    pub fingerprint: String,
}

/// Reads a key from its wire form.
pub fn read(blob: &[u8]) -> Result<Key, KeyError> {
    let kind = kind(blob).ok_or(KeyError::Malformed)?;
    let unsupported = |reason: String| {
        let fingerprint = format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(blob)));
        Err(KeyError::Unsupported { fingerprint, reason })
    };
    if kind.contains("-cert-v0") {
        return unsupported("SSH certificates are not accepted; sign with the plain key".to_owned());
    }
    match kind {
        "ssh-ed25519"
        | "ecdsa-sha2-nistp256"
        | "ecdsa-sha2-nistp384"
        | "ecdsa-sha2-nistp521"
        | "ssh-rsa"
        | "sk-ssh-ed25519@openssh.com"
        | "sk-ecdsa-sha2-nistp256@openssh.com" => {}
        other => {
            let kind: String = other.chars().take(40).collect();
            return unsupported(format!("keys of the kind {kind} are not accepted; use ssh-ed25519"));
        }
    }
    let key = PublicKey::from_bytes(blob).map_err(|_| KeyError::Malformed)?;
    if let KeyData::Rsa(rsa) = key.key_data() {
        let bits = bits(rsa.n.as_positive_bytes().ok_or(KeyError::Malformed)?);
        if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
            return unsupported(format!(
                "RSA keys of {bits} bits are not accepted; use ssh-ed25519, or {MIN_RSA_BITS} to {MAX_RSA_BITS} bits"
            ));
        }
    }
    let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
    Ok(Key { data: key.key_data().clone(), kind: kind.to_owned(), fingerprint })
}

/// The name at the head of a key's wire form.
pub fn kind(blob: &[u8]) -> Option<&str> {
    let len = usize::try_from(u32::from_be_bytes(*blob.first_chunk::<4>()?)).ok()?;
    let name = std::str::from_utf8(blob.get(4..len.checked_add(4)?)?).ok()?;
    (!name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic())).then_some(name)
}

/// Whether `text` is written like the fingerprint of a key.
pub fn is_fingerprint(text: &str) -> bool {
    text.strip_prefix("SHA256:").is_some_and(|b64| STANDARD_NO_PAD.decode(b64).is_ok_and(|bytes| bytes.len() == 32))
}

fn bits(n: &[u8]) -> usize {
    n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize)
}
