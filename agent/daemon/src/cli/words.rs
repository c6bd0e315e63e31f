//! Words and small conversions that several verbs share.

use std::path::Path;

use anstyle::Style;
use evenkeel_core::outcome::{Exit, Outcome, StackState};
use jiff::Timestamp;

use super::{
    output::Failure,
    text::{BOLD, DIM, GREEN, RED, YELLOW},
};
pub use crate::host::words::short;
use crate::{
    config::{self, settings::Settings},
    host::words::{self, seconds_between},
    socket::ClientError,
};

/// The agent's configuration, for verbs that look for its socket or store.
pub fn settings(path: &Path) -> Result<Settings, Failure> {
    config::load_to_ask(path).map_err(|errors| {
        let help = "correct the file, or name another one with --config";
        Failure::usage("config.invalid", errors.to_string(), help)
    })
}

/// What is said before the store is read in the agent's place, or `None` if that would not be right.
pub fn from_the_store(error: &ClientError) -> Option<String> {
    match error {
        ClientError::NotRunning(_) => Some("the agent does not run; this is what its store says".to_owned()),
        ClientError::Silent(_) => Some(format!("{error}; this is what its store says. See its log")),
        ClientError::Denied(_) | ClientError::Refused(_) | ClientError::Declined(_) | ClientError::Broken { .. } => {
            None
        }
    }
}

/// An outcome as people say it, in its colour.
pub fn outcome(outcome: Outcome) -> String {
    let style = match outcome {
        Outcome::Committed => GREEN,
        Outcome::Unchanged => DIM,
        Outcome::RolledBack | Outcome::Aborted | Outcome::Held | Outcome::Quarantined => YELLOW,
        Outcome::Rejected | Outcome::Refused | Outcome::Halted => RED,
    };
    format!("{style}{}{style:#}", words::outcome(outcome))
}

/// An outcome as people say it, or that there is none yet.
pub fn outcome_so_far(so_far: Option<Outcome>) -> String {
    so_far.map_or_else(|| format!("{BOLD}under way{BOLD:#}"), outcome)
}

/// A state as people say it, and its colour.
pub fn state(state: StackState) -> (&'static str, Style) {
    let style = match state {
        StackState::Steady => GREEN,
        StackState::Deploying => BOLD,
        StackState::RolledBack | StackState::Held | StackState::Aborted => YELLOW,
        StackState::Rejected | StackState::Halted => RED,
    };
    (words::state(state), style)
}

/// The colour of a stack's health.
pub fn health_style(health: &str) -> Style {
    match health {
        "healthy" => GREEN,
        "starting" => BOLD,
        "unhealthy" | "stopped" => RED,
        _ => DIM,
    }
}

/// An exit code that came over the socket.
pub fn exit(code: u8) -> Exit {
    let known =
        [Exit::Fine, Exit::Usage, Exit::Changes, Exit::Refused, Exit::RolledBack, Exit::Halted, Exit::Transient];
    known.into_iter().find(|exit| *exit as u8 == code).unwrap_or(Exit::Failed)
}

/// ` (3.2 s)` between two instants, or nothing.
pub fn took(started: &str, ended: Option<&str>) -> String {
    let seconds = ended.and_then(|ended| seconds_between(started, ended));
    seconds.map_or_else(String::new, |s| format!(" ({s:.1} s)"))
}

/// How long ago an instant was: `just now`, `5 min ago`, `3 h ago`, `12 days ago`.
pub fn ago(instant: &str, now: Timestamp) -> String {
    let Ok(then) = instant.parse::<Timestamp>() else { return instant.to_owned() };
    match now.as_second().saturating_sub(then.as_second()) {
        s if s < 5 => "just now".to_owned(),
        s if s < 60 => format!("{s} s ago"),
        s if s < 3600 => format!("{} min ago", s / 60),
        s if s < 2 * 86_400 => format!("{} h ago", s / 3600),
        s => format!("{} days ago", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_people_read_them() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let cases = [
            ("2026-11-21T11:59:58Z", "just now"),
            ("2026-11-21T11:59:30Z", "30 s ago"),
            ("2026-11-21T11:30:00Z", "30 min ago"),
            ("2026-11-20T12:00:00Z", "24 h ago"),
            ("2026-11-01T12:00:00Z", "20 days ago"),
            ("nonsense", "nonsense"),
        ];
        for (instant, text) in cases {
            assert_eq!(ago(instant, now), text);
        }
        assert_eq!(took("2026-11-21T12:00:00Z", Some("2026-11-21T12:00:03.25Z")), " (3.2 s)");
        assert_eq!(took("2026-11-21T12:00:00Z", None), "");
    }

    #[test]
    fn every_exit_code_survives_the_socket() {
        for code in 0..=7 {
            assert_eq!(exit(code) as u8, code);
        }
        assert_eq!(exit(99), Exit::Failed);
    }
}
