//! The Docker engine, by its API: what runs, what happened, images, networks, volumes.
//!
//! Only tags, networks and what an interrupted Compose left are changed here, and containers told that a file changed; to make
//! and remove them is Compose's business. But where old and new containers of a service run side by side only their ids tell them
//! apart, which Compose does not go by: of these the ones that are not needed go here.

mod beside;
mod found;
mod images;
mod leftovers;
mod mounts;
pub mod own;
mod reach;
mod samples;
mod standing;
mod tell;
mod traces;

use std::{collections::HashMap, time::Duration};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    models::{ContainerSummary, ContainerSummaryStateEnum, NetworkCreateRequest},
    query_parameters::{InspectNetworkOptions, ListContainersOptions},
};
use evenkeel_core::{
    health::{Activity, Health},
    reason::{Code, Reason},
};

pub use beside::Attached;
pub use found::Started;
pub use leftovers::Mended;
pub use mounts::User;
pub use reach::Executed;
pub use samples::{Check, Happening, Tick};
pub use standing::Happened;

/// How long one answer may take, in seconds.
const TIMEOUT_S: u64 = 60;
/// The oldest engine API that has what is used here: Engine 20.10.
const MIN_API: (u32, u32) = (1, 41);
const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";

/// The engine did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// It does not answer.
    #[error("the Docker engine at {socket} does not answer ({why}); is it running? `systemctl status docker` tells")]
    Unreachable {
        /// Where it should listen.
        socket: String,
        /// What happened.
        why: String,
    },
    /// It is older than what is needed.
    #[error("the Docker engine at {socket} has API {found}; {}.{} (Engine 20.10) or later is needed", MIN_API.0, MIN_API.1)]
    TooOld {
        /// Where it listens.
        socket: String,
        /// Its API version.
        found: String,
    },
    /// There is no such thing.
    #[error("the Docker engine has no {0}")]
    NotFound(String),
    /// It refused or failed.
    #[error("the Docker engine failed to {what}: {why}")]
    Failed {
        /// What was asked.
        what: String,
        /// What it said.
        why: String,
    },
}

impl EngineError {
    /// Whether the engine could not be asked at all.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// The reason that is reported, with `code` unless the engine is away.
    pub fn reason(&self, code: Code) -> Reason {
        Reason::new(if self.is_unreachable() { Code::EngineUnreachable } else { code }, self.to_string())
    }
}

/// One container as the engine lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The engine's id.
    pub id: String,
    /// Its name, without the slash.
    pub name: String,
    /// Its Compose project.
    pub project: String,
    /// Its service.
    pub service: String,
    /// What it is doing. An exit code is that of the status text.
    pub activity: Activity,
    /// What its healthcheck says.
    pub health: Health,
}

/// The engine, wherever it listens. Connects for each question, so it may come and go.
#[derive(Debug, Clone)]
pub struct Engine {
    socket: String,
}

impl Engine {
    /// An engine at `unix:///…`.
    pub fn new(socket: &str) -> Self {
        Self { socket: socket.to_owned() }
    }

    fn docker(&self) -> Result<Docker, EngineError> {
        Docker::connect_with_unix(&self.socket, TIMEOUT_S, API_DEFAULT_VERSION).map_err(|e| self.error("connect", &e))
    }

    fn error(&self, what: &str, error: &bollard::errors::Error) -> EngineError {
        use bollard::errors::Error as E;
        match error {
            E::DockerResponseServerError { status_code: 404, message } => EngineError::NotFound(message.clone()),
            E::DockerResponseServerError { message, .. } | E::DockerStreamError { error: message } => {
                EngineError::Failed { what: what.to_owned(), why: message.clone() }
            }
            E::JsonDataError { .. } => EngineError::Failed {
                what: what.to_owned(),
                why: "its answer is not what the API documents".to_owned(),
            },
            other => EngineError::Unreachable { socket: self.socket.clone(), why: other.to_string() },
        }
    }

    /// Checks that the engine answers and is new enough. Gives its version.
    pub async fn version(&self) -> Result<String, EngineError> {
        let version = self.docker()?.version().await.map_err(|e| self.error("tell its version", &e))?;
        let api = version.api_version.unwrap_or_default();
        let parsed = api.split_once('.').and_then(|(a, b)| Some((a.parse::<u32>().ok()?, b.parse::<u32>().ok()?)));
        match parsed {
            Some(found) if found >= MIN_API => Ok(version.version.unwrap_or_default()),
            _ => Err(EngineError::TooOld { socket: self.socket.clone(), found: api }),
        }
    }

    /// All containers that Compose made, of every project, in one call; one-off `run` containers aside.
    pub async fn containers(&self) -> Result<Vec<Container>, EngineError> {
        self.list(vec![PROJECT.to_owned()]).await
    }

    /// The containers of one project.
    pub async fn project(&self, project: &str) -> Result<Vec<Container>, EngineError> {
        self.list(vec![format!("{PROJECT}={project}")]).await
    }

    async fn list(&self, labels: Vec<String>) -> Result<Vec<Container>, EngineError> {
        let mut found: Vec<Container> =
            self.summaries(labels).await?.into_iter().filter_map(|s| container(&s)).collect();
        found.sort_by(|a, b| (&a.project, &a.service, &a.name).cmp(&(&b.project, &b.service, &b.name)));
        Ok(found)
    }

