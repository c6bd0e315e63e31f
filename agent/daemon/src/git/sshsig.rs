//! One SSH signature (PROTOCOL.sshsig of OpenSSH) against one payload.
//!
//! The container is taken apart here, strictly; the `ssh-key` crate checks the curve signatures inside, `rsa` those of RSA.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use evenkeel_core::trust::{NAMESPACE, Signature};
use rsa::{BigUint, RsaPublicKey, pkcs1v15, signature::Verifier as _};
use ssh_key::{
    public::KeyData,
    sha2::{Digest as _, Sha256, Sha512},
};

use super::{
    key::{self, Key, KeyError},
    public_keys::PublicKey,
};

/// With its line feed: ssh-keygen takes no carriage return here, though it does further on.
const BEGIN: &[u8] = b"-----BEGIN SSH SIGNATURE-----\n";
const END: &[u8] = b"\n-----END SSH SIGNATURE-----";
const MAGIC: &[u8] = b"SSHSIG";
/// Set in a security key's answer when a person touched it.
const USER_PRESENT: u8 = 1;

/// What does not fit, before or after a key is known.
enum Fault {
    Malformed(&'static str),
    Unsupported { fingerprint: Option<String>, reason: String },
    Invalid { fingerprint: String, reason: &'static str },
}

impl From<Fault> for Signature {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Malformed(what) => Self::Malformed(format!("its signature is malformed: {what}")),
            Fault::Unsupported { fingerprint, reason } => Self::Unsupported { fingerprint, reason },
            Fault::Invalid { fingerprint, reason } => Self::Invalid { fingerprint, reason: reason.to_owned() },
        }
    }
}

/// Checks the text of a commit's signature header against the commit's payload.
pub fn check(armour: &[u8], payload: &[u8]) -> Signature {
    match checked(armour, payload) {
        Ok(fingerprint) => Signature::Valid { fingerprint },
        Err(fault) => fault.into(),
    }
}

/// The key that a signature names, whether it fits anything or not.
pub fn signing_key(armour: &[u8]) -> Option<PublicKey> {
    let blob = unarmour(armour).ok()?;
    PublicKey::of(Container::read(&blob)?.key).ok()
}

fn checked(armour: &[u8], payload: &[u8]) -> Result<String, Fault> {
    let blob = unarmour(armour)?;
    let sig = Container::read(&blob).ok_or(Fault::Malformed("its parts do not fit together"))?;
    let key = key::read(sig.key).map_err(|e| match e {
        KeyError::Malformed => Fault::Malformed("the public key in it cannot be read"),
        KeyError::Unsupported { fingerprint, reason } => Fault::Unsupported { fingerprint: Some(fingerprint), reason },
    })?;
    let invalid = |reason| Fault::Invalid { fingerprint: key.fingerprint.clone(), reason };
    if sig.namespace != NAMESPACE.as_bytes() {
        return Err(invalid("the signature was made for another purpose than Git (its namespace is not git)"));
    }
    let digest = match sig.hash {
        b"sha256" => Sha256::digest(payload).to_vec(),
        b"sha512" => Sha512::digest(payload).to_vec(),
        _ => return Err(invalid("the signature uses a hash that is not accepted (sha256 and sha512 are)")),
    };
    let mut message = MAGIC.to_vec();
    for part in [sig.namespace, b"".as_slice(), sig.hash, &digest] {
        // Each part is short or was read with a 32-bit length.
        message.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        message.extend_from_slice(part);
    }
    if fits(&key, sig.signature, &message).map_err(&invalid)? {
        Ok(key.fingerprint)
    } else {
        Err(invalid("the signature does not fit the commit: the commit was changed after it was signed"))
    }
}

/// The bytes in the armour. Whitespace in the base64 text is of no account, as for ssh-keygen.
fn unarmour(armour: &[u8]) -> Result<Vec<u8>, Fault> {
    let rest = armour.strip_prefix(BEGIN).ok_or(Fault::Malformed("it does not begin as an SSH signature"))?;
    let end = rest.windows(END.len()).position(|w| w == END).ok_or(Fault::Malformed("its last line is missing"))?;
    if !rest[end + END.len()..].trim_ascii().is_empty() {
        return Err(Fault::Malformed("something follows its last line"));
    }
    let base64: Vec<u8> = rest[..end].iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
    STANDARD.decode(base64).map_err(|_| Fault::Malformed("it is not base64"))
}

