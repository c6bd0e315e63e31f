//! The answer: a server's stack set.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::{
    gate::GateSpec,
    name::StackName,
    problem::{Problem, Severity},
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
    /// Stacks that must be committed before this one.
    pub depends_on: Vec<StackName>,
    /// What the stack says of its health gate; unset fields take the server's values.
    #[serde(skip)]
    pub gate: GateSpec,
    /// When deployments may begin; `None`: as the server's configuration has it.
    #[serde(skip)]
    pub window: Option<Window>,
}

impl Stack {
    /// The folder of the first layer: Compose's project directory, `""` for the root.
    pub fn directory(&self) -> &str {
        self.layers.first().and_then(|l| l.path.rsplit_once('/')).map_or("", |(dir, _)| dir)
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
