//! Who signed what: commits with what a person wants to see of them, newest first. Nothing is decided here.

use std::collections::{BTreeSet, BinaryHeap};

use evenkeel_core::{
    id::CommitId,
    trust::{Commit, Signature},
};

use super::{
    GitError, Repo,
    commit::{self, displayable},
    graph,
    openpgp::Keyring,
    public_keys::PublicKey,
    sshsig,
};

/// A commit as a person sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its id, subject, parents, and what cryptography says of its signature.
    pub commit: Commit,
    /// The author's name, fit for display.
    pub author: String,
    /// The author's address, fit for display.
    pub address: String,
    /// When it was written, in seconds since 1970, as the commit claims.
    pub time_unix: i64,
    /// The key in its signature, if it is one of SSH that can be read. That it is there does not mean that it signed.
    pub key: Option<PublicKey>,
}

impl Seen {
    /// The key that signed it, if the signature fits.
    pub fn signer(&self) -> Option<&str> {
        match &self.commit.signature {
            Signature::Valid { fingerprint } => Some(fingerprint),
            _ => None,
        }
    }
}

/// The newest `limit` commits that `tip` has, by the dates that they claim.
pub fn newest(repo: &Repo, keyring: &Keyring, tip: &CommitId, limit: usize) -> Result<Vec<Seen>, GitError> {
    let mut found = Vec::new();
    let mut queued = BTreeSet::from([tip.clone()]);
    let first = one(repo, keyring, tip)?;
    let mut heap = BinaryHeap::from([(first.time_unix, first.commit.id.clone())]);
    let mut read = std::collections::BTreeMap::from([(tip.clone(), first)]);
    while found.len() < limit
        && let Some((_, id)) = heap.pop()
        && let Some(seen) = read.remove(&id)
    {
        // The parents of the last one need not be read.
        let parents = if found.len() + 1 < limit { seen.commit.parents.as_slice() } else { &[] };
        for parent in parents {
            if queued.insert(parent.clone()) {
                let next = one(repo, keyring, parent)?;
                heap.push((next.time_unix, parent.clone()));
                read.insert(parent.clone(), next);
            }
        }
        found.push(seen);
    }
    Ok(found)
}

/// One commit. What is malformed is shown as far as it can be read.
pub fn one(repo: &Repo, keyring: &Keyring, id: &CommitId) -> Result<Seen, GitError> {
    let commit = graph::one(repo, keyring, id)?;
    let raw = repo.commit_bytes(id)?;
    let parsed = commit::parse(&raw, id.as_str().len()).ok();
    let armour = parsed.as_ref().and_then(|p| p.signature.as_deref());
    Ok(Seen {
        key: armour.and_then(sshsig::signing_key),
        author: parsed.as_ref().map(|p| displayable(p.author.name, 200)).unwrap_or_default(),
        address: address(&raw),
        time_unix: parsed.as_ref().map_or(0, |p| p.author.seconds),
        commit,
    })
}

fn address(raw: &[u8]) -> String {
    let line = raw.split(|&b| b == b'\n').take_while(|line| !line.is_empty()).find_map(|l| l.strip_prefix(b"author "));
    let between = |line: &[u8]| {
        let open = line.iter().position(|&b| b == b'<')? + 1;
        let len = line[open..].iter().position(|&b| b == b'>')?;
        Some(displayable(&line[open..open + len], 200))
    };
    line.and_then(between).unwrap_or_default()
}
