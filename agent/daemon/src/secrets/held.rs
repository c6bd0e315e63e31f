//! Plain text that a child process can read by a path and that no file system ever has.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::{fd::AsRawFd as _, unix::fs::symlink},
    path::{Path, PathBuf},
};

use rustix::fs::{MemfdFlags, Mode, SealFlags, fchmod, fcntl_add_seals, memfd_create};

/// A file in memory that goes with this value, or with this process however it ends.
pub struct Held {
    file: File,
}

impl Held {
    /// Keeps these bytes, which nobody can change any more.
    pub fn new(bytes: &[u8]) -> io::Result<Self> {
        let fd = memfd_create("evenkeel", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        fchmod(&fd, Mode::RUSR | Mode::WUSR)?;
        let mut file = File::from(fd);
        file.write_all(bytes)?;
        fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        Ok(Self { file })
    }

    /// Where a child of this process that runs as the same user reads it.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }
}

/// Files of a staged tree that lead to plain text for a while. What stood there comes back when this value goes.
pub struct Lent {
    swapped: Vec<(PathBuf, PathBuf)>,
    held: Vec<Held>,
}

impl Lent {
    /// Puts a link to the plain text in the place of each of these files of `root`.
    pub fn to(root: &Path, files: impl IntoIterator<Item = (String, Held)>) -> io::Result<Self> {
        let mut lent = Self { swapped: Vec::new(), held: Vec::new() };
        for (path, held) in files {
            let at = root.join(path);
            let mut aside = at.clone().into_os_string();
            aside.push(".evenkeel-encrypted");
            let aside = PathBuf::from(aside);
            fs::rename(&at, &aside)?;
            lent.swapped.push((at.clone(), aside));
            symlink(held.path(), &at)?;
            lent.held.push(held);
        }
        Ok(lent)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        for (at, aside) in self.swapped.drain(..).rev() {
            // The links lead nowhere once the memory is gone, and the staged tree is made anew for every commit.
            if let Err(error) = fs::rename(&aside, &at) {
                tracing::warn!(path = %at.display(), %error, "cannot put an encrypted file back into the staging place");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_child_reads_what_isheld_and_no_file_has_it() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("web")).unwrap();
        fs::write(root.path().join("web/x.env.age"), "ciphertext").unwrap();
        let held = Held::new(b"A=1\n").unwrap();
        let memory = held.path();
        let lent = Lent::to(root.path(), [("web/x.env.age".to_owned(), held)]).unwrap();
        // Twice: each reader begins at the beginning.
        for _ in 0..2 {
            let read = std::process::Command::new("cat").arg(root.path().join("web/x.env.age")).output().unwrap();
            assert_eq!(read.stdout, b"A=1\n");
        }
        assert_eq!(fs::metadata(&memory).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(fs::write(&memory, "B=2\n").is_err(), "what is held can be changed");
        drop(lent);
        assert_eq!(fs::read(root.path().join("web/x.env.age")).unwrap(), b"ciphertext");
        assert_eq!(fs::read_dir(root.path().join("web")).unwrap().count(), 1);
        assert!(!memory.exists());
    }

    #[test]
    fn what_was_swapped_before_a_failure_comes_back() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a"), "ciphertext").unwrap();
        let files = ["a", "b"].map(|name| (name.to_owned(), Held::new(b"x").unwrap()));
        assert!(Lent::to(root.path(), files).is_err());
        assert_eq!(fs::read(root.path().join("a")).unwrap(), b"ciphertext");
    }
}
