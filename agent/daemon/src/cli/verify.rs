//! `evenkeel verify`.

use std::{
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use anstyle::{AnsiColor, Style};
use evenkeel_core::{
    id::CommitId,
    outcome::Exit,
    trust::{Authority, Code, Commit, Policy, Revoked, Signer, Signers, Verdict, When},
};
use serde::Serialize;

use super::output::{Failure, Output, SCHEMA};
use crate::git::{self, GitError, Repo, graph, openpgp::Keyring};

/// Where the agent's own keys are, if `--allowed-signers` is not given.
const AGENT_SIGNERS: &str = "/etc/evenkeel/allowed_signers";

/// Check the signatures of commits.
///
/// A revision is judged alone; of a range `A..B` every commit is that `B` has and `A` has not. The key of the newest
/// commit must count now; for those below it, it is enough that the key is listed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  evenkeel verify --allowed-signers allowed_signers            # HEAD
  evenkeel verify --allowed-signers allowed_signers origin/main..main
  evenkeel verify --openpgp-certificates /etc/evenkeel/openpgp v1..main
  evenkeel verify --repo infra.git --revoked revoked main~5..main --format json

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
    /// A revision, or a range `A..B`; default HEAD
    #[arg(value_name = "REV|A..B")]
    pub revision: Option<String>,
}

/// The document of `--format json`.
#[derive(Serialize)]
struct Document {
    schema: u32,
    verdict: &'static str,
    /// Whether `A` is an ancestor of `B`; null for a single revision.
    forward: Option<bool>,
    commits: Vec<Line>,
    /// What to do about the first commit that is refused.
    #[serde(skip)]
    next: String,
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
    let (commits, tip, forward) = commits(&repo, &keyring, args.revision.as_deref().unwrap_or("HEAD"))?;
    let incomplete = repo.incomplete().map_err(|e| failed(&e))?;

    let lines: Vec<Line> = commits
        .into_iter()
        .map(|commit| {
            let when = if commit.id == tip { When::Now(now) } else { When::Member };
            judge(&policy, commit, when, incomplete)
        })
        .collect();
    // What stops everything stops an empty range too.
    let stopped = incomplete.is_some() || matches!(policy.revoked, Revoked::Unreadable(_));
    let good = !stopped && lines.iter().all(|l| l.verdict == Verdict::Good);
    let verdict = if good { "good" } else { "refused" };
    let refused = lines.iter().find_map(|l| l.code.map(|code| (code, &l.id)));
    let next = refused.map_or_else(String::new, |(code, id)| policy.remedy(code, id, &tip));
    out.answer(&Document { schema: SCHEMA, verdict, forward, commits: lines, next }, text);
    Ok(if good { Exit::Fine } else { Exit::Refused })
}

/// The keys that count, and the certificates to check them with.
fn policy(args: &Args, now: i64) -> Result<(Policy, Keyring), Failure> {
    let file = match (&args.allowed_signers, &args.openpgp_certificates) {
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
    let keyring = match &args.openpgp_certificates {
        Some(folder) => git::read_certificates(folder, &revoked, now).map_err(keys)?,
        None => Keyring::default(),
    };
    let signers = file.map_or_else(|| Ok(Signers::default()), git::read_signers).map_err(keys)?;
    let authority = Authority::Server(signers.with_certificates(keyring.principals()));
    let policy = Policy { authority, revoked, introduction: None, forge: Signers::default(), deploy_to: None };
    Ok((policy, keyring))
}

type Asked = (Vec<Commit>, CommitId, Option<bool>);

/// The commits that `spec` means, parents first, the newest one, and whether a range goes forward.
fn commits(repo: &Repo, keyring: &Keyring, spec: &str) -> Result<Asked, Failure> {
    let resolve = |rev: &str| {
        let rev = if rev.is_empty() { "HEAD" } else { rev };
        repo.resolve(rev).ok_or_else(|| {
            Failure::usage(
                "repo.no-revision",
                format!("there is no commit {rev:?} in {}", repo.path().display()),
                "name a branch, a tag or an id that `git rev-parse` knows, or a range A..B",
            )
        })
    };
    if let Some((from, to)) = spec.split_once("..") {
        let (from, to) = (resolve(from)?, resolve(to)?);
        let (commits, forward) = graph::range(repo, keyring, &from, &to).map_err(|e| failed(&e))?;
        return Ok((commits, to, Some(forward)));
    }
    let id = resolve(spec)?;
    Ok((vec![graph::one(repo, keyring, &id).map_err(|e| failed(&e))?], id, None))
}

fn judge(policy: &Policy, commit: Commit, when: When, incomplete: Option<&str>) -> Line {
    let Commit { id, subject, signature, .. } = commit;
    if let Some(why) = incomplete {
        let (verdict, code, reason) = (Verdict::Malformed, Some(Code::Shallow), why.to_owned());
        return Line { id, verdict, code, signer: None, reason, subject, fingerprint: None };
    }
    let judged = policy.judge(&signature, when);
    Line {
        id,
        verdict: judged.verdict,
        code: judged.code,
        signer: judged.signer,
        reason: judged.reason,
        subject,
        fingerprint: judged.fingerprint,
    }
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
    let refused: Vec<&Line> = document.commits.iter().filter(|l| l.verdict != Verdict::Good).collect();
    let total = document.commits.len();
    match (document.verdict, total, refused.first()) {
        ("good", 0, _) => "Nothing to verify: the range is empty.\n".to_owned(),
        ("good", 1, _) => "The commit is good.\n".to_owned(),
        ("good", n, _) => format!("All {n} commits are good.\n"),
        (_, _, Some(_)) => {
            format!("{} of {total} refused. Next: {}\n", refused.len(), document.next)
        }
        _ => "Refused: the repository or the list of revoked keys cannot be relied on.\n".to_owned(),
    }
}

impl Line {
    /// Two lines: what, and why.
    fn text(&self) -> String {
        let (mark, style) = match self.verdict {
            Verdict::Good => ("good", AnsiColor::Green.on_default()),
            _ => (self.code.map_or("refused", Code::as_str), AnsiColor::Red.on_default().bold()),
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
