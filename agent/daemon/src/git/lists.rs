//! The lists of signers that a repository has in its own trees.

use std::{cell::RefCell, collections::HashMap};

use evenkeel_core::{
    id::Digest,
    trust::{AUTHORISATION_PATH, Authorisation, Authorised, Files, MAX_AUTHORISATION_BYTES},
};
use gix::objs::{self, tree::EntryKind};
use jiff::tz::TimeZone;

use super::{GitError, allowed_signers, object_tree::MAX_TREE_BYTES, repo};

/// Reads the list of one commit after the other; what was read once is remembered.
pub(super) struct Lists {
    /// `None`: nobody asks for them.
    zone: Option<TimeZone>,
    /// By the object of the folder that holds the list.
    seen: RefCell<HashMap<gix::ObjectId, Authorisation>>,
    files: RefCell<Files>,
}

/// A tree's entry, or why it is of no use.
type Entry = Result<gix::ObjectId, String>;

impl Lists {
    /// Nothing is read: it is the server that lists the keys.
    pub fn unread() -> Self {
        Self { zone: None, seen: RefCell::default(), files: RefCell::default() }
    }

    /// Times without a zone are in the system's, as `ssh-keygen` takes them.
    pub fn read() -> Self {
        Self { zone: Some(TimeZone::system()), ..Self::unread() }
    }

    /// Every list that was read.
    pub fn into_files(self) -> Files {
        self.files.into_inner()
    }

    /// The list in the tree of a commit.
    pub fn of(&self, repo: &gix::Repository, tree: gix::ObjectId) -> Result<Authorisation, GitError> {
        let Some(zone) = &self.zone else { return Ok(Authorisation::Unread) };
        let (folder, file) = AUTHORISATION_PATH.split_once('/').unwrap_or_default();
        let folder = match entry(repo, tree, folder, EntryKind::Tree)? {
            Ok(folder) => folder,
            Err(why) => return Ok(Authorisation::Unusable(why)),
        };
        if let Some(seen) = self.seen.borrow().get(&folder) {
            return Ok(seen.clone());
        }
        let found = match entry(repo, folder, file, EntryKind::Blob)? {
            Ok(blob) => self.list(repo, blob, zone)?,
            Err(why) => Authorisation::Unusable(why),
        };
        self.seen.borrow_mut().insert(folder, found.clone());
        Ok(found)
    }

    fn list(&self, repo: &gix::Repository, blob: gix::ObjectId, zone: &TimeZone) -> Result<Authorisation, GitError> {
        let unusable = |why: String| Ok(Authorisation::Unusable(format!("{AUTHORISATION_PATH}: {why}")));
        let text = match read(repo, blob, objs::Kind::Blob, MAX_AUTHORISATION_BYTES)? {
            Ok(text) => text,
            Err(why) => return unusable(why),
        };
        let digest = Digest::of(&text);
        let list = allowed_signers::parse(&text, zone).map_err(|e| e.to_string());
        match list.and_then(|signers| Authorised::new(&text, signers)) {
            Ok(list) => {
                self.files.borrow_mut().insert(digest.clone(), list);
                Ok(Authorisation::File(digest))
            }
            Err(why) => unusable(why),
        }
    }
}

/// The one entry of a tree that has this name, if it is of this kind.
fn entry(repo: &gix::Repository, tree: gix::ObjectId, name: &str, kind: EntryKind) -> Result<Entry, GitError> {
    let data = match read(repo, tree, objs::Kind::Tree, MAX_TREE_BYTES)? {
        Ok(data) => data,
        Err(why) => return Ok(Err(format!("{AUTHORISATION_PATH}: {why}"))),
    };
    let mut found = None;
    for entry in objs::TreeRefIter::from_bytes(&data, tree.kind()) {
        let Ok(entry) = entry else { return Ok(Err(format!("{AUTHORISATION_PATH}: the tree {tree} is damaged"))) };
        if entry.filename == name && found.replace((entry.mode.kind(), entry.oid.to_owned())).is_some() {
            return Ok(Err(format!("{AUTHORISATION_PATH}: {name} stands twice in its tree")));
        }
    }
    Ok(match found {
        Some((found, id)) if found == kind => Ok(id),
        Some((EntryKind::Link, _)) => Err(format!("{AUTHORISATION_PATH}: {name} is a symbolic link")),
        Some((EntryKind::BlobExecutable, _)) => {
            Err(format!("{AUTHORISATION_PATH}: {name} is executable, not a plain file"))
        }
        Some(_) if kind == EntryKind::Tree => Err(format!("{AUTHORISATION_PATH}: {name} is not a folder")),
        Some(_) => Err(format!("{AUTHORISATION_PATH}: {name} is not a plain file")),
        None => Err(format!("it has no {AUTHORISATION_PATH}")),
    })
}

/// An object's bytes; what is too large or of another kind is the repository's fault, what is absent is not.
fn read(
    repo: &gix::Repository,
    id: gix::ObjectId,
    kind: objs::Kind,
    max: u64,
) -> Result<Result<Vec<u8>, String>, GitError> {
    match repo::read(repo, id, kind, max) {
        Ok(data) => Ok(Ok(data)),
        Err(GitError::Object { why, .. }) => Ok(Err(why)),
        Err(other) => Err(other),
    }
}
