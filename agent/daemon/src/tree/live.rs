//! The live tree: the repository's own paths on the server, where containers mount them.
//!
//! A file that is not ours is never overwritten or deleted, a directory is never removed, and no path is followed
//! through a symbolic link. A file that a container mounts by itself is rewritten in place, so that its inode stays;
//! every other is written beside and renamed.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read, Write},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
};

use evenkeel_core::{
    id::{Digest, ReleaseId},
    journal::ApplyPermit,
    reason::{Code, Reason},
    release::{FileRecord, Files},
};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};

/// Most threads that write files besides the one that is asked to.
const MAX_WRITERS: usize = 15;
/// So many files are worth a thread.
const FILES_PER_WRITER: usize = 16;

/// Name of the file that is written beside the one it will replace.
const TEMPORARY: &str = ".evenkeel-new";

/// The live tree could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// Files are in the way that the agent did not write.
    #[error(
        "{} in the way of tracked files and not ours: {}; move them away or make them identical, then push or sync again",
        if .0.len() == 1 { "a file is" } else { "files are" },
        .0.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    Conflict(Vec<PathBuf>),
    /// A content that a release needs is missing from the store.
    #[error("the store has no content for {0}; `evenkeel history` tells which release that was")]
    NoContent(PathBuf),
    /// The store could not be asked for a content.
    #[error("{0}")]
    Store(String),
    /// The system refused.
    #[error("cannot write {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl LiveError {
    /// The reason that is reported.
    pub fn reason(&self) -> Reason {
        let code = match self {
            Self::Conflict(_) => Code::FileConflict,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => Code::DiskFull,
            Self::Io { .. } => Code::FileWrite,
            Self::NoContent(_) | Self::Store(_) => Code::StoreFailed,
        };
        let help = if code == Code::DiskFull { "; make room on its disk, the agent tries again by itself" } else { "" };
        Reason::new(code, format!("{self}{help}"))
    }
}

/// What stands at a path of the live tree.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Nothing,
    File(FileRecord),
    /// A folder, a link, a device, or something below one of them.
    Other,
}

/// What the releases of other stacks have at a path: which release, and the content.
pub type Shared = BTreeMap<String, Vec<(ReleaseId, Digest)>>;

/// A change of a slice: the files that shall be there, and those that were.
#[derive(Clone, Copy)]
pub struct SliceChange<'a> {
    /// The slice that shall be there.
    pub to: &'a Files,
    /// The slice of the other release in this deployment: what the agent may have written itself.
    pub other: &'a Files,
    /// The release that the slice belongs to; of a candidate that is not stored yet, 0.
    pub release: ReleaseId,
    /// Paths that other stacks have too: they stay when they leave this slice, and the newest release writes them.
    pub shared: &'a Shared,
    /// Paths that a container mounts by themselves.
    pub in_place: &'a BTreeSet<String>,
}

impl SliceChange<'_> {
    /// Whether another stack's release has this content at this path.
    fn is_anothers(&self, path: &str, found: &Digest) -> bool {
        self.shared.get(path).is_some_and(|owners| owners.iter().any(|(_, digest)| digest == found))
    }

    /// The same, of a release that is newer than the one that is written.
    fn is_newer_ones(&self, path: &str, found: &Digest) -> bool {
        let newer = |(release, digest): &(ReleaseId, Digest)| release.0 > self.release.0 && digest == found;
        self.shared.get(path).is_some_and(|owners| owners.iter().any(newer))
    }
}

/// The live tree.
#[derive(Debug, Clone)]
pub struct LiveTree {
    root: PathBuf,
}

impl LiveTree {
    /// The live tree at `root`, which is made when it is first written.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Checks that `change` would overwrite nothing that is not ours; names everything in the way at once.
    pub fn check(&self, change: &SliceChange<'_>) -> Result<(), LiveError> {
        let mut conflicts = Vec::new();
        for (path, wanted) in change.to {
            let standing = self.standing(path)?;
            let fine = match &standing {
                Standing::Nothing => true,
                Standing::File(found) => {
                    found.digest == wanted.digest
                        || change.other.get(path).is_some_and(|former| {
                            // What a person changed stays if this deployment does not change it.
                            former.digest == found.digest || former.digest == wanted.digest
                        })
                        || change.is_anothers(path, &found.digest)
                }
                Standing::Other => false,
            };
            if !fine {
                conflicts.push(self.root.join(path));
            }
        }
        if conflicts.is_empty() { Ok(()) } else { Err(LiveError::Conflict(conflicts)) }
    }

