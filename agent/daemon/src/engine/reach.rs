//! Reaching into a container: its address, and commands in it.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use bollard::{
    container::LogOutput,
    exec::{CreateExecOptions, StartExecResults},
    models::ContainerInspectResponse,
    query_parameters::InspectContainerOptions,
};
use futures_util::StreamExt as _;

use super::{Engine, EngineError};

/// Most that is kept of what a command prints, in bytes; the last part.
const MAX_OUTPUT_BYTES: usize = 16 * 1024;

/// The engine's own interval of healthchecks, and its number of failures that make a container unhealthy.
const INTERVAL: Duration = Duration::from_secs(30);
const RETRIES: u32 = 3;
/// A pause so short is borne by all but the most nervous healthcheck.
const LEAST_PAUSE: Duration = Duration::from_secs(1);

impl Engine {
    /// Where a container can be reached from this machine; `None` if it is on no network.
    pub async fn address(&self, container: &str) -> Result<Option<IpAddr>, EngineError> {
        let found = self.inspected(container).await?;
        let mode = found.host_config.as_ref().and_then(|host| host.network_mode.as_deref()).unwrap_or_default();
        if let Some(other) = mode.strip_prefix("container:") {
            return Ok(address(&self.inspected(other).await?));
        }
        Ok(address(&found))
    }

    /// Runs a command in a container. Gives its exit code and the end of what it printed.
    pub async fn execute(&self, container: &str, command: &[String]) -> Result<(Option<i64>, String), EngineError> {
        let docker = self.docker()?;
        let failed = |e: bollard::errors::Error| self.error("run a command in a container", &e);
        let options = CreateExecOptions {
            cmd: Some(command.to_vec()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..CreateExecOptions::default()
        };
        let exec = docker.create_exec(container, options).await.map_err(failed)?;
        let mut printed = Vec::new();
        if let StartExecResults::Attached { mut output, .. } =
            docker.start_exec(&exec.id, None).await.map_err(failed)?
        {
            while let Some(chunk) = output.next().await {
                printed.extend(LogOutput::into_bytes(chunk.map_err(failed)?));
                printed.drain(..printed.len().saturating_sub(MAX_OUTPUT_BYTES));
            }
        }
        let ended = docker.inspect_exec(&exec.id).await.map_err(failed)?;
        Ok((ended.exit_code, String::from_utf8_lossy(&printed).into_owned()))
    }

    /// How long the healthcheck of a container bears that it is paused: one failed check fewer than makes it unhealthy. `None` if it has none.
    pub async fn bears_pause(&self, container: &str) -> Result<Option<Duration>, EngineError> {
        let check = self.inspected(container).await?.config.and_then(|config| config.healthcheck);
        let Some(check) = check
            .filter(|check| check.test.as_ref().is_some_and(|test| test.first().is_some_and(|word| word != "NONE")))
        else {
            return Ok(None);
        };
        let interval = check.interval.and_then(|ns| u64::try_from(ns).ok()).filter(|ns| *ns > 0);
        let retries = check.retries.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0).unwrap_or(RETRIES);
        let interval = interval.map_or(INTERVAL, Duration::from_nanos);
        Ok(Some(interval.saturating_mul(retries - 1).max(LEAST_PAUSE)))
    }

    pub(super) async fn inspected(&self, container: &str) -> Result<ContainerInspectResponse, EngineError> {
        let found = self.docker()?.inspect_container(container, None::<InspectContainerOptions>).await;
        found.map_err(|e| self.error("inspect a container", &e))
    }
}

fn address(found: &ContainerInspectResponse) -> Option<IpAddr> {
    let mode = found.host_config.as_ref().and_then(|host| host.network_mode.as_deref()).unwrap_or_default();
    if mode == "host" {
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    let networks = found.network_settings.as_ref()?.networks.as_ref()?;
    let addresses = networks.values().flat_map(|n| [&n.ip_address, &n.global_ipv6_address]);
    addresses.flatten().find_map(|text| text.parse().ok())
}
