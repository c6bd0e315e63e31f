//! What the repository holds of this server, and the way back from it.

use std::path::Path;

use evenkeel_core::answer::SnapshotSeen;
use serde::Deserialize;

use super::{BACKUP_TIMEOUT, BackupError, Restic, SHORT_TIMEOUT, exit};

/// Every snapshot of ours carries it: others in the same repository are nobody's business here.
pub(super) const OURS: &str = "evenkeel";

/// What a snapshot says of itself, besides its paths. Kept in restic's tags, so that it outlives the store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct About {
    /// The stack.
    pub stack: String,
    /// Its Compose project.
    pub project: String,
    /// The release that runs, by number and commit; `None` if none does.
    pub release: Option<(String, String)>,
    /// Named volumes in it.
    pub volumes: Vec<String>,
}

impl About {
    /// As restic takes it. None of the words can hold a comma, which separates tags.
    pub(super) fn tags(&self) -> Vec<String> {
        let mut tags = vec![OURS.to_owned(), format!("stack={}", self.stack), format!("project={}", self.project)];
        if let Some((number, commit)) = &self.release {
            tags.extend([format!("release={number}"), format!("commit={commit}")]);
        }
        tags.extend(self.volumes.iter().map(|volume| format!("volume={volume}")));
        tags
    }
}

#[derive(Deserialize)]
struct Listed {
    id: String,
    time: String,
    paths: Vec<String>,
    #[serde(default)]
    tags: Vec<String>,
    summary: Option<Totals>,
}

#[derive(Deserialize)]
struct Totals {
    total_bytes_processed: Option<u64>,
}

#[derive(Deserialize)]
struct RestoreSize {
    total_size: u64,
}

impl Restic {
    /// The snapshots that this server took, of one stack or of all: sorted by stack, newest first.
    pub async fn snapshots(&self, stack: Option<&str>) -> Result<Vec<SnapshotSeen>, BackupError> {
        let of_stack = stack.map_or_else(|| OURS.to_owned(), |stack| format!("{OURS},stack={stack}"));
        let args = ["snapshots", "--json", "--no-lock", "--host", &self.server, "--tag", &of_stack]
            .map(str::to_owned)
            .to_vec();
        let done = self.run("snapshots", args, SHORT_TIMEOUT).await?;
        if done.code == Some(exit::NO_REPOSITORY) {
            return Err(BackupError::None);
        }
        self.check("snapshots", &done)?;
        let listed: Option<Vec<Listed>> = serde_json::from_slice(&done.stdout).map_err(|_| nonsense("snapshots"))?;
        let mut seen: Vec<SnapshotSeen> = listed.unwrap_or_default().into_iter().map(seen).collect();
        seen.sort_by(|a, b| (&a.stack, &b.time, &b.id).cmp(&(&b.stack, &a.time, &a.id)));
        Ok(seen)
    }

    /// How large a snapshot is when it is restored, in bytes.
    pub async fn restore_size(&self, snapshot: &str) -> Result<u64, BackupError> {
        let args = ["stats", "--json", "--no-lock", "--mode", "restore-size", snapshot].map(str::to_owned).to_vec();
        let done = self.run("stats", args, SHORT_TIMEOUT).await?;
        self.check("stats", &done)?;
        let size: RestoreSize = serde_json::from_slice(&done.stdout).map_err(|_| nonsense("stats"))?;
        Ok(size.total_size)
    }

    /// Brings one path out of a snapshot into the folder `into`, which is made: `/a/b` comes out as `into/b`, with owner,
    /// mode and times as they were.
    pub async fn restore(&self, snapshot: &str, path: &Path, into: &Path) -> Result<(), BackupError> {
        let done = self.run("restore", restore_args(snapshot, path, into), BACKUP_TIMEOUT).await?;
        self.check("restore", &done)
    }
}

fn restore_args(snapshot: &str, path: &Path, into: &Path) -> Vec<String> {
    let folder = path.parent().unwrap_or(Path::new("/")).display();
    // Of a folder that is named after the colon itself restic brings back what is in it, but not its owner and mode.
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let literal: String =
        name.chars().flat_map(|c| if matches!(c, '*' | '?' | '[' | '\\') { vec!['\\', c] } else { vec![c] }).collect();
    let (from, only) = (format!("{snapshot}:{folder}"), format!("/{literal}"));
    let into = into.display().to_string();
    ["restore", "--quiet", &from, "--include", &only, "--target", &into].map(str::to_owned).to_vec()
}

fn nonsense(what: &'static str) -> BackupError {
    BackupError::Failed { what, why: "its answer is not what it documents".to_owned() }
}

fn seen(listed: Listed) -> SnapshotSeen {
    let tag = |name: &str| {
        let prefix = format!("{name}=");
        listed.tags.iter().filter_map(|tag| tag.strip_prefix(&prefix).map(str::to_owned)).collect::<Vec<_>>()
    };
    let mut volumes = tag("volume");
    volumes.sort();
    let time = listed.time.parse::<jiff::Timestamp>();
    SnapshotSeen {
        time: time.map_or(listed.time, |time| time.to_string()),
        stack: tag("stack").pop(),
        project: tag("project").pop(),
        release: tag("release").pop(),
        commit: tag("commit").pop(),
        volumes,
        size_bytes: listed.summary.and_then(|summary| summary.total_bytes_processed),
        id: listed.id,
        paths: listed.paths,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_restic_is_given_to_restore_is_one_path_and_nothing_that_looks_like_it() {
        let args = restore_args("1a2b", Path::new("/v/we ird[1]*"), Path::new("/v/.new"));
        assert_eq!(args, ["restore", "--quiet", "1a2b:/v", "--include", r"/we ird\[1]\*", "--target", "/v/.new"]);
    }

    #[test]
    fn a_snapshot_says_whose_it_is() {
        let about = About {
            stack: "web".to_owned(),
            project: "web".to_owned(),
            release: Some(("12".to_owned(), "abc".to_owned())),
            volumes: vec!["web_data".to_owned()],
        };
        let tags = about.tags();
        assert_eq!(tags, ["evenkeel", "stack=web", "project=web", "release=12", "commit=abc", "volume=web_data"]);
        let time = "2026-11-21T17:40:55.844950281+01:00".to_owned();
        let seen = seen(Listed { id: "1a2b".to_owned(), time, paths: vec!["/v/d".to_owned()], tags, summary: None });
        assert_eq!((seen.stack.as_deref(), seen.release.as_deref()), (Some("web"), Some("12")));
        assert_eq!((seen.volumes, seen.size_bytes), (vec!["web_data".to_owned()], None));
        assert_eq!(seen.time, "2026-11-21T16:40:55.844950281Z");
    }
}
