//! What the offline verbs look at: a work tree as it stands, or a revision of it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use evenkeel_core::{
    id::CommitId,
    outcome::Exit,
    path::{Followed, follow},
    reason::Code,
    references::reads,
};
use evenkeel_layout::{
    LayoutConfig,
    name::ServerName,
    nearest,
    problem::{Problem, Severity},
    servers,
    set::StackSet,
    stack_set,
    tree::{MapTree, Tree},
};
use semver::Version;

use super::output::{Failure, Format, Output};
use crate::{
    compose::Compose,
    git::{self, GitTree},
    host::{candidates::missing_env_files, encrypted},
    process::Runner,
    tree::{stage, worktree::DirTree},
};

/// What a repository that names no servers calls the one that runs all its stacks.
const ANY_SERVER: &str = "default";
/// What is said of a work tree in place of a commit.
const WORK_TREE: &str = "worktree";
/// The commit of what no commit has.
const NO_COMMIT: &str = "0000000000000000000000000000000000000000";

/// Which repository and server, for the verbs that work offline.
#[derive(Debug, Clone, clap::Args)]
pub struct RepoArgs {
    /// A work tree or a bare repository
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub repo: PathBuf,
    /// The server's name
    #[arg(long, value_name = "NAME")]
    pub server: Option<String>,
}

/// The files of a work tree or of a revision.
pub struct Source {
    dir: PathBuf,
    commit: Option<CommitId>,
    tree: Box<dyn Tree + Sync>,
    /// What the commit has that a work tree stands on; looked up when it is asked for.
    committed: OnceLock<Box<dyn Tree + Sync>>,
}

impl Source {
    /// Opens `rev` of the repository at `dir`; without one the work tree as it stands, of a bare repository `HEAD`.
    pub fn open(dir: &Path, rev: Option<&str>) -> Result<Self, Failure> {
        let dir = absolute(dir)?;
        let rev = rev.or_else(|| is_bare(&dir).then_some("HEAD"));
        let Some(rev) = rev else {
            let tree = DirTree::open(&dir).map_err(|e| {
                Failure::usage(
                    "repo.unreadable",
                    format!("{} cannot be read: {}", dir.display(), e.why),
                    "name a folder with --repo",
                )
            })?;
            if !dir.join(".git").exists()
                && let Some(whole) = git::enclosing(&dir)
            {
                Output::new(Format::Text).note(&format!(
                    "note: {} lies in the repository {} and is taken for a whole one",
                    dir.display(),
                    whole.display()
                ));
            }
            return Ok(Self { dir, commit: None, tree: Box::new(tree), committed: OnceLock::new() });
        };
        let (commit, tree) = revision(&dir, rev)?;
        Ok(Self { dir, commit: Some(commit), tree: Box::new(tree), committed: OnceLock::new() })
    }

    /// The repository's folder, absolute.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The files.
    pub fn tree(&self) -> &(dyn Tree + Sync) {
        self.tree.as_ref()
    }

    /// The files that a commit has: the revision's, or those of the commit that the work tree stands on; none if there is no such.
    pub fn committed(&self) -> &(dyn Tree + Sync) {
        if self.commit.is_some() {
            return self.tree();
        }
        let of_head = || -> Box<dyn Tree + Sync> {
            match revision(&self.dir, "HEAD") {
                Ok((_, tree)) => Box::new(tree),
                Err(_) => Box::new(MapTree::default()),
            }
        };
        self.committed.get_or_init(of_head).as_ref()
    }

    /// The commit; all zeros for a work tree.
    pub fn commit(&self) -> CommitId {
        let none = || CommitId::new(NO_COMMIT).expect("forty digits are a commit id");
        self.commit.clone().unwrap_or_else(none)
    }

    /// The commit as a person reads it.
    pub fn name(&self) -> String {
        self.commit.as_ref().map_or_else(|| WORK_TREE.to_owned(), ToString::to_string)
    }

