//! Data from a snapshot: found, brought out beside what is there, and put in its place by renames.

mod checks;

use std::{collections::BTreeMap, fs, io, path::Path};

use evenkeel_core::{
    answer::SnapshotSeen,
    journal::{ApplyPermit, Restore, Swap},
    reason::{Code, Reason},
    release::Release,
};

use self::checks::{check_links, check_places, check_room, check_users, warn_of_users};
use super::stage::check_way_back;
use crate::{
    backup::swap,
    compose::apply::Project,
    engine::EngineError,
    host::{
        Host,
        backup_plan::{BackupPlan, backup_plan},
        write_private,
    },
    tree::live::LiveTree,
};

/// Shortest beginning of a snapshot's id that is taken for one.
const MIN_ID: usize = 6;

/// Finds what of a snapshot takes the place of what, and whether that can be done here. Changes nothing. `stamp` makes
/// names that nobody else uses.
pub async fn plan(host: &Host, release: &Release, wanted: Option<&str>, stamp: &str) -> Result<Restore, Reason> {
    let restic = host.restic.as_ref().ok_or_else(|| {
        let what = "no backup is configured, so there is no snapshot; `backup` in agent.yml says where they are";
        Reason::new(Code::SnapshotGone, what)
    })?;
    let stack = release.stack.as_str();
    let found = restic.snapshots(None).await.map_err(|e| e.reason())?;
    let snapshot = choose(&found, release, wanted)?;
    let plan = backup_plan(&host.engine, &[&release.model], &release.files, host.live.root()).await;
    let plan = plan.map_err(|e| e.reason(Code::RestoreRefused))?;
    check_links(
        plan.links.iter().filter(|link| snapshot.paths.iter().any(|saved| Path::new(saved) == link.as_path())),
    )?;
    let swaps = swaps(&plan, snapshot, stamp);
    if swaps.is_empty() {
        let what = format!(
            "snapshot {} has nothing that {stack} uses now; it has {}",
            short(&snapshot.id),
            snapshot.paths.join(", ")
        );
        return Err(Reason::new(Code::RestoreRefused, what));
    }
    for left in plan.paths.keys().filter(|path| !swaps.iter().any(|s| path.starts_with(&s.path))) {
        tracing::warn!(stack, path = %left.display(), "this is not in the snapshot and stays as it is");
    }
    check_places(host, &plan, &swaps).await?;
    check_users(host, release, &swaps).await?;
    check_room(restic, &snapshot.id, &swaps).await?;
    let (stack, project) = (stack.to_owned(), release.project.clone());
    Ok(Restore { stack, project, snapshot: snapshot.id.clone(), swaps })
}

fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// The snapshot that is meant: the newest of the stack that was taken while it ran, or the one whose id begins so.
fn choose<'s>(found: &'s [SnapshotSeen], release: &Release, wanted: Option<&str>) -> Result<&'s SnapshotSeen, Reason> {
    let stack = release.stack.as_str();
    // A stack that got another name keeps its project.
    let is_own = |seen: &&SnapshotSeen| {
        seen.stack.as_deref() == Some(stack) || seen.project.as_deref() == Some(release.project.as_str())
    };
    let gone = |what: String| Err(Reason::new(Code::SnapshotGone, format!("{what}; `evenkeel snapshots` lists them")));
    let Some(wanted) = wanted else {
        // One from before a first deployment has what was there when nothing ran: on a new server, next to nothing.
        let newest = found.iter().filter(is_own).max_by_key(|seen| (seen.release.is_some(), &seen.time));
        return newest.map_or_else(|| gone(format!("there is no snapshot of {stack}")), Ok);
    };
    let matching: Vec<&SnapshotSeen> =
        found.iter().filter(|seen| wanted.len() >= MIN_ID && seen.id.starts_with(wanted)).collect();
    match matching.as_slice() {
        [one] if is_own(one) => Ok(one),
        [one] => gone(format!("snapshot {wanted} is of {}, not of {stack}", one.stack.as_deref().unwrap_or("nothing"))),
        [] => gone(format!("this server has no snapshot {wanted}")),
        many => gone(format!("{} snapshots begin with {wanted}", many.len())),
    }
}

/// Pairs what the stack uses now with what the snapshot has: volumes by their names, wherever the engine keeps them, and
/// other paths by themselves.
fn swaps(plan: &BackupPlan, snapshot: &SnapshotSeen, stamp: &str) -> Vec<Swap> {
    let is_volume = |saved: &Path, name: &str| {
        snapshot.volumes.iter().any(|volume| volume == name)
            && saved.parent().and_then(Path::file_name).is_some_and(|folder| folder == name)
    };
    let mut pairs: BTreeMap<&Path, &Path> = BTreeMap::new();
    for (path, volume) in &plan.paths {
        let saved = snapshot
            .paths
            .iter()
            .map(Path::new)
            .find(|saved| *saved == path.as_path() || volume.as_deref().is_some_and(|name| is_volume(saved, name)));
        let is_within = pairs.keys().any(|above| path.starts_with(above));
        if let (Some(saved), false) = (saved, is_within) {
            pairs.insert(path, saved);
        }
    }
    let swap = |(path, saved): (&Path, &Path)| {
        // It comes out under its name in the snapshot; the folder is of ours alone.
        let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let folder = path.parent().unwrap_or(Path::new("/"));
        let restored = folder.join(format!("{}{stamp}-{}", swap::RESTORING, name(path))).join(name(saved));
        let aside = folder.join(format!("{}.before-restore-{stamp}", name(path)));
        let text = |path: &Path| path.display().to_string();
        Swap { path: text(path), saved: text(saved), restored: text(&restored), aside: text(&aside) }
    };
    pairs.into_iter().map(swap).collect()
}

