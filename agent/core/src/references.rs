//! Which other files a Compose file reads while it is rendered: these are gone from the rendered model.

use std::collections::BTreeSet;

use evenkeel_layout::{
    set::Layer,
    tree::{Tree, TreeError},
    yaml::{self, Node},
};

use crate::path::{Followed, Place, follow, join, parent, resolve};

/// Most files that are followed; `include` and `extends` of real repositories stay far below.
const MAX_FILES: usize = 256;

/// How a file is referred to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReferenceKind {
    /// `include`: another Compose file.
    Include,
    /// `extends` with a file: another Compose file.
    Extends,
    /// `env_file` of a service or of an include: variables.
    EnvFile,
    /// `label_file` of a service: labels.
    LabelFile,
}

impl ReferenceKind {
    /// The key in a Compose file.
    pub fn key(self) -> &'static str {
        match self {
            Self::Include => "include",
            Self::Extends => "extends",
            Self::EnvFile => "env_file",
            Self::LabelFile => "label_file",
        }
    }
}

/// One reference, resolved as far as that is possible without variables.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// How.
    pub kind: ReferenceKind,
    /// The Compose file that has it, from the repository's root.
    pub file: String,
    /// The line it is on, if it can be told.
    pub line: Option<u32>,
    /// As written.
    pub written: String,
    /// Where it is in the repository; `None` if outside, remote, or not to be told because of a variable.
    pub path: Option<String>,
    /// Whether it leads out of the repository, whatever the variables.
    pub outside: bool,
    /// Whether the file must be there.
    pub required: bool,
}

/// What is read while layers are rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reads {
    /// What they refer to. Files that cannot be parsed refer to nothing: Compose says what is wrong with them.
    pub references: BTreeSet<Reference>,
    /// Every file of the repository that takes part, those that are not there too: what is referred to, and the `.env` that
    /// Compose looks for in each folder where it does. `None` if that cannot be told: because of a variable, because something
    /// lies outside, or because a file cannot be parsed here.
    pub inputs: Option<BTreeSet<String>>,
}

/// Follows everything that `layers` read when they are rendered.
pub fn reads(tree: &dyn Tree, layers: &[Layer]) -> Result<Reads, TreeError> {
    let Walk { found, seen, is_whole } = walk(tree, layers)?;
    let is_told = is_whole && found.iter().all(|reference| reference.path.is_some());
    let inputs = is_told.then(|| {
        let read = seen.into_iter().flat_map(|(file, base)| [file, join(&base, ".env")]);
        read.chain(found.iter().filter_map(|reference| reference.path.clone())).collect()
    });
    Ok(Reads { references: found, inputs })
}

/// Only what `layers` refer to.
pub fn references(tree: &dyn Tree, layers: &[Layer]) -> Result<BTreeSet<Reference>, TreeError> {
    Ok(walk(tree, layers)?.found)
}

/// What a walk through Compose files came upon.
struct Walk {
    found: BTreeSet<Reference>,
    /// The files that were read, each with the folder in which its relative paths are resolved.
    seen: BTreeSet<(String, String)>,
    /// Whether every file was read.
    is_whole: bool,
}

fn walk(tree: &dyn Tree, layers: &[Layer]) -> Result<Walk, TreeError> {
    let (mut found, mut is_whole) = (BTreeSet::new(), true);
    let mut seen: BTreeSet<(String, String)> = BTreeSet::new();
    let mut open: Vec<(String, String)> = layers.iter().map(|l| (l.path.clone(), l.directory.clone())).collect();
    while let Some((file, base)) = open.pop() {
        is_whole &= seen.len() < MAX_FILES;
        if seen.len() >= MAX_FILES || !seen.insert((file.clone(), base.clone())) {
            continue;
        }
        let Some(bytes) = read_through(tree, &file)? else {
            is_whole = false;
            continue;
        };
        let parsed = yaml::decode(&bytes).and_then(|text| Ok((text, yaml::parse(text)?)));
        let Ok((text, documents)) = parsed else {
            is_whole = false;
            continue;
        };
        for raw in documents.iter().flat_map(read) {
            let reference = raw.resolve(&file, &base, text);
            if let (true, Some(path)) = (raw.is_compose_file(), &reference.path) {
                match raw.folder(&base, path) {
                    Place::Inside(beside) => open.push((path.clone(), beside)),
                    Place::Outside => is_whole = false,
                }
            }
            found.insert(reference);
        }
    }
    Ok(Walk { found, seen, is_whole })
}

/// A file's content, through symlinks within the tree.
fn read_through(tree: &dyn Tree, path: &str) -> Result<Option<Vec<u8>>, TreeError> {
    match follow(tree, path)? {
        Followed::To(target) => tree.read(&target),
        Followed::Outside | Followed::Circle => Ok(None),
    }
}

/// In which folder the relative paths of an included or extended file are resolved.
enum Folder {
    /// In the file's own.
    Own,
    /// In the one that an include states as its `project_directory`.
    Stated(String),
    /// In that of this file, the first one of an include with several: the others are laid over it.
    Of(String),
}