    /// The server that is asked for, or else all that the repository names: none if its layout knows no servers.
    pub fn servers(&self, server: Option<&str>) -> Result<Vec<ServerName>, Failure> {
        server.map_or_else(|| Ok(servers(self.tree(), None)), |name| Ok(vec![server_name(name)?]))
    }

    /// The stacks of each server that is asked for, of all servers if none is.
    pub fn sets(&self, server: Option<&str>) -> Result<Vec<(ServerName, StackSet)>, Failure> {
        let mut names = self.servers(server)?;
        if names.is_empty() {
            names.push(server_name(ANY_SERVER)?);
        }
        Ok(names.into_iter().map(|name| self.set(name)).collect())
    }

    /// The stacks of one server. If none is named, the repository may have one at most.
    pub fn one_set(&self, server: Option<&str>) -> Result<(ServerName, StackSet), Failure> {
        let known = servers(self.tree(), None);
        match (server, known.as_slice()) {
            (Some(name), _) => Ok(self.set(server_name(name)?)),
            (None, []) => Ok(self.set(server_name(ANY_SERVER)?)),
            (None, [only]) => Ok(self.set(only.clone())),
            (None, several) => {
                let names = several.iter().map(ServerName::as_str).collect::<Vec<_>>().join(", ");
                let message = "the repository has several servers, and none is named";
                Err(Failure::usage("usage", message, format!("say which with --server: {names}")))
            }
        }
    }

    fn set(&self, server: ServerName) -> (ServerName, StackSet) {
        let set = stack_set(self.tree(), &server, None::<&LayoutConfig>);
        (server, set)
    }

    /// Everything that Compose reads to render these stacks, without symlinks on the way; `None` if that cannot be told of each.
    fn read(&self, sets: &[(ServerName, StackSet)]) -> Option<BTreeSet<String>> {
        let mut files = BTreeSet::new();
        for stack in sets.iter().flat_map(|(_, set)| &set.stacks) {
            files.extend(reads(self.tree(), &stack.layers).ok()?.inputs?);
            files.extend(stack.paths().map(str::to_owned).chain(stack.env_files.iter().cloned()));
        }
        let target = |path: String| match follow(self.tree(), &path) {
            Ok(Followed::To(target)) => Some(target),
            _ => None,
        };
        files.into_iter().map(target).collect()
    }

    /// Makes a folder in which Compose finds everything that these stacks name: the work tree itself if it has it all. Environment
    /// files that only a server has are empty there if `stand_in`.
    pub fn prepare(&self, sets: &[(ServerName, StackSet)], stand_in: bool) -> Result<Prepared, Failure> {
        // What is encrypted leads to its plain text there for a while, which it may not in the work tree.
        let mut missing: BTreeSet<String> =
            sets.iter().flat_map(|(_, set)| encrypted::paths(self.tree(), set)).collect();
        if stand_in {
            missing.extend(sets.iter().flat_map(|(_, set)| missing_env_files(self.tree(), set)));
        }
        if self.commit.is_none() && missing.is_empty() {
            return Ok(Prepared { root: self.dir.clone(), problems: Vec::new(), _folder: None });
        }
        let failed = |e: &dyn std::fmt::Display| {
            Failure::failed(
                "stage.failed",
                format!("cannot stage the repository's files: {e}"),
                "look at the temporary folder ($TMPDIR)",
            )
        };
        let folder = tempfile::Builder::new().prefix("evenkeel-").tempdir().map_err(|e| failed(&e))?;
        // A project without a name takes its folder's.
        let root = folder.path().join(self.dir.file_name().unwrap_or("root".as_ref()));
        let mut problems = Vec::new();
        if self.commit.is_some() {
            let limits = stage::Limits::default();
            let staged = match self.read(sets) {
                Some(files) => stage::stage_only(self.tree(), &root, limits, &files),
                None => stage::stage(self.tree(), &root, limits),
            };
            problems = staged.map_err(|e| failed(&e))?.problems;
            for path in &missing {
                stage::stand_in(&root, path).map_err(|e| failed(&e))?;
            }
        } else {
            stage::shadow(&self.dir, &root, &missing).map_err(|e| failed(&e))?;
        }
        Ok(Prepared { root, problems, _folder: Some(folder) })
    }
}

