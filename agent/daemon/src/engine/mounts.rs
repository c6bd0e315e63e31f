//! Who uses which data: volumes as the engine has them, and the containers that mount a path.

use std::path::{Path, PathBuf};

use bollard::query_parameters::ListContainersOptions;

use super::{Engine, EngineError, PROJECT, is_one_off};

/// A running container that mounts a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The container's name.
    pub container: String,
    /// Its Compose project, if it has one.
    pub project: Option<String>,
    /// Whether `docker compose run` made it, which `docker compose stop` leaves alone.
    pub is_one_off: bool,
    /// The path, as it is on the machine.
    pub path: PathBuf,
}

impl Engine {
    /// Whether a volume is a folder of the engine's own, not something that is mounted there while it is used.
    pub async fn is_plain_volume(&self, name: &str) -> Result<bool, EngineError> {
        let volume = self.docker()?.inspect_volume(name).await.map_err(|e| self.error("look for a volume", &e))?;
        Ok(volume.driver == "local" && volume.options.is_empty())
    }

    /// The running containers that mount one of `paths`, or something below it.
    pub async fn users_of(&self, paths: &[PathBuf]) -> Result<Vec<User>, EngineError> {
        let running = self.docker()?.list_containers(None::<ListContainersOptions>).await;
        let running = running.map_err(|e| self.error("list containers", &e))?;
        let mut users = Vec::new();
        for container in running {
            let name = container.names.iter().flatten().next().map(|name| name.trim_start_matches('/').to_owned());
            let project = container.labels.as_ref().and_then(|labels| labels.get(PROJECT)).cloned();
            let is_one_off = container.labels.as_ref().is_some_and(is_one_off);
            let mounts = container.mounts.unwrap_or_default().into_iter().filter_map(|mount| mount.source);
            for mount in mounts.map(PathBuf::from) {
                if paths.iter().any(|path| holds(path, &mount)) {
                    let container = name.clone().unwrap_or_default();
                    users.push(User { container, project: project.clone(), is_one_off, path: mount });
                }
            }
        }
        Ok(users)
    }
}

/// Whether a mount goes on with what is at `path` when that is renamed. One above it sees the new names.
fn holds(path: &Path, mount: &Path) -> bool {
    mount.starts_with(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_of_the_path_or_below_it_counts_and_one_above_or_with_a_longer_name_does_not() {
        for (mount, want) in [("/v/a", true), ("/v/a/b", true), ("/v", false), ("/", false), ("/v/ab", false)] {
            assert_eq!(holds(Path::new("/v/a"), Path::new(mount)), want, "{mount}");
        }
    }
}
