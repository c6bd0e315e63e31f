//! What is said when a commit may not run.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    id::CommitId,
    reason::{Code as ReasonCode, Reason},
};

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $remedy:literal;)+) => {
        /// The rule that refuses a commit. The text form is part of the contract.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Code {
            $($(#[$doc])* #[serde(rename = $text)] $variant,)+
        }

        impl Code {
            /// Every code.
            pub const ALL: &[Code] = &[$(Code::$variant),+];

            /// The stable text.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $text,)+ }
            }

            /// The next thing for a person to do.
            pub fn remedy(self) -> &'static str {
                match self { $(Code::$variant => $remedy,)+ }
            }
        }
    };
}

codes! {
    /// The commit, or its signature, is not written as Git writes it.
    Format = "E-FORMAT",
        "make the commit again with a current git and an SSH signature: git commit --amend -S";
    /// The tip is older than what runs.
    Rollback = "E-ROLLBACK",
        "to go back, push a new signed commit (git revert); if the branch was reset by mistake, push the newer commits again";
    /// The tip does not descend from what runs.
    Diverged = "E-DIVERGED",
        "push a history that contains the accepted commit; if it was rewritten on purpose, a person confirms that on the server";
    /// There is no signature.
    Unsigned = "E-UNSIGNED",
        "sign it and push again: git commit --amend -S (git rebase --exec 'git commit --amend -S --no-edit' for several)";
    /// The signature does not fit the commit.
    BadSig = "E-BADSIG",
        "find out who changed the commit after it was signed; then sign it anew: git commit --amend -S";
    /// The key is not allowed.
    UnknownKey = "E-UNKNOWN-KEY",
        "sign with a key that is listed, or list this key in allowed_signers on the server";
    /// The key does not count at this time.
    Expired = "E-EXPIRED",
        "sign a new tip with a key that counts now, or change the key's validity in allowed_signers on the server";
    /// The key is revoked.
    Revoked = "E-REVOKED",
        "have an allowed person make these commits again with a key that is not revoked, from the last accepted commit on";
    /// The list of revoked keys cannot be used.
    Revocation = "E-REVOCATION",
        "put the file of revoked keys back on the server, or remove it from the configuration";
    /// History from before the introduction.
    PreIntro = "E-PREINTRO",
        "rebase the branch onto a commit that descends from the introduction, or check the introduction in the server's configuration";
    /// A second root.
    Root = "E-ROOT",
        "push a branch without the merge of an unrelated history";
    /// The history is incomplete or redirected.
    Shallow = "E-SHALLOW",
        "verify in a full clone: git fetch --unshallow, without alternates, grafts and partial-clone filters";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a tip may not run: everything that the operator needs to act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The rule.
    pub code: Code,
    /// The commit that breaks it; not always the tip.
    pub commit: CommitId,
    /// The first line of its message; empty if it could not be read.
    pub subject: String,
    /// The key that signed it or claims to.
    pub fingerprint: Option<String>,
    /// What is wrong with it.
    pub reason: String,
    /// The last accepted commit, which stays in place.
    pub accepted: Option<CommitId>,
    /// The next thing to do.
    pub remedy: String,
}

impl Refusal {
    /// The refusal as a reason of the closed list.
    pub fn to_reason(&self) -> Reason {
        Reason::new(ReasonCode::TrustRefused, self.to_string())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: commit {}", self.code, self.commit.short())?;
        if !self.subject.is_empty() {
            write!(f, " \"{}\"", self.subject)?;
        }
        write!(f, ": {}", self.reason)?;
        if let Some(fingerprint) = &self.fingerprint {
            write!(f, " (key {fingerprint})")?;
        }
        match &self.accepted {
            Some(id) => write!(f, ". Last accepted: {}.", id.short())?,
            None => f.write_str(". Nothing was accepted yet.")?,
        }
        write!(f, " Next: {}", self.remedy)
    }
}
