//! The facts between the start and the tip, gathered by walking parents and checking each signature.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_core::{
    id::{CommitId, Digest},
    trust::{Accepted, Commit, Facts, Known, Signature},
};
use gix::objs;

use super::{
    GitError,
    commit::{self, MAX_COMMIT_BYTES},
    openpgp::Keyring,
    repo::{self, Repo, object_id},
    signature,
};

/// Most commits that are judged at once.
pub const MAX_COMMITS: usize = 100_000;
/// Most commits whose parents are looked at.
const MAX_WALK: usize = 1_000_000;

/// Where the walk ends: at these commits and at what lies behind them.
#[derive(Debug, Clone, Copy)]
pub enum Start<'a> {
    /// At nothing: the walk goes down to the root.
    Root,
    /// At a commit, or one with the same signed payload.
    Accepted(&'a Accepted),
    /// At the introduction.
    Introduction(&'a CommitId),
}

type Parents = BTreeMap<CommitId, Vec<CommitId>>;

/// Gathers what the rules on trust ask about. `introduction` is the configured one, whatever the start is.
pub fn facts(
    repo: &Repo,
    keyring: &Keyring,
    start: Start<'_>,
    introduction: Option<&CommitId>,
    tip: &CommitId,
) -> Result<Facts, GitError> {
    let reader = Reader::new(repo, keyring);
    let begin = match start {
        Start::Root => None,
        Start::Accepted(accepted) => Some(&accepted.commit),
        Start::Introduction(id) => Some(id),
    };
    let payload = match start {
        Start::Accepted(accepted) => Some(&accepted.payload),
        Start::Root | Start::Introduction(_) => None,
    };
    let is_start = |found: &Found| Some(&found.id) == begin || (payload.is_some() && found.payload.as_ref() == payload);
    let (range, mut older) = reader.range(tip, begin, &is_start)?;

    let mut commits = Vec::with_capacity(range.len());
    let mut ends: BTreeSet<&CommitId> = BTreeSet::new();
    for (id, parents) in &range {
        commits.push(reader.commit(id)?);
        ends.extend(parents.iter().filter(|p| !range.contains_key(*p)));
    }
    if range.is_empty() {
        ends.insert(tip);
    }
    let mut known = Vec::with_capacity(ends.len());
    for id in ends {
        let found = reader.found(id)?;
        let at_start = is_start(&found);
        older &= !(at_start && id == tip);
        let introduced = match introduction {
            Some(first) => at_start || reader.descends(id, first)?,
            None => true,
        };
        known.push(Known { id: id.clone(), payload: found.payload, introduced });
    }
    let introduction = match start {
        Start::Introduction(id) if reader.has(id) => Some(reader.commit(id)?),
        _ => None,
    };
    Ok(Facts { tip: tip.clone(), commits, known, older, introduction })
}

/// The commits of `from..to` as Git has them, parents first, and whether `from` is an ancestor of `to`.
pub fn range(repo: &Repo, keyring: &Keyring, from: &CommitId, to: &CommitId) -> Result<(Vec<Commit>, bool), GitError> {
    let reader = Reader::new(repo, keyring);
    let hidden = reader.ancestors(from, &|_| false)?.parents;
    let mut all = reader.ancestors(to, &|found| hidden.contains_key(&found.id))?;
    let forward = all.stopped.contains(from);
    let order = parents_first(&mut all.parents, to);
    let commits = order.iter().map(|id| reader.commit(id)).collect::<Result<_, _>>()?;
    Ok((commits, forward))
}

/// One commit as the rules on trust see it.
pub fn one(repo: &Repo, keyring: &Keyring, id: &CommitId) -> Result<Commit, GitError> {
    Reader::new(repo, keyring).commit(id)
}

/// What is needed of a commit while walking.
struct Found {
    id: CommitId,
    parents: Vec<CommitId>,
    payload: Option<Digest>,
}

/// The commits that a walk passed, and those at which it was told to stop.
struct Walked {
    parents: Parents,
    stopped: BTreeSet<CommitId>,
    /// Whether it came to a commit without parents.
    at_root: bool,
}

struct Reader<'k> {
    inner: gix::Repository,
    keyring: &'k Keyring,
    hex_len: usize,
}

impl<'k> Reader<'k> {
    fn new(repo: &Repo, keyring: &'k Keyring) -> Self {
        Self { inner: repo.objects.0.to_thread_local(), keyring, hex_len: repo.hex_len() }
    }

