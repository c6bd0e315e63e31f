//! Whose keys count for a commit: those of the server, or those that the repository itself lists.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Signers, When};
use crate::id::Digest;

/// Where a repository lists its own signers.
pub const AUTHORISATION_PATH: &str = ".evenkeel/allowed_signers";
/// Most bytes that this file may have.
pub const MAX_AUTHORISATION_BYTES: u64 = 64 * 1024;
/// The principal that may change this file and vouch for commits.
pub const ADMIN: &str = "admin";

/// Whose keys count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// Those that the server lists.
    Server(Signers),
    /// Those that the repository lists in [`AUTHORISATION_PATH`]: each commit is judged by its parents' lists.
    Repository,
}

/// What a commit's tree has at [`AUTHORISATION_PATH`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Authorisation {
    /// It was not looked for: the server lists the keys.
    Unread,
    /// It is no list that may be relied on, for this reason. Also if there is none.
    Unusable(String),
    /// A list, by the digest of its bytes; [`Files`] has it.
    File(Digest),
}

/// The lists of signers by the digests of their bytes.
pub type Files = BTreeMap<Digest, Authorised>;

/// One list of signers that a repository has, or had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authorised {
    /// The number of its `# serial:` line.
    pub serial: u64,
    /// The keys.
    pub signers: Signers,
}

impl Authorised {
    /// Checks a list: `text` is the file, `signers` what was read from it. It must have a serial, and an admin: without
    /// one nobody could ever change it again.
    pub fn new(text: &[u8], signers: Signers) -> Result<Self, String> {
        let serial = serial(text)?;
        if signers.has_admin() {
            Ok(Self { serial, signers })
        } else {
            Err(format!("no key in it has the principal `{ADMIN}`: nobody could ever change it again"))
        }
    }
}

/// The number of the one line `# serial: N`.
fn serial(text: &[u8]) -> Result<u64, String> {
    let mut found = None;
    for line in text.split(|&b| b == b'\n') {
        let Some(number) = std::str::from_utf8(line).ok().and_then(|l| l.strip_prefix("# serial:")) else { continue };
        let number = number.trim_matches(' ');
        let is_number = (1..=18).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
        let number = number.parse().ok().filter(|_| is_number);
        if found.replace(number.ok_or("its serial is not a whole number of at most 18 digits")?).is_some() {
            return Err("it has two lines `# serial: N`".to_owned());
        }
    }
    found.ok_or_else(|| "it has no line `# serial: N`".to_owned())
}

/// The list that a commit must keep unless an admin changes it: that of the parent with the highest serial.
///
/// `None` if two parents have different lists of the same highest serial, so that keeping either would undo the other.
pub(super) fn inherited<'f>(parents: &[(&'f Digest, &'f Authorised)]) -> (u64, Option<&'f Digest>) {
    let highest = parents.iter().map(|(_, file)| file.serial).max().unwrap_or(0);
    let mut candidates = parents.iter().filter(|(_, file)| file.serial == highest).map(|(digest, _)| *digest);
    let first = candidates.next();
    (highest, first.filter(|first| candidates.all(|other| other == *first)))
}

/// Whether a key is an admin's in all of these lists.
pub(super) fn is_admin(files: &[(&Digest, &Authorised)], fingerprint: &str, when: When) -> bool {
    !files.is_empty() && files.iter().all(|(_, file)| file.signers.is_admin(fingerprint, when))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_exactly_one_serial() {
        assert_eq!(serial(b"# serial: 7\na key\n"), Ok(7));
        assert_eq!(serial(b"a key\n# serial:12"), Ok(12));
        for bad in [
            "",
            "# serial 7\n",
            "# serial: \n",
            "# serial: -1\n",
            "# serial: +1\n",
            "# serial: 7\r\n",
            "# serial: 7 8\n",
            "# serial: 1234567890123456789\n",
            "# serial: 1\n# serial: 1\n",
        ] {
            assert!(serial(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn of_two_lists_with_one_serial_neither_is_kept() {
        let file = |serial| Authorised { serial, signers: Signers::default() };
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let (one, two) = (file(1), file(2));
        assert_eq!(inherited(&[(&a, &one), (&b, &two)]), (2, Some(&b)));
        assert_eq!(inherited(&[(&a, &two), (&a, &two)]), (2, Some(&a)));
        assert_eq!(inherited(&[(&a, &two), (&b, &two)]), (2, None));
        assert_eq!(inherited(&[]), (0, None));
    }
}
