//! A person with the real gpg.

use std::{
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use evenkeel::git::{Repo, graph, openpgp::Keyring};
use evenkeel_core::{
    id::CommitId,
    trust::{Authority, Policy, Revoked, Signers, When},
};

use crate::{
    cases::{self, Case, Ruling},
    world::World,
};

/// A person's GnuPG home in a world, and the folder of certificates on the server.
pub struct Gpg {
    pub world: World,
}

impl Gpg {
    pub fn new() -> Self {
        let world = World::new();
        fs::DirBuilder::new().mode(0o700).create(world.path(".gnupg")).unwrap();
        fs::create_dir(world.path("certificates")).unwrap();
        Self { world }
    }

    pub fn run(&self, args: &[&str], input: &[u8]) -> Vec<u8> {
        let always = ["--batch", "--no-tty", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""];
        let out = self.world.any("gpg", &[&always, args].concat(), input);
        assert!(out.status.success(), "gpg {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    }

    /// Makes a key with a primary that signs; returns its fingerprint.
    pub fn key(&self, name: &str, kind: &str, more: &[&str]) -> String {
        let user = format!("{name} <{name}@example.org>");
        self.run(&[more, &["--quick-generate-key", &user, kind, "sign", "never"]].concat(), b"");
        self.fingerprints(name).remove(0)
    }

    /// Fingerprints of the primary key and the subkeys.
    pub fn fingerprints(&self, name: &str) -> Vec<String> {
        let listed = String::from_utf8(
            self.run(&["--with-colons", "--list-keys", &format!("={name} <{name}@example.org>")], b""),
        )
        .unwrap();
        let lines = listed.lines().filter_map(|line| line.strip_prefix("fpr:::::::::"));
        lines.map(|f| f.trim_end_matches(':').to_owned()).collect()
    }

    /// Answers what an interactive command of gpg asks.
    pub fn answers(&self, args: &[&str], answers: &str) -> Vec<u8> {
        let always = ["--no-tty", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "", "--command-fd", "0"];
        let out = self.world.any("gpg", &[&always, args].concat(), answers.as_bytes());
        assert!(out.status.success(), "gpg {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    }

    /// Lists a key on the server, as it is now.
    pub fn list(&self, name: &str) {
        let exported = self.run(&["--armor", "--export", &format!("={name} <{name}@example.org>")], b"");
        fs::write(self.world.path("certificates").join(format!("{name}.asc")), exported).unwrap();
    }

    pub fn folder(&self) -> PathBuf {
        self.world.path("certificates")
    }

    pub fn keyring(&self) -> Keyring {
        Keyring::read(&self.folder(), now()).unwrap()
    }

    /// An armoured detached signature.
    pub fn sign(&self, payload: &[u8], key: &str, more: &[&str]) -> String {
        let user = format!("{key}!");
        let args = [more, &["--armor", "--detach-sign", "--local-user", &user, "--output", "-", "-"]].concat();
        String::from_utf8(self.run(&args, payload)).unwrap()
    }

    /// Our verdict on a commit as a tip.
    pub fn ours(&self, id: &CommitId) -> Ruling {
        self.judged(id, &self.keyring(), When::Now(now()))
    }

    pub fn judged(&self, id: &CommitId, keyring: &Keyring, when: When) -> Ruling {
        let policy = Policy {
            authority: Authority::Server(Signers::default().with_certificates(keyring.principals())),
            revoked: Revoked::Keys([].into()),
            introduction: None,
            forge: Signers::default(),
            deploy_to: None,
        };
        let commit = graph::one(&Repo::open(&self.world.repo()).unwrap(), keyring, id).unwrap();
        let judged = policy.judge(&commit.signature, when);
        (judged.verdict, judged.code)
    }

    pub fn git_accepts(&self, id: &CommitId) -> bool {
        self.world.any("git", &["verify-commit", id.as_str()], b"").status.success()
    }

    /// Compares our verdicts with git's, case by case.
    pub fn compare(&self, cases: Vec<Case>) {
        cases::compare(cases, |raw| {
            let id = self.world.store(raw);
            let ours = self.ours(&id);
            let git = self.git_accepts(&id);
            (id, ours, git)
        });
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        self.world.any("gpgconf", &["--kill", "all"], b"");
    }
}

pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed()
}
