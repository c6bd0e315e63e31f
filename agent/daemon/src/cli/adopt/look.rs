//! Looks at a server: what runs there, and what would become of it at each live root that comes into question.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use evenkeel_core::{adopt::roots, id::ReleaseId, reason::Code, release::Candidate};
use evenkeel_layout::{
    name::ServerName,
    problem::Severity,
    set::{Stack, StackSet},
};

use super::{AdoptedService, AdoptedStack, AtRoot, Document, Live, Other};
use crate::{
    cli::{
        output::{Failure, SCHEMA},
        repo::{self, Source},
    },
    compose::{Compose, renders::Renders},
    config::settings::Settings,
    engine::{Engine, EngineError, Started},
    host::{
        adoption,
        candidates::{CandidateInput, Place as RenderPlace, candidates},
    },
    tree::live::{LiveError, LiveTree, Shared, SliceChange},
};

/// Most live roots that are tried besides the configured one.
const MAX_ROOTS: usize = 3;

/// What of the server's configuration takes part; without one its defaults.
pub struct Place {
    socket: String,
    live: PathBuf,
    env: PathBuf,
    /// Folders of the agent that may not be in the live tree.
    own: Vec<PathBuf>,
    allowed: Vec<PathBuf>,
    identities: Option<PathBuf>,
    /// Whether other live roots are tried as well.
    tries: bool,
}

impl Place {
    /// What the settings say, `live` and `identities` before them.
    pub fn new(settings: Option<&Settings>, live: Option<PathBuf>, identities: Option<&Path>) -> Self {
        let identities = identities.map(Path::to_owned);
        let place = match settings {
            Some(settings) => {
                let paths = &settings.paths;
                Self {
                    socket: settings.engine.socket.clone(),
                    live: paths.live.clone(),
                    env: paths.env.clone(),
                    own: vec![paths.state.clone(), paths.env.clone(), paths.socket.clone()],
                    allowed: settings.engine.allow_host_paths.clone(),
                    identities: identities.or_else(|| settings.secrets.age_identities.clone()),
                    tries: live.is_none(),
                }
            }
            None => Self {
                socket: "unix:///var/run/docker.sock".to_owned(),
                live: "/srv/evenkeel".into(),
                env: "/etc/evenkeel/env".into(),
                own: vec!["/var/lib/evenkeel".into(), "/etc/evenkeel".into(), "/run/evenkeel".into()],
                allowed: Vec::new(),
                identities,
                tries: live.is_none(),
            },
        };
        Self { live: live.unwrap_or_else(|| place.live.clone()), ..place }
    }

    /// Whether a configuration may name this live root.
    fn may_be(&self, root: &str) -> bool {
        let is_in_state = self.own.first().is_some_and(|state| Path::new(root).starts_with(state));
        self.tries && !is_in_state && !self.own.iter().any(|own| own.starts_with(root))
    }
}

/// What is looked at.
struct Looking<'a> {
    source: &'a Source,
    server: &'a ServerName,
    set: &'a StackSet,
    place: &'a Place,
    compose: Compose,
    engine: Engine,
    started: Vec<Started>,
}

/// Looks at everything. Changes nothing.
pub async fn look(
    source: &Source,
    (server, set): (&ServerName, &StackSet),
    place: &Place,
) -> Result<Document, Failure> {
    let (compose, _) = repo::compose().await?;
    let engine = Engine::new(&place.socket);
    engine.version().await.map_err(|e| away(&e))?;
    let started = engine.started().await.map_err(|e| away(&e))?;
    let looking = Looking { source, server, set, place, compose, engine, started };
    let configured = place.live.display().to_string();
    let mut tried = vec![(configured.clone(), looking.at(&place.live).await?)];
    for root in looking.roots().into_iter().filter(|root| *root != configured && place.may_be(root)).take(MAX_ROOTS) {
        let stacks = looking.at(Path::new(&root)).await?;
        tried.push((root, stacks));
    }
    let at_each: Vec<AtRoot> = tried.iter().map(|(path, stacks)| AtRoot::of(path, stacks)).collect();
    let best = best(&at_each);
    let (best, stacks) = tried.swap_remove(best);
    let others = looking.others(&stacks);
    let live = Live { line: (best != configured).then(|| line(&best)), configured, best };
    Ok(Document {
        schema: SCHEMA,
        server: server.clone(),
        commit: source.commit(),
        live,
        roots: at_each,
        stacks,
        others,
    })
}

/// The root at which the most stays; of several the first, which is the configured one.
fn best(roots: &[AtRoot]) -> usize {
    let mut best = 0;
    for (n, root) in roots.iter().enumerate() {
        if root.taken_over > roots.get(best).map_or(0, |known| known.taken_over) {
            best = n;
        }
    }
    best
}

/// A line of `agent.yml`.
fn line(live: &str) -> String {
    let is_plain = live.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.'));
    // A JSON string is one of YAML.
    let path = if is_plain { live.to_owned() } else { serde_json::Value::from(live).to_string() };
    format!("paths: {{ live: {path} }}")
}

fn away(error: &EngineError) -> Failure {
    let help =
        "run it on the server, as somebody who may use the engine; `engine.socket` in agent.yml says where it listens";
    Failure::transient(Code::EngineUnreachable, error.to_string(), help)
}

