//! A bare repository and a person's clone of it, both made and changed by the real `git`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{keys::Key, program::Run};

/// The branch that the agent follows.
pub const BRANCH: &str = "main";

/// The operator's repository.
#[derive(Debug)]
pub struct Repository {
    /// The bare repository, which the agent fetches from.
    pub bare: PathBuf,
    /// The clone that a person works in.
    pub work: PathBuf,
    home: PathBuf,
    /// The key that signs unless a change says otherwise.
    pub key: Key,
}

impl Repository {
    /// Makes an empty bare repository and a clone of it under `folder`. Nothing of this machine's own Git configuration
    /// takes part.
    #[track_caller]
    pub fn make(folder: &Path, key: Key) -> Self {
        let repository =
            Self { bare: folder.join("infra.git"), work: folder.join("infra"), home: folder.join("home"), key };
        fs::create_dir_all(&repository.home).expect("the world's folder is writable");
        let branch = format!("--initial-branch={BRANCH}");
        let bare = repository.bare.to_string_lossy().into_owned();
        repository.run(folder, &["init", "-q", "--bare", &branch, &bare]);
        repository.run(folder, &["clone", "-q", &bare, &repository.work.to_string_lossy()]);
        for (key, value) in [
            ("user.name", "Alice Example"),
            ("user.email", "alice@example.org"),
            ("gpg.format", "ssh"),
            ("commit.gpgsign", "false"),
            ("core.autocrlf", "false"),
        ] {
            repository.git(&["config", key, value]);
        }
        let signing = repository.key.file.to_string_lossy().into_owned();
        repository.git(&["config", "user.signingkey", &signing]);
        repository
    }

    /// Runs Git in the clone and returns what it said.
    #[track_caller]
    pub fn git(&self, args: &[&str]) -> String {
        self.run(&self.work, args)
    }

    #[track_caller]
    fn run(&self, folder: &Path, args: &[&str]) -> String {
        let mut command = Command::new("git");
        command
            .args(args)
            .current_dir(folder)
            .env("HOME", &self.home)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0");
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "SSH_AUTH_SOCK"] {
            command.env_remove(name);
        }
        Run::of(&mut command).ok()
    }

    /// The bare repository as a `file://` URL.
    pub fn url(&self) -> String {
        format!("file://{}", self.bare.display())
    }

    /// The commit that the clone stands on.
    #[track_caller]
    pub fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"])
    }

    /// Begins a change; it ends with [`Change::push`] or [`Change::commit`].
    pub fn change(&self, subject: &str) -> Change<'_> {
        Change { repository: self, subject: subject.to_owned(), signer: Signer::Own }
    }

    /// Puts the bare repository's branch where the clone stands, whatever it held.
    #[track_caller]
    pub fn force_push(&self) {
        self.git(&["push", "-q", "--force", "origin", &format!("HEAD:refs/heads/{BRANCH}")]);
    }
}

#[derive(Debug)]
enum Signer {
    Own,
    Nobody,
    Other(PathBuf),
}

/// A change in the making: files are written at once, the commit is made at the end.
#[derive(Debug)]
#[must_use = "a change is only made by `push` or `commit`"]
pub struct Change<'a> {
    repository: &'a Repository,
    subject: String,
    signer: Signer,
}

impl Change<'_> {
    /// Writes a file of the repository.
    #[track_caller]
    pub fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        let file = self.repository.work.join(path);
        let folder = file.parent().expect("a path inside the clone has a parent");
        fs::create_dir_all(folder).and_then(|()| fs::write(&file, content)).unwrap_or_else(|e| panic!("{path}: {e}"));
        self
    }

    /// Replaces `from` by `to` in a file; it must be there.
    #[track_caller]
    pub fn replace(self, path: &str, from: &str, to: &str) -> Self {
        let old = fs::read_to_string(self.repository.work.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert!(old.contains(from), "{path} does not contain {from:?}");
        self.file(path, old.replace(from, to))
    }

    /// Removes a file or a folder.
    #[track_caller]
    pub fn remove(self, path: &str) -> Self {
        self.repository.git(&["rm", "-r", "-q", path]);
        self
    }

    /// Signs with another key.
    pub fn signed_by(mut self, key: &Key) -> Self {
        self.signer = Signer::Other(key.file.clone());
        self
    }

    /// Does not sign.
    pub fn unsigned(mut self) -> Self {
        self.signer = Signer::Nobody;
        self
    }

    /// Commits and returns the commit's id.
    #[track_caller]
    pub fn commit(self) -> String {
        let repository = self.repository;
        repository.git(&["add", "--all"]);
        let key = match &self.signer {
            Signer::Own => Some(repository.key.file.clone()),
            Signer::Nobody => None,
            Signer::Other(file) => Some(file.clone()),
        };
        let setting = key.as_ref().map(|file| format!("user.signingkey={}", file.display()));
        let mut args = Vec::new();
        if let Some(setting) = &setting {
            args.extend(["-c", setting.as_str()]);
        }
        args.extend(["commit", "-q", "--allow-empty", "-m", self.subject.as_str()]);
        args.push(if key.is_some() { "-S" } else { "--no-gpg-sign" });
        repository.git(&args);
        repository.head()
    }

    /// Commits, pushes and returns the commit's id.
    #[track_caller]
    pub fn push(self) -> String {
        let repository = self.repository;
        let id = self.commit();
        repository.git(&["push", "-q", "origin", &format!("HEAD:refs/heads/{BRANCH}")]);
        id
    }
}
