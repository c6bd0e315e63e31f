//! What containers are told without being made anew: a signal, or to start again.

use bollard::{
    API_DEFAULT_VERSION, Docker,
    query_parameters::{KillContainerOptions, RestartContainerOptions},
};

use super::{Engine, EngineError};

/// How long a restart may take, in seconds: the container's own grace period comes first, and may be long.
const RESTART_TIMEOUT_S: u64 = 15 * 60;

impl Engine {
    /// Sends a signal to the first process of a container.
    pub async fn signal(&self, container: &str, signal: &str) -> Result<(), EngineError> {
        let options = KillContainerOptions { signal: signal.to_owned() };
        let done = self.docker()?.kill_container(container, Some(options)).await;
        done.map_err(|e| self.error(&format!("send {signal} to a container"), &e))
    }

    /// Stops a container, within its own grace period, and starts it again. What it mounts is looked up anew.
    pub async fn restart(&self, container: &str) -> Result<(), EngineError> {
        let docker = Docker::connect_with_unix(&self.socket, RESTART_TIMEOUT_S, API_DEFAULT_VERSION);
        let done = docker.map_err(|e| self.error("connect", &e))?;
        let done = done.restart_container(container, None::<RestartContainerOptions>).await;
        done.map_err(|e| self.error("restart a container", &e))
    }
}
