//! Whose keys count: the allowed keys, the revoked ones, and what each says of one fingerprint.
//!
//! The rules are those of `ssh-keygen -Y find-principals` followed by `-Y verify`, as Git calls them:
//! what is accepted here, Git accepts with the same file.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::authority::ADMIN;

/// The namespace of Git's signatures.
pub const NAMESPACE: &str = "git";

/// Who signed: a label of the allowed-signers file or of a certificate, and the key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Signer {
    /// The principal of the line that admitted the key; of an OpenPGP certificate, its primary user id.
    pub principal: String,
    /// As Git prints it: for SSH `SHA256:` and the digest of the public key; for OpenPGP the 40 upper-case hexadecimal
    /// digits of the primary key.
    pub fingerprint: String,
}

/// The fingerprint of an OpenPGP key in the form that Git prints, from that form or the one with blanks.
pub fn openpgp_fingerprint(text: &str) -> Option<String> {
    let digits: String = text.split(' ').collect();
    (digits.len() == 40 && digits.bytes().all(|b| b.is_ascii_hexdigit())).then(|| digits.to_ascii_uppercase())
}

/// One line of an allowed-signers file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowedKey {
    /// Principals: patterns parted by commas.
    pub principals: String,
    /// The key.
    pub fingerprint: String,
    /// Namespace patterns parted by commas; `None` allows every namespace.
    pub namespaces: Option<String>,
    /// First second (Unix) at which the key counts.
    pub valid_after: Option<i64>,
    /// Last second (Unix) at which the key counts.
    pub valid_before: Option<i64>,
}

/// The keys that never count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revoked {
    /// These fingerprints; none, if nothing is configured.
    Keys(BTreeSet<String>),
    /// A file is configured and cannot be used. Then nothing is accepted.
    Unreadable(String),
}

/// The moment for which a key is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The tip: the key must count at this second (Unix).
    Now(i64),
    /// Below the tip: that the key is listed is enough. The committer's date proves nothing.
    Member,
}

/// What the lists say of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    Allowed(Signer),
    Unknown(&'static str),
    OutOfTime(Signer, &'static str),
}

/// The allowed keys in the order of their file, and the OpenPGP certificates beside it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Signers {
    keys: Vec<AllowedKey>,
    certificates: BTreeMap<String, String>,
}

impl Signers {
    /// Takes the lines of a file, in order.
    pub fn new(keys: Vec<AllowedKey>) -> Self {
        Self { keys, certificates: BTreeMap::new() }
    }

    /// Adds OpenPGP certificates: the primary user id by the primary fingerprint. When they count, the signature says.
    #[must_use]
    pub fn with_certificates(mut self, certificates: BTreeMap<String, String>) -> Self {
        self.certificates = certificates;
        self
    }

    /// The OpenPGP certificates: the primary user id by the primary fingerprint.
    pub fn certificates(&self) -> &BTreeMap<String, String> {
        &self.certificates
    }

    /// The lines, in order.
    pub fn keys(&self) -> &[AllowedKey] {
        &self.keys
    }

    /// Whether there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.certificates.is_empty()
    }

    /// Whether a key may act as [`ADMIN`] at a moment: a line that counts names this principal in full, not by a pattern.
    pub(super) fn is_admin(&self, fingerprint: &str, when: When) -> bool {
        self.keys.iter().any(|k| k.fingerprint == fingerprint && k.is_admin(when))
    }

    /// Whether any key may act as [`ADMIN`].
    pub(super) fn has_admin(&self) -> bool {
        self.keys.iter().any(|k| k.is_admin(When::Member))
    }

    /// The first listed principal of a key, for display only: it says nothing about whether the key counts.
    pub fn label(&self, fingerprint: &str) -> Option<Signer> {
        self.certified(fingerprint)
            .or_else(|| self.keys.iter().find(|k| k.fingerprint == fingerprint).map(AllowedKey::labelled))
    }

    fn certified(&self, fingerprint: &str) -> Option<Signer> {
        let (fingerprint, principal) = self.certificates.get_key_value(fingerprint)?;
        Some(Signer { principal: principal.clone(), fingerprint: fingerprint.clone() })
    }

    /// How a key stands at a moment. Git asks for the principals of the first line that has the key and is valid, and
    /// then for any line that admits one of these principals; so do we.
    pub(super) fn standing(&self, fingerprint: &str, when: When) -> Standing {
        if let Some(signer) = self.certified(fingerprint) {
            return Standing::Allowed(signer);
        }
        let lines = || self.keys.iter().filter(|k| k.fingerprint == fingerprint);
        let mut out_of_time = None;
        for first in lines() {
            if let Some(why) = first.out_of_time(when) {
                out_of_time.get_or_insert((first.labelled(), why));
                continue;
            }
            let admitted = first.labels().find(|label| lines().any(|k| k.admits(label, when)));
            if let Some(label) = admitted {
                let fingerprint = fingerprint.to_owned();
                return Standing::Allowed(Signer { principal: label.to_owned(), fingerprint });
            }
            if when != When::Member || (first.valid_after.is_none() && first.valid_before.is_none()) {
                return Standing::Unknown("its key is listed, but not for a principal and the namespace git");
            }
        }
        match out_of_time {
            Some((signer, why)) => Standing::OutOfTime(signer, why),
            None => Standing::Unknown("its key is not among the allowed signers"),
        }
    }
}

