//! What is looked at before data is exchanged: places, who uses it, room.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use evenkeel_core::{
    journal::Swap,
    reason::{Code, Reason},
    release::Release,
};

use crate::{
    backup::{Restic, swap},
    engine::User,
    host::{
        Host,
        backup_plan::{BackupPlan, leads_elsewhere},
    },
    steps::stage::MIN_FREE,
};

const MIB: u64 = 1024 * 1024;

/// Whether each path is one that can be renamed, and the names that are needed are free.
pub async fn check_places(host: &Host, plan: &BackupPlan, swaps: &[Swap]) -> Result<(), Reason> {
    let refuse = |what: String| Err(Reason::new(Code::RestoreRefused, format!("{what}; nothing was changed")));
    for swap in swaps {
        let path = Path::new(&swap.path);
        let folder = path.parent().unwrap_or(Path::new("/"));
        check_way(host, plan, path)?;
        let volume = plan.paths.get(path).and_then(Option::as_deref);
        if let Some(name) = volume
            && !host.engine.is_plain_volume(name).await.map_err(|e| e.reason(Code::RestoreRefused))?
        {
            return refuse(format!(
                "the volume {name} is mounted from elsewhere while it is used, so its data cannot be exchanged here; stop \
                 the stack and bring the data back with `restic restore`"
            ));
        }
        let devices = fs::symlink_metadata(path).and_then(|own| Ok((own.dev(), fs::metadata(folder)?.dev())));
        match devices {
            Ok((own, above)) if own == above => {}
            Ok(_) => {
                return refuse(format!(
                    "{} is a file system of its own, so its data cannot be exchanged by renaming; stop the stack and bring \
                     the data back with `restic restore`",
                    path.display()
                ));
            }
            Err(error) => return refuse(format!("cannot look at {}: {error}", path.display())),
        }
        if let Err(error) = rustix::fs::access(folder, rustix::fs::Access::WRITE_OK) {
            return refuse(format!(
                "{} cannot be written ({error}); the agent's unit or container has to allow it: see docs/backup.md",
                folder.display()
            ));
        }
        for name in [Path::new(&swap.aside), Path::new(&swap.failed()), &swap::folder(swap)] {
            if fs::symlink_metadata(name).is_ok() {
                return refuse(format!("{} is in the way; move it elsewhere", name.display()));
            }
        }
    }
    Ok(())
}

/// Whether the path is the data's own: of a volume within the engine's folder of volumes, of others within the live tree.
fn check_way(host: &Host, plan: &BackupPlan, path: &Path) -> Result<(), Reason> {
    let is_volume = plan.paths.get(path).is_some_and(Option::is_some);
    let of_volumes = path.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
    match leads_elsewhere(path, if is_volume { of_volumes } else { host.live.root() }) {
        Ok(false) => Ok(()),
        Ok(true) => check_links([path]),
        Err(error) => {
            let what = format!("cannot look at {}: {error}; nothing was changed", path.display());
            Err(Reason::new(Code::RestoreRefused, what))
        }
    }
}

