//! What the health gate looks at: samples of a project's containers, the stream of their events, the end of a log.

use std::{collections::HashMap, time::Duration};

use bollard::{
    container::LogOutput,
    models::{ContainerInspectResponse, ContainerStateStatusEnum, EventMessage, HealthStatusEnum},
    query_parameters::{EventsOptions, InspectContainerOptions, LogsOptions},
};
use evenkeel_core::health::{Activity, ContainerSample, Health};
use futures_util::{StreamExt as _, stream::BoxStream};
use tokio::time::timeout;

use super::{Container, Engine, EngineError, PROJECT};

/// Events that can change a verdict. Healthchecks themselves flood the stream with `exec_*`.
const EVENTS: [&str; 9] = ["create", "start", "die", "stop", "kill", "oom", "health_status", "destroy", "unpause"];
/// Most of a log line that is shown.
const MAX_LINE: usize = 300;

/// Something happened to a container. What a look a moment later may not show any more is kept, with the container's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tick {
    /// One of its processes was killed for want of memory; it may run on as if nothing had been.
    OutOfMemory(String),
    /// Its process ended with this exit code; it may have been started again.
    Died(String, i64),
    /// Anything else.
    Other,
}

impl Engine {
    /// All containers of a project, inspected; each with when the last of its healthchecks that ended began, in milliseconds
    /// of the engine's clock.
    pub async fn samples(&self, project: &str) -> Result<Vec<(ContainerSample, Option<i64>)>, EngineError> {
        let mut samples = Vec::new();
        for container in self.project(project).await? {
            let docker = self.docker()?;
            match docker.inspect_container(&container.id, None::<InspectContainerOptions>).await {
                Ok(found) => samples.push((sample(container, &found), last_check(&found))),
                Err(e) => match self.error("inspect a container", &e) {
                    EngineError::NotFound(_) => {} // gone between the list and now
                    other => return Err(other),
                },
            }
        }
        Ok(samples)
    }

    /// Ticks whenever something happens to a container of the project. Ends when the engine goes away.
    pub fn events(&self, project: &str) -> Result<BoxStream<'static, Tick>, EngineError> {
        let filters = HashMap::from([
            ("type".to_owned(), vec!["container".to_owned()]),
            ("event".to_owned(), EVENTS.map(str::to_owned).to_vec()),
            ("label".to_owned(), vec![format!("{PROJECT}={project}")]),
        ]);
        let docker = self.docker()?;
        let options = EventsOptions { filters: Some(filters), ..EventsOptions::default() };
        let happened = docker.events(Some(options)).take_while(|event| std::future::ready(event.is_ok()));
        Ok(happened.map(|event| event.ok().and_then(tick).unwrap_or(Tick::Other)).boxed())
    }

    /// What a container's healthcheck said last, as one line without control characters; `None` if it said nothing.
    pub async fn healthcheck_said(&self, container: &str) -> Option<String> {
        let found = self.docker().ok()?.inspect_container(container, None::<InspectContainerOptions>).await.ok()?;
        let output = found.state?.health?.log?.pop()?.output?;
        let line: String = output.split_whitespace().collect::<Vec<_>>().join(" ");
        let line: String = line.chars().filter(|c| !c.is_control()).take(MAX_LINE).collect();
        (!line.is_empty()).then_some(line)
    }

    /// Waits until nothing has happened to a project for `still`, but no longer than `patience`.
    pub async fn quiet(&self, project: &str, still: Duration, patience: Duration) -> Result<(), EngineError> {
        let mut events = self.events(project)?;
        let until_quiet = async { while let Ok(Some(_)) = timeout(still, events.next()).await {} };
        // Patience at its end is no error: what still happens is then not Compose's doing.
        let _ = timeout(patience, until_quiet).await;
        Ok(())
    }

    /// The last lines that a container printed, without control characters. Empty if they cannot be had.
    pub async fn log_tail(&self, container: &str, lines: u32) -> Vec<String> {
        let Ok(docker) = self.docker() else { return Vec::new() };
        let options = LogsOptions { stdout: true, stderr: true, tail: lines.to_string(), ..LogsOptions::default() };
        let chunks: Vec<_> = docker.logs(container, Some(options)).take(1000).collect().await;
        let text: Vec<u8> = chunks.into_iter().flatten().flat_map(LogOutput::into_bytes).collect();
        String::from_utf8_lossy(&text)
            .lines()
            .map(|line| line.chars().filter(|c| !c.is_control()).take(MAX_LINE).collect::<String>())
            .filter(|line| !line.trim().is_empty())
            .collect()
    }
}

fn tick(event: EventMessage) -> Option<Tick> {
    let actor = event.actor?;
    match event.action.as_deref()? {
        "oom" => Some(Tick::OutOfMemory(actor.id?)),
        "die" => Some(Tick::Died(actor.id?, actor.attributes?.get("exitCode")?.parse().ok()?)),
        _ => None,
    }
}

fn last_check(found: &ContainerInspectResponse) -> Option<i64> {
    let checks = found.state.as_ref()?.health.as_ref()?.log.as_ref()?;
    let began: jiff::Timestamp = checks.last()?.start.as_ref()?.parse().ok()?;
    Some(began.as_millisecond())
}

fn sample(container: Container, found: &ContainerInspectResponse) -> ContainerSample {
    let state = found.state.as_ref();
    let exit = state.and_then(|s| s.exit_code).unwrap_or(-1);
    let activity = match state.and_then(|s| s.status) {
        Some(ContainerStateStatusEnum::RUNNING) => Activity::Running,
        Some(ContainerStateStatusEnum::RESTARTING) => Activity::Restarting,
        Some(ContainerStateStatusEnum::PAUSED) => Activity::Paused,
        Some(ContainerStateStatusEnum::CREATED) => Activity::Created,
        _ => Activity::Exited(exit),
    };
    let health = match state.and_then(|s| s.health.as_ref()).and_then(|h| h.status) {
        Some(HealthStatusEnum::HEALTHY) => Health::Healthy,
        Some(HealthStatusEnum::UNHEALTHY) => Health::Unhealthy,
        Some(HealthStatusEnum::STARTING) => Health::Starting,
        _ => Health::None,
    };
    let runs = activity == Activity::Running;
    ContainerSample {
        service: container.service,
        id: container.id,
        name: container.name,
        activity,
        health,
        restarts: found.restart_count.and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
        // While it runs, the engine may speak of the time before.
        oom_killed: !runs && state.and_then(|s| s.oom_killed).unwrap_or(false),
        exit_code: (!runs && activity != Activity::Created).then_some(exit),
        probe: None,
    }
}