    /// Writes the slice. Gives the paths that a person changed and this deployment does not: they were left alone.
    pub fn write(
        &self,
        _permit: &ApplyPermit,
        change: &SliceChange<'_>,
        content: impl Fn(&Digest) -> Result<Option<Vec<u8>>, LiveError> + Sync,
    ) -> Result<Vec<String>, LiveError> {
        fs::create_dir_all(&self.root).map_err(|source| LiveError::Io { path: self.root.clone(), source })?;
        let mut left_alone = Vec::new();
        let mut stale = Vec::new();
        for (path, wanted) in change.to {
            match self.standing(path)? {
                Standing::File(found) if found == *wanted => {}
                Standing::File(found) if found.digest != wanted.digest && change.is_newer_ones(path, &found.digest) => {
                }
                Standing::File(found)
                    if found.digest != wanted.digest
                        && change.other.get(path).is_some_and(|former| former.digest == wanted.digest) =>
                {
                    left_alone.push(path.clone());
                }
                Standing::Other => return Err(LiveError::Conflict(vec![self.root.join(path)])),
                Standing::Nothing | Standing::File(_) => stale.push((path, wanted)),
            }
        }
        self.write_all(&stale, change.in_place, content)?;
        let mut written: Vec<&str> = stale.into_iter().map(|(path, _)| path.as_str()).collect();
        for (path, former) in change.other {
            if !change.to.contains_key(path) && !change.shared.contains_key(path) {
                self.remove_own(path, former)?;
                written.push(path);
            }
        }
        self.keep_names(&written)?;
        Ok(left_alone)
    }

    /// Writes files, many of them side by side: each waits for the disk, which takes them together as fast as one.
    fn write_all(
        &self,
        files: &[(&String, &FileRecord)],
        in_place: &BTreeSet<String>,
        content: impl Fn(&Digest) -> Result<Option<Vec<u8>>, LiveError> + Sync,
    ) -> Result<(), LiveError> {
        let queue = Mutex::new(files.iter());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || {
            while let Some((path, wanted)) = next() {
                let bytes = content(&wanted.digest)?.ok_or_else(|| LiveError::NoContent(self.root.join(path)))?;
                self.write_one(path, &bytes, wanted.executable, in_place.contains(*path))?;
            }
            Ok(())
        };
        thread::scope(|scope| {
            let helpers = (files.len() / FILES_PER_WRITER).min(MAX_WRITERS);
            let helpers: Vec<_> = (0..helpers).map(|_| scope.spawn(work)).collect();
            let panicked = |_| Err(LiveError::Store("a writer of files panicked; please report this".to_owned()));
            let ends = helpers.into_iter().map(|helper| helper.join().unwrap_or_else(panicked));
            let own = work();
            ends.fold(own, Result::and)
        })
    }

    /// Makes the names of files durable, and those of their folders: each folder once, for a commit may bring thousands
    /// of files. What is in the files is durable already.
    fn keep_names(&self, written: &[&str]) -> Result<(), LiveError> {
        let above = |path| std::iter::successors(Path::new(path).parent(), |folder: &&Path| folder.parent());
        let folders: BTreeSet<&Path> = written.iter().flat_map(above).collect();
        for folder in folders {
            let path = folder.join("x");
            let Some(path) = path.to_str() else { continue };
            if let Some((Some(folder), _)) = self.parent(path, false)? {
                rustix::fs::fsync(&folder).map_err(|e| self.io(path, e))?;
            }
        }
        Ok(())
    }

    fn io(&self, path: &str, source: impl Into<io::Error>) -> LiveError {
        LiveError::Io { path: self.root.join(path), source: source.into() }
    }