impl Looking<'_> {
    /// The live roots that the folders of running stacks point at.
    fn roots(&self) -> Vec<String> {
        let folders: Vec<(&Stack, Vec<String>)> = self
            .set
            .stacks
            .iter()
            .filter_map(|stack| {
                Some((stack, self.told(stack.project.as_deref()?, |started| started.folder.as_deref())))
            })
            .collect();
        let found = roots(folders.iter().map(|(stack, folders)| (stack.directory(), folders.as_slice())));
        found.into_iter().map(|root| root.path).collect()
    }

    /// What the containers of a project tell of themselves, sorted, each thing once.
    fn told(&self, project: &str, what: impl Fn(&Started) -> Option<&str>) -> Vec<String> {
        let mine = self.started.iter().filter(|started| started.project.as_deref() == Some(project));
        let told: BTreeSet<String> = mine.filter_map(what).map(str::to_owned).collect();
        told.into_iter().collect()
    }

    /// The stacks as they would be with this live root.
    async fn at(&self, live: &Path) -> Result<Vec<AdoptedStack>, Failure> {
        // A folder of its own each time: environment files of the live root are copied into it.
        let prepared = self.source.prepare(&[(self.server.clone(), self.set.clone())], false)?;
        let (renders, commit) = (Renders::default(), self.source.commit());
        let made = candidates(CandidateInput {
            compose: &self.compose,
            renders: &renders,
            tree: self.source.tree(),
            set: self.set,
            server: self.server,
            commit: &commit,
            root: &prepared.root,
            target: live,
            env_dir: Some(&self.place.env),
            live: Some(live),
            committed: None,
            allowed: &self.place.allowed,
            identities: self.place.identities.as_deref(),
            place: RenderPlace::Server,
        })
        .await;
        let mut stacks = Vec::new();
        for stack in &self.set.stacks {
            let candidate = made.accepted.iter().find(|candidate| candidate.stack == stack.name);
            let problems =
                made.rejected.iter().filter(|(name, _)| *name == stack.name).flat_map(|(_, problems)| problems);
            let mut one = self.stack(stack, candidate);
            one.problems = problems.filter(|problem| problem.severity == Severity::Error).cloned().collect();
            if let Some(candidate) = candidate {
                self.judge(&mut one, live, candidate).await?;
                one.in_the_way = in_the_way(live, candidate)?;
            }
            stacks.push(one);
        }
        Ok(stacks)
    }

    fn stack(&self, stack: &Stack, candidate: Option<&Candidate>) -> AdoptedStack {
        let project = candidate.map(|candidate| candidate.project.clone()).or_else(|| stack.project.clone());
        let told = |what: fn(&Started) -> Option<&str>| {
            project.as_deref().map(|project| self.told(project, what)).unwrap_or_default()
        };
        let runs_as = self.runs_as(stack, project.as_deref());
        AdoptedStack {
            name: stack.name.clone(),
            runs_as,
            runs: self.started.iter().any(|started| started.project.is_some() && started.project == project),
            started_from: told(|started| started.folder.as_deref()),
            files: told(|started| started.files.as_deref()),
            services: Vec::new(),
            left_alone: Vec::new(),
            in_the_way: Vec::new(),
            problems: Vec::new(),
            project,
        }
    }

    /// Projects of no stack that were started from a folder which ends as this stack's does.
    fn runs_as(&self, stack: &Stack, project: Option<&str>) -> Vec<String> {
        let is_known = |name: &str| self.set.stacks.iter().any(|stack| stack.project.as_deref() == Some(name));
        let is_like = |folder: &str| {
            !stack.directory().is_empty() && !roots([(stack.directory(), [folder.to_owned()].as_slice())]).is_empty()
        };
        let like = self.started.iter().filter(|started| started.folder.as_deref().is_some_and(is_like));
        let names: BTreeSet<&str> = like.filter_map(|started| started.project.as_deref()).collect();
        let others = names.into_iter().filter(|name| Some(*name) != project && !is_known(name));
        others.map(str::to_owned).collect()
    }

    async fn judge(&self, stack: &mut AdoptedStack, live: &Path, candidate: &Candidate) -> Result<(), Failure> {
        let judged = adoption::judged(&self.engine, live, candidate).await.map_err(|e| away(&e))?;
        let names: BTreeMap<&str, &str> =
            self.started.iter().map(|started| (started.id.as_str(), started.name.as_str())).collect();
        let name = |id: &String| names.get(id.as_str()).map_or_else(|| id.clone(), |name| (*name).to_owned());
        stack.services = judged
            .into_iter()
            .map(|judged| AdoptedService {
                containers: judged.containers.iter().map(name).collect(),
                service: judged.service,
                change: judged.change,
                why: judged.differences,
            })
            .collect();
        let services = candidate.model.services();
        stack.left_alone = self.told(&candidate.project, |started| started.service.as_deref());
        stack.left_alone.retain(|service| !services.contains_key(service.as_str()));
        Ok(())
    }

    /// The containers of no stack.
    fn others(&self, stacks: &[AdoptedStack]) -> Vec<Other> {
        let is_ours = |started: &&Started| {
            stacks.iter().any(|stack| started.project.is_some() && stack.project == started.project)
        };
        let others = self.started.iter().filter(|started| !is_ours(started));
        let other = |started: &Started| Other {
            container: started.name.clone(),
            project: started.project.clone(),
            service: started.service.clone(),
            started_from: started.folder.clone(),
        };
        others.map(other).collect()
    }
}

/// The files of a stack that are in the live tree already, and not as its commit has them.
fn in_the_way(live: &Path, candidate: &Candidate) -> Result<Vec<String>, Failure> {
    let (none, shared, in_place) = (BTreeMap::new(), Shared::new(), BTreeSet::new());
    let change =
        SliceChange { to: &candidate.files, other: &none, release: ReleaseId(0), shared: &shared, in_place: &in_place };
    match LiveTree::new(live).check(&change) {
        Ok(()) => Ok(Vec::new()),
        Err(LiveError::Conflict(paths)) => Ok(paths.iter().map(|path| path.display().to_string()).collect()),
        Err(error) => Err(Failure::failed("live.unreadable", error.to_string(), "run it as root, as the agent does")),
    }
}
