//! `evenkeel check`: everything that is wrong with a repository.

mod findings;
mod github;
mod sarif;

use std::{collections::BTreeMap, path::Path};

use evenkeel_core::{
    id::CommitId,
    model::Model,
    outcome::Exit,
    references::references,
    validate::{
        self, Sources, StackFacts,
        exceptions::{Judged, judge},
    },
};
use evenkeel_layout::{
    LayoutConfig,
    name::ServerName,
    problem::{Problem, Severity},
    set::{Stack, StackSet},
    unclaimed,
};

use self::findings::{Document, as_text, findings};
use super::{
    cache::{CacheArgs, With},
    output::{Failure, Format, Output, SCHEMA},
    repo::{RepoArgs, Source},
    runtime,
    secrets::IdentityArgs,
};
use crate::host::candidates::{CandidateInput, Candidates, Place, candidates};

/// Find what is wrong with a repository, for every server at once.
///
/// Works on the files alone: `docker compose` is needed for most of it, an engine is not. What only the server has
/// (secrets, files that are not in Git) is a warning. `policy:` in evenkeel.yml sets severities; a comment
/// `# evenkeel: allow CODE reason` allows what is found in its line or in the block below it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  evenkeel check
  evenkeel check --repo . --server home --format json
  evenkeel check --strict --format github      # annotations in CI
  evenkeel check --format sarif >check.sarif   # for code scanning

Exit codes:
  0 no errors   1 errors (with --strict: or warnings)   2 no such revision")]
pub struct Args {
    #[command(flatten)]
    repo: RepoArgs,
    /// A revision instead of the work tree; of a bare repository the default is HEAD
    #[arg(long, value_name = "REV")]
    rev: Option<String>,
    /// Fail on warnings too
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    identity: IdentityArgs,
    #[command(flatten)]
    cache: CacheArgs,
}

/// Prints all problems. Fails if one of them is an error.
pub fn run(args: &Args, out: &Output) -> Result<Exit, Failure> {
    let source = Source::open(&args.repo.repo, args.rev.as_deref())?;
    let sets = source.sets(args.repo.server.as_deref())?;
    let mut seen = runtime()?.block_on(seen(&source, &sets, args.identity.file()?, args.cache))?;
    // One server's stacks say nothing of the files of the others.
    if args.repo.server.is_none() {
        let only_sets: Vec<StackSet> = sets.iter().map(|(_, set)| set.clone()).collect();
        seen.problems.extend(unclaimed(source.tree(), &only_sets, None));
    } else {
        seen.is_whole = false;
    }
    let document = document(seen.judged(&source), sets);
    match out.format() {
        Format::Sarif => out.json(&sarif::log(&document)),
        Format::Github => out.text(&github::commands(&document)),
        Format::Text | Format::Json | Format::Markdown => out.answer(&document, as_text),
    }
    let failed = document.has(Severity::Error) || (args.strict && document.has(Severity::Warning));
    Ok(if failed { Exit::Failed } else { Exit::Fine })
}

fn document(judged: Judged, sets: Vec<(ServerName, StackSet)>) -> Document {
    let stacks = sets.iter().map(|(_, set)| set.stacks.len()).sum();
    let servers = sets.into_iter().map(|(server, _)| server).collect();
    let (problems, allowed) = findings(judged);
    Document { schema: SCHEMA, servers, problems, allowed, stacks }
}

/// What was found before the repository's own policy.
struct Seen {
    problems: Vec<Problem>,
    /// The files in which comments may allow something.
    files: BTreeMap<String, String>,
    /// Whether every stack of every server was judged: only then is it known that an exception matches nothing.
    is_whole: bool,
}

impl Seen {
    fn judged(self, source: &Source) -> Judged {
        // What is wrong with the file is among the problems of each set.
        let (config, _) = LayoutConfig::read(source.tree());
        judge(self.problems, &config.policy, &self.files, self.is_whole)
    }

