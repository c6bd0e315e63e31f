//! From a stack set to candidates: each stack rendered, validated, and its slice read. Used by the sync spine and by the
//! verbs that work offline alike.

mod told;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use evenkeel_core::{
    id::CommitId,
    model::Model,
    path::{Followed, follow, join, parent},
    references::{Reads, Reference, ReferenceKind, reads, references},
    release::{Candidate, SecretEnv},
    slice, validate,
};
use evenkeel_layout::{
    name::{GroupName, ServerName, StackName},
    problem::{Problem, Severity},
    reload::Reload,
    set::{Stack, StackSet},
    tree::{Tree, TreeError},
    yaml,
};
use futures_util::{StreamExt as _, stream};
use semver::Version;

use super::{
    delivered::{Delivered, deliver},
    encrypted::{self, Encrypted},
    examples::Examples,
    lasting::Origin,
};
use crate::{
    compose::{
        Compose,
        render::{RenderRequest, Rendered},
        renders::{Inputs, Renders},
    },
    tree::stage,
};

/// How many stacks are rendered side by side.
const PARALLEL: usize = 2;
/// Largest environment file that is taken from the live tree, in bytes.
const MAX_ENV_BYTES: u64 = 1024 * 1024;
/// The first Compose whose configs may come from variables.
const CONFIGS_OF_VARIABLES: Version = Version::new(2, 23, 1);
/// The environment file on the server that every stack gets.
const SERVER_ENV: &str = "_server.env";

/// Where the candidates are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On the server: a variable that is set nowhere rejects its stack.
    Server,
    /// Elsewhere, without the server's environment files: such a variable is a warning, and is empty.
    Elsewhere,
}

/// What candidates are made from.
#[derive(Clone, Copy)]
pub struct CandidateInput<'a> {
    /// Renders.
    pub compose: &'a Compose,
    /// What it rendered before.
    pub renders: &'a Renders,
    /// The commit's files.
    pub tree: &'a (dyn Tree + Sync),
    /// The server's stacks in it.
    pub set: &'a StackSet,
    /// The server.
    pub server: &'a ServerName,
    /// The commit.
    pub commit: &'a CommitId,
    /// Where the tree's files are: a folder that was staged from it, or the work tree itself.
    pub root: &'a Path,
    /// Where they will be: the live root.
    pub target: &'a Path,
    /// The folder of environment files that are never in Git.
    pub env_dir: Option<&'a Path>,
    /// The live tree, of which untracked environment files are copied into `root`.
    pub live: Option<&'a Path>,
    /// What may be read outside the repository.
    pub allowed: &'a [PathBuf],
    /// A file of age keys, to open what is encrypted in Git.
    pub identities: Option<&'a Path>,
    /// Where this is.
    pub place: Place,
    /// The files of a commit of which renderings may outlive the process; `None`: nothing may.
    pub committed: Option<&'a (dyn Tree + Sync)>,
}

/// What came of the stacks.
#[derive(Clone, Default)]
pub struct Candidates {
    /// Stacks that can be deployed, sorted by name.
    pub accepted: Vec<Candidate>,
    /// Stacks that cannot, with the errors why, sorted by name. They keep their release, and hold their dependents.
    pub rejected: Vec<(StackName, Vec<Problem>)>,
    /// The groups of stacks that move together, those of rejected ones too.
    pub groups: BTreeMap<StackName, GroupName>,
    /// Everything that was found, errors too, sorted.
    pub problems: Vec<Problem>,
    /// Untracked environment files of the live tree that took part, by their paths in it.
    pub overlaid: BTreeSet<String>,
}

