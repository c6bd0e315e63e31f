//! The container that the agent itself is in, and where the engine keeps its things.

use std::path::PathBuf;

use bollard::query_parameters::InspectContainerOptions;

use super::{Engine, EngineError};

/// One mount of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its path on the host.
    pub outside: PathBuf,
    /// Its path in the container.
    pub inside: PathBuf,
}

impl Engine {
    /// The mounts of a container, or `None` if this engine has no such container.
    pub async fn mounts_of(&self, id: &str) -> Result<Option<Vec<Mount>>, EngineError> {
        let found = match self.docker()?.inspect_container(id, None::<InspectContainerOptions>).await {
            Ok(found) => found,
            Err(e) => match self.error("look for its own container", &e) {
                EngineError::NotFound(_) => return Ok(None),
                other => return Err(other),
            },
        };
        let mounts = found.mounts.unwrap_or_default().into_iter();
        let of = |source: Option<String>, destination: Option<String>| {
            Some(Mount { outside: source?.into(), inside: destination?.into() })
        };
        Ok(Some(mounts.filter_map(|m| of(m.source, m.destination)).collect()))
    }

    /// The folder that the engine keeps volumes and images in.
    pub async fn root(&self) -> Result<PathBuf, EngineError> {
        let info = self.docker()?.info().await.map_err(|e| self.error("tell where its data is", &e))?;
        Ok(info.docker_root_dir.unwrap_or_else(|| "/var/lib/docker".to_owned()).into())
    }
}
