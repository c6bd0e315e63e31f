//! What somebody else started: containers as the engine tells of them, and from where they were started.

use std::collections::BTreeMap;

use bollard::query_parameters::{InspectContainerOptions, ListContainersOptions};
use evenkeel_core::adopt::{Found, OF_ENGINE};
use serde_json::Value;

use super::{
    Engine, EngineError, PROJECT, SERVICE, is_one_off,
    traces::{CONFIG_FILES, WORKING_DIR},
};

/// A container of whoever started it, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// The engine's id.
    pub id: String,
    /// Its name, without the slash.
    pub name: String,
    /// Its Compose project, if it has one.
    pub project: Option<String>,
    /// Its service, if it has one.
    pub service: Option<String>,
    /// The folder from which Compose was run, if it says so.
    pub folder: Option<String>,
    /// The files that Compose made it from, if it says so.
    pub files: Option<String>,
}

impl Engine {
    /// All containers, of Compose and of others; those of `docker compose run` aside. Sorted by project, service and name.
    pub async fn started(&self) -> Result<Vec<Started>, EngineError> {
        let options = ListContainersOptions { all: true, ..ListContainersOptions::default() };
        let found = self.docker()?.list_containers(Some(options)).await;
        let found = found.map_err(|e| self.error("list containers", &e))?;
        let mut started: Vec<Started> = found
            .into_iter()
            .filter_map(|container| {
                let labels = container.labels.unwrap_or_default();
                let label = |name: &str| labels.get(name).filter(|value| !value.is_empty()).cloned();
                if is_one_off(&labels) {
                    return None;
                }
                Some(Started {
                    id: container.id?,
                    name: container.names.iter().flatten().next()?.trim_start_matches('/').to_owned(),
                    project: label(PROJECT),
                    service: label(SERVICE),
                    folder: label(WORKING_DIR),
                    files: label(CONFIG_FILES),
                })
            })
            .collect();
        started.sort_by(|a, b| (&a.project, &a.service, &a.name).cmp(&(&b.project, &b.service, &b.name)));
        Ok(started)
    }

    /// The containers of a project with all that the engine tells of them, and what their images bring.
    pub async fn found(&self, project: &str) -> Result<Vec<Found>, EngineError> {
        let mut images: BTreeMap<String, Value> = BTreeMap::new();
        let mut found = Vec::new();
        let engine = self.by_itself().await?;
        for container in self.project(project).await? {
            let inspected = self.docker()?.inspect_container(&container.id, None::<InspectContainerOptions>).await;
            let inspected = match inspected.map_err(|e| self.error("inspect a container", &e)) {
                Ok(inspected) => json(&inspected),
                Err(EngineError::NotFound(_)) => continue, // gone between the list and now
                Err(other) => return Err(other),
            };
            let id = inspected["Image"].as_str().unwrap_or_default().to_owned();
            if !images.contains_key(&id) {
                images.insert(id.clone(), self.image_config(&id).await?);
            }
            let image = images.get(&id).cloned().unwrap_or_default();
            let started_ms = started_ms(&inspected["State"]["StartedAt"]);
            let (service, name) = (container.service, container.name);
            let engine = engine.clone();
            found.push(Found { service, id: container.id, name, started_ms, inspected, image, engine });
        }
        Ok(found)
    }

    /// What the engine does by itself with containers of which nothing else is said.
    async fn by_itself(&self) -> Result<Value, EngineError> {
        let info = self.docker()?.info().await.map_err(|e| self.error("ask the engine what it is", &e))?;
        let info = json(&info);
        Ok(OF_ENGINE.iter().map(|key| ((*key).to_owned(), info[*key].clone())).collect())
    }

    /// What an image brings to its containers; null if it is gone.
    async fn image_config(&self, id: &str) -> Result<Value, EngineError> {
        match self.docker()?.inspect_image(id).await {
            Ok(image) => Ok(image.config.as_ref().map(json).unwrap_or_default()),
            Err(e) => match self.error("look for an image", &e) {
                EngineError::NotFound(_) => Ok(Value::Null),
                other => Err(other),
            },
        }
    }
}

/// The engine writes the year 1 for never.
fn started_ms(at: &Value) -> Option<i64> {
    let at: jiff::Timestamp = at.as_str()?.parse().ok()?;
    Some(at.as_millisecond()).filter(|ms| *ms > 0)
}

/// As the API has it. What has no JSON form equals nothing.
fn json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}
