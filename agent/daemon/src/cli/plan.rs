//! `evenkeel plan`: which stacks and services would change between two revisions, and why.

mod markdown;
mod shown;

use std::{collections::BTreeMap, path::Path};

use evenkeel_core::{
    outcome::Exit,
    plan::{self, Desired, Effects, Plan, PutBack, Renamed, Side, StackChangeKind},
    release::{Candidate, Release},
};
use evenkeel_layout::{
    name::{ServerName, StackName},
    problem::Problem,
    set::StackSet,
};
use serde::Serialize;

use super::{
    cache::{CacheArgs, With},
    check::offline,
    output::{Failure, Format, Output, SCHEMA},
    repo::{RepoArgs, Source},
    runtime,
    secrets::IdentityArgs,
};
use crate::host::candidates::Candidates;

/// How many stacks a server removes at once unless its `prune.max` says otherwise.
const PRUNE_MAX: usize = 1;
/// What `--from` calls a server that runs nothing yet.
const EMPTY: &str = "empty";

/// Show which stacks and services would change between two revisions, and why.
///
/// Works on the files alone: `docker compose` is needed, an engine is not. It is a prediction: variables that only the server
/// has are taken for empty on both sides.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  evenkeel plan                               # the work tree against HEAD
  evenkeel plan --from origin/main --to HEAD  # what a pull request changes
  evenkeel plan --server home --from empty --to main --format json
  evenkeel plan --from origin/main --to HEAD --format markdown >comment.md

Exit codes:
  0 done                   3 there are changes (only with --exit-code)
  1 a server has no plan   7 no `docker compose`
  2 no such revision")]
pub struct Args {
    #[command(flatten)]
    repo: RepoArgs,
    /// The revision that runs, or `empty`
    #[arg(long, value_name = "REV", default_value = "HEAD")]
    from: String,
    /// The revision that is to run; default is the work tree, of a bare repository HEAD
    #[arg(long, value_name = "REV")]
    to: Option<String>,
    #[command(flatten)]
    identity: IdentityArgs,
    #[command(flatten)]
    cache: CacheArgs,
    /// End with exit code 3 if anything changes
    #[arg(long)]
    exit_code: bool,
}

#[derive(Serialize)]
struct Document {
    schema: u32,
    servers: Vec<ServerPlan>,
}

#[derive(Serialize)]
struct ServerPlan {
    server: ServerName,
    from: String,
    to: String,
    #[serde(flatten)]
    plan: Plan,
    /// What the changes bring with them, by stack.
    effects: BTreeMap<StackName, Effects>,
}

/// Prints the plan of each server.
pub fn run(args: &Args, out: &Output) -> Result<Exit, Failure> {
    let to = Source::open(&args.repo.repo, args.to.as_deref())?;
    let from = if args.from == EMPTY { None } else { Some(Source::open(&args.repo.repo, Some(&args.from))?) };
    let sides = Sides::of(from, to, args.repo.server.as_deref())?;
    let servers = runtime()?.block_on(sides.plans(args.identity.file()?, args.cache))?;
    let changes = servers.iter().any(|s| !s.plan.is_empty());
    let broken = sides.to_sets.iter().any(|(_, set)| set.is_broken());
    let document = Document { schema: SCHEMA, servers };
    match out.format() {
        Format::Markdown => out.text(&markdown::comment(&document)),
        _ => out.answer(&document, shown::as_text),
    }
    Ok(match (broken, changes && args.exit_code) {
        (true, _) => Exit::Failed,
        (false, true) => Exit::Changes,
        (false, false) => Exit::Fine,
    })
}

type Sets = Vec<(ServerName, StackSet)>;

struct Sides {
    from: Option<Source>,
    to: Source,
    from_sets: Sets,
    to_sets: Sets,
}

