//! Files by digest in the caller's own cache folder, for verbs of the command line: what is lost there costs time only.
//!
//! Whoever may write the folder may decide what is read from it, so it must be ours and nobody else's. Every file is opened
//! below the folder's descriptor: what somebody puts in its place meanwhile is not followed.

use std::{
    ffi::CStr,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::{DirBuilderExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use evenkeel_core::id::Digest;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, Timespec, Timestamps};

/// The first word of each file: another form of files gets another word.
const FORM: &str = "evenkeel-cache-1";
/// How much this process has written: no two of its caches write one file.
static WRITES: AtomicU32 = AtomicU32::new(0);

/// What is written and has no name yet begins so.
const UNFINISHED: &str = ".new-";
/// How long something may be unfinished before whoever wrote it is gone.
const UNFINISHED_FOR: Duration = Duration::from_secs(60 * 60);
/// How far the time of last use may be behind.
const USED_WITHIN: Duration = Duration::from_secs(24 * 60 * 60);

/// How much is kept, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// All files together, in bytes; those that were used last stay.
    pub bytes: u64,
    /// One file, in bytes.
    pub entry: u64,
    /// What nobody used for so long goes.
    pub age: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 256 * 1024 * 1024, entry: 8 * 1024 * 1024, age: Duration::from_secs(30 * 24 * 60 * 60) }
    }
}

/// The folder, open.
#[derive(Debug)]
pub struct Cache {
    folder: OwnedFd,
    limits: Limits,
    written: AtomicU32,
}

/// There is no cache. The text says why.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct NoCache {
    path: PathBuf,
    why: String,
}

/// Where caches are by the XDG Base Directory Specification; `None` if nothing says where.
pub fn place(xdg_cache_home: Option<&Path>, home: Option<&Path>) -> Option<PathBuf> {
    let stated = xdg_cache_home.filter(|path| path.is_absolute()).map(Path::to_owned);
    stated.or_else(|| Some(home.filter(|path| path.is_absolute())?.join(".cache")))
}

/// Whether this folder, or the nearest one above it that is there, belongs to us. `sudo` may leave `HOME` as it is: what root makes
/// there would be in its owner's way.
pub fn is_own(place: &Path) -> bool {
    let existing = place.ancestors().find_map(|folder| fs::metadata(folder).ok());
    existing.is_some_and(|meta| meta.uid() == rustix::process::geteuid().as_raw())
}

