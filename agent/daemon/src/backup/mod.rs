//! Backups by restic: a snapshot of what a deployment is about to change, and the way back.

mod care;
mod snapshots;
pub mod swap;

use std::{
    collections::BTreeMap,
    env, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use evenkeel_core::{
    id::Digest,
    reason::{Code, Reason},
};
use serde::Deserialize;

pub use snapshots::About;

use crate::{
    config::settings::Backup,
    process::{Finished, Invocation, RunError, Runner},
};

/// How long a snapshot may take.
pub const BACKUP_TIMEOUT: Duration = Duration::from_secs(4 * 3600);
/// How often stale locks of a repository are removed before it counts as locked, and how much longer each time is waited before.
const UNLOCKS: u32 = 4;
const UNLOCK_PAUSE: Duration = Duration::from_millis(500);
/// How long the other commands may take. restic itself tries a repository that it cannot reach for many minutes.
const SHORT_TIMEOUT: Duration = Duration::from_secs(90);
/// The oldest restic that tells faults apart by exit codes.
const MINIMUM: semver::Version = semver::Version::new(0, 17, 1);
/// Largest file of credentials, in bytes.
const MAX_ENV_FILE: u64 = 64 * 1024;
/// Most of restic's own words that are shown.
const MAX_COMPLAINT_CHARS: usize = 600;

/// restic's documented exit codes that are told apart.
mod exit {
    pub const INCOMPLETE: i32 = 3;
    pub const NO_REPOSITORY: i32 = 10;
    pub const LOCKED: i32 = 11;
    pub const WRONG_PASSWORD: i32 = 12;
}

/// A backup did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is no `restic` program, or it is too old.
    #[error("{0}: install restic {MINIMUM} or later")]
    Missing(String),
    /// The file of credentials cannot be used.
    #[error("cannot read the backup's env_file {path}: {why}")]
    EnvFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Somebody else has the repository.
    #[error("the restic repository is locked by another process; if none runs, `restic unlock` frees it")]
    Locked,
    /// The password does not fit.
    #[error("the password in {0} does not open the restic repository; put the right one there")]
    WrongPassword(PathBuf),
    /// The repository that had the last backup is not there any more.
    #[error(
        "the restic repository that holds the earlier backups is gone; is its disk mounted, or its server another one? If it \
         is lost for good, make a new one with `restic init`"
    )]
    Gone,
    /// There is no repository.
    #[error("there is no restic repository yet; the first deployment that has something to save makes it")]
    None,
    /// restic failed.
    #[error("restic {what} failed: {why}")]
    Failed {
        /// The command.
        what: &'static str,
        /// What it said.
        why: String,
    },
    /// restic could not be run to its end.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl BackupError {
    /// The reason that is reported.
    pub fn reason(&self) -> Reason {
        Reason::new(Code::BackupFailed, self.to_string())
    }
}

/// restic, with one repository.
#[derive(Clone)]
pub struct Restic {
    runner: Runner,
    settings: Backup,
    cache: PathBuf,
    server: String,
}

#[derive(Deserialize)]
struct Summary {
    snapshot_id: Option<String>,
}

impl Restic {
    /// restic with the configured repository; its cache lies under `state`.
    pub fn new(runner: Runner, settings: &Backup, state: &Path, server: &str) -> Self {
        let cache = state.join("restic-cache");
        Self { runner, settings: settings.clone(), cache, server: server.to_owned() }
    }

    /// Takes a snapshot of `paths`, which says what it is `about`. Gives the snapshot's id.
    pub async fn snapshot(&self, about: &About, paths: &[PathBuf]) -> Result<String, BackupError> {
        let mut args = ["backup", "--json", "--host", &self.server].map(str::to_owned).to_vec();
        args.extend(about.tags().into_iter().flat_map(|tag| ["--tag".to_owned(), tag]));
        args.push("--".to_owned());
        args.extend(paths.iter().map(|p| p.display().to_string()));
        let done = self.run("backup", args, BACKUP_TIMEOUT).await?;
        if done.code == Some(exit::INCOMPLETE) {
            return Err(BackupError::Failed {
                what: "backup",
                why: format!("some files could not be read: {}", complaint(&done)),
            });
        }
        self.check("backup", &done)?;
        String::from_utf8_lossy(&done.stdout)
            .lines()
            .filter_map(|line| serde_json::from_str::<Summary>(line).ok())
            .find_map(|summary| summary.snapshot_id)
            .ok_or_else(|| BackupError::Failed { what: "backup", why: "it named no snapshot".to_owned() })
    }

    /// Stands for the repository: the same one has the same text. It holds no secret.
    pub fn mark(&self) -> String {
        Digest::of(self.settings.repository.as_bytes()).as_str().to_owned()
    }

