//! Where each key of a rendered model comes from: the layer and the line. An index for people; Compose does the merging.

use evenkeel_layout::yaml::{self, Node, Step, line_of};
use serde::Serialize;
use serde_json::Value;

use crate::model::Model;

/// Most look-ups of lines for one model; each parses a file up to the line.
const MAX_LINES: usize = 5_000;
/// Deepest that a model is described.
const MAX_DEPTH: usize = 12;

/// A text that a stack is made from.
pub struct Source {
    /// Its path from the repository's root.
    pub path: String,
    /// What it says.
    pub text: String,
}

/// One key of a model and where it was said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Said {
    /// Such as `services.web.image`.
    pub key: String,
    /// The file that has the last word on it; `None` if Compose made it up.
    pub path: Option<String>,
    /// The line in that file, from 1.
    pub line: Option<u32>,
}

/// Where the keys of `model` come from. `layers` are its Compose files, the highest first, then what they include or extend;
/// `env_files` are those that services name, the last one first.
pub fn explain(model: &Model, layers: &[Source], env_files: &[Source]) -> Vec<Said> {
    let parsed = layers.iter().map(|source| (source, yaml::parse(&source.text).unwrap_or_default())).collect();
    let mut explainer = Explainer { layers: parsed, env_files, left: MAX_LINES, said: Vec::new() };
    explainer.walk(&mut Vec::new(), model.value());
    explainer.said
}

struct Explainer<'a> {
    layers: Vec<(&'a Source, Vec<Node>)>,
    env_files: &'a [Source],
    left: usize,
    said: Vec<Said>,
}

impl Explainer<'_> {
    fn walk(&mut self, keys: &mut Vec<String>, value: &Value) {
        match value {
            Value::Object(map) if !map.is_empty() && keys.len() < MAX_DEPTH => {
                for (key, value) in map {
                    keys.push(key.clone());
                    self.walk(keys, value);
                    keys.pop();
                }
            }
            Value::Array(items) if !items.is_empty() => {
                for (at, item) in items.iter().enumerate() {
                    let place = self.find(keys, Some(item));
                    self.add(format!("{}[{at}]", keys.join(".")), place);
                }
            }
            // What Compose adds to every service and says nothing.
            Value::Null if matches!(keys.last().map(String::as_str), Some("command" | "entrypoint")) => {}
            _ => {
                let place = self.find(keys, None);
                self.add(keys.join("."), place);
            }
        }
    }

    fn add(&mut self, key: String, place: Option<(String, Option<u32>)>) {
        let (path, line) = place.map_or((None, None), |(path, line)| (Some(path), line));
        self.said.push(Said { key, path, line });
    }

    /// The last word on the keys; where nobody says them, that on the nearest key above, within a service or its like.
    fn find(&mut self, keys: &[String], item: Option<&Value>) -> Option<(String, Option<u32>)> {
        if let Some(found) = self.exactly(keys, item) {
            return Some(found);
        }
        if let [first, _, third, name] = keys
            && (first.as_str(), third.as_str()) == ("services", "environment")
            && let Some(found) = self.in_env_file(name)
        {
            return Some(found);
        }
        (3..keys.len()).rev().find_map(|depth| self.exactly(&keys[..depth], None))
    }

    fn exactly(&mut self, keys: &[String], item: Option<&Value>) -> Option<(String, Option<u32>)> {
        for (source, documents) in &self.layers {
            let Some(steps) = documents.iter().rev().find_map(|document| steps(document, keys, item)) else { continue };
            self.left = self.left.saturating_sub(1);
            let line = if self.left > 0 { line_of(&source.text, &steps) } else { None };
            return Some((source.path.clone(), line));
        }
        None
    }

    fn in_env_file(&self, name: &str) -> Option<(String, Option<u32>)> {
        self.env_files.iter().find_map(|source| {
            let says = |line: &str| {
                let line = line.trim_start().trim_start_matches("export ").trim_start();
                line.strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with('='))
            };
            let at = source.text.lines().position(says)?;
            Some((source.path.clone(), u32::try_from(at + 1).ok()))
        })
    }
}

