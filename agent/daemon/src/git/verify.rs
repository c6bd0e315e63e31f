//! From a mirror and the configured trust to a decision.

use std::{io::Read as _, path::Path};

use evenkeel_core::{
    id::CommitId,
    trust::{self, Accepted, Authority, Code, Introduction, Policy, Refusal, Revoked, Signers, VerifiedRevision},
};
use jiff::tz::TimeZone;

use super::{GitError, Repo, allowed_signers, certificates::is_certificates, graph, openpgp::Keyring, revoked};
use crate::config::settings;

/// Decides whether the fetched tip may run. Reads the key files anew: a change counts at once. Blocking.
///
/// `reference` is the tracked branch, `now_unix` the time in seconds. The outer error is a fault of files or objects,
/// the inner one a refusal.
pub fn verify(
    mirror: &Path,
    (settings, reference): (&settings::Trust, &str),
    tip: &CommitId,
    accepted: Option<&Accepted>,
    now_unix: i64,
) -> Result<Result<VerifiedRevision, Box<Refusal>>, GitError> {
    let (policy, keyring) = policy(settings, reference, now_unix)?;
    let repo = Repo::open(mirror)?;
    if let Some(why) = repo.incomplete()? {
        return Ok(Err(Refusal::of_tip(&policy, accepted, (tip, ""), (Code::Shallow, why.to_owned()))));
    }
    if !repo.has(tip) {
        return Err(GitError::missing(tip));
    }
    let facts = graph::facts(&repo, (&policy, &keyring), accepted, tip)?;
    Ok(trust::verify(&policy, accepted, &facts, now_unix))
}

/// Reads the configured key files into a policy. Revoked keys that cannot be read are part of the policy: it then
/// refuses everything. The keyring holds the OpenPGP certificates as they stand at `now_unix`.
pub fn policy(settings: &settings::Trust, reference: &str, now_unix: i64) -> Result<(Policy, Keyring), GitError> {
    let revoked = settings.revoked.as_deref().map_or(Revoked::Keys([].into()), read_revoked);
    let keyring = keyring(settings.openpgp_certificates(), &revoked, now_unix)?;
    let authority = match &settings.signers {
        settings::SignersOf::Server { allowed_signers, .. } => {
            let signers = allowed_signers.as_deref().map_or(Ok(Signers::default()), read_signers)?;
            Authority::Server(signers.with_certificates(keyring.principals()))
        }
        settings::SignersOf::Repository => Authority::Repository,
    };
    let (forge, keyring) = match &settings.forge_keys {
        Some(path) => read_forge_keys(path, keyring)?,
        None => (Signers::default(), keyring),
    };
    let policy = Policy {
        authority,
        revoked,
        introduction: settings
            .introduction
            .as_ref()
            .map(|i| Introduction { commit: i.commit.clone(), signer: i.signer.clone() }),
        forge,
        deploy_to: settings.require_deploy_to.then(|| reference.to_owned()),
    };
    Ok((policy, keyring))
}

/// Reads a file of allowed signers. A file without any key is an error.
pub fn read_signers(path: &Path) -> Result<Signers, GitError> {
    let fail = |why: String| GitError::Keys { path: path.to_owned(), why };
    let text = read_capped(path).map_err(|e| fail(e.to_string()))?;
    let signers = allowed_signers::parse(&text, &TimeZone::system()).map_err(|e| fail(e.to_string()))?;
    if signers.is_empty() { Err(fail("it lists no key that is accepted".to_owned())) } else { Ok(signers) }
}

/// The OpenPGP certificates of a folder, if there is one, as they stand at `now_unix`. What is revoked here never counts,
/// whatever they say.
pub fn keyring(folder: Option<&Path>, revoked: &Revoked, now_unix: i64) -> Result<Keyring, GitError> {
    let keyring = match folder {
        Some(folder) => {
            Keyring::read(folder, now_unix).map_err(|why| GitError::Certificates { path: folder.to_owned(), why })?
        }
        None => Keyring::empty(now_unix),
    };
    Ok(match revoked {
        Revoked::Keys(keys) => keyring.without(keys),
        // Nothing is accepted then.
        Revoked::Unreadable(_) => keyring,
    })
}

/// Reads the keys of a forge: lines as of allowed signers, or OpenPGP certificates, which the keyring then has besides. They
/// sign for the forge alone: a certificate that is a person's already is an error.
pub fn read_forge_keys(path: &Path, keyring: Keyring) -> Result<(Signers, Keyring), GitError> {
    let fail = |why: String| GitError::Keys { path: path.to_owned(), why };
    let text = read_capped(path).map_err(|e| fail(e.to_string()))?;
    if !is_certificates(&text) {
        return Ok((read_signers(path)?, keyring));
    }
    let before = keyring.principals();
    let keyring = keyring.with(&text).map_err(|why| GitError::Certificates { path: path.to_owned(), why })?;
    let mut forge = keyring.principals();
    forge.retain(|fingerprint, _| !before.contains_key(fingerprint));
    Ok((Signers::default().with_certificates(forge), keyring))
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
