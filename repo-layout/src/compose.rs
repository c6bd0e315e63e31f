//! A Compose file, as far as the layout needs it. Compose itself reads the rest.

use std::collections::BTreeSet;

use crate::{
    extension::{self, Extension},
    problem::Problem,
    section::Source,
    yaml::{self, Node, Step, YamlError},
};

/// Main files in the order in which Compose chooses among those that a folder has.
pub(crate) const MAIN_FILES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];

/// Override files in the order in which Compose chooses among them; the choice does not depend on the main file's name.
pub(crate) const OVERRIDE_FILES: [&str; 4] =
    ["compose.override.yml", "compose.override.yaml", "docker-compose.override.yml", "docker-compose.override.yaml"];

/// What one file says.
#[derive(Debug, Default)]
pub(crate) struct ComposeFile {
    /// Whether it could not be read, so that nothing is known of it.
    pub is_unread: bool,
    /// Whether it says nothing at all.
    pub is_empty: bool,
    /// Top-level `name`, not interpolated, with its line.
    pub name: Option<(String, Option<u32>)>,
    /// Its services.
    pub services: BTreeSet<String>,
    /// Files that it takes in through `extends`, as written.
    pub extended: Vec<String>,
    /// Files that it takes in through `include`, as written.
    pub included: Vec<String>,
    /// Its `x-evenkeel`.
    pub extension: Extension,
}

/// Reads a file. What is wrong comes beside what could be read.
pub(crate) fn parse(path: &str, bytes: &[u8]) -> (ComposeFile, Vec<Problem>) {
    let parsed = yaml::decode(bytes).and_then(|text| Ok((text, yaml::parse(text)?)));
    let (text, documents) = match parsed {
        Ok(parsed) => parsed,
        Err(YamlError { line, message, help }) => {
            let unread = ComposeFile { is_unread: true, ..ComposeFile::default() };
            return (unread, vec![Problem::error("compose.syntax", message, help).at(path, line)]);
        }
    };
    let is_empty = documents.iter().all(|d| *d == Node::Null);
    let mut file = ComposeFile { is_empty, ..ComposeFile::default() };
    let mut problems = Vec::new();
    let source = Source::new(path, text, "x-evenkeel");
    for document in &documents {
        match document {
            Node::Map(_) => file.add(&source, document),
            Node::Null => {}
            other => {
                let message = format!("the file is {}, not a mapping", other.what());
                problems.push(Problem::error("compose.syntax", message, "begin it with `services:`").at(path, Some(1)));
            }
        }
    }
    if let Some(services) = documents.iter().filter_map(|d| d.get("services")).find(|s| misshapen(s)) {
        let message = format!("`services` is {}, not a mapping", services.what());
        let line = source.line(&[Step::Key("services")]);
        problems.push(Problem::error("compose.syntax", message, "write `name: {…}` for each service").at(path, line));
    }
    problems.extend(source.into_problems());
    (file, problems)
}

fn misshapen(services: &Node) -> bool {
    matches!(services, Node::Scalar(_) | Node::List(_))
}

impl ComposeFile {
    /// Adds one document of a file; Compose merges several, the later one winning.
    fn add(&mut self, source: &Source<'_>, document: &Node) {
        if let Some(name) = document.get("name").and_then(Node::as_str) {
            self.name = Some((name.to_owned(), source.line(&[Step::Key("name")])));
        }
        for (service, body) in document.get("services").map(Node::entries).unwrap_or_default() {
            if *body != Node::Reset {
                self.services.insert(service.clone());
            }
            let from = body.get("extends").and_then(|e| e.get("file")).and_then(Node::as_str);
            self.extended.extend(from.map(str::to_owned));
        }
        for entry in document.get("include").map(Node::items).unwrap_or_default() {
            let paths = entry.get("path").unwrap_or(entry);
            let several = paths.items().iter().filter_map(Node::as_str);
            self.included.extend(several.chain(paths.as_str()).map(str::to_owned));
        }
        self.extension.overlay(extension::read(source, document));
    }
}