struct Raw {
    kind: ReferenceKind,
    written: String,
    /// What says where its own relative paths are resolved.
    folder: Folder,
    required: bool,
}

impl Raw {
    fn new(kind: ReferenceKind, written: &str) -> Self {
        Self { kind, written: written.to_owned(), folder: Folder::Own, required: true }
    }

    /// The folder for a file at `path` that was referred to from `base`.
    fn folder(&self, base: &str, path: &str) -> Place {
        match &self.folder {
            Folder::Own => Place::Inside(parent(path).to_owned()),
            Folder::Stated(directory) => resolve(base, directory),
            // What a variable stands for is not known here.
            Folder::Of(first) if first.contains('$') => Place::Outside,
            Folder::Of(first) => match resolve(base, first) {
                Place::Inside(first) => Place::Inside(parent(&first).to_owned()),
                Place::Outside => Place::Outside,
            },
        }
    }

    fn is_compose_file(&self) -> bool {
        matches!(self.kind, ReferenceKind::Include | ReferenceKind::Extends)
    }

    fn resolve(&self, file: &str, base: &str, text: &str) -> Reference {
        let remote = self.is_compose_file() && (self.written.contains("://") || self.written.starts_with("git@"));
        let place = resolve(base, &self.written);
        // A variable may stand for anything, `..` too: Compose resolves it where nothing but the repository is.
        let variable = self.written.contains('$');
        let outside = remote || (place == Place::Outside && !self.written.starts_with('$'));
        let path = match place {
            Place::Inside(path) if !remote && !variable => Some(path),
            Place::Inside(_) | Place::Outside => None,
        };
        Reference {
            kind: self.kind,
            file: file.to_owned(),
            line: line_of(text, &self.written),
            written: self.written.clone(),
            path,
            outside,
            required: self.required,
        }
    }
}

/// The first line that has this text, from 1.
pub(crate) fn line_of(text: &str, needle: &str) -> Option<u32> {
    let index = text.lines().position(|line| line.contains(needle))?;
    u32::try_from(index + 1).ok()
}

fn read(document: &Node) -> Vec<Raw> {
    let mut found = Vec::new();
    for entry in items(get(document, "include")) {
        if let Some(path) = entry.as_str() {
            found.push(Raw::new(ReferenceKind::Include, path));
            continue;
        }
        let stated = get(entry, "project_directory").and_then(Node::as_str);
        let files: Vec<&str> = items(get(entry, "path")).filter_map(Node::as_str).collect();
        for path in &files {
            let folder = match stated {
                Some(directory) => Folder::Stated(directory.to_owned()),
                None => Folder::Of(files[0].to_owned()),
            };
            found.push(Raw { folder, ..Raw::new(ReferenceKind::Include, path) });
        }
        found.extend(paths(get(entry, "env_file"), ReferenceKind::EnvFile));
    }
    for service in get(document, "services").map(values).unwrap_or_default() {
        if let Some(path) = get(service, "extends").and_then(|e| get(e, "file")).and_then(Node::as_str) {
            found.push(Raw::new(ReferenceKind::Extends, path));
        }
        found.extend(paths(get(service, "env_file"), ReferenceKind::EnvFile));
        found.extend(paths(get(service, "label_file"), ReferenceKind::LabelFile));
    }
    found
}

/// A path, or a list of paths and of mappings with a `path`.
fn paths(value: Option<&Node>, kind: ReferenceKind) -> impl Iterator<Item = Raw> {
    items(value).filter_map(move |item| {
        let path = item.as_str().or_else(|| get(item, "path").and_then(Node::as_str))?;
        let required = get(item, "required").and_then(Node::as_str) != Some("false");
        Some(Raw { required, ..Raw::new(kind, path) })
    })
}

/// The items of a list, or the one value that stands for a list of one.
fn items(value: Option<&Node>) -> impl Iterator<Item = &Node> {
    let list = value.map(Node::items).unwrap_or_default();
    let single = value.filter(|v| !matches!(v, Node::List(_)));
    list.iter().chain(single)
}

/// The value at a key, also where merge keys bring it.
fn get<'a>(value: &'a Node, key: &str) -> Option<&'a Node> {
    value.get(key).or_else(|| items(value.get(MERGE)).find_map(|merged| get(merged, key)))
}

/// The values of a mapping, with those that merge keys bring.
fn values(value: &Node) -> Vec<&Node> {
    let own = value.entries().iter().filter(|(key, _)| key != MERGE).map(|(_, value)| value);
    own.chain(items(value.get(MERGE)).flat_map(values)).collect()
}

/// The key that brings the keys of other mappings.
const MERGE: &str = "<<";

#[cfg(test)]
mod tests {
    use evenkeel_layout::{set::Origin, tree::MapTree};

    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<(String, Option<String>, bool, Option<u32>)> {
        let tree = MapTree::new(files.iter().copied());
        let all = references(&tree, &[Layer::new("stacks/web/compose.yml", Origin::Folder)]).unwrap();
        all.into_iter().map(|r| (r.written, r.path, r.outside, r.line)).collect()
    }

