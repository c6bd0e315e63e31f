//! Verifying in a process of its own: `evenkeel __verify`. A parser's fault, a bomb or an endless history costs one sync.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use evenkeel_core::{
    id::CommitId,
    trust::{Accepted, Attestation, Refusal, VerifiedRevision},
};
use serde::{Deserialize, Serialize};

use super::{
    GitError, Repo,
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
    /// Seconds since 1970.
    pub now_unix: i64,
}

#[derive(Serialize, Deserialize)]
enum Answer {
    Accepted(Attestation),
    Refused(Box<Refusal>),
    Fault(GitError),
}

impl Question {
    /// Decides here, in this process. See [`verify`].
    pub fn decide(&self) -> Result<Result<VerifiedRevision, Box<Refusal>>, GitError> {
        let settings = (&self.trust, self.reference.as_str());
        verify(&self.mirror, settings, &self.tip, self.accepted.as_ref(), self.now_unix)
    }

    /// Lets a process of its own decide, and has it read all files of an accepted commit within its limits: whoever reads
    /// them later does so without any.
    pub async fn decide_apart(&self) -> Result<Result<VerifiedRevision, Box<Refusal>>, GitError> {
        // The link stays right when the file is replaced by an upgrade while we run.
        self.decide_with(Path::new("/proc/self/exe"), DEADLINE).await
    }

    /// As [`Self::decide_apart`], with the program to run, `evenkeel` itself, and a deadline.
    pub async fn decide_with(
        &self,
        program: &Path,
        deadline: Duration,
    ) -> Result<Result<VerifiedRevision, Box<Refusal>>, GitError> {
        // Times in the file of allowed signers may be local.
        let environment = std::env::var_os("TZ").map(|zone| ("TZ", zone)).into_iter().collect();
        let too_much = |why: String| GitError::TooMuch { doing: "verifying".to_owned(), why };
        match (Job { program, verb: VERIFY_VERB, environment, request: self }).ask(deadline).await {
            Ok(Answer::Accepted(attestation)) => Ok(Ok(attestation.believed())),
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
                Ok(()) => Answer::Accepted(revision.attested()),
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
