//! The choice: whose keys count, and where trusted history begins. By flags, or by a person who is asked.

use evenkeel_core::{id::CommitId, trust::openpgp_fingerprint};

use super::{ask::Person, survey::Survey};
use crate::{cli::output::Failure, git::Repo};

/// What stands for the newest commit.
pub const NEWEST: &str = "newest";
/// What stands for a history that is trusted from its first commit on, without an introduction.
pub const FIRST: &str = "first";

/// What was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Places in the survey's list of keys.
    pub signers: Vec<usize>,
    /// The first commit that is trusted; `None` for the whole history.
    pub introduction: Option<CommitId>,
}

/// What can be chosen from.
#[derive(Clone, Copy)]
pub struct Offer<'a> {
    /// The commits and keys.
    pub survey: &'a Survey,
    /// Their repository.
    pub repo: &'a Repo,
    /// Fingerprints of `--signer`.
    pub signers: &'a [String],
    /// What `--introduction` says.
    pub introduction: Option<&'a str>,
}

impl Offer<'_> {
    /// The newest commit.
    fn tip(&self) -> Option<&CommitId> {
        self.survey.commits.first().map(|seen| &seen.commit.id)
    }

    /// The keys that the flags choose: those that they hand over, and those that they name.
    pub fn chosen_signers(&self) -> Result<Vec<usize>, Failure> {
        let keys = &self.survey.keys;
        let mut chosen: Vec<usize> = (0..keys.len()).filter(|&at| keys[at].origin.is_some()).collect();
        for wanted in self.signers {
            let openpgp = openpgp_fingerprint(wanted);
            let matches =
                |f: &str| f == wanted || f.strip_prefix("SHA256:") == Some(wanted) || openpgp.as_deref() == Some(f);
            let found = keys.iter().position(|known| matches(known.key.fingerprint())).ok_or_else(|| {
                let message = format!("no key {wanted:?} signed one of these commits");
                Failure::usage(
                    "trust.keys",
                    message,
                    "hand its public key over with --keys FILE, or look further back with --last N",
                )
            })?;
            if !chosen.contains(&found) {
                chosen.push(found);
            }
        }
        Ok(chosen)
    }

    /// The commit that such a text means; `None` stands for the whole history.
    pub fn introduction_of(&self, text: &str) -> Result<Option<CommitId>, String> {
        let found = match text {
            FIRST => return Ok(None),
            NEWEST => self.tip().cloned(),
            id => self.repo.resolve(id),
        };
        found.map(Some).ok_or_else(|| {
            format!("the branch has no commit {text:?}; write an id, `{NEWEST}`, or `{FIRST}` for the whole history")
        })
    }

    /// The choice that the flags make: the newest commit is the introduction unless they say otherwise.
    pub fn by_flags(&self) -> Result<Choice, Failure> {
        let signers = self.chosen_signers()?;
        let introduction = self
            .introduction_of(self.introduction.unwrap_or(NEWEST))
            .map_err(|why| Failure::usage("trust.introduction", why, "see the ids that `evenkeel trust init` shows"))?;
        Ok(Choice { signers, introduction })
    }

    /// The choice of a person, whom the flags may have told what to answer.
    pub fn by(&self, person: &mut Person<'_>) -> Result<Choice, Failure> {
        let mut default = self.chosen_signers()?;
        if default.is_empty() {
            default.extend(self.survey.commits.first().and_then(|tip| self.survey.signer(tip)));
        }
        let count = self.survey.keys.len();
        let numbers = default.iter().map(|at| (at + 1).to_string()).collect::<Vec<_>>().join(" ");
        if self.survey.keys.iter().any(|key| key.origin.is_none()) {
            person.tell(
                "Names are what the commits claim. Compare fingerprints with the keys' owners, who see them with\n  \
                 ssh-keygen -lf ~/.ssh/id_ed25519.pub      (of OpenPGP: gpg --fingerprint)\n",
            );
        }
        let question = "Whose signatures count on this server? Numbers of keys, or `all`";
        let signers = person.ask(question, &numbers, |answer| places(answer, count))?;
        let question = format!("Where does trusted history begin? A commit, `{NEWEST}`, or `{FIRST}` for all of it");
        let default = self.introduction.unwrap_or(NEWEST);
        let introduction = person.ask(&question, default, |answer| self.introduction_of(answer))?;
        Ok(Choice { signers, introduction })
    }
}

/// The places that numbers from 1 to `count` stand for.
fn places(answer: &str, count: usize) -> Result<Vec<usize>, String> {
    if answer == "all" {
        return Ok((0..count).collect());
    }
    let mut chosen = Vec::new();
    for word in answer.split([' ', ',']).filter(|word| !word.is_empty()) {
        match word.parse::<usize>() {
            Ok(number) if (1..=count).contains(&number) => chosen.push(number - 1),
            _ => return Err(format!("{word:?} is no number from 1 to {count}")),
        }
    }
    chosen.sort_unstable();
    chosen.dedup();
    if chosen.is_empty() { Err("name at least one key".to_owned()) } else { Ok(chosen) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_named_by_their_numbers() {
        assert_eq!(places("1", 3), Ok(vec![0]));
        assert_eq!(places("3, 1 3", 3), Ok(vec![0, 2]));
        assert_eq!(places("all", 2), Ok(vec![0, 1]));
        for bad in ["", " ", "0", "4", "x", "1 x", "-1"] {
            assert!(places(bad, 3).is_err(), "{bad:?}");
        }
    }
}
