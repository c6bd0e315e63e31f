//! `evenkeel status`.

use std::{fmt::Write as _, path::PathBuf};

use evenkeel_core::outcome::{Exit, Status};
use jiff::Timestamp;

use super::{
    output::{Failure, Output},
    runtime, sync,
    words::{self, ago, short},
};
use crate::{
    config::{DEFAULT_PATH, settings::Settings},
    engine::Engine,
    host::status::{StatusInput, status},
    socket::{self, ClientError},
    store::Store,
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
    let settings = words::settings(&args.config)?;
    let found = runtime()?.block_on(async {
        match socket::status(&settings.paths.socket).await {
            Err(ClientError::NotRunning(_)) => from_store(&settings).await,
            other => other.map_err(|e| sync::failure(&e)),
        }
    })?;
    out.answer(&found, |found| text(found, Timestamp::now()));
    Ok(Exit::Fine)
}

async fn from_store(settings: &Settings) -> Result<Status, Failure> {
    let store = open(settings)?;
    let containers = Engine::new(&settings.engine.socket).containers().await;
    let mut notices = vec!["the agent does not run; this is what its store says".to_owned()];
    if let Err(error) = &containers {
        notices.push(error.to_string());
    }
    let containers = containers.as_deref().ok();
    status(StatusInput { settings, store: &store, containers, pid: None, notices })
        .map_err(|e| Failure::failed("store.failed", e.to_string(), "look at the state directory"))
}

/// The store of an agent that does not run.
pub fn open(settings: &Settings) -> Result<Store, Failure> {
    Store::open_read_only(&settings.paths.state).map_err(|e| {
        Failure::failed("store.failed", e.to_string(), "start the agent once, or name its configuration with --config")
    })
}

fn text(status: &Status, now: Timestamp) -> String {
    let mut text = String::new();
    for notice in &status.notices {
        let _ = writeln!(text, "note: {notice}");
    }
    let source = &status.source;
    let _ = writeln!(text, "{}  {} {}", status.server, source.url, source.reference);
    let accepted = source.accepted.as_deref().map_or("nothing yet", short);
    let contact = source.contact.as_deref().map_or_else(|| "never".to_owned(), |at| ago(at, now));
    let _ = writeln!(text, "accepted {accepted}, last contact {contact}");
    if let Some(refused) = &source.refused {
        let _ = writeln!(text, "REFUSED {}", refused.message);
    }
    if status.stacks.is_empty() {
        let _ = writeln!(text, "\nno stack was deployed yet");
    } else {
        text.push('\n');
        text.push_str(&table(status, now));
    }
    for stack in &status.stacks {
        if let Some(reason) = stack.last.as_ref().and_then(|l| l.reason.as_ref()) {
            let _ = writeln!(text, "{}: {reason}", stack.name);
        }
    }
    let outbox = &status.outbox;
    if outbox.pending + outbox.undelivered > 0 {
        let why = outbox.last_error.as_deref().unwrap_or("not tried yet");
        let _ = writeln!(text, "reports: {} waiting, {} undelivered ({why})", outbox.pending, outbox.undelivered);
    }
    text
}

fn table(status: &Status, now: Timestamp) -> String {
    let mut table = words::table(["STACK", "STATE", "HEALTH", "COMMIT", "SINCE"]);
    for stack in &status.stacks {
        table.add_row([
            stack.name.clone(),
            words::state(stack.state).to_owned(),
            stack.health.clone(),
            stack.commit.as_deref().map_or("-", short).to_owned(),
            stack.since.as_deref().map_or_else(|| "-".to_owned(), |at| ago(at, now)),
        ]);
    }
    format!("{table}\n")
}
