//! `evenkeel trust status`: what this server trusts, and how that stands.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
};

use anstyle::Style;
use evenkeel_core::{
    id::CommitId,
    outcome::{About, Exit, RefusedStatus, SourceStatus, Status},
    trust::{AUTHORISATION_PATH, AllowedKey, Authority, Revoked, Signers},
};
use evenkeel_layout::tree::Tree as _;
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use super::survey::{date, date_time};
use crate::{
    cli::{
        asked,
        output::{Failure, Output, SCHEMA},
        text::{self, BOLD, Cell, DIM, GREEN, RED, YELLOW},
        words::{self, ago},
    },
    config::{
        DEFAULT_PATH,
        settings::{Settings, SignersOf},
    },
    git::{
        self, GitError, Repo,
        certificates::{Listed, State},
        openpgp::Keyring,
        survey,
    },
    host::status::without_agent,
    socket, terminal,
};

/// How many commits are looked at for the last one of each key.
const MAX_COMMITS: usize = 2000;
/// What ends within this many seconds is told: thirty days.
const SOON: i64 = 30 * 86_400;

/// Show what this server trusts: where history begins, who may sign, what is accepted, what expires soon.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Works without a running agent too. As root it also tells when each key last
signed: that is read from the agent's mirror.

Examples:
  evenkeel trust status
  evenkeel trust status --format json | jq '.signers[] | select(.state != \"counts\")'")]
pub struct Args {
    /// The agent's configuration
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    config: PathBuf,
}

/// The document of `--format json`. Times are RFC 3339 in UTC.
#[derive(Serialize)]
struct Document {
    schema: u32,
    url: String,
    #[serde(rename = "ref")]
    reference: String,
    mode: &'static str,
    introduction: Option<Introduction>,
    accepted: Option<String>,
    about: Option<About>,
    contact: Option<String>,
    /// Whether the repository was silent for longer than `trust.stale_after`.
    stale: bool,
    refused: Option<RefusedStatus>,
    signers: Vec<Signer>,
    /// The keys of the forge, which count for clean merges only.
    forge: Vec<Signer>,
    revoked: Vec<String>,
    notices: Vec<String>,
}

#[derive(Serialize)]
struct Introduction {
    commit: CommitId,
    signer: String,
}

/// A key that is listed.
#[derive(Serialize)]
struct Signer {
    principals: String,
    fingerprint: String,
    /// `counts`, `expires soon`, `expired`, `not yet`, `revoked` or `cannot sign`.
    state: &'static str,
    /// Of an OpenPGP certificate that does not count: why.
    reason: Option<String>,
    valid_after: Option<String>,
    valid_before: Option<String>,
    last: Option<Last>,
}

/// The last commit by a key.
#[derive(Clone, Serialize)]
struct Last {
    commit: CommitId,
    date: String,
}

/// Runs the verb.
pub fn run(args: &Args, out: &Output) -> Result<Exit, Failure> {
    let settings = words::settings(&args.config)?;
    let now = Timestamp::now();
    let (source, mut notices) = source(&args.config, &settings)?;
    let trust = &settings.trust;
    let (policy, keyring) =
        git::policy(trust, &settings.source.reference, now.as_second()).map_err(|e| unreadable(&e))?;
    let keys = keys(&settings, policy.authority, source.accepted.as_deref(), &mut notices);
    let revoked = match policy.revoked {
        Revoked::Keys(keys) => keys.into_iter().collect(),
        Revoked::Unreadable(why) => {
            notices.push(format!("{why}: every commit is refused"));
            Vec::new()
        }
    };
    let last = last_signed(&settings, &source, &keyring, &mut notices);
    let known = (&revoked[..], &last);
    let signers = listed(&keys, &keyring, known, now.as_second());
    let forge = listed(&policy.forge, &keyring, known, now.as_second());
    notices.extend(signers.iter().chain(&forge).filter_map(Signer::notice));
    let document = Document {
        schema: SCHEMA,
        url: source.url,
        reference: source.reference,
        mode: if trust.signers == SignersOf::Repository { "repository" } else { "server" },
        introduction: trust
            .introduction
            .as_ref()
            .map(|i| Introduction { commit: i.commit.clone(), signer: i.signer.clone() }),
        accepted: source.accepted,
        about: source.about,
        stale: source.stale,
        contact: source.contact,
        refused: source.refused,
        signers,
        forge,
        revoked,
        notices,
    };
    out.answer(&document, |document| shown(document, now));
    Ok(Exit::Fine)
}

