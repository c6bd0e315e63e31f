//! One mapping of a configuration text: its keys checked against the known ones, its values read with their lines.

use std::cell::{Cell, RefCell};

use crate::{
    nearest,
    problem::Problem,
    yaml::{Node, Step, line_of},
};

/// Looking a line up parses the file again. So long a text, in bytes, is parsed for one file's lines; past it, problems
/// have no line.
const MAX_LOOKED_UP: usize = 2 * 1024 * 1024;

/// Most items of one list.
pub(crate) const MAX_ITEMS: usize = 1000;

/// Nobody reads the hundredth problem of one file.
const MAX_PROBLEMS: usize = 100;

/// Finds lines in a text, within what may be spent on it.
pub(crate) struct Lookups<'a> {
    text: &'a str,
    left: Cell<usize>,
}

impl<'a> Lookups<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, left: Cell::new(MAX_LOOKED_UP) }
    }

    /// Line of a place in the text, from 1.
    pub fn line(&self, steps: &[Step<'_>]) -> Option<u32> {
        // A hundred bytes more: the parser has a price for each call.
        self.left.set(self.left.get().checked_sub(self.text.len() + 100)?);
        line_of(self.text, steps)
    }
}

/// A file whose settings are read: where it is, its text, and what was found wrong.
pub(crate) struct Source<'a> {
    /// Path from the repository's root.
    pub path: &'a str,
    area: &'static str,
    lookups: Lookups<'a>,
    problems: RefCell<Vec<Problem>>,
}

impl<'a> Source<'a> {
    /// `area` begins the codes of the problems: `config`, `x-evenkeel`.
    pub fn new(path: &'a str, text: &'a str, area: &'static str) -> Self {
        Self { path, area, lookups: Lookups::new(text), problems: RefCell::default() }
    }

    /// Line of a place in the file, from 1.
    pub fn line(&self, steps: &[Step<'_>]) -> Option<u32> {
        self.lookups.line(steps)
    }

    /// What was found wrong.
    pub fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }

    fn report(&self, name: &str, steps: &[Step<'_>], message: String, help: String) {
        self.add(steps, Problem::error(&format!("{}.{name}", self.area), message, help));
    }

    /// Adds what is wrong with this place.
    pub fn add(&self, steps: &[Step<'_>], problem: Problem) {
        if self.problems.borrow().len() < MAX_PROBLEMS {
            let problem = problem.at(self.path, self.line(steps));
            self.problems.borrow_mut().push(problem);
        }
    }
}

/// A name or path in a file, and where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// As written.
    pub text: String,
    /// Line in the file, from 1.
    pub line: Option<u32>,
}

/// One mapping in a [`Source`].
pub(crate) struct Section<'a, 's> {
    source: &'s Source<'a>,
    steps: Vec<Step<'s>>,
    node: &'s Node,
}

impl<'a, 's> Section<'a, 's> {
    /// The mapping at `steps`. A value of another kind is a problem, and then there are no entries.
    pub fn new(source: &'s Source<'a>, steps: Vec<Step<'s>>, node: &'s Node) -> Self {
        let section = Self { source, steps, node };
        if !matches!(node, Node::Map(_) | Node::Null) {
            section.wrong(&[], "a mapping of keys", node);
        }
        section
    }