/// Makes the candidates of a stack set. A fault of one stack rejects that stack only. The caller has made sure that there is a
/// Compose ([`Compose::version`]).
pub async fn candidates(input: CandidateInput<'_>) -> Candidates {
    let broken = input.set.rejected();
    let sound = input.set.stacks.iter().filter(|stack| !broken.contains(stack.name.as_str()));
    let CandidateInput { tree, set, root, identities, place, .. } = input;
    let encrypted = &Encrypted::open(encrypted::Source { tree, set, root, identities, place });
    let made = stream::iter(sound).map(|stack| one(input, encrypted, stack)).buffered(PARALLEL);
    let results: Vec<Made> = made.collect().await;
    let grouped = input.set.stacks.iter().filter_map(|stack| Some((stack.name.clone(), stack.group.clone()?)));
    let mut out =
        Candidates { problems: input.set.problems.clone(), groups: grouped.collect(), ..Candidates::default() };
    for made in results {
        out.problems.extend(made.problems);
        out.accepted.extend(made.candidate);
        out.overlaid.extend(made.overlaid);
    }
    refuse_shared_projects(&mut out);
    for problem in &mut out.problems {
        problem.server.get_or_insert_with(|| input.server.to_string());
    }
    out.problems.sort();
    out.problems.dedup();
    let refused = erroneous(&out.problems);
    out.accepted.retain(|candidate| !refused.contains(&candidate.stack));
    // What could not be rendered is not accepted either, even if nobody is to blame for it.
    let wanted = input.set.stacks.iter().map(|stack| stack.name.clone()).chain(refused);
    let rejected: BTreeSet<StackName> =
        wanted.filter(|name| !out.accepted.iter().any(|candidate| candidate.stack == *name)).collect();
    out.rejected = rejected.into_iter().map(|name| (name.clone(), of_stack(&out.problems, &name))).collect();
    out
}

/// The problems of one stack, errors first.
fn of_stack(problems: &[Problem], stack: &StackName) -> Vec<Problem> {
    problems.iter().filter(|p| p.stack.as_deref() == Some(stack.as_str())).cloned().collect()
}

/// Every stack that an error names. A name that is none belongs to no stack that could be deployed.
fn erroneous(problems: &[Problem]) -> BTreeSet<StackName> {
    let errors = problems.iter().filter(|p| p.severity == Severity::Error);
    errors.filter_map(|p| StackName::new(p.stack.as_deref()?).ok()).collect()
}

/// The environment files that stacks of this set name and the tree does not have: they are on the server, or nowhere. To render
/// elsewhere, empty ones stand in for them.
pub fn missing_env_files(tree: &dyn Tree, set: &StackSet) -> BTreeSet<String> {
    let of_stack = |stack: &Stack| {
        // A tree that cannot be read is told of when the stack is rendered.
        references(tree, &stack.layers).unwrap_or_default()
    };
    let all = set.stacks.iter().flat_map(of_stack);
    all.filter(|r| is_missing(tree, r)).filter_map(|r| r.path).collect()
}

fn is_missing(tree: &dyn Tree, reference: &Reference) -> bool {
    let by_name = matches!(reference.kind, ReferenceKind::EnvFile | ReferenceKind::LabelFile) && reference.required;
    by_name && reference.path.as_deref().is_some_and(|path| slice::content(tree, path).is_ok_and(|c| c.is_none()))
}

/// Two stacks with one project would take each other's containers for their own.
fn refuse_shared_projects(out: &mut Candidates) {
    let mut by_project: BTreeMap<&str, Vec<&StackName>> = BTreeMap::new();
    for candidate in &out.accepted {
        by_project.entry(&candidate.project).or_default().push(&candidate.stack);
    }
    let mut problems = Vec::new();
    for (project, stacks) in by_project.into_iter().filter(|(_, stacks)| stacks.len() > 1) {
        let names = stacks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let message = format!("the stacks {names} are all the Compose project {project:?}");
        let help = "give each a `name:` of its own, or make them one stack in evenkeel.yml";
        problems.extend(stacks.iter().map(|s| Problem::error("stack.project", message.clone(), help).in_stack(s)));
    }
    out.problems.extend(problems);
}

/// What came of one stack.
struct Made {
    candidate: Option<Candidate>,
    problems: Vec<Problem>,
    overlaid: BTreeSet<String>,
}

async fn one(input: CandidateInput<'_>, encrypted: &Encrypted, stack: &Stack) -> Made {
    let problems = encrypted.problems(input.tree, stack);
    let mut work = Work { input, encrypted, stack, problems, overlaid: BTreeSet::new() };
    let candidate = match work.candidate().await {
        Ok(candidate) => candidate,
        Err(problem) => {
            work.problems.push(*problem);
            None
        }
    };
    let problems = work.problems.into_iter().filter(|problem| !encrypted.may_set(stack, problem));
    let examples = Examples::of(input.tree, stack, input.server);
    let problems = problems.map(|mut problem| {
        encrypted.redact(&mut problem);
        examples.point_out(&mut problem);
        problem.in_stack(&stack.name)
    });
    let problems = problems.collect();
    Made { candidate, problems, overlaid: work.overlaid }
}

