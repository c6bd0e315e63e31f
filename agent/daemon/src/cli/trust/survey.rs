//! Who signed what over the last commits, for a person who is to choose whom to trust.

use std::fmt::Write as _;

use anstyle::Style;
use evenkeel_core::{
    id::CommitId,
    trust::{Signature, openpgp_fingerprint},
};
use jiff::Timestamp;
use serde::Serialize;

use super::given::{Given, SigningKey, principal};
use crate::{
    cli::text::{self, BOLD, Cell, DIM, GREEN, RED, YELLOW, plural},
    git::{
        GitError, Repo,
        openpgp::Keyring,
        survey::{self, Seen},
    },
    terminal,
};

/// The last commits, and every key that could be trusted.
pub struct Survey {
    /// Newest first; the first is the tip.
    pub commits: Vec<Seen>,
    /// Those that signed first, in the order of their last commit; then those that were only named.
    pub keys: Vec<Candidate>,
    /// The certificates that were named, to check signatures with.
    pub keyring: Keyring,
}

/// A key that could be trusted.
pub struct Candidate {
    /// The key.
    pub key: SigningKey,
    /// Whose it is said to be, as a principal.
    pub label: String,
    /// Who that is, for people.
    pub person: String,
    /// How many of the commits it signed.
    pub commits: usize,
    /// When it last signed, by the commit's own date.
    pub last: Option<i64>,
    /// Where it was named, if it was.
    pub origin: Option<String>,
}

/// A commit in the document of `--format json`.
#[derive(Serialize)]
pub struct CommitLine<'a> {
    id: &'a CommitId,
    date: String,
    author: &'a str,
    address: &'a str,
    subject: &'a str,
    signature: &'static str,
    key: Option<KeyLine<'a>>,
    reason: Option<&'a str>,
}

/// A key in the document of `--format json`.
#[derive(Serialize)]
pub struct KeyLine<'a> {
    kind: &'a str,
    fingerprint: &'a str,
}

/// A candidate in the document of `--format json`.
#[derive(Serialize)]
pub struct CandidateLine<'a> {
    kind: &'a str,
    fingerprint: &'a str,
    principal: &'a str,
    origin: Option<&'a str>,
    commits: usize,
    last: Option<String>,
    chosen: bool,
}

impl Survey {
    /// Looks at the newest `limit` commits of `tip`. A signature of OpenPGP does not carry its key: it can be checked if the
    /// certificate is among `given`.
    pub fn of(repo: &Repo, tip: &CommitId, limit: usize, given: &[Given]) -> Result<Self, GitError> {
        let mut keyring = Keyring::empty(Timestamp::now().as_second());
        for named in given {
            if let SigningKey::OpenPgp(certificate) = &named.key {
                keyring = keyring.with(certificate.armour.as_bytes()).map_err(GitError::Internal)?;
            }
        }
        let commits = survey::newest(repo, &keyring, tip, limit)?;
        let mut keys: Vec<Candidate> = Vec::new();
        for seen in &commits {
            let Some(fingerprint) = seen.signer() else { continue };
            if let Some(known) = keys.iter_mut().find(|known| known.key.fingerprint() == fingerprint) {
                known.commits += 1;
                continue;
            }
            let of_given = given.iter().find(|named| named.key.fingerprint() == fingerprint);
            let key = match (&seen.key, of_given) {
                (Some(key), _) => SigningKey::Ssh(key.clone()),
                (None, Some(named)) => named.key.clone(),
                (None, None) => continue,
            };
            keys.push(Candidate {
                key,
                label: principal(&seen.address),
                person: format!("{} <{}>", seen.author, seen.address),
                commits: 1,
                last: Some(seen.time_unix),
                origin: None,
            });
        }
        for named in given {
            if let Some(known) = keys.iter_mut().find(|known| known.key == named.key) {
                known.label.clone_from(&named.label);
                known.origin = Some(named.origin.clone());
                continue;
            }
            keys.push(Candidate {
                key: named.key.clone(),
                label: named.label.clone(),
                person: named.label.clone(),
                commits: 0,
                last: None,
                origin: Some(named.origin.clone()),
            });
        }
        Ok(Self { commits, keys, keyring })
    }

    /// The OpenPGP key that the newest commit names, if its certificate is not known.
    pub fn lacks(&self) -> Option<&str> {
        self.commits.first().and_then(|seen| lacked(&seen.commit.signature))
    }

    /// The place of the key that signed a commit among the candidates.
    pub fn signer(&self, seen: &Seen) -> Option<usize> {
        let fingerprint = seen.signer()?;
        self.keys.iter().position(|known| known.key.fingerprint() == fingerprint)
    }

    /// The commits as a table, then the keys with numbers.
    pub fn text(&self, branch: &str) -> String {
        let mut out = match self.commits.len() {
            1 => format!("The one commit of {branch}:\n\n"),
            n => format!("The newest {n} commits of {branch}:\n\n"),
        };
        let rows: Vec<[Cell; 6]> = self.commits.iter().map(|seen| self.row(seen)).collect();
        let header = ["COMMIT", "DATE", "SIGNATURE", "KEY", "AUTHOR", "SUBJECT"];
        out.push_str(&text::table(header, &rows, terminal::width(std::io::stdout())));
        let mut told: Vec<String> = Vec::new();
        for seen in &self.commits {
            let why = match (lacked(&seen.commit.signature), reason(seen)) {
                (Some(key), _) => format!("the certificate of the OpenPGP key {key} is not known; {}", hand_over(key)),
                (None, Some(why)) => format!("of some, {why}"),
                (None, None) => continue,
            };
            if !told.contains(&why) {
                let _ = writeln!(out, "{DIM}note: {why}{DIM:#}");
                told.push(why);
            }
        }
        if !self.keys.is_empty() {
            out.push_str("\nKeys:\n\n");
        }
        for (number, candidate) in self.keys.iter().enumerate() {
            out.push_str(&candidate.text(number + 1));
        }
        out
    }

