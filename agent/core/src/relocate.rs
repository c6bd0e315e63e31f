//! A layer's relative paths, written so that they mean the same in another folder.
//!
//! Compose resolves the relative paths of all its `-f` files beside the first of them. A higher layer that lies elsewhere is
//! given to Compose as a copy in which each relative path begins with the way to its own folder. Only these paths are
//! touched, at the places in the text where they stand: everything else, tags and comments too, stays byte for byte, and
//! Compose does the merging.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_layout::yaml::{self, Node, Step, value_offset};

/// Most paths of one file that are looked up; each costs a parse of the file up to it.
const MAX_PATHS: usize = 2_000;
/// Most that all look-ups of one file may parse, in bytes.
const MAX_PARSED: usize = 256 * 1024 * 1024;

/// Why a layer cannot be given to Compose in another folder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RelocateError {
    /// Too many paths for its size.
    #[error("it has too many relative paths for its size: split the file")]
    TooMuch,
    /// Several documents in one file.
    #[error("it has relative paths and more than one document: make it one document")]
    Documents,
    /// A path that is written in a way that cannot be changed in place.
    #[error("line {line}: write this path on one line, in quotes")]
    Written {
        /// From 1.
        line: usize,
    },
}

/// What a path stands in: that decides how Compose reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A file or folder.
    Path,
    /// `SOURCE:TARGET`, where a source without a dot or slash in front is a volume.
    Volume,
    /// What is built from or taken in: a file or folder, or something remote.
    Context,
    /// `NAME=CONTEXT`.
    NamedContext,
}

/// A place where Compose resolves a relative path.
struct Place<'a> {
    steps: Vec<Step<'a>>,
    text: &'a str,
    kind: Kind,
}

/// The paths of a file that begin with a variable: whether they are relative, Compose has to say.
pub fn variable_paths(text: &str) -> BTreeSet<String> {
    let documents = yaml::parse(text).unwrap_or_default();
    documents.iter().flat_map(places).map(|place| place.text.to_owned()).filter(|text| text.starts_with('$')).collect()
}

/// The text of a layer in `own` as it has to be in `target`, both folders of the repository. `values` has what the paths that
/// begin with a variable come to; one that is not there stays as it is. A text that is no YAML stays, too: Compose says what is
/// wrong with it.
pub fn relocate(
    text: &str,
    own: &str,
    target: &str,
    values: &BTreeMap<String, String>,
) -> Result<String, RelocateError> {
    let way = way(target, own);
    let documents = yaml::parse(text).unwrap_or_default();
    let relative = |place: &Place<'_>| {
        let resolved = values.get(place.text).map_or(place.text, String::as_str);
        !resolved.starts_with('$') && is_relative(resolved, place.kind)
    };
    let found: Vec<Place<'_>> = documents.iter().flat_map(places).filter(relative).collect();
    if way.is_empty() || found.is_empty() {
        return Ok(text.to_owned());
    }
    if documents.len() > 1 {
        return Err(RelocateError::Documents);
    }
    if found.len() > MAX_PATHS || found.len().saturating_mul(text.len()) > MAX_PARSED {
        return Err(RelocateError::TooMuch);
    }
    // What several aliases bring stands in one place.
    let edits: BTreeMap<usize, Place<'_>> =
        found.into_iter().filter_map(|place| Some((value_offset(text, &place.steps)?, place))).collect();
    let mut out = text.to_owned();
    for (offset, place) in edits.iter().rev() {
        edit(&mut out, *offset, place, &way)?;
    }
    Ok(out)
}

