//! A stack's files as they are written: where a finding stands, and whether a value can be judged here at all.

use std::{cell::Cell, collections::BTreeSet};

use evenkeel_layout::{
    set::Layer,
    tree::{Tree, TreeError},
    yaml::{self, Node, Step},
};

use crate::references::{Reference, ReferenceKind, references};

/// Finding a line parses its file again. So many bytes are parsed for the lines of one stack; past it, findings have no line.
const MAX_LOOKED_UP: usize = 32 * 1024 * 1024;

/// One file.
pub struct SourceFile {
    /// From the repository's root.
    pub path: String,
    /// Its text; empty if it is not UTF-8.
    pub text: String,
    documents: Vec<Node>,
}

/// Everything of one stack that people write.
pub struct Sources {
    /// Compose files: what the layers take in first, then the layers, lowest first.
    pub compose: Vec<SourceFile>,
    /// Environment files of the repository, whether for interpolation or for a service.
    pub env: Vec<SourceFile>,
    set: BTreeSet<String>,
    left: Cell<usize>,
}

/// Where something stands.
pub type At = (String, Option<u32>);

impl Sources {
    /// Reads the files of a stack: its layers, what these refer to, and its environment files.
    pub fn read(tree: &dyn Tree, layers: &[Layer], env_files: &[String]) -> Result<Self, TreeError> {
        let found: BTreeSet<Reference> = references(tree, layers)?;
        let of = |kinds: &[ReferenceKind]| -> Vec<String> {
            found.iter().filter(|r| kinds.contains(&r.kind)).filter_map(|r| r.path.clone()).collect()
        };
        let mut compose = of(&[ReferenceKind::Include, ReferenceKind::Extends]);
        compose.retain(|path| !layers.iter().any(|layer| layer.path == *path));
        compose.extend(layers.iter().map(|layer| layer.path.clone()));
        let mut env = env_files.to_vec();
        env.extend(of(&[ReferenceKind::EnvFile]));
        let mut sources = Self {
            compose: files(tree, compose)?,
            env: files(tree, env)?,
            set: BTreeSet::new(),
            left: Cell::new(MAX_LOOKED_UP),
        };
        sources.set = sources.env.iter().flat_map(|file| variables(&file.text)).map(|v| v.name.to_owned()).collect();
        Ok(sources)
    }

