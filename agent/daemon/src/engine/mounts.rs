//! Who uses which data: volumes as the engine has them, and the containers that mount a path.

use std::path::{Path, PathBuf};

use bollard::query_parameters::{ListContainersOptions, StopContainerOptions};

use super::{Engine, EngineError, PROJECT};

/// A running container that mounts a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The container's name.
    pub container: String,
    /// Its Compose project, if it has one.
    pub project: Option<String>,
    /// The path, as it is on the machine.
    pub path: PathBuf,
}

impl Engine {
    /// Whether a volume is a folder of the engine's own, not something that is mounted there while it is used.
    pub async fn is_plain_volume(&self, name: &str) -> Result<bool, EngineError> {
        let volume = self.docker()?.inspect_volume(name).await.map_err(|e| self.error("look for a volume", &e))?;
        Ok(volume.driver == "local" && volume.options.is_empty())
    }

    /// The running containers that mount one of `paths`, or something above or below it.
    pub async fn users_of(&self, paths: &[PathBuf]) -> Result<Vec<User>, EngineError> {
        let running = self.docker()?.list_containers(None::<ListContainersOptions>).await;
        let running = running.map_err(|e| self.error("list containers", &e))?;
        let mut users = Vec::new();
        for container in running {
            let name = container.names.iter().flatten().next().map(|name| name.trim_start_matches('/').to_owned());
            let project = container.labels.as_ref().and_then(|labels| labels.get(PROJECT)).cloned();
            let mounts = container.mounts.unwrap_or_default().into_iter().filter_map(|mount| mount.source);
            for mount in mounts.map(PathBuf::from) {
                if paths.iter().any(|path| overlap(path, &mount)) {
                    let container = name.clone().unwrap_or_default();
                    users.push(User { container, project: project.clone(), path: mount });
                }
            }
        }
        Ok(users)
    }

    /// Stops a container with its own grace period. One that is gone or stopped already is fine.
    pub async fn stop(&self, container: &str) -> Result<(), EngineError> {
        match self.docker()?.stop_container(container, None::<StopContainerOptions>).await {
            Ok(()) => Ok(()),
            Err(e) => match self.error("stop a container", &e) {
                EngineError::NotFound(_) => Ok(()),
                other => Err(other),
            },
        }
    }
}

fn overlap(a: &Path, b: &Path) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_above_or_below_counts_and_a_longer_name_does_not() {
        for (a, b, want) in [("/v/a", "/v/a/b", true), ("/v/a/b", "/v/a", true), ("/v/a", "/v/ab", false)] {
            assert_eq!(overlap(Path::new(a), Path::new(b)), want, "{a} {b}");
        }
    }
}