/// The way from one folder to another, with a dot in front and a slash at the end; empty if they are the same.
fn way(from: &str, to: &str) -> String {
    let parts = |path: &str| path.split('/').filter(|p| !p.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let (from, to) = (parts(from), parts(to));
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    if common == from.len() && common == to.len() {
        return String::new();
    }
    let ups = from.len() - common;
    let mut way = if ups == 0 { "./".to_owned() } else { "../".repeat(ups) };
    for part in to.iter().skip(common) {
        way.push_str(&part.replace('$', "$$"));
        way.push('/');
    }
    way
}

fn is_relative(path: &str, kind: Kind) -> bool {
    let remote = || {
        path.contains("://")
            || ["git@", "github.com/", "service:", "docker-image:", "target:"]
                .iter()
                .any(|start| path.starts_with(start))
    };
    match kind {
        Kind::Volume => path.starts_with('.') && path.contains(':'),
        Kind::Path => !path.is_empty() && !path.starts_with(['/', '~']),
        Kind::Context => !path.is_empty() && !path.starts_with(['/', '~']) && !remote(),
        Kind::NamedContext => path.split_once('=').is_some_and(|(_, context)| is_relative(context, Kind::Context)),
    }
}

/// Puts the way in front of the path that stands at an offset of the text.
fn edit(text: &mut String, offset: usize, place: &Place<'_>, way: &str) -> Result<(), RelocateError> {
    let start = skip_properties(text, offset);
    // Of `NAME=PATH` the path begins behind the sign.
    let behind = |text: &str| if place.kind == Kind::NamedContext { text.find('=').map_or(0, |at| at + 1) } else { 0 };
    let rest = &text[start..];
    if let Some(inner) = rest.strip_prefix('"') {
        let at = start + 1 + behind(inner);
        text.insert_str(at, &way.replace('\\', "\\\\").replace('"', "\\\""));
    } else if let Some(inner) = rest.strip_prefix('\'') {
        let at = start + 1 + behind(inner);
        text.insert_str(at, &way.replace('\'', "''"));
    } else if rest.starts_with(place.text) && !place.text.contains('\n') {
        // A plain value may not hold everything that a folder's name may: it gets quotes, as JSON writes them.
        let (before, path) = place.text.split_at(behind(place.text));
        let quoted = serde_json::Value::String(format!("{before}{way}{path}")).to_string();
        text.replace_range(start..start + place.text.len(), &quoted);
    } else {
        return Err(RelocateError::Written { line: text[..start].matches('\n').count() + 1 });
    }
    Ok(())
}

/// The offset behind the tags and anchors of a value.
fn skip_properties(text: &str, offset: usize) -> usize {
    let mut at = offset;
    while text[at..].starts_with(['!', '&']) {
        let rest = &text[at..];
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        at += rest.len() - rest[end..].trim_start().len();
    }
    at
}

/// Every place of a document where Compose resolves a relative path, by way of merge keys too.
fn places(document: &Node) -> Vec<Place<'_>> {
    let mut found = Vec::new();
    let root = At { steps: Vec::new(), node: document };
    for service in root.at("services").iter().flat_map(At::children) {
        service_places(&service, &mut found);
    }
    for section in ["configs", "secrets"] {
        for entry in root.at(section).iter().flat_map(At::children) {
            entry.add("file", Kind::Path, &mut found);
        }
    }
    for volume in root.at("volumes").iter().flat_map(At::children) {
        for options in volume.at("driver_opts") {
            if options.node.get("o").and_then(Node::as_str).is_some_and(|o| o.contains("bind")) {
                options.add("device", Kind::Path, &mut found);
            }
        }
    }
    for include in root.at("include").iter().flat_map(At::each) {
        include.add_self(Kind::Context, &mut found);
        include.add("path", Kind::Context, &mut found);
        include.add("project_directory", Kind::Path, &mut found);
        include.add("env_file", Kind::Path, &mut found);
    }
    found
}

fn service_places<'a>(service: &At<'a>, found: &mut Vec<Place<'a>>) {
    for key in ["env_file", "label_file"] {
        service.add(key, Kind::Path, found);
        for entry in service.at(key).iter().flat_map(At::each) {
            entry.add("path", Kind::Path, found);
        }
    }
    for extends in service.at("extends") {
        extends.add("file", Kind::Context, found);
    }
    for build in service.at("build") {
        build.add_self(Kind::Context, found);
        build.add("context", Kind::Context, found);
        for contexts in build.at("additional_contexts") {
            if matches!(contexts.node, Node::List(_)) {
                contexts.each().iter().for_each(|one| one.add_self(Kind::NamedContext, found));
            }
            contexts.children().iter().for_each(|one| one.add_self(Kind::Context, found));
        }
    }
    for watch in service.at("develop").iter().flat_map(|develop| develop.at("watch")).flat_map(|watch| watch.each()) {
        watch.add("path", Kind::Path, found);
    }
    for volume in service.at("volumes").iter().flat_map(At::each) {
        volume.add_self(Kind::Volume, found);
        let is_bind = volume.at("type").iter().any(|kind| kind.node.as_str() == Some("bind"));
        if is_bind {
            volume.add("source", Kind::Path, found);
        }
    }
}

/// A value and the way to it.
struct At<'a> {
    steps: Vec<Step<'a>>,
    node: &'a Node,
}

impl<'a> At<'a> {
    fn below(&self, step: Step<'a>, node: &'a Node) -> Self {
        Self { steps: self.steps.iter().copied().chain([step]).collect(), node }
    }

    /// The values at a key: its own, and those that merge keys bring.
    fn at(&self, key: &'a str) -> Vec<Self> {
        let own = self.node.get(key).map(|node| self.below(Step::Key(key), node));
        own.into_iter().chain(self.merged().iter().flat_map(|merged| merged.at(key))).collect()
    }

    fn merged(&self) -> Vec<Self> {
        self.node.get(MERGE).map(|node| self.below(Step::Key(MERGE), node).each()).unwrap_or_default()
    }

    /// The values of a mapping, those that merge keys bring too.
    fn children(&self) -> Vec<Self> {
        let own = self.node.entries().iter().filter(|(key, _)| key != MERGE);
        let own = own.map(|(key, node)| self.below(Step::Key(key), node));
        own.chain(self.merged().iter().flat_map(Self::children)).collect()
    }

