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

/// The last of a container's healthchecks that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// When it began, in milliseconds of the engine's clock.
    pub began_ms: i64,
    /// Whether it ended with 0.
    pub is_good: bool,
}

/// A tick with its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happening {
    /// In milliseconds since 1970, by the engine's clock.
    pub at_ms: i64,
    /// What happened.
    pub tick: Tick,
}

impl Engine {
    /// All containers of a project, inspected; each with the last of its healthchecks that ended.
    pub async fn samples(&self, project: &str) -> Result<Vec<(ContainerSample, Option<Check>)>, EngineError> {
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

    /// Ticks whenever something happens to a container of the project, and for what happened since `since_ms`, as far as the
    /// engine still knows it. Ends when the engine goes away.
    pub fn events(&self, project: &str, since_ms: Option<i64>) -> Result<BoxStream<'static, Happening>, EngineError> {
        let filters = HashMap::from([
            ("type".to_owned(), vec!["container".to_owned()]),
            ("event".to_owned(), EVENTS.map(str::to_owned).to_vec()),
            ("label".to_owned(), vec![format!("{PROJECT}={project}")]),
        ]);
        let docker = self.docker()?;
        let options =
            EventsOptions { since: since_ms.map(seconds), filters: Some(filters), ..EventsOptions::default() };
        let happened = docker.events(Some(options)).take_while(|event| std::future::ready(event.is_ok()));
        Ok(happened.filter_map(|event| std::future::ready(event.ok().map(happening))).boxed())
    }

    /// What a container's healthcheck said last, as it said it: it may repeat secrets. `None` if that cannot be had.
    pub async fn healthcheck_said(&self, container: &str) -> Option<String> {
        let found = self.docker().ok()?.inspect_container(container, None::<InspectContainerOptions>).await.ok()?;
        found.state?.health?.log?.pop()?.output
    }

    /// Waits until nothing has happened to a project for `still`, but no longer than `patience`.
    pub async fn quiet(&self, project: &str, still: Duration, patience: Duration) -> Result<(), EngineError> {
        let mut events = self.events(project, None)?;
        let until_quiet = async { while let Ok(Some(_)) = timeout(still, events.next()).await {} };
        // Patience at its end is no error: what still happens is then not Compose's doing.
        let _ = timeout(patience, until_quiet).await;
        Ok(())
    }

    /// The last lines that a container printed, as it printed them: they may repeat secrets. Empty if they cannot be had.
    pub async fn log_tail(&self, container: &str, lines: u32) -> String {
        let Ok(docker) = self.docker() else { return String::new() };
        let options = LogsOptions { stdout: true, stderr: true, tail: lines.to_string(), ..LogsOptions::default() };
        let chunks: Vec<_> = docker.logs(container, Some(options)).take(1000).collect().await;
        let text: Vec<u8> = chunks.into_iter().flatten().flat_map(LogOutput::into_bytes).collect();
        String::from_utf8_lossy(&text).into_owned()
    }
}

fn happening(event: EventMessage) -> Happening {
    Happening { at_ms: at_ms(&event), tick: tick(event).unwrap_or(Tick::Other) }
}

/// When something happened, in milliseconds since 1970.
pub(super) fn at_ms(event: &EventMessage) -> i64 {
    event.time_nano.unwrap_or_default() / 1_000_000
}

/// A time in milliseconds as the engine takes it: in seconds, with nine digits after the point.
pub(super) fn seconds(ms: i64) -> String {
    format!("{}.{:03}000000", ms.div_euclid(1000), ms.rem_euclid(1000))
}

fn tick(event: EventMessage) -> Option<Tick> {
    let actor = event.actor?;
    match event.action.as_deref()? {
        "oom" => Some(Tick::OutOfMemory(actor.id?)),
        "die" => Some(Tick::Died(actor.id?, actor.attributes?.get("exitCode")?.parse().ok()?)),
        _ => None,
    }
}

fn last_check(found: &ContainerInspectResponse) -> Option<Check> {
    let check = found.state.as_ref()?.health.as_ref()?.log.as_ref()?.last()?;
    let began: jiff::Timestamp = check.start.as_ref()?.parse().ok()?;
    Some(Check { began_ms: began.as_millisecond(), is_good: check.exit_code == Some(0) })
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