/// The fields of a signature.
struct Container<'a> {
    key: &'a [u8],
    namespace: &'a [u8],
    hash: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Container<'a> {
    fn read(blob: &'a [u8]) -> Option<Self> {
        let mut rest = blob.strip_prefix(MAGIC)?.strip_prefix(&1_u32.to_be_bytes())?;
        let key = string(&mut rest)?;
        let namespace = string(&mut rest)?;
        let reserved = string(&mut rest)?;
        let hash = string(&mut rest)?;
        let signature = string(&mut rest)?;
        (rest.is_empty() && reserved.is_empty()).then_some(Self { key, namespace, hash, signature })
    }
}

/// A length of 32 bits and as many bytes.
fn string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_first_chunk::<4>()?;
    let (value, tail) = tail.split_at_checked(usize::try_from(u32::from_be_bytes(*head)).ok()?)?;
    *rest = tail;
    Some(value)
}

/// Whether the inner signature is the key's over `message`; an error if it is of a kind that is not accepted.
fn fits(key: &Key, signature: &[u8], message: &[u8]) -> Result<bool, &'static str> {
    const BROKEN: &str = "the signature's inner parts do not fit together";
    let mut rest = signature;
    let algorithm = string(&mut rest).ok_or(BROKEN)?;
    let bytes = string(&mut rest).ok_or(BROKEN)?;
    let security_key = key.kind.starts_with("sk-");
    if algorithm != key.kind.as_bytes() && !matches!(key.data, KeyData::Rsa(_)) {
        return Err(BROKEN);
    }
    match (security_key, rest) {
        (false, []) => {}
        (true, [flags, _, _, _, _]) if flags & USER_PRESENT != 0 => {}
        (true, [_, _, _, _, _]) => return Err("nobody touched the security key when it signed"),
        _ => return Err(BROKEN),
    }
    if let KeyData::Rsa(rsa) = &key.data {
        return match algorithm {
            b"rsa-sha2-256" => Ok(rsa_fits(rsa, bytes, |k, s| verifies::<Sha256>(k, s, message))),
            b"rsa-sha2-512" => Ok(rsa_fits(rsa, bytes, |k, s| verifies::<Sha512>(k, s, message))),
            b"ssh-rsa" => Err("the signature uses SHA-1, which is not accepted; sign with a current OpenSSH"),
            _ => Err(BROKEN),
        };
    }
    Ok(ssh_key::Signature::try_from(signature).is_ok_and(|s| key.data.verify(message, &s).is_ok()))
}

fn rsa_fits(
    key: &ssh_key::public::RsaPublicKey,
    bytes: &[u8],
    verifies: impl Fn(RsaPublicKey, &pkcs1v15::Signature) -> bool,
) -> bool {
    let parts = || {
        let n = key.n.as_positive_bytes()?;
        let e = key.e.as_positive_bytes()?;
        // Some agents leave leading zeros out; ssh-keygen puts them back, and so do we.
        let padded = [vec![0; n.len().checked_sub(bytes.len())?], bytes.to_vec()].concat();
        let signature = pkcs1v15::Signature::try_from(padded.as_slice()).ok()?;
        let (modulus, exponent) = (BigUint::from_bytes_be(n), BigUint::from_bytes_be(e));
        Some((RsaPublicKey::new_with_max_size(modulus, exponent, n.len() * 8).ok()?, signature))
    };
    parts().is_some_and(|(key, signature)| verifies(key, &signature))
}

fn verifies<D>(key: RsaPublicKey, signature: &pkcs1v15::Signature, message: &[u8]) -> bool
where
    D: rsa::sha2::Digest + rsa::pkcs8::AssociatedOid,
{
    pkcs1v15::VerifyingKey::<D>::new(key).verify(message, signature).is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = check(&bytes, b"payload");
            let armoured = [BEGIN, STANDARD.encode(&bytes).as_bytes(), END].concat();
            let _ = check(&armoured, b"payload");
            let inner = [MAGIC, &1_u32.to_be_bytes(), &bytes].concat();
            let armoured = [BEGIN, STANDARD.encode(&inner).as_bytes(), END].concat();
            let valid = matches!(check(&armoured, b"payload"), Signature::Valid { .. });
            prop_assert!(!valid);
        }
    }
}