impl Cache {
    /// Opens `evenkeel/<name>` below `place`, making what is not there. `place` itself may be anybody's, what is below it must
    /// belong to us, and nobody else may write there.
    pub fn open(place: &Path, name: &str, limits: Limits) -> Result<Self, NoCache> {
        let failed = |path: &Path, why: &dyn std::fmt::Display| NoCache { path: path.to_owned(), why: why.to_string() };
        if !place.exists() {
            // For nobody else's eyes, as the specification has it.
            fs::DirBuilder::new().recursive(true).mode(0o700).create(place).map_err(|e| failed(place, &e))?;
        }
        let mut path = place.to_owned();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut folder = rustix::fs::openat(CWD, place, flags, Mode::empty()).map_err(|e| failed(place, &e))?;
        for part in ["evenkeel", name] {
            path.push(part);
            match rustix::fs::mkdirat(&folder, part, Mode::RWXU) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(e) => return Err(failed(&path, &e)),
            }
            folder = rustix::fs::openat(&folder, part, flags | OFlags::NOFOLLOW, Mode::empty())
                .map_err(|e| failed(&path, &e))?;
            let stat = rustix::fs::fstat(&folder).map_err(|e| failed(&path, &e))?;
            if stat.st_uid != rustix::process::geteuid().as_raw() {
                return Err(failed(&path, &"it belongs to somebody else"));
            }
            if stat.st_mode & 0o022 != 0 {
                return Err(failed(&path, &"others may write there"));
            }
        }
        // What is in it concerns nobody else, whatever the folder was made with.
        rustix::fs::fchmod(&folder, Mode::RWXU).map_err(|e| failed(&path, &e))?;
        Ok(Self { folder, limits, written: AtomicU32::new(0) })
    }

    /// What was kept under this key: `None` too if it is damaged, cut short, or not ours.
    pub fn get(&self, key: &Digest) -> Option<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.folder, key.as_str(), flags, Mode::empty()).ok()?;
        let stat = rustix::fs::fstat(&file).ok()?;
        let is_ours = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && stat.st_uid == rustix::process::geteuid().as_raw();
        if !is_ours || size(&stat) > self.limits.entry {
            return None;
        }
        let file = File::from(file);
        let mut bytes = Vec::new();
        (&file).take(self.limits.entry).read_to_end(&mut bytes).ok()?;
        let content = unsealed(key, bytes)?;
        if age(&stat) > USED_WITHIN {
            let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
            let times = Timestamps { last_access: now, last_modification: now };
            // It only goes a day too early.
            let _ = rustix::fs::futimens(file.as_fd(), &times);
        }
        Some(content)
    }

    /// Keeps this under a key, in place of what was there. What cannot be written is not kept: the next caller works it out anew.
    pub fn put(&self, key: &Digest, content: &[u8]) {
        let sealed = sealed(key, content);
        if sealed.len() as u64 > self.limits.entry {
            return;
        }
        self.written.fetch_add(1, Ordering::Relaxed);
        let number = WRITES.fetch_add(1, Ordering::Relaxed);
        let name = format!("{UNFINISHED}{}-{number}-{}", std::process::id(), key.as_str());
        let write = || -> io::Result<()> {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mode = Mode::RUSR | Mode::WUSR;
            File::from(rustix::fs::openat(&self.folder, &name, flags, mode)?).write_all(&sealed)?;
            Ok(rustix::fs::renameat(&self.folder, &name, &self.folder, key.as_str())?)
        };
        if write().is_err() {
            // If it was not even begun there is nothing to remove.
            let _ = rustix::fs::unlinkat(&self.folder, &name, AtFlags::empty());
        }
    }

    /// Removes what is too old and, the oldest first, what is too much. Files of other names stay.
    fn sweep(&self) -> io::Result<()> {
        let mut kept: Vec<(Duration, u64, String)> = Vec::new();
        for entry in Dir::read_from(&self.folder)? {
            let entry = entry?;
            let Some((name, stat)) = self.standing(entry.file_name()) else { continue };
            let age = age(&stat);
            let longest = if name.starts_with(UNFINISHED) {
                UNFINISHED_FOR
            } else if Digest::new(&name).is_ok() {
                self.limits.age
            } else {
                continue;
            };
            if age > longest {
                rustix::fs::unlinkat(&self.folder, &name, AtFlags::empty())?;
            } else {
                kept.push((age, size(&stat), name));
            }
        }
        kept.sort();
        let mut total = 0;
        for (_, bytes, name) in kept {
            total += bytes;
            if total > self.limits.bytes {
                rustix::fs::unlinkat(&self.folder, &name, AtFlags::empty())?;
            }
        }
        Ok(())
    }

    fn standing(&self, name: &CStr) -> Option<(String, Stat)> {
        let stat = rustix::fs::statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        Some((name.to_str().ok().filter(|_| is_file)?.to_owned(), stat))
    }
}

impl Drop for Cache {
    /// Whoever added something makes room.
    fn drop(&mut self) {
        if self.written.load(Ordering::Relaxed) > 0 {
            // Another process may have removed the same; the next one that adds something goes on.
            let _ = self.sweep();
        }
    }
}

fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// How long ago it was written or used; nothing if a clock says later than now.
fn age(stat: &Stat) -> Duration {
    let written = u64::try_from(stat.st_mtime).unwrap_or(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_secs(written))
}

/// The content with a first line that it must agree with, and the key with it: a file that was renamed is none of ours.
fn sealed(key: &Digest, content: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{FORM} {}\n", checksum(key, content)).into_bytes();
    bytes.extend_from_slice(content);
    bytes
}

fn unsealed(key: &Digest, mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let content = bytes.split_off(end + 1);
    (bytes[..end] == *format!("{FORM} {}", checksum(key, &content)).as_bytes()).then_some(content)
}

fn checksum(key: &Digest, content: &[u8]) -> Digest {
    Digest::of(&[key.as_str().as_bytes(), content].concat())
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