impl AllowedKey {
    fn labels(&self) -> impl Iterator<Item = &str> {
        self.principals.split(',').take_while(|label| !label.is_empty())
    }

    fn labelled(&self) -> Signer {
        let principal = self.labels().next().unwrap_or_default().to_owned();
        Signer { principal, fingerprint: self.fingerprint.clone() }
    }

    fn out_of_time(&self, when: When) -> Option<&'static str> {
        let When::Now(now) = when else { return None };
        if self.valid_after.is_some_and(|t| now < t) {
            Some("its key does not count yet (valid-after)")
        } else if self.valid_before.is_some_and(|t| now > t) {
            Some("its key has expired (valid-before)")
        } else {
            None
        }
    }

    fn is_admin(&self, when: When) -> bool {
        self.labels().any(|label| label == ADMIN) && self.admits(ADMIN, when)
    }

    fn admits(&self, principal: &str, when: When) -> bool {
        self.out_of_time(when).is_none()
            && matches_list(principal, &self.principals)
            && self.namespaces.as_deref().is_none_or(|list| matches_list(NAMESPACE, list))
    }
}

/// Whether `text` matches a list of patterns parted by commas. `*` is any run, `?` one byte; a pattern with `!` that
/// matches refuses, whatever else matches.
pub fn matches_list(text: &str, patterns: &str) -> bool {
    let mut matched = false;
    for pattern in patterns.split(',') {
        match pattern.strip_prefix('!') {
            Some(negated) if matches(text.as_bytes(), negated.as_bytes()) => return false,
            Some(_) => {}
            None => matched |= matches(text.as_bytes(), pattern.as_bytes()),
        }
    }
    matched
}

/// One pattern, in time linear in `text` times `pattern`: only the last star is ever tried again.
fn matches(text: &[u8], pattern: &[u8]) -> bool {
    let (mut t, mut p) = (0, 0);
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == b'?' || c == text[t] => {
                t += 1;
                p += 1;
            }
            _ => {
                let Some((star_p, star_t)) = star else { return false };
                star = Some((star_p, star_t + 1));
                p = star_p + 1;
                t = star_t + 1;
            }
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(principals: &str) -> AllowedKey {
        let fingerprint = "SHA256:k".to_owned();
        AllowedKey {
            principals: principals.to_owned(),
            fingerprint,
            namespaces: None,
            valid_after: None,
            valid_before: None,
        }
    }

    fn standing(keys: Vec<AllowedKey>, when: When) -> Standing {
        Signers::new(keys).standing("SHA256:k", when)
    }

    #[test]
    fn patterns_match_as_ssh_keygen_matches_them() {
        for (text, list, want) in [
            ("git", "git", true),
            ("git", "file,git", true),
            ("git", "*", true),
            ("git", "g?t", true),
            ("git", "g*t*", true),
            ("git", "*,!git", false),
            ("git", "!file", false),
            ("git", "", false),
            ("git", "gi", false),
            ("a.b.c", "*.c", true),
            ("aaab", "*ab", true),
        ] {
            assert_eq!(matches_list(text, list), want, "{text} against {list}");
        }
    }

    #[test]
    fn a_time_bound_counts_for_the_tip_only() {
        let expired = AllowedKey { valid_before: Some(100), ..key("a") };
        assert!(matches!(standing(vec![expired.clone()], When::Now(100)), Standing::Allowed(_)));
        assert!(matches!(standing(vec![expired.clone()], When::Now(101)), Standing::OutOfTime(..)));
        assert!(matches!(standing(vec![expired], When::Member), Standing::Allowed(_)));
        let later = AllowedKey { valid_after: Some(100), ..key("a") };
        assert!(matches!(standing(vec![later.clone()], When::Now(99)), Standing::OutOfTime(..)));
        assert!(matches!(standing(vec![later], When::Now(100)), Standing::Allowed(_)));
    }

    #[test]
    fn a_key_for_another_namespace_does_not_count() {
        let file = AllowedKey { namespaces: Some("file".to_owned()), ..key("a") };
        let git = AllowedKey { namespaces: Some("git".to_owned()), ..key("a") };
        assert!(matches!(standing(vec![file.clone()], When::Member), Standing::Unknown(_)));
        assert!(matches!(standing(vec![file.clone(), git.clone()], When::Member), Standing::Allowed(_)));
        let other_label = AllowedKey { principals: "b".to_owned(), ..git };
        assert!(matches!(standing(vec![file, other_label], When::Now(0)), Standing::Unknown(_)));
    }

    #[test]
    fn a_principal_that_refuses_itself_admits_nobody() {
        assert!(matches!(standing(vec![key("a,!a")], When::Member), Standing::Unknown(_)));
        assert!(matches!(standing(vec![key("*@x.example")], When::Member), Standing::Allowed(_)));
    }
}