/// A folder with what Compose reads of a source's files, which lives as long as this value.
pub struct Prepared {
    /// The folder.
    pub root: PathBuf,
    /// What was left out on the way.
    pub problems: Vec<Problem>,
    _folder: Option<tempfile::TempDir>,
}

/// Finds Compose and checks its version.
pub async fn compose() -> Result<(Compose, Version), Failure> {
    let found = async {
        let compose = Compose::find(Runner::supervised(), None, None)?;
        let version = compose.version().await?;
        Ok((compose, version))
    };
    found.await.map_err(|e: crate::compose::ComposeError| {
        let code = e.code().unwrap_or(Code::ComposeMissing);
        Failure::transient(code, e.to_string(), "no engine is needed, only the program")
    })
}

/// The failure for a stack that the set does not have, or cannot have.
pub fn no_stack(set: &StackSet, stack: &str) -> Failure {
    let names = || set.stacks.iter().map(|s| s.name.as_str());
    let known = names().collect::<Vec<_>>().join(", ");
    let help = nearest(names(), stack)
        .map_or_else(|| format!("the server has: {known}"), |near| format!("did you mean `{near}`?"));
    Failure::usage("stack.unknown", format!("the server has no stack {stack:?}"), help)
}

/// The first error of the whole set, or of this stack in it, as a failure.
pub fn fault(set: &StackSet, stack: Option<&str>) -> Option<Failure> {
    let concerns = |p: &&Problem| p.severity == Severity::Error && (p.stack.is_none() || p.stack.as_deref() == stack);
    set.problems.iter().find(concerns).map(from_problem)
}

/// A problem as the reason why a verb failed.
pub fn from_problem(problem: &Problem) -> Failure {
    let at = match (&problem.path, problem.line) {
        (Some(path), Some(line)) => format!("{path}:{line}: "),
        (Some(path), None) => format!("{path}: "),
        _ => String::new(),
    };
    let exit = if problem.code == "server.unknown" { Exit::Usage } else { Exit::Failed };
    Failure::new(exit, &problem.code, format!("{at}{}", problem.message), problem.help.clone())
}

fn server_name(name: &str) -> Result<ServerName, Failure> {
    ServerName::new(name).map_err(|e| Failure::usage("usage", e.to_string(), "name a server of the repository"))
}

fn revision(dir: &Path, rev: &str) -> Result<(CommitId, GitTree), Failure> {
    let unreadable = |e: git::GitError| {
        Failure::usage("repo.unreadable", e.to_string(), "say which with --repo; the default is the current folder")
    };
    let repo = git::Repo::open(dir).map_err(unreadable)?;
    let commit = repo.resolve(rev).ok_or_else(|| {
        let message = format!("{} has no revision {rev:?}", dir.display());
        Failure::usage("repo.no-revision", message, "see `git log`; in a shallow clone older revisions are missing")
    })?;
    let tree = repo.tree(&commit).map_err(|e| {
        Failure::failed("repo.damaged", e.to_string(), "`git fsck` finds broken objects; clone it again")
    })?;
    Ok((commit, tree))
}

/// Without symlinks being resolved, unless `..` makes that necessary: paths are shown as the person wrote them.
fn absolute(dir: &Path) -> Result<PathBuf, Failure> {
    let ups = dir.components().any(|part| part == std::path::Component::ParentDir);
    let result = if ups { dir.canonicalize() } else { std::path::absolute(dir) };
    result
        .map(|path| path.components().collect())
        .map_err(|e| Failure::usage("repo.unreadable", format!("{}: {e}", dir.display()), "name a folder with --repo"))
}

fn is_bare(dir: &Path) -> bool {
    !dir.join(".git").exists() && dir.join("HEAD").is_file() && dir.join("objects").is_dir()
}
