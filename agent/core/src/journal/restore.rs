//! A restore in the journal: what of a snapshot takes whose place, and where what was there goes.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// One path whose content is exchanged. All names are on one file system, so that each step is a rename: nothing is
/// copied, overwritten or deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swap {
    /// What the stack uses.
    pub path: String,
    /// The same in the snapshot.
    pub saved: String,
    /// Where it comes out of the snapshot, in a folder of ours beside `path`.
    pub restored: String,
    /// Where goes what is there now.
    pub aside: String,
}

/// Data that a person wants back from a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restore {
    /// The stack.
    pub stack: String,
    /// Its Compose project.
    pub project: String,
    /// restic's id of the snapshot, whole.
    pub snapshot: String,
    /// What is exchanged; no path is below another one.
    pub swaps: Vec<Swap>,
}

impl Restore {
    /// Where what was there before is kept.
    pub fn aside(&self) -> Vec<String> {
        self.swaps.iter().map(|swap| swap.aside.clone()).collect()
    }

    /// The commands with which a person puts back what was there before. They do no harm if it is there already.
    pub fn by_hand(&self) -> String {
        let mut commands = format!("docker compose -p {} stop", quoted(&self.project));
        for Swap { path, aside, .. } in &self.swaps {
            let failed = quoted(&format!("{path}.failed"));
            let (path, aside) = (quoted(path), quoted(aside));
            let _ = write!(commands, "; [ ! -e {aside} ] || {{ mv -T {path} {failed}; mv -T {aside} {path}; }}");
        }
        let _ = write!(commands, "; evenkeel rollback {} --reason \"after a restore\"", quoted(&self.stack));
        commands
    }
}

/// A word as a shell takes it literally.
fn quoted(word: &str) -> String {
    let plain = !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./:=,@%+".contains(&b));
    if plain { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_for_a_person_can_be_pasted_whatever_the_paths_are() {
        let swap = |path: &str| Swap {
            path: path.to_owned(),
            saved: path.to_owned(),
            restored: "/v/.x/d".to_owned(),
            aside: format!("{path}.before"),
        };
        let swaps = vec![swap("/v/d"), swap("/v/it's here")];
        let restore = Restore { stack: "db".to_owned(), project: "db".to_owned(), snapshot: "1".to_owned(), swaps };
        assert_eq!(
            restore.by_hand(),
            "docker compose -p db stop; [ ! -e /v/d.before ] || { mv -T /v/d /v/d.failed; mv -T /v/d.before /v/d; }; \
             [ ! -e '/v/it'\\''s here.before' ] || { mv -T '/v/it'\\''s here' '/v/it'\\''s here.failed'; \
             mv -T '/v/it'\\''s here.before' '/v/it'\\''s here'; }; evenkeel rollback db --reason \"after a restore\""
        );
        assert_eq!(restore.aside(), ["/v/d.before", "/v/it's here.before"]);
    }
}
