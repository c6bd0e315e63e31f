//! Reaching into a container: its address, and commands in it.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use bollard::{
    container::LogOutput,
    exec::{CreateExecOptions, StartExecResults},
    models::{ContainerInspectResponse, ExecInspectResponse},
    query_parameters::InspectContainerOptions,
};
use futures_util::StreamExt as _;
use rustix::process::{Pid, Signal, getpgid, kill_process, kill_process_group};
use tokio::time::{sleep, timeout};

use super::{Engine, EngineError};

/// Most that is kept of what a command prints, in bytes; the last part.
const MAX_OUTPUT_BYTES: usize = 16 * 1024;
/// How often it is looked whether a command that was killed has ended, and after which pause.
const LOOKS: (u32, Duration) = (10, Duration::from_millis(50));

/// What came of a command in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Executed {
    /// It ended, with this exit code and this at the end of what it printed.
    Ended(Option<i64>, String),
    /// Its time was over first. The engine's id of it, if it got as far as to be made.
    Overdue(Option<String>),
}

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

    /// Runs a command in a container for at most `limit`.
    pub async fn execute(&self, container: &str, command: &[String], limit: Duration) -> Result<Executed, EngineError> {
        let mut made = None;
        match timeout(limit, self.run_in(container, command, &mut made)).await {
            Ok(ended) => ended.map(|(code, printed)| Executed::Ended(code, printed)),
            Err(_) => Ok(Executed::Overdue(made)),
        }
    }

    async fn run_in(
        &self,
        container: &str,
        command: &[String],
        made: &mut Option<String>,
    ) -> Result<(Option<i64>, String), EngineError> {
        let docker = self.docker()?;
        let failed = |e: bollard::errors::Error| self.error("run a command in a container", &e);
        let options = CreateExecOptions {
            cmd: Some(command.to_vec()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..CreateExecOptions::default()
        };
        let exec = docker.create_exec(container, options).await.map_err(failed)?;
        made.replace(exec.id.clone());
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

    /// Whether a command in a container is still at work. One that the engine does not know any more is not.
    pub async fn is_at_work(&self, exec: &str) -> Result<bool, EngineError> {
        Ok(self.at_work(exec).await?.is_some())
    }

    /// Ends a command in a container with what it started, as far as that is possible. The engine has no request for it: its
    /// process is killed, if it is one of this machine that the agent sees. Whether it has ended.
    pub async fn end(&self, exec: &str) -> Result<bool, EngineError> {
        let Some(found) = self.at_work(exec).await? else { return Ok(true) };
        if let (Some(pid), Some(container)) = (found.pid, found.container_id) {
            kill(pid, &container);
        }
        for _ in 0..LOOKS.0 {
            sleep(LOOKS.1).await;
            if !self.is_at_work(exec).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Ends what an earlier request left at work of a command in a container. Whether nothing of it is left.
    pub async fn end_command(&self, container: &str, command: &[String]) -> Result<bool, EngineError> {
        let mut is_over = true;
        for exec in self.inspected(container).await?.exec_ids.unwrap_or_default() {
            let Some(process) = self.at_work(&exec).await?.and_then(|found| found.process_config) else { continue };
            let words = process.entrypoint.into_iter().chain(process.arguments.unwrap_or_default());
            if words.eq(command.iter().cloned()) {
                is_over &= self.end(&exec).await?;
            }
        }
        Ok(is_over)
    }

    async fn at_work(&self, exec: &str) -> Result<Option<ExecInspectResponse>, EngineError> {
        match self.docker()?.inspect_exec(exec).await {
            Ok(found) => Ok(Some(found).filter(|found| found.running == Some(true))),
            Err(e) => match self.error("look at a command in a container", &e) {
                EngineError::NotFound(_) => Ok(None),
                other => Err(other),
            },
        }
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

/// Kills a process with its group, if it is in that container: a number that the engine gives means nothing to an agent that is
/// on another machine, or in a container that has its own.
fn kill(pid: i64, container: &str) {
    let Some(pid) = i32::try_from(pid).ok().filter(|pid| *pid > 1).and_then(Pid::from_raw) else { return };
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero())).unwrap_or_default();
    if !is_in(&groups, container) {
        return;
    }
    // The engine makes it the leader of a group. Whether it has ended is asked of the engine afterwards.
    let _ = match getpgid(Some(pid)) {
        Ok(group) if group == pid => kill_process_group(pid, Signal::KILL),
        _ => kill_process(pid, Signal::KILL),
    };
}

/// Whether a process with these control groups (`/proc/PID/cgroup`) is in the container with this id.
fn is_in(groups: &str, container: &str) -> bool {
    container.len() == 64 && groups.lines().any(|line| line.contains(container))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_process_of_that_container_is_killed() {
        let id = "7c1f".repeat(16);
        for line in ["0::/system.slice/docker-ID.scope", "12:pids:/docker/ID\n1:name=systemd:/docker/ID", "0::/../ID"] {
            assert!(is_in(&line.replace("ID", &id), &id), "{line}");
        }
        for other in ["0::/", "", "0::/user.slice"] {
            assert!(!is_in(other, &id), "{other}");
        }
        assert!(!is_in("0::/docker/7c1f", "7c1f"), "no short id");
        assert!(!is_in("0::/", ""));
    }
}
