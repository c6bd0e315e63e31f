//! Words and small conversions that several verbs share.

use std::path::Path;

use comfy_table::{ContentArrangement, Table, presets};
use evenkeel_core::outcome::Exit;
use jiff::Timestamp;

use super::output::Failure;
pub use crate::host::words::{outcome, short, state};
use crate::{
    config::{self, settings::Settings},
    host::words::seconds_between,
};

/// The agent's configuration, for verbs that look for its socket or store.
pub fn settings(path: &Path) -> Result<Settings, Failure> {
    config::load(path).map_err(|errors| {
        let help = "correct the file, or name another one with --config";
        Failure::usage("config.invalid", errors.to_string(), help)
    })
}

/// A table without frames that keeps to the terminal's width.
pub fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    table
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
