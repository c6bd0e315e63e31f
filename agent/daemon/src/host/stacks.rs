//! The stack set of a commit, as `evenkeel stacks` and the API tell it.

use std::path::Path;

use evenkeel_core::id::CommitId;
use evenkeel_layout::{
    LayoutConfig,
    name::ServerName,
    problem::Problem,
    set::{LayoutKind, Stack, StackSet},
    stack_set,
};
use serde::Serialize;

use crate::git::{GitError, Repo};

/// The shape's version.
const SCHEMA: u32 = 1;

/// Which stacks a server has, and from which files.
#[derive(Debug, Serialize)]
pub struct Stacks {
    /// The shape's version.
    pub schema: u32,
    /// The server.
    pub server: String,
    /// How the repository is laid out.
    pub layout: LayoutKind,
    /// Sorted by name.
    pub stacks: Vec<Stack>,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

impl Stacks {
    /// What a set tells of a server.
    pub fn new(server: &ServerName, set: StackSet) -> Self {
        let StackSet { layout, stacks, problems } = set;
        Self { schema: SCHEMA, server: server.to_string(), layout, stacks, problems }
    }

    /// The stacks that `commit` of the mirror has for a server, whose configuration may say how it is read. Reads the mirror: call it where blocking is allowed.
    pub fn of_commit(
        mirror: &Path,
        commit: &CommitId,
        server: &ServerName,
        layout: Option<&LayoutConfig>,
    ) -> Result<Self, GitError> {
        let tree = Repo::open(mirror)?.tree(commit)?;
        Ok(Self::new(server, stack_set(&tree, server, layout)))
    }
}
