//! `evenkeel releases`.

use std::{fmt::Write as _, path::Path};

use evenkeel_core::{
    answer::{KeptRelease, Releases},
    outcome::Exit,
};
use evenkeel_layout::name::StackName;
use jiff::Timestamp;

use super::{
    asked,
    output::{Failure, Output},
    tell,
    text::{BOLD, DIM, GREEN},
    words::{ago, short},
};
use crate::{host, socket};

/// List the releases that a stack can go back to.
///
/// Works without a running agent too, read-only from its store, and says so.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  evenkeel releases immich
  evenkeel releases --format json | jq '.releases[] | select(.current)'")]
pub struct Args {
    /// The stack; without it, all
    #[arg(value_name = "STACK", value_parser = tell::stack)]
    stack: Option<StackName>,
    #[command(flatten)]
    place: tell::Where,
}

/// Runs the verb.
pub fn run(args: &Args, out: &Output) -> Result<Exit, Failure> {
    let name = args.stack.as_ref();
    let ask = async |socket: &Path| socket::releases(socket, name.map(StackName::as_str)).await;
    let found = asked::agent_or_store(&args.place.config, ask, async |_: &_, store: &_, notice: String| {
        asked::say(out, &notice);
        host::status::releases(store, name)
    })?;
    out.answer(&found, |found| text(found, Timestamp::now()));
    Ok(Exit::Fine)
}

fn text(found: &Releases, now: Timestamp) -> String {
    if found.releases.is_empty() {
        return "no release yet\n".to_owned();
    }
    let mut text = String::new();
    let mut last = None;
    for release in &found.releases {
        if last != Some(&release.stack) {
            let _ = writeln!(text, "{BOLD}{}{BOLD:#}", release.stack);
            last = Some(&release.stack);
        }
        text.push_str(&one(release, now));
    }
    text
}

fn one(release: &KeptRelease, now: Timestamp) -> String {
    let mut text = format!("  {}", release.id);
    if release.current {
        let _ = write!(text, " {GREEN}runs now{GREEN:#}");
    }
    if let Some(again) = release.again {
        let _ = write!(text, ", {again} again");
    }
    let subject = release.subject.as_deref().unwrap_or_default();
    let _ = writeln!(text, "  commit {} {subject} {DIM}{}{DIM:#}", short(&release.commit), ago(&release.at, now));
    for (service, image) in &release.images {
        let id = image.id.0.strip_prefix("sha256:").unwrap_or(&image.id.0);
        let _ = writeln!(text, "    {service}: {} {DIM}{}{DIM:#}", image.reference, short(id));
    }
    if let Some(snapshot) = &release.snapshot {
        let _ = writeln!(text, "    snapshot {} from before it", short(snapshot));
    }
    if !release.evidence.is_empty() {
        let seen: Vec<String> = release.evidence.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "    {DIM}passed the gate with {}{DIM:#}", seen.join(", "));
    }
    text
}
