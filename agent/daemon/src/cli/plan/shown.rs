//! A plan for people: a diff that is taken in at a glance.

use std::fmt::Write as _;

use anstyle::Style;
use evenkeel_core::plan::{
    Down, Effects, Held, HoldsStill, Plan, Renamed, ServiceChange, ServiceChangeKind, StackChange, StackChangeKind, Why,
};
use evenkeel_layout::problem::{Problem, Severity};

use super::{Document, ServerPlan};
use crate::cli::text::{self, BOLD, DIM, GREEN, RED, YELLOW};

/// The plans of all servers.
pub fn as_text(document: &Document) -> String {
    document.servers.iter().map(server_text).collect::<Vec<_>>().join("\n")
}

fn server_text(server: &ServerPlan) -> String {
    let ServerPlan { server, from, to, plan, effects } = server;
    let mut out = format!("{BOLD}{server}{BOLD:#}  {} -> {}\n", text::short(from), text::short(to));
    for Renamed { from, to } in &plan.renamed {
        let _ = writeln!(out, "  {DIM}{to}{DIM:#}  was {from}: the same Compose project, taken over as it runs");
    }
    for (n, wave) in plan.waves.iter().enumerate() {
        if plan.waves.len() > 1 {
            let _ = writeln!(out, "  {DIM}wave {}{DIM:#}", n + 1);
        }
        for change in wave {
            out.push_str(&stack_text(change, effects.get(&change.stack)));
        }
    }
    for Held { stack, waits_for, .. } in &plan.held {
        let _ = writeln!(out, "  {YELLOW}= {stack}{YELLOW:#}  held: waits for {waits_for}");
    }
    for stack in &plan.rejected {
        let _ = writeln!(out, "  {RED}! {stack}{RED:#}  rejected: keeps what it runs");
    }
    let _ = writeln!(out, "  {}", summary(plan));
    out.push_str(&text::problems(&worth_saying(plan)));
    out
}

/// What a person has to do something about; the rest is for `check`.
pub fn worth_saying(plan: &Plan) -> Vec<Problem> {
    let is_of_plan = |p: &&Problem| matches!(p.code.as_str(), "volume.options" | "prune.guard" | "secrets.no-key");
    plan.problems.iter().filter(|p| p.severity == Severity::Error || is_of_plan(p)).cloned().collect()
}

/// `stacks: 1 to create, 2 to update`.
pub fn summary(plan: &Plan) -> String {
    let count = |kind| plan.changes().filter(|c| c.change == kind).count();
    let parts: Vec<String> = [
        (count(StackChangeKind::Create), "to create"),
        (count(StackChangeKind::Update), "to update"),
        (count(StackChangeKind::Remove), "to remove"),
        (plan.renamed.len(), "renamed"),
        (plan.held.len(), "held"),
        (plan.rejected.len(), "rejected"),
    ]
    .into_iter()
    .filter(|(n, _)| *n > 0)
    .map(|(n, what)| format!("{n} {what}"))
    .collect();
    if parts.is_empty() { "nothing changes".to_owned() } else { format!("stacks: {}", parts.join(", ")) }
}

fn stack_text(change: &StackChange, effects: Option<&Effects>) -> String {
    let (sign, word) = stack_words(change.change);
    let style = style(sign);
    let mut out = format!("  {style}{sign} {}{style:#}  {word}{}\n", change.stack, group_words(change));
    let shown: Vec<&ServiceChange> = change.services.iter().filter(|s| s.change != ServiceChangeKind::None).collect();
    let width = shown.iter().map(|s| s.service.chars().count()).max().unwrap_or(0);
    for service in &shown {
        out.push_str(&service_text(service, width));
    }
    if shown.is_empty() {
        let _ = writeln!(out, "      {DIM}no service is touched{DIM:#}");
    }
    for (label, what) in effects.map(effect_words).unwrap_or_default() {
        let _ = writeln!(out, "      {DIM}{label} {what}{DIM:#}");
    }
    out
}

/// What it moves with, if it does.
pub fn group_words(change: &StackChange) -> String {
    change.group.as_ref().map(|group| format!(", with the group {group}")).unwrap_or_default()
}

/// The sign and the words for what happens to a stack.
pub fn stack_words(change: StackChangeKind) -> (char, &'static str) {
    match change {
        StackChangeKind::Create => ('+', "create"),
        StackChangeKind::Update => ('~', "update"),
        StackChangeKind::Remove => ('-', "remove: its volumes stay"),
    }
}

/// The sign and the word for what happens to a service.
pub fn service_words(change: ServiceChangeKind) -> (char, &'static str) {
    match change {
        ServiceChangeKind::Create => ('+', "create"),
        ServiceChangeKind::Recreate => ('~', "recreate"),
        ServiceChangeKind::StartFirst => ('~', "start-first"),
        ServiceChangeKind::Restart => ('~', "restart"),
        ServiceChangeKind::Signal => ('~', "signal"),
        ServiceChangeKind::Remove => ('-', "remove"),
        ServiceChangeKind::None => (' ', "none"),
    }
}

fn style(sign: char) -> Style {
    match sign {
        '+' => GREEN,
        '-' => RED,
        '~' => YELLOW,
        _ => DIM,
    }
}

/// What a change brings with it, each with its label.
pub fn effect_words(effects: &Effects) -> Vec<(&'static str, String)> {
    let Effects { pulls, builds, backs_up, holds_still, down, start_first } = effects;
    let longest = down.iter().map(|d| d.stop_secs).max().unwrap_or(0);
    let services: Vec<&str> = down.iter().map(|Down { service, .. }| service.as_str()).collect();
    let down = (!services.is_empty())
        .then(|| format!("{} while made anew (up to {longest} s to stop, then the start)", services.join(", ")));
    let some = |items: &[String]| (!items.is_empty()).then(|| items.join(", "));
    let still: Vec<String> =
        holds_still.iter().map(|HoldsStill { service, how }| format!("{service} ({how})")).collect();
    let beside = some(start_first).map(|services| format!("{services} (the new ones are started first)"));
    [
        ("pulls", some(pulls)),
        ("builds", some(builds)),
        ("backs up first", some(backs_up)),
        ("holds still meanwhile:", some(&still)),
        ("down:", down),
        ("not down:", beside),
    ]
    .into_iter()
    .filter_map(|(label, what)| Some((label, what?)))
    .collect()
}

fn service_text(service: &ServiceChange, width: usize) -> String {
    let (sign, word) = service_words(service.change);
    let style = style(sign);
    let whys = service.why.iter().map(why_text).collect::<Vec<_>>().join(", ");
    let name = format!("      {style}{sign} {:<width$}{style:#}  {word}", service.service);
    if whys.is_empty() { format!("{name}\n") } else { format!("{name}: {DIM}{whys}{DIM:#}\n") }
}

/// Why, in words.
pub fn why_text(why: &Why) -> String {
    let kind = serde_json::to_value(why.kind).unwrap_or_default();
    let kind = kind.as_str().unwrap_or_default();
    if kind == why.name { kind.to_owned() } else { format!("{kind} {}", why.name) }
}
