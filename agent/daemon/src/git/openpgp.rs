//! OpenPGP, which is not accepted yet.

use evenkeel_core::trust::Signature;

/// The certificates whose signatures count.
#[derive(Debug, Clone, Default)]
pub struct Keyring {}

impl Keyring {
    /// Checks an armoured signature against a payload.
    pub fn check(&self, _armour: &[u8], _payload: &[u8]) -> Signature {
        let reason = "it is signed with OpenPGP, which is not accepted yet; sign with an SSH key: \
             git config gpg.format ssh && git config user.signingkey ~/.ssh/id_ed25519.pub";
        Signature::Unsupported { fingerprint: None, reason: reason.to_owned() }
    }
}