    /// Makes sure that the repository is there and can be used: if there never was one, by making it. `had_one` says that
    /// an earlier backup went there.
    pub async fn be_ready(&self, had_one: bool) -> Result<(), BackupError> {
        let found = self.run("cat config", vec!["cat".to_owned(), "config".to_owned()], SHORT_TIMEOUT).await?;
        if found.code == Some(exit::NO_REPOSITORY) {
            if had_one {
                return Err(BackupError::Gone);
            }
            tracing::info!(repository = %self.settings.repository, "making the restic repository");
            let made = self.run("init", vec!["init".to_owned()], SHORT_TIMEOUT).await?;
            return self.check("init", &made);
        }
        self.check("cat config", &found)
    }

    fn check(&self, what: &'static str, done: &Finished) -> Result<(), BackupError> {
        match done.code {
            Some(0) => Ok(()),
            Some(exit::LOCKED) => Err(BackupError::Locked),
            Some(exit::WRONG_PASSWORD) => Err(BackupError::WrongPassword(self.settings.password_file.clone())),
            _ => Err(BackupError::Failed { what, why: complaint(done) }),
        }
    }

    /// Runs restic. A lock that a process left which is gone, such as an agent that was killed, is no reason to stand still.
    async fn run(&self, what: &'static str, args: Vec<String>, timeout: Duration) -> Result<Finished, BackupError> {
        let mut done = self.once(what, args.clone(), timeout).await?;
        for again in 0..UNLOCKS {
            if done.code != Some(exit::LOCKED) {
                break;
            }
            // Only locks of dead processes go; one that was killed just now may need a moment until it is dead.
            tokio::time::sleep(UNLOCK_PAUSE * again).await;
            let unlocked = self.once("unlock", vec!["unlock".to_owned(), "--quiet".to_owned()], SHORT_TIMEOUT).await?;
            if !unlocked.success() {
                break;
            }
            done = self.once(what, args.clone(), timeout).await?;
        }
        Ok(done)
    }

    async fn once(&self, what: &'static str, args: Vec<String>, timeout: Duration) -> Result<Finished, BackupError> {
        let path = env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".to_owned());
        let program = env::split_paths(&path)
            .map(|folder| folder.join("restic"))
            .find(|file| file.is_file())
            .ok_or_else(|| BackupError::Missing("there is no `restic` program on PATH".to_owned()))?;
        let mut env = self.credentials()?;
        env.insert("PATH".to_owned(), path);
        env.insert("RESTIC_REPOSITORY".to_owned(), self.settings.repository.clone());
        env.insert("RESTIC_PASSWORD_FILE".to_owned(), self.settings.password_file.display().to_string());
        env.insert("RESTIC_CACHE_DIR".to_owned(), self.cache.display().to_string());
        let cwd = PathBuf::from("/");
        let invocation = Invocation { program, args, env: env.into_iter().collect(), cwd, timeout };
        tracing::debug!(command = %invocation.command_line(), "running restic {what}");
        Ok(self.runner.run(&invocation, None).await?)
    }

    /// `NAME=value` lines; comments and empty lines aside.
    fn credentials(&self) -> Result<BTreeMap<String, String>, BackupError> {
        let Some(path) = &self.settings.env_file else { return Ok(BTreeMap::new()) };
        let refuse = |why: String| BackupError::EnvFile { path: path.clone(), why };
        let size = fs::metadata(path).map_err(|e| refuse(e.to_string()))?.len();
        if size > MAX_ENV_FILE {
            return Err(refuse(format!("it has {size} bytes, more than {MAX_ENV_FILE}")));
        }
        let text = fs::read_to_string(path).map_err(|e: io::Error| refuse(e.to_string()))?;
        text.lines()
            .enumerate()
            .map(|(number, line)| (number + 1, line.trim()))
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
            .map(|(number, line)| {
                let (name, value) = line
                    .strip_prefix("export ")
                    .unwrap_or(line)
                    .split_once('=')
                    .ok_or_else(|| refuse(format!("line {number} is not NAME=value")))?;
                Ok((name.trim().to_owned(), value.trim().trim_matches(['"', '\'']).to_owned()))
            })
            .collect()
    }
}

/// What restic said last on standard error; with `--json` that is a message in JSON.
fn complaint(done: &Finished) -> String {
    let text = String::from_utf8_lossy(&done.stderr);
    let said = text.lines().rev().map(str::trim).find(|l| !l.is_empty()).unwrap_or_default();
    let message = serde_json::from_str::<serde_json::Value>(said)
        .ok()
        .and_then(|v| v["message"].as_str().or_else(|| v["error"]["message"].as_str()).map(str::to_owned))
        .unwrap_or_else(|| said.to_owned());
    let code = done.code.map_or_else(|| "it was killed".to_owned(), |code| format!("exit code {code}"));
    let short: String = message.chars().take(MAX_COMPLAINT_CHARS).collect();
    if short.is_empty() { code } else { format!("{short} ({code})") }
}

#[cfg(test)]
mod tests;
