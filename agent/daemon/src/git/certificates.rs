//! OpenPGP certificates as people see them, whether OpenPGP was compiled in or not.

/// The kind of block that holds certificates.
pub(super) const BLOCK: &str = "PUBLIC KEY BLOCK";

/// A certificate as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The primary key's fingerprint.
    pub fingerprint: String,
    /// The primary user id, fit for display.
    pub principal: String,
    /// How it stands.
    pub state: State,
    /// The second (Unix) at which it ends, if it says so.
    pub ends: Option<i64>,
    /// The certificate, armoured.
    pub armour: String,
}

/// How a certificate stands: whether any of its keys counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// One does.
    Counts,
    /// It has expired, or begins later; why.
    Lapsed(String),
    /// It is revoked; by whom.
    Revoked(String),
    /// No key of it can sign commits; why.
    Unfit(String),
}

/// Whether a text is one of OpenPGP certificates, as forges and gpg write them.
pub fn is_certificates(text: &[u8]) -> bool {
    text.trim_ascii_start().starts_with(format!("-----BEGIN PGP {BLOCK}-----").as_bytes())
}
