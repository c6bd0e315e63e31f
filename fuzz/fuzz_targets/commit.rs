//! The strict reading of a commit object.
#![no_main]

use evenkeel::git::commit::{self, RawCommit};
use libfuzzer_sys::fuzz_target;

/// What is signed reads as the same commit, and as one without a signature.
fn holds(commit: &RawCommit<'_>, hex_len: usize) {
    let payload = commit::parse(&commit.payload, hex_len).expect("the payload of a good commit is a good commit");
    assert_eq!(payload.signature, None);
    assert_eq!(payload.payload, commit.payload);
    assert_eq!((payload.tree, &payload.parents, payload.author), (commit.tree, &commit.parents, commit.author));
    assert_eq!(payload.message, commit.message);
    assert!(commit.subject().chars().all(|c| !c.is_control()));
}

fuzz_target!(|raw: &[u8]| {
    for hex_len in [40, 64] {
        if let Ok(commit) = commit::parse(raw, hex_len) {
            assert!(!raw.contains(&0));
            holds(&commit, hex_len);
        }
    }
});
