//! The file of revoked keys.
#![no_main]

use evenkeel::git::revoked;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    if let Ok(keys) = revoked::parse(text) {
        let again: String = keys.iter().map(|key| format!("{key}\n")).collect();
        assert_eq!(revoked::parse(again.as_bytes()), Ok(keys));
    }
});