    /// Where `steps` stand: in the file that has most of them, of several the highest, whose word is the last.
    pub fn place(&self, steps: &[Step<'_>]) -> Option<At> {
        let depth = |file: &SourceFile| file.documents.iter().map(|d| depth(d, steps)).max().unwrap_or(0);
        let best = self.compose.iter().map(depth).max().filter(|depth| *depth > 0)?;
        let file = self.compose.iter().rev().find(|file| depth(file) == best)?;
        let steps = &written(file, &steps[..best])?;
        let left = self.left.get().checked_sub(file.text.len() + 100);
        self.left.set(left.unwrap_or(0));
        Some((file.path.clone(), left.and_then(|_| yaml::line_of(&file.text, steps))))
    }

    /// Where a service's key stands, or else the service.
    pub fn of_service(&self, service: &str, key: &[Step<'_>]) -> Option<At> {
        let names = self.names(service);
        let has = |name: &str| self.compose.iter().any(|f| f.has(&below(name, key)));
        let exact = names.iter().find(|name| has(name));
        self.place(&below(exact.map_or(service, String::as_str), key))
    }

    /// Where an item of a service's list or mapping stands, found by what is written there.
    pub fn of_item(&self, service: &str, key: &str, is_it: impl Fn(&str) -> bool) -> Option<At> {
        for name in self.names(service) {
            let steps = [Step::Key("services"), Step::Key(&name), Step::Key(key)];
            for file in self.compose.iter().rev() {
                let Some(node) = file.get(&steps) else { continue };
                let at = if let Node::Map(entries) = node {
                    entries.iter().find(|(k, _)| is_it(k)).map(|(k, _)| Step::Key(k))
                } else {
                    node.items().iter().position(|item| is_it(&text_of(item))).map(Step::Index)
                };
                if let Some(step) = at {
                    let steps = [&steps[..], &[step]].concat();
                    let line = written(file, &steps).and_then(|steps| yaml::line_of(&file.text, &steps));
                    return Some((file.path.clone(), line));
                }
            }
        }
        self.of_service(service, &[Step::Key(key)])
    }

    /// What is written for a key of a service, in every file, highest first.
    pub fn written<'a>(&'a self, service: &str, key: &'a str) -> Vec<&'a Node> {
        let mut found = Vec::new();
        for name in self.names(service) {
            let steps = [Step::Key("services"), Step::Key(&name), Step::Key(key)];
            found.extend(self.compose.iter().rev().filter_map(|file| file.get(&steps)));
        }
        found
    }

    /// Whether what is written for a key uses a variable that has no value here, so that only the server can tell.
    pub fn is_undecided(&self, service: &str, key: &str) -> bool {
        self.written(service, key).iter().any(|node| self.has_unset(&text_of(node)))
    }

    /// Whether a text uses a variable without default that is set in no environment file of the repository.
    pub fn has_unset(&self, text: &str) -> bool {
        used(text).iter().any(|name| !self.set.contains(*name))
    }

    /// The text that is written at a place, in the highest file that has it.
    pub fn top_level(&self, steps: &[Step<'_>]) -> Option<String> {
        self.compose.iter().rev().find_map(|file| file.get(steps)).map(text_of)
    }

    /// The names under which a service stands in the files: its own, and those that it extends.
    fn names(&self, service: &str) -> Vec<String> {
        let mut names = vec![service.to_owned()];
        let mut at = 0;
        while at < names.len() && names.len() < 32 {
            let steps = [Step::Key("services"), Step::Key(&names[at]), Step::Key("extends")];
            let nodes = self.compose.iter().filter_map(|file| file.get(&steps));
            let more = nodes.filter_map(|node| node.get("service").unwrap_or(node).as_str().map(str::to_owned));
            for name in more.collect::<Vec<_>>() {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
            at += 1;
        }
        names
    }
}

fn below<'s>(service: &'s str, key: &[Step<'s>]) -> Vec<Step<'s>> {
    [&[Step::Key("services"), Step::Key(service)], key].concat()
}

impl SourceFile {
    fn get(&self, steps: &[Step<'_>]) -> Option<&Node> {
        self.documents.iter().find_map(|document| follow(document, steps))
    }

    fn has(&self, steps: &[Step<'_>]) -> bool {
        self.get(steps).is_some()
    }
}

fn files(tree: &dyn Tree, paths: Vec<String>) -> Result<Vec<SourceFile>, TreeError> {
    let mut seen = BTreeSet::new();
    let mut files = Vec::new();
    for path in paths {
        let Some(bytes) = (if seen.insert(path.clone()) { tree.read(&path)? } else { None }) else { continue };
        let text = yaml::decode(&bytes).unwrap_or_default().to_owned();
        let is_yaml = matches!(path.rsplit_once('.'), Some((_, "yml" | "yaml")));
        let documents = if is_yaml { yaml::parse(&text).unwrap_or_default() } else { Vec::new() };
        files.push(SourceFile { path, text, documents });
    }
    Ok(files)
}

/// The value at `steps`; merge keys count as what they bring in.
fn follow<'a>(node: &'a Node, steps: &[Step<'_>]) -> Option<&'a Node> {
    let Some((step, rest)) = steps.split_first() else { return Some(node) };
    match step {
        Step::Index(index) => follow(node.items().get(*index)?, rest),
        Step::Key(key) => {
            let own = node.get(key).and_then(|value| follow(value, rest));
            own.or_else(|| merged(node).find_map(|(_, node)| follow(node, steps)))
        }
    }
}

/// How many of the steps there are.
fn depth(node: &Node, steps: &[Step<'_>]) -> usize {
    (1..=steps.len()).rev().find(|n| follow(node, &steps[..*n]).is_some()).unwrap_or(0)
}

/// What a mapping's merge key brings in, with the steps to it.
fn merged(node: &Node) -> impl Iterator<Item = (Vec<Step<'static>>, &Node)> {
    let merge = node.get("<<");
    let one = merge.filter(|m| matches!(m, Node::Map(_))).map(|m| (vec![Step::Key("<<")], m));
    let several = merge.map(Node::items).unwrap_or_default().iter().enumerate();
    one.into_iter().chain(several.map(|(n, m)| (vec![Step::Key("<<"), Step::Index(n)], m)))
}

/// The steps as they are written, through merge keys.
fn written<'s>(file: &SourceFile, steps: &[Step<'s>]) -> Option<Vec<Step<'s>>> {
    fn walk<'s>(node: &Node, steps: &[Step<'s>], done: &mut Vec<Step<'s>>) -> bool {
        let Some((step, rest)) = steps.split_first() else { return true };
        let value = match step {
            Step::Index(index) => node.items().get(*index),
            Step::Key(key) => node.get(key),
        };
        let before = done.len();
        if let Some(value) = value {
            done.push(*step);
            if walk(value, rest, done) {
                return true;
            }
            done.truncate(before);
        }
        for (way, node) in merged(node) {
            done.extend(way);
            if walk(node, steps, done) {
                return true;
            }
            done.truncate(before);
        }
        false
    }
    file.documents.iter().find_map(|document| {
        let mut done = Vec::new();
        walk(document, steps, &mut done).then_some(done)
    })
}

/// Everything that is written in a value, in one text.
pub fn text_of(node: &Node) -> String {
    match node {
        Node::Null | Node::Reset => String::new(),
        Node::Scalar(text) => text.clone(),
        Node::List(items) => items.iter().map(text_of).collect::<Vec<_>>().join(" "),
        Node::Map(entries) => {
            entries.iter().map(|(key, value)| format!("{key}={}", text_of(value))).collect::<Vec<_>>().join(" ")
        }
    }
}

/// The variables without default that a text uses: `$NAME`, `${NAME}`, `${NAME:?…}`.
fn used(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('$') {
        if let Some(after) = after.strip_prefix('$') {
            rest = after;
            continue;
        }
        let braced = after.starts_with('{');
        let after = after.strip_prefix('{').unwrap_or(after);
        let end = after.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
        let (name, after) = after.split_at(end);
        let has_default = braced && after.trim_start_matches(':').starts_with(['-', '+']);
        if !name.is_empty() && !has_default {
            found.push(name);
        }
        rest = after;
    }
    found
}

/// One line of an environment file.
pub struct Variable<'a> {
    /// Its name.
    pub name: &'a str,
    /// What is written after `=`, without quotes.
    pub value: &'a str,
    /// The line, from 1.
    pub line: u32,
}

/// The variables of an environment file.
pub fn variables(text: &str) -> impl Iterator<Item = Variable<'_>> {
    text.lines().zip(1..).filter_map(|(line, number)| {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=')?;
        let name = name.trim();
        let is_name =
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        let value = value.trim();
        let bare =
            if value.starts_with(['"', '\'']) { value } else { value.split(" #").next().unwrap_or(value).trim_end() };
        is_name.then(|| Variable { name, value: bare.trim_matches(['"', '\'']), line: number })
    })
}

#[cfg(test)]
mod tests {
    use evenkeel_layout::{set::Origin, tree::MapTree};

    use super::*;

    fn sources(files: &[(&str, &str)], layers: &[&str]) -> Sources {
        let tree = MapTree::new(files.iter().map(|(p, t)| ((*p).to_owned(), (*t).to_owned())));
        let layers: Vec<Layer> = layers.iter().map(|l| Layer::new(*l, Origin::Root).based("")).collect();
        Sources::read(&tree, &layers, &[".env".to_owned()]).expect("in memory")
    }

    #[test]
    fn points_to_the_highest_layer_that_says_it() {
        let (low, high) = ("services:\n  a:\n    image: x\n    privileged: true\n", "services:\n  a:\n    image: y\n");
        let sources = sources(&[("low.yml", low), ("high.yml", high)], &["low.yml", "high.yml"]);
        let of = |key| sources.of_service("a", &[Step::Key(key)]).expect("a place");
        assert_eq!(of("image"), ("high.yml".to_owned(), Some(3)));
        assert_eq!(of("privileged"), ("low.yml".to_owned(), Some(4)));
        assert_eq!(of("healthcheck"), ("high.yml".to_owned(), Some(2)));
    }

    #[test]
    fn finds_what_anchors_and_extends_bring_in() {
        let text = "x-base: &base\n  restart: always\n  ports: ['1:1', '${A}:2']\nservices:\n  a:\n    <<: *base\n    image: x\n  b:\n    extends: { service: a, file: other.yml }\n";
        let other = "services:\n  a:\n    privileged: true\n";
        let sources = sources(&[("compose.yml", text), ("other.yml", other)], &["compose.yml"]);
        assert!(sources.of_item("a", "ports", |item| item == "1:1").is_some_and(|(_, line)| line.is_some()));
        assert_eq!(sources.of_service("b", &[Step::Key("privileged")]), Some(("other.yml".to_owned(), Some(3))));
        assert!(sources.is_undecided("a", "ports"));
    }

    #[test]
    fn a_variable_is_decided_if_it_has_a_default_or_a_value() {
        let sources = sources(&[(".env", "SET=1\n"), ("compose.yml", "services: {}\n")], &["compose.yml"]);
        for (text, unset) in [
            ("${SET} $SET", false),
            ("${NOT}", true),
            ("$NOT", true),
            ("${NOT:-1}${NOT-2}", false),
            ("${NOT:?why}", true),
            ("$$NOT", false),
        ] {
            assert_eq!(sources.has_unset(text), unset, "{text}");
        }
    }
}
