//! Layout `root`: one project, merged from a file at the root and its parts beside it.

use super::Draft;
use crate::{
    repo::Repo,
    set::{Layer, Origin},
    tree::EntryKind,
};

/// The stack's name.
const NAME: &str = "root";

/// Parts for other places than a server.
const ELSEWHERE: &[&str] = &[
    "build",
    "ci",
    "debug",
    "dev",
    "development",
    "e2e",
    "example",
    "local",
    "override",
    "prod",
    "production",
    "sample",
    "staging",
    "template",
    "test",
    "testing",
];

/// The one stack. A `COMPOSE_FILE` beside it names its parts.
pub(super) fn find(repo: &Repo<'_>) -> Option<Draft> {
    let mut layers = repo.compose_files("", Origin::Root);
    let main = layers.first().map(|layer| layer.path.clone())?;
    let stem = main.split('.').next().unwrap_or_default();
    let parts = if repo.chosen_files("").is_some() { Vec::new() } else { repo.entries("") };
    for entry in parts {
        let part = entry.name.strip_prefix(stem).and_then(|rest| rest.strip_prefix('.'));
        let part = part.and_then(|rest| rest.strip_suffix(".yml").or_else(|| rest.strip_suffix(".yaml")));
        let Some(part) = part else { continue };
        let elsewhere = part.split('.').any(|word| ELSEWHERE.contains(&word));
        if matches!(entry.kind, EntryKind::File { .. }) && !elsewhere {
            layers.push(Layer::new(entry.name, Origin::Root));
        }
    }
    Some(Draft::new(NAME, layers))
}
