//! `evenkeel trust accept`: a person says on the server which commit counts as accepted.

use std::{fmt::Write as _, os::unix::fs::MetadataExt as _, path::PathBuf};

use evenkeel_core::{id::CommitId, outcome::Exit, reason::Class, trust::Commit};
use jiff::Timestamp;
use serde::Serialize;

use super::{
    ask::Person,
    survey::{fingerprint, word},
};
use crate::{
    cli::{
        asked,
        output::{Failure, Output, SCHEMA},
        runtime, sync,
        text::{self, BOLD, Cell, DIM, GREEN, RED, YELLOW, plural},
        words,
    },
    config::{DEFAULT_PATH, settings::Settings},
    host::acceptance::{self, AcceptEnd, AcceptError, AcceptRequest, Prospect},
    socket::{self, ClientError},
    store::{Store, StoreError},
    terminal,
};

/// Most commits that are shown of one direction; the others are counted.
const MAX_SHOWN: usize = 30;

/// Say which commit counts as accepted, after a reset on purpose or when the agent's state was lost.
///
/// Shows what goes away and what comes, and asks. The rules on signatures hold for the commit all the same. Only root on
/// the server can do it, with or without a running agent.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  evenkeel trust accept 1c5f0a2b9d3e --reason 'a secret was taken out of history'
  evenkeel trust accept 1c5f0a2b9d3e --reason 'disk replaced' --yes --format json

Exit codes:
  0 accepted   4 refused by trust   2 not confirmed, not root, no such commit")]
pub struct Args {
    /// The commit: its id, whole or shortened, as the refusal names it
    #[arg(value_name = "ID")]
    commit: String,
    /// Why; history keeps it
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The agent's configuration
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    config: PathBuf,
    /// Ask nothing
    #[arg(long)]
    yes: bool,
}

/// The document of `--format json`.
#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    commit: &'a CommitId,
    from: Option<&'a CommitId>,
    goes: Vec<Line<'a>>,
    comes: Vec<Line<'a>>,
    changed: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    id: &'a CommitId,
    subject: &'a str,
    signature: &'static str,
    fingerprint: Option<&'a str>,
}

/// Runs the verb.
pub fn run(args: &Args, out: &Output) -> Result<Exit, Failure> {
    if args.reason.trim().is_empty() {
        return Err(Failure::usage("usage", "the reason is empty", "say why in a few words: history keeps it"));
    }
    let settings = words::settings(&args.config)?;
    check_user(&settings)?;
    let prospect = {
        let store = asked::open(&settings)?;
        let now = Timestamp::now().as_second();
        let looked = runtime()?.block_on(acceptance::prospect(&settings, &store, &args.commit, now));
        looked.map_err(|e| failure(&e))?
    };
    let is_same = prospect.from.as_ref() == Some(&prospect.commit);
    if !out.is_json() {
        out.text(&shown(&prospect));
    }
    if let Err(refusal) = &prospect.verdict {
        return Err(refused(&refusal.to_string()));
    }
    if !is_same {
        confirm(args, &prospect, out)?;
        carry_out(args, &settings, &prospect)?;
    }
    if out.is_json() {
        out.json(&document(&prospect, !is_same));
    } else if is_same {
        out.text("It is the accepted commit already: nothing was changed.\n");
    } else {
        out.text(&format!(
            "{GREEN}accepted{GREEN:#} {}. A running agent looks at the branch now; `evenkeel sync` waits for the end.\n",
            prospect.commit.short()
        ));
    }
    Ok(Exit::Fine)
}

/// Root, or who owns the agent's state. The agent asks the kernel again who speaks.
fn check_user(settings: &Settings) -> Result<(), Failure> {
    let user = rustix::process::geteuid().as_raw();
    let agent = std::fs::metadata(&settings.paths.state).map_or(0, |m| m.uid());
    if acceptance::may_accept(user, agent) {
        return Ok(());
    }
    let message = format!("{} may not say what is accepted", socket::myself().name);
    Err(Failure::usage("trust.denied", message, "run it as root on the server: sudo evenkeel trust accept …"))
}

fn confirm(args: &Args, prospect: &Prospect, out: &Output) -> Result<(), Failure> {
    if args.yes {
        return Ok(());
    }
    let Some(mut person) = Person::at_terminal(out, false) else {
        let help = "look at what goes and what comes, and add --yes if that is meant";
        return Err(Failure::usage("trust.unconfirmed", "there is no terminal to ask at; nothing was changed", help));
    };
    let question = format!("Accept {} on this server?", prospect.commit.short());
    if person.agrees(&question, false)? {
        Ok(())
    } else {
        Err(Failure::usage("trust.unconfirmed", "nothing was changed", ""))
    }
}

