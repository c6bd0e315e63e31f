//! `evenkeel explain`.

use std::{fmt::Write as _, path::Path};

use evenkeel_core::{
    answer::{Explained, Explanation},
    outcome::Exit,
};
use evenkeel_layout::name::StackName;
use jiff::Timestamp;

use super::{
    asked,
    output::{Failure, Output},
    tell,
    text::{BOLD, DIM, RED, YELLOW},
    words::{self, ago},
};
use crate::{host::status::without_agent, service::explain::explain, socket};

/// Say how a stack is, why, what comes next and what you can do.
///
/// Works without a running agent too, read-only from its store, and says so.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  evenkeel explain immich
  evenkeel explain --format json | jq -r '.stacks[].next'")]
pub struct Args {
    /// The stack; without it, all
    #[arg(value_name = "STACK", value_parser = tell::stack)]
    stack: Option<StackName>,
    #[command(flatten)]
    place: tell::Where,
}

/// Runs the verb.
pub fn run(args: &Args, out: &Output) -> Result<Exit, Failure> {
    let name = args.stack.as_ref().map(StackName::as_str);
    let ask = async |socket: &Path| socket::explain(socket, name).await;
    let found = asked::agent_or_store(&args.place.config, ask, async |settings: &_, store: &_, notice| {
        let status = without_agent(settings, store, notice).await?;
        explain(settings, store, status, name).await
    })?;
    if let Some(name) = name
        && found.stacks.is_empty()
    {
        let help = "`evenkeel status` lists the stacks; one that was removed has nothing to explain";
        return Err(Failure::usage("stack.unknown", format!("nothing is known of a stack {name}"), help));
    }
    out.answer(&found, |found| text(found, Timestamp::now()));
    Ok(Exit::Fine)
}

fn text(found: &Explanation, now: Timestamp) -> String {
    let mut text = String::new();
    for notice in &found.status.notices {
        let _ = writeln!(text, "{YELLOW}note{YELLOW:#}: {notice}");
    }
    if let Some(refused) = &found.status.source.refused {
        let _ = writeln!(text, "{RED}REFUSED{RED:#} {}", refused.message);
    }
    if found.stacks.len() != 1 {
        let _ = writeln!(text, "{}: {}", found.status.server, found.next);
    }
    for stack in &found.stacks {
        text.push_str(&one(stack, now));
    }
    text
}

fn one(stack: &Explained, now: Timestamp) -> String {
    let (state, style) = words::state(stack.status.state);
    let mut text = format!("{BOLD}{}{BOLD:#}: {style}{state}{style:#}", stack.status.name);
    if let Some(last) = &stack.status.last {
        let _ = write!(text, " {DIM}since {}{DIM:#}", ago(&last.at, now));
    }
    let _ = writeln!(text, "\n  {}", stack.summary);
    if let Some(suspended) = &stack.status.suspended {
        let _ = writeln!(text, "  suspended by {} until {}: {}", suspended.by.name, suspended.until, suspended.reason);
    }
    if let Some(why) = &stack.why {
        let _ = writeln!(text, "  why:   {why} {DIM}({}){DIM:#}", why.code);
    }
    for container in &stack.containers {
        let name = if container.name.is_empty() { &container.service } else { &container.name };
        let _ = writeln!(text, "  seen:  {name} {}", container.state);
        if let Some(probe) = &container.probe {
            let _ = writeln!(text, "         its healthcheck says: {probe}");
        }
        for line in &container.log {
            let _ = writeln!(text, "         {DIM}| {line}{DIM:#}");
        }
    }
    let _ = writeln!(text, "  next:  {}", stack.next);
    for can in &stack.can {
        let _ = writeln!(text, "  can:   {BOLD}{}{BOLD:#}  {DIM}{}{DIM:#}", can.command, can.does);
    }
    text
}
