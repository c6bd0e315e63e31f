//! The answer for people.

use std::fmt::Write as _;

use evenkeel_core::{
    adopt::Difference,
    change::{ServiceChangeKind, WhyKind},
};

use super::{AdoptedService, AdoptedStack, AtRoot, Document, Other};
use crate::cli::text::{self, BOLD, DIM, GREEN, RED, YELLOW, shown};

/// Everything, and what to do next.
pub fn as_text(document: &Document) -> String {
    let Document { server, live, roots, stacks, others, commit, .. } = document;
    let commit = text::short(commit.as_str()).to_owned();
    let mut out = format!("{BOLD}{server}{BOLD:#}  {}, commit {commit}\n", text::plural(stacks.len(), "stack"));
    for root in roots {
        let configured = if root.path == live.configured { " (as configured)" } else { "" };
        let _ = writeln!(out, "  live root {BOLD}{}{BOLD:#}{configured}: {}", shown(&root.path), at_root(root));
    }
    let _ = writeln!(out, "\n{DIM}With the live root {}:{DIM:#}", shown(&live.best));
    for stack in stacks {
        out.push_str(&stack_text(stack));
    }
    if !others.is_empty() {
        let _ = writeln!(out, "\n{DIM}Of no stack of {server}; they are left alone:{DIM:#}");
        for other in others {
            let _ = writeln!(out, "  {}", other_text(other));
        }
    }
    out.push_str("\nnext:\n");
    for (n, step) in next(document).into_iter().enumerate() {
        let _ = writeln!(out, "  {}. {step}", n + 1);
    }
    out
}

fn at_root(root: &AtRoot) -> String {
    let parts: Vec<String> = [
        (root.taken_over, "taken over as it runs", "taken over as they run"),
        (root.recreated, "made anew", "made anew"),
        (root.missing, "to be created", "to be created"),
    ]
    .into_iter()
    .filter(|(n, ..)| *n > 0)
    .map(|(n, one, many)| format!("{n} {}", if n == 1 { one } else { many }))
    .collect();
    let services = if parts.is_empty() { "no service".to_owned() } else { format!("services: {}", parts.join(", ")) };
    match root.rejected {
        0 => services,
        n => format!("{services}; {} cannot be rendered", text::plural(n, "stack")),
    }
}

fn stack_text(stack: &AdoptedStack) -> String {
    let project = stack.project.as_deref().filter(|project| *project != stack.name.as_str());
    let project = project.map(|project| format!(" (project {})", shown(project))).unwrap_or_default();
    let from = match (stack.runs, stack.started_from.as_slice()) {
        (false, _) => "does not run".to_owned(),
        (true, []) => "runs; from which folder is not known".to_owned(),
        (true, folders) => format!("started from {}", shown(&folders.join(", "))),
    };
    let mut out = format!("  {BOLD}{}{BOLD:#}{project}  {DIM}{from}{DIM:#}\n", stack.name);
    let width = stack.services.iter().map(|s| s.service.chars().count()).max().unwrap_or(0);
    for service in &stack.services {
        out.push_str(&service_text(service, width));
    }
    for project in stack.runs_as.iter().filter(|_| !stack.runs) {
        let project = shown(project);
        let what = "with that `name:` in its Compose file it is the same";
        let _ = writeln!(out, "      {YELLOW}! runs as the project {project}{YELLOW:#}: {what}");
    }
    for service in &stack.left_alone {
        let _ = writeln!(out, "      {DIM}  {}  left alone: the repository has no such service{DIM:#}", shown(service));
    }
    for path in &stack.in_the_way {
        let path = shown(path);
        let _ = writeln!(out, "      {RED}! {path}{RED:#} is not as the commit has it: the stack waits until it is");
    }
    out.push_str(&text::problems(&stack.problems));
    out
}

fn service_text(service: &AdoptedService, width: usize) -> String {
    let (sign, style, words) = match service.change {
        ServiceChangeKind::None if service.containers.is_empty() => (' ', DIM, "scaled to none"),
        ServiceChangeKind::None => ('=', GREEN, "taken over as it runs"),
        ServiceChangeKind::Create => ('+', GREEN, "created: no container"),
        _ => ('~', YELLOW, "made anew"),
    };
    let mut out = format!("      {style}{sign} {:<width$}{style:#}  {words}\n", shown(&service.service));
    for difference in &service.why {
        let _ = writeln!(out, "          {DIM}{}{DIM:#}", why(difference));
    }
    out
}

/// A difference: its name, and what there is and what is wanted where that is no secret.
fn why(difference: &Difference) -> String {
    let kind = serde_json::to_value(difference.why.kind).unwrap_or_default();
    let kind = kind.as_str().unwrap_or_default();
    let name = &difference.why.name;
    let what = match difference.why.kind {
        _ if kind == name => kind.to_owned(),
        WhyKind::Other => name.clone(),
        WhyKind::Dependency => format!("shares something with {name}"),
        _ => format!("{kind} {name}"),
    };
    let between = match (&difference.found, &difference.wanted) {
        (Some(found), Some(wanted)) => format!(": {found} -> {wanted}"),
        _ => String::new(),
    };
    shown(&(what + &between))
}

fn other_text(other: &Other) -> String {
    let of = other.project.as_deref().map(|project| format!("  project {project}")).unwrap_or_default();
    let from = other.started_from.as_deref().map(|folder| format!(", started from {folder}")).unwrap_or_default();
    shown(&format!("{}{of}{from}", other.container))
}

/// What a person does next.
fn next(document: &Document) -> Vec<String> {
    let mut steps = Vec::new();
    if let Some(line) = &document.live.line {
        steps.push(format!("in agent.yml: `{line}`"));
    }
    if document.stacks.iter().any(|stack| !stack.in_the_way.is_empty()) {
        steps.push("bring the files above into the repository, or make them as the commit has them".to_owned());
    }
    if document.stacks.iter().any(|stack| !stack.problems.is_empty()) {
        steps.push("correct what cannot be rendered, or it stays as it is".to_owned());
    }
    steps.push(
        "start the agent with `observe: true`: it changes nothing, `evenkeel status` says which stacks it would"
            .to_owned(),
    );
    let anew = document.stacks.iter().flat_map(|stack| &stack.services).any(|service| !service.stays());
    let rest = if anew { ", and makes the rest" } else { "" };
    steps.push(format!("take `observe` out: the first sync takes over what is as it should be{rest}"));
    steps
}