    /// The items of a list, or the one value that stands for a list of one.
    fn each(&self) -> Vec<Self> {
        if let Node::List(items) = self.node {
            return items.iter().enumerate().map(|(at, node)| self.below(Step::Index(at), node)).collect();
        }
        vec![Self { steps: self.steps.clone(), node: self.node }]
    }

    /// Adds the text here.
    fn add_self(&self, kind: Kind, found: &mut Vec<Place<'a>>) {
        if let Some(text) = self.node.as_str() {
            found.push(Place { steps: self.steps.clone(), text, kind });
        }
    }

    /// Adds the text, or the texts of the list, at a key.
    fn add(&self, key: &'a str, kind: Kind, found: &mut Vec<Place<'a>>) {
        self.at(key).iter().flat_map(Self::each).for_each(|one| one.add_self(kind, found));
    }
}

/// The key that takes over what other mappings have.
const MERGE: &str = "<<";

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(text: &str) -> String {
        let values = [("${REL}/x:/x".to_owned(), "./d/x:/x".to_owned()), ("${ABS}:/y".to_owned(), "/d:/y".to_owned())];
        relocate(text, "servers/home/my $x", "shared/web", &values.into()).unwrap()
    }

    #[test]
    fn every_relative_path_gets_the_way_to_its_own_folder() {
        let text = r#"include: [a.yml, {path: [b.yml], project_directory: ., env_file: c.env}]
services:
  web:
    build: {context: ., additional_contexts: [x=./y, z=docker-image://z]}
    env_file: !override ["a.env", {path: 'b.env'}]
    extends: {file: base.yml, service: web}
    volumes:
      - ./d:/d # kept
      - &v "./e:/e"
      - data:/data
      - /abs:/abs
      - ${REL}/x:/x
      - ${ABS}:/y
      - {type: bind, source: rel, target: /r}
      - {type: volume, source: rel, target: /r}
  api: {build: https://example.org/x.git, volumes: [*v]}
configs: {c: {file: ./c, mode: 0444}}
volumes: {data: {driver_opts: {o: bind, device: ./data}}}
"#;
        let want = r#"include: ["../../servers/home/my $$x/a.yml", {path: ["../../servers/home/my $$x/b.yml"], project_directory: "../../servers/home/my $$x/.", env_file: "../../servers/home/my $$x/c.env"}]
services:
  web:
    build: {context: "../../servers/home/my $$x/.", additional_contexts: ["x=../../servers/home/my $$x/./y", z=docker-image://z]}
    env_file: !override ["../../servers/home/my $$x/a.env", {path: '../../servers/home/my $$x/b.env'}]
    extends: {file: "../../servers/home/my $$x/base.yml", service: web}
    volumes:
      - "../../servers/home/my $$x/./d:/d" # kept
      - &v "../../servers/home/my $$x/./e:/e"
      - data:/data
      - /abs:/abs
      - "../../servers/home/my $$x/${REL}/x:/x"
      - ${ABS}:/y
      - {type: bind, source: "../../servers/home/my $$x/rel", target: /r}
      - {type: volume, source: rel, target: /r}
  api: {build: https://example.org/x.git, volumes: [*v]}
configs: {c: {file: "../../servers/home/my $$x/./c", mode: 0444}}
volumes: {data: {driver_opts: {o: bind, device: "../../servers/home/my $$x/./data"}}}
"#;
        assert_eq!(moved(text), want);
    }

    #[test]
    fn merge_keys_and_aliases_are_followed_to_where_the_path_stands() {
        let uses = "services:\n  web: {<<: [*a, *b]}\n  api:\n    <<: *a\n";
        let text = format!("x-a: &a\n  env_file: a.env\nx-b: &b {{volumes: [./x:/x]}}\n{uses}");
        let want = format!("x-a: &a\n  env_file: \"../w/a.env\"\nx-b: &b {{volumes: [\"../w/./x:/x\"]}}\n{uses}");
        assert_eq!(relocate(&text, "w", "v", &BTreeMap::new()).unwrap(), want);
        assert_eq!(relocate(&text, "w", "w", &BTreeMap::new()).unwrap(), text);
    }

    #[test]
    fn paths_that_begin_with_a_variable_are_left_to_be_asked_for() {
        let text = "services: {a: {volumes: ['${V}/x:/x', './$V:/y', v:/z], env_file: $E, image: $I}}\n";
        assert_eq!(variable_paths(text).into_iter().collect::<Vec<_>>(), ["$E", "${V}/x:/x"]);
    }

    #[test]
    fn what_cannot_be_changed_in_place_is_refused_with_its_line() {
        let folded = "services:\n  a:\n    env_file: >-\n      a.env\n";
        assert_eq!(relocate(folded, "w", "v", &BTreeMap::new()), Err(RelocateError::Written { line: 3 }));
        let documents = "services: {a: {env_file: a.env}}\n---\nservices: {}\n";
        assert_eq!(relocate(documents, "w", "v", &BTreeMap::new()), Err(RelocateError::Documents));
        assert_eq!(relocate("a: [", "w", "v", &BTreeMap::new()), Ok("a: [".to_owned()));
    }
}
