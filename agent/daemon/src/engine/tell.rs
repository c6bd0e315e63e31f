//! What containers are told without being made anew: a signal, to hold still, or to start again.

use bollard::{
    API_DEFAULT_VERSION, Docker,
    query_parameters::{KillContainerOptions, RestartContainerOptions, StartContainerOptions, StopContainerOptions},
};

use super::{Engine, EngineError};

/// How long a restart or a stop may take, in seconds: the container's own grace period comes first, and may be long.
const STOP_TIMEOUT_S: u64 = 15 * 60;

impl Engine {
    /// Sends a signal to the first process of a container.
    pub async fn signal(&self, container: &str, signal: &str) -> Result<(), EngineError> {
        let options = KillContainerOptions { signal: signal.to_owned() };
        let done = self.docker()?.kill_container(container, Some(options)).await;
        done.map_err(|e| self.error(&format!("send {signal} to a container"), &e))
    }

    /// Stops a container, within its own grace period, and starts it again. What it mounts is looked up anew.
    pub async fn restart(&self, container: &str) -> Result<(), EngineError> {
        let done = self.patient()?.restart_container(container, None::<RestartContainerOptions>).await;
        done.map_err(|e| self.error("restart a container", &e))
    }

    /// Stops a container with its own grace period. One that is gone or stopped already is fine.
    pub async fn stop(&self, container: &str) -> Result<(), EngineError> {
        match self.patient()?.stop_container(container, None::<StopContainerOptions>).await {
            Ok(()) => Ok(()),
            Err(e) => match self.error("stop a container", &e) {
                EngineError::NotFound(_) => Ok(()),
                other => Err(other),
            },
        }
    }

    /// Starts a container that was stopped. One that runs is fine.
    pub async fn start(&self, container: &str) -> Result<(), EngineError> {
        let done = self.docker()?.start_container(container, None::<StartContainerOptions>).await;
        done.map_err(|e| self.error("start a container", &e))
    }

    /// Freezes the processes of a container.
    pub async fn pause(&self, container: &str) -> Result<(), EngineError> {
        self.docker()?.pause_container(container).await.map_err(|e| self.error("pause a container", &e))
    }

    /// Lets a paused container go on.
    pub async fn unpause(&self, container: &str) -> Result<(), EngineError> {
        self.docker()?.unpause_container(container).await.map_err(|e| self.error("let a container go on", &e))
    }

    fn patient(&self) -> Result<Docker, EngineError> {
        let docker = Docker::connect_with_unix(&self.socket, STOP_TIMEOUT_S, API_DEFAULT_VERSION);
        docker.map_err(|e| self.error("connect", &e))
    }
}
