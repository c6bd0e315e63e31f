//! From a verified revision to candidates, remembered as long as nothing that they are made of changes.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use evenkeel_core::{
    change::ServiceChange,
    id::{CommitId, Digest},
    plan::{self, Plan, PutBack},
    reason::{Code, Reason},
    release::{Candidate, Release},
};
use evenkeel_layout::{
    name::{ServerName, StackName},
    problem::{Problem, Severity},
    servers,
    set::StackSet,
    stack_set, unclaimed,
};

use crate::{
    compose::renders::Renders,
    engine::Container,
    git::{GitTree, Repo, apart::Revision},
    host::{
        Host,
        candidates::{CandidateInput, Candidates, Place, candidates},
    },
    store::{Memory, StoreError},
    tree::stage::{self, Limits, StageError},
};

/// A commit, prepared: its tree, where it is staged, and what its stacks became.
pub struct Prepared {
    /// The commit's files.
    pub tree: GitTree,
    /// The folder where the commit is staged.
    pub root: PathBuf,
    /// What its stacks became.
    pub candidates: Candidates,
}

impl Prepared {
    /// Whether a stack was rejected for a reason that may pass: Compose itself could not be run.
    fn is_passing(&self) -> bool {
        let mut problems = self.candidates.rejected.iter().flat_map(|(_, problems)| problems);
        problems
            .any(|p| matches!(p.code.as_str(), "compose.missing" | "compose.failed" | "env.overlay" | "secrets.memory"))
    }

    /// The candidate of a stack.
    pub fn candidate(&self, stack: &StackName) -> Option<&Candidate> {
        self.candidates.accepted.iter().find(|c| c.stack == *stack)
    }
}

/// What was prepared last. A sync that changes nothing starts no process: it finds everything here. Of another commit only the
/// stacks are rendered of which something has changed.
#[derive(Default)]
pub struct Cache {
    last: Option<(Key, std::sync::Arc<Prepared>)>,
    renders: Renders,
}

#[derive(PartialEq, Eq)]
struct Key {
    commit: CommitId,
    settings: std::sync::Arc<crate::config::settings::Settings>,
    environment: Digest,
}

impl Cache {
    /// Forgets everything, for a sync that somebody asked for.
    pub fn clear(&mut self) {
        self.last = None;
        self.renders.clear();
    }

    /// Finds the stack set of a verified revision, renders and validates it.
    pub async fn prepare(&mut self, host: &Host, revision: &Revision) -> Result<std::sync::Arc<Prepared>, Reason> {
        let former = self.last.take();
        let known = || environment(host, former.as_ref().map(|(_, p)| &p.candidates));
        let before = known();
        let key = Key { commit: revision.tip().clone(), settings: host.settings.clone(), environment: before };
        if let Some((known, prepared)) = &former
            && *known == key
        {
            let prepared = prepared.clone();
            self.last = former;
            return Ok(prepared);
        }
        let prepared = std::sync::Arc::new(prepare(host, revision, &self.renders).await?);
        let after = environment(host, Some(&prepared.candidates));
        // Of a file that changed meanwhile nobody knows which state was read.
        if !prepared.is_passing() && known() == key.environment {
            self.last = Some((Key { environment: after, ..key }, prepared.clone()));
        }
        Ok(prepared)
    }

    /// Removes what earlier commits left in the staging folder.
    pub fn tidy(&self, host: &Host) {
        let keep = self.last.as_ref().map(|(_, p)| p.root.clone());
        let Ok(entries) = fs::read_dir(host.staging()) else { return };
        for path in entries.flatten().map(|e| e.path()).filter(|p| Some(p) != keep.as_ref()) {
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            if let Err(error) = removed {
                tracing::warn!(path = %path.display(), %error, "cannot tidy the staging folder");
            }
        }
    }
}

async fn prepare(host: &Host, revision: &Revision, renders: &Renders) -> Result<Prepared, Reason> {
    let version = host.compose.version().await;
    let version = version.map_err(|e| Reason::new(e.code().unwrap_or(Code::ComposeMissing), e.to_string()))?;
    let repo = Repo::open(&host.mirror()).map_err(|e| e.reason())?;
    let tree = repo.tree(revision.tip()).map_err(|e| e.reason())?;
    let layout = host.settings.layout.as_ref();
    let set = stack_set(&tree, &host.settings.server, layout);
    refuse_other_name(host, &tree, &set)?;
    refuse_broken(&set)?;
    let root = stage_whole(host, &tree, revision.tip())?;
    renders.begin(&host.compose, version);
    let mut made = candidates(CandidateInput {
        compose: &host.compose,
        renders,
        tree: &tree,
        set: &set,
        server: &host.settings.server,
        commit: revision.tip(),
        root: &root,
        target: host.live.root(),
        env_dir: Some(&host.settings.paths.env),
        live: Some(host.live.root()),
        allowed: &host.settings.engine.allow_host_paths,
        identities: host.settings.secrets.age_identities.as_deref(),
        place: Place::Server,
        committed: None,
    })
    .await;
    renders.end();
    // What another server uses is claimed as well.
    let others = servers(&tree, layout).into_iter().filter(|name| *name != host.settings.server);
    let mut sets: Vec<StackSet> = others.map(|name| stack_set(&tree, &name, layout)).collect();
    sets.push(set);
    made.problems.extend(unclaimed(&tree, &sets, layout));
    for problem in &made.problems {
        let (stack, path) = (problem.stack.as_deref(), problem.path.as_deref());
        tracing::info!(code = problem.code, stack, path, line = problem.line, "{}", problem.message);
    }
    Ok(Prepared { tree, root, candidates: made })
}