/// By the running agent, who has the store; or on the store, if no agent runs.
fn carry_out(args: &Args, settings: &Settings, prospect: &Prospect) -> Result<(), Failure> {
    let (commit, from) = (prospect.commit.clone(), prospect.from.clone());
    let request = AcceptRequest { commit, from, why: args.reason.clone() };
    let runtime = runtime()?;
    let end = match runtime.block_on(socket::accept_commit(&settings.paths.socket, &request)) {
        Ok(end) => end,
        Err(ClientError::NotRunning(_)) => {
            let store = Store::open(&settings.paths.state).map_err(|e| unusable(&e))?;
            let now_ms = Timestamp::now().as_millisecond();
            let accepted = acceptance::accept(settings, &store, &request, socket::myself(), now_ms);
            runtime.block_on(accepted).map_err(|e| failure(&e))?
        }
        Err(error) => return Err(sync::failure(&error)),
    };
    match end {
        AcceptEnd::Accepted => Ok(()),
        AcceptEnd::Refused { message } => Err(refused(&message)),
        AcceptEnd::Moved => {
            let message = "another commit was accepted meanwhile; nothing was changed";
            Err(Failure::failed("trust.moved", message, "look again: run it once more"))
        }
    }
}

fn refused(message: &str) -> Failure {
    let help = "accepting by hand moves the accepted commit, and makes no signature good; nothing was changed";
    Failure::new(Exit::Refused, "trust.refused", message, help)
}

fn unusable(error: &StoreError) -> Failure {
    let exit = if matches!(error, StoreError::Busy(_)) { Exit::Usage } else { Exit::Halted };
    Failure::new(exit, "store.failed", error.to_string(), "nothing was changed")
}

fn failure(error: &AcceptError) -> Failure {
    match error {
        AcceptError::Absent { .. } => {
            let help = "let the agent fetch first (`evenkeel sync`, or `evenkeel agent --once`): it can only be a commit of the branch";
            Failure::usage("source.no-ref", error.to_string(), help)
        }
        AcceptError::Git(e) => {
            let reason = e.reason();
            let exit = if reason.class == Class::Transient { Exit::Transient } else { Exit::Failed };
            Failure::new(exit, reason.code.as_str(), error.to_string(), "")
        }
        AcceptError::Store(e) => unusable(e),
    }
}

fn document(prospect: &Prospect, changed: bool) -> Document<'_> {
    fn line(commit: &Commit) -> Line<'_> {
        let (id, subject) = (&commit.id, commit.subject.as_str());
        Line { id, subject, signature: word(&commit.signature).0, fingerprint: fingerprint(&commit.signature) }
    }
    Document {
        schema: SCHEMA,
        commit: &prospect.commit,
        from: prospect.from.as_ref(),
        goes: prospect.goes.iter().map(line).collect(),
        comes: prospect.comes.iter().map(line).collect(),
        changed,
    }
}

fn shown(prospect: &Prospect) -> String {
    let mut out = String::new();
    let to = prospect.commit.short();
    let _ = match &prospect.from {
        Some(from) => writeln!(out, "{BOLD}{} -> {to}{BOLD:#}\n", from.short()),
        None => writeln!(out, "{BOLD}{to}{BOLD:#}, where nothing is known to be accepted\n"),
    };
    if prospect.from.is_some() && !prospect.knows_from {
        let _ = writeln!(
            out,
            "{YELLOW}note{YELLOW:#}: the repository has not got the accepted commit any more, so what goes away cannot be shown\n"
        );
    }
    let rows: Vec<[Cell; 5]> =
        rows("-", RED, &prospect.goes).into_iter().chain(rows("+", GREEN, &prospect.comes)).collect();
    if !rows.is_empty() {
        let width = terminal::width(std::io::stdout());
        out.push_str(&text::table(["", "COMMIT", "SIGNATURE", "KEY", "SUBJECT"], &rows, width));
    }
    let goes = prospect.goes.len();
    let comes = prospect.comes.len();
    for (count, what) in [(goes, "goes away"), (comes, "comes")] {
        if count > MAX_SHOWN {
            let _ = writeln!(out, "{DIM}of what {what}, {} more{DIM:#}", plural(count - MAX_SHOWN, "commit"));
        }
    }
    if prospect.knows_from {
        let _ = writeln!(out, "\n{} away, {}", goes_text(goes), comes_text(comes));
    }
    out
}

fn goes_text(count: usize) -> String {
    let verb = if count == 1 { "goes" } else { "go" };
    format!("{} {verb}", plural(count, "commit"))
}

fn comes_text(count: usize) -> String {
    let verb = if count == 1 { "comes" } else { "come" };
    format!("{} {verb}", plural(count, "commit"))
}

fn rows(mark: &str, style: anstyle::Style, commits: &[Commit]) -> Vec<[Cell; 5]> {
    let plain = |text: &str| (text.to_owned(), anstyle::Style::new());
    let row = |commit: &Commit| {
        let (word, colour) = word(&commit.signature);
        [
            (mark.to_owned(), style),
            (commit.id.short().to_owned(), BOLD),
            (word.to_owned(), colour),
            plain(fingerprint(&commit.signature).unwrap_or("-")),
            plain(&commit.subject),
        ]
    };
    commits.iter().take(MAX_SHOWN).map(row).collect()
}
