//! The command line: one file for each verb.

pub mod accept;
pub mod agent;
mod asked;
mod cache;
pub mod check;
pub mod completions;
pub mod confirm;
pub mod explain;
pub mod history;
pub mod man;
pub mod output;
pub mod plan;
pub mod releases;
pub mod render;
mod repo;
pub mod restore;
pub mod resume;
pub mod retry;
pub mod rollback;
pub mod secrets;
pub mod snapshots;
pub mod stacks;
pub mod status;
pub mod suspend;
pub mod sync;
mod tell;
mod text;
pub mod trust;
pub mod verify;
mod words;

use std::{
    ffi::{OsStr, OsString},
    process::ExitCode,
};

use clap::{Parser, Subcommand, ValueEnum, error::ErrorKind};
use evenkeel_core::outcome::Exit;

use output::{Failure, Format, Output};

/// Signed GitOps for servers that run Docker Compose.
#[derive(Debug, Parser)]
#[command(name = "evenkeel", version, propagate_version = true, max_term_width = 120)]
#[command(after_help = "\
Exit codes:
  0 fine                       4 refused by trust
  1 failed                     5 rolled back, or quarantined
  2 usage or configuration     6 halted, a person must act
  3 `plan` found changes       7 transient, worth trying again")]
pub struct Cli {
    /// What to print on standard output: `text` for people, or one `json` document; `check` also has `sarif` and `github`, `plan`
    /// also `markdown`
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, hide_possible_values = true, display_order = 900)]
    format: Format,
    /// When to colour text: `auto` (on a terminal, unless NO_COLOR is set), `always` or `never`
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, hide_possible_values = true, display_order = 901)]
    color: Color,
    #[command(subcommand)]
    verb: Verb,
}

/// When to colour text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Agent(agent::Args),
    Plan(plan::Args),
    Sync(sync::Args),
    Status(status::Args),
    History(history::Args),
    Explain(explain::Args),
    Releases(releases::Args),
    Rollback(rollback::Args),
    Snapshots(snapshots::Args),
    Restore(restore::Args),
    Retry(retry::Args),
    Accept(accept::Args),
    Confirm(confirm::Args),
    Suspend(suspend::Args),
    Resume(resume::Args),
    Verify(verify::Args),
    Trust(trust::Args),
    Stacks(stacks::Args),
    Render(render::Args),
    Check(check::Args),
    Secrets(secrets::Args),
    Completions(completions::Args),
    Man(man::Args),
}

impl Verb {
    /// Refuses a format that the verb does not have.
    fn answers_in(&self, format: Format) -> Result<(), Failure> {
        let has = match format {
            Format::Text | Format::Json => true,
            Format::Sarif | Format::Github => matches!(self, Self::Check(_)),
            Format::Markdown => matches!(self, Self::Plan(_)),
        };
        let name = format.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default();
        let message = || format!("this verb does not answer in the format {name}");
        let help = "`sarif` and `github` are for `check`, `markdown` is for `plan`; every verb has `text` and `json`";
        if has { Ok(()) } else { Err(Failure::usage("usage", message(), help)) }
    }
}

/// Runs the program for these arguments (the first is its own name) and says with which code it ends.
pub fn main(args: &[OsString]) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(usage(&error, args) as u8),
    };
    match cli.color {
        Color::Auto => anstream::ColorChoice::Auto,
        Color::Always => anstream::ColorChoice::Always,
        Color::Never => anstream::ColorChoice::Never,
    }
    .write_global();
    let out = Output::new(cli.format);
    let exit = cli.verb.answers_in(cli.format).and_then(|()| run(cli.verb, &out)).unwrap_or_else(|failure| {
        out.failure(&failure);
        failure.exit
    });
    let is_success = matches!(exit, Exit::Fine | Exit::Changes);
    ExitCode::from(if is_success && out.has_failed() { Exit::Failed } else { exit } as u8)
}

fn run(verb: Verb, out: &Output) -> Result<Exit, Failure> {
    match verb {
        Verb::Agent(args) => agent::run(&args, out),
        Verb::Plan(args) => plan::run(&args, out),
        Verb::Sync(args) => sync::run(&args, out),
        Verb::Status(args) => status::run(&args, out),
        Verb::History(args) => history::run(&args, out),
        Verb::Explain(args) => explain::run(&args, out),
        Verb::Releases(args) => releases::run(&args, out),
        Verb::Rollback(args) => rollback::run(&args, out),
        Verb::Snapshots(args) => snapshots::run(&args, out),
        Verb::Restore(args) => restore::run(&args, out),
        Verb::Retry(args) => retry::run(&args, out),
        Verb::Accept(args) => accept::run(&args, out),
        Verb::Confirm(args) => confirm::run(&args, out),
        Verb::Suspend(args) => suspend::run(&args, out),
        Verb::Resume(args) => resume::run(&args, out),
        Verb::Verify(args) => verify::run(&args, out),
        Verb::Trust(args) => trust::run(&args, out),
        Verb::Stacks(args) => stacks::run(&args, out),
        Verb::Render(args) => render::run(&args, out),
        Verb::Check(args) => check::run(&args, out),
        Verb::Secrets(args) => secrets::run(&args, out),
        Verb::Completions(args) => completions::run(&args, out),
        Verb::Man(args) => man::run(&args, out),
    }
}

/// Says what is wrong with the arguments, as JSON too if the arguments ask for it anywhere.
fn usage(error: &clap::Error, args: &[OsString]) -> Exit {
    // A reader that went away is no fault of the arguments.
    let _ = error.print();
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return Exit::Fine;
    }
    let wants_json = args.iter().any(|a| a == OsStr::new("--format=json"))
        || args.windows(2).any(|w| w[0] == OsStr::new("--format") && w[1] == OsStr::new("json"));
    if wants_json {
        // The first paragraph says what is wrong; of missing arguments it goes on with their names.
        let text = error.to_string();
        let paragraph: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
        let message = paragraph.join(" ");
        Output::new(Format::Json).error_document(&Failure::usage(
            "usage",
            message.trim_start_matches("error: "),
            "run `evenkeel --help`, or the verb with --help",
        ));
    }
    Exit::Usage
}

/// A runtime for the verbs that need one. Single-threaded: they do one thing at a time, and processes that they start
/// live no longer than they do.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| {
        Failure::failed("internal", format!("cannot start the runtime: {e}"), "look at the system's limits")
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_shows_examples_that_fit_a_terminal() {
        for verb in Cli::command().get_subcommands() {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("evenkeel "), "{} has no example", verb.get_name());
            let widest = help.lines().map(|line| line.chars().count()).max();
            assert!(widest <= Some(80), "the examples of {} do not fit a terminal", verb.get_name());
        }
    }
}
