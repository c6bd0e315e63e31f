//! Trust: which revision may run. Only commits that allowed people signed, in a history that only moves forward.
//!
//! The adapter walks the graph and checks signatures; here is decided what its findings mean. Each rule has a code.

mod keys;
mod refusal;
mod walk;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use keys::{AllowedKey, NAMESPACE, Revoked, Signer, Signers, When, matches_list};
pub use refusal::{Code, Refusal};

use crate::id::{CommitId, Digest};
use keys::Standing;

/// The last revision that was accepted. The digest is that of its signed payload: a signature can be written in many
/// ways, the payload in one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Its commit.
    pub commit: CommitId,
    /// SHA-256 of the signed payload.
    pub payload: Digest,
}

/// The first trusted commit, as the server's configuration states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introduction {
    /// Its id.
    pub commit: CommitId,
    /// The fingerprint of the key that signed it.
    pub signer: String,
}

/// Whose commits may run on this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Keys that count.
    pub signers: Signers,
    /// Keys that never count.
    pub revoked: Revoked,
    /// Where trusted history begins.
    pub introduction: Option<Introduction>,
}

/// What cryptography says of one commit's signature. It knows keys, not people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signature {
    /// There is none.
    Unsigned,
    /// The commit or its signature cannot be read by the strict rules.
    Malformed(String),
    /// A kind of signature or key that is not accepted.
    Unsupported {
        /// The key, if it could be read.
        fingerprint: Option<String>,
        /// What it is.
        reason: String,
    },
    /// The signature does not fit the commit.
    Invalid {
        /// The key it names.
        fingerprint: String,
        /// What does not fit.
        reason: String,
    },
    /// The key that made it, or the key on which that one stands, was revoked by its owner. It never counts.
    Revoked {
        /// The key.
        fingerprint: String,
        /// What its certificate says.
        reason: String,
    },
    /// The signature fits the commit, but its certificate says that the key does not count now. It is valid below the
    /// tip.
    Lapsed {
        /// The key that made it.
        fingerprint: String,
        /// Since when, and why.
        reason: String,
    },
    /// The signature fits the commit.
    Valid {
        /// The key that made it.
        fingerprint: String,
    },
}

impl Signature {
    /// The key whose signature fits the commit, whether it counts now or not.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Valid { fingerprint } | Self::Lapsed { fingerprint, .. } => Some(fingerprint),
            _ => None,
        }
    }
}

/// One commit as the adapter found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its id.
    pub id: CommitId,
    /// Its parents, in order. Empty for a root.
    pub parents: Vec<CommitId>,
    /// SHA-256 of the signed payload; `None` if the commit is malformed.
    pub payload: Option<Digest>,
    /// The first line of its message, fit for display.
    pub subject: String,
    /// What cryptography says.
    pub signature: Signature,
}

/// A commit where the walk from the tip ended: it is the start, or the start's history holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its id.
    pub id: CommitId,
    /// SHA-256 of its signed payload.
    pub payload: Option<Digest>,
    /// Whether new commits may stand on it: it is the start, or the introduction, or descends from the introduction.
    /// True if no introduction is configured.
    pub introduced: bool,
}

/// What the adapter found between the start (the accepted commit, else the introduction, else nothing) and the tip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The commit that was fetched.
    pub tip: CommitId,
    /// Every commit that is reachable from the tip and not from the start, in any order.
    pub commits: Vec<Commit>,
    /// Where the walk ended: parents of `commits` that are not among them; the tip itself if `commits` is empty.
    pub known: Vec<Known>,
    /// Whether the tip lies in the start's history.
    pub older: bool,
    /// The introduction, if it is the start and the repository has it.
    pub introduction: Option<Commit>,
}

/// How one commit was judged. The text form is part of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Signed by a key that counts.
    Good,
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
}

/// The judgement on one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
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

