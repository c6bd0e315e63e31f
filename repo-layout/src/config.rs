//! `evenkeel.yml` at a repository's root: what cannot be recognised, or should differ.

use std::collections::BTreeMap;

use crate::{
    extension::{self, Extension},
    name::{GroupName, ServerName, StackName},
    policy::Policy,
    problem::Problem,
    section::{Section, Source},
    set::LayoutKind,
    tree::Tree,
    yaml::{self, Node, Step},
};

pub use crate::section::Written;

/// Where the file stands.
pub const CONFIG_FILE: &str = "evenkeel.yml";

/// Keys of the file. The schema `evenkeel.schema.json` names the same.
pub(crate) const KEYS: &[&str] = &["defaults", "ignore", "layout", "paths", "policy", "project", "servers", "stacks"];
/// Keys of the same block in a server's `agent.yml`: the policy is for people.
pub(crate) const KEYS_OF_AGENT: &[&str] = &["defaults", "ignore", "layout", "paths", "project", "servers", "stacks"];
/// Keys of `servers.<s>`.
pub(crate) const SERVER_KEYS: &[&str] = &["profiles", "stacks"];
/// Keys of `stacks.<x>`.
pub(crate) const STACK_KEYS: &[&str] = &["depends_on", "files", "group"];
/// Values of `layout`.
pub(crate) const LAYOUTS: &[(&str, LayoutKind)] = &[
    ("servers", LayoutKind::Servers),
    ("stacks", LayoutKind::Stacks),
    ("hosts", LayoutKind::Hosts),
    ("root", LayoutKind::Root),
    ("sites", LayoutKind::Sites),
];

/// Values of `paths`.
pub(crate) const PATHS: &[(&str, PathBase)] = &[("file", PathBase::File), ("root", PathBase::Root)];
/// Values of `project`.
pub(crate) const PROJECTS: &[(&str, ProjectBase)] = &[("stack", ProjectBase::Stack), ("server", ProjectBase::Server)];

/// Where relative paths of a layer are resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathBase {
    /// Beside the file.
    File,
    /// In the repository's root.
    Root,
}

/// What is one Compose project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProjectBase {
    /// Each stack.
    Stack,
    /// All stacks of a server together.
    Server,
}

/// What the file says of one server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerConfig {
    /// The stacks that it runs; `None` is those that the layout gives it.
    pub stacks: Option<Vec<Written>>,
    /// Compose profiles that are active on it.
    pub profiles: Vec<String>,
}

/// What the file says of one stack.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StackConfig {
    /// Its Compose files, lowest first. Without any, the stack is one that the layout finds.
    pub files: Vec<Written>,
    /// Stacks that must be committed before it, besides those that its files name.
    pub depends_on: Vec<Written>,
    /// The stacks that it moves with, if its files do not say.
    pub group: Option<GroupName>,
}

/// The file, validated: names are names, kinds are known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LayoutConfig {
    /// Where it was read from, for problems.
    pub path: String,
    /// The layout, if it is stated.
    pub layout: Option<LayoutKind>,
    /// Where relative paths are resolved; `None` is as the layout has it.
    pub paths: Option<PathBase>,
    /// What is one project; `None` is as the layout has it.
    pub project: Option<ProjectBase>,
    /// Patterns of paths that are not looked at.
    pub ignore: Vec<String>,
    /// How severe findings are here, and which are allowed.
    pub policy: Policy,
    /// Servers of which the file says something.
    pub servers: BTreeMap<ServerName, ServerConfig>,
    /// Stacks of which the file says something.
    pub stacks: BTreeMap<StackName, StackConfig>,
    /// What every stack says of itself that does not say otherwise.
    pub(crate) defaults: Extension,
}

impl LayoutConfig {
    /// Reads the file of `tree`; an empty configuration if there is none.
    pub fn read(tree: &dyn Tree) -> (Self, Vec<Problem>) {
        match tree.read(CONFIG_FILE) {
            Ok(None) => (Self::default(), Vec::new()),
            Ok(Some(bytes)) => Self::parse(CONFIG_FILE, &bytes),
            Err(error) => {
                let help = "check the repository; `git fsck` finds broken objects";
                let problem = Problem::error("tree.unreadable", error.to_string(), help).at(CONFIG_FILE, None);
                (Self::default(), vec![problem])
            }
        }
    }