    fn shown(&self, more: &[Step<'_>]) -> String {
        let mut text = String::new();
        for step in self.steps.iter().chain(more) {
            match step {
                Step::Key(key) if text.is_empty() => text.push_str(key),
                Step::Key(key) => text.extend([".", key]),
                Step::Index(index) => text.extend(["[", &index.to_string(), "]"]),
            }
        }
        if text.is_empty() {
            "the file".to_owned()
        } else {
            format!("`{}`", text.chars().take(120).collect::<String>())
        }
    }

    fn report(&self, name: &str, more: &[Step<'_>], message: String, help: String) {
        let steps: Vec<Step<'_>> = self.steps.iter().chain(more).copied().collect();
        self.source.report(name, &steps, message, help);
    }

    fn wrong(&self, more: &[Step<'_>], wanted: &str, found: &Node) {
        let shown = self.shown(more);
        self.report("value", more, format!("{shown} is {}", found.what()), format!("make it {wanted}"));
    }

    /// A value that is of the right kind but not acceptable.
    pub fn refuse(&self, more: &[Step<'_>], why: &str, help: &str) {
        let shown = self.shown(more);
        self.report("value", more, format!("{shown}: {why}"), help.to_owned());
    }

    /// Reports each key that is not `known`.
    pub fn only(self, known: &[&str]) -> Self {
        for (key, _) in self.node.entries() {
            if !known.contains(&key.as_str()) {
                let help = match nearest(known.iter().copied(), key) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if known.is_empty() => "remove it: no key is known here".to_owned(),
                    None => format!("remove it; known here: {}", known.join(", ")),
                };
                let shown = self.shown(&[Step::Key(key)]);
                self.report("unknown-key", &[Step::Key(key)], format!("unknown key {shown}"), help);
            }
        }
        self
    }

    /// The mapping at `key`, if it is there.
    pub fn section(&self, key: &'s str) -> Option<Section<'a, 's>> {
        Some(self.below(key, self.node.get(key)?))
    }

    /// Each key and the mapping at it, in the file's order.
    pub fn sections(&self) -> impl Iterator<Item = (&'s str, Section<'a, 's>)> {
        self.node.entries().iter().map(|(key, node)| (key.as_str(), self.below(key, node)))
    }

    /// The keys, with their lines, in the file's order.
    pub fn keys(&self) -> impl Iterator<Item = Written> {
        self.node.entries().iter().map(|(key, _)| Written { text: key.clone(), line: self.line(&[Step::Key(key)]) })
    }

    /// Each mapping of the list at `key`.
    pub fn items(&self, key: &'s str) -> Vec<Section<'a, 's>> {
        let Some(node) = self.node.get(key) else { return Vec::new() };
        if !matches!(node, Node::List(_) | Node::Null) {
            self.wrong(&[Step::Key(key)], "a list", node);
        }
        let items = node.items().iter().enumerate().take(MAX_ITEMS);
        let section = |(index, item)| {
            let steps = [&self.steps[..], &[Step::Key(key), Step::Index(index)]].concat();
            Section::new(self.source, steps, item)
        };
        items.map(section).collect()
    }

    /// The text at `key` with its line, if it is there.
    pub fn written(&self, key: &str) -> Option<Written> {
        Some(Written { text: self.text(key)?.to_owned(), line: self.line(&[Step::Key(key)]) })
    }

    /// Line of a place in the mapping, from 1.
    pub fn line(&self, more: &[Step<'_>]) -> Option<u32> {
        let steps: Vec<Step<'_>> = self.steps.iter().chain(more).copied().collect();
        self.source.line(&steps)
    }

    fn below(&self, key: &'s str, node: &'s Node) -> Section<'a, 's> {
        let mut steps = self.steps.clone();
        steps.push(Step::Key(key));
        Section::new(self.source, steps, node)
    }

    /// The text at `key`, if it is there.
    pub fn text(&self, key: &str) -> Option<&'s str> {
        match self.node.get(key)? {
            Node::Null => None,
            Node::Scalar(text) => Some(text),
            other => {
                self.wrong(&[Step::Key(key)], "a single value", other);
                None
            }
        }
    }

    /// The value of a key that takes one of a few words.
    pub fn one_of<T: Copy>(&self, key: &'static str, known: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        let words = || known.iter().map(|(name, _)| *name);
        let found = known.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        if found.is_none() {
            let shown: String = text.chars().take(40).collect();
            let help = nearest(words(), text).map_or_else(
                || format!("one of {}", words().collect::<Vec<_>>().join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            self.refuse(&[Step::Key(key)], &format!("unknown {key} {shown:?}"), &help);
        }
        found
    }

    /// The text at `key`, or those listed there, each with its place; `None` if the key is not there.
    pub fn one_or_more(&self, key: &'s str) -> Option<Vec<(Vec<Step<'s>>, String)>> {
        if let Node::Scalar(text) = self.node.get(key)? {
            return Some(vec![(vec![Step::Key(key)], text.clone())]);
        }
        let texts = self.texts(key)?;
        let at = |(index, written): (usize, Written)| (vec![Step::Key(key), Step::Index(index)], written.text);
        Some(texts.into_iter().enumerate().map(at).collect())
    }

    /// The texts listed at `key`; `None` if the key is not there.
    pub fn texts(&self, key: &str) -> Option<Vec<Written>> {
        let node = self.node.get(key)?;
        if !matches!(node, Node::List(_) | Node::Null) {
            self.wrong(&[Step::Key(key)], "a list", node);
        }
        if node.items().len() > MAX_ITEMS {
            self.refuse(&[Step::Key(key)], "the list is too long", &format!("keep it to {MAX_ITEMS} items"));
        }
        let mut items = Vec::new();
        for (index, item) in node.items().iter().enumerate().take(MAX_ITEMS) {
            let more = [Step::Key(key), Step::Index(index)];
            if let Some(text) = item.as_str() {
                let steps: Vec<Step<'_>> = self.steps.iter().copied().chain(more).collect();
                items.push(Written { text: text.to_owned(), line: self.source.line(&steps) });
            } else {
                self.wrong(&more, "a single value", item);
            }
        }
        Some(items)
    }
}
