//! The facts between the start and the tip, gathered by walking parents and checking each signature.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_core::{
    id::{CommitId, Digest},
    trust::{Accepted, Authorisation, Authority, Commit, Facts, Known, Merge, Policy, Signature, Signers, Trailers},
};
use gix::objs;

use super::{
    GitError,
    commit::{self, MAX_COMMIT_BYTES},
    lists::Lists,
    merge,
    openpgp::Keyring,
    repo::{self, Repo, object_id},
    signature,
};

/// Most commits that are judged at once.
pub const MAX_COMMITS: usize = 100_000;
/// Most commits whose parents are looked at.
const MAX_WALK: usize = 1_000_000;

type Parents = BTreeMap<CommitId, Vec<CommitId>>;

/// Gathers what the rules on trust ask about under this policy: all that is reachable from the tip and not from the
/// start, which is the accepted commit, else the introduction, else nothing.
pub fn facts(
    repo: &Repo,
    (policy, keyring): (&Policy, &Keyring),
    accepted: Option<&Accepted>,
    tip: &CommitId,
) -> Result<Facts, GitError> {
    let reader = Reader::asking(repo, policy, keyring);
    let first = policy.introduction.as_ref().map(|i| &i.commit);
    let begin = accepted.map(|a| &a.commit).or(first);
    let payload = accepted.map(|a| &a.payload);
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
        let introduced = match first {
            Some(first) => at_start || reader.descends(id, first)?,
            None => true,
        };
        let authorisation = reader.authorisation(found.tree)?;
        known.push(Known { id: id.clone(), payload: found.payload, introduced, authorisation });
    }
    let introduction = match first {
        Some(id) if accepted.is_none() && reader.has(id) => Some(reader.commit(id)?),
        _ => None,
    };
    Ok(Facts { tip: tip.clone(), commits, known, older, introduction, files: reader.lists.into_files() })
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
    /// Its tree; `None` if the commit cannot be read.
    tree: Option<gix::ObjectId>,
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
    lists: Lists,
    forge: Signers,
}

impl<'k> Reader<'k> {
    /// A reader that looks at signatures only.
    fn new(repo: &Repo, keyring: &'k Keyring) -> Self {
        let inner = repo.objects.0.to_thread_local();
        Self { inner, keyring, hex_len: repo.hex_len(), lists: Lists::unread(), forge: Signers::default() }
    }

    /// A reader that looks at what this policy asks for.
    fn asking(repo: &Repo, policy: &Policy, keyring: &'k Keyring) -> Self {
        let lists = if policy.authority == Authority::Repository { Lists::read() } else { Lists::unread() };
        Self { lists, forge: policy.forge.clone(), ..Self::new(repo, keyring) }
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
            Ok(parsed) => Found {
                id: id.clone(),
                payload: Some(parsed.payload_digest()),
                tree: gix::ObjectId::from_hex(parsed.tree.as_bytes()).ok(),
                parents: parsed.parents,
            },
            Err(_) => Found { id: id.clone(), payload: None, tree: None, parents: loose_parents(&raw, self.hex_len) },
        })
    }

    fn commit(&self, id: &CommitId) -> Result<Commit, GitError> {
        let raw = self.raw(id)?;
        let malformed = |e: commit::FormatError| Commit {
            id: id.clone(),
            parents: loose_parents(&raw, self.hex_len),
            payload: None,
            subject: String::new(),
            signature: Signature::Malformed(e.to_string()),
            trailers: Trailers::default(),
            authorisation: Authorisation::Unusable("the commit cannot be read".to_owned()),
            merge: Merge::Unasked,
        };
        let parsed = match commit::parse(&raw, self.hex_len) {
            Ok(parsed) => parsed,
            Err(e) => return Ok(malformed(e)),
        };
        let check = |armour| signature::check(self.keyring, armour, &parsed.payload);
        let signature = parsed.signature.as_deref().map_or(Signature::Unsigned, check);
        let tree = gix::ObjectId::from_hex(parsed.tree.as_bytes()).ok();
        Ok(Commit {
            id: id.clone(),
            payload: Some(parsed.payload_digest()),
            subject: parsed.subject(),
            trailers: Trailers::of(parsed.message),
            authorisation: self.authorisation(tree)?,
            merge: self.merge(&signature, &parsed.parents, tree),
            signature,
            parents: parsed.parents,
        })
    }

    /// The list of signers in a tree.
    fn authorisation(&self, tree: Option<gix::ObjectId>) -> Result<Authorisation, GitError> {
        match tree {
            Some(tree) => self.lists.of(&self.inner, tree),
            None => Ok(Authorisation::Unusable("the commit cannot be read".to_owned())),
        }
    }

    /// Merging is dear, so only what the forge signed is merged again.
    fn merge(&self, signature: &Signature, parents: &[CommitId], tree: Option<gix::ObjectId>) -> Merge {
        let (Some(key), [ours, theirs], Some(tree)) = (signature.key(), parents, tree) else {
            return Merge::Unasked;
        };
        if self.forge.label(key).is_none() {
            return Merge::Unasked;
        }
        merge::compare(&self.inner, (ours, theirs), tree)
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
pub(super) fn loose_parents(raw: &[u8], hex_len: usize) -> Vec<CommitId> {
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
