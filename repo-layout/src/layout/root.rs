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
const ELSEWHERE: &[&str] = &["ci", "dev", "local", "override", "prod", "staging", "test"];

/// The one stack.
pub(super) fn find(repo: &Repo<'_>) -> Vec<Draft> {
    let mut layers = repo.compose_files("", Origin::Root);
    let Some(main) = layers.first().map(|layer| layer.path.clone()) else { return Vec::new() };
    let stem = main.split('.').next().unwrap_or_default();
    for entry in repo.entries("") {
        let part = entry.name.strip_prefix(stem).and_then(|rest| rest.strip_prefix('.'));
        let part = part.and_then(|rest| rest.strip_suffix(".yml").or_else(|| rest.strip_suffix(".yaml")));
        let Some(first) = part.and_then(|part| part.split('.').next()) else { continue };
        if matches!(entry.kind, EntryKind::File { .. }) && !ELSEWHERE.contains(&first) {
            layers.push(Layer { path: entry.name, origin: Origin::Root });
        }
    }
    vec![Draft::new(NAME, layers)]
}
