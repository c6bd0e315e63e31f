//! The answer: a server's stack set.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::{
    drift,
    gate::GateSpec,
    name::{GroupName, StackName},
    problem::{Problem, Severity},
    reload::{OnChange, Reload},
    window::Window,
};

/// How a repository is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LayoutKind {
    /// Shared, local and server layers.
    Servers,
    /// One stack a folder under `stacks/`, or at the root.
    Stacks,
    /// Stacks in folders under a host's folder.
    Hosts,
    /// One project merged from files at the root.
    Root,
    /// A root stack and one for each site.
    Sites,
    /// Stated stack by stack in `evenkeel.yml`.
    Explicit,
}

/// Where a layer comes from; later variants override earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Shared between servers.
    Shared,
    /// One server's own stack.
    Local,
    /// A server's own last layer.
    Server,
    /// A stack's folder.
    Folder,
    /// The repository's root.
    Root,
    /// Named in `evenkeel.yml`.
    Explicit,
}

/// One Compose file of a stack, lowest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Layer {
    /// Path from the repository's root.
    pub path: String,
    /// Where it comes from.
    pub origin: Origin,
    /// The folder in which its relative paths are resolved, `""` for the root.
    #[serde(skip)]
    pub directory: String,
}

impl Layer {
    /// A file whose relative paths are resolved beside itself.
    pub fn new(path: impl Into<String>, origin: Origin) -> Self {
        let path = path.into();
        let directory = path.rsplit_once('/').map_or("", |(dir, _)| dir).to_owned();
        Self { path, origin, directory }
    }

    /// The same file with relative paths that are resolved in `directory`.
    #[must_use]
    pub fn based(self, directory: &str) -> Self {
        Self { directory: directory.to_owned(), ..self }
    }
}

/// One stack of one server: what will be one Compose project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stack {
    /// Its name.
    pub name: StackName,
    /// The Compose project, or `None` while it can only be known once variables have values.
    pub project: Option<String>,
    /// Its Compose files, lowest first; never empty.
    pub layers: Vec<Layer>,
    /// Environment files in the repository for interpolation, lowest first.
    pub env_files: Vec<String>,
    /// Variables that a server's list gives to the stack, below all environment files. Their values are not shown.
    #[serde(skip)]
    pub defaults: BTreeMap<String, String>,
    /// Compose profiles that are active; empty leaves it to `COMPOSE_PROFILES` in the environment files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// Services that a layer defines and another stack has: they are taken out of this one.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub without: BTreeSet<String>,
    /// The project's name with variables, where a higher layer would give it another.
    #[serde(skip)]
    pub named: Option<String>,
    /// Files whose change recreates the stack's services, besides those that they mount.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub watched: Vec<String>,
    /// Stacks that must be committed before this one.
    pub depends_on: Vec<StackName>,
    /// The stacks that it moves with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupName>,
    /// What the stack says of its health gate; unset fields take the server's values.
    #[serde(skip)]
    pub gate: GateSpec,
    /// When deployments may begin; `None`: as the server's configuration has it.
    #[serde(skip)]
    pub window: Option<Window>,
    /// What is done about drift; `None`: as the server's configuration has it.
    #[serde(skip)]
    pub drift: Option<drift::Mode>,
    /// The script in the repository that the gate runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<String>,
    /// What a change in a file that a service mounts does to it.
    #[serde(skip)]
    pub on_change: OnChange,
    /// Services that get a signal instead, by name.
    #[serde(skip)]
    pub reloads: BTreeMap<String, Reload>,
}

impl Stack {
    /// A stack of these layers of which nothing else is known.
    pub fn new(name: StackName, layers: Vec<Layer>) -> Self {
        Self {
            name,
            project: None,
            layers,
            env_files: Vec::new(),
            defaults: BTreeMap::new(),
            profiles: Vec::new(),
            without: BTreeSet::new(),
            named: None,
            watched: Vec::new(),
            depends_on: Vec::new(),
            group: None,
            gate: GateSpec::default(),
            window: None,
            drift: None,
            health_check: None,
            on_change: OnChange::default(),
            reloads: BTreeMap::new(),
        }
    }

    /// Where the first layer's relative paths are resolved: Compose's project directory, `""` for the root.
    pub fn directory(&self) -> &str {
        self.layers.first().map_or("", |l| &l.directory)
    }

    /// The paths of the layers, lowest first.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.layers.iter().map(|l| l.path.as_str())
    }
}

/// A server's stacks, sorted by name, and what was found wrong on the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StackSet {
    /// The layout that was recognised.
    pub layout: LayoutKind,
    /// Sorted by name.
    pub stacks: Vec<Stack>,
    /// Sorted.
    pub problems: Vec<Problem>,
}

impl StackSet {
    /// Whether the set as a whole is not to be acted on: an error that names no stack. Then nothing is taken for
    /// removed, since what is missing may only be unreadable.
    pub fn is_broken(&self) -> bool {
        self.errors().any(|problem| problem.stack.is_none())
    }

    /// The names in errors: these keep the release that they have. Some may be in no stack of the set, as a name in a
    /// list without a folder.
    pub fn rejected(&self) -> BTreeSet<&str> {
        self.errors().filter_map(|problem| problem.stack.as_deref()).collect()
    }

    fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|problem| problem.severity == Severity::Error)
    }
}
