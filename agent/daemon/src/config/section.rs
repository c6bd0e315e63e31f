//! Reads blocks of keys, remembers every key that was asked for, and collects every problem on the way.
//!
//! A key that nobody asked for is unknown: so the set of known keys is what the code really reads, never a second list.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use evenkeel_layout::LayoutConfig;

use super::{
    document::{Node, Step, line_of},
    problem::{ConfigProblem, nearest},
    secret, value,
};

/// More problems than anyone reads; each costs one more look at the document.
const MAX_PROBLEMS: usize = 50;

/// Proof that a problem was recorded: the error of every reading function here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Recorded;

/// A value, or a problem that was recorded.
pub(super) type Read<T> = Result<T, Recorded>;

/// What reading one document collects.
pub(super) struct Reader<'t> {
    text: &'t str,
    credentials: Option<PathBuf>,
    /// Whether secrets will be read by who asks, so that their files must be as they should.
    reads_secrets: bool,
    problems: RefCell<Vec<ConfigProblem>>,
    asked: RefCell<BTreeSet<String>>,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str, credentials: Option<PathBuf>, reads_secrets: bool) -> Self {
        Self { text, credentials, reads_secrets, problems: RefCell::default(), asked: RefCell::default() }
    }

    /// The whole file.
    pub(super) fn text(&self) -> &'t str {
        self.text
    }

    /// The problems in the order of the file, and every key that was asked for (`reports[].ntfy.url`).
    pub(super) fn finish(self) -> (Vec<ConfigProblem>, BTreeSet<String>) {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.line);
        (problems, self.asked.into_inner())
    }

    fn report(&self, place: &Place, message: impl Into<String>, help: impl Into<String>) {
        let mut problems = self.problems.borrow_mut();
        if problems.len() < MAX_PROBLEMS {
            let line = line_of(self.text, &place.steps);
            problems.push(ConfigProblem { line, key: place.key.clone(), message: message.into(), help: help.into() });
        }
    }
}

/// A node's name for people and its way from the root.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    /// For people: `reports[1].ntfy.url`.
    key: String,
    /// The same for every item of a list: `reports[].ntfy.url`.
    generic: String,
    steps: Vec<Step>,
}

impl Place {
    fn entry(&self, key: &str, position: Option<usize>) -> Self {
        let under = |parent: &str| if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") };
        let steps = self.steps.iter().copied().chain(position.map(Step::Entry)).collect();
        Self { key: under(&self.key), generic: under(&self.generic), steps }
    }

    fn item(&self, position: usize) -> Self {
        let steps = self.steps.iter().copied().chain([Step::Item(position)]).collect();
        Self { key: format!("{}[{position}]", self.key), generic: format!("{}[]", self.generic), steps }
    }
}

/// A value that was found, where it stands, and where to complain about it.
pub(super) struct Found<'d, 'r> {
    reader: &'r Reader<'r>,
    place: Place,
    node: &'d Node,
}

impl<'d, 'r> Found<'d, 'r> {
    pub(super) fn root(reader: &'r Reader<'r>, node: &'d Node) -> Self {
        Self { reader, place: Place::default(), node }
    }

    /// Records a problem with this value. The message must not repeat a value that may be a secret.
    pub(super) fn wrong<T>(&self, message: impl Into<String>, help: impl Into<String>) -> Read<T> {
        self.reader.report(&self.place, message, help);
        Err(Recorded)
    }

    fn mistyped<T>(&self, wanted: &str) -> Read<T> {
        self.wrong(format!("must be {wanted}, but is {}", self.node.kind()), format!("write {wanted}"))
    }

    /// The block of keys that this is.
    pub(super) fn section(self) -> Read<Section<'d, 'r>> {
        match self.node {
            Node::Map(entries) => Ok(Section::new(self.reader, self.place, entries)),
            // A file of comments, as the package installs it: what must be there is then told key by key.
            Node::Null => Ok(Section::new(self.reader, self.place, &[])),
            _ => self.mistyped("a block of keys"),
        }
    }

