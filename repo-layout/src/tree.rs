//! A read-only view of a repository's tracked files: Git objects, a directory, or a map in tests.

use std::collections::BTreeMap;

/// Largest file that is read whole, in bytes. Compose files and lists are far below it.
pub const MAX_FILE_BYTES: usize = 10 * 1024 * 1024;

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Whether its executable bit is set.
        executable: bool,
    },
    /// A directory.
    Directory,
    /// A symbolic link; its content is the target.
    Symlink,
    /// Another repository, pinned by commit.
    Submodule,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The last part of the path.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
}

/// A tree could not be read: the store behind it failed, or a limit was passed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read {path:?} in the repository: {why}")]
pub struct TreeError {
    /// The path that was asked for.
    pub path: String,
    /// What happened.
    pub why: String,
}

/// A repository's files at one moment. Paths have `/` between parts, no leading slash, no `.` or `..`;
/// the root is the empty path.
pub trait Tree {
    /// The file's bytes, or the target of a symlink; `None` if there is no file or link at `path`.
    /// A file of more than [`MAX_FILE_BYTES`] is an error.
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, TreeError>;

    /// The names in a directory, sorted; empty if there is no such directory.
    fn list(&self, dir: &str) -> Result<Vec<Entry>, TreeError>;

    /// What stands at `path`, or `None`.
    fn kind(&self, path: &str) -> Result<Option<EntryKind>, TreeError> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok(self.list(dir)?.into_iter().find(|e| e.name == name).map(|e| e.kind))
    }
}

/// A tree in memory: path to kind and bytes. For tests and for small made-up trees.
#[derive(Debug, Clone, Default)]
pub struct MapTree(BTreeMap<String, (EntryKind, Vec<u8>)>);

impl MapTree {
    /// Makes a tree of `(path, content)` pairs.
    pub fn new<P: Into<String>, C: Into<Vec<u8>>>(files: impl IntoIterator<Item = (P, C)>) -> Self {
        let file = |content: C| (EntryKind::File { executable: false }, content.into());
        Self(files.into_iter().map(|(path, content)| (path.into(), file(content))).collect())
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn with_symlink(mut self, path: &str, target: &str) -> Self {
        self.0.insert(path.to_owned(), (EntryKind::Symlink, target.as_bytes().to_vec()));
        self
    }

    /// Adds a submodule.
    #[must_use]
    pub fn with_submodule(mut self, path: &str) -> Self {
        self.0.insert(path.to_owned(), (EntryKind::Submodule, Vec::new()));
        self
    }
}

impl Tree for MapTree {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, TreeError> {
        let Some((kind, content)) = self.0.get(path) else { return Ok(None) };
        if content.len() > MAX_FILE_BYTES {
            let why = format!("it is larger than {MAX_FILE_BYTES} bytes");
            return Err(TreeError { path: path.to_owned(), why });
        }
        Ok((*kind != EntryKind::Submodule).then(|| content.clone()))
    }

    fn list(&self, dir: &str) -> Result<Vec<Entry>, TreeError> {
        let prefix = if dir.is_empty() { String::new() } else { format!("{dir}/") };
        let mut names: BTreeMap<&str, EntryKind> = BTreeMap::new();
        for (path, (kind, _)) in &self.0 {
            let Some(rest) = path.strip_prefix(&prefix) else { continue };
            match rest.split_once('/') {
                Some((name, _)) => names.insert(name, EntryKind::Directory),
                None => names.insert(rest, *kind),
            };
        }
        Ok(names.into_iter().map(|(name, kind)| Entry { name: name.to_owned(), kind }).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_lists_files_and_folders_once() {
        let tree = MapTree::new([("a/b/c.yml", "1"), ("a/d", "2"), ("e", "3")]);
        let names = |dir: &str| tree.list(dir).map(|l| l.into_iter().map(|e| e.name).collect::<Vec<_>>());
        assert_eq!(names(""), Ok(vec!["a".to_owned(), "e".to_owned()]));
        assert_eq!(names("a"), Ok(vec!["b".to_owned(), "d".to_owned()]));
        assert_eq!(names("nowhere"), Ok(vec![]));
        assert_eq!(tree.kind("a/b"), Ok(Some(EntryKind::Directory)));
        assert_eq!(tree.kind("a/x"), Ok(None));
    }
}