impl Policy {
    /// Judges one commit by its signature alone, not by its place in history.
    pub fn judge(&self, signature: &Signature, when: When) -> Judgement {
        let judgement = |verdict, code, fingerprint: Option<&String>, reason: &str| Judgement {
            verdict,
            code,
            signer: None,
            fingerprint: fingerprint.cloned(),
            reason: reason.to_owned(),
        };
        match signature {
            Signature::Unsigned => judgement(Verdict::Unsigned, Some(Code::Unsigned), None, "it carries no signature"),
            Signature::Malformed(why) => judgement(Verdict::Malformed, Some(Code::Format), None, why),
            Signature::Unsupported { fingerprint, reason } => {
                judgement(Verdict::UnknownKey, Some(Code::UnknownKey), fingerprint.as_ref(), reason)
            }
            Signature::Invalid { fingerprint, reason } => {
                judgement(Verdict::Bad, Some(Code::BadSig), Some(fingerprint), reason)
            }
            Signature::Revoked { fingerprint, reason } => {
                judgement(Verdict::Revoked, Some(Code::Revoked), Some(fingerprint), reason)
            }
            Signature::Lapsed { fingerprint, reason } => {
                let judged = self.judge_key(fingerprint, when);
                if when == When::Member || judged.code.is_some() {
                    return judged;
                }
                let (verdict, code, reason) = (Verdict::Expired, Some(Code::Expired), reason.clone());
                Judgement { verdict, code, reason, ..judged }
            }
            Signature::Valid { fingerprint } => self.judge_key(fingerprint, when),
        }
    }

    fn judge_key(&self, fingerprint: &str, when: When) -> Judgement {
        let judgement = |verdict, code, signer, reason: &str| Judgement {
            verdict,
            code,
            signer,
            fingerprint: Some(fingerprint.to_owned()),
            reason: reason.to_owned(),
        };
        let listed = self.signers.label(fingerprint);
        match &self.revoked {
            Revoked::Unreadable(why) => return judgement(Verdict::Revoked, Some(Code::Revocation), listed, why),
            Revoked::Keys(keys) if keys.contains(fingerprint) => {
                return judgement(Verdict::Revoked, Some(Code::Revoked), listed, "its key is revoked");
            }
            Revoked::Keys(_) => {}
        }
        match self.signers.standing(fingerprint, when) {
            Standing::Allowed(signer) => {
                let reason = format!("signed by {}", signer.principal);
                judgement(Verdict::Good, None, Some(signer), &reason)
            }
            Standing::OutOfTime(signer, why) => judgement(Verdict::Expired, Some(Code::Expired), Some(signer), why),
            Standing::Unknown(why) => judgement(Verdict::UnknownKey, Some(Code::UnknownKey), None, why),
        }
    }
}

/// A revision that may run. Only [`verify`] makes one: what takes it cannot be given an unverified commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedRevision {
    tip: CommitId,
    payload: Digest,
    verified: usize,
    signer: Option<Signer>,
}

impl VerifiedRevision {
    /// The commit.
    pub fn tip(&self) -> &CommitId {
        &self.tip
    }

    /// SHA-256 of its signed payload.
    pub fn payload_digest(&self) -> &Digest {
        &self.payload
    }

    /// How many commits were judged; 0 if the tip is the accepted one.
    pub fn verified(&self) -> usize {
        self.verified
    }

    /// Who signed the tip; `None` if it was accepted before and nothing was judged.
    pub fn signer(&self) -> Option<&Signer> {
        self.signer.as_ref()
    }

    /// What to remember as accepted.
    pub fn accepted(&self) -> Accepted {
        Accepted { commit: self.tip.clone(), payload: self.payload.clone() }
    }
}

/// Decides whether the fetched tip may run. `now_unix` is the time in seconds; only the tip's key is held against it.
pub fn verify(
    policy: &Policy,
    accepted: Option<&Accepted>,
    facts: &Facts,
    now_unix: i64,
) -> Result<VerifiedRevision, Box<Refusal>> {
    walk::Walk { policy, accepted, facts, now: When::Now(now_unix) }.run()
}
