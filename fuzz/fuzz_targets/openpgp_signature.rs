//! An OpenPGP signature: the input is its armour, and the packets in its armour. The payload is always `payload`.
#![no_main]

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use evenkeel::git::openpgp::Keyring;
use evenkeel_core::trust::Signature;
use libfuzzer_sys::fuzz_target;

/// When the corpus was made, and a day more.
const NOW: i64 = 1_795_400_000;

/// The certificates whose keys signed `payload` in the corpus. No other signature can fit.
static KEYRING: LazyLock<Keyring> = LazyLock::new(|| {
    Keyring::parse(include_bytes!("../corpus/openpgp_certificate/signers"), NOW).expect("the corpus holds certificates")
});

fn look(armour: &[u8]) {
    let valid = |payload: &[u8]| matches!(KEYRING.check(armour, payload), Signature::Valid { .. });
    assert!(!(valid(b"payload") && valid(b"another")));
}

fuzz_target!(|bytes: &[u8]| {
    look(bytes);
    let base64 = STANDARD.encode(bytes);
    look(format!("-----BEGIN PGP SIGNATURE-----\n\n{base64}\n-----END PGP SIGNATURE-----\n").as_bytes());
});