    async fn summaries(&self, labels: Vec<String>) -> Result<Vec<ContainerSummary>, EngineError> {
        let options = ListContainersOptions {
            all: true,
            filters: Some(HashMap::from([("label".to_owned(), labels)])),
            ..ListContainersOptions::default()
        };
        self.docker()?.list_containers(Some(options)).await.map_err(|e| self.error("list containers", &e))
    }

    /// Whether a network of this name exists.
    pub async fn has_network(&self, name: &str) -> Result<bool, EngineError> {
        match self.docker()?.inspect_network(name, None::<InspectNetworkOptions>).await {
            Ok(_) => Ok(true),
            Err(e) => match self.error("look for a network", &e) {
                EngineError::NotFound(_) => Ok(false),
                other => Err(other),
            },
        }
    }

    /// Makes a bridge network.
    pub async fn create_network(&self, name: &str) -> Result<(), EngineError> {
        let request = NetworkCreateRequest { name: name.to_owned(), ..NetworkCreateRequest::default() };
        self.docker()?.create_network(request).await.map(drop).map_err(|e| self.error("make a network", &e))
    }

    /// Where a volume's data is on this machine, or `None` if there is no such volume.
    pub async fn volume_path(&self, name: &str) -> Result<Option<String>, EngineError> {
        match self.docker()?.inspect_volume(name).await {
            Ok(volume) => Ok(Some(volume.mountpoint)),
            Err(e) => match self.error("look for a volume", &e) {
                EngineError::NotFound(_) => Ok(None),
                other => Err(other),
            },
        }
    }

    /// Waits until the engine answers, asking again and again for at most `patience`.
    pub async fn wait(&self, patience: Duration) -> Result<String, EngineError> {
        let until = tokio::time::Instant::now() + patience;
        loop {
            match self.version().await {
                Err(e) if e.is_unreachable() && tokio::time::Instant::now() < until => {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                other => return other,
            }
        }
    }
}

fn container(summary: &ContainerSummary) -> Option<Container> {
    let labels = summary.labels.as_ref()?;
    if is_one_off(labels) {
        return None;
    }
    let status = summary.status.as_deref().unwrap_or_default();
    Some(Container {
        id: summary.id.clone()?,
        name: summary.names.iter().flatten().next().map(|n| n.trim_start_matches('/').to_owned())?,
        project: labels.get(PROJECT)?.clone(),
        service: labels.get(SERVICE)?.clone(),
        activity: activity(summary.state, status),
        health: health(status),
    })
}

/// Whether `docker compose run` made what has these labels.
fn is_one_off(labels: &HashMap<String, String>) -> bool {
    labels.get("com.docker.compose.oneoff").is_some_and(|v| v == "True")
}

fn activity(state: Option<ContainerSummaryStateEnum>, status: &str) -> Activity {
    use ContainerSummaryStateEnum as S;
    match state {
        Some(S::RUNNING) => Activity::Running,
        Some(S::RESTARTING) => Activity::Restarting,
        Some(S::PAUSED) => Activity::Paused,
        Some(S::CREATED) => Activity::Created,
        _ => Activity::Exited(exit_code(status).unwrap_or(-1)),
    }
}

/// The code in `Exited (137) 3 seconds ago`.
fn exit_code(status: &str) -> Option<i64> {
    status.split_once('(')?.1.split_once(')')?.0.parse().ok()
}

/// The word in `Up 3 seconds (healthy)`.
fn health(status: &str) -> Health {
    match status.rsplit_once('(').map(|(_, tail)| tail.trim_end_matches(')')) {
        Some("healthy") => Health::Healthy,
        Some("unhealthy") => Health::Unhealthy,
        Some("health: starting") => Health::Starting,
        _ => Health::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_text_is_read_as_the_engine_writes_it() {
        assert_eq!(health("Up 2 minutes (healthy)"), Health::Healthy);
        assert_eq!(health("Up 2 seconds (health: starting)"), Health::Starting);
        assert_eq!(health("Up 2 seconds"), Health::None);
        assert_eq!(health("Exited (0) 2 seconds ago"), Health::None);
        assert_eq!(exit_code("Exited (137) 2 seconds ago"), Some(137));
        assert_eq!(exit_code("Created"), None);
    }

    #[tokio::test]
    async fn an_engine_that_is_too_old_says_what_it_has_and_what_is_needed() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            let body = r#"{"Version":"19.03.15","ApiVersion":"1.40"}"#;
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        });
        let error = Engine::new(&format!("unix://{}", path.display())).version().await.unwrap_err();
        assert!(error.to_string().contains("has API 1.40; 1.41 (Engine 20.10) or later is needed"), "{error}");
    }

    #[tokio::test]
    async fn an_engine_that_is_away_is_unreachable_and_says_where() {
        let error = Engine::new("unix:///nowhere/docker.sock").containers().await.unwrap_err();
        assert!(error.is_unreachable());
        assert!(error.to_string().contains("unix:///nowhere/docker.sock"), "{error}");
    }
}
