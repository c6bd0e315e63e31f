//! A commit that a person accepts by hand: after a reset on purpose, or when the state was lost. What it would change
//! is looked at first; the rules on signatures hold for it all the same.

use evenkeel_core::{
    id::CommitId,
    people::{Person, Stated},
    trust::{Accepted, Commit, Refusal},
};
use serde::{Deserialize, Serialize};

use super::people;
use crate::{
    config::settings::Settings,
    git::{self, GitError, Repo, apart::Question},
    store::{Store, StoreError},
};

/// What a person asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptRequest {
    /// The whole id.
    pub commit: CommitId,
    /// The accepted commit that the person saw; another one by now ends it.
    pub from: Option<CommitId>,
    /// Why.
    pub why: String,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum AcceptEnd {
    /// It is the accepted commit now.
    Accepted,
    /// The rules on signatures refuse it.
    Refused {
        /// Why, and what to do.
        message: String,
    },
    /// Another commit was accepted since the person looked.
    Moved,
}

/// What accepting a commit would mean.
#[derive(Debug, Clone)]
pub struct Prospect {
    /// The commit.
    pub commit: CommitId,
    /// What is accepted now.
    pub from: Option<CommitId>,
    /// Commits that are in the accepted one's history and not in the new one's, newest first.
    pub goes: Vec<Commit>,
    /// Commits that are in the new one's history and not in the accepted one's, newest first.
    pub comes: Vec<Commit>,
    /// Whether the mirror still has the accepted commit; without it nobody can tell what goes.
    pub knows_from: bool,
    /// Whether it may be accepted.
    pub verdict: Result<Accepted, Box<Refusal>>,
}

/// It could not be looked at, or not be done.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The mirror does not have the commit.
    #[error("the mirror of {url} has no commit {id:?}")]
    Absent {
        /// The repository.
        url: String,
        /// What was asked for.
        id: String,
    },
    /// The repository or the keys.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Looks at what accepting `id`, whole or shortened, would mean. Changes nothing. The verdict is that of a process apart;
/// what is shown besides is read here, so this is for a command and not for the agent.
pub async fn prospect(settings: &Settings, store: &Store, id: &str, now_unix: i64) -> Result<Prospect, AcceptError> {
    let commit = find(settings, id)?;
    let from = store.accepted()?.map(|(commit, _)| commit);
    let verdict = verdict(settings, (&commit, from.as_ref()), now_unix).await?;
    let repo = Repo::open(&settings.paths.mirror())?;
    let knows_from = from.as_ref().is_some_and(|from| repo.has(from));
    let (_, keyring) = git::policy(&settings.trust, &settings.source.reference, now_unix)?;
    let between = |a: &CommitId, b: &CommitId| -> Result<Vec<Commit>, GitError> {
        let (mut commits, _) = git::graph::range(&repo, &keyring, a, b)?;
        commits.reverse();
        Ok(commits)
    };
    let (goes, comes) = match from.as_ref().filter(|_| knows_from) {
        Some(from) => (between(&commit, from)?, between(from, &commit)?),
        None => (Vec::new(), vec![git::graph::one(&repo, &keyring, &commit)?]),
    };
    Ok(Prospect { commit, from, goes, comes, knows_from, verdict })
}

/// The commit of the mirror that a person means.
fn find(settings: &Settings, id: &str) -> Result<CommitId, AcceptError> {
    let mirror = settings.paths.mirror();
    let absent = || AcceptError::Absent { url: settings.source.url.clone(), id: id.to_owned() };
    if !mirror.exists() {
        return Err(absent());
    }
    Repo::open(&mirror)?.resolve(id).ok_or_else(absent)
}

/// What the rules say. Everything that the commit adds to what was accepted once is judged, the commit itself always.
async fn verdict(
    settings: &Settings,
    (commit, from): (&CommitId, Option<&CommitId>),
    now_unix: i64,
) -> Result<Result<Accepted, Box<Refusal>>, GitError> {
    let question = Question {
        mirror: settings.paths.mirror(),
        trust: settings.trust.clone(),
        reference: settings.source.reference.clone(),
        tip: commit.clone(),
        accepted: None,
        beside: from.cloned(),
        now_unix,
    };
    Ok(question.decide_apart().await?.map(|revision| revision.accepted()))
}

/// Does it, if the rules bear it out and nothing has changed since the person looked. Who it is must be known, not claimed.
pub async fn accept(
    settings: &Settings,
    store: &Store,
    request: &AcceptRequest,
    by: Person,
    now_ms: i64,
) -> Result<AcceptEnd, AcceptError> {
    let commit = find(settings, request.commit.as_str())?;
    let from = store.accepted()?.map(|(commit, _)| commit);
    let new = match verdict(settings, (&commit, from.as_ref()), now_ms / 1000).await? {
        Ok(new) => new,
        Err(refusal) => return Ok(AcceptEnd::Refused { message: refusal.to_string() }),
    };
    let stated = Stated { by, reason: people::tidy(&request.why) };
    let done = store.accept_by_hand(request.from.as_ref(), &new, &stated, now_ms)?;
    Ok(if done { AcceptEnd::Accepted } else { AcceptEnd::Moved })
}

/// Whether this user may say what is accepted: root, and who the agent itself runs as.
pub fn may_accept(uid: u32, agent: u32) -> bool {
    uid == 0 || uid == agent
}