/// The keys that count: the server's, or those of the accepted commit, at first of the introduction.
fn keys(settings: &Settings, authority: Authority, accepted: Option<&str>, notices: &mut Vec<String>) -> Signers {
    if let Authority::Server(signers) = authority {
        return signers;
    }
    let introduction = settings.trust.introduction.as_ref().map(|i| i.commit.clone());
    let from = accepted.and_then(|id| CommitId::new(id).ok()).or(introduction);
    let read = || {
        let repo = Repo::open(&settings.paths.mirror()).ok()?;
        let tree = repo.tree(from.as_ref()?).ok()?;
        let text = tree.read(AUTHORISATION_PATH).ok()??;
        git::allowed_signers::parse(&text, &TimeZone::system()).ok()
    };
    let found = read();
    if found.is_none() {
        notices.push(format!(
            "{AUTHORISATION_PATH} of the repository cannot be read from the agent's mirror; run it as root"
        ));
    }
    found.unwrap_or_default()
}

/// What the running agent says of the source, else its store; and what is wrong with the answer.
fn source(config: &Path, settings: &Settings) -> Result<(SourceStatus, Vec<String>), Failure> {
    let ask = async |socket: &Path| socket::status(socket).await;
    let found: Result<Status, Failure> = asked::agent_or_store(config, ask, without_agent);
    match found {
        Ok(found) => Ok((found.source, found.notices)),
        // Before an agent's first start the keys can be shown all the same.
        Err(failure) if failure.code == "store.failed" => {
            let Settings { source, .. } = settings;
            let nothing = SourceStatus {
                url: source.url.clone(),
                reference: source.reference.clone(),
                tip: None,
                accepted: None,
                about: None,
                refused: None,
                contact: None,
                stale: false,
            };
            Ok((nothing, vec![failure.message]))
        }
        Err(failure) => Err(failure),
    }
}

/// The last commit of each key, as far back as is looked.
fn last_signed(
    settings: &Settings,
    source: &SourceStatus,
    keyring: &Keyring,
    notices: &mut Vec<String>,
) -> BTreeMap<String, Last> {
    let mut last = BTreeMap::new();
    let tip = source.accepted.as_deref().and_then(|id| CommitId::new(id).ok());
    let Some(tip) = tip else { return last };
    let seen = Repo::open(&settings.paths.mirror()).and_then(|repo| survey::newest(&repo, keyring, &tip, MAX_COMMITS));
    match seen {
        Ok(seen) => {
            for commit in &seen {
                if let Some(key) = commit.commit.signature.key() {
                    let found = Last { commit: commit.commit.id.clone(), date: date_time(commit.time_unix) };
                    last.entry(key.to_owned()).or_insert(found);
                }
            }
        }
        Err(error) => notices.push(format!("when keys last signed cannot be told: {error}")),
    }
    last
}

fn signer(key: &AllowedKey, revoked: &[String], last: &BTreeMap<String, Last>, now: i64) -> Signer {
    let state = if revoked.contains(&key.fingerprint) {
        "revoked"
    } else if key.valid_before.is_some_and(|end| now > end) {
        "expired"
    } else if key.valid_after.is_some_and(|begin| now < begin) {
        "not yet"
    } else if key.valid_before.is_some_and(|end| end - now < SOON) {
        "expires soon"
    } else {
        "counts"
    };
    Signer {
        principals: key.principals.clone(),
        fingerprint: key.fingerprint.clone(),
        state,
        reason: None,
        valid_after: key.valid_after.map(date_time),
        valid_before: key.valid_before.map(date_time),
        last: last.get(&key.fingerprint).cloned(),
    }
}

/// The keys of a list, and its OpenPGP certificates as they stand.
fn listed(
    keys: &Signers,
    keyring: &Keyring,
    (revoked, last): (&[String], &BTreeMap<String, Last>),
    now: i64,
) -> Vec<Signer> {
    let ssh = keys.keys().iter().map(|key| signer(key, revoked, last, now));
    let certificates = keyring.listed().into_iter().filter(|c| keys.certificates().contains_key(&c.fingerprint));
    ssh.chain(certificates.map(|certificate| certified(certificate, last, now))).collect()
}