fn failed(what: &str, error: &io::Error) -> Reason {
    let code = match error.kind() {
        io::ErrorKind::StorageFull => Code::DiskFull,
        _ => Code::RestoreFailed,
    };
    Reason::new(code, format!("cannot {what}: {error}"))
}

/// Brings the data out of the snapshot, beside what is there and used meanwhile.
pub async fn bring(host: &Host, restore: &Restore, release: &Release) -> Result<(), Reason> {
    check_way_back(host, Some(release)).await?;
    let restic = host.restic.as_ref().ok_or_else(|| Reason::new(Code::SnapshotGone, "no backup is configured"))?;
    let _turn = host.turns.take().await;
    for swap in &restore.swaps {
        let doing = format!("bringing {} out of snapshot {}", swap.path, short(&restore.snapshot));
        host.activity.at_work(release.stack.as_str(), &doing);
        let brought = restic.restore(&restore.snapshot, Path::new(&swap.saved), &swap::folder(swap)).await;
        brought.map_err(|e| Reason::new(Code::RestoreFailed, format!("{e}; nothing was changed")))?;
        let refuse = |what: &str| {
            let what = format!("the snapshot has {what} at {}; nothing was changed", swap.saved);
            Err(Reason::new(Code::RestoreRefused, what))
        };
        match fs::symlink_metadata(&swap.restored) {
            Ok(meta) if meta.is_symlink() => return refuse("a link and no data"),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return refuse("nothing"),
            Err(error) => return Err(failed("look at the restored data", &error)),
        }
        fill(host, swap, release)?;
        swap::all_to_disk(&swap::folder(swap)).map_err(|e| failed("write the restored data to disk", &e))?;
    }
    Ok(())
}

/// What Git has below a path is the release's, not the snapshot's.
fn fill(host: &Host, swap: &Swap, release: &Release) -> Result<(), Reason> {
    let Ok(inside) = Path::new(&swap.path).strip_prefix(host.live.root()) else { return Ok(()) };
    let tree = LiveTree::new(Path::new(&swap.restored));
    for (path, record) in &release.files {
        let Some(below) = Path::new(path).strip_prefix(inside).ok().and_then(Path::to_str) else { continue };
        let content = host.store.blob(&record.digest).map_err(|e| e.reason())?;
        let lost = || Reason::new(Code::StoreFailed, format!("the store has no content of {path}"));
        tree.fill(below, &content.ok_or_else(lost)?, record.executable).map_err(|e| e.reason())?;
    }
    Ok(())
}

/// Exchanges the data, forth or back, while nothing of the stack runs. Every part may be repeated.
pub async fn exchange(host: &Host, permit: &ApplyPermit, release: &Release) -> Result<(), Reason> {
    let Some(restore) = permit.restore() else { return Ok(()) };
    let mut is_needed = false;
    for swap in &restore.swaps {
        let needed = if permit.is_back() { swap::is_to_undo(swap) } else { swap::is_to_do(swap) };
        is_needed |= needed.map_err(|e| failed("exchange the data", &e))?;
    }
    if !is_needed {
        return Ok(());
    }
    stop(host, release).await?;
    if permit.is_back() {
        warn_of_users(host, release, &restore.swaps).await?;
    } else {
        check_users(host, release, &restore.swaps).await?;
    }
    for swap in &restore.swaps {
        let (what, done) = if permit.is_back() {
            ("put back what was there before", swap::take_back(swap))
        } else {
            ("put the restored data in place", swap::put(swap))
        };
        done.map_err(|e| failed(what, &e))?;
        tracing::info!(stack = %release.stack, path = swap.path, aside = swap.aside, "{what}");
    }
    Ok(())
}

/// Stops everything of the project, in the order of its dependencies, then what a person started besides.
async fn stop(host: &Host, release: &Release) -> Result<(), Reason> {
    let failed = |e: EngineError| e.reason(Code::RestoreFailed);
    let path = host.model_path(&release.stack);
    write_private(&path, release.model.value().to_string().as_bytes())?;
    let project = Project {
        name: &release.project,
        model: &path,
        directory: &super::apply::existing_directory(host, release),
        secrets: &release.secret_env.0,
    };
    if let Err(error) = host.compose.stop(&project).await {
        if let Err(away) = host.engine.version().await
            && away.is_unreachable()
        {
            return Err(away.reason(Code::EngineUnreachable));
        }
        return Err(Reason::new(Code::RestoreFailed, error.to_string()));
    }
    for container in host.engine.project(&release.project).await.map_err(failed)? {
        host.engine.stop(&container.id).await.map_err(failed)?;
    }
    Ok(())
}

