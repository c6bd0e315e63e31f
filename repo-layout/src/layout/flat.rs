//! Stacks that are one file instead of a folder, and folders whose one file has a name of its own.

use crate::{
    compose,
    repo::{Repo, join, split},
    set::{Layer, Origin},
    tree::EntryKind,
    yaml::{self, Node},
};

/// The names of the flat stacks of a folder: `<x>.yml` and `<x>.yaml` with services in them.
pub(super) fn names(repo: &Repo<'_>, base: &str) -> Vec<String> {
    let mut names: Vec<String> = yaml_files(repo, base)
        .into_iter()
        .filter(|name| has_services(repo, &join(base, name)))
        .map(|name| stem(&name).to_owned())
        .filter(|stem| !stem.ends_with(".override"))
        .collect();
    names.dedup();
    names
}

/// The layers of the flat stack `name`: its file and an override beside it.
pub(super) fn layers(repo: &Repo<'_>, base: &str, name: &str, origin: Origin) -> Option<Vec<Layer>> {
    let flat = |end: &str| join(base, &format!("{name}{end}"));
    let main = ["yaml", "yml"].into_iter().map(|end| flat(&format!(".{end}"))).find(|path| repo.has_file(path))?;
    let over =
        ["yml", "yaml"].into_iter().map(|end| flat(&format!(".override.{end}"))).find(|path| repo.has_file(path));
    Some([Some(main), over].into_iter().flatten().map(|path| Layer::new(path, origin)).collect())
}

/// The one Compose file of a folder that has none with a usual name, such as `web/web.compose.yaml`.
pub(super) fn only_file(repo: &Repo<'_>, dir: &str) -> Option<String> {
    let folder = split(dir).1;
    let is_meant = |name: &String| stem(name) == folder || name.contains("compose");
    let mut found: Vec<String> = yaml_files(repo, dir)
        .into_iter()
        .filter(is_meant)
        .filter(|name| has_services(repo, &join(dir, name)))
        .collect();
    let first = found.pop()?;
    found.is_empty().then(|| join(dir, &first))
}

fn stem(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

fn yaml_files(repo: &Repo<'_>, dir: &str) -> Vec<String> {
    let is_yaml = |name: &str| matches!(name.rsplit_once('.'), Some((_, "yml" | "yaml")));
    let files = repo.entries(dir).into_iter().filter(|e| matches!(e.kind, EntryKind::File { .. }));
    files.map(|e| e.name).filter(|name| is_yaml(name) && !compose::MAIN_FILES.contains(&name.as_str())).collect()
}

/// Whether a file has services. One that cannot be read may have some, and is told of when it is read as a layer.
fn has_services(repo: &Repo<'_>, path: &str) -> bool {
    let Some(bytes) = repo.read(path) else { return false };
    let Ok(documents) = yaml::decode(&bytes).and_then(yaml::parse) else { return true };
    documents.iter().any(|d| matches!(d.get("services"), Some(Node::Map(_))))
}
