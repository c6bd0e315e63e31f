//! Keeping the repository: what the rule does not keep is forgotten, what nobody refers to goes, what is there is checked.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{BACKUP_TIMEOUT, BackupError, Restic, SHORT_TIMEOUT, snapshots::OURS};
use crate::config::settings::Keep;

/// Most snapshots that one command is told to forget: its arguments have to fit.
const AT_ONCE: usize = 500;

#[derive(Deserialize)]
struct Group {
    remove: Option<Vec<Removed>>,
}

#[derive(Deserialize)]
struct Removed {
    id: String,
}

impl Restic {
    /// Forgets what the rule does not keep of the snapshots of each stack, but never one of `named`. Touches only
    /// snapshots of this server that carry our tag. Gives how many went.
    pub async fn forget(&self, keep: Keep, named: &BTreeSet<String>) -> Result<usize, BackupError> {
        let stacks: BTreeSet<String> = self.snapshots(None).await?.into_iter().filter_map(|s| s.stack).collect();
        let mut gone = Vec::new();
        for stack in stacks {
            // restic knows the rule; which of its candidates a kept release names, only we do.
            let done = self.run("forget", forget_args(&self.server, &stack, keep), SHORT_TIMEOUT).await?;
            self.check("forget", &done)?;
            let groups: Vec<Group> = serde_json::from_slice(&done.stdout).map_err(|_| BackupError::Failed {
                what: "forget",
                why: "its answer is not what it documents".to_owned(),
            })?;
            let removed = groups.into_iter().flat_map(|group| group.remove.unwrap_or_default());
            gone.extend(removed.map(|removed| removed.id).filter(|id| !named.contains(id)));
        }
        for ids in gone.chunks(AT_ONCE) {
            let args = ["forget", "--quiet"].map(str::to_owned).into_iter().chain(ids.iter().cloned()).collect();
            let done = self.run("forget", args, SHORT_TIMEOUT).await?;
            self.check("forget", &done)?;
        }
        Ok(gone.len())
    }

    /// Removes data that no snapshot refers to.
    pub async fn prune(&self) -> Result<(), BackupError> {
        let done = self.run("prune", vec!["prune".to_owned(), "--quiet".to_owned()], BACKUP_TIMEOUT).await?;
        self.check("prune", &done)
    }

    /// Checks that the repository is whole: its structure, and that everything that snapshots refer to is there.
    pub async fn check_repository(&self) -> Result<(), BackupError> {
        let done = self.run("check", vec!["check".to_owned(), "--quiet".to_owned()], BACKUP_TIMEOUT).await?;
        self.check("check", &done)
    }

    /// Removes locks of processes of this machine that are gone.
    pub async fn unlock(&self) -> Result<(), BackupError> {
        let done = self.run("unlock", vec!["unlock".to_owned(), "--quiet".to_owned()], SHORT_TIMEOUT).await?;
        self.check("unlock", &done)
    }
}

fn forget_args(server: &str, stack: &str, keep: Keep) -> Vec<String> {
    let tag = format!("{OURS},stack={stack}");
    let fixed = ["forget", "--dry-run", "--json", "--host", server, "--tag", &tag, "--group-by", "host"];
    let counts = [("--keep-last", keep.last), ("--keep-daily", keep.daily), ("--keep-monthly", keep.monthly)];
    let rules = counts.into_iter().filter(|(_, count)| *count > 0);
    let rules = rules.flat_map(|(flag, count)| [flag.to_owned(), count.to_string()]);
    fixed.map(str::to_owned).into_iter().chain(rules).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_snapshots_of_one_stack_are_asked_about_and_nothing_is_forgotten_by_asking() {
        assert_eq!(
            forget_args("home", "web", Keep { last: 10, daily: 0, monthly: 12 }).join(" "),
            "forget --dry-run --json --host home --tag evenkeel,stack=web --group-by host --keep-last 10 --keep-monthly 12"
        );
    }
}
