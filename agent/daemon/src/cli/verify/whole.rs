//! The rules on a whole history, asked from the command line: as a server with this policy would judge it.

use evenkeel_core::{
    id::CommitId,
    trust::{self, Accepted, Authority, Introduction, Judged, Policy},
};

use super::{Args, Findings, Line, SignersOf, failed, resolve};
use crate::{
    cli::output::Failure,
    git::{Repo, graph, openpgp::Keyring},
};

impl Args {
    /// Whether the place of commits in history is asked about, and not their signatures alone.
    pub(super) fn asks_for_history(&self) -> bool {
        self.signers == SignersOf::Repository
            || self.introduction.is_some()
            || self.accepted.is_some()
            || self.require_deploy_to.is_some()
            || self.forge_keys.is_some()
            || self.revision.as_deref().is_some_and(|rev| rev.contains(".."))
    }
}

/// Adds to the policy what the options for histories say.
pub(super) fn complete(policy: Policy, args: &Args, (repo, keyring): (&Repo, &Keyring)) -> Result<Policy, Failure> {
    if let Some(branch) = args.require_deploy_to.as_deref().filter(|branch| !branch.starts_with("refs/heads/")) {
        let message = format!("{branch:?} is not a branch's full name");
        return Err(Failure::usage("usage", message, "write refs/heads/<branch>"));
    }
    let authority = match args.signers {
        SignersOf::Server => policy.authority,
        SignersOf::Repository => Authority::Repository,
    };
    let introduction = args.introduction.as_deref().map(|text| introduction(text, repo, keyring)).transpose()?;
    Ok(Policy { authority, introduction, deploy_to: args.require_deploy_to.clone(), ..policy })
}

/// `ID` or `ID:FINGERPRINT`. Without a fingerprint the key that signed it is taken as the one that is meant.
fn introduction(text: &str, repo: &Repo, keyring: &Keyring) -> Result<Introduction, Failure> {
    let (rev, stated) = text.split_once(':').map_or((text, None), |(rev, signer)| (rev, Some(signer)));
    let commit = resolve(repo, rev)?;
    let signer = if let Some(signer) = stated {
        signer.to_owned()
    } else {
        let found = graph::one(repo, keyring, &commit).map_err(|e| failed(&e))?;
        found.signature.key().unwrap_or_default().to_owned()
    };
    Ok(Introduction { commit, signer })
}

/// Judges everything between where trust begins and the tip.
pub(super) fn examine(
    (policy, keyring): (&Policy, &Keyring),
    repo: &Repo,
    args: &Args,
    now: i64,
) -> Result<Findings, Failure> {
    let spec = args.revision.as_deref().unwrap_or("HEAD");
    let accept = |id: &CommitId| -> Result<Accepted, Failure> {
        let found = graph::one(repo, keyring, id).map_err(|e| failed(&e))?;
        let payload = found.payload.ok_or_else(|| {
            let message = format!("the commit {} cannot be read by the strict rules", id.short());
            Failure::usage("source.invalid", message, "begin at another commit")
        })?;
        Ok(Accepted { commit: id.clone(), payload })
    };
    let (from, to) = spec.split_once("..").map_or((None, spec), |(from, to)| (Some(from), to));
    let tip = resolve(repo, to)?;
    let accepted = match (&args.accepted, from) {
        (Some(_), Some(_)) => {
            let message = "--accepted and a range both say what was accepted";
            return Err(Failure::usage("usage", message, "give --accepted ID and one revision, or a range A..B"));
        }
        (Some(id), None) => Some(accept(&resolve(repo, id)?)?),
        (None, Some(from)) => Some(accept(&resolve(repo, from)?)?),
        (None, None) => None,
    };
    if accepted.is_none() && policy.introduction.is_none() && policy.authority == Authority::Repository {
        let message = "nothing says from where on the repository's own list of signers is believed";
        let help = "add --introduction ID or --accepted ID, or verify a range A..B";
        return Err(Failure::usage("trust.introduction", message, help));
    }
    let facts = graph::facts(repo, (policy, keyring), accepted.as_ref(), &tip).map_err(|e| failed(&e))?;
    let start = accepted.as_ref().map(|a| a.payload.clone());
    let forward = from.map(|_| facts.known.iter().any(|k| k.payload == start) && !facts.older);
    // Of a range everything counts as accepted that A has: if B left A out, judging begins where the two part.
    let accepted = match (forward, facts.known.first().and_then(|k| Some((k.id.clone(), k.payload.clone()?)))) {
        (Some(false), Some((commit, payload))) => Some(Accepted { commit, payload }),
        _ => accepted,
    };
    let examined = trust::examine(policy, accepted.as_ref(), &facts, now);
    let lines = examined
        .commits
        .into_iter()
        .map(|Judged { commit, judgement }| Line::new((commit.id.clone(), commit.subject.clone()), judgement));
    Ok(Findings { lines: lines.collect(), refusal: examined.decision.err(), forward })
}