/// Where data that was restored and taken back is kept: the stack may have written to it.
pub fn kept(restore: &Restore) -> Vec<String> {
    let is_there = |name: &String| Path::new(name).try_exists().unwrap_or(true);
    restore.swaps.iter().map(Swap::failed).filter(is_there).collect()
}

/// Removes what is left of the folders that data came out into. A failure is a warning.
pub fn tidy(restore: &Restore) {
    for swap in &restore.swaps {
        if let Err(error) = swap::tidy(swap) {
            let folder = swap::folder(swap);
            tracing::warn!(folder = %folder.display(), %error, "cannot remove what is left of a restore");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn snapshot(volumes: &[&str], paths: &[&str]) -> SnapshotSeen {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        SnapshotSeen {
            id: "1a2b3c4d5e6f".to_owned(),
            time: "2026-11-21T12:00:00Z".to_owned(),
            stack: Some("web".to_owned()),
            project: Some("web".to_owned()),
            release: None,
            commit: None,
            volumes: owned(volumes),
            paths: owned(paths),
            size_bytes: None,
        }
    }

    fn plan(paths: &[(&str, Option<&str>)]) -> BackupPlan {
        let paths = paths.iter().map(|(path, volume)| (PathBuf::from(path), volume.map(str::to_owned))).collect();
        BackupPlan { paths, ..BackupPlan::default() }
    }

    #[test]
    fn a_volume_is_found_wherever_the_engine_of_the_new_server_keeps_it() {
        let old = snapshot(&["web_data"], &["/var/lib/docker/volumes/web_data/_data", "/srv/evenkeel/stacks/web/data"]);
        let now = plan(&[
            ("/mnt/docker/volumes/web_data/_data", Some("web_data")),
            ("/mnt/docker/volumes/web_new/_data", Some("web_new")),
            ("/srv/evenkeel/stacks/web/data", None),
            ("/srv/evenkeel/stacks/web/data/cache", None),
        ]);
        let found = swaps(&now, &old, "T");
        let pairs: Vec<(&str, &str)> = found.iter().map(|s| (s.path.as_str(), s.saved.as_str())).collect();
        assert_eq!(
            pairs,
            [
                ("/mnt/docker/volumes/web_data/_data", "/var/lib/docker/volumes/web_data/_data"),
                ("/srv/evenkeel/stacks/web/data", "/srv/evenkeel/stacks/web/data"),
            ]
        );
        assert_eq!(found[0].restored, "/mnt/docker/volumes/web_data/.evenkeel-restoring-T-_data/_data");
        assert_eq!(found[1].aside, "/srv/evenkeel/stacks/web/data.before-restore-T");
    }

    #[test]
    fn the_newest_is_the_newest_of_a_stack_that_ran() {
        let release: Release = serde_json::from_value(serde_json::json!({
            "id": 1, "stack": "web", "project": "web", "directory": "", "commit": "a".repeat(40), "digest": "0".repeat(64),
            "depends_on": [], "gate": {}, "model": {}, "images": {}, "files": {}, "passive": [], "secret_env": {}, "snapshot": null
        }))
        .unwrap();
        let taken = |id: &str, time: &str, release: Option<&str>| SnapshotSeen {
            id: id.to_owned(),
            time: time.to_owned(),
            release: release.map(str::to_owned),
            ..snapshot(&[], &[])
        };
        let found = [
            taken("aaaaaaaa", "2026-11-01", Some("1")),
            taken("bbbbbbbb", "2026-11-02", Some("2")),
            taken("cccccccc", "2026-11-03", None),
        ];
        let id =
            |found: &[SnapshotSeen], wanted: Option<&str>| choose(found, &release, wanted).map(|seen| seen.id.clone());
        assert_eq!(id(&found, None), Ok("bbbbbbbb".to_owned()));
        assert_eq!(id(&found[2..], None), Ok("cccccccc".to_owned()));
        assert_eq!(id(&found, Some("aaaaaa")), Ok("aaaaaaaa".to_owned()));
        for (found, wanted) in [(&found[..0], None), (&found[..], Some("aaaaa")), (&found[..], Some("dddddddd"))] {
            assert_eq!(id(found, wanted).unwrap_err().code, Code::SnapshotGone, "{wanted:?}");
        }
    }

    #[test]
    fn a_volume_that_the_snapshot_does_not_name_is_not_guessed_from_a_path() {
        let old = snapshot(&[], &["/var/lib/docker/volumes/web_data/_data"]);
        assert_eq!(swaps(&plan(&[("/mnt/volumes/web_data/_data", Some("web_data"))]), &old, "T"), []);
    }
}
