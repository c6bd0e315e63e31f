//! `evenkeel verify`.

mod whole;

use std::{
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use anstyle::{AnsiColor, Style};
use evenkeel_core::{
    id::CommitId,
    outcome::Exit,
    trust::{Authority, Code, Judgement, Policy, Refusal, Revoked, Signer, Signers, Verdict, When},
};
use serde::Serialize;

use super::output::{Failure, Output, SCHEMA};
use crate::git::{self, GitError, Repo, graph, openpgp::Keyring};

/// Where the agent's own keys are, if `--allowed-signers` is not given.
const AGENT_SIGNERS: &str = "/etc/evenkeel/allowed_signers";

/// Check the signatures of commits, and their place in history.
///
/// A revision is judged alone, by its signature; of a range `A..B` every commit is that `B` has and `A` has not, as if
/// `A` were accepted. The key of the newest commit must count now; for those below it, it is enough that the key is
/// listed.
///
/// With `--introduction`, `--accepted` or `--signers repository` the whole history up to the revision is judged, as a
/// server does that is configured so: run in a repository's CI, it tells before a merge what the server would tell.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  evenkeel verify --allowed-signers allowed_signers            # HEAD
  evenkeel verify --allowed-signers allowed_signers origin/main..main
  evenkeel verify --openpgp-certificates /etc/evenkeel/openpgp v1..main
  evenkeel verify --repo infra.git --revoked revoked main~5..main --format json
  evenkeel verify --signers repository origin/main..HEAD  # before a merge
  evenkeel verify --signers repository --introduction 4b825dc6 main

Exit codes:
  0 every commit is good   4 one is refused   2 no keys, or no such revision")]
pub struct Args {
    /// A work tree or a bare repository
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub repo: PathBuf,
    /// Keys that may sign, as ssh-keygen reads them [default: the agent's, /etc/evenkeel/allowed_signers]
    #[arg(long, value_name = "FILE")]
    pub allowed_signers: Option<PathBuf>,
    /// A folder of OpenPGP certificates that may sign, one or more a file, as `gpg --export` writes them
    #[arg(long, value_name = "DIR")]
    pub openpgp_certificates: Option<PathBuf>,
    /// Keys that never count, one public key or fingerprint a line
    #[arg(long, value_name = "FILE")]
    pub revoked: Option<PathBuf>,
    /// Who lists the keys: the server, or the repository in `.evenkeel/allowed_signers`
    #[arg(long, value_enum, default_value_t, value_name = "WHO")]
    pub signers: SignersOf,
    /// The first trusted commit, with the fingerprint of the key that must have signed it
    #[arg(long, value_name = "ID[:FINGERPRINT]")]
    pub introduction: Option<String>,
    /// The commit that the server accepted last: the revision must descend from it
    #[arg(long, value_name = "ID")]
    pub accepted: Option<String>,
    /// The branch that the newest commit must name in its trailer `Deploy-To`
    #[arg(long, value_name = "REF")]
    pub require_deploy_to: Option<String>,
    /// Keys of the forge, whose clean merges are accepted
    #[arg(long, value_name = "FILE")]
    pub forge_keys: Option<PathBuf>,
    /// A revision, or a range `A..B`; default HEAD
    #[arg(value_name = "REV|A..B")]
    pub revision: Option<String>,
}

/// Who lists the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum SignersOf {
    /// The server, in a file.
    #[default]
    Server,
    /// The repository, in `.evenkeel/allowed_signers`.
    Repository,
}

/// What was found.
struct Findings {
    lines: Vec<Line>,
    refusal: Option<Box<Refusal>>,
    forward: Option<bool>,
}

/// The document of `--format json`.
#[derive(Serialize)]
struct Document {
    schema: u32,
    verdict: &'static str,
    /// Whether `A` is an ancestor of `B`; null for a single revision.
    forward: Option<bool>,
    commits: Vec<Line>,
    /// Why the revision may not run, as a whole: what a server would say.
    refusal: Option<Box<Refusal>>,
}

