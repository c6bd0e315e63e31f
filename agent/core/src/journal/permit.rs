//! The leave that a journal gives: proof that what is about to be done was written down before.

use super::{Purpose, Restore};

/// Leave to change files, containers and tags of one stack. Only a journalled apply or rollback gives it,
/// and an apply is only journalled after a [`SnapshotDecision`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplyPermit {
    pub(super) before: Vec<String>,
    pub(super) ailing: Vec<String>,
    pub(super) beside: Vec<String>,
    pub(super) stood: Vec<String>,
    pub(super) purpose: Purpose,
    pub(super) again: bool,
    pub(super) back: bool,
}

impl ApplyPermit {
    /// The containers that stood before the first try; what is not among them was made by this deployment.
    pub fn before(&self) -> &[String] {
        &self.before
    }

    /// The containers that were not well before the deployment touched anything.
    pub fn ailing(&self) -> &[String] {
        &self.ailing
    }

    /// Services whose new containers are started beside those that stand.
    pub fn beside(&self) -> &[String] {
        &self.beside
    }

    /// The containers that stood before the apply, on the way back too: of the services that are started beside them they are
    /// the old ones, and all others are new.
    pub fn stood(&self) -> &[String] {
        &self.stood
    }

    /// Services that are made anew although nothing about them changed.
    pub fn heal(&self) -> &[String] {
        self.purpose.heal()
    }

    /// The data that is exchanged, or is put back with the release.
    pub fn restore(&self) -> Option<&Restore> {
        self.purpose.restore()
    }

    /// Whether an earlier try was interrupted.
    pub fn is_again(&self) -> bool {
        self.again
    }

    /// Whether it puts the last good release back.
    pub fn is_back(&self) -> bool {
        self.back
    }
}
