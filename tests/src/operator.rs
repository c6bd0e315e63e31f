//! A person at the server's terminal, who asks `evenkeel` what it does.

use std::{ffi::OsString, path::PathBuf, process::Command};

use evenkeel_core::outcome::Outcome;

use crate::{
    agent::MARK,
    config::Config,
    program::{self, Run},
    said::{History, Status, Sync},
    wait::{PATIENCE, wait_until},
};

/// Knows where the configuration lies; everything else is asked of the program.
#[derive(Debug, Clone)]
pub struct Operator {
    config: PathBuf,
    folder: PathBuf,
    mark: String,
    environment: Vec<(&'static str, OsString)>,
}

impl Operator {
    /// Asks with this configuration. What is started carries `mark` in its environment.
    pub fn new(config: &Config, mark: &str) -> Self {
        Self { config: config.file(), folder: config.folder.clone(), mark: mark.to_owned(), environment: vec![] }
    }

    /// Gives `evenkeel` this variable from now on.
    pub fn set_variable(&mut self, name: &'static str, value: impl Into<OsString>) {
        self.environment.push((name, value.into()));
    }

    /// `evenkeel` with these arguments and nothing of ours in the environment but the mark and what a test wants there.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program::evenkeel());
        command.args(args).env(MARK, &self.mark).env_remove("EVENKEEL_CONFIG").current_dir(&self.folder);
        command.env("XDG_CACHE_HOME", self.folder.join("cache"));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a verb with this server's configuration.
    #[track_caller]
    pub fn evenkeel(&self, args: &[&str]) -> Run {
        let mut command = self.command(args);
        Run::of(command.arg("--config").arg(&self.config))
    }

    /// `evenkeel history`, with or without a running agent.
    #[track_caller]
    pub fn history(&self) -> History {
        self.try_history().unwrap_or_else(|seen| panic!("{seen}"))
    }

    /// The same, or what was said instead: before an agent's first start there is nothing to tell.
    pub fn try_history(&self) -> Result<History, String> {
        let run = self.evenkeel(&["history", "--format", "json"]);
        if run.code != Some(0) {
            return Err(run.report());
        }
        serde_json::from_str(&run.stdout).map_err(|e| format!("history breaks its contract: {e}\n{}", run.report()))
    }

    /// `evenkeel status`, with or without a running agent.
    #[track_caller]
    pub fn status(&self) -> Status {
        let run = self.evenkeel(&["status", "--format", "json"]);
        run.exits(0);
        serde_json::from_str(&run.stdout)
            .unwrap_or_else(|e| panic!("status breaks its contract: {e}\n{}", run.report()))
    }

    /// The newest sync that ended; it must have ended so.
    #[track_caller]
    pub fn last_sync(&self, outcome: Outcome) -> Sync {
        let history = self.history();
        let last = history.last().unwrap_or_else(|| panic!("history tells of no sync that ended: {history:#?}"));
        assert!(last.outcome == Some(outcome), "expected the last sync to end {}: {last:#?}", outcome.as_str());
        last.clone()
    }

    /// Waits until a sync of `commit` has ended so.
    #[track_caller]
    pub fn wait_sync(&self, commit: &str, outcome: Outcome) -> Sync {
        let what = format!("a sync of {} ends {}", &commit[..12], outcome.as_str());
        wait_until(PATIENCE, &what, || {
            let history = self.try_history()?;
            let ended = |s: &&Sync| s.commit.as_deref() == Some(commit) && s.outcome == Some(outcome);
            // A look that ends as the one before it did tells of no deployment: the one that does is meant.
            let found = history.syncs.iter().filter(ended).min_by_key(|s| s.deployments.is_empty()).cloned();
            found.ok_or_else(|| format!("{:#?}", history.oldest_first().into_iter().rev().take(2).collect::<Vec<_>>()))
        })
    }
}