    fn row(&self, seen: &Seen) -> [Cell; 6] {
        let (word, style) = word(&seen.commit.signature);
        let plain = |text: &str| (text.to_owned(), Style::new());
        let number = self.signer(seen).map_or_else(|| "-".to_owned(), |n| (n + 1).to_string());
        [
            (seen.commit.id.short().to_owned(), BOLD),
            plain(&date(seen.time_unix)),
            (word.to_owned(), style),
            plain(&number),
            plain(&seen.author),
            plain(&seen.commit.subject),
        ]
    }

    /// The commits for `--format json`.
    pub fn commit_lines(&self) -> Vec<CommitLine<'_>> {
        fn line(seen: &Seen) -> CommitLine<'_> {
            let Seen { commit, author, address, time_unix, key } = seen;
            CommitLine {
                id: &commit.id,
                date: date_time(*time_unix),
                author,
                address,
                subject: &commit.subject,
                signature: word(&commit.signature).0,
                key: key.as_ref().map(|k| KeyLine { kind: k.short_kind(), fingerprint: &k.fingerprint }).or_else(
                    || {
                        let named = fingerprint(&commit.signature).filter(|key| openpgp_fingerprint(key).is_some());
                        named.map(|fingerprint| KeyLine { kind: "openpgp", fingerprint })
                    },
                ),
                reason: reason(seen),
            }
        }
        self.commits.iter().map(line).collect()
    }

    /// The keys for `--format json`.
    pub fn key_lines(&self, chosen: &[usize]) -> Vec<CandidateLine<'_>> {
        self.keys
            .iter()
            .enumerate()
            .map(|(at, c)| CandidateLine {
                kind: c.key.short_kind(),
                fingerprint: c.key.fingerprint(),
                principal: &c.label,
                origin: c.origin.as_deref(),
                commits: c.commits,
                last: c.last.map(date_time),
                chosen: chosen.contains(&at),
            })
            .collect()
    }
}

impl Candidate {
    fn text(&self, number: usize) -> String {
        let (kind, fingerprint) = (self.key.short_kind(), self.key.fingerprint());
        let signed = match self.last {
            Some(last) => {
                format!("{} of these, the last on {}, {}", plural(self.commits, "commit"), date(last), self.person)
            }
            None => "signed none of these".to_owned(),
        };
        let origin = self.origin.as_ref().map(|origin| format!(", listed by {origin}")).unwrap_or_default();
        format!("{BOLD}{number:>3}{BOLD:#}  {kind}  {fingerprint}\n     {DIM}{signed}{origin}{DIM:#}\n")
    }
}

/// What cryptography says of a signature, in a word. Whether its key counts is not known yet.
pub fn word(signature: &Signature) -> (&'static str, Style) {
    match signature {
        Signature::Valid { .. } => ("signed", GREEN),
        Signature::Unsigned => ("unsigned", YELLOW),
        Signature::Unsupported { .. } => ("unsupported", YELLOW),
        Signature::Invalid { .. } => ("does not fit", RED),
        Signature::Malformed(_) => ("malformed", RED),
        Signature::Revoked { .. } => ("revoked", RED),
        Signature::Lapsed { .. } => ("expired", YELLOW),
    }
}

/// The key that a signature names, whether it fits or not.
pub fn fingerprint(signature: &Signature) -> Option<&str> {
    match signature {
        Signature::Unsigned | Signature::Malformed(_) => None,
        Signature::Unsupported { fingerprint, .. } => fingerprint.as_deref(),
        Signature::Invalid { fingerprint, .. }
        | Signature::Revoked { fingerprint, .. }
        | Signature::Lapsed { fingerprint, .. }
        | Signature::Valid { fingerprint } => Some(fingerprint),
    }
}

/// The OpenPGP key of a signature that cannot be checked for want of its certificate.
fn lacked(signature: &Signature) -> Option<&str> {
    match signature {
        Signature::Unsupported { fingerprint: Some(key), .. } => openpgp_fingerprint(key).is_some().then_some(key),
        _ => None,
    }
}

/// How an OpenPGP certificate gets here.
pub fn hand_over(key: &str) -> String {
    format!("where it signs: gpg --armor --export {key} > signer.asc; then here: --keys signer.asc")
}

fn reason(seen: &Seen) -> Option<&str> {
    match &seen.commit.signature {
        Signature::Unsupported { reason, .. }
        | Signature::Invalid { reason, .. }
        | Signature::Revoked { reason, .. }
        | Signature::Lapsed { reason, .. }
        | Signature::Malformed(reason) => Some(reason),
        Signature::Valid { .. } | Signature::Unsigned => None,
    }
}

/// A day, in UTC.
pub fn date(unix: i64) -> String {
    date_time(unix).chars().take_while(|c| *c != 'T').collect()
}

/// RFC 3339, in UTC.
pub fn date_time(unix: i64) -> String {
    Timestamp::from_second(unix).map_or_else(|_| unix.to_string(), |t| t.to_string())
}
