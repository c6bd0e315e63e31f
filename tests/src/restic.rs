//! A backup repository, as the operator who made it sees it with the real restic.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{config::Config, program::Run};

/// A restic repository and its password.
#[derive(Debug, Clone)]
pub struct Restic {
    /// Where it lies.
    pub repository: PathBuf,
    password: PathBuf,
}

impl Restic {
    /// A repository that the operator has made.
    #[track_caller]
    pub fn init(config: &Config, repository: &Path) -> Self {
        let password = config.put("restic-password", "correct horse\n");
        let restic = Self { repository: repository.to_owned(), password };
        restic.run(&["init"]);
        restic
    }

    /// Has the agent back up there.
    pub fn configure(&self, config: &mut Config) {
        config.set("backup", &self.yaml(""));
    }

    /// The block `backup`, with `more` keys.
    pub fn yaml(&self, more: &str) -> String {
        let (repository, password) = (self.repository.display(), self.password.display());
        format!("{{ repository: {repository}, password_file: {password}{more} }}")
    }

    /// `restic` with these arguments.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("restic");
        command
            .args(["--quiet", "--no-cache", "--repo"])
            .arg(&self.repository)
            .arg("--password-file")
            .arg(&self.password)
            .args(args);
        command
    }

    /// Runs `restic`, which must end well, and returns what it says.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> String {
        Run::of(&mut self.command(args)).ok()
    }

    /// All snapshots, as restic lists them.
    #[track_caller]
    pub fn snapshots(&self) -> Vec<Value> {
        serde_json::from_str(&self.run(&["snapshots", "--json"])).expect("restic lists snapshots as JSON")
    }

    /// The ids of all snapshots.
    #[track_caller]
    pub fn ids(&self) -> Vec<String> {
        self.snapshots().iter().filter_map(|s| s["id"].as_str().map(str::to_owned)).collect()
    }

    /// Takes a snapshot of a path as the agent of the server `home` would for a stack.
    #[track_caller]
    pub fn back_up(&self, stack: &str, volume: &str, path: &Path) -> String {
        let tags =
            ["evenkeel".to_owned(), format!("stack={stack}"), format!("project={stack}"), format!("volume={volume}")];
        let tags = tags.join(",");
        let before = self.ids();
        self.run(&["backup", "--host", "home", "--tag", &tags, &path.to_string_lossy()]);
        self.ids().into_iter().find(|id| !before.contains(id)).expect("restic took a snapshot")
    }
}