    fn raw(&self, id: &CommitId) -> Result<Vec<u8>, GitError> {
        repo::read(&self.inner, object_id(id)?, objs::Kind::Commit, MAX_COMMIT_BYTES as u64)
    }

    fn has(&self, id: &CommitId) -> bool {
        self.raw(id).is_ok()
    }

    fn found(&self, id: &CommitId) -> Result<Found, GitError> {
        let raw = self.raw(id)?;
        Ok(match commit::parse(&raw, self.hex_len) {
            Ok(parsed) => Found { id: id.clone(), payload: Some(parsed.payload_digest()), parents: parsed.parents },
            Err(_) => Found { id: id.clone(), payload: None, parents: loose_parents(&raw, self.hex_len) },
        })
    }

    fn commit(&self, id: &CommitId) -> Result<Commit, GitError> {
        let raw = self.raw(id)?;
        Ok(match commit::parse(&raw, self.hex_len) {
            Ok(parsed) => Commit {
                id: id.clone(),
                payload: Some(parsed.payload_digest()),
                subject: parsed.subject(),
                signature: parsed
                    .signature
                    .as_ref()
                    .map_or(Signature::Unsigned, |armour| signature::check(self.keyring, armour, &parsed.payload)),
                parents: parsed.parents,
            },
            Err(e) => Commit {
                id: id.clone(),
                parents: loose_parents(&raw, self.hex_len),
                payload: None,
                subject: String::new(),
                signature: Signature::Malformed(e.to_string()),
            },
        })
    }

    /// Everything that is reachable from `from`, not going past a commit for which `stop` holds.
    fn ancestors(&self, from: &CommitId, stop: &dyn Fn(&Found) -> bool) -> Result<Walked, GitError> {
        let mut walked = Walked { parents: Parents::new(), stopped: BTreeSet::new(), at_root: false };
        let mut queue = vec![from.clone()];
        while let Some(id) = queue.pop() {
            if walked.parents.contains_key(&id) || walked.stopped.contains(&id) {
                continue;
            }
            let found = self.found(&id)?;
            if stop(&found) {
                walked.stopped.insert(id);
                continue;
            }
            if walked.parents.len() == MAX_WALK {
                return Err(GitError::TooLong { commits: MAX_WALK });
            }
            walked.at_root |= found.parents.is_empty();
            queue.extend(found.parents.iter().cloned());
            walked.parents.insert(id, found.parents);
        }
        Ok(walked)
    }

    /// The commits reachable from the tip and not from the start, and whether the tip is reachable from the start.
    fn range(
        &self,
        tip: &CommitId,
        begin: Option<&CommitId>,
        is_start: &dyn Fn(&Found) -> bool,
    ) -> Result<(Parents, bool), GitError> {
        let Walked { mut parents, stopped, at_root } = self.ancestors(tip, is_start)?;
        let mut older = false;
        // A walk that never came to a root passed nothing from behind the start: that would have led to a root.
        if let Some(begin) = begin.filter(|id| at_root && self.has(id)) {
            let behind = self.ancestors(stopped.first().unwrap_or(begin), &|_| false)?.parents;
            older = behind.contains_key(tip);
            parents.retain(|id, _| !behind.contains_key(id));
        }
        if parents.len() > MAX_COMMITS {
            return Err(GitError::TooLong { commits: MAX_COMMITS });
        }
        Ok((parents, older))
    }

    /// Whether `id` is `first` or descends from it.
    fn descends(&self, id: &CommitId, first: &CommitId) -> Result<bool, GitError> {
        Ok(self.ancestors(id, &|found| found.id == *first)?.stopped.contains(first))
    }
}

/// The parents of a commit that the strict rules refuse, so that the walk can go on and name it in its place.
fn loose_parents(raw: &[u8], hex_len: usize) -> Vec<CommitId> {
    raw.split(|&b| b == b'\n')
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix(b"parent ")?.get(..hex_len))
        .filter_map(|id| CommitId::new(std::str::from_utf8(id).ok()?).ok())
        .collect()
}

/// The commits of `parents` that are reachable from `tip`, each after its parents.
fn parents_first(parents: &mut Parents, tip: &CommitId) -> Vec<CommitId> {
    let mut order = Vec::with_capacity(parents.len());
    let mut stack: Vec<(CommitId, Vec<CommitId>)> = parents.remove_entry(tip).into_iter().collect();
    while let Some((id, mut rest)) = stack.pop() {
        let Some(parent) = rest.pop() else {
            order.push(id);
            continue;
        };
        stack.push((id, rest));
        stack.extend(parents.remove_entry(&parent));
    }
    order
}