    /// Adds what the policy finds in the stacks of a server.
    fn policy(&mut self, source: &Source, (server, set): (&ServerName, &StackSet), found: &Candidates) {
        let mut written = Vec::new();
        for candidate in &found.accepted {
            let Some(stack) = set.stacks.iter().find(|stack| stack.name == candidate.stack) else { continue };
            match sources(source, stack) {
                Ok(sources) => written.push((candidate, sources)),
                Err(problem) => self.problems.push(problem.on_server(server)),
            }
        }
        let complete = found.rejected.is_empty() && !set.is_broken() && written.len() == found.accepted.len();
        let facts: Vec<StackFacts<'_>> = written.iter().map(|(c, sources)| StackFacts::of(c, sources)).collect();
        let policy = validate::policy(&facts, complete);
        self.problems.extend(policy.into_iter().map(|problem| problem.on_server(server)));
        self.is_whole &= complete;
        for file in written.into_iter().flat_map(|(_, sources)| sources.compose.into_iter().chain(sources.env)) {
            self.files.insert(file.path, file.text);
        }
    }
}

/// What can be said of a stack that nobody renders.
fn unrendered(source: &Source, stack: &Stack) -> Result<Vec<Problem>, Box<Problem>> {
    let sources = sources(source, stack)?;
    let model = Model::empty();
    let references = references(source.tree(), &stack.layers).unwrap_or_default();
    let mut found = validate::check(&model, "/", &references, &[]);
    let facts = StackFacts { stack: &stack.name, model: &model, sources: &sources, depends_on: &[], files: Vec::new() };
    found.extend(validate::policy(&[facts], false));
    Ok(found)
}

fn sources(source: &Source, stack: &Stack) -> Result<Sources, Box<Problem>> {
    Sources::read(source.tree(), &stack.layers, &stack.env_files).map_err(|e| {
        let problem =
            Problem::error("tree.unreadable", e.to_string(), "check the repository; `git fsck` finds broken objects");
        Box::new(problem.in_stack(&stack.name).at(e.path, None))
    })
}

/// The problems of the sets and, if there is a Compose, those of their models.
async fn seen(
    source: &Source,
    sets: &[(ServerName, StackSet)],
    identities: Option<&Path>,
    cache: CacheArgs,
) -> Result<Seen, Failure> {
    let mut seen = Seen { problems: Vec::new(), files: BTreeMap::new(), is_whole: true };
    let with = match With::of(cache).await {
        Ok(with) => with,
        Err(missing) => {
            seen.is_whole = false;
            seen.problems.push(Problem::error(&missing.code, missing.message, missing.help));
            for (server, set) in sets {
                seen.problems.extend(set.problems.iter().cloned().map(|p| p.on_server(server)));
                for stack in &set.stacks {
                    let found = unrendered(source, stack).unwrap_or_else(|problem| vec![*problem]);
                    seen.problems.extend(found.into_iter().map(|p| p.in_stack(&stack.name).on_server(server)));
                }
            }
            return Ok(seen);
        }
    };
    let prepared = source.prepare(sets, true)?;
    seen.problems.extend(prepared.problems);
    for (server, set) in sets {
        let found = offline((source, identities), &with, (server, set), &prepared.root).await;
        seen.policy(source, (server, set), &found);
        seen.problems.extend(found.problems);
    }
    Ok(seen)
}

/// The candidates of one server, made from what the repository has and what a file of keys opens of it.
pub(super) async fn offline(
    (source, identities): (&Source, Option<&Path>),
    with: &With,
    (server, set): (&ServerName, &StackSet),
    root: &Path,
) -> Candidates {
    let commit: CommitId = source.commit();
    candidates(CandidateInput {
        compose: &with.compose,
        renders: &with.renders,
        tree: source.tree(),
        set,
        server,
        commit: &commit,
        root,
        target: source.dir(),
        env_dir: None,
        live: None,
        allowed: &[],
        identities,
        place: Place::Elsewhere,
        committed: Some(source.committed()),
    })
    .await
}
