//! `servers/<s>/config.json`, as real repositories have it: three shapes of one list of stacks.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::{
    env::is_name,
    nearest,
    problem::Problem,
    repo::Repo,
    section::{Lookups, MAX_ITEMS, Written},
    yaml::{self, Step},
};

/// Keys of the file.
const KEYS: &[&str] = &["localStacks", "sharedStacks", "stacks"];
/// Keys of an entry of `stacks` that is an object.
const STACK_KEYS: &[&str] = &["deployAs", "envs", "name", "watchFilesAndRestartIfChanged"];

/// A stack that the file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pick {
    /// Its name or path, and where it is written.
    pub written: Written,
    /// Project to deploy it as.
    pub deploy_as: Option<String>,
    /// Variables for it, below all environment files.
    pub envs: BTreeMap<String, String>,
    /// Files whose change recreates its services, as written.
    pub watched: Vec<Written>,
}

impl Pick {
    /// One of which nothing but the name is said.
    pub fn named(written: Written) -> Self {
        Self { written, deploy_as: None, envs: BTreeMap::new(), watched: Vec::new() }
    }
}

/// What the file says; `None` for a list that it does not have.
#[derive(Debug, Default)]
pub(crate) struct ServerFile {
    /// Path of the file.
    pub path: String,
    /// Shared stacks, by name.
    pub shared: Option<Vec<Pick>>,
    /// Local stacks, by path from the server's folder.
    pub local: Option<Vec<Pick>>,
    /// Stacks, by name.
    pub stacks: Option<Vec<Pick>>,
}

/// Reads the file at `path`; `None` if there is none.
pub(crate) fn read(repo: &Repo<'_>, server: &str, path: &str) -> Option<ServerFile> {
    let bytes = repo.read(path)?;
    let mut file = ServerFile { path: path.to_owned(), ..ServerFile::default() };
    let refuse = |line: Option<u32>, message: String| {
        let help = r#"write it as {"stacks": ["name", …]} or {"sharedStacks": ["name", …]}"#;
        repo.note(Problem::error("config.syntax", message, help).on_server(server).at(path, line));
    };
    if bytes.len() > yaml::MAX_YAML_BYTES {
        refuse(None, format!("{} bytes are more than the {} that are read", bytes.len(), yaml::MAX_YAML_BYTES));
        return Some(file);
    }
    let object = match serde_json::from_slice(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes)) {
        Ok(Value::Object(object)) => object,
        Ok(_) => {
            refuse(Some(1), "the file is not a JSON object".to_owned());
            return Some(file);
        }
        Err(error) => {
            refuse(u32::try_from(error.line()).ok(), format!("not valid JSON: {error}"));
            return Some(file);
        }
    };
    let reader = Reader { repo, server, path, lookups: Lookups::new(yaml::decode(&bytes).unwrap_or_default()) };
    reader.unknown_keys(&object, KEYS, &[]);
    file.shared = reader.list(&object, "sharedStacks");
    file.local = reader.list(&object, "localStacks");
    file.stacks = reader.list(&object, "stacks");
    Some(file)
}

/// Whether the file at `path` has a key; nothing is noted.
pub(crate) fn has_key(repo: &Repo<'_>, path: &str, key: &str) -> bool {
    let Some(bytes) = repo.read(path).filter(|bytes| bytes.len() <= yaml::MAX_YAML_BYTES) else { return false };
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    serde_json::from_slice::<Value>(text).is_ok_and(|value| value.get(key).is_some())
}

struct Reader<'a> {
    repo: &'a Repo<'a>,
    server: &'a str,
    path: &'a str,
    lookups: Lookups<'a>,
}