/// The way to the keys in a document, in any of the forms in which Compose lets them be written.
fn steps<'a>(node: &'a Node, keys: &'a [String], item: Option<&Value>) -> Option<Vec<Step<'a>>> {
    let Some((key, rest)) = keys.split_first() else {
        return Some(item.and_then(|item| of_item(node, item)).into_iter().collect());
    };
    let then = |step: Step<'a>, more: Vec<Step<'a>>| [step].into_iter().chain(more).collect::<Vec<_>>();
    match node {
        Node::Map(_) => {
            if let Some(below) = node.get(key) {
                return steps(below, rest, item).map(|more| then(Step::Key(key), more));
            }
            let merged = node.get("<<")?;
            let found = match merged {
                Node::List(items) => items
                    .iter()
                    .enumerate()
                    .rev()
                    .find_map(|(at, one)| steps(one, keys, item).map(|more| then(Step::Index(at), more))),
                one => steps(one, keys, item),
            };
            found.map(|more| then(Step::Key("<<"), more))
        }
        // `- KEY=value`, `- network`.
        Node::List(items) => {
            let is_it = |one: &Node| one.as_str().is_some_and(|text| text.split('=').next() == Some(key));
            Some(vec![Step::Index(items.iter().rposition(is_it)?)])
        }
        // `build: ./folder` says `build.context`.
        Node::Scalar(_) if !rest.is_empty() || key == "context" => Some(Vec::new()),
        Node::Scalar(_) | Node::Null | Node::Reset => None,
    }
}

/// The item of a list that became this one: by what makes it unique.
fn of_item<'a>(list: &Node, item: &Value) -> Option<Step<'a>> {
    let field = |name: &str| match &item[name] {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let marks: Vec<String> = match item {
        Value::String(text) => vec![text.clone()],
        _ => ["target", "published", "source"].into_iter().filter_map(field).take(2).collect(),
    };
    let says = |one: &Node| {
        let has = |mark: &String| match one {
            Node::Scalar(text) => text.contains(mark.as_str()),
            other => other.entries().iter().any(|(_, value)| value.as_str() == Some(mark)),
        };
        marks.first().is_some_and(has)
    };
    list.items().iter().rposition(says).map(Step::Index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn each_key_is_traced_to_the_layer_that_has_the_last_word_on_it() {
        let high = "services:\n  web:\n    image: x:2\n    environment: [B=2]\n";
        let low = "x-common: &common\n  restart: always\nservices:\n  web:\n    <<: *common\n    image: x:1\n    build: ./web\n    environment: {A: 1}\n    ports:\n      - 80:80\n      - '443:8443'\n    networks: [front]\n";
        let model = Model::parse(
            r#"{"name":"web","services":{"web":{"command":null,"image":"x:2","restart":"always","build":{"context":"/r/web","dockerfile":"Dockerfile"},
                "environment":{"A":"1","B":"2","C":"3"},"ports":[{"target":80,"published":"80"},{"target":8443,"published":"443"}],"networks":{"front":null}}}}"#,
        )
        .unwrap();
        let found =
            explain(&model, &[source("high", high), source("low", low)], &[source("a.env", "# x\nexport C=3\n")]);
        let mut shown: Vec<String> = found
            .into_iter()
            .map(|s| format!("{} {}:{}", s.key, s.path.unwrap_or_default(), s.line.unwrap_or_default()))
            .collect();
        shown.sort();
        assert_eq!(
            shown,
            [
                "name :0",
                "services.web.build.context low:7",
                "services.web.build.dockerfile low:7",
                "services.web.environment.A low:8",
                "services.web.environment.B high:4",
                "services.web.environment.C a.env:2",
                "services.web.image high:3",
                "services.web.networks.front low:12",
                "services.web.ports[0] low:10",
                "services.web.ports[1] low:11",
                "services.web.restart low:2",
            ]
        );
    }
}
