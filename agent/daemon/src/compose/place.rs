//! Which line of which layer a message of Compose speaks of.

use evenkeel_layout::yaml::{self, Step};

use super::message::Layer;

/// The sections of a Compose file that messages speak of.
const SECTIONS: [&str; 5] = ["services", "networks", "volumes", "configs", "secrets"];

/// The file and, as far as it can be told, the line that a message speaks of.
pub(super) fn place<'a>(text: &'a str, layers: &[Layer<'a>]) -> Option<(&'a str, Option<u32>)> {
    let syntax = || syntax_error(layers).filter(|_| text.contains("yaml: "));
    let keys = || keys_in(text).and_then(|keys| locate(layers, &keys)).map(|(path, line)| (path, Some(line)));
    let word = || word_in(text).and_then(|word| written(layers, word)).map(|(path, line)| (path, Some(line)));
    let named = || layers.iter().find(|layer| text.contains(layer.path)).or(layers.first());
    let found = syntax().or_else(keys).or_else(|| env_file(text)).or_else(word);
    found.or_else(|| named().map(|layer| (layer.path, None)))
}

/// Where a layer is no YAML. Compose's own line number is that of a block's beginning.
fn syntax_error<'a>(layers: &[Layer<'a>]) -> Option<(&'a str, Option<u32>)> {
    layers.iter().find_map(|layer| yaml::parse(&layer.text).err().map(|error| (layer.path, error.line)))
}

/// `failed to read <file>: line 2: …`, and the file of `Couldn't find env file: <file>`.
fn env_file(text: &str) -> Option<(&str, Option<u32>)> {
    let rest = text.strip_prefix("failed to read ")?;
    let (path, rest) = rest.split_once(": line ")?;
    Some((path, rest.split(':').next()?.parse().ok()))
}

/// The keys that a message speaks of, in one of the ways in which Compose does.
fn keys_in(text: &str) -> Option<Vec<String>> {
    additional(text).or_else(|| dotted(text)).or_else(|| of_service(text)).or_else(|| top_level(text))
}

/// `services.web Additional property imgae is not allowed`; `(root)` is the file itself.
fn additional(text: &str) -> Option<Vec<String>> {
    let (before, after) = text.split_once(" Additional property ")?;
    let (key, _) = after.split_once(" is not allowed")?;
    let at = before.rsplit(": ").next().unwrap_or(before);
    let above = at.split('.').filter(|key| *key != "(root)");
    Some(above.chain([key]).map(str::to_owned).collect())
}

/// `services.web.image must be a string`, `'services[web].mem_limit': …`.
fn dotted(text: &str) -> Option<Vec<String>> {
    text.split([' ', '\n', '\'']).find_map(|word| {
        let word = word.trim_matches(['.', ':', ',', '"']);
        let section = SECTIONS.into_iter().find(|section| word.starts_with(section))?;
        let rest = &word[section.len()..];
        let (name, below) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((name, below)) => (name, below.trim_start_matches('.')),
            None => rest.strip_prefix('.').map(|rest| rest.split_once('.').unwrap_or((rest, "")))?,
        };
        let below = below.split('.').filter(|key| !key.is_empty());
        Some([section, name].into_iter().chain(below).map(str::to_owned).collect())
    })
}

/// `service "web" depends on …`, `service web declares …`, `dependency cycle detected: web -> db -> web`.
fn of_service(text: &str) -> Option<Vec<String>> {
    let keys = |name: &str, key: &str| {
        let below = Some(key).filter(|key| !key.is_empty());
        ["services", name].into_iter().chain(below).map(str::to_owned).collect()
    };
    if let Some((_, rest)) = text.split_once("dependency cycle detected: ") {
        return Some(keys(rest.split_once(" ->")?.0, "depends_on"));
    }
    if let Some((name, rest)) = text.strip_prefix("service ").and_then(|rest| rest.split_once(" declares ")) {
        return Some(keys(name, rest.split('`').nth(1).unwrap_or_default()));
    }
    let (_, rest) = text.split_once("service \"")?;
    let (name, rest) = rest.split_once('"')?;
    let known = [("depends on", "depends_on"), ("network", "networks"), ("volume", "volumes"), ("secret", "secrets")];
    Some(keys(name, known.iter().find(|(word, _)| rest.contains(word)).map_or("", |(_, key)| key)))
}

/// `validating <file>: name must be a string`, `services must be a mapping`.
fn top_level(text: &str) -> Option<Vec<String>> {
    let said =
        text.split_once("validating ").and_then(|(_, rest)| rest.split_once(": ")).map_or(text, |(_, said)| said);
    let (key, _) = said.split_once(" must be ")?;
    (!key.contains(' ')).then(|| vec![key.to_owned()])
}

/// The layer that has most of the keys, the highest of these, which has the last word; and the line of the last key.
fn locate<'a>(layers: &[Layer<'a>], keys: &[String]) -> Option<(&'a str, u32)> {
    let steps: Vec<Step<'_>> = keys.iter().map(|k| k.parse().map_or(Step::Key(k), Step::Index)).collect();
    // A section alone says nothing, unless it is what the message speaks of.
    (steps.len().min(2)..=steps.len()).rev().find_map(|depth| {
        let found = |layer: &Layer<'a>| Some((layer.path, yaml::line_of(&layer.text, &steps[..depth])?));
        layers.iter().rev().find_map(found)
    })
}

/// What a message repeats of a file: a part of a port, a file that is missing, a merge key.
fn word_in(text: &str) -> Option<&str> {
    let known =
        [("map merge requires", "<<"), ("include cycle detected", "include"), ("Circular reference", "extends")];
    if let Some((_, word)) = known.iter().find(|(words, _)| text.contains(words)) {
        return Some(word);
    }
    if let Some((before, _)) = text.split_once(": no such file or directory") {
        return before.rsplit(['/', ' ']).next().filter(|name| !name.is_empty());
    }
    let rest = text
        .strip_prefix("Invalid ip address ")
        .or_else(|| text.strip_prefix("unsupported env_file format "))
        .or_else(|| text.strip_prefix("Invalid ")?.split_once(": ").map(|(_, rest)| rest))?;
    Some(rest.split(' ').next()?.trim_matches(['"', ':'])).filter(|word| word.len() > 1)
}

/// The first line with this text, in the highest layer that has one.
fn written<'a>(layers: &[Layer<'a>], word: &str) -> Option<(&'a str, u32)> {
    layers.iter().rev().find_map(|layer| {
        let is_it = |line: &str| !line.trim_start().starts_with('#') && line.contains(word);
        Some((layer.path, u32::try_from(layer.text.lines().position(is_it)? + 1).ok()?))
    })
}
