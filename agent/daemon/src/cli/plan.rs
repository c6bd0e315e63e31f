//! `evenkeel plan`: which stacks and services would change between two revisions, and why.

use std::{collections::BTreeMap, fmt::Write as _};

use anstyle::Style;
use evenkeel_core::{
    outcome::Exit,
    plan::{self, Desired, Plan, ServiceChange, ServiceChangeKind, StackChange, StackChangeKind, Why},
    release::{Candidate, Release},
};
use evenkeel_layout::{
    name::{ServerName, StackName},
    problem::Problem,
    set::StackSet,
};
use serde::Serialize;

use super::{
    check::offline,
    output::{Failure, Output, SCHEMA},
    repo::{self, RepoArgs, Source},
    runtime,
    text::{self, BOLD, DIM, GREEN, RED, YELLOW},
};
use crate::{compose::Compose, host::candidates::Candidates};

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
}

/// Prints the plan of each server.
pub fn run(args: &Args, out: &Output) -> Result<Exit, Failure> {
    let to = Source::open(&args.repo.repo, args.to.as_deref())?;
    let from = if args.from == EMPTY { None } else { Some(Source::open(&args.repo.repo, Some(&args.from))?) };
    let sides = Sides::of(from, to, args.repo.server.as_deref())?;
    let servers = runtime()?.block_on(sides.plans())?;
    let changes = servers.iter().any(|s| !s.plan.is_empty());
    let broken = sides.to_sets.iter().any(|(_, set)| set.is_broken());
    out.answer(&Document { schema: SCHEMA, servers }, as_text);
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

    async fn plans(&self) -> Result<Vec<ServerPlan>, Failure> {
        let compose = repo::compose().await?;
        let before = match &self.from {
            Some(from) => made(from, &compose, &self.from_sets).await?,
            None => BTreeMap::new(),
        };
        let after = made(&self.to, &compose, &self.to_sets).await?;
        let from = self.from.as_ref().map_or_else(|| EMPTY.to_owned(), Source::name);
        let plans = self.to_sets.iter().map(|(server, set)| {
            let releases = before.get(server).map(|c| releases(&c.accepted)).unwrap_or_default();
            let plan = after.get(server).map(|c| self.plan(set, c, &releases)).unwrap_or_default();
            ServerPlan { server: server.clone(), from: from.clone(), to: self.to.name(), plan }
        });
        Ok(plans.collect())
    }

    fn plan(&self, set: &StackSet, wanted: &Candidates, releases: &BTreeMap<StackName, Release>) -> Plan {
        let rejected: Vec<StackName> = wanted.rejected.iter().map(|(name, _)| name.clone()).collect();
        let desired = Desired {
            accepted: &wanted.accepted,
            rejected: &rejected,
            problems: &wanted.problems,
            root: &self.to.dir().display().to_string(),
            complete: !set.is_broken(),
            put_back: false,
            halted: &[],
        };
        plan::build(desired, releases, None)
    }
}

async fn made(source: &Source, compose: &Compose, sets: &Sets) -> Result<BTreeMap<ServerName, Candidates>, Failure> {
    let prepared = source.prepare(sets, true)?;
    let mut found = BTreeMap::new();
    for (server, set) in sets {
        found.insert(server.clone(), offline(source, compose, (server, set), &prepared.root).await);
    }
    Ok(found)
}

fn releases(candidates: &[Candidate]) -> BTreeMap<StackName, Release> {
    candidates.iter().map(|c| (c.stack.clone(), Release::of(c, BTreeMap::new()))).collect()
}

fn as_text(document: &Document) -> String {
    document.servers.iter().map(server_text).collect::<Vec<_>>().join("\n")
}

fn server_text(server: &ServerPlan) -> String {
    let ServerPlan { server, from, to, plan } = server;
    let mut out = format!("{BOLD}{server}{BOLD:#}  {} -> {}\n", text::short(from), text::short(to));
    for (n, wave) in plan.waves.iter().enumerate() {
        if plan.waves.len() > 1 {
            let _ = writeln!(out, "  {DIM}wave {}{DIM:#}", n + 1);
        }
        for change in wave {
            out.push_str(&stack_text(change));
        }
    }
    for (stack, waits_for) in &plan.held {
        let _ = writeln!(out, "  {YELLOW}= {stack}{YELLOW:#}  held: waits for {waits_for}");
    }
    for stack in &plan.rejected {
        let _ = writeln!(out, "  {RED}! {stack}{RED:#}  rejected: keeps what it runs");
    }
    let _ = writeln!(out, "  {}", summary(plan));
    // What a person has to do something about; the rest is for `check`.
    let worth: Vec<Problem> = plan.problems.iter().filter(|p| is_worth_saying(p)).cloned().collect();
    out.push_str(&text::problems(&worth));
    out
}

fn is_worth_saying(problem: &Problem) -> bool {
    use evenkeel_layout::problem::Severity;
    problem.severity == Severity::Error || problem.code == "volume.options"
}

fn summary(plan: &Plan) -> String {
    let count = |kind| plan.changes().filter(|c| c.change == kind).count();
    let parts: Vec<String> = [
        (count(StackChangeKind::Create), "to create"),
        (count(StackChangeKind::Update), "to update"),
        (count(StackChangeKind::Remove), "to remove"),
        (plan.held.len(), "held"),
        (plan.rejected.len(), "rejected"),
    ]
    .into_iter()
    .filter(|(n, _)| *n > 0)
    .map(|(n, what)| format!("{n} {what}"))
    .collect();
    if parts.is_empty() { "nothing changes".to_owned() } else { format!("stacks: {}", parts.join(", ")) }
}

fn stack_text(change: &StackChange) -> String {
    let (sign, style, word) = match change.change {
        StackChangeKind::Create => ('+', GREEN, "create"),
        StackChangeKind::Update => ('~', YELLOW, "update"),
        StackChangeKind::Remove => ('-', RED, "remove: its volumes stay"),
    };
    let mut out = format!("  {style}{sign} {}{style:#}  {word}\n", change.stack);
    let shown: Vec<&ServiceChange> = change.services.iter().filter(|s| s.change != ServiceChangeKind::None).collect();
    let width = shown.iter().map(|s| s.service.chars().count()).max().unwrap_or(0);
    for service in &shown {
        out.push_str(&service_text(service, width));
    }
    if shown.is_empty() {
        let _ = writeln!(out, "      {DIM}no service is touched{DIM:#}");
    }
    out
}

fn service_text(service: &ServiceChange, width: usize) -> String {
    let (sign, style, word): (char, Style, &str) = match service.change {
        ServiceChangeKind::Create => ('+', GREEN, "create"),
        ServiceChangeKind::Recreate => ('~', YELLOW, "recreate"),
        ServiceChangeKind::Restart => ('~', YELLOW, "restart"),
        ServiceChangeKind::Signal => ('~', YELLOW, "signal"),
        ServiceChangeKind::Remove => ('-', RED, "remove"),
        ServiceChangeKind::None => (' ', DIM, "none"),
    };
    let whys = service.why.iter().map(why_text).collect::<Vec<_>>().join(", ");
    let name = format!("      {style}{sign} {:<width$}{style:#}  {word}", service.service);
    if whys.is_empty() { format!("{name}\n") } else { format!("{name}: {DIM}{whys}{DIM:#}\n") }
}

fn why_text(why: &Why) -> String {
    let kind = serde_json::to_value(why.kind).unwrap_or_default();
    let kind = kind.as_str().unwrap_or_default();
    if kind == why.name { kind.to_owned() } else { format!("{kind} {}", why.name) }
}
