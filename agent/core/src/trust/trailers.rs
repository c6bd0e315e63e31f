//! Trailers of a commit message that trust reads.
//!
//! Git's own rule (git-interpret-trailers(1)) guesses: a paragraph counts as trailers if enough of it looks like it.
//! Here nothing is guessed, so that what is read here, Git reads too: the message's last paragraph, not its first, and
//! only if every line of it is `Key: value`, or begins with a blank and so continues the line above. Keys are compared
//! without regard to case, as Git does. A value that is continued is none of ours: it is not one word.

use serde::{Deserialize, Serialize};

use crate::id::CommitId;

/// Names the branch that a tip is meant for.
pub const DEPLOY_TO: &str = "Deploy-To";
/// Names a commit that an allowed signer answers for.
pub const VOUCH: &str = "Evenkeel-Vouch";

/// What a message says to us. It counts only if the commit's signature does.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Trailers {
    /// The values of `Deploy-To`, as written.
    pub deploy_to: Vec<String>,
    /// The commits that `Evenkeel-Vouch` names by their full ids; what is no full id is left out.
    pub vouches: Vec<CommitId>,
}

impl Trailers {
    /// Reads a commit's message.
    pub fn of(message: &[u8]) -> Self {
        let mut trailers = Self::default();
        for (key, value) in block(message) {
            if key.eq_ignore_ascii_case(DEPLOY_TO) {
                trailers.deploy_to.push(value.to_owned());
            } else if key.eq_ignore_ascii_case(VOUCH)
                && let Ok(id) = CommitId::new(value)
            {
                trailers.vouches.push(id);
            }
        }
        trailers
    }
}

/// The keys and values of the message's trailers that stand on one line each.
fn block(message: &[u8]) -> Vec<(&str, &str)> {
    let Ok(text) = std::str::from_utf8(message) else { return Vec::new() };
    let lines: Vec<&str> = text.split('\n').collect();
    let is_blank = |line: &&str| line.bytes().all(|b| b.is_ascii_whitespace());
    let Some(last) = lines.iter().rposition(|l| !is_blank(l)) else { return Vec::new() };
    // Without an empty line before it, the paragraph is the subject's.
    let Some(before) = lines[..last].iter().rposition(is_blank) else { return Vec::new() };
    if lines[..before].iter().all(is_blank) {
        return Vec::new();
    }
    let mut found: Vec<Option<(&str, &str)>> = Vec::new();
    for line in &lines[before + 1..=last] {
        if line.starts_with([' ', '\t']) {
            match found.last_mut() {
                Some(continued) => *continued = None,
                None => return Vec::new(),
            }
        } else {
            match trailer(line) {
                Some(trailer) => found.push(Some(trailer)),
                None => return Vec::new(),
            }
        }
    }
    found.into_iter().flatten().collect()
}

fn trailer(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once(':')?;
    let is_key = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let value = value.trim_matches([' ', '\t']);
    (is_key && !value.bytes().any(|b| b.is_ascii_control())).then_some((key, value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn branches(message: &str) -> Vec<String> {
        Trailers::of(message.as_bytes()).deploy_to
    }

    #[test]
    fn the_last_paragraph_is_read_if_all_of_it_is_trailers() {
        assert_eq!(branches("Subject\n\nDeploy-To: refs/heads/main\n"), ["refs/heads/main"]);
        assert_eq!(branches("S\n\nbody\n\nSigned-off-by: A <a@x>\ndeploy-to:a\nDeploy-To:\tb \n\n \n"), ["a", "b"]);
        assert_eq!(branches("S\n\nDeploy-To: a\nKey: x\n  folded\nDeploy-To: b\n"), ["a", "b"]);
    }

    #[test]
    fn what_only_looks_like_trailers_is_text() {
        for message in [
            "Deploy-To: a",
            "Deploy-To: a\n",
            "\n\nDeploy-To: a\n",
            "Subject\nDeploy-To: a\n",
            "S\n\nDeploy-To: a\n\nmore words\n",
            "S\n\nsome words\nDeploy-To: a\n",
            "S\n\nDeploy-To: a\nsome words\n",
            "S\n\n Deploy-To: a\n",
            "S\n\nDeploy To: a\n",
            "S\n\nDeploy-To : a\n",
            "S\n\nDeploy-To: a\n folded\n",
            "S\n\nDeploy-To: a\r\n",
            "S\n\nDeploy-To: a\rb\n",
        ] {
            assert!(branches(message).is_empty(), "{message:?}");
        }
    }

    #[test]
    fn only_a_full_id_is_vouched_for() {
        let (full, short) = ("ab".repeat(20), "ab".repeat(4));
        let message = format!("S\n\nEvenkeel-Vouch: {full}\nEvenkeel-Vouch: {short}\nevenkeel-vouch: {full} {full}\n");
        assert_eq!(Trailers::of(message.as_bytes()).vouches, [CommitId::new(&full).unwrap()]);
    }

    proptest! {
        #[test]
        fn any_message_is_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[ -~\n\t]{0,200}") {
            Trailers::of(&bytes);
            Trailers::of(text.as_bytes());
        }
    }
}
