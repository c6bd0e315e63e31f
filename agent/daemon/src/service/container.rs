//! An agent in a container: the engine resolves every path on the host, so the agent must see the same folders under the
//! same names, or it would write files that no container mounts and back up folders that are not there.

use std::path::{Path, PathBuf};

use crate::{
    config::settings::Settings,
    engine::{
        Engine, EngineError,
        own::{Mount, Own},
    },
};

/// Where the kernel tells of this process's mounts.
const MOUNTINFO: &str = "/proc/self/mountinfo";

/// Why the agent may not work from here.
#[derive(Debug, thiserror::Error)]
pub(super) enum Misplaced {
    /// The engine cannot say; ask again later.
    #[error(transparent)]
    Unknown(#[from] EngineError),
    /// Folders are missing, or have another name outside.
    #[error(
        "this agent runs in a container, and the engine looks for every path on the host: {}. \
         Mount each at the same path inside as outside; docker/compose.yml of the project is an example", .0.join("; ")
    )]
    Wrong(Vec<String>),
}

/// Checks that what the engine must find under the agent's own paths is there. Outside of a container, and in one that
/// another engine runs, there is nothing to check; otherwise this gives the container that it is in.
pub(super) async fn check(settings: &Settings) -> Result<Option<Own>, Misplaced> {
    let mountinfo = std::fs::read_to_string(MOUNTINFO).unwrap_or_default();
    let engine = Engine::new(&settings.engine.socket);
    let id = match (own_id(&mountinfo), own_layer(&mountinfo)) {
        (Some(id), _) => Some(id),
        // Whoever mounts files of his own there leaves the layer that all else is in.
        (None, Some(layer)) => engine.with_layer(layer).await?,
        (None, None) => None,
    };
    let Some(id) = id else { return Ok(None) };
    let Some(own) = engine.own(&id).await? else { return Ok(None) };
    let volumes = match settings.backup {
        Some(_) => Some(engine.root().await?.join("volumes")),
        None => None,
    };
    let wrong = problems(settings, &own.mounts, volumes.as_deref());
    if wrong.is_empty() {
        tracing::info!(container = id.get(..12), "in a container, with the host's folders at their own paths");
        return Ok(Some(own));
    }
    Err(Misplaced::Wrong(wrong))
}

/// This container's id: Docker mounts files of the folder `…/containers/ID/` at /etc/hostname and its like.
fn own_id(mountinfo: &str) -> Option<String> {
    mountinfo.lines().find_map(|line| {
        // mount id, parent, device, root, mount point (proc_pid_mountinfo(5))
        let mut fields = line.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        if !["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"].contains(&point) {
            return None;
        }
        let id = Path::new(root).parent()?.file_name()?.to_str()?;
        let is_id = id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
        is_id.then(|| id.to_owned())
    })
}

/// The folder of the host that holds what this container itself wrote, if its file system is made of layers.
fn own_layer(mountinfo: &str) -> Option<&str> {
    // mount id, parent, device, root, mount point, options, any number of fields, -, type, source, options of the file system
    let of_root = |line: &&str| line.split(' ').nth(4) == Some("/");
    let (_, file_system) = mountinfo.lines().rfind(of_root)?.split_once(" - ")?;
    file_system.split(' ').nth(2)?.split(',').find_map(|option| option.strip_prefix("upperdir="))
}

/// What is wrong with the mounts of a container in which the agent has these settings, for people.
fn problems(settings: &Settings, mounts: &[Mount], volumes: Option<&Path>) -> Vec<String> {
    let paths = &settings.paths;
    let mut wanted = vec![("paths.state", paths.state.as_path()), ("paths.live", paths.live.as_path())];
    // restic reads them where the engine says that they are.
    wanted.extend(volumes.map(|path| ("the engine's volumes, which `backup` reads,", path)));
    let mut wrong: Vec<String> = wanted
        .into_iter()
        .filter_map(|(what, path)| same_outside(mounts, path).map(|why| format!("{what} {why}")))
        .collect();
    let repository = settings.backup.as_ref().map(|b| PathBuf::from(&b.repository));
    if let Some(repository) = repository.filter(|r| r.is_absolute())
        && mount_of(mounts, &repository).is_none()
    {
        wrong.push(format!("backup.repository {} is inside the container and would go with it", repository.display()));
    }
    wrong
}

/// Why a path is not the same inside and outside, or `None` if it is.
fn same_outside(mounts: &[Mount], path: &Path) -> Option<String> {
    let shown = path.display();
    let Some(mount) = mount_of(mounts, path) else {
        return Some(format!("{shown} is inside the container, not mounted from the host"));
    };
    let rest = path.strip_prefix(&mount.inside).unwrap_or(Path::new(""));
    let outside = if rest.as_os_str().is_empty() { mount.outside.clone() } else { mount.outside.join(rest) };
    (outside != path).then(|| format!("{shown} is {} on the host", outside.display()))
}

/// The mount that a path is in.
fn mount_of<'m>(mounts: &'m [Mount], path: &Path) -> Option<&'m Mount> {
    let around = mounts.iter().filter(|mount| path.starts_with(&mount.inside));
    around.max_by_key(|mount| mount.inside.components().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(outside: &str, inside: &str) -> Mount {
        Mount { outside: outside.into(), inside: inside.into() }
    }

    #[test]
    fn the_id_is_that_of_the_folder_behind_etc_hostname() {
        let id = "7c1f".repeat(16);
        let line = |root: &str, point: &str| format!("651 640 254:0 {root} {point} rw,relatime - ext4 /dev/vda rw\n");
        let inside = line("/", "/") + &line(&format!("/var/lib/docker/containers/{id}/hostname"), "/etc/hostname");
        assert_eq!(own_id(&inside), Some(id.clone()));
        let elsewhere = line(&format!("/var/lib/docker/containers/{id}/hostname"), "/data/hostname");
        assert_eq!(own_id(&elsewhere), None, "somebody looks at the engine's folders");
        assert_eq!(own_id(&line("/etc/hostname", "/etc/hostname")), None);
        assert_eq!(own_id("nonsense\n\n"), None);
    }

    #[test]
    fn the_layer_is_the_one_that_the_root_is_laid_over() {
        let overlay = "640 500 0:60 / / ro,relatime master:1 - overlay overlay rw,lowerdir=/a:/b,upperdir=/d/l/diff,workdir=/d/l/work\n";
        let other = "641 640 0:61 / /mnt rw - overlay overlay rw,lowerdir=/a,upperdir=/other,workdir=/w\n";
        assert_eq!(own_layer(&format!("{other}{overlay}{other}")), Some("/d/l/diff"));
        assert_eq!(own_layer("25 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"), None);
        assert_eq!(own_layer(other), None);
        assert_eq!(own_layer("nonsense\n\n"), None);
    }

    #[test]
    fn a_path_is_the_same_outside_only_where_the_nearest_mount_says_so() {
        let mounts = [mount("/srv", "/srv"), mount("/data/live", "/srv/evenkeel"), mount("/var/lib", "/var/lib")];
        assert_eq!(same_outside(&mounts, Path::new("/var/lib/evenkeel")), None);
        assert_eq!(same_outside(&mounts, Path::new("/srv")), None);
        let moved = same_outside(&mounts, Path::new("/srv/evenkeel/a")).unwrap();
        assert_eq!(moved, "/srv/evenkeel/a is /data/live/a on the host");
        assert!(same_outside(&mounts, Path::new("/home/x")).unwrap().contains("not mounted"));
        assert!(same_outside(&[], Path::new("/srv")).is_some());
    }
}