/// An OpenPGP certificate: when it counts, it says itself.
fn certified(certificate: Listed, last: &BTreeMap<String, Last>, now: i64) -> Signer {
    let Listed { fingerprint, principal, state, ends, .. } = certificate;
    let (state, reason) = match state {
        State::Counts if ends.is_some_and(|end| end - now < SOON) => ("expires soon", None),
        State::Counts => ("counts", None),
        State::Lapsed(why) => (if ends.is_some_and(|end| now >= end) { "expired" } else { "not yet" }, Some(why)),
        State::Revoked(why) => ("revoked", Some(why)),
        State::Unfit(why) => ("cannot sign", Some(why)),
    };
    Signer {
        principals: principal,
        last: last.get(&fingerprint).cloned(),
        fingerprint,
        state,
        reason,
        valid_after: None,
        valid_before: ends.map(date_time),
    }
}

impl Signer {
    /// What a person has to know of a certificate besides its state.
    fn notice(&self) -> Option<String> {
        let reason = self.reason.as_ref()?;
        Some(format!("{} signs nothing that counts at the tip: {reason}", self.principals))
    }
}

fn unreadable(error: &GitError) -> Failure {
    Failure::usage("trust.keys", error.to_string(), "correct the file, or run it as root")
}

fn shown(document: &Document, now: Timestamp) -> String {
    let mut out = String::new();
    for notice in &document.notices {
        let _ = writeln!(out, "{YELLOW}note{YELLOW:#}: {notice}");
    }
    let _ = writeln!(out, "{}  {}", document.url, document.reference);
    let _ = match &document.introduction {
        Some(first) => writeln!(out, "begins at  {} {DIM}signed by {}{DIM:#}", first.commit.short(), first.signer),
        None => writeln!(out, "begins at  the first commit of the branch: all of it must be signed"),
    };
    let accepted = document.accepted.as_deref().map_or("nothing yet", words::short);
    let subject = document.about.as_ref().map(|about| format!(" {DIM}{}{DIM:#}", about.subject)).unwrap_or_default();
    let _ = writeln!(out, "accepted   {accepted}{subject}");
    let contact = document.contact.as_deref().map_or_else(|| "never".to_owned(), |at| ago(at, now));
    let stale = if document.stale {
        format!("  {RED}stale: no answer from the repository for too long{RED:#}")
    } else {
        String::new()
    };
    let _ = writeln!(out, "contact    {contact}{stale}");
    if document.mode == "repository" {
        let _ = writeln!(out, "signers    listed by the repository itself, in {AUTHORISATION_PATH}");
    }
    if let Some(refused) = &document.refused {
        let _ = writeln!(out, "{RED}REFUSED{RED:#}    {}", refused.message);
    }
    out.push('\n');
    for (title, signers) in [("SIGNER", &document.signers), ("FORGE (CLEAN MERGES ONLY)", &document.forge)] {
        let rows: Vec<[Cell; 4]> = signers.iter().map(|signer| row(signer, now)).collect();
        if title == "SIGNER" || !rows.is_empty() {
            let width = terminal::width(std::io::stdout());
            out.push_str(&text::table([title, "STATE", "LAST SIGNED", "KEY"], &rows, width));
        }
    }
    let known = || document.signers.iter().chain(&document.forge);
    let listed = |key: &&String| known().all(|signer| signer.fingerprint != **key);
    for key in document.revoked.iter().filter(listed) {
        let _ = writeln!(out, "revoked: {key}");
    }
    out
}

fn row(signer: &Signer, now: Timestamp) -> [Cell; 4] {
    let plain = |text: String| (text, Style::new());
    let (mut state, style) = match signer.state {
        "counts" => (signer.state.to_owned(), GREEN),
        "expires soon" | "not yet" => (signer.state.to_owned(), YELLOW),
        other => (other.to_owned(), RED),
    };
    let bound = if signer.state == "not yet" { &signer.valid_after } else { &signer.valid_before };
    let moment = bound.as_deref().and_then(|at| at.parse::<Timestamp>().ok());
    if let Some(moment) = moment.filter(|_| !["revoked", "cannot sign"].contains(&signer.state)) {
        let on = date(moment.as_second());
        state = match signer.state {
            "counts" => format!("counts until {on}"),
            "expires soon" => format!("expires {on}"),
            "not yet" => format!("counts from {on}"),
            other => format!("{other} {on}"),
        };
    }
    let last = match &signer.last {
        Some(last) => format!("{} in {}", ago(&last.date, now), last.commit.short()),
        None => "-".to_owned(),
    };
    [(signer.principals.clone(), BOLD), (state, style), plain(last), plain(signer.fingerprint.clone())]
}