    /// Whether this is a list.
    pub(super) fn is_list(&self) -> bool {
        matches!(self.node, Node::List(_))
    }

    /// The items of the list that this is.
    pub(super) fn items(&self) -> Read<Vec<Found<'d, 'r>>> {
        let Node::List(items) = self.node else { return self.mistyped("a list") };
        let item = |(position, node)| Found { reader: self.reader, place: self.place.item(position), node };
        Ok(items.iter().enumerate().map(item).collect())
    }

    /// The text that this is, on one line and not empty.
    pub(super) fn text(&self) -> Read<&'d str> {
        match self.node {
            Node::Text(text) if text.is_empty() || text.len() > 4096 || text.contains(char::is_control) => {
                self.wrong("must be one line of text of at most 4096 bytes", "correct it, or remove the key")
            }
            Node::Text(text) => Ok(text),
            Node::Flag(_) | Node::Whole(_) | Node::Number => {
                self.wrong(format!("must be a text, but is {}", self.node.kind()), "put it in quotes")
            }
            _ => self.mistyped("a text"),
        }
    }

    /// One of `words`, with what it stands for.
    pub(super) fn choice<T: Copy>(&self, words: &[(&str, T)]) -> Read<T> {
        let text = self.text()?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Ok(*value);
        }
        let all = words.iter().map(|(word, _)| *word).collect::<Vec<_>>();
        let hint =
            nearest(text, all.iter().copied()).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        self.wrong(format!("is not one of its words{hint}"), format!("write one of: {}", all.join(", ")))
    }

    /// Turns the text into a checked type.
    pub(super) fn parsed<T, E: fmt::Display>(&self, check: impl FnOnce(&str) -> Result<T, E>, help: &str) -> Read<T> {
        check(self.text()?).or_else(|error| self.wrong(error.to_string(), help))
    }

    /// The block of `evenkeel.yml` that this top-level key is; `None` without anything in it.
    pub(super) fn layout(&self) -> Read<Option<LayoutConfig>> {
        if matches!(self.node, Node::Map(entries) if entries.is_empty()) {
            return Ok(None);
        }
        let (config, wrong) = LayoutConfig::of_agent("agent.yml", self.reader.text, &self.place.key);
        let is_fine = wrong.is_empty();
        let mut problems = self.reader.problems.borrow_mut();
        let room = MAX_PROBLEMS.saturating_sub(problems.len());
        problems.extend(wrong.into_iter().take(room).map(|problem| ConfigProblem {
            line: problem.line.and_then(|line| usize::try_from(line).ok()),
            key: self.place.key.clone(),
            message: problem.message,
            help: problem.help,
        }));
        if is_fine { Ok(Some(config)) } else { Err(Recorded) }
    }

    fn path(&self) -> Read<PathBuf> {
        let path = Path::new(self.text()?);
        if value::is_plain_absolute(path) {
            return Ok(path.to_owned());
        }
        self.wrong("must be an absolute path without `.` and `..`", "write the whole path, beginning with /")
    }

    fn checked_file(
        &self,
        path: PathBuf,
        check: impl FnOnce(&Path) -> Result<(), secret::SecretError>,
    ) -> Read<PathBuf> {
        match check(&path) {
            Ok(()) => Ok(path),
            Err(error) => self.wrong(error.what(), error.help()),
        }
    }
}

/// A block of keys. Every key is asked for by one call; `finish` then names those that nobody asked for.
pub(super) struct Section<'d, 'r> {
    reader: &'r Reader<'r>,
    place: Place,
    entries: &'d [(String, Node)],
    known: RefCell<Vec<&'static str>>,
}

impl<'d, 'r> Section<'d, 'r> {
    fn new(reader: &'r Reader<'r>, place: Place, entries: &'d [(String, Node)]) -> Self {
        Self { reader, place, entries, known: RefCell::default() }
    }

