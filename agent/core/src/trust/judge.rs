//! The judgement on one commit: what its signature is worth, and what its place in history adds to that.

use serde::{Deserialize, Serialize};

use super::{Code, Policy, Revoked, Signature, Signer, Signers, When, authority::Authority, keys::Standing};

/// How one commit was judged. The text form is part of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Signed by a key that counts.
    Good,
    /// Its own signature does not count; an allowed signer answers for it in a later commit.
    Vouched,
    /// A clean merge that the forge made and signed.
    ForgeMerge,
    /// The signature does not fit.
    Bad,
    /// No signature.
    Unsigned,
    /// Signed by a key that is not allowed, or of a kind that is not accepted.
    UnknownKey,
    /// The key does not count at this time.
    Expired,
    /// The key is revoked, or it cannot be told.
    Revoked,
    /// The commit cannot be read by the strict rules.
    Malformed,
    /// Signed by a key that counts, but changes what only an admin may change.
    Unauthorised,
    /// It stands on a history that is not trusted.
    Misplaced,
}

impl Verdict {
    /// The stable text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Vouched => "vouched",
            Self::ForgeMerge => "forge-merge",
            Self::Bad => "bad",
            Self::Unsigned => "unsigned",
            Self::UnknownKey => "unknown-key",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Malformed => "malformed",
            Self::Unauthorised => "unauthorised",
            Self::Misplaced => "misplaced",
        }
    }
}

/// The judgement on one commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// In one word.
    pub verdict: Verdict,
    /// The rule that refuses it.
    pub code: Option<Code>,
    /// Who signed, if the key is listed.
    pub signer: Option<Signer>,
    /// The key that signed or claims to, listed or not.
    pub fingerprint: Option<String>,
    /// For a person.
    pub reason: String,
}

impl Judgement {
    pub(super) fn refused(verdict: Verdict, code: Code, reason: impl Into<String>) -> Self {
        Self { verdict, code: Some(code), signer: None, fingerprint: None, reason: reason.into() }
    }

    /// Whether the commit may run.
    pub fn is_good(&self) -> bool {
        self.code.is_none()
    }

    pub(super) fn by(self, fingerprint: Option<&str>) -> Self {
        Self { fingerprint: fingerprint.map(str::to_owned), ..self }
    }
}

impl Policy {
    /// Judges one commit by its signature and the server's list of keys alone, not by its place in history. Where the
    /// repository lists the keys, none counts here.
    pub fn judge(&self, signature: &Signature, when: When) -> Judgement {
        match &self.authority {
            Authority::Server(signers) => judge(&[signers], &self.revoked, signature, when),
            Authority::Repository => judge(&[], &self.revoked, signature, when),
        }
    }
}

/// Judges one commit by its signature alone: its key must count in every one of `lists`, and there must be one.
pub fn judge(lists: &[&Signers], revoked: &Revoked, signature: &Signature, when: When) -> Judgement {
    let refused = Judgement::refused;
    match signature {
        Signature::Unsigned => refused(Verdict::Unsigned, Code::Unsigned, "it carries no signature"),
        Signature::Malformed(why) => refused(Verdict::Malformed, Code::Format, why),
        Signature::Unsupported { fingerprint, reason } => {
            refused(Verdict::UnknownKey, Code::UnknownKey, reason).by(fingerprint.as_deref())
        }
        Signature::Invalid { fingerprint, reason } => refused(Verdict::Bad, Code::BadSig, reason).by(Some(fingerprint)),
        Signature::Revoked { fingerprint, reason } => {
            refused(Verdict::Revoked, Code::Revoked, reason).by(Some(fingerprint))
        }
        Signature::Lapsed { fingerprint, reason } => {
            let judged = judge_key(lists, revoked, fingerprint, when);
            if when == When::Member || !judged.is_good() {
                return judged;
            }
            let (verdict, code, reason) = (Verdict::Expired, Some(Code::Expired), reason.clone());
            Judgement { verdict, code, reason, ..judged }
        }
        Signature::Valid { fingerprint } => judge_key(lists, revoked, fingerprint, when),
    }
}

/// The same for the key of a signature that fits.
pub(super) fn judge_key(lists: &[&Signers], revoked: &Revoked, fingerprint: &str, when: When) -> Judgement {
    let listed = lists.iter().find_map(|list| list.label(fingerprint));
    let refused = |verdict, code, signer: Option<Signer>, reason: &str| {
        Judgement { signer, ..Judgement::refused(verdict, code, reason) }.by(Some(fingerprint))
    };
    match revoked {
        Revoked::Unreadable(why) => return refused(Verdict::Revoked, Code::Revocation, listed, why),
        Revoked::Keys(keys) if keys.contains(fingerprint) => {
            return refused(Verdict::Revoked, Code::Revoked, listed, "its key is revoked");
        }
        Revoked::Keys(_) => {}
    }
    let mut allowed = None;
    for list in lists {
        match list.standing(fingerprint, when) {
            Standing::Allowed(signer) => drop(allowed.get_or_insert(signer)),
            Standing::OutOfTime(signer, why) => return refused(Verdict::Expired, Code::Expired, Some(signer), why),
            Standing::Unknown(why) => return refused(Verdict::UnknownKey, Code::UnknownKey, None, why),
        }
    }
    match allowed {
        Some(signer) => Judgement {
            verdict: Verdict::Good,
            code: None,
            reason: format!("signed by {}", signer.principal),
            signer: Some(signer),
            fingerprint: Some(fingerprint.to_owned()),
        },
        None => {
            refused(Verdict::UnknownKey, Code::UnknownKey, None, "there is no list of keys to hold its key against")
        }
    }
}