    pub(super) fn standing(&self, path: &str) -> Result<Standing, LiveError> {
        let Some((parent, name)) = self.parent(path, false)? else { return Ok(Standing::Nothing) };
        let Some(parent) = parent else { return Ok(Standing::Other) };
        let stat = match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(rustix::io::Errno::NOENT) => return Ok(Standing::Nothing),
            Err(e) => return Err(self.io(path, e)),
        };
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile {
            return Ok(Standing::Other);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&parent, name, flags, Mode::empty()).map_err(|e| self.io(path, e))?;
        let mut bytes = Vec::new();
        File::from(fd).read_to_end(&mut bytes).map_err(|e| self.io(path, e))?;
        Ok(Standing::File(FileRecord {
            digest: Digest::of(&bytes),
            size: bytes.len() as u64,
            executable: stat.st_mode & 0o100 != 0,
        }))
    }

    /// Opens the folder of `path` without following links: `None` if it is not there, `Some((None, _))` if something
    /// else is in its place.
    pub(super) fn parent<'p>(
        &self,
        path: &'p str,
        make: bool,
    ) -> Result<Option<(Option<OwnedFd>, &'p OsStr)>, LiveError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut fd = match rustix::fs::openat(CWD, &self.root, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(e) => return Err(self.io("", e)),
        };
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        for folder in folders.split('/').filter(|f| !f.is_empty()) {
            if folder == ".." || folder == "." {
                return Ok(Some((None, OsStr::new(name))));
            }
            if make {
                match rustix::fs::mkdirat(&fd, folder, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                    Err(e) => return Err(self.io(path, e)),
                }
            }
            fd = match rustix::fs::openat(&fd, folder, flags | OFlags::NOFOLLOW, Mode::empty()) {
                Ok(next) => next,
                Err(rustix::io::Errno::NOENT) => return Ok(None),
                Err(rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR) => {
                    return Ok(Some((None, OsStr::new(name))));
                }
                Err(e) => return Err(self.io(path, e)),
            };
        }
        Ok(Some((Some(fd), OsStr::new(name))))
    }

    /// Writes a file of a release into a tree that nobody uses yet: data of a snapshot, before it takes its place.
    pub fn fill(&self, path: &str, bytes: &[u8], executable: bool) -> Result<(), LiveError> {
        self.write_one(path, bytes, executable, false)
    }

    fn write_one(&self, path: &str, bytes: &[u8], executable: bool, in_place: bool) -> Result<(), LiveError> {
        let Some((Some(parent), name)) = self.parent(path, true)? else {
            return Err(LiveError::Conflict(vec![self.root.join(path)]));
        };
        let mode = Mode::from_raw_mode(if executable { 0o755 } else { 0o644 });
        let write = |name: &OsStr| -> io::Result<()> {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file = File::from(rustix::fs::openat(&parent, name, flags, mode)?);
            reserve(&file, bytes.len() as u64)?;
            rustix::fs::fchmod(file.as_fd(), mode)?;
            file.write_all(bytes)?;
            file.set_len(bytes.len() as u64)?;
            file.sync_all()
        };
        if in_place {
            return write(name).map_err(|e| self.io(path, e));
        }
        let mut beside = name.to_owned();
        beside.push(TEMPORARY);
        let replace = || -> io::Result<()> {
            write(&beside)?;
            Ok(rustix::fs::renameat(&parent, &beside, &parent, name)?)
        };
        replace().map_err(|e| {
            // What was begun beside it is ours: it goes, and the error is the one that counts.
            let _ = rustix::fs::unlinkat(&parent, &beside, AtFlags::empty());
            self.io(path, e)
        })
    }

    /// Removes a file that left the slice, if it still is what the agent wrote. Its folder stays: it may be mounted.
    fn remove_own(&self, path: &str, former: &FileRecord) -> Result<(), LiveError> {
        match self.standing(path)? {
            Standing::File(found) if found.digest == former.digest => {}
            Standing::File(_) | Standing::Nothing | Standing::Other => return Ok(()),
        }
        if let Some((Some(parent), name)) = self.parent(path, false)? {
            rustix::fs::unlinkat(&parent, name, AtFlags::empty()).map_err(|e| self.io(path, e))?;
        }
        Ok(())
    }
}

/// Takes the room that `bytes` need before anything of the file is overwritten: a disk that is full leaves it as it was.
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    use rustix::{fs::FallocateFlags, io::Errno};
    if bytes == 0 {
        return Ok(());
    }
    match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, bytes) {
        // Not every file system can; the write then tells.
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
