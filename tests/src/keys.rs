//! SSH signing keys, made by the real `ssh-keygen`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::program::Run;

/// A key pair in two files.
#[derive(Debug, Clone)]
pub struct Key {
    /// Whose it is: also its comment, and its principal in `allowed_signers`.
    pub owner: String,
    /// The private key's file; the public one is beside it, with `.pub`.
    pub file: PathBuf,
}

impl Key {
    /// Makes an ed25519 key without a passphrase in `folder`.
    #[track_caller]
    pub fn make(folder: &Path, owner: &str) -> Self {
        Self::of_kind(folder, owner, &["-t", "ed25519"])
    }

    /// Makes a key as the arguments of `ssh-keygen` say.
    #[track_caller]
    pub fn of_kind(folder: &Path, owner: &str, kind: &[&str]) -> Self {
        fs::create_dir_all(folder).expect("the world's folder is writable");
        let file = folder.join(owner);
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-N", "", "-C", &format!("{owner}@example.org")]).args(kind).arg("-f").arg(&file);
        Run::of(&mut command).exits(0);
        Self { owner: owner.to_owned(), file }
    }

    /// The public key: type, base64, comment.
    #[track_caller]
    pub fn public(&self) -> String {
        let file = self.file.with_extension("pub");
        fs::read_to_string(&file)
            .unwrap_or_else(|e| panic!("cannot read {}: {e}", file.display()))
            .trim_end()
            .to_owned()
    }

    /// The fingerprint, `SHA256:…`.
    #[track_caller]
    pub fn fingerprint(&self) -> String {
        let line = Run::of(Command::new("ssh-keygen").arg("-lf").arg(&self.file)).ok();
        line.split(' ').nth(1).unwrap_or_default().to_owned()
    }

    /// A line of `allowed_signers`.
    #[track_caller]
    pub fn allowed(&self) -> String {
        let public = self.public();
        let mut words = public.split(' ');
        let (kind, key) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        format!("{}@example.org namespaces=\"git\" {kind} {key}\n", self.owner)
    }
}
