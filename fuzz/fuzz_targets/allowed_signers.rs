//! The allowed-signers file.
#![no_main]

use evenkeel::git::allowed_signers;
use evenkeel_core::trust::{Authority, Policy, Revoked, Signature, Signers, When};
use jiff::tz::TimeZone;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let Ok(signers) = allowed_signers::parse(text, &TimeZone::UTC) else { return };
    let policy = Policy {
        authority: Authority::Server(signers),
        revoked: Revoked::Keys([].into()),
        introduction: None,
        forge: Signers::default(),
        deploy_to: None,
    };
    // The key of the corpus: patterns of principals and namespaces are matched here.
    let fingerprint = include_str!("../corpus/allowed_signers.key").trim().to_owned();
    let signature = Signature::Valid { fingerprint };
    let now = policy.judge(&signature, When::Now(1_700_000_000));
    let member = policy.judge(&signature, When::Member);
    assert!(now.code.is_some() || member.code.is_none(), "what counts at the tip counts below it");
});