    /// The value of `key`; `None` if it is absent or has no value.
    pub(super) fn find(&self, key: &'static str) -> Option<Found<'d, 'r>> {
        self.known.borrow_mut().push(key);
        self.reader.asked.borrow_mut().insert(self.place.entry(key, None).generic);
        let position = self.position(key)?;
        let node = &self.entries[position].1;
        let place = self.place.entry(key, Some(position));
        (*node != Node::Null).then_some(Found { reader: self.reader, place, node })
    }

    /// The value of `key`; a problem if it is absent.
    pub(super) fn require(&self, key: &'static str, help: &str) -> Read<Found<'d, 'r>> {
        self.find(key).ok_or_else(|| {
            self.reader.report(&self.place.entry(key, self.position(key)), "is missing", help);
            Recorded
        })
    }

    fn position(&self, key: &str) -> Option<usize> {
        self.entries.iter().position(|(name, _)| name == key)
    }

    /// The block under `key`; an empty one if it is absent, so that its defaults are filled in by the same code.
    pub(super) fn section(&self, key: &'static str) -> Section<'d, 'r> {
        let absent = || Section::new(self.reader, self.place.entry(key, None), &[]);
        self.find(key).and_then(|found| found.section().ok()).unwrap_or_else(absent)
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, key: &'static str, default: bool) -> Read<bool> {
        let Some(found) = self.find(key) else { return Ok(default) };
        if let Node::Flag(flag) = found.node { Ok(*flag) } else { found.mistyped("true or false") }
    }

    /// A whole number from `least` to `most`.
    pub(super) fn count(&self, key: &'static str, default: usize, (least, most): (usize, usize)) -> Read<usize> {
        let Some(found) = self.find(key) else { return Ok(default) };
        let number = if let Node::Whole(number) = found.node { usize::try_from(*number).ok() } else { None };
        match number {
            Some(number) if (least..=most).contains(&number) => Ok(number),
            _ => {
                let wanted = format!("a whole number from {least} to {most}");
                found.wrong(format!("must be {wanted}"), format!("write {wanted}"))
            }
        }
    }

    /// A duration from `least` to `most`.
    pub(super) fn duration(
        &self,
        key: &'static str,
        default: Duration,
        (least, most): (Duration, Duration),
    ) -> Read<Duration> {
        let Some(found) = self.find(key) else { return Ok(default) };
        let duration = if let Node::Text(text) = found.node { value::parse_duration(text) } else { None };
        match duration {
            Some(duration) if (least..=most).contains(&duration) => Ok(duration),
            _ => {
                let (least, most) = (value::duration_text(least), value::duration_text(most));
                let help = "write a whole number and one unit: 500ms, 10s, 5m, 2h or 7d";
                found.wrong(format!("must be a duration from {least} to {most}"), help)
            }
        }
    }

    /// A text of one line.
    pub(super) fn text(&self, key: &'static str, default: &str) -> Read<String> {
        self.find(key).map_or_else(|| Ok(default.to_owned()), |found| found.text().map(str::to_owned))
    }

    /// An absolute path that need not exist.
    pub(super) fn path(&self, key: &'static str, default: &str) -> Read<PathBuf> {
        self.find(key).map_or_else(|| Ok(default.into()), |found| found.path())
    }

    /// Absolute paths that need not exist.
    pub(super) fn paths(&self, key: &'static str) -> Read<Vec<PathBuf>> {
        let items = self.find(key).map_or_else(|| Ok(Vec::new()), |found| found.items())?;
        let paths: Vec<Read<PathBuf>> = items.iter().map(Found::path).collect();
        paths.into_iter().collect()
    }

    /// A file that must be there; `None` if the key is absent.
    pub(super) fn file(&self, key: &'static str) -> Read<Option<PathBuf>> {
        self.find(key).map(|found| found.checked_file(found.path()?, secret::check_readable)).transpose()
    }