    #[test]
    fn follows_includes_and_extends_and_lists_what_they_read() {
        let files = [
            (
                "stacks/web/compose.yml",
                "include:\n  - ../common/x.yml\nservices:\n  a:\n    extends: {file: base.yml, service: b}\n    env_file: !override [a.env, {path: ./b.env, required: false}]\n",
            ),
            ("stacks/common/x.yml", "services:\n  c:\n    env_file: c.env\n"),
            ("stacks/web/base.yml", "services:\n  b:\n    label_file: l\n"),
        ];
        let paths: Vec<_> = found(&files).into_iter().filter_map(|(_, path, ..)| path).collect();
        assert_eq!(
            paths,
            [
                "stacks/common/x.yml",
                "stacks/web/base.yml",
                "stacks/common/c.env",
                "stacks/web/b.env",
                "stacks/web/a.env",
                "stacks/web/l"
            ]
        );
    }

    #[test]
    fn tells_what_need_not_be_there() {
        let text = "services:\n  a:\n    env_file: [a.env, {path: b.env, required: false}, {path: c.env}]\n";
        let tree = MapTree::new([("x.yml", text)]);
        let all = references(&tree, &[Layer::new("x.yml", Origin::Root)]).unwrap();
        let optional: Vec<_> = all.into_iter().filter(|r| !r.required).map(|r| r.written).collect();
        assert_eq!(optional, ["b.env"]);
    }

    #[test]
    fn sees_what_a_merge_key_brings() {
        let text = "x-a: &a {env_file: a.env}\nservices:\n  a:\n    <<: *a\n  b:\n    <<: [*a]\n";
        assert_eq!(found(&[("stacks/web/compose.yml", text)]).len(), 1);
        for text in [
            "x-a: &a {env_file: a.env}\nx-b: &b {<<: *a}\nservices:\n  a:\n    <<: *b\n",
            "x-all: &all {a: {env_file: a.env}}\nservices:\n  <<: *all\n",
            "x-all: &all {services: {a: {env_file: a.env}}}\n<<: *all\n",
        ] {
            assert_eq!(found(&[("stacks/web/compose.yml", text)])[0].1.as_deref(), Some("stacks/web/a.env"), "{text}");
        }
    }

    #[test]
    fn an_include_of_several_files_has_its_paths_beside_the_first() {
        let files = [
            ("stacks/web/compose.yml", "include: [{path: [a/x.yml, b/deep/y.yml]}]\n"),
            ("stacks/web/a/x.yml", "services: {x: {env_file: x.env}}\n"),
            ("stacks/web/b/deep/y.yml", "services: {y: {env_file: [y.env, ../../../../h.env]}}\n"),
        ];
        let read: Vec<_> = found(&files).into_iter().filter(|(written, ..)| written.ends_with("env")).collect();
        let expected = [
            ("x.env", Some("stacks/web/a/x.env"), false),
            ("../../../../h.env", None, true),
            ("y.env", Some("stacks/web/a/y.env"), false),
        ];
        let read: Vec<_> = read.iter().map(|(text, path, out, _)| (text.as_str(), path.as_deref(), *out)).collect();
        assert_eq!(read, expected);
    }

    #[test]
    fn inputs_are_all_files_that_may_be_read_or_are_not_told() {
        let told = |files: &[(&str, &str)]| {
            reads(&MapTree::new(files.iter().copied()), &[Layer::new("stacks/web/compose.yml", Origin::Folder)])
                .unwrap()
                .inputs
        };
        let text = "include: [{path: ../x/y.yml, project_directory: ../z}]\nservices: {a: {env_file: a.env}}\n";
        let found = told(&[("stacks/web/compose.yml", text), ("stacks/x/y.yml", "services: {b: {env_file: b.env}}\n")]);
        let expected = [
            "stacks/web/.env",
            "stacks/web/a.env",
            "stacks/web/compose.yml",
            "stacks/x/y.yml",
            "stacks/z/.env",
            "stacks/z/b.env",
        ];
        assert_eq!(
            found.map(|paths| paths.into_iter().collect::<Vec<_>>()),
            Some(expected.map(str::to_owned).to_vec())
        );
        for text in [
            "services: {a: {env_file: '${FILE}'}}\n",
            "services: {a: {env_file: '~/a.env'}}\n",
            "services: {a: {env_file: /etc/a.env}}\n",
            "include: [{path: a.yml, project_directory: ../../..}]\n",
            "services: [\n",
        ] {
            assert_eq!(told(&[("stacks/web/compose.yml", text)]), None, "{text}");
        }
    }

    #[test]
    fn tells_what_leads_out_of_the_repository() {
        let text = "include: ['https://example.org/x.git']\nservices:\n  a:\n    env_file:\n      - ../../../x\n      - /etc/y\n      - ${V}/z\n";
        let outside: Vec<_> = found(&[("stacks/web/compose.yml", text)])
            .into_iter()
            .filter(|(_, _, outside, _)| *outside)
            .map(|(written, _, _, line)| (written, line))
            .collect();
        assert_eq!(
            outside,
            [
                ("https://example.org/x.git".to_owned(), Some(1)),
                ("../../../x".to_owned(), Some(5)),
                ("/etc/y".to_owned(), Some(6))
            ]
        );
    }
}
