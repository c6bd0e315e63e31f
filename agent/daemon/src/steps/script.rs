//! The stack's own health-check script at work: from a private copy of what the release has, never from the live tree.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use evenkeel_core::{
    path::{below, parent},
    release::{Files, Release},
    slice::{self, MAX_SCRIPT_BYTES, MAX_SCRIPT_FILES},
};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use super::probe::ended;
use crate::{compose::Compose, host::Host, process::Invocation, store::Store};

/// How long it may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// What of the agent's own environment it gets. No credentials of registries: its words are shown.
const ENVIRONMENT: [&str; 3] = ["PATH", "HOME", "DOCKER_HOST"];

/// The script, as the release has it.
#[derive(Clone)]
pub(super) struct Script {
    path: String,
    /// What the release has in the script's folder and below, by repository path.
    files: Files,
    store: Arc<Store>,
    /// Where copies are made.
    copies: PathBuf,
    /// The copy, once it is made; it goes with the last of those who may run it.
    copy: Arc<OnceCell<TempDir>>,
    invocation: Invocation,
    compose: Compose,
}

impl Script {
    pub(super) fn of(host: &Host, release: &Release) -> Option<Self> {
        let path = below(&host.live.root().display().to_string(), release.model.health_check()?)?.to_owned();
        let files = slice::beside(&release.files, &path);
        let copies = host.settings.paths.state.join("scripts").join(release.stack.as_str());
        let mut invocation = host.compose.invocation(Vec::new(), &copies, TIMEOUT);
        invocation.env.retain(|(name, _)| ENVIRONMENT.contains(&name.as_str()));
        invocation.env.extend([
            ("COMPOSE_PROJECT_NAME".to_owned(), release.project.clone()),
            ("EVENKEEL_STACK".to_owned(), release.stack.to_string()),
        ]);
        let (store, compose) = (Arc::clone(&host.store), host.compose.clone());
        Some(Self { path, files, store, copies, copy: Arc::default(), invocation, compose })
    }

    /// For people.
    pub(super) fn name(&self) -> String {
        format!("the script {}", self.path)
    }

    /// Runs what the release has, in a folder that nobody else may write to. It is made for the first run and gone after the
    /// last one.
    pub(super) async fn run(&self) -> Result<(), String> {
        let folder = self.copy.get_or_try_init(async || self.copied()).await?.path();
        let (program, mut args) = interpreter(&self.content(&self.path)?);
        args.push(folder.join(self.beside(&self.path)).display().to_string());
        let invocation = Invocation { program, args, cwd: folder.to_owned(), ..self.invocation.clone() };
        let done = self.compose.run_alone(&invocation).await.map_err(|e| e.to_string())?;
        if done.success() {
            return Ok(());
        }
        let printed = [done.stdout, done.stderr].concat();
        Err(ended(done.code.map(i64::from), &String::from_utf8_lossy(&printed)))
    }

    fn copied(&self) -> Result<TempDir, String> {
        // A release of an earlier version may have more than is deployed now.
        let bytes = self.files.values().fold(0_u64, |bytes, record| bytes.saturating_add(record.size));
        if self.files.len() > MAX_SCRIPT_FILES || bytes > MAX_SCRIPT_BYTES {
            return Err("its folder has too much in it for a private copy; move it into one of its own".to_owned());
        }
        let folder = fresh(&self.copies).map_err(|e| format!("cannot make a private copy: {e}"))?;
        for (path, record) in &self.files {
            let to = folder.path().join(self.beside(path));
            write(&to, &self.content(path)?, record.executable)
                .map_err(|e| format!("cannot make a private copy of {path}: {e}"))?;
        }
        Ok(folder)
    }

    /// A file's path below the script's folder.
    fn beside<'p>(&self, path: &'p str) -> &'p str {
        path.strip_prefix(parent(&self.path)).unwrap_or(path).trim_start_matches('/')
    }

    fn content(&self, path: &str) -> Result<Vec<u8>, String> {
        let content = self.files.get(path).and_then(|record| self.store.blob(&record.digest).ok()?);
        content.ok_or_else(|| format!("the store has not the content of {path}; deploy the stack again"))
    }
}

/// A folder that is ours alone. What an agent that was killed left behind goes first.
fn fresh(copies: &Path) -> std::io::Result<TempDir> {
    match fs::remove_dir_all(copies) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(copies)?;
    tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir_in(copies)
}

fn write(to: &Path, bytes: &[u8], executable: bool) -> std::io::Result<()> {
    if let Some(folder) = to.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mode = if executable { 0o700 } else { 0o600 };
    OpenOptions::new().write(true).create_new(true).mode(mode).open(to)?.write_all(bytes)
}

/// What the first line of a script says runs it: a file system may forbid to execute what lies on it.
fn interpreter(script: &[u8]) -> (PathBuf, Vec<String>) {
    let first = script.split(|b| *b == b'\n').next().unwrap_or_default();
    let first = String::from_utf8_lossy(first);
    let named = first.strip_prefix("#!").map(str::trim).filter(|line| line.starts_with('/'));
    let Some((program, rest)) = named.map(|line| line.split_once(char::is_whitespace).unwrap_or((line, ""))) else {
        return ("/bin/sh".into(), Vec::new());
    };
    let rest = rest.trim();
    (program.into(), if rest.is_empty() { Vec::new() } else { vec![rest.to_owned()] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_run_by_what_its_first_line_says() {
        for (script, program, args) in [
            ("#!/bin/bash\ntrue", "/bin/bash", vec![]),
            ("#!/usr/bin/env bash\n", "/usr/bin/env", vec!["bash"]),
            ("#! /bin/sh -eu\n", "/bin/sh", vec!["-eu"]),
            ("true\n", "/bin/sh", vec![]),
            ("#!bash\n", "/bin/sh", vec![]),
            ("", "/bin/sh", vec![]),
        ] {
            let found = interpreter(script.as_bytes());
            assert_eq!(found, (program.into(), args.into_iter().map(str::to_owned).collect()), "{script:?}");
        }
    }
    #[test]
    fn a_copy_is_for_nobody_else_and_begins_anew() {
        let state = tempfile::tempdir().unwrap();
        let copies = state.path().join("scripts/web");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let left = fresh(&copies).unwrap().keep();
        write(&left.join("lib/a.sh"), b"a", false).unwrap();
        write(&left.join("b.sh"), b"b", true).unwrap();
        let modes = [&copies, &left, &left.join("lib"), &left.join("lib/a.sh"), &left.join("b.sh")].map(|p| mode(p));
        assert_eq!(modes, [0o700, 0o700, 0o700, 0o600, 0o700]);
        let folder = fresh(&copies).unwrap();
        let names: Vec<_> = fs::read_dir(&copies).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(names, [folder.path()]);
    }
}
