//! What drift looks at: how containers stand, which networks there are, and who stopped what.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bollard::{
    models::{ContainerSummary, EventMessage},
    query_parameters::{EventsOptions, ListNetworksOptions},
};
use evenkeel_core::{drift::Standing, id::ImageId};
use futures_util::{StreamExt as _, stream::BoxStream};

use super::{
    Engine, EngineError, PROJECT, container,
    samples::{at_ms, seconds},
};

/// Compose says here from which files it made a container.
const MADE_FROM: &str = "com.docker.compose.project.config_files";
/// Events after which a server may have drifted, or may have stopped to.
const EVENTS: [&str; 10] =
    ["create", "start", "die", "stop", "kill", "destroy", "pause", "unpause", "update", "disconnect"];
/// Signals that end a process; with others people only tell it something.
const ENDING: [&str; 4] = ["15", "9", "2", "3"];

/// Something happened to a container that Compose made, or to a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// Somebody asked the engine to stop a container.
    Stopped {
        /// Its project.
        project: String,
        /// The engine's id.
        container: String,
    },
    /// A container was started.
    Started {
        /// The engine's id.
        container: String,
    },
    /// Anything else that is worth a look.
    Other,
}

impl Engine {
    /// All containers that Compose made, by project.
    pub async fn standing(&self) -> Result<BTreeMap<String, Vec<Standing>>, EngineError> {
        let mut by_project: BTreeMap<String, Vec<Standing>> = BTreeMap::new();
        for summary in self.summaries(vec![PROJECT.to_owned()]).await? {
            if let Some((project, standing)) = standing(&summary) {
                by_project.entry(project).or_default().push(standing);
            }
        }
        Ok(by_project)
    }

    /// The names of all networks.
    pub async fn networks(&self) -> Result<BTreeSet<String>, EngineError> {
        let found = self.docker()?.list_networks(None::<ListNetworksOptions>).await;
        let found = found.map_err(|e| self.error("list networks", &e))?;
        Ok(found.into_iter().filter_map(|network| network.name).collect())
    }

    /// What happened since `since_ms`, as far as the engine still knows it, and from now on; each with its time in milliseconds
    /// since 1970, by the engine's clock. Ends when the engine goes away.
    pub fn happenings(&self, since_ms: i64) -> Result<BoxStream<'static, (i64, Happened)>, EngineError> {
        let mut events = EVENTS.map(str::to_owned).to_vec();
        events.push("remove".to_owned()); // of networks
        let filters = HashMap::from([
            ("type".to_owned(), vec!["container".to_owned(), "network".to_owned()]),
            ("event".to_owned(), events),
        ]);
        let options =
            EventsOptions { since: Some(seconds(since_ms)), filters: Some(filters), ..EventsOptions::default() };
        let stream = self.docker()?.events(Some(options));
        let happened = stream.take_while(|event| std::future::ready(event.is_ok()));
        let timed = |event: EventMessage| Some((at_ms(&event), happened_of(&event)?));
        Ok(happened.filter_map(move |event| std::future::ready(event.ok().and_then(timed))).boxed())
    }
}

fn standing(summary: &ContainerSummary) -> Option<(String, Standing)> {
    let found = container(summary)?;
    let made_from = summary.labels.as_ref().and_then(|labels| labels.get(MADE_FROM)).cloned();
    let standing = Standing {
        service: found.service,
        id: found.id,
        name: found.name,
        activity: found.activity,
        image: ImageId(summary.image_id.clone()?),
        made_from,
        stopped_by_person: false,
    };
    Some((found.project, standing))
}

fn happened_of(event: &EventMessage) -> Option<Happened> {
    let actor = event.actor.as_ref()?;
    if event.typ.as_ref().is_some_and(|kind| kind.as_ref() == "network") {
        return Some(Happened::Other);
    }
    let attributes = actor.attributes.as_ref()?;
    let project = attributes.get(PROJECT)?.clone();
    let container = actor.id.clone()?;
    let ends = || attributes.get("signal").is_none_or(|signal| ENDING.contains(&signal.as_str()));
    Some(match event.action.as_deref()? {
        "stop" => Happened::Stopped { project, container },
        "kill" if ends() => Happened::Stopped { project, container },
        "start" => Happened::Started { container },
        _ => Happened::Other,
    })
}