#[derive(Serialize)]
struct Line {
    id: CommitId,
    verdict: Verdict,
    code: Option<Code>,
    signer: Option<Signer>,
    reason: String,
    #[serde(skip)]
    subject: String,
    #[serde(skip)]
    fingerprint: Option<String>,
}

/// Runs the verb.
pub fn run(args: &Args, out: &Output) -> Result<Exit, Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs().cast_signed());
    let (policy, keyring) = policy(args, now)?;
    let repo = Repo::open(&args.repo).map_err(|e| usage("source.invalid", &e))?;
    let policy = whole::complete(policy, args, (&repo, &keyring))?;
    let incomplete = repo.incomplete().map_err(|e| failed(&e))?;
    let found = match incomplete {
        Some(why) => unreliable(&policy, &repo, args, why)?,
        None if args.asks_for_history() => whole::examine((&policy, &keyring), &repo, args, now)?,
        None => alone((&policy, &keyring), &repo, args, now)?,
    };
    let Findings { lines, refusal, forward } = found;
    let good = refusal.is_none();
    let verdict = if good { "good" } else { "refused" };
    out.answer(&Document { schema: SCHEMA, verdict, forward, commits: lines, refusal }, text);
    Ok(if good { Exit::Fine } else { Exit::Refused })
}

/// The keys that count, and the certificates to check them with.
fn policy(args: &Args, now: i64) -> Result<(Policy, Keyring), Failure> {
    if args.signers == SignersOf::Repository && (args.allowed_signers.is_some() || args.openpgp_certificates.is_some())
    {
        let message = "--signers repository contradicts --allowed-signers and --openpgp-certificates: the repository lists the keys";
        return Err(Failure::usage("trust.keys", message, "give one or the other"));
    }
    let file = match (&args.allowed_signers, &args.openpgp_certificates) {
        _ if args.signers == SignersOf::Repository => None,
        (Some(path), _) => Some(path.as_path()),
        (None, Some(_)) => None,
        (None, None) if Path::new(AGENT_SIGNERS).exists() => Some(Path::new(AGENT_SIGNERS)),
        (None, None) => {
            return Err(Failure::usage(
                "trust.keys",
                format!("no keys to verify with: there is no {AGENT_SIGNERS} on this machine"),
                "name a file in ssh-keygen's allowed-signers syntax with --allowed-signers, \
                 or a folder of OpenPGP certificates with --openpgp-certificates",
            ));
        }
    };
    let keys = |e: GitError| usage("trust.keys", &e);
    let revoked = args.revoked.as_deref().map_or(Revoked::Keys([].into()), git::read_revoked);
    let keyring = git::keyring(args.openpgp_certificates.as_deref(), &revoked, now).map_err(keys)?;
    let signers = file.map_or_else(|| Ok(Signers::default()), git::read_signers).map_err(keys)?;
    let authority = Authority::Server(signers.with_certificates(keyring.principals()));
    let (forge, keyring) = match &args.forge_keys {
        Some(file) => git::read_forge_keys(file, keyring).map_err(keys)?,
        None => (Signers::default(), keyring),
    };
    Ok((Policy { authority, revoked, introduction: None, forge, deploy_to: None }, keyring))
}

fn resolve(repo: &Repo, rev: &str) -> Result<CommitId, Failure> {
    let rev = if rev.is_empty() { "HEAD" } else { rev };
    repo.resolve(rev).ok_or_else(|| {
        Failure::usage(
            "repo.no-revision",
            format!("there is no commit {rev:?} in {}", repo.path().display()),
            "name a branch, a tag or an id that `git rev-parse` knows, or a range A..B",
        )
    })
}