/// Links are not followed: a snapshot has the link, and a rename exchanges it alone.
pub fn check_links(links: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<(), Reason> {
    let Some(link) = links.into_iter().next() else { return Ok(()) };
    let what = format!(
        "{} is a link, or below one, so its data cannot be exchanged by renaming; put the data there itself, or stop the stack \
         and bring the data back with `restic restore`; nothing was changed",
        link.as_ref().display()
    );
    Err(Reason::new(Code::RestoreRefused, what))
}

/// Who else has the data open would go on with what is put aside.
pub async fn check_users(host: &Host, release: &Release, swaps: &[Swap]) -> Result<(), Reason> {
    let others = users(host, release, swaps).await?;
    if others.is_empty() {
        return Ok(());
    }
    let what = format!(
        "other containers use this data too and would go on with what is put aside: {}; stop them first. Nothing was changed",
        others.join(", ")
    );
    Err(Reason::new(Code::RestoreRefused, what))
}

/// On the way back they are no reason to leave the wrong data in place.
pub async fn warn_of_users(host: &Host, release: &Release, swaps: &[Swap]) -> Result<(), Reason> {
    let stack = &release.stack;
    match users(host, release, swaps).await {
        Err(away) if away.code == Code::EngineUnreachable => return Err(away),
        Err(reason) => tracing::warn!(%stack, %reason, "cannot tell who else uses this data"),
        Ok(others) if others.is_empty() => {}
        Ok(others) => {
            let others = others.join(", ");
            tracing::warn!(%stack, others, "these use the data too and go on with what was restored; restart them");
        }
    }
    Ok(())
}

/// The running containers that mount this data, but those that are stopped with the stack.
async fn users(host: &Host, release: &Release, swaps: &[Swap]) -> Result<Vec<String>, Reason> {
    let paths: Vec<PathBuf> = swaps.iter().map(|swap| PathBuf::from(&swap.path)).collect();
    let users = host.engine.users_of(&paths).await.map_err(|e| e.reason(Code::RestoreRefused))?;
    let is_stopped = |user: &User| user.project.as_deref() == Some(release.project.as_str()) && !user.is_one_off;
    Ok(users
        .into_iter()
        .filter(|user| !is_stopped(user))
        .map(|user| format!("{} ({})", user.container, user.path.display()))
        .collect())
}

/// Both what is there and what is restored need room at the same time. What of it comes to which disk is not known before.
pub async fn check_room(restic: &Restic, snapshot: &str, swaps: &[Swap]) -> Result<(), Reason> {
    let size = restic.restore_size(snapshot).await.map_err(|e| e.reason())?;
    let folders: Vec<&Path> =
        swaps.iter().map(|swap| Path::new(&swap.path).parent().unwrap_or(Path::new("/"))).collect();
    room(size, free(&folders)?.values())
}

/// What is free on each of the disks that the folders are on.
fn free<'f>(folders: &[&'f Path]) -> Result<BTreeMap<u64, (&'f Path, u64)>, Reason> {
    let look = |folder: &'f Path| -> io::Result<(u64, (&'f Path, u64))> {
        let (device, stat) = (fs::metadata(folder)?.dev(), rustix::fs::statvfs(folder)?);
        Ok((device, (folder, stat.f_bavail.saturating_mul(stat.f_frsize))))
    };
    let refused = |folder: &Path, error: &io::Error| {
        let what = format!("cannot tell how much room is in {}: {error}; nothing was changed", folder.display());
        Reason::new(Code::RestoreRefused, what)
    };
    folders.iter().map(|folder| look(folder).map_err(|e| refused(folder, &e))).collect()
}

/// Whether so many bytes have room on each disk, and something is left.
fn room<'d>(size: u64, disks: impl IntoIterator<Item = &'d (&'d Path, u64)>) -> Result<(), Reason> {
    let needed = size.saturating_add(MIN_FREE);
    let Some((folder, free)) = disks.into_iter().find(|(_, free)| *free < needed) else { return Ok(()) };
    let what = format!(
        "the snapshot needs {} MiB beside what is there, and {} MiB are free in {} (some are kept in reserve); make room, \
         nothing was changed",
        needed.div_ceil(MIB),
        free / MIB,
        folder.display()
    );
    Err(Reason::new(Code::DiskFull, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_disk_has_to_have_room_for_all_of_it_and_a_reserve() {
        let (a, b) = (Path::new("/a"), Path::new("/b"));
        let needed = 1000 * MIB + MIN_FREE;
        assert_eq!(room(1000 * MIB, &[(a, needed), (b, needed)]), Ok(()));
        let refused = room(1000 * MIB, &[(a, 10 * needed), (b, needed - 1)]).unwrap_err();
        assert_eq!(refused.code, Code::DiskFull);
        assert!(refused.message.contains("are free in /b"), "{refused}");
    }

    #[test]
    fn a_disk_that_cannot_be_asked_is_no_disk_with_room() {
        let folder = tempfile::tempdir().unwrap();
        let gone = folder.path().join("gone");
        assert_eq!(free(&[folder.path(), folder.path()]).unwrap().len(), 1);
        let refused = free(&[folder.path(), &gone]).unwrap_err();
        assert_eq!(refused.code, Code::RestoreRefused);
        assert!(refused.message.contains("gone"), "{refused}");
    }
}
