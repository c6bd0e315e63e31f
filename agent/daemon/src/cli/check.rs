//! `evenkeel check`: everything that is wrong with a repository.

use std::path::Path;

use evenkeel_core::{id::CommitId, outcome::Exit};
use evenkeel_layout::{
    name::ServerName,
    problem::{Problem, Severity},
    set::StackSet,
    unclaimed,
};
use serde::Serialize;

use super::{
    output::{Failure, Output, SCHEMA},
    repo::{self, RepoArgs, Source},
    runtime, text,
};
use crate::{
    compose::Compose,
    host::candidates::{CandidateInput, Candidates, Place, candidates},
};

/// Find what is wrong with a repository, for every server at once.
///
/// Works on the files alone: `docker compose` is needed for most of it, an engine is not. What only the server has
/// (secrets, files that are not in Git) is a warning.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  evenkeel check
  evenkeel check --repo . --server home --format json

Exit codes:
  0 no errors   1 errors   2 no such repository or revision")]
pub struct Args {
    #[command(flatten)]
    repo: RepoArgs,
    /// A revision instead of the work tree; of a bare repository the default is HEAD
    #[arg(long, value_name = "REV")]
    rev: Option<String>,
}

#[derive(Serialize)]
struct Document {
    schema: u32,
    servers: Vec<ServerName>,
    problems: Vec<Problem>,
}

/// Prints all problems. Fails if one of them is an error.
pub fn run(args: &Args, out: &Output) -> Result<Exit, Failure> {
    let source = Source::open(&args.repo.repo, args.rev.as_deref())?;
    let sets = source.sets(args.repo.server.as_deref())?;
    let mut problems = runtime()?.block_on(rendered(&source, &sets))?;
    // One server's stacks say nothing of the files of the others.
    if args.repo.server.is_none() {
        let only_sets: Vec<StackSet> = sets.iter().map(|(_, set)| set.clone()).collect();
        problems.extend(unclaimed(source.tree(), &only_sets));
    }
    problems.sort();
    problems.dedup();
    let failed = problems.iter().any(|p| p.severity == Severity::Error);
    let stacks = sets.iter().map(|(_, set)| set.stacks.len()).sum();
    let servers = sets.into_iter().map(|(server, _)| server).collect();
    out.answer(&Document { schema: SCHEMA, servers, problems }, |document| as_text(document, stacks));
    Ok(if failed { Exit::Failed } else { Exit::Fine })
}

/// The problems of the sets and, if there is a Compose, those of their models.
async fn rendered(source: &Source, sets: &[(ServerName, StackSet)]) -> Result<Vec<Problem>, Failure> {
    let compose = match repo::compose().await {
        Ok(compose) => compose,
        Err(missing) => {
            let mut problems = vec![Problem::error(&missing.code, missing.message, missing.help)];
            for (server, set) in sets {
                problems.extend(set.problems.iter().cloned().map(|p| p.on_server(server)));
            }
            return Ok(problems);
        }
    };
    let prepared = source.prepare(sets, true)?;
    let mut problems = prepared.problems;
    for (server, set) in sets {
        problems.extend(offline(source, &compose, (server, set), &prepared.root).await.problems);
    }
    Ok(problems)
}

/// The candidates of one server, made from what the repository has.
pub(super) async fn offline(
    source: &Source,
    compose: &Compose,
    (server, set): (&ServerName, &StackSet),
    root: &Path,
) -> Candidates {
    let commit: CommitId = source.commit();
    candidates(CandidateInput {
        compose,
        tree: source.tree(),
        set,
        server,
        commit: &commit,
        root,
        target: source.dir(),
        env_dir: None,
        live: None,
        place: Place::Elsewhere,
    })
    .await
}

fn as_text(document: &Document, stacks: usize) -> String {
    let (servers, stacks) = (text::plural(document.servers.len(), "server"), text::plural(stacks, "stack"));
    format!("{}{servers}, {stacks}: {}\n", text::problems(&document.problems), text::count(&document.problems))
}