    /// The repository's own configuration, unless another one takes its place; what is wrong with it is told elsewhere.
    pub(crate) fn of_repository(tree: &dyn Tree, instead: Option<&Self>) -> Self {
        if instead.is_none() { Self::read(tree).0 } else { Self::default() }
    }

    /// Reads a file's content, with everything that is wrong with it. `path` names it in problems.
    pub fn parse(path: &str, bytes: &[u8]) -> (Self, Vec<Problem>) {
        let mut config = Self { path: path.to_owned(), ..Self::default() };
        let parsed = yaml::decode(bytes).and_then(|text| Ok((text, yaml::parse(text)?)));
        let (text, documents) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => {
                let problem = Problem::error("config.syntax", error.message, error.help).at(path, error.line);
                return (config, vec![problem]);
            }
        };
        let source = Source::new(path, text, "config");
        let node = documents.first().unwrap_or(&Node::Null);
        let root = Section::new(&source, Vec::new(), node).only(KEYS);
        if documents.len() > 1 {
            root.refuse(&[], "it holds more than one document", "remove the `---` between them");
        }
        config.read_layout(&root);
        config.policy = Policy::read(&root);
        (config, source.into_problems())
    }

    /// Reads the block as it stands at the top-level `key` of a server's `agent.yml`, whose text is this.
    pub fn of_agent(path: &str, text: &str, key: &str) -> (Self, Vec<Problem>) {
        let mut config = Self { path: path.to_owned(), ..Self::default() };
        let source = Source::new(path, text, "config");
        // The file as a whole was read before: what is not there says nothing.
        let documents = yaml::parse(text).unwrap_or_default();
        if let Some(node) = documents.first().and_then(|document| document.get(key)) {
            config.read_layout(&Section::new(&source, vec![Step::Key(key)], node).only(KEYS_OF_AGENT));
        }
        (config, source.into_problems())
    }

    fn read_layout(&mut self, root: &Section<'_, '_>) {
        self.layout = root.one_of("layout", LAYOUTS);
        self.paths = root.one_of("paths", PATHS);
        self.project = root.one_of("project", PROJECTS);
        if let Some(defaults) = root.section("defaults") {
            self.defaults = extension::read_block(&defaults.only(extension::DEFAULT_KEYS));
        }
        self.ignore = root.texts("ignore").unwrap_or_default().into_iter().map(|i| i.text).collect();
        self.read_servers(root);
        self.read_stacks(root);
    }

    fn read_servers(&mut self, root: &Section<'_, '_>) {
        let Some(servers) = root.section("servers") else { return };
        for (key, server) in servers.sections() {
            match ServerName::new(key) {
                Ok(name) => {
                    let server = server.only(SERVER_KEYS);
                    let stacks = server.texts("stacks");
                    let profiles = server.texts("profiles").unwrap_or_default();
                    let profiles = profiles.into_iter().map(|profile| profile.text).collect();
                    self.servers.insert(name, ServerConfig { stacks, profiles });
                }
                Err(error) => servers.refuse(&[Step::Key(key)], &error.to_string(), "rename the server"),
            }
        }
    }

    fn read_stacks(&mut self, root: &Section<'_, '_>) {
        let Some(stacks) = root.section("stacks") else { return };
        for (key, stack) in stacks.sections() {
            match StackName::new(key) {
                Ok(name) => {
                    let stack = stack.only(STACK_KEYS);
                    let files = stack.texts("files").unwrap_or_default();
                    let depends_on = stack.texts("depends_on").unwrap_or_default();
                    let group = extension::group(&stack);
                    self.stacks.insert(name, StackConfig { files, depends_on, group });
                }
                Err(error) => stacks.refuse(&[Step::Key(key)], &error.to_string(), "rename the stack"),
            }
        }
    }
}
