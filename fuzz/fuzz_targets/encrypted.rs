//! A file that age or SOPS encrypted, with the key that the corpus is encrypted for.
#![no_main]

use std::sync::LazyLock;

use evenkeel::secrets::{Keys, Kind, decrypt_env, decrypt_file, names, recognise, stand_in};
use libfuzzer_sys::fuzz_target;

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let text = include_str!("../../agent/daemon/src/secrets/fixtures/key");
    Keys::parse(text).unwrap_or_else(|(line, why)| panic!("line {line}: {why}"))
});
/// What the files of the corpus that age encrypted hold.
const OF_AGE: &[u8] = b"A=one\nB=two\n";

fuzz_target!(|content: &[u8]| {
    let kind = recognise(content);
    for name in ["x.env", "x.json", "x.yaml", "token"] {
        let env = decrypt_env(name, content, Some(&KEYS));
        let file = decrypt_file(name, content, Some(&KEYS));
        match kind {
            None => assert!(env.is_err() && file.is_err()),
            // Nobody who lacks the key makes another text out of it.
            Some(Kind::Age) => {
                for plain in [env, file].into_iter().flatten() {
                    assert_eq!(*plain, OF_AGE);
                }
            }
            Some(Kind::Sops(_)) => {
                // What is an environment is a file, too.
                assert!(env.is_err() || file.is_ok());
            }
        }
        for marked in [true, false] {
            let _ = stand_in(name, content, marked);
        }
    }
    let _ = names(content);
    assert!(decrypt_env("x", content, None).is_err());
});
