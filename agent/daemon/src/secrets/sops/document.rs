//! The three forms in which SOPS writes, read into one: values in the order of the file, and what SOPS noted of itself.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};

/// Most values and keys that one file may have.
const MAX_NODES: usize = 100_000;

/// The form of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `KEY=value` lines.
    Dotenv,
    /// YAML.
    Yaml,
    /// JSON; also the form of what SOPS calls binary files.
    Json,
}

/// A value of a document, with mappings in the order of the file.
#[derive(Clone, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        let Self::Map(entries) = self else { return None };
        entries.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    pub(super) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    fn items(&self) -> &[Node] {
        if let Self::List(items) = self { items } else { &[] }
    }
}

/// What SOPS notes of a file beside its values.
#[derive(Default)]
pub(super) struct Metadata {
    /// Recipient and data key, encrypted for it by age.
    pub age: Vec<(String, String)>,
    /// Whether the data key is also encrypted for keys of other kinds.
    pub others: bool,
    /// Whether the data key is split among groups of keys.
    pub groups: bool,
    pub mac: String,
    pub last_modified: String,
    pub mac_only_encrypted: bool,
}

/// A whole file.
pub(super) struct Document {
    pub entries: Vec<(String, Node)>,
    pub metadata: Metadata,
}

const OTHERS: [&str; 6] = ["pgp", "kms", "gcp_kms", "azure_kv", "hc_vault", "hckms"];

/// The form that a content shows; `None` if it is not of SOPS.
pub(super) fn form(content: &[u8]) -> Option<Form> {
    let text = std::str::from_utf8(content).ok()?;
    let has_line = |start: &str| text.lines().any(|line| line.starts_with(start));
    if has_line("sops_mac=") || has_line("sops_lastmodified=") {
        return Some(Form::Dotenv);
    }
    if text.trim_start().starts_with('{') && text.contains("\"sops\"") {
        let found = serde_json::from_str::<Node>(text).ok()?;
        return found.get("sops").is_some_and(|sops| sops.get("lastmodified").is_some()).then_some(Form::Json);
    }
    let says =
        |word: &str| text.lines().any(|line| line.starts_with([' ', '\t']) && line.trim_start().starts_with(word));
    (has_line("sops:") && (says("lastmodified:") || says("mac:"))).then_some(Form::Yaml)
}

/// Reads a file; the error says what is wrong, without its content.
pub(super) fn read(form: Form, content: &[u8]) -> Result<Document, String> {
    let text = std::str::from_utf8(content).map_err(|_| "it is not UTF-8 text".to_owned())?;
    match form {
        Form::Dotenv => dotenv(text),
        Form::Yaml => {
            let root = serde_yaml::from_str::<Node>(text).map_err(|e| at_line(e.location().map(|at| at.line())))?;
            structured(root)
        }
        Form::Json => structured(serde_json::from_str::<Node>(text).map_err(|e| at_line(Some(e.line())))?),
    }
}

fn at_line(line: Option<usize>) -> String {
    line.map_or_else(|| "it cannot be read".to_owned(), |line| format!("it cannot be read beyond line {line}"))
}

fn structured(root: Node) -> Result<Document, String> {
    let Node::Map(mut entries) = root else { return Err("it is not a mapping".to_owned()) };
    let at = entries.iter().position(|(key, _)| key == "sops").ok_or("it has no `sops` block")?;
    let (_, sops) = entries.remove(at);
    let text = |key: &str| sops.get(key).and_then(Node::text).unwrap_or_default().to_owned();
    let has = |key: &str| sops.get(key).is_some_and(|node| !node.items().is_empty());
    let keys =
        sops.get("age").map(Node::items).unwrap_or_default().iter().filter_map(|entry| {
            Some((entry.get("recipient")?.text()?.to_owned(), entry.get("enc")?.text()?.to_owned()))
        });
    let metadata = Metadata {
        age: keys.collect(),
        others: OTHERS.iter().any(|key| has(key)),
        groups: has("key_groups") || sops.get("shamir_threshold").is_some_and(is_more_than_one),
        mac: text("mac"),
        last_modified: text("lastmodified"),
        mac_only_encrypted: matches!(sops.get("mac_only_encrypted"), Some(Node::Bool(true))),
    };
    Ok(Document { entries, metadata })
}

fn is_more_than_one(node: &Node) -> bool {
    !matches!(node, Node::Null | Node::Int(..=1))
}

/// Lines of `KEY=value`; those whose key begins with `sops_` are SOPS' own, with its lists written into their names.
fn dotenv(text: &str) -> Result<Document, String> {
    let (mut entries, mut metadata) = (Vec::new(), Metadata::default());
    for (n, line) in text.split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line.split_once('=').ok_or_else(|| format!("line {} is no KEY=value", n + 1))?;
        let value = value.replace("\\n", "\n");
        match key.strip_prefix("sops_") {
            Some(key) => note(&mut metadata, key, value),
            None => entries.push((key.to_owned(), Node::Text(value))),
        }
    }
    if entries.len() > MAX_NODES {
        return Err("it has too many values".to_owned());
    }
    Ok(Document { entries, metadata })
}

fn note(metadata: &mut Metadata, key: &str, value: String) {
    match key {
        "mac" => metadata.mac = value,
        "lastmodified" => metadata.last_modified = value,
        "mac_only_encrypted" => metadata.mac_only_encrypted = value.eq_ignore_ascii_case("true"),
        "shamir_threshold" => metadata.groups |= !matches!(value.as_str(), "" | "0" | "1"),
        _ if key.starts_with("key_groups__") => metadata.groups = true,
        _ if OTHERS.iter().any(|other| key.strip_prefix(other).is_some_and(|rest| rest.starts_with("__list_"))) => {
            metadata.others = true;
        }
        _ if key.starts_with("age__list_") => {
            // The parts of one entry stand next to each other: names are sorted.
            if key.ends_with("__map_enc") {
                metadata.age.push((String::new(), value));
            } else if key.ends_with("__map_recipient")
                && let Some(last) = metadata.age.last_mut()
            {
                last.0 = value;
            }
        }
        _ => {}
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Int(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Node, E> {
        i64::try_from(value).map(Node::Int).map_err(|_| E::custom("a number is too large"))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
            limit(items.len())?;
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries: Vec<(String, Node)> = Vec::new();
        while let Some(entry) = map.next_entry::<String, Node>()? {
            entries.push(entry);
            limit(entries.len())?;
        }
        let mut names: Vec<&String> = entries.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        if names.windows(2).any(|two| two[0] == two[1]) {
            return Err(serde::de::Error::custom("a key stands twice"));
        }
        Ok(Node::Map(entries))
    }
}

fn limit<E: serde::de::Error>(count: usize) -> Result<(), E> {
    if count > MAX_NODES { Err(E::custom("too many values")) } else { Ok(()) }
}
