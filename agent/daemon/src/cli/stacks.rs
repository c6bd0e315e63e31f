//! `evenkeel stacks`: which stacks a server has, and from which files.

use std::fmt::Write as _;

use evenkeel_core::outcome::Exit;
use evenkeel_layout::set::{Layer, Stack};

use super::{
    output::{Failure, Output},
    repo::{RepoArgs, Source},
    text::{self, BOLD, DIM},
};
use crate::host::stacks::Stacks;

/// Show which stacks a server has, and from which files they come.
///
/// Works on the files alone: no server, engine, agent or configuration.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  evenkeel stacks --server home
  evenkeel stacks --repo infra.git --rev main~3 --server home --format json")]
pub struct Args {
    #[command(flatten)]
    repo: RepoArgs,
    /// A revision instead of the work tree; of a bare repository the default is HEAD
    #[arg(long, value_name = "REV")]
    rev: Option<String>,
}

/// Prints the stack set. Fails if it cannot be used as a whole.
pub fn run(args: &Args, out: &Output) -> Result<Exit, Failure> {
    let source = Source::open(&args.repo.repo, args.rev.as_deref())?;
    let (server, set) = source.one_set(args.repo.server.as_deref())?;
    let is_broken = set.is_broken();
    out.answer(&Stacks::new(&server, set), as_text);
    Ok(if is_broken { Exit::Failed } else { Exit::Fine })
}

fn as_text(document: &Stacks) -> String {
    let layout = serde_json::to_value(document.layout).unwrap_or_default();
    let mut out = format!(
        "{BOLD}{}{BOLD:#}: {} (layout {})\n",
        document.server,
        text::plural(document.stacks.len(), "stack"),
        layout.as_str().unwrap_or_default()
    );
    for stack in &document.stacks {
        let _ = write!(out, "\n{BOLD}{}{BOLD:#}", stack.name);
        match &stack.project {
            Some(project) if project != stack.name.as_str() => _ = writeln!(out, "  (project {project})"),
            Some(_) => out.push('\n'),
            None => out.push_str("  (its project depends on variables)\n"),
        }
        out.push_str(&branches(&lines(stack)));
    }
    if !document.problems.is_empty() {
        out.push('\n');
        out.push_str(&text::problems(&document.problems));
    }
    out
}

/// What is to be said of a stack, a line each: its layers, lowest first, then what goes with them.
fn lines(stack: &Stack) -> Vec<String> {
    let mut lines: Vec<String> = stack.layers.iter().map(layer).collect();
    if !stack.without.is_empty() {
        let names = stack.without.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        lines.push(format!("without {names}: of other stacks"));
    }
    if !stack.env_files.is_empty() {
        lines.push(format!("variables from {}", stack.env_files.join(", ")));
    }
    if !stack.defaults.is_empty() {
        let names = stack.defaults.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        lines.push(format!("unless set elsewhere, variables of the server's list: {names}"));
    }
    if !stack.profiles.is_empty() {
        lines.push(format!("profiles {}", stack.profiles.join(", ")));
    }
    if !stack.watched.is_empty() {
        lines.push(format!("recreated with {}", stack.watched.join(", ")));
    }
    if let Some(script) = &stack.health_check {
        lines.push(format!("health checked by {script}"));
    }
    if let Some(group) = &stack.group {
        lines.push(format!("moves with the group {group}"));
    }
    if !stack.depends_on.is_empty() {
        let names: Vec<&str> = stack.depends_on.iter().map(evenkeel_layout::name::StackName::as_str).collect();
        lines.push(format!("after {}", names.join(", ")));
    }
    lines
}

fn layer(layer: &Layer) -> String {
    let origin = serde_json::to_value(layer.origin).unwrap_or_default();
    let origin = origin.as_str().unwrap_or_default().to_owned();
    let own = Layer::new(layer.path.clone(), layer.origin).directory;
    let base = match layer.directory.as_str() {
        base if base == own => String::new(),
        "" => ", paths from the root".to_owned(),
        base => format!(", paths from {base}"),
    };
    format!("{} {DIM}{origin}{base}{DIM:#}", layer.path)
}

fn branches(lines: &[String]) -> String {
    let mut out = String::new();
    for (n, line) in lines.iter().enumerate() {
        let branch = if n + 1 == lines.len() { "└─" } else { "├─" };
        let _ = writeln!(out, "  {DIM}{branch}{DIM:#} {line}");
    }
    out
}
