//! The repository as the layouts see it: without what is ignored or vendored, links refused, problems collected.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use crate::{
    compose::{MAIN_FILES, OVERRIDE_FILES},
    config::LayoutConfig,
    env::{self, Env},
    glob,
    problem::{Problem, Severity},
    set::{Layer, Origin},
    tree::{Entry, EntryKind, Tree, TreeError},
};

/// Folders whose Compose files are somebody else's, besides those of examples.
const VENDORED: &[&str] = &["node_modules", "vendor"];
/// Folders whose Compose files show something and are not meant to run.
const EXAMPLES: &[&str] = &["example", "examples"];

/// One look at one repository.
pub(crate) struct Repo<'a> {
    tree: &'a dyn Tree,
    /// The repository's own settings.
    pub config: &'a LayoutConfig,
    problems: RefCell<Vec<Problem>>,
    /// The stack that is being looked at, which problems concern.
    stack: RefCell<Option<String>>,
    /// Folders that were listed.
    listed: RefCell<BTreeMap<String, Rc<[Entry]>>>,
}

/// `dir/name`, or `name` at the root.
pub(crate) fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}

/// The folder and the last part of a path.
pub(crate) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// `written`, taken from `dir`, as a path from the root; `None` if it is absolute or leaves the repository.
pub(crate) fn resolve(dir: &str, written: &str) -> Option<String> {
    if written.starts_with('/') || written.starts_with('~') {
        return None;
    }
    let mut parts: Vec<&str> = dir.split('/').filter(|p| !p.is_empty()).collect();
    for part in written.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

impl<'a> Repo<'a> {
    pub fn new(tree: &'a dyn Tree, config: &'a LayoutConfig, problems: Vec<Problem>) -> Self {
        Self { tree, config, problems: RefCell::new(problems), stack: RefCell::default(), listed: RefCell::default() }
    }

    /// Adds a problem.
    pub fn note(&self, mut problem: Problem) {
        problem.stack = problem.stack.or_else(|| self.stack.borrow().clone());
        self.problems.borrow_mut().push(problem);
    }

    /// Does `work`; the problems noted on the way concern `stack`, so that its faults stay its own.
    pub fn within<T>(&self, stack: &str, work: impl FnOnce() -> T) -> T {
        let before = self.stack.replace(Some(stack.to_owned()));
        let result = work();
        self.stack.replace(before);
        result
    }

    /// Whether an error was noted.
    pub fn has_errors(&self) -> bool {
        self.problems.borrow().iter().any(|problem| problem.severity == Severity::Error)
    }

    /// The problems, sorted, each once.
    pub fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort();
        problems.dedup();
        problems
    }

    fn or_note<T: Default>(&self, result: Result<T, TreeError>) -> T {
        result.unwrap_or_else(|error| {
            let help = "check the repository (`git fsck`), and that the file is not too large";
            self.note(Problem::error("tree.unreadable", error.to_string(), help).at(error.path, None));
            T::default()
        })
    }

    fn ignored(&self, path: &str) -> bool {
        self.config.ignore.iter().any(|pattern| glob::matches(pattern, path))
    }

    /// Everything that a folder holds; a folder is read once.
    fn list(&self, dir: &str) -> Rc<[Entry]> {
        if let Some(known) = self.listed.borrow().get(dir) {
            return known.clone();
        }
        let entries: Rc<[Entry]> = self.or_note(self.tree.list(dir)).into();
        self.listed.borrow_mut().insert(dir.to_owned(), entries.clone());
        entries
    }

    /// What stands at a path.
    fn kind(&self, path: &str) -> Option<EntryKind> {
        let (dir, name) = split(path);
        self.list(dir).iter().find(|e| e.name == name).map(|e| e.kind)
    }

    /// What a folder holds, but for what is ignored, vendored or begins with a dot.
    pub fn entries(&self, dir: &str) -> Vec<Entry> {
        let shown = |e: &&Entry| {
            let is_one_of = |names: &[&str]| e.kind == EntryKind::Directory && names.contains(&e.name.as_str());
            let vendored = is_one_of(VENDORED) || is_one_of(EXAMPLES);
            !e.name.starts_with('.') && !vendored && !self.ignored(&join(dir, &e.name))
        };
        self.list(dir).iter().filter(shown).cloned().collect()
    }

    /// The folders of examples in a folder, unless they are ignored.
    pub fn examples(&self, dir: &str) -> Vec<String> {
        let listed = self.list(dir);
        let examples = listed.iter().filter(|e| e.kind == EntryKind::Directory && EXAMPLES.contains(&e.name.as_str()));
        examples.map(|e| join(dir, &e.name)).filter(|path| !self.ignored(path)).collect()
    }

    /// The folders in a folder. Links to folders and submodules are told of and left out.
    pub fn folders(&self, dir: &str) -> Vec<String> {
        let mut folders = Vec::new();
        for Entry { name, kind } in self.entries(dir) {
            let path = join(dir, &name);
            match kind {
                EntryKind::Directory => folders.push(name),
                EntryKind::Symlink if self.may_be_stack(&path) => self.within(&name, || self.refuse_link(&path)),
                EntryKind::Submodule => {
                    let help = "copy its Compose file into the repository if it is to be deployed";
                    let message = format!("the submodule {path} is ignored: its content is not in this repository");
                    self.note(Problem::info("tree.submodule", message, help).at(path, None));
                }
                EntryKind::Symlink | EntryKind::File { .. } => {}
            }
        }
        folders
    }

    /// The folders in a folder; nothing is noted.
    pub fn folders_quietly(&self, dir: &str) -> Vec<String> {
        let folders = self.entries(dir).into_iter().filter(|e| e.kind == EntryKind::Directory);
        folders.map(|e| e.name).collect()
    }

    /// Whether there is a folder, not a link to one.
    pub fn has_folder(&self, path: &str) -> bool {
        let (dir, name) = split(path);
        self.entries(dir).iter().any(|e| e.name == name && e.kind == EntryKind::Directory)
    }

    /// Whether there is a regular file. A link in its place is a problem.
    pub fn has_file(&self, path: &str) -> bool {
        match self.kind(path) {
            Some(EntryKind::File { .. }) => !self.ignored(path),
            Some(EntryKind::Symlink) => {
                self.refuse_link(path);
                false
            }
            _ => false,
        }
    }

    /// Whether every part of `path` is a folder and its end a regular file. A link on the way is a problem.
    pub fn reaches_file(&self, path: &str) -> bool {
        let ends = path.match_indices('/').map(|(at, _)| at);
        for end in ends {
            let folder = &path[..end];
            match self.kind(folder) {
                Some(EntryKind::Directory) => {}
                Some(EntryKind::Symlink) => {
                    self.refuse_link(folder);
                    return false;
                }
                _ => return false,
            }
        }
        self.has_file(path)
    }

    /// A file's bytes, if there is one.
    pub fn read(&self, path: &str) -> Option<Vec<u8>> {
        if self.has_file(path) { self.or_note(self.tree.read(path)) } else { None }
    }

    /// Whether a link leads to a folder of Compose files. What leads out of the repository, or nowhere, may be one on
    /// the server, but at the root it is more likely to be data.
    fn may_be_stack(&self, path: &str) -> bool {
        let target = self.or_note(self.tree.read(path)).unwrap_or_default();
        let inside = std::str::from_utf8(&target).ok().and_then(|target| resolve(split(path).0, target));
        match inside.map(|inside| (self.kind(&inside), inside)) {
            Some((Some(EntryKind::Directory), folder)) => self.has_compose(&folder),
            Some((Some(_), _)) => false,
            Some((None, _)) | None => path.contains('/'),
        }
    }

    fn refuse_link(&self, path: &str) {
        let help = "put the file or folder itself there: a link could lead out of what was signed";
        let message = format!("{path} is a symbolic link, which is refused here");
        self.note(Problem::error("tree.symlink", message, help).at(path, None));
    }

    /// The Compose files that `docker compose` would take in a folder: the main one, then its override.
    pub fn compose_files(&self, dir: &str, origin: Origin) -> Vec<Layer> {
        let stack = if dir.is_empty() { "root" } else { split(dir).1 };
        self.within(stack, || match self.chosen_files(dir) {
            Some(written) => self.files_chosen(dir, &written, origin),
            None => self.files_of(dir, origin),
        })
    }

    /// The files that `COMPOSE_FILE` in the folder's `.env` names, as written.
    pub fn chosen_files(&self, dir: &str) -> Option<Vec<String>> {
        let path = join(dir, ".env");
        if !matches!(self.kind(&path), Some(EntryKind::File { .. })) {
            return None;
        }
        let (mut env, bytes) = (Env::new(), self.or_note(self.tree.read(&path))?);
        env::read_over(&mut env, &String::from_utf8_lossy(&bytes));
        let separator = env.get("COMPOSE_PATH_SEPARATOR").filter(|s| !s.is_empty()).map_or(":", String::as_str);
        let written = env.get("COMPOSE_FILE")?.split(separator).map(str::trim).filter(|text| !text.is_empty());
        Some(written.map(str::to_owned).collect::<Vec<_>>()).filter(|files| !files.is_empty())
    }

    /// As `docker compose` does, relative paths of all of them are resolved beside the first.
    fn files_chosen(&self, dir: &str, written: &[String], origin: Origin) -> Vec<Layer> {
        let mut layers: Vec<Layer> = Vec::new();
        for text in written {
            let path = resolve(dir, text).filter(|path| !path.is_empty() && self.reaches_file(path));
            if let Some(path) = path {
                let base = layers.first().map_or_else(|| split(&path).0.to_owned(), |first| first.directory.clone());
                layers.push(Layer::new(path, origin).based(&base));
            } else {
                let message = format!("COMPOSE_FILE names {text:?}, which is not in the repository");
                let help = "correct the path, or add the file";
                self.note(Problem::error("stack.file-missing", message, help).at(join(dir, ".env"), None));
            }
        }
        layers
    }

    fn files_of(&self, dir: &str, origin: Origin) -> Vec<Layer> {
        let names: Vec<Entry> = self.entries(dir);
        let mut layers = Vec::new();
        for candidates in [MAIN_FILES, OVERRIDE_FILES] {
            let there = candidates.iter().filter(|name| names.iter().any(|e| e.name == **name));
            let mut there = there.map(|name| join(dir, name)).filter(|path| self.has_file(path));
            let Some(chosen) = there.next() else { break };
            for other in there {
                let help = format!("keep one of the two; `docker compose` takes {chosen}, and so does Evenkeel");
                let message = format!("{other} is not used, because {chosen} is beside it");
                self.note(Problem::warning("layout.two-files", message, help).at(other, None));
            }
            layers.push(Layer::new(chosen, origin));
        }
        layers
    }

    /// Whether a folder holds a main Compose file; nothing is noted.
    pub fn has_compose(&self, dir: &str) -> bool {
        self.entries(dir)
            .iter()
            .any(|e| MAIN_FILES.contains(&e.name.as_str()) && !matches!(e.kind, EntryKind::Directory))
            || self.chosen_files(dir).is_some()
    }
}
