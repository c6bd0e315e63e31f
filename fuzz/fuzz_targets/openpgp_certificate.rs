//! A file of OpenPGP certificates, and what it says of one signature over `payload`.
#![no_main]

use evenkeel::git::openpgp::Keyring;
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
    assert!(principals.keys().all(|f| f.len() == 40) && principals.values().all(|p| !p.contains(char::is_control)));
    for listed in keyring.listed() {
        let again = Keyring::parse(listed.armour.as_bytes(), NOW).expect("what is written is what was read");
        assert_eq!(again.listed(), [listed]);
    }
    if let Signature::Valid { fingerprint } = keyring.check(SIGNATURE, b"payload") {
        assert_eq!(fingerprint, SIGNER.trim(), "nobody else has the private keys");
    }
});