struct Work<'a> {
    input: CandidateInput<'a>,
    encrypted: &'a Encrypted,
    stack: &'a Stack,
    problems: Vec<Problem>,
    overlaid: BTreeSet<String>,
}

impl Work<'_> {
    async fn candidate(&mut self) -> Result<Option<Candidate>, Box<Problem>> {
        let CandidateInput { tree, root, target, .. } = self.input;
        let reads = reads(tree, &self.stack.layers).map_err(unreadable)?;
        let references = &reads.references;
        let overlaid = self.overlay(references)?;
        let env_files = self.env_files(&overlaid);
        self.refuse_ciphertext(&env_files, references);
        self.refuse_references(references).map_err(unreadable)?;
        self.note_missing(references);
        if self.problems.iter().any(|p| p.severity == Severity::Error) {
            return Ok(None);
        }
        let request = RenderRequest {
            stack: self.stack,
            env_files: &env_files,
            root,
            target,
            lenient: self.input.place == Place::Elsewhere,
        };
        let Some((model, project, may_last)) = self.rendered(&request, &reads).await else { return Ok(None) };
        let target_text = target.display().to_string();
        self.problems.extend(self.outside(&model, references));
        let mut secret_env = self.secrets(&request, &model.environment_secrets(), may_last).await;
        let Delivered { model, values, files, configs, problems } = deliver(&model, tree, &target_text, self.encrypted);
        self.note(problems);
        self.refuse_older_compose(configs).await;
        secret_env.0.extend(values);
        let hidden = encrypted::ciphertext(&model, tree, &target_text);
        self.note(hidden);
        let watched: Vec<String> = self.stack.watched.iter().map(|path| format!("{target_text}/{path}")).collect();
        let mut model = model.watching(&watched).taking_up(self.stack.on_change, &self.reloads(&model));
        if let Some(script) = &self.stack.health_check {
            model = model.checked_by(&format!("{target_text}/{script}"));
        }
        self.note(validate::reloads(&model, &target_text));
        let read = references.iter().filter_map(|r| r.path.clone());
        let passive = self.stack.paths().map(str::to_owned).chain(self.stack.env_files.iter().cloned());
        let passive = passive.chain(read).chain(files);
        let slice = slice::read(tree, &slice::active_paths(&model, &target_text), passive).map_err(unreadable)?;
        self.problems.extend(slice.problems);
        self.problems.extend(slice::check_script(&model, &target_text, &slice.files));
        Ok(Some(Candidate {
            stack: self.stack.name.clone(),
            project,
            directory: self.stack.directory().to_owned(),
            commit: self.input.commit.clone(),
            depends_on: self.stack.depends_on.clone(),
            gate: self.stack.gate,
            group: self.stack.group.clone(),
            window: self.stack.window.clone(),
            drift: self.stack.drift,
            model,
            files: slice.files,
            passive: slice.passive,
            secret_env,
        }))
    }

    /// The model and its project, and whether what is made of the same files may outlive the process.
    async fn rendered(&mut self, request: &RenderRequest<'_>, reads: &Reads) -> Option<(Model, String, bool)> {
        let CandidateInput { tree, compose, renders, committed, .. } = self.input;
        let encrypted = self.encrypted;
        let may_last =
            committed.is_some_and(|committed| Origin { tree, committed, encrypted }.is_plain(request, reads));
        let inputs = reads.inputs.as_ref().map(|files| Inputs { files, may_last });
        let rendered = renders.render(compose, request, inputs).await.map_err(|e| self.render_failed(e));
        let Rendered { model, project, unset, warnings } = rendered.ok()?;
        self.problems.extend(warnings);
        let unset = unset.into_iter().map(|problem| self.unset(problem));
        self.problems.extend(unset.collect::<Vec<_>>());
        Some((model, project, may_last))
    }

    /// Copies environment files that exist on the server only beside the staged ones. Returns the `.env` files among them that
    /// stand where the layout would have looked for them.
    fn overlay(&mut self, references: &BTreeSet<Reference>) -> Result<BTreeSet<String>, Box<Problem>> {
        let Some(live) = self.input.live else { return Ok(BTreeSet::new()) };
        let folders = self.stack.layers.iter().map(|l| parent(&l.path).to_owned());
        let of_server = join("servers", self.input.server.as_str());
        let defaults: BTreeSet<String> =
            folders.chain([String::new(), of_server]).map(|folder| join(&folder, ".env")).collect();
        let included = references.iter().filter(|r| r.kind == ReferenceKind::Include);
        let included = included.filter_map(|r| Some(join(parent(r.path.as_deref()?), ".env")));
        let named = references.iter().filter(|r| matches!(r.kind, ReferenceKind::EnvFile | ReferenceKind::LabelFile));
        let named = named.filter_map(|r| r.path.clone());
        let mut copied = BTreeSet::new();
        for path in defaults.iter().cloned().chain(included).chain(named) {
            let done = stage::overlay(live, self.input.root, &path, MAX_ENV_BYTES).map_err(|e| {
                let help = "check the free space and rights of the agent's state folder";
                Box::new(Problem::error("env.overlay", e.to_string(), help).at(path.clone(), None))
            })?;
            // An earlier stack of this set may have copied it; that it is on disk and not in the tree tells.
            let there = done || (self.input.root.join(&path).is_file() && !self.is_tracked(&path));
            if there {
                self.overlaid.insert(path.clone());
            }
            if there && defaults.contains(&path) {
                copied.insert(path);
            }
        }
        Ok(copied)
    }

    fn is_tracked(&self, path: &str) -> bool {
        self.input.tree.kind(path).is_ok_and(|kind| kind.is_some())
    }

    /// Lowest first: the repository's root, the stack, the server's folder, then the files of this server that are never in Git.
    fn env_files(&self, overlaid: &BTreeSet<String>) -> Vec<PathBuf> {
        let server = join("servers", self.input.server.as_str());
        let rank = |path: &String| match parent(path) {
            "" => 0,
            folder if folder == server => 2,
            _ => 1,
        };
        let mut paths: Vec<String> = self.stack.env_files.clone();
        paths.extend(overlaid.iter().filter(|path| !self.stack.env_files.contains(path)).cloned());
        paths.sort_by_key(rank);
        let mut files: Vec<PathBuf> = paths.iter().map(|path| self.input.root.join(path)).collect();
        if let Some(folder) = self.input.env_dir {
            let names = [SERVER_ENV.to_owned(), format!("{}.env", self.stack.name)];
            files.extend(names.iter().map(|name| folder.join(name)).filter(|file| file.is_file()));
        }
        files
    }

    /// A value that nobody decrypted is never deployed.
    fn refuse_ciphertext(&mut self, env_files: &[PathBuf], references: &BTreeSet<Reference>) {
        let read = references.iter().filter(|r| r.kind == ReferenceKind::EnvFile).filter_map(|r| r.path.as_deref());
        let files: BTreeSet<PathBuf> =
            env_files.iter().cloned().chain(read.map(|path| self.input.root.join(path))).collect();
        for file in files {
            // What cannot be read is Compose's to complain of: it may be one that need not be there.
            let Ok(content) = std::fs::read(&file) else { continue };
            let Some(line) = validate::ciphertext_line(&content) else { continue };
            let shown = file.strip_prefix(self.input.root).unwrap_or(&file).display().to_string();
            if self.encrypted.has(&shown) && self.problems.iter().any(|p| p.path.as_deref() == Some(&*shown)) {
                continue; // what is wrong with it was said
            }
            let message = format!("{shown} holds encrypted text where a value is expected");
            let help = "decrypt it on the server, and keep the plain values in the folder of environment files there";
            self.problems.push(Problem::error("env.ciphertext", message, help).at(shown, Some(line)));
        }
    }

    /// What leads out of the repository although it may not.
    fn outside(&self, model: &Model, references: &BTreeSet<Reference>) -> Vec<Problem> {
        let allowed: Vec<String> = self.input.allowed.iter().map(|path| path.display().to_string()).collect();
        let found = validate::check(model, &self.input.target.display().to_string(), references, &allowed);
        found.into_iter().map(|problem| self.host_path(self.located(problem))).collect()
    }

    /// What nobody signed is not read, and what would keep Compose busy for ever is not given to it.
    fn refuse_references(&mut self, references: &BTreeSet<Reference>) -> Result<(), TreeError> {
        let tree = self.input.tree;
        let outside = self.outside(&Model::empty(), references);
        self.problems.extend(outside.into_iter().filter(|problem| problem.severity == Severity::Error));
        for reference in references {
            let Some(path) = &reference.path else { continue };
            if let Followed::Outside | Followed::Circle = follow(tree, path)? {
                let message = format!("{} {path} is a symlink that leads out of the repository", reference.kind.key());
                let problem = Problem::error("path.outside", message, "put the file itself into the repository");
                self.problems.push(problem.at(reference.file.clone(), reference.line));
            }
            let is_compose = matches!(reference.kind, ReferenceKind::Include | ReferenceKind::Extends);
            let Some((bytes, _)) = slice::content(tree, path)?.filter(|_| is_compose) else { continue };
            if let Err(error) = yaml::decode(&bytes).and_then(yaml::parse) {
                let problem = Problem::error("compose.syntax", error.message, error.help);
                self.problems.push(problem.at(path.clone(), error.line));
            }
        }
        Ok(())
    }

    /// Elsewhere than on the server an environment file that Git does not have is no fault.
    fn note_missing(&mut self, references: &BTreeSet<Reference>) {
        if self.input.place == Place::Server {
            return;
        }
        for reference in references.iter().filter(|r| is_missing(self.input.tree, r)) {
            let path = reference.path.as_deref().unwrap_or(&reference.written);
            let message = format!("{} {path} is not in the repository", reference.kind.key());
            let help = "put it into the live tree on the server, at this path; here its variables are taken for unset";
            let problem = Problem::warning("env.file", message, help);
            self.problems.push(problem.at(reference.file.clone(), reference.line));
        }
    }

    /// What Compose copies into a container as a config comes from a variable only since a certain version.
    async fn refuse_older_compose(&mut self, has_config: bool) {
        if !has_config {
            return;
        }
        if let Ok(found) = self.input.compose.version().await
            && found < CONFIGS_OF_VARIABLES
        {
            let message =
                format!("docker compose is {found}, and an encrypted file of configs needs {CONFIGS_OF_VARIABLES}");
            let help = "install a later one, or make it a secret with that `target:`";
            let layer = self.stack.layers.first().map(|l| l.path.clone()).unwrap_or_default();
            self.problems.push(Problem::error("secrets.undeliverable", message, help).at(layer, None));
        }
    }

    /// What services of the model say of signals, with paths as the model has them.
    fn reloads(&self, model: &Model) -> BTreeMap<String, Reload> {
        let target = self.input.target.display();
        let of_model = self.stack.reloads.iter().filter(|(service, _)| model.service(service).is_some());
        let absolute = |reload: &Reload| Reload {
            signal: reload.signal.clone(),
            on: reload.on.iter().map(|path| format!("{target}/{path}")).collect(),
        };
        of_model.map(|(service, reload)| (service.clone(), absolute(reload))).collect()
    }

    /// The values of secrets and configs that come from variables.
    async fn secrets(&mut self, request: &RenderRequest<'_>, names: &BTreeSet<&str>, may_last: bool) -> SecretEnv {
        if names.is_empty() {
            return SecretEnv::default();
        }
        let values = match self.input.renders.values(self.input.compose, request, names, may_last).await {
            Ok(values) => values,
            Err(e) => {
                self.render_failed(e);
                return SecretEnv::default();
            }
        };
        for name in names.iter().filter(|name| !values.contains_key(**name)) {
            let message = format!("the variable {name} is the content of a secret or config and is set nowhere");
            let help = format!("set {name} in _server.env or {}.env on the server", self.stack.name);
            let layer = self.stack.layers.first().map(|l| l.path.clone()).unwrap_or_default();
            let problem = self.unset(Problem::error("env.unset", message, help).at(layer, None));
            self.problems.push(problem);
        }
        SecretEnv(values)
    }
}

fn unreadable(error: TreeError) -> Box<Problem> {
    let help = "check the repository; `git fsck` finds broken objects";
    Box::new(Problem::error("tree.unreadable", error.to_string(), help).at(error.path, None))
}

#[cfg(test)]
#[path = "candidates_tests.rs"]
mod tests;
