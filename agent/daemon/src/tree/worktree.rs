//! A folder on disk, seen as a repository's tree.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read as _},
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::{Path, PathBuf},
};

use evenkeel_layout::tree::{Entry, EntryKind, MAX_FILE_BYTES, Tree, TreeError};

/// Most names that are read of one folder.
const MAX_NAMES: usize = 50_000;

/// A folder and what is in it, tracked or not. `.git` is left out, symlinks are reported and never followed, devices and
/// sockets are not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirTree {
    root: PathBuf,
}

impl DirTree {
    /// The tree of this folder.
    pub fn open(root: &Path) -> Result<Self, TreeError> {
        let failed = |why: String| TreeError { path: root.display().to_string(), why };
        let root = root.canonicalize().map_err(|e| failed(e.to_string()))?;
        if root.is_dir() { Ok(Self { root }) } else { Err(failed("it is not a folder".to_owned())) }
    }

    /// The folder, absolute and without symlinks.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The path on disk, unless a part before the last is no folder: a symlink leads elsewhere than the tree has it.
    fn place(&self, path: &str) -> Result<Option<PathBuf>, TreeError> {
        let mut place = self.root.clone();
        let mut parts = path.split('/').filter(|part| !part.is_empty()).peekable();
        while let Some(part) = parts.next() {
            if matches!(part, "." | "..") || part == ".git" {
                return Ok(None);
            }
            place.push(part);
            if parts.peek().is_some()
                && !matches!(kind_of(&place).map_err(|e| error(path, &e))?, Some(Found::Directory))
            {
                return Ok(None);
            }
        }
        Ok(Some(place))
    }
}

impl Tree for DirTree {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, TreeError> {
        let Some(place) = self.place(path)? else { return Ok(None) };
        let failed = |e: &std::io::Error| error(path, e);
        match kind_of(&place).map_err(|e| failed(&e))? {
            Some(Found::File { .. }) => {}
            Some(Found::Symlink) => {
                let target = fs::read_link(&place).map_err(|e| failed(&e))?;
                return Ok(Some(target.as_os_str().as_bytes().to_vec()));
            }
            Some(Found::Directory | Found::Submodule) | None => return Ok(None),
        }
        let mut bytes = Vec::new();
        let file = File::open(&place).map_err(|e| failed(&e))?;
        file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(|e| failed(&e))?;
        if bytes.len() > MAX_FILE_BYTES {
            let why = format!("it is larger than {} MiB", MAX_FILE_BYTES / 1024 / 1024);
            return Err(TreeError { path: path.to_owned(), why });
        }
        Ok(Some(bytes))
    }

    fn list(&self, dir: &str) -> Result<Vec<Entry>, TreeError> {
        let Some(place) = self.place(dir)? else { return Ok(Vec::new()) };
        let failed = |e: &std::io::Error| error(dir, e);
        if !matches!(kind_of(&place).map_err(|e| failed(&e))?, Some(Found::Directory)) && !dir.is_empty() {
            return Ok(Vec::new());
        }
        let names = match fs::read_dir(&place) {
            Ok(names) => names,
            // A container's own data, as a rule: nothing that is tracked.
            Err(e) if matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::NotFound) => return Ok(Vec::new()),
            Err(e) => return Err(failed(&e)),
        };
        let mut entries = Vec::new();
        for name in names {
            let name = name.map_err(|e| failed(&e))?;
            if entries.len() >= MAX_NAMES {
                return Err(TreeError { path: dir.to_owned(), why: format!("it has more than {MAX_NAMES} names") });
            }
            // A name that is no text cannot be in a Compose file.
            let Ok(text) = name.file_name().into_string() else { continue };
            let found = kind_of(&name.path()).map_err(|e| failed(&e))?;
            if let (Some(found), false) = (found, text == ".git") {
                entries.push(Entry { name: text, kind: found.kind() });
            }
        }
        entries.sort();
        Ok(entries)
    }

    fn kind(&self, path: &str) -> Result<Option<EntryKind>, TreeError> {
        if path.is_empty() {
            return Ok(None);
        }
        let Some(place) = self.place(path)? else { return Ok(None) };
        Ok(kind_of(&place).map_err(|e| error(path, &e))?.map(|found| found.kind()))
    }
}

enum Found {
    File { executable: bool },
    Directory,
    Symlink,
    Submodule,
}

impl Found {
    fn kind(&self) -> EntryKind {
        match self {
            Self::File { executable } => EntryKind::File { executable: *executable },
            Self::Directory => EntryKind::Directory,
            Self::Symlink => EntryKind::Symlink,
            Self::Submodule => EntryKind::Submodule,
        }
    }
}

fn kind_of(place: &Path) -> Result<Option<Found>, std::io::Error> {
    let meta = match place.symlink_metadata() {
        Ok(meta) => meta,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::PermissionDenied) => {
            return Ok(None);
        }
        Err(e) => return Err(e),
    };
    let kind = meta.file_type();
    Ok(if kind.is_symlink() {
        Some(Found::Symlink)
    } else if kind.is_dir() {
        // Another repository within this one: Git tracks its commit and none of its files.
        Some(if place.join(".git").exists() { Found::Submodule } else { Found::Directory })
    } else if kind.is_file() {
        Some(Found::File { executable: meta.permissions().mode() & 0o111 != 0 })
    } else {
        None
    })
}

fn error(path: &str, e: &std::io::Error) -> TreeError {
    TreeError { path: path.to_owned(), why: e.to_string() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> (tempfile::TempDir, DirTree) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir_all(root.join(".git")).unwrap();
        fs::create_dir_all(root.join("sub/.git")).unwrap();
        fs::write(root.join(".git/config"), "secret").unwrap();
        fs::write(root.join("a/b/c.yml"), "x").unwrap();
        fs::write(root.join("a/run.sh"), "y").unwrap();
        fs::set_permissions(root.join("a/run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("b/c.yml", root.join("a/link")).unwrap();
        symlink("a", root.join("dir")).unwrap();
        let tree = DirTree::open(root).unwrap();
        (folder, tree)
    }

    #[test]
    fn shows_files_folders_links_and_submodules_but_no_git() {
        let (_folder, tree) = tree();
        let list = |dir: &str| tree.list(dir).unwrap().into_iter().map(|e| (e.name, e.kind)).collect::<Vec<_>>();
        assert_eq!(
            list(""),
            [
                ("a".to_owned(), EntryKind::Directory),
                ("dir".to_owned(), EntryKind::Symlink),
                ("sub".to_owned(), EntryKind::Submodule)
            ]
        );
        assert_eq!(list("a").len(), 3);
        assert_eq!(tree.kind("a/run.sh"), Ok(Some(EntryKind::File { executable: true })));
        assert_eq!(tree.read(".git/config"), Ok(None));
    }

    #[test]
    fn never_follows_a_symlink() {
        let (_folder, tree) = tree();
        assert_eq!(tree.read("a/link"), Ok(Some(b"b/c.yml".to_vec())));
        assert_eq!(tree.read("dir/b/c.yml"), Ok(None));
        assert_eq!(tree.list("dir"), Ok(vec![]));
        assert_eq!(tree.read("a/b/c.yml"), Ok(Some(b"x".to_vec())));
        assert_eq!(tree.read("../x"), Ok(None));
    }
}
