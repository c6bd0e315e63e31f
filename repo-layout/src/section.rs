//! One mapping of a configuration text: its keys checked against the known ones, its values read with their lines.

use std::cell::{Cell, RefCell};

use crate::{
    nearest,
    problem::Problem,
    yaml::{Node, Step, line_of},
};

/// Looking a line up parses the file again, so a file made of faults gets lines for the first ones only.
const MAX_LOOKUPS: u32 = 50;

/// Nobody reads the hundredth problem of one file.
const MAX_PROBLEMS: usize = 100;

/// A file whose settings are read: where it is, its text, and what was found wrong.
pub(crate) struct Source<'a> {
    /// Path from the repository's root.
    pub path: &'a str,
    text: &'a str,
    area: &'static str,
    lookups: Cell<u32>,
    problems: RefCell<Vec<Problem>>,
}

impl<'a> Source<'a> {
    /// `area` begins the codes of the problems: `config`, `x-evenkeel`.
    pub fn new(path: &'a str, text: &'a str, area: &'static str) -> Self {
        Self { path, text, area, lookups: Cell::new(MAX_LOOKUPS), problems: RefCell::default() }
    }

    /// Line of a place in the file, from 1.
    pub fn line(&self, steps: &[Step<'_>]) -> Option<u32> {
        let left = self.lookups.get().checked_sub(1)?;
        self.lookups.set(left);
        line_of(self.text, steps)
    }

    /// What was found wrong.
    pub fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }

    fn report(&self, name: &str, steps: &[Step<'_>], message: String, help: String) {
        if self.problems.borrow().len() < MAX_PROBLEMS {
            let problem = Problem::error(&format!("{}.{name}", self.area), message, help);
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

    /// The line of the section's key.
    pub fn line(&self) -> Option<u32> {
        self.source.line(&self.steps)
    }

    /// The keys, in the file's order.
    pub fn keys(&self) -> impl Iterator<Item = &'s str> + use<'s> {
        self.node.entries().iter().map(|(key, _)| key.as_str())
    }

    /// The mapping at `key`, if it is there.
    pub fn section(&self, key: &'s str) -> Option<Section<'a, 's>> {
        let node = self.node.get(key)?;
        let mut steps = self.steps.clone();
        steps.push(Step::Key(key));
        Some(Section::new(self.source, steps, node))
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

    /// The texts listed at `key`; `None` if the key is not there.
    pub fn texts(&self, key: &str) -> Option<Vec<Written>> {
        let node = self.node.get(key)?;
        if !matches!(node, Node::List(_) | Node::Null) {
            self.wrong(&[Step::Key(key)], "a list", node);
        }
        let mut items = Vec::new();
        for (index, item) in node.items().iter().enumerate() {
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
