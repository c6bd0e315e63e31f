//! What is said when a commit may not run.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{AUTHORISATION_PATH, Accepted, Authority, Judgement, Policy};
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

            /// The next thing for a person to do. `<tip>` and `<commit>` stand for full ids, `<list>` for the list of keys.
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
        "to go back, push a new signed commit (git revert); if the branch was reset by mistake, push the newer commits again; if it was reset on purpose, run on the server as root: evenkeel trust accept <tip>";
    /// The tip does not descend from what runs.
    Diverged = "E-DIVERGED",
        "push a history that contains the accepted commit; if it was rewritten on purpose, run on the server as root: evenkeel trust accept <tip>";
    /// There is no signature.
    Unsigned = "E-UNSIGNED",
        "sign it and push again: git commit --amend -S (git rebase --exec 'git commit --amend -S --no-edit' for several); or leave it and answer for it in a signed commit with the trailer `Evenkeel-Vouch: <commit>`";
    /// The signature does not fit the commit.
    BadSig = "E-BADSIG",
        "find out who changed the commit after it was signed; then sign it anew: git commit --amend -S";
    /// The key is not allowed.
    UnknownKey = "E-UNKNOWN-KEY",
        "sign with a key that is listed, or list this key in <list>";
    /// The key does not count at this time.
    Expired = "E-EXPIRED",
        "sign a new tip with a key that counts now, or change the key's validity in <list>";
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
        "verify in a full clone: git fetch --unshallow, without alternates, replace refs, grafts and partial-clone filters";
    /// The repository's own list of signers is unusable, or changed by somebody who may not.
    Authz = "E-AUTHZ",
        "have an admin change .evenkeel/allowed_signers in a signed commit that raises its `# serial: N`, and leave the file alone in every other commit; a merge keeps the file of the side with the higher serial";
    /// A forge's commit that is no clean merge of two commits.
    Merge = "E-MERGE",
        "merge on your own machine and sign: git merge -S (no squash, no rebase, no edits on the forge); or answer for it in a signed commit with the trailer `Evenkeel-Vouch: <commit>`";
    /// The tip does not say that it is meant for this branch.
    DeployTo = "E-DEPLOY-TO",
        "push a signed commit on top whose last paragraph has the trailer that `trust.require_deploy_to` asks for: git commit --allow-empty -S -m 'Deploy' --trailer 'Deploy-To: refs/heads/<branch>'";
    /// The agent's state is lost, and something is deployed.
    State = "E-STATE",
        "put the agent's state back from a backup; or look at the commits up to this one, and if they may run, on the server as root: evenkeel trust accept <tip>";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a tip may not run: everything that the operator needs to act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The refusal of a tip as such. `subject` may be empty.
    pub fn of_tip(
        policy: &Policy,
        accepted: Option<&Accepted>,
        (tip, subject): (&CommitId, &str),
        (code, reason): (Code, String),
    ) -> Box<Self> {
        Box::new(Self {
            code,
            commit: tip.clone(),
            subject: subject.to_owned(),
            fingerprint: None,
            reason,
            accepted: accepted.map(|a| a.commit.clone()),
            remedy: policy.remedy(code, tip, tip),
        })
    }

    /// The refusal of a tip for a commit that was judged.
    pub(super) fn of_commit(
        policy: &Policy,
        accepted: Option<&Accepted>,
        (tip, commit, subject): (&CommitId, &CommitId, &str),
        judged: &Judgement,
    ) -> Box<Self> {
        let code = judged.code.unwrap_or(Code::Format);
        Box::new(Self {
            commit: commit.clone(),
            fingerprint: judged.fingerprint.clone(),
            remedy: policy.remedy(code, commit, tip),
            ..*Self::of_tip(policy, accepted, (tip, subject), (code, judged.reason.clone()))
        })
    }

    /// The refusal as a reason of the closed list.
    pub fn to_reason(&self) -> Reason {
        Reason::new(ReasonCode::TrustRefused, self.to_string())
    }
}

impl Policy {
    /// The next thing for a person to do about a commit that breaks a rule, below this tip.
    pub fn remedy(&self, code: Code, commit: &CommitId, tip: &CommitId) -> String {
        let list = match &self.authority {
            Authority::Server(_) => "allowed_signers on the server".to_owned(),
            Authority::Repository => format!("{AUTHORISATION_PATH}, as an admin, with a higher serial"),
        };
        let branch = self.deploy_to.as_deref().unwrap_or("refs/heads/<branch>");
        code.remedy()
            .replace("<commit>", commit.as_str())
            .replace("<tip>", tip.as_str())
            .replace("<list>", &list)
            .replace("refs/heads/<branch>", branch)
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
            None if self.code == Code::State => f.write_str(".")?,
            None => f.write_str(". Nothing was accepted yet.")?,
        }
        write!(f, " Next: {}", self.remedy)
    }
}
