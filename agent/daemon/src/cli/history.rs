//! `evenkeel history`.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use evenkeel_core::{
    outcome::{Exit, History},
    people::Intervention,
};
use jiff::Timestamp;

use super::{
    asked,
    output::{Failure, Output},
    sync,
    words::{self, ago, short},
};
use crate::{config::DEFAULT_PATH, host, socket};

/// Show what was deployed, rolled back and refused, newest first.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Works without a running agent too, read-only from its store, and says so.

Examples:
  evenkeel history
  evenkeel history --limit 100 --format json")]
pub struct Args {
    /// The agent's configuration, which says where its socket and its store are
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
    /// How many syncs to show
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
}

/// Runs the verb.
pub fn run(args: &Args, out: &Output) -> Result<Exit, Failure> {
    let ask = async |socket: &Path| socket::history(socket, args.limit).await;
    let history = asked::agent_or_store(&args.config, ask, async |_: &_, store: &_, notice: String| {
        asked::say(out, &notice);
        host::status::history(store, args.limit)
    })?;
    out.answer(&history, |history| text(history, Timestamp::now()));
    Ok(Exit::Fine)
}

fn text(history: &History, now: Timestamp) -> String {
    let syncs = &history.syncs;
    // What began a sync is told with it.
    let mut interventions = history.interventions.iter().filter(|told| told.sync.is_none()).peekable();
    if syncs.is_empty() && interventions.peek().is_none() {
        return "no sync yet\n".to_owned();
    }
    let mut text = String::new();
    for record in syncs {
        let commit = record.commit.as_deref().map_or("no commit", short);
        let outcome = words::outcome_so_far(record.outcome);
        let took = words::took(&record.started, record.ended.as_deref());
        let when = ago(&record.started, now);
        while let Some(told) = interventions.next_if(|told| told.at > record.started) {
            text.push_str(&intervention(told, now));
        }
        let by = record.stated.as_ref().map_or_else(String::new, |s| format!(" of {} ({})", s.by.name, s.reason));
        let _ = writeln!(text, "#{} {commit} {outcome}, {when} by {}{by}{took}", record.id, record.trigger);
        if let Some(reason) = &record.reason {
            let _ = writeln!(text, "  {reason}");
        }
        for deployment in &record.deployments {
            text.push_str(&sync::line(deployment));
        }
    }
    interventions.for_each(|told| text.push_str(&intervention(told, now)));
    text
}

fn intervention(told: &Intervention, now: Timestamp) -> String {
    let stack = told.stack.as_deref().map_or_else(String::new, |stack| format!(" {stack}"));
    let detail = told.detail.as_deref().map_or_else(String::new, |detail| format!(", {detail}"));
    let reason = if told.reason.is_empty() { String::new() } else { format!(": {}", told.reason) };
    format!("{}{stack} by {}, {}{detail}{reason}\n", told.told.as_str(), told.by.name, ago(&told.at, now))
}
