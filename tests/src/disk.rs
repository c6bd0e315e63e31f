//! A small disk of one's own, to fill or to write-protect: a file system in memory, mounted over a folder.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::program::Run;

/// Bytes of a mebibyte.
const MIB: u64 = 1024 * 1024;

/// The disk. Dropping it unmounts it.
#[derive(Debug)]
pub struct Disk {
    at: PathBuf,
}

impl Disk {
    /// Mounts an empty disk of so many mebibytes over `at`, which is made. Only root may; see [`crate::skip::is_root`].
    #[track_caller]
    pub fn mount(at: &Path, mib: u64) -> Self {
        fs::create_dir_all(at).expect("the world's folder is writable");
        let size = format!("size={mib}m,mode=0755");
        Run::of(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "evk"]).arg(at)).exits(0);
        Self { at: at.to_path_buf() }
    }

    /// Takes all the room but for `left` mebibytes.
    #[track_caller]
    pub fn fill(&self, left: u64) {
        let stat = rustix::fs::statvfs(&self.at).expect("it is mounted");
        let free = (stat.f_bavail * stat.f_frsize).saturating_sub(left * MIB);
        let mut file = File::create(self.ballast()).expect("the disk is writable");
        let block = vec![0; 64 * 1024];
        let mut written = 0;
        while written < free || left == 0 {
            match file.write(&block) {
                Ok(count) => written += count as u64,
                Err(e) if e.kind() == std::io::ErrorKind::StorageFull => return,
                Err(e) => panic!("cannot fill {}: {e}", self.at.display()),
            }
        }
    }

    /// Gives the room back.
    #[track_caller]
    pub fn empty(&self) {
        fs::remove_file(self.ballast()).expect("the disk was filled");
    }

    /// Mounts it anew with these options, such as `ro` or `size=1g`.
    #[track_caller]
    pub fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        Run::of(Command::new("mount").args(["-o", &options]).arg(&self.at)).exits(0);
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: what still has a file open there is about to be ended.
        let done = Command::new("umount").arg("--lazy").arg(&self.at).output();
        if !done.is_ok_and(|out| out.status.success()) {
            eprintln!("cannot unmount {}", self.at.display());
        }
    }
}
