//! A file of OpenPGP certificates, and what it says of one signature over `payload`.
#![no_main]

use evenkeel::git::{certificates::State, openpgp::Keyring};
use evenkeel_core::trust::Signature;
use libfuzzer_sys::fuzz_target;

/// When the corpus was made, and a day more.
const NOW: i64 = 1_795_400_000;
/// By a subkey of the certificate `subkey` in the corpus.
const SIGNATURE: &[u8] = include_bytes!("../corpus/openpgp_signature/subkey");
/// That certificate's primary fingerprint.
const SIGNER: &str = include_str!("../corpus/openpgp_certificate.signer");

fuzz_target!(|bytes: &[u8]| {
    let Ok(keyring) = Keyring::parse(bytes, NOW) else { return };
    let principals = keyring.principals();
    // Of a key of version 6, which may be listed and never counts, it is a SHA-256.
    assert!(principals.keys().all(|f| matches!(f.len(), 40 | 64)));
    assert!(principals.values().all(|p| !p.contains(char::is_control)));
    for listed in keyring.listed() {
        let again = Keyring::parse(listed.armour.as_bytes(), NOW).expect("what is written is what was read");
        assert!(listed.fingerprint.len() == 40 || listed.state != State::Counts, "only version 4 counts");
        assert_eq!(again.listed(), [listed]);
    }
    if let Signature::Valid { fingerprint } = keyring.check(SIGNATURE, b"payload") {
        assert_eq!(fingerprint, SIGNER.trim(), "nobody else has the private keys");
    }
});
