//! From a mirror and the configured trust to a decision.

use std::{io::Read as _, path::Path};

use evenkeel_core::{
    id::CommitId,
    trust::{self, Accepted, Code, Introduction, Policy, Refusal, Revoked, Signers, VerifiedRevision},
};
use jiff::tz::TimeZone;

use super::{
    GitError, Repo, allowed_signers,
    graph::{self, Start},
    openpgp::Keyring,
    revoked,
};
use crate::config::settings;

/// Decides whether the fetched tip may run. Reads the key files anew: a change counts at once. Blocking.
///
/// `now_unix` is the time in seconds. The outer error is a fault of files or objects, the inner one a refusal.
pub fn verify(
    mirror: &Path,
    settings: &settings::Trust,
    tip: &CommitId,
    accepted: Option<&Accepted>,
    now_unix: i64,
) -> Result<Result<VerifiedRevision, Box<Refusal>>, GitError> {
    let policy = policy(settings)?;
    let repo = Repo::open(mirror)?;
    if let Some(why) = repo.incomplete()? {
        return Ok(Err(Box::new(shallow(tip, accepted, why))));
    }
    if !repo.has(tip) {
        return Err(GitError::missing(tip));
    }
    let introduction = policy.introduction.as_ref().map(|i| &i.commit);
    let start = match (accepted, introduction) {
        (Some(accepted), _) => Start::Accepted(accepted),
        (None, Some(id)) => Start::Introduction(id),
        (None, None) => Start::Root,
    };
    let facts = graph::facts(&repo, &Keyring::default(), start, introduction, tip)?;
    Ok(trust::verify(&policy, accepted, &facts, now_unix))
}

fn shallow(tip: &CommitId, accepted: Option<&Accepted>, why: &str) -> Refusal {
    Refusal {
        code: Code::Shallow,
        commit: tip.clone(),
        subject: String::new(),
        fingerprint: None,
        reason: why.to_owned(),
        accepted: accepted.map(|a| a.commit.clone()),
        remedy: Code::Shallow.remedy().to_owned(),
    }
}

/// Reads the configured key files into a policy. Revoked keys that cannot be read are part of the policy: it then
/// refuses everything.
pub fn policy(settings: &settings::Trust) -> Result<Policy, GitError> {
    Ok(Policy {
        signers: read_signers(&settings.allowed_signers)?,
        revoked: settings.revoked.as_deref().map_or(Revoked::Keys([].into()), read_revoked),
        introduction: settings
            .introduction
            .as_ref()
            .map(|i| Introduction { commit: i.commit.clone(), signer: i.signer.clone() }),
    })
}

/// Reads a file of allowed signers. A file without any key is an error.
pub fn read_signers(path: &Path) -> Result<Signers, GitError> {
    let fail = |why: String| GitError::Keys { path: path.to_owned(), why };
    let text = read_capped(path).map_err(|e| fail(e.to_string()))?;
    let signers = allowed_signers::parse(&text, &TimeZone::system()).map_err(|e| fail(e.to_string()))?;
    if signers.is_empty() { Err(fail("it lists no key that is accepted".to_owned())) } else { Ok(signers) }
}

/// Reads a file of revoked keys.
pub fn read_revoked(path: &Path) -> Revoked {
    let read = || revoked::parse(&read_capped(path).map_err(|e| e.to_string())?).map_err(|e| e.to_string());
    match read() {
        Ok(keys) => Revoked::Keys(keys),
        Err(why) => Revoked::Unreadable(format!("the revoked keys in {} cannot be read: {why}", path.display())),
    }
}

fn read_capped(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(allowed_signers::MAX_FILE_BYTES + 1).read_to_end(&mut text)?;
    if text.len() as u64 > allowed_signers::MAX_FILE_BYTES {
        return Err(std::io::Error::other("the file has more than 1 MiB"));
    }
    Ok(text)
}