impl Sides {
    fn of(from: Option<Source>, to: Source, server: Option<&str>) -> Result<Self, Failure> {
        // Which of the two revisions knows a server does not matter: one that is new or gone has a plan as well. And
        // where one side names servers, the other's stacks, if it names none, are those of each of them.
        let mut names = to.servers(server)?;
        names.extend(from.as_ref().map(|from| from.servers(server)).transpose()?.into_iter().flatten());
        names.sort();
        names.dedup();
        let of = |source: &Source| -> Result<Sets, Failure> {
            if names.is_empty() {
                return source.sets(None);
            }
            let sets = names.iter().map(|name| source.sets(Some(name.as_str())));
            Ok(sets.collect::<Result<Vec<_>, _>>()?.concat())
        };
        let to_sets = of(&to)?;
        let mut from_sets = from.as_ref().map(of).transpose()?.unwrap_or_default();
        from_sets.retain(|(_, set)| !set.is_broken());
        Ok(Self { from, to, from_sets, to_sets })
    }

    async fn plans(&self, identities: Option<&Path>, cache: CacheArgs) -> Result<Vec<ServerPlan>, Failure> {
        let with = With::of(cache).await?;
        let before = match &self.from {
            Some(from) => made((from, identities), &with, &self.from_sets).await?,
            None => BTreeMap::new(),
        };
        let after = made((&self.to, identities), &with, &self.to_sets).await?;
        let from = self.from.as_ref().map_or_else(|| EMPTY.to_owned(), Source::name);
        let plans = self.to_sets.iter().map(|(server, set)| {
            let releases = before.get(server).map(|c| releases(&c.accepted)).unwrap_or_default();
            let (plan, effects) = after.get(server).map(|c| self.plan(set, c, &releases)).unwrap_or_default();
            ServerPlan { server: server.clone(), from: from.clone(), to: self.to.name(), plan, effects }
        });
        Ok(plans.collect())
    }

    fn plan(
        &self,
        set: &StackSet,
        wanted: &Candidates,
        releases: &BTreeMap<StackName, Release>,
    ) -> (Plan, BTreeMap<StackName, Effects>) {
        let rejected: Vec<StackName> = wanted.rejected.iter().map(|(name, _)| name.clone()).collect();
        let renamed = plan::renamed(&wanted.accepted, &rejected, releases);
        let mut releases = releases.clone();
        for (old, new) in &renamed {
            if let Some(release) = releases.remove(old) {
                releases.insert(new.clone(), Release { stack: new.clone(), ..release });
            }
        }
        let root = self.to.dir().display().to_string();
        let desired = Desired {
            accepted: &wanted.accepted,
            rejected: &rejected,
            problems: &wanted.problems,
            root: &root,
            complete: !set.is_broken(),
            put_back: PutBack::Nothing,
            found: &BTreeMap::new(),
            groups: &wanted.groups,
            halted: &[],
        };
        let mut plan = plan::build(desired, &releases, None);
        plan.renamed = renamed.into_iter().map(|(from, to)| Renamed { from, to }).collect();
        plan.problems.extend(prune_guard(&plan));
        let effects = plan.changes().map(|change| {
            let from = releases.get(&change.stack).map(Side::of_release);
            let to = wanted.accepted.iter().find(|c| c.stack == change.stack).map(Side::of_candidate);
            (change.stack.clone(), plan::effects(&root, change, from, to))
        });
        let effects = effects.collect();
        (plan, effects)
    }
}

/// More removals than a server carries out at once.
fn prune_guard(plan: &Plan) -> Option<Problem> {
    let removed = plan.changes().filter(|change| change.change == StackChangeKind::Remove).count();
    let message = || {
        format!(
            "{removed} stacks are removed; a server removes none of them if that is more than its prune.max (default {PRUNE_MAX})"
        )
    };
    let help = "if this is meant, remove them in several commits, or raise prune.max in agent.yml for a while";
    (removed > PRUNE_MAX).then(|| Problem::warning("prune.guard", message(), help))
}

async fn made(
    from: (&Source, Option<&Path>),
    with: &With,
    sets: &Sets,
) -> Result<BTreeMap<ServerName, Candidates>, Failure> {
    let prepared = from.0.prepare(sets, true)?;
    let mut found = BTreeMap::new();
    for (server, set) in sets {
        found.insert(server.clone(), offline(from, with, (server, set), &prepared.root).await);
    }
    Ok(found)
}

fn releases(candidates: &[Candidate]) -> BTreeMap<StackName, Release> {
    candidates.iter().map(|c| (c.stack.clone(), Release::of(c, BTreeMap::new()))).collect()
}
