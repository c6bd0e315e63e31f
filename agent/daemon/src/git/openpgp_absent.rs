//! In place of `openpgp` where that was not compiled in (the cargo feature of that name).

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use evenkeel_core::trust::Signature;

use super::certificates::Listed;

/// What is said where OpenPGP is asked for.
const ABSENT: &str = "this evenkeel was built without OpenPGP; sign with an SSH key: git config gpg.format ssh";

/// No certificates.
#[derive(Debug, Clone, Default)]
pub struct Keyring {}

impl Keyring {
    /// Always an error.
    pub fn read(_folder: &Path, _now_unix: i64) -> Result<Self, String> {
        Err(ABSENT.to_owned())
    }

    /// No certificate.
    pub fn empty(_now_unix: i64) -> Self {
        Self {}
    }

    /// Always an error.
    pub fn with(self, _bytes: &[u8]) -> Result<Self, String> {
        Err(ABSENT.to_owned())
    }

    /// None.
    pub fn listed(&self) -> Vec<Listed> {
        Vec::new()
    }

    /// Nothing to take away.
    #[must_use]
    pub fn without(self, _revoked: &BTreeSet<String>) -> Self {
        self
    }

    /// Nobody.
    pub fn principals(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// Always refused.
    pub fn check(&self, _armour: &[u8], _payload: &[u8]) -> Signature {
        Signature::Unsupported { fingerprint: None, reason: ABSENT.to_owned() }
    }
}
