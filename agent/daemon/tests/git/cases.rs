//! The table in which our verdicts stand beside git's, case by case.

use evenkeel_core::{
    id::CommitId,
    trust::{Code, Verdict},
};

pub type Ruling = (Verdict, Option<Code>);

pub const GOOD: Ruling = (Verdict::Good, None);
pub const BAD: Ruling = (Verdict::Bad, Some(Code::BadSig));
pub const FORMAT: Ruling = (Verdict::Malformed, Some(Code::Format));
pub const UNSIGNED: Ruling = (Verdict::Unsigned, Some(Code::Unsigned));
pub const UNKNOWN: Ruling = (Verdict::UnknownKey, Some(Code::UnknownKey));
pub const EXPIRED: Ruling = (Verdict::Expired, Some(Code::Expired));
pub const REVOKED: Ruling = (Verdict::Revoked, Some(Code::Revoked));
pub const UNREADABLE: Ruling = (Verdict::Revoked, Some(Code::Revocation));

/// The one reason for which we accept what git refuses: `docs/trust.md`, "Where Git says yes and we say no".
pub const TIME: &str = "git holds the key against the commit's own date, which proves nothing; we against the clock";

/// One commit, our verdict on it as a tip, whether git accepts it, and why the two differ if they do.
pub struct Case {
    pub name: &'static str,
    pub raw: Vec<u8>,
    pub ours: Ruling,
    pub git: bool,
    pub why: &'static str,
}

pub fn case(name: &'static str, raw: Vec<u8>, ours: Ruling, git: bool, why: &'static str) -> Case {
    Case { name, raw, ours, git, why }
}

/// Compares what both say with what the table says. What we accept is a subset of what git accepts, but for [`TIME`].
pub fn compare(cases: Vec<Case>, seen: impl Fn(&[u8]) -> (CommitId, Ruling, bool)) {
    let mut wrong = Vec::new();
    for Case { name, raw, ours, git, why } in cases {
        let (id, our, gits) = seen(&raw);
        if (our, gits) != (ours, git) {
            wrong.push(format!("{name} ({id}): ours and git's are {:?}, not {:?}", (our, gits), (ours, git)));
        }
        assert!(our != GOOD || gits || why == TIME, "{name}: we accept what git refuses");
        assert_eq!(git != (ours == GOOD), !why.is_empty(), "{name}: say why they differ, and only then");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