/// Nobody who renames a host means to replace what runs on it. Unless the configuration says the server's name, another
/// name that means other stacks is refused.
fn refuse_other_name(host: &Host, tree: &GitTree, set: &StackSet) -> Result<(), Reason> {
    let now = &host.settings.server;
    let before = host.store.remembered(Memory::Server).map_err(|e| e.reason())?;
    if host.settings.server_is_host
        && let Some(before) = before.and_then(|name| ServerName::new(&name).ok()).filter(|before| before != now)
    {
        let former = stack_set(tree, &before, host.settings.layout.as_ref());
        if !former.is_broken() && former.stacks != set.stacks {
            let message = format!(
                "this host was called {before} and is now called {now}, for which the repository has other stacks; nothing \
                 is changed. Set `server: {before}` in the configuration to go on as before, or `server: {now}` if the \
                 stacks of {now} shall run here"
            );
            return Err(Reason::new(Code::ServerRenamed, message));
        }
    }
    if set.is_broken() {
        return Ok(()); // that name means nothing; it is refused below
    }
    host.store.remember(Memory::Server, now.as_str()).map_err(|e| e.reason())
}

/// If an error names no stack, nobody can say which stacks the commit means: nothing may be changed, least removed.
fn refuse_broken(set: &StackSet) -> Result<(), Reason> {
    if !set.is_broken() {
        return Ok(());
    }
    let errors: Vec<Problem> =
        set.problems.iter().filter(|p| p.severity == Severity::Error && p.stack.is_none()).cloned().collect();
    let reason = rejection(&errors);
    Err(Reason::new(Code::LayoutInvalid, reason.message))
}

/// Writes the whole commit into a folder whose name occurs nowhere else, so that paths in it can be told apart.
fn stage_whole(host: &Host, tree: &GitTree, commit: &CommitId) -> Result<PathBuf, Reason> {
    let root = host.staging().join(commit.as_str());
    let failed = |path: &Path, source| StageError::Write { path: path.to_owned(), source }.reason();
    if root.exists() {
        fs::remove_dir_all(&root).map_err(|e| failed(&root, e))?;
    }
    fs::create_dir_all(host.staging()).map_err(|e| failed(&host.staging(), e))?;
    let report = stage::stage(tree, &root, Limits::default()).map_err(|e| e.reason())?;
    tracing::debug!(files = report.files, bytes = report.bytes, "staged the commit");
    Ok(root)
}

/// Errors as one reason: the first in full, the others counted.
pub fn rejection(problems: &[Problem]) -> Reason {
    let Some(first) = problems.first() else {
        return Reason::new(Code::StackInvalid, "it has an error");
    };
    let place = match (&first.path, first.line) {
        (Some(path), Some(line)) => format!("{path}:{line}: "),
        (Some(path), None) => format!("{path}: "),
        _ => String::new(),
    };
    let more = match problems.len() {
        1 => String::new(),
        n => format!(" (and {} more; `evenkeel check` lists them)", n - 1),
    };
    let code = match first.code.as_str() {
        "env.unset" => Code::EnvUnset,
        "compose.missing" => Code::ComposeMissing,
        code if code.starts_with("secrets.") => Code::SecretsUnreadable,
        _ => Code::StackInvalid,
    };
    Reason::new(code, format!("{place}{}; {}{more}", first.message, first.help))
}

impl Prepared {
    /// What this sync has to do. What is merely missing is drift's business, unless somebody asked (`put_back`).
    pub fn plan(
        &self,
        host: &Host,
        releases: &BTreeMap<StackName, Release>,
        (containers, found): (&[Container], &BTreeMap<StackName, Vec<ServiceChange>>),
        put_back: PutBack,
    ) -> Result<Plan, StoreError> {
        let mut observed = plan::Containers::new();
        for container in containers {
            observed.entry(container.project.clone()).or_default().insert(container.service.clone());
        }
        let rejected: Vec<StackName> = self.candidates.rejected.iter().map(|(name, _)| name.clone()).collect();
        let desired = plan::Desired {
            accepted: &self.candidates.accepted,
            rejected: &rejected,
            problems: &[],
            root: &host.live.root().display().to_string(),
            complete: true,
            put_back,
            found,
            groups: &self.candidates.groups,
            halted: &host.store.halted()?,
        };
        Ok(plan::build(desired, releases, Some(&observed)))
    }
}

/// Digests everything on the server that candidates are made of besides the commit: the environment files, those untracked ones
/// in the live tree that were used last time, and the key that opens encrypted ones.
fn environment(host: &Host, known: Option<&Candidates>) -> Digest {
    let overlaid = known.map(|c| c.overlaid.clone()).unwrap_or_default();
    let in_live = overlaid.iter().map(|path| host.live.root().join(path));
    let mut files: Vec<PathBuf> = fs::read_dir(&host.settings.paths.env)
        .map(|entries| entries.flatten().map(|e| e.path()).collect())
        .unwrap_or_default();
    files.extend(in_live);
    files.extend(host.settings.secrets.age_identities.clone());
    files.sort();
    let contents: Vec<(String, Option<Digest>)> = files
        .iter()
        .map(|path| (path.display().to_string(), fs::read(path).ok().map(|bytes| Digest::of(&bytes))))
        .collect();
    // Paths and digests of ours always have a JSON form; without one nothing is taken from the cache.
    Digest::of(serde_json::to_string(&contents).unwrap_or_default().as_bytes())
}
