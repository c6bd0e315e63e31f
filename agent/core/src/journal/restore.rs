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

impl Swap {
    /// Where goes what was restored and ran, if what was there before is put back.
    pub fn failed(&self) -> String {
        format!("{}.failed", self.aside)
    }
}

impl Restore {
    /// Where what was there before is kept.
    pub fn aside(&self) -> Vec<String> {
        self.swaps.iter().map(|swap| swap.aside.clone()).collect()
    }

    /// The commands with which a person puts back what was there before. They do no harm if it is there already, and go
    /// on only from what went well: nothing is started with the wrong data.
    pub fn by_hand(&self) -> String {
        let mut commands = format!("docker compose -p {} stop", quoted(&self.project));
        for swap in &self.swaps {
            let [path, aside, failed] = [&swap.path, &swap.aside, &swap.failed()].map(|name| quoted(name));
            // `mv -n` that moved nothing may say that all is well.
            let [no_path, no_aside] = [&path, &aside].map(|name| format!("[ ! -e {name} ] && [ ! -L {name} ]"));
            let _ = write!(
                commands,
                " && {{ {no_aside} || {{ {{ {no_path} || mv -nT {path} {failed}; }} && {no_path} && mv -nT {aside} {path}; }}; }} \
                 && [ -e {path} ]"
            );
        }
        let _ = write!(commands, " && evenkeel rollback {} --reason \"after a restore\"", quoted(&self.stack));
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
    fn the_commands_for_a_person_name_what_they_move_and_go_on_only_from_what_went_well() {
        let swap = Swap {
            path: "/v/d".to_owned(),
            saved: "/v/d".to_owned(),
            restored: "/v/.x/d".to_owned(),
            aside: "/v/d.before".to_owned(),
        };
        let swaps = vec![swap];
        let restore = Restore { stack: "db".to_owned(), project: "db".to_owned(), snapshot: "1".to_owned(), swaps };
        assert_eq!(
            restore.by_hand(),
            "docker compose -p db stop && { [ ! -e /v/d.before ] && [ ! -L /v/d.before ] || { { [ ! -e /v/d ] && [ ! -L /v/d ] \
             || mv -nT /v/d /v/d.before.failed; } && [ ! -e /v/d ] && [ ! -L /v/d ] && mv -nT /v/d.before /v/d; }; } \
             && [ -e /v/d ] && evenkeel rollback db --reason \"after a restore\""
        );
        assert_eq!(restore.aside(), ["/v/d.before"]);
    }
}
