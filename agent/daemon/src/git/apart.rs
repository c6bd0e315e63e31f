//! Verifying in a process of its own: `evenkeel __verify`. A parser's fault, a bomb or an endless history costs one sync.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use evenkeel_core::{
    id::{CommitId, Digest},
    trust::{Accepted, Refusal, Signer, VerifiedRevision},
};
use serde::{Deserialize, Serialize};

use super::{
    GitError, Repo, aside,
    child::serve,
    verify::verify,
    worker::{Job, Lost},
};
use crate::config::settings;

/// The hidden verb of the verifying process.
pub const VERIFY_VERB: &str = "__verify";

/// How long verifying may take. 100,000 commits take some ten seconds.
pub const DEADLINE: Duration = Duration::from_secs(300);

/// What is asked. No secret is part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Where the mirror is.
    pub mirror: PathBuf,
    /// Whose commits may run.
    pub trust: settings::Trust,
    /// The tracked branch.
    pub reference: String,
    /// The commit that was fetched.
    pub tip: CommitId,
    /// The last one that was accepted.
    pub accepted: Option<Accepted>,
    /// The accepted commit in whose place a person wants the tip, if one does. Then judging begins at the newest commit
    /// that was accepted once and that the tip descends from.
    pub beside: Option<CommitId>,
    /// Seconds since 1970.
    pub now_unix: i64,
}

/// A revision that may run: the rules made it here, or they did in a process of ours that was asked about this very commit.
/// There is no third way to one, so what takes it cannot be given an unverified commit. See decision 0030.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision(Attestation);

/// What such a process says of a revision. It can be read from anything, so it stays in this file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Attestation {
    tip: CommitId,
    payload: Digest,
    verified: usize,
    signer: Option<Signer>,
}

impl From<VerifiedRevision> for Revision {
    fn from(proof: VerifiedRevision) -> Self {
        Self(Attestation {
            tip: proof.tip().clone(),
            payload: proof.payload_digest().clone(),
            verified: proof.verified(),
            signer: proof.signer().cloned(),
        })
    }
}

impl Revision {
    /// The commit.
    pub fn tip(&self) -> &CommitId {
        &self.0.tip
    }

    /// SHA-256 of its signed payload.
    pub fn payload_digest(&self) -> &Digest {
        &self.0.payload
    }

    /// How many commits were judged; 0 if the tip is the accepted one.
    pub fn verified(&self) -> usize {
        self.0.verified
    }

    /// Who signed the tip; `None` if it was accepted before and nothing was judged.
    pub fn signer(&self) -> Option<&Signer> {
        self.0.signer.as_ref()
    }

    /// What to remember as accepted.
    pub fn accepted(&self) -> Accepted {
        Accepted { commit: self.0.tip.clone(), payload: self.0.payload.clone() }
    }
}

/// What was decided of a tip. The outer error is a fault of files or objects, the inner one a refusal.
pub type Decision = Result<Result<Revision, Box<Refusal>>, GitError>;

#[derive(Serialize, Deserialize)]
enum Answer {
    Accepted(Attestation),
    Refused(Box<Refusal>),
    Fault(GitError),
}

impl Question {
    /// Decides here, in this process. See [`verify`].
    pub fn decide(&self) -> Decision {
        let settings = (&self.trust, self.reference.as_str());
        let accepted = match &self.beside {
            Some(from) => {
                let introduction = self.trust.introduction.as_ref().map(|i| &i.commit);
                aside::base(&Repo::open(&self.mirror)?, &self.tip, from, introduction)?
            }
            None => self.accepted.clone(),
        };
        let verdict = verify(&self.mirror, settings, &self.tip, accepted.as_ref(), self.now_unix)?;
        Ok(verdict.map(Revision::from))
    }

    /// Lets a process of its own decide, and has it read all files of an accepted commit within its limits: whoever reads
    /// them later does so without any.
    pub async fn decide_apart(&self) -> Decision {
        // The link stays right when the file is replaced by an upgrade while we run.
        self.decide_with(Path::new("/proc/self/exe"), DEADLINE).await
    }

    /// As [`Self::decide_apart`], with the program to run, `evenkeel` itself, and a deadline.
    pub async fn decide_with(&self, program: &Path, deadline: Duration) -> Decision {
        // Times in the file of allowed signers may be local.
        let environment = std::env::var_os("TZ").map(|zone| ("TZ", zone)).into_iter().collect();
        let too_much = |why: String| GitError::TooMuch { doing: "verifying".to_owned(), why };
        match (Job { program, verb: VERIFY_VERB, environment, request: self }).ask(deadline).await {
            Ok(Answer::Accepted(attestation)) if attestation.tip == self.tip => Ok(Ok(Revision(attestation))),
            Ok(Answer::Accepted(attestation)) => {
                Err(GitError::Internal(format!("it was asked about {}, not about {}", self.tip, attestation.tip)))
            }
            Ok(Answer::Refused(refusal)) => Ok(Err(refusal)),
            Ok(Answer::Fault(error)) => Err(error),
            Err(Lost::Deadline) => Err(too_much(format!("it took longer than {} s", deadline.as_secs()))),
            Err(Lost::Limit(why)) => Err(too_much(why)),
            Err(Lost::Failed(why)) => Err(GitError::Internal(why)),
        }
    }

    fn answer(&self) -> Answer {
        match self.decide() {
            Ok(Ok(revision)) => match Repo::open(&self.mirror).and_then(|repo| repo.tree(&self.tip)?.read_all()) {
                Ok(()) => Answer::Accepted(revision.0),
                Err(error) => Answer::Fault(error),
            },
            Ok(Err(refusal)) => Answer::Refused(refusal),
            Err(error) => Answer::Fault(error),
        }
    }
}

/// Verifies. The exit code says only whether there is an answer.
pub fn main() -> ExitCode {
    serve(VERIFY_VERB, 0, |question: Question| question.answer())
}
