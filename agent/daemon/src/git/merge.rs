//! Merges that a forge made, made here again.

use evenkeel_core::{id::CommitId, trust::Merge};
use gix::merge::{blob::builtin_driver::text::Labels, tree::TreatAsUnresolved};

use super::{
    error::one_line,
    repo::{self, object_id},
};

/// Whether merging two commits gives `tree`, without any conflict.
///
/// The merge is made in memory. Attributes and merge drivers of the repository take no part: a driver is a program, and
/// a program's answer is not ours.
pub(super) fn compare(repo: &gix::Repository, (ours, theirs): (&CommitId, &CommitId), tree: gix::ObjectId) -> Merge {
    match merged(repo, ours, theirs) {
        Ok(own) if own == tree => Merge::Clean,
        Ok(_) => Merge::Other("its files are not those that merging its two parents gives".to_owned()),
        Err(why) => Merge::Other(why),
    }
}

fn merged(repo: &gix::Repository, ours: &CommitId, theirs: &CommitId) -> Result<gix::ObjectId, String> {
    let fail = |e: gix::Error| format!("its two parents cannot be merged here: {}", one_line(&e));
    let id = |commit| object_id(commit).map_err(|e| e.to_string());
    if repo::has_merge_drivers(repo) {
        return Err("this repository's configuration has merge drivers, which are not run".to_owned());
    }
    let repo = repo.clone().with_object_memory();
    let options = repo.tree_merge_options().map_err(fail)?;
    let strictly = TreatAsUnresolved::forced_resolution();
    let options = options.with_fail_on_conflict(Some(strictly));
    let merge = repo.merge_commits(id(ours)?, id(theirs)?, Labels::default(), options.into()).map_err(fail)?;
    let mut merge = merge.tree_merge;
    if merge.failed_on_first_unresolved_conflict || merge.has_unresolved_conflicts(strictly) {
        return Err("its two parents conflict: somebody decided what its files are".to_owned());
    }
    Ok(merge.tree.write().map_err(fail)?.detach())
}