/// One revision by its signature.
fn alone((policy, keyring): (&Policy, &Keyring), repo: &Repo, args: &Args, now: i64) -> Result<Findings, Failure> {
    let id = resolve(repo, args.revision.as_deref().unwrap_or("HEAD"))?;
    let commit = graph::one(repo, keyring, &id).map_err(|e| failed(&e))?;
    let judged = policy.judge(&commit.signature, When::Now(now));
    let mut refusal = judged.code.map(|code| {
        let refused = (code, judged.reason.clone());
        Box::new(Refusal {
            fingerprint: judged.fingerprint.clone(),
            ..*Refusal::of_tip(policy, None, (&id, &commit.subject), refused)
        })
    });
    // What stops everything stops a commit without a signature too.
    if let Revoked::Unreadable(why) = &policy.revoked {
        refusal = Some(Refusal::of_tip(policy, None, (&id, &commit.subject), (Code::Revocation, why.clone())));
    }
    Ok(Findings { lines: vec![Line::new((id, commit.subject), judged)], refusal, forward: None })
}

/// Of a repository that cannot be relied on nothing is judged.
fn unreliable(policy: &Policy, repo: &Repo, args: &Args, why: &str) -> Result<Findings, Failure> {
    let spec = args.revision.as_deref().unwrap_or("HEAD");
    let tip = resolve(repo, spec.split_once("..").map_or(spec, |(_, to)| to))?;
    let judged = Judgement {
        verdict: Verdict::Malformed,
        code: Some(Code::Shallow),
        signer: None,
        fingerprint: None,
        reason: why.to_owned(),
    };
    let refusal = Refusal::of_tip(policy, None, (&tip, ""), (Code::Shallow, why.to_owned()));
    Ok(Findings { lines: vec![Line::new((tip, String::new()), judged)], refusal: Some(refusal), forward: None })
}

fn text(document: &Document) -> String {
    let mut text: String = document.commits.iter().map(Line::text).collect();
    text.push_str(&summary(document));
    if document.forward == Some(false) {
        text.push_str(
            "Not forward: the first revision is not an ancestor of the second; a server would refuse the move.\n",
        );
    }
    text
}

fn summary(document: &Document) -> String {
    let refused = document.commits.iter().filter(|l| l.code.is_some()).count();
    let total = document.commits.len();
    match (&document.refusal, total) {
        (None, 0) if document.forward.is_some() => "Nothing to verify: the range is empty.\n".to_owned(),
        (None, 0) => "It may run: there is nothing new in it.\n".to_owned(),
        (None, 1) => "The commit is good.\n".to_owned(),
        (None, n) => format!("All {n} commits are good.\n"),
        // The commit's own line has said why.
        (Some(refusal), _)
            if document.commits.iter().any(|l| l.id == refusal.commit && l.code == Some(refusal.code)) =>
        {
            format!("{refused} of {total} refused. Next: {}\n", refusal.remedy)
        }
        (Some(refusal), _) => format!("Refused. {refusal}\n"),
    }
}

impl Line {
    fn new((id, subject): (CommitId, String), judged: Judgement) -> Self {
        let Judgement { verdict, code, signer, fingerprint, reason } = judged;
        Self { id, verdict, code, signer, reason, subject, fingerprint }
    }

    /// Two lines: what, and why.
    fn text(&self) -> String {
        let (mark, style) = match self.code {
            None => (self.verdict.as_str(), AnsiColor::Green.on_default()),
            Some(code) => (code.as_str(), AnsiColor::Red.on_default().bold()),
        };
        let dim = Style::new().dimmed();
        let key = self.fingerprint.as_ref().map(|key| format!(", key {key}")).unwrap_or_default();
        let (id, subject, reason) = (self.id.short(), &self.subject, &self.reason);
        format!("{id} {style}{mark:<13}{style:#} {subject}\n{:12} {dim}{reason}{key}{dim:#}\n", "")
    }
}

fn usage(code: &str, error: &GitError) -> Failure {
    Failure::usage(code, error.to_string(), "see `evenkeel verify --help`")
}

fn failed(error: &GitError) -> Failure {
    Failure::failed(error.reason().code.as_str(), error.to_string(), "")
}