    /// A file that must be there and that only its owner may change; `None` if the key is absent.
    pub(super) fn guarded_file(&self, key: &'static str) -> Read<Option<PathBuf>> {
        self.find(key).map(|found| found.checked_file(found.path()?, secret::check_guarded)).transpose()
    }

    /// A folder that must be there and that only its owner may change; `None` if the key is absent.
    pub(super) fn guarded_folder(&self, key: &'static str) -> Read<Option<PathBuf>> {
        self.find(key).map(|found| found.checked_file(found.path()?, secret::check_guarded_folder)).transpose()
    }

    /// Like [`Self::guarded_file`], at `default` if the key is absent.
    pub(super) fn guarded_file_or(&self, key: &'static str, default: &str) -> Read<PathBuf> {
        if let Some(path) = self.guarded_file(key)? {
            return Ok(path);
        }
        let path = PathBuf::from(default);
        secret::check_guarded(&path).map_err(|error| {
            self.wrong(key, error.what(), error.help());
            Recorded
        })?;
        Ok(path)
    }

    /// A secret's file, or a systemd credential: there, and private to its owner; `None` if the key is absent.
    pub(super) fn secret_file(&self, key: &'static str) -> Read<Option<PathBuf>> {
        let Some(found) = self.find(key) else { return Ok(None) };
        let text = Path::new(found.text()?);
        let path = match secret::resolve(text, self.reader.credentials.as_deref()) {
            Ok(path) => path,
            Err(error) => return found.wrong(error.what(), error.help()),
        };
        if !value::is_plain_absolute(&path) {
            let help = "a secret is never a value here: write it into a file of mode 0600 and name that file";
            return found.wrong("must be an absolute path or credential:NAME", help);
        }
        if !self.reader.reads_secrets {
            return Ok(Some(path));
        }
        found.checked_file(path, |path| secret::open_private(path).map(drop)).map(Some)
    }

    /// Like [`Self::secret_file`], but a problem if the key is absent.
    pub(super) fn required_secret(&self, key: &'static str, help: &str) -> Read<PathBuf> {
        self.secret_file(key)?.map_or_else(|| Err(self.require(key, help).err().unwrap_or(Recorded)), Ok)
    }

    /// Like [`Self::guarded_file`], but a problem if the key is absent.
    pub(super) fn required_guarded(&self, key: &'static str, help: &str) -> Read<PathBuf> {
        self.guarded_file(key)?.map_or_else(|| Err(self.require(key, help).err().unwrap_or(Recorded)), Ok)
    }

    /// Records a problem with the block as a whole.
    pub(super) fn wrong_here(&self, message: impl Into<String>, help: impl Into<String>) {
        self.reader.report(&self.place, message, help);
    }

    /// Records a problem with the value of `key`, or with the block if it has no such key.
    pub(super) fn wrong(&self, key: &str, message: impl Into<String>, help: impl Into<String>) {
        self.reader.report(&self.place.entry(key, self.position(key)), message, help);
    }

    /// Names every key that was not asked for, and every key that stands twice.
    pub(super) fn finish(self) {
        let known = self.known.borrow();
        for (position, (key, _)) in self.entries.iter().enumerate() {
            let shown: String = key.chars().take(80).map(|c| if c.is_control() { '?' } else { c }).collect();
            let place = self.place.entry(&shown, Some(position));
            if self.position(key) != Some(position) {
                self.reader.report(&place, "stands twice in the same block", "remove one of the two");
            } else if !known.contains(&key.as_str()) {
                let help = nearest(key, known.iter().copied()).map_or_else(
                    || format!("known keys here: {}", known.join(", ")),
                    |word| format!("did you mean `{word}`?"),
                );
                self.reader.report(&place, "is not a known key", help);
            }
        }
    }
}
