//! Which live files are not as a release has them. A file that has not changed since it was read is not read again.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use evenkeel_core::release::{FileRecord, Files};
use rustix::fs::{AtFlags, Stat};

use super::live::{LiveError, LiveTree, Standing};

/// A file that changed so lately, in seconds, may change again without a trace in its times.
const RACY_S: i64 = 2;

/// What the system says of a file: as long as it says the same, the content is the same.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    device: u64,
    size: i64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The files that were read, and what was in them.
#[derive(Debug, Default)]
pub struct Stamps(BTreeMap<String, (Stamp, FileRecord)>);

impl LiveTree {
    /// The files that are not as `files` has them, each with what is wrong with it, for people.
    pub fn differing(&self, files: &Files, stamps: &mut Stamps) -> Result<Vec<(String, &'static str)>, LiveError> {
        let mut differing = Vec::new();
        for (path, wanted) in files {
            let wrong = match self.standing_as_known(path, stamps)? {
                Standing::Nothing => "was removed by hand",
                Standing::Other => "is not a file any more",
                Standing::File(found) if found.digest != wanted.digest => "was changed by hand",
                Standing::File(found) if found.executable != wanted.executable => {
                    "has another mode than its commit says"
                }
                Standing::File(_) => continue,
            };
            differing.push((path.clone(), wrong));
        }
        Ok(differing)
    }

    fn standing_as_known(&self, path: &str, stamps: &mut Stamps) -> Result<Standing, LiveError> {
        let stamp = self.stamp(path)?;
        if let Some(stamp) = &stamp
            && let Some((known, record)) = stamps.0.get(path)
            && known == stamp
        {
            return Ok(Standing::File(record.clone()));
        }
        let standing = self.standing(path)?;
        match (&standing, stamp) {
            (Standing::File(record), Some(stamp)) if !stamp.is_racy() => {
                stamps.0.insert(path.to_owned(), (stamp, record.clone()));
            }
            _ => _ = stamps.0.remove(path),
        }
        Ok(standing)
    }

    fn stamp(&self, path: &str) -> Result<Option<Stamp>, LiveError> {
        let Some((Some(parent), name)) = self.parent(path, false)? else { return Ok(None) };
        Ok(rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).ok().map(|stat| Stamp::of(&stat)))
    }
}

impl Stamp {
    fn of(stat: &Stat) -> Self {
        Self {
            inode: stat.st_ino,
            device: stat.st_dev,
            size: stat.st_size,
            modified: (stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0)),
            changed: (stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or(0)),
        }
    }

    fn is_racy(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs().cast_signed());
        self.changed.0.max(self.modified.0) > now - RACY_S
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::PermissionsExt as _,
        time::{Duration, SystemTime},
    };

    use evenkeel_core::id::Digest;

    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        let record =
            |text: &str| FileRecord { digest: Digest::of(text.as_bytes()), size: text.len() as u64, executable: false };
        list.iter().map(|(path, text)| ((*path).to_owned(), record(text))).collect()
    }

    #[test]
    fn says_of_each_file_how_it_differs() {
        let folder = tempfile::tempdir().unwrap();
        let live = LiveTree::new(folder.path());
        for name in ["same", "changed", "mode"] {
            fs::write(folder.path().join(name), "a").unwrap();
        }
        fs::write(folder.path().join("changed"), "b").unwrap();
        fs::set_permissions(folder.path().join("mode"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(folder.path().join("folder")).unwrap();
        let wanted = files(&[("same", "a"), ("changed", "a"), ("mode", "a"), ("gone/x", "a"), ("folder", "a")]);
        let found = live.differing(&wanted, &mut Stamps::default()).unwrap();
        let of = |path: &str| found.iter().find(|(found, _)| found == path).map(|(_, wrong)| *wrong);
        assert_eq!(of("same"), None);
        assert_eq!(of("changed"), Some("was changed by hand"));
        assert_eq!(of("mode"), Some("has another mode than its commit says"));
        assert_eq!(of("gone/x"), Some("was removed by hand"));
        assert_eq!(of("folder"), Some("is not a file any more"));
    }

    #[test]
    fn a_change_is_seen_though_the_file_was_read_before() {
        let folder = tempfile::tempdir().unwrap();
        let (live, path) = (LiveTree::new(folder.path()), folder.path().join("x"));
        let old = SystemTime::now() - Duration::from_secs(3600);
        let mut stamps = Stamps::default();
        let wanted = files(&[("x", "a")]);
        for text in ["a", "b", "a"] {
            fs::write(&path, text).unwrap();
            // Somebody who puts the time back is seen too: the system keeps the time of that.
            fs::File::open(&path).unwrap().set_modified(old).unwrap();
            assert_eq!(live.differing(&wanted, &mut stamps).unwrap().is_empty(), text == "a");
        }
    }
}
