//! A folder with keys and repositories, made by the real `git` and `ssh-keygen`.

use std::{
    ffi::OsStr,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use evenkeel_core::id::CommitId;
use tempfile::TempDir;

pub struct World {
    dir: TempDir,
}

impl World {
    /// An empty world with the repository `repo`.
    pub fn new() -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap() };
        world.git(["init", "-q", "-b", "main", "repo"]);
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn repo(&self) -> PathBuf {
        self.path("repo")
    }

    /// A program with nothing of this machine's configuration, at a fixed zone.
    fn command(&self, program: &str, cwd: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(cwd)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("TZ", "UTC")
            .env("LC_ALL", "C")
            .args(match program {
                "git" => &["-c", "user.name=Test", "-c", "user.email=t@example.org", "-c", "gpg.format=ssh"][..],
                _ => &[],
            })
            .stdin(Stdio::null());
        command
    }

    fn run(&self, program: &str, args: impl IntoIterator<Item = impl AsRef<OsStr>>, input: &[u8]) -> Output {
        let cwd = if self.repo().exists() { self.repo() } else { self.dir.path().to_owned() };
        let mut child = self
            .command(program, &cwd)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Runs `git` in `repo` and returns what it prints.
    pub fn git(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> String {
        let out = self.run("git", args, b"");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    /// Runs a program in the repository, whatever comes of it.
    pub fn any(&self, program: &str, args: &[&str], input: &[u8]) -> Output {
        self.run(program, args, input)
    }

    pub fn ssh_keygen(&self, args: &[&str], input: &[u8]) -> Vec<u8> {
        let out = self.run("ssh-keygen", args, input);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    }

    /// Makes a key pair and returns its public line.
    pub fn key(&self, name: &str, kind: &[&str]) -> String {
        let file = self.path(name);
        let mut args = vec!["-q", "-N", "", "-C", name, "-f", file.to_str().unwrap(), "-t"];
        args.extend(kind);
        self.ssh_keygen(&args, b"");
        self.public(name)
    }

    pub fn public(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap().trim().to_owned()
    }

    pub fn fingerprint(&self, name: &str) -> String {
        let out = self.ssh_keygen(&["-lf", self.path(&format!("{name}.pub")).to_str().unwrap()], b"");
        String::from_utf8(out).unwrap().split(' ').nth(1).unwrap().to_owned()
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    /// Commits what `repo` holds, signed by a key.
    pub fn commit(&self, message: &str, key: &str) -> CommitId {
        let key = format!("user.signingkey={}", self.path(&format!("{key}.pub")).display());
        self.git(["-c", &key, "commit", "-q", "--allow-empty", "-S", "-m", message]);
        self.head()
    }

    pub fn commit_unsigned(&self, message: &str) -> CommitId {
        self.git(["commit", "-q", "--allow-empty", "-m", message]);
        self.head()
    }

    pub fn head(&self) -> CommitId {
        CommitId::new(&self.git(["rev-parse", "HEAD"])).unwrap()
    }

    /// A commit object's bytes.
    pub fn raw(&self, id: &CommitId) -> Vec<u8> {
        let out = self.run("git", ["cat-file", "commit", id.as_str()], b"");
        out.stdout
    }

    /// Stores any bytes as a commit object.
    pub fn store(&self, raw: &[u8]) -> CommitId {
        let out = self.run("git", ["hash-object", "-t", "commit", "-w", "--stdin", "--literally"], raw);
        CommitId::new(String::from_utf8(out.stdout).unwrap().trim()).unwrap()
    }

    /// Whether the real git accepts a commit's signature.
    pub fn git_accepts(&self, id: &CommitId, signers: &Path, revoked: Option<&Path>) -> bool {
        self.git_accepts_in("UTC", id, signers, revoked)
    }

    /// The same on a machine of another time zone.
    pub fn git_accepts_in(&self, zone: &str, id: &CommitId, signers: &Path, revoked: Option<&Path>) -> bool {
        let mut args = vec![format!("TZ={zone}"), "git".to_owned()];
        args.extend(["-c".to_owned(), format!("gpg.ssh.allowedSignersFile={}", signers.display())]);
        if let Some(file) = revoked {
            args.extend(["-c".to_owned(), format!("gpg.ssh.revocationFile={}", file.display())]);
        }
        args.extend(["verify-commit".to_owned(), id.to_string()]);
        self.run("env", args, b"").status.success()
    }

    /// An armoured signature of `payload` by ssh-keygen.
    pub fn sign(&self, payload: &[u8], key: &str, namespace: &str, hash: &str) -> String {
        let file = self.path(key);
        let option = format!("hashalg={hash}");
        let args = ["-q", "-Y", "sign", "-f", file.to_str().unwrap(), "-n", namespace, "-O", &option];
        String::from_utf8(self.ssh_keygen(&args, payload)).unwrap()
    }
}

/// A commit with this text as its signature header, put where git puts it.
pub fn with_header(payload: &[u8], key: &str, armour: &str) -> Vec<u8> {
    let at = payload.windows(2).position(|w| w == b"\n\n").unwrap() + 1;
    let folded = armour.trim_end_matches('\n').replace('\n', "\n ");
    [&payload[..at], format!("{key} {folded}\n").as_bytes(), &payload[at..]].concat()
}
