//! An SSH signature: the input is its armour, and the bytes in its armour. The payload is always `payload`.
#![no_main]

use base64::{Engine as _, engine::general_purpose::STANDARD};
use evenkeel::git::sshsig;
use evenkeel_core::trust::Signature;
use libfuzzer_sys::fuzz_target;

/// The keys that signed `payload` in the corpus. Any other one would be a forgery.
const SIGNED: &str = include_str!("../corpus/sshsig.signers");

fn look(armour: &[u8]) {
    if let Signature::Valid { fingerprint } = sshsig::check(armour, b"payload") {
        assert!(SIGNED.lines().any(|line| line == fingerprint), "{fingerprint}");
        assert!(!matches!(sshsig::check(armour, b"another"), Signature::Valid { .. }));
    }
}

fuzz_target!(|bytes: &[u8]| {
    look(bytes);
    let armour = format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", STANDARD.encode(bytes));
    look(armour.as_bytes());
});