impl Reader<'_> {
    fn note(&self, problem: Problem, steps: &[Step<'_>]) {
        // JSON is YAML, so the same finder of lines serves.
        self.repo.note(problem.on_server(self.server).at(self.path, self.lookups.line(steps)));
    }

    /// The file belongs to other tools too, so an unknown key is a warning only.
    fn unknown_keys(&self, object: &Map<String, Value>, known: &[&str], above: &[Step<'_>]) {
        for key in object.keys().filter(|key| !known.contains(&key.as_str())).take(20) {
            let help = match nearest(known.iter().copied(), key) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", known.join(", ")),
            };
            let steps: Vec<Step<'_>> = above.iter().copied().chain([Step::Key(key)]).collect();
            let message = format!("the key {:?} has no effect", key.chars().take(80).collect::<String>());
            self.note(Problem::warning("config.unknown-key", message, help), &steps);
        }
    }

    fn list(&self, object: &Map<String, Value>, key: &str) -> Option<Vec<Pick>> {
        let value = object.get(key)?;
        let Value::Array(values) = value else {
            let problem = Problem::error("config.value", format!("`{key}` is not a list"), "make it a list of names");
            self.note(problem, &[Step::Key(key)]);
            return Some(Vec::new());
        };
        let mut picks: Vec<Pick> = Vec::new();
        let mut seen = BTreeSet::new();
        if values.len() > MAX_ITEMS {
            let help = format!("keep it to {MAX_ITEMS} items");
            self.note(Problem::error("config.value", format!("the list `{key}` is too long"), help), &[Step::Key(key)]);
        }
        for (index, value) in values.iter().enumerate().take(MAX_ITEMS) {
            let steps = [Step::Key(key), Step::Index(index)];
            let Some(pick) = self.pick(value, &steps) else { continue };
            if seen.insert(pick.written.text.clone()) {
                picks.push(pick);
            } else {
                let message = format!("{:?} is named twice", pick.written.text);
                self.note(Problem::warning("config.value", message, "remove one of the two"), &steps);
            }
        }
        Some(picks)
    }

    fn pick(&self, value: &Value, steps: &[Step<'_>]) -> Option<Pick> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let written = |text: String| Written { text, line: self.lookups.line(steps) };
        if let Some(name) = text(value) {
            return Some(Pick::named(written(name)));
        }
        let name = value.get("name").and_then(text);
        let (Some(object), Some(name)) = (value.as_object(), name) else {
            let help = r#"write "name" or {"name": "…"}"#;
            self.note(Problem::error("config.value", "this entry names no stack", help), steps);
            return None;
        };
        self.unknown_keys(object, STACK_KEYS, steps);
        Some(Pick {
            deploy_as: object.get("deployAs").and_then(text),
            envs: self.envs(object, &name, steps),
            watched: self.watched(object, &name, steps),
            written: written(name),
        })
    }

    /// The variables of an entry. A value that is no single value is a problem of its stack.
    fn envs(&self, object: &Map<String, Value>, stack: &str, steps: &[Step<'_>]) -> BTreeMap<String, String> {
        let wrong = |message: &str| {
            let help = r#"write "envs": {"NAME": "value"}"#;
            self.note(Problem::error("config.value", message, help).in_stack(stack), steps);
        };
        let Some(value) = object.get("envs") else { return BTreeMap::new() };
        let Value::Object(pairs) = value else {
            wrong("`envs` is not an object of variables");
            return BTreeMap::new();
        };
        let mut envs = BTreeMap::new();
        for (name, value) in pairs.iter().take(MAX_ITEMS) {
            let text = match value {
                Value::String(text) => Some(text.clone()),
                Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
                Value::Null | Value::Array(_) | Value::Object(_) => None,
            };
            if let Some(text) = text.filter(|_| is_name(name)) {
                envs.insert(name.clone(), text);
            } else {
                wrong("`envs` has an entry that is no variable with a single value");
            }
        }
        envs
    }

    fn watched(&self, object: &Map<String, Value>, stack: &str, steps: &[Step<'_>]) -> Vec<Written> {
        let Some(value) = object.get("watchFilesAndRestartIfChanged") else { return Vec::new() };
        let texts: Option<Vec<String>> = value
            .as_array()
            .map(|list| list.iter().take(MAX_ITEMS).filter_map(|v| v.as_str().map(str::to_owned)).collect());
        let Some(texts) = texts else {
            let help = r#"write "watchFilesAndRestartIfChanged": ["path"]"#;
            let problem = Problem::error("config.value", "`watchFilesAndRestartIfChanged` is not a list", help);
            self.note(problem.in_stack(stack), steps);
            return Vec::new();
        };
        let line = self.lookups.line(steps);
        texts.into_iter().map(|text| Written { text, line }).collect()
    }
}
