//! The container that the agent itself is in, and where the engine keeps its things.

use std::{collections::HashMap, path::PathBuf};

use bollard::query_parameters::{InspectContainerOptions, ListContainersOptions};

use super::{
    Engine, EngineError, PROJECT,
    traces::{CONFIG_FILES, WORKING_DIR},
};

const ENVIRONMENT_FILE: &str = "com.docker.compose.project.environment_file";

/// One mount of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its path on the host.
    pub outside: PathBuf,
    /// Its path in the container.
    pub inside: PathBuf,
}

/// The container that the agent is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// Its name.
    pub name: String,
    /// Its mounts.
    pub mounts: Vec<Mount>,
    /// Its Compose project, if Compose made it.
    pub project: Option<String>,
    /// Whether it shares the host's network.
    pub has_hosts_network: bool,
    labels: HashMap<String, String>,
}

impl Own {
    /// How it is replaced by what its Compose file says, or by another image: the exact command between backticks.
    pub fn update(&self) -> String {
        let Some(project) = &self.project else {
            let name = &self.name;
            return format!("`docker stop {name} && docker rm {name}`, and start it as before with the new image");
        };
        let label = |name: &str| self.labels.get(name).filter(|value| !value.is_empty());
        let several = |name: &str, flag: &str| {
            let values = label(name).map(String::as_str).unwrap_or_default();
            values.split(',').filter(|v| !v.is_empty()).flat_map(|value| [" ", flag, " ", value]).collect::<String>()
        };
        let files = several(CONFIG_FILES, "--file") + &several(ENVIRONMENT_FILE, "--env-file");
        let directory = label(WORKING_DIR).map(|d| format!(" --project-directory {d}")).unwrap_or_default();
        format!("`docker compose --project-name {project}{files}{directory} up --detach`")
    }

    /// The Compose files that it was made from, on the host.
    pub fn files(&self) -> Option<&str> {
        self.labels.get(CONFIG_FILES).map(String::as_str).filter(|files| !files.is_empty())
    }
}

impl Engine {
    /// The container with this id as the agent's own, or `None` if this engine has no such container.
    pub async fn own(&self, id: &str) -> Result<Option<Own>, EngineError> {
        let found = match self.docker()?.inspect_container(id, None::<InspectContainerOptions>).await {
            Ok(found) => found,
            Err(e) => match self.error("look for its own container", &e) {
                EngineError::NotFound(_) => return Ok(None),
                other => return Err(other),
            },
        };
        let mode = found.host_config.and_then(|host| host.network_mode);
        let mounts = found.mounts.unwrap_or_default().into_iter();
        let of = |source: Option<String>, destination: Option<String>| {
            Some(Mount { outside: source?.into(), inside: destination?.into() })
        };
        let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
        Ok(Some(Own {
            name: found.name.unwrap_or_default().trim_start_matches('/').to_owned(),
            mounts: mounts.filter_map(|m| of(m.source, m.destination)).collect(),
            project: labels.get(PROJECT).cloned(),
            has_hosts_network: mode.as_deref() == Some("host"),
            labels,
        }))
    }

    /// The container whose own file system layer is this folder of the host, if there is one: its id.
    pub async fn with_layer(&self, folder: &str) -> Result<Option<String>, EngineError> {
        let docker = self.docker()?;
        let running = docker.list_containers(None::<ListContainersOptions>).await;
        for id in running.map_err(|e| self.error("list containers", &e))?.into_iter().filter_map(|found| found.id) {
            let found = match docker.inspect_container(&id, None::<InspectContainerOptions>).await {
                Ok(found) => found,
                Err(e) => match self.error("look for its own container", &e) {
                    EngineError::NotFound(_) => continue, // gone between the list and now
                    other => return Err(other),
                },
            };
            let layer = found.graph_driver.and_then(|mut driver| driver.data.remove("UpperDir"));
            if layer.as_deref() == Some(folder) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// The folder that the engine keeps volumes and images in.
    pub async fn root(&self) -> Result<PathBuf, EngineError> {
        let info = self.docker()?.info().await.map_err(|e| self.error("tell where its data is", &e))?;
        Ok(info.docker_root_dir.unwrap_or_else(|| "/var/lib/docker".to_owned()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_the_one_that_made_it() {
        let labels = [
            (CONFIG_FILES, "/opt/evenkeel/compose.yml,/opt/evenkeel/compose.override.yml"),
            (WORKING_DIR, "/opt/evenkeel"),
            (ENVIRONMENT_FILE, "/opt/evenkeel/agent.env"),
        ];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let own = Own {
            name: "evenkeel-agent-1".to_owned(),
            mounts: vec![],
            project: Some("evenkeel".to_owned()),
            has_hosts_network: false,
            labels,
        };
        assert_eq!(
            own.update(),
            "`docker compose --project-name evenkeel --file /opt/evenkeel/compose.yml --file /opt/evenkeel/compose.override.yml \
             --env-file /opt/evenkeel/agent.env --project-directory /opt/evenkeel up --detach`"
        );
        let by_hand = Own { project: None, ..own };
        assert!(by_hand.update().starts_with("`docker stop evenkeel-agent-1 && docker rm evenkeel-agent-1`"));
    }
}
