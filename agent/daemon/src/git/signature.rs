//! One signature against one payload, whatever its format.

use evenkeel_core::trust::Signature;

use super::{openpgp::Keyring, sshsig};

/// Checks the text of a commit's signature header against the commit's payload.
pub fn check(keyring: &Keyring, armour: &[u8], payload: &[u8]) -> Signature {
    if armour.starts_with(b"-----BEGIN PGP ") {
        return keyring.check(armour, payload);
    }
    if armour.starts_with(b"-----BEGIN SIGNED MESSAGE-----") {
        let reason = "it is signed with X.509, which is not accepted; sign with an SSH key: git config gpg.format ssh";
        return Signature::Unsupported { fingerprint: None, reason: reason.to_owned() };
    }
    sshsig::check(armour, payload)
}
