//! `evenkeel status`.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use anstyle::Style;
use evenkeel_core::outcome::{Exit, StackStatus, Status};
use jiff::Timestamp;

use super::{
    asked,
    output::{Failure, Output},
    text::{self, RED, YELLOW},
    words::{self, ago, short},
};
use crate::{
    config::DEFAULT_PATH,
    host::{activity, status::without_agent},
    socket, terminal,
};

/// Show what runs, and since when.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Works without a running agent too, read-only from its store, and says so.

Examples:
  evenkeel status
  evenkeel status --format json | jq '.stacks[] | select(.state != \"steady\")'")]
pub struct Args {
    /// The agent's configuration, which says where its socket and its store are
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
}

/// Runs the verb.
pub fn run(args: &Args, out: &Output) -> Result<Exit, Failure> {
    let ask = async |socket: &Path| socket::status(socket).await;
    let found = asked::agent_or_store(&args.config, ask, without_agent)?;
    out.answer(&found, |found| shown(found, Timestamp::now()));
    Ok(Exit::Fine)
}

fn shown(status: &Status, now: Timestamp) -> String {
    let mut text = String::new();
    for notice in &status.notices {
        let _ = writeln!(text, "{YELLOW}note{YELLOW:#}: {notice}");
    }
    let source = &status.source;
    let _ = writeln!(text, "{}  {} {}", status.server, source.url, source.reference);
    let accepted = source.accepted.as_deref().map_or("nothing yet", short);
    let contact = source.contact.as_deref().map_or_else(|| "never".to_owned(), |at| ago(at, now));
    let _ = writeln!(text, "accepted {accepted}, last contact {contact}");
    if let Some(refused) = &source.refused {
        let _ = writeln!(text, "{RED}REFUSED{RED:#} {}", refused.message);
    }
    if let Some(activity) = &status.activity {
        let _ = writeln!(text, "{}", activity::line(activity, Some(now)));
    }
    if let Some(suspended) = &status.suspended {
        let _ = writeln!(
            text,
            "{YELLOW}SUSPENDED{YELLOW:#} every stack, by {} until {}: {}",
            suspended.by.name, suspended.until, suspended.reason
        );
    }
    if let Some(guarded) = status.guarded.as_ref().filter(|g| g.confirmed.is_none()) {
        let removes = guarded.removes.join(", ");
        let _ = writeln!(
            text,
            "{YELLOW}WAITS{YELLOW:#} plan {} removes {removes}: `evenkeel confirm {} --reason WHY`",
            guarded.plan, guarded.plan
        );
    }
    if status.stacks.is_empty() {
        let _ = writeln!(text, "\nno stack was deployed yet");
    } else {
        text.push('\n');
        text.push_str(&table(status, now));
    }
    status.stacks.iter().for_each(|stack| text.push_str(&reasons(stack)));
    for (stack, drift) in status.stacks.iter().flat_map(|s| s.drift.iter().map(move |d| (s, d))) {
        let since = ago(&drift.since, now);
        let _ = writeln!(text, "{}: {YELLOW}drift{YELLOW:#}: {}, since {since}", stack.name, drift.what);
    }
    let outbox = &status.outbox;
    if outbox.pending + outbox.undelivered > 0 {
        let why = outbox.last_error.as_deref().unwrap_or("not tried yet");
        let _ = writeln!(text, "reports: {} waiting, {} undelivered ({why})", outbox.pending, outbox.undelivered);
    }
    text
}

fn table(status: &Status, now: Timestamp) -> String {
    let plain = |text: String| (text, Style::new());
    let rows: Vec<[text::Cell; 5]> = status
        .stacks
        .iter()
        .map(|stack| {
            let (state, style) = words::state(stack.state);
            [
                (stack.name.clone(), text::BOLD),
                (state.to_owned(), style),
                (stack.health.clone(), words::health_style(&stack.health)),
                plain(stack.commit.as_deref().map_or("-", short).to_owned()),
                plain(stack.since.as_deref().map_or_else(|| "-".to_owned(), |at| ago(at, now))),
            ]
        })
        .collect();
    let width = terminal::width(std::io::stdout());
    text::table(["STACK", "STATE", "HEALTH", "COMMIT", "SINCE"], &rows, width)
}

/// Why a stack is as it is.
fn reasons(stack: &StackStatus) -> String {
    let mut text = String::new();
    if let Some(reason) = stack.last.as_ref().and_then(|l| l.reason.as_ref()) {
        let _ = writeln!(text, "{}: {reason}", stack.name);
    }
    if let Some(suspended) = &stack.suspended {
        let _ = writeln!(
            text,
            "{}: suspended by {} until {}: {}",
            stack.name, suspended.by.name, suspended.until, suspended.reason
        );
    }
    if let Some(hold) = &stack.hold {
        // The last end says the same once a sync has seen it.
        if stack.last.as_ref().and_then(|l| l.reason.as_ref()).is_none_or(|r| r.message != hold.reason) {
            let _ = writeln!(text, "{}: {}", stack.name, hold.reason);
        }
    }
    if let Some(window) = stack.window.as_ref().filter(|window| !window.open) {
        let opens = window.changes.as_deref().map_or_else(String::new, |at| format!(", opens at {at}"));
        let _ = writeln!(text, "{}: window {} is closed{opens}", stack.name, window.window);
    }
    text
}
