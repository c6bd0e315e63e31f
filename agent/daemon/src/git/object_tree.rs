//! A commit's tree, read from Git's objects.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use evenkeel_layout::tree::{Entry, EntryKind, MAX_FILE_BYTES, Tree, TreeError};
use gix::objs::{self, tree::EntryKind as GitKind};

use super::{GitError, repo::Objects};

/// Largest tree object that is read, in bytes.
pub(super) const MAX_TREE_BYTES: u64 = 8 * 1024 * 1024;
/// Most entries of one folder, and of a commit.
const MAX_ENTRIES: usize = 100_000;
/// Longest path that is followed, in parts.
const MAX_DEPTH: usize = 64;

type Listing = Arc<BTreeMap<String, (EntryKind, gix::ObjectId)>>;

/// The files of one commit. Every object is hashed again when it is read.
#[derive(Debug)]
pub struct GitTree {
    objects: Objects,
    root: gix::ObjectId,
    listings: Mutex<BTreeMap<gix::ObjectId, Listing>>,
}

impl GitTree {
    pub(super) fn new(objects: Objects, root: gix::ObjectId) -> Self {
        Self { objects, root, listings: Mutex::default() }
    }

    fn listing(&self, id: gix::ObjectId) -> Result<Listing, String> {
        if let Some(found) = self.listings.lock().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return Ok(Arc::clone(found));
        }
        let data = self.objects.read(id, objs::Kind::Tree, MAX_TREE_BYTES).map_err(|e| e.to_string())?;
        let mut entries = BTreeMap::new();
        for entry in objs::TreeRefIter::from_bytes(&data, id.kind()) {
            let entry = entry.map_err(|_| format!("the tree {id} is damaged"))?;
            if entries.len() == MAX_ENTRIES {
                return Err(format!("the tree {id} holds more than {MAX_ENTRIES} entries"));
            }
            let name = name(entry.filename)?;
            let kind = match entry.mode.kind() {
                GitKind::Tree => EntryKind::Directory,
                GitKind::Blob => EntryKind::File { executable: false },
                GitKind::BlobExecutable => EntryKind::File { executable: true },
                GitKind::Link => EntryKind::Symlink,
                GitKind::Commit => EntryKind::Submodule,
            };
            if entries.insert(name.clone(), (kind, entry.oid.to_owned())).is_some() {
                return Err(format!("it holds {name:?} twice"));
            }
        }
        let listing = Arc::new(entries);
        self.listings.lock().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::clone(&listing));
        Ok(listing)
    }

    /// Whether the root can be read as an object.
    pub(super) fn has_root(&self) -> bool {
        self.objects.read(self.root, objs::Kind::Tree, MAX_TREE_BYTES).is_ok()
    }

    /// Reads everything that may be read of this tree, once. What is too large to be read ever is passed over.
    pub(super) fn read_all(&self) -> Result<(), GitError> {
        let fail = |why: String| GitError::Object { id: self.root.to_string(), why };
        let mut queue = vec![(self.root, 0)];
        let mut seen = BTreeSet::new();
        let mut entries = 0;
        while let Some((id, depth)) = queue.pop() {
            if depth == MAX_DEPTH {
                return Err(fail(format!("its folders are nested deeper than {MAX_DEPTH}")));
            }
            if !seen.insert(id) {
                continue;
            }
            for (kind, id) in self.listing(id).map_err(fail)?.values() {
                entries += 1;
                match kind {
                    _ if entries > MAX_ENTRIES => {
                        return Err(fail(format!("it holds more than {MAX_ENTRIES} files and folders")));
                    }
                    EntryKind::Directory => queue.push((*id, depth + 1)),
                    EntryKind::File { .. } | EntryKind::Symlink if seen.insert(*id) => {
                        self.objects.read_if_small(*id, MAX_FILE_BYTES as u64)?;
                    }
                    EntryKind::File { .. } | EntryKind::Symlink | EntryKind::Submodule => {}
                }
            }
        }
        Ok(())
    }

    /// What stands at a path: its kind and object, or `None`.
    fn find(&self, path: &str) -> Result<Option<(EntryKind, gix::ObjectId)>, String> {
        let mut at = (EntryKind::Directory, self.root);
        if path.is_empty() {
            return Ok(Some(at));
        }
        for (depth, part) in path.split('/').enumerate() {
            if depth == MAX_DEPTH {
                return Err(format!("it lies deeper than {MAX_DEPTH} folders"));
            }
            if at.0 != EntryKind::Directory {
                return Ok(None);
            }
            match self.listing(at.1)?.get(part) {
                Some(found) => at = *found,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }
}

impl Tree for GitTree {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, TreeError> {
        let fail = |why| TreeError { path: path.to_owned(), why };
        match self.find(path).map_err(fail)? {
            Some((EntryKind::File { .. } | EntryKind::Symlink, id)) => {
                let data = self.objects.read(id, objs::Kind::Blob, MAX_FILE_BYTES as u64);
                data.map(Some).map_err(|e| fail(e.to_string()))
            }
            _ => Ok(None),
        }
    }

    fn list(&self, dir: &str) -> Result<Vec<Entry>, TreeError> {
        let fail = |why| TreeError { path: dir.to_owned(), why };
        match self.find(dir).map_err(fail)? {
            Some((EntryKind::Directory, id)) => {
                let listing = self.listing(id).map_err(fail)?;
                Ok(listing.iter().map(|(name, (kind, _))| Entry { name: name.clone(), kind: *kind }).collect())
            }
            _ => Ok(Vec::new()),
        }
    }

    fn kind(&self, path: &str) -> Result<Option<EntryKind>, TreeError> {
        self.find(path).map(|found| found.map(|(kind, _)| kind)).map_err(|why| TreeError { path: path.to_owned(), why })
    }
}

/// A name that is safe as a file's: what would leave the folder, or hide in a listing, makes the tree unusable.
fn name(bytes: &[u8]) -> Result<String, String> {
    let shown = super::commit::displayable(bytes, 80);
    let text = std::str::from_utf8(bytes).map_err(|_| format!("the file name {shown:?} is not UTF-8; rename it"))?;
    let unsafe_name = text.is_empty()
        || text == "."
        || text == ".."
        || text.eq_ignore_ascii_case(".git")
        || text.chars().any(|c| c == '/' || c.is_control());
    if unsafe_name { Err(format!("the file name {shown:?} is not safe; rename it")) } else { Ok(text.to_owned()) }
}
