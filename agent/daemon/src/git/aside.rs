//! From where on a commit is judged that a person wants to accept beside, or behind, the accepted one.

use std::collections::BTreeSet;

use evenkeel_core::{id::CommitId, trust::Accepted};

use super::{GitError, Repo, graph, openpgp::Keyring};

/// Most commits that are walked over.
const MAX_WALK: usize = 1_000_000;

/// The newest commit that was accepted once and that `tip` descends from: what lies behind it was judged when it came.
/// It is never `tip` itself, so that its signature is judged anew. `None` if there is no such commit, or only from before
/// the introduction: then everything is judged, as by an agent that begins.
pub fn base(
    repo: &Repo,
    tip: &CommitId,
    accepted: &CommitId,
    introduction: Option<&CommitId>,
) -> Result<Option<Accepted>, GitError> {
    if !repo.has(accepted) {
        return Ok(None);
    }
    let behind = ancestors(repo, [accepted.clone()])?;
    let mut seen = BTreeSet::from([tip.clone()]);
    let mut queue = std::collections::VecDeque::from([tip.clone()]);
    while let Some(id) = queue.pop_front() {
        if id != *tip && behind.contains(&id) {
            let commit = graph::one(repo, &Keyring::default(), &id)?;
            let introduced = match introduction {
                Some(first) => ancestors(repo, [id.clone()])?.contains(first),
                None => true,
            };
            return Ok(commit.payload.filter(|_| introduced).map(|payload| Accepted { commit: id, payload }));
        }
        for parent in parents(repo, &id)? {
            if seen.insert(parent.clone()) {
                queue.push_back(parent);
            }
        }
        if seen.len() > MAX_WALK {
            return Err(GitError::TooLong { commits: MAX_WALK });
        }
    }
    Ok(None)
}

/// These commits and all that lies behind them.
fn ancestors(repo: &Repo, from: impl IntoIterator<Item = CommitId>) -> Result<BTreeSet<CommitId>, GitError> {
    let mut queue: Vec<CommitId> = from.into_iter().collect();
    let mut seen: BTreeSet<CommitId> = queue.iter().cloned().collect();
    while let Some(id) = queue.pop() {
        for parent in parents(repo, &id)? {
            if seen.insert(parent.clone()) {
                queue.push(parent);
            }
        }
        if seen.len() > MAX_WALK {
            return Err(GitError::TooLong { commits: MAX_WALK });
        }
    }
    Ok(seen)
}

fn parents(repo: &Repo, id: &CommitId) -> Result<Vec<CommitId>, GitError> {
    Ok(graph::loose_parents(&repo.commit_bytes(id)?, id.as_str().len()))
}
