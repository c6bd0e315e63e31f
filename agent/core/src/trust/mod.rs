//! Trust: which revision may run. Only commits that allowed people signed, in a history that only moves forward.
//!
//! The adapter walks the graph, checks signatures and says what it found ([`Facts`]); here is decided what that means
//! under the server's [`Policy`]. Each rule has a [`Code`].
//!
//! Read in this order: [`keys`] (does a key count?), [`authority`] (whose list?), [`judge`] (one signature),
//! [`trailers`] (what a message may ask), [`history`] (the rules on the whole), [`refusal`] (what is said).

mod authority;
mod history;
mod judge;
mod keys;
mod refusal;
mod trailers;

#[cfg(test)]
mod agreement;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use authority::{ADMIN, AUTHORISATION_PATH, Authorisation, Authorised, Authority, Files, MAX_AUTHORISATION_BYTES};
pub use history::{Examined, Judged};
pub use judge::{Judgement, Verdict, judge};
pub use keys::{AllowedKey, NAMESPACE, Revoked, Signer, Signers, When, matches_list, openpgp_fingerprint};
pub use refusal::{Code, Refusal};
pub use trailers::{DEPLOY_TO, Trailers, VOUCH};

use crate::id::{CommitId, Digest};

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
    pub authority: Authority,
    /// Keys that never count.
    pub revoked: Revoked,
    /// Where trusted history begins. Always there if the repository lists the keys.
    pub introduction: Option<Introduction>,
    /// Keys of the forge, which count for clean merges of two commits only.
    pub forge: Signers,
    /// The branch that a tip must name in its trailer `Deploy-To`, `refs/heads/…`; `None` if it need not.
    pub deploy_to: Option<String>,
}

/// What cryptography says of one commit's signature. It knows keys, not people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

/// Whether the tree of a commit with two parents is what merging them gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Merge {
    /// It was not computed: the commit has not two parents, or is not signed by a key of the forge.
    Unasked,
    /// It is.
    Clean,
    /// It is not, for this reason.
    Other(String),
}

/// One commit as the adapter found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// What its message asks.
    pub trailers: Trailers,
    /// The list of signers in its tree.
    pub authorisation: Authorisation,
    /// Whether it is a clean merge.
    pub merge: Merge,
}

/// A commit where the walk from the tip ended: it is the start, or the start's history holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Its id.
    pub id: CommitId,
    /// SHA-256 of its signed payload.
    pub payload: Option<Digest>,
    /// Whether new commits may stand on it: it is the start, or the introduction, or descends from the introduction.
    /// True if no introduction is configured.
    pub introduced: bool,
    /// The list of signers in its tree.
    pub authorisation: Authorisation,
}

/// What the adapter found between the start (the accepted commit, else the introduction, else nothing) and the tip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Every list of signers that commits above name.
    pub files: Files,
}

/// A revision that may run. Only [`verify`] makes one, and it cannot be read back from anything: what takes it cannot be
/// given an unverified commit.
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
    examine(policy, accepted, facts, now_unix).decision
}

/// As [`verify`], with the judgement on every commit. They are all made before anything is decided or shown.
pub fn examine<'f>(
    policy: &'f Policy,
    accepted: Option<&'f Accepted>,
    facts: &'f Facts,
    now_unix: i64,
) -> Examined<'f> {
    history::History::new(policy, accepted, facts, When::Now(now_unix)).examine()
}

/// Decides whether an agent without a state may begin with `tip`. `traces` is what it found of an earlier agent on this
/// server, in words: then its state was lost, and what it had accepted is not known any more.
pub fn may_begin(policy: &Policy, tip: &CommitId, traces: &[String]) -> Result<(), Box<Refusal>> {
    let Some(first) = traces.first() else { return Ok(()) };
    let more = if traces.len() > 1 { format!(" and {} more", traces.len() - 1) } else { String::new() };
    let reason = format!(
        "the agent's state is gone or new, but something is deployed on this server already ({first}{more}): \
         what was accepted last is not known, and this commit might be older"
    );
    Err(Refusal::of_tip(policy, None, (tip, ""), (Code::State, reason)))
}
