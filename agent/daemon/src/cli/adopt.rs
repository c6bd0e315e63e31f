//! `evenkeel adopt`: which containers of a server that runs already would be taken over as they are, and at which live root.

mod look;
mod shown;

use std::path::{Path, PathBuf};

use evenkeel_core::{adopt::Difference, change::ServiceChangeKind, id::CommitId, outcome::Exit};
use evenkeel_layout::{
    name::{ServerName, StackName},
    problem::Problem,
    set::StackSet,
    stack_set,
};
use serde::Serialize;

use self::look::Place;
use super::{
    output::{Failure, Output},
    repo::{self, RepoArgs, Source},
    runtime,
    secrets::IdentityArgs,
    words,
};
use crate::config::{DEFAULT_PATH, settings::Settings};

/// Show what of a server that runs already would be taken over as it runs.
///
/// For stacks that somebody started with `docker compose up` from a clone of the same repository. Compares each container
/// with its service, says which would be made anew and why, and at which live root the most would stay. Changes nothing.
/// Run it on the server, in that clone, as whoever may use the engine.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cd /opt/infra && evenkeel adopt --server home
  evenkeel adopt --repo /opt/infra --rev origin/main --live /opt/infra
  evenkeel adopt --format json | jq -r '.live.line'

Exit codes:
  0 done                        3 a container would be made or made anew
  1 a stack cannot be rendered    (only with --exit-code)
  2 usage, no such revision     7 no engine, or no `docker compose`")]
pub struct Args {
    #[command(flatten)]
    repo: RepoArgs,
    /// The revision that is to run
    #[arg(long, value_name = "REV", default_value = "HEAD")]
    rev: String,
    /// The agent's configuration; where there is none yet, its defaults count
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    config: PathBuf,
    /// Ask about this live root alone, instead of the configuration's `paths.live` and those that the containers point at
    #[arg(long, value_name = "DIR")]
    live: Option<PathBuf>,
    #[command(flatten)]
    identity: IdentityArgs,
    /// End with exit code 3 if a container would be made or made anew at that live root
    #[arg(long)]
    exit_code: bool,
}

/// The answer.
#[derive(Debug, Serialize)]
struct Document {
    schema: u32,
    server: ServerName,
    commit: CommitId,
    live: Live,
    /// What would be at each live root that was tried, that of the configuration first.
    roots: Vec<AtRoot>,
    /// The stacks as they would be at the best one.
    stacks: Vec<AdoptedStack>,
    /// Containers of no stack of the server.
    others: Vec<Other>,
}

/// Where the live tree is, and where it should be.
#[derive(Debug, Serialize)]
struct Live {
    configured: String,
    best: String,
    /// What to put into `agent.yml`, if they differ.
    line: Option<String>,
}

/// How a live root would do.
#[derive(Debug, Clone, Serialize)]
struct AtRoot {
    path: String,
    /// How many services would be taken over as they run.
    taken_over: usize,
    /// How many would be made anew.
    recreated: usize,
    /// How many have no container.
    missing: usize,
    /// How many stacks cannot be rendered there.
    rejected: usize,
}

/// One stack.
#[derive(Debug, Clone, Serialize)]
struct AdoptedStack {
    name: StackName,
    project: Option<String>,
    /// Whether a container of the project is there.
    runs: bool,
    /// The folders from which its containers were started.
    started_from: Vec<String>,
    /// The Compose files that they were started from.
    files: Vec<String>,
    /// Other projects that were started from a folder like this stack's: likely the same under another name.
    runs_as: Vec<String>,
    services: Vec<AdoptedService>,
    /// Services of its project that the repository does not have: they are left alone.
    left_alone: Vec<String>,
    /// Files of the live tree that are not as the commit has them: they would stop the deployment.
    in_the_way: Vec<String>,
    /// Why it cannot be deployed, if it cannot.
    problems: Vec<Problem>,
}

/// One service.
#[derive(Debug, Clone, Serialize)]
struct AdoptedService {
    service: String,
    change: ServiceChangeKind,
    why: Vec<Difference>,
    containers: Vec<String>,
}

/// A container of no stack.
#[derive(Debug, Clone, Serialize)]
struct Other {
    container: String,
    project: Option<String>,
    service: Option<String>,
    started_from: Option<String>,
}

impl AtRoot {
    fn of(path: &str, stacks: &[AdoptedStack]) -> Self {
        let services = || stacks.iter().flat_map(|stack| &stack.services);
        let count = |kind| services().filter(|s| s.change == kind).count();
        Self {
            path: path.to_owned(),
            taken_over: services().filter(|s| s.stays()).count(),
            recreated: count(ServiceChangeKind::Recreate),
            missing: count(ServiceChangeKind::Create),
            rejected: stacks.iter().filter(|stack| !stack.problems.is_empty()).count(),
        }
    }

    /// Whether everything that is there would stay.
    fn is_clean(&self) -> bool {
        self.recreated + self.missing + self.rejected == 0
    }
}

impl AdoptedService {
    fn stays(&self) -> bool {
        self.change == ServiceChangeKind::None && !self.containers.is_empty()
    }
}

/// Looks, and says what it found.
pub fn run(args: &Args, out: &Output) -> Result<Exit, Failure> {
    let settings = settings(&args.config)?;
    let source = Source::open(&args.repo.repo, Some(&args.rev))?;
    let (server, set) = set(&source, settings.as_ref(), args.repo.server.as_deref())?;
    if let Some(failure) = repo::fault(&set, None).filter(|_| set.is_broken()) {
        return Err(failure);
    }
    let live = args.live.as_deref().map(absolute).transpose()?;
    let place = Place::new(settings.as_ref(), live, args.identity.file()?);
    let document = runtime()?.block_on(look::look(&source, (&server, &set), &place))?;
    out.answer(&document, shown::as_text);
    let at_configured = document.roots.iter().find(|root| root.path == document.live.configured);
    Ok(match at_configured {
        Some(root) if root.rejected > 0 => Exit::Failed,
        Some(root) if args.exit_code && !root.is_clean() => Exit::Changes,
        _ => Exit::Fine,
    })
}

/// The agent's settings; none if the file that nobody named is not there yet.
fn settings(config: &Path) -> Result<Option<Settings>, Failure> {
    if config == Path::new(DEFAULT_PATH) && !config.exists() {
        return Ok(None);
    }
    words::settings(config).map(Some)
}

/// The stacks of the server that is named, here or in the configuration.
fn set(source: &Source, settings: Option<&Settings>, server: Option<&str>) -> Result<(ServerName, StackSet), Failure> {
    let Some(settings) = settings else { return source.one_set(server) };
    let name = match server {
        Some(name) => ServerName::new(name)
            .map_err(|e| Failure::usage("usage", e.to_string(), "name a server of the repository"))?,
        None => settings.server.clone(),
    };
    let set = stack_set(source.tree(), &name, settings.layout.as_ref());
    Ok((name, set))
}

fn absolute(dir: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(dir)
        .map(|path| path.components().collect())
        .map_err(|e| Failure::usage("usage", format!("{}: {e}", dir.display()), "name a folder with --live"))
}

#[cfg(test)]
mod tests;
