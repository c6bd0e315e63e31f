//! The rules on history, over the facts that the adapter gathered.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Accepted, Code, Commit, Facts, Introduction, Judgement, Known, Policy, Refusal, Revoked, VerifiedRevision, When,
};
use crate::id::{CommitId, Digest};

type Refused<T> = Result<T, Box<Refusal>>;

pub(super) struct Walk<'a> {
    pub policy: &'a Policy,
    pub accepted: Option<&'a Accepted>,
    pub facts: &'a Facts,
    pub now: When,
}

impl Walk<'_> {
    pub fn run(&self) -> Refused<VerifiedRevision> {
        if let Revoked::Unreadable(why) = &self.policy.revoked {
            return Err(self.refuse_tip(Code::Revocation, why));
        }
        match (self.accepted, &self.policy.introduction) {
            (Some(accepted), _) => {
                if let Some(tip) = self.tip_as_known().filter(|k| k.payload.as_ref() == Some(&accepted.payload)) {
                    return self.revision(tip.payload.as_ref(), 0, None);
                }
                self.forward(accepted)?;
            }
            (None, Some(introduction)) => {
                let first = self.introduced_by(introduction)?;
                if first.id == self.facts.tip {
                    let judged = self.judge(first)?;
                    return self.revision(first.payload.as_ref(), 1, Some(judged));
                }
            }
            (None, None) => {}
        }
        self.every_commit()
    }

    /// The tip lies ahead of the accepted commit, or of a twin of it: a commit with the same signed payload.
    fn forward(&self, accepted: &Accepted) -> Refused<()> {
        if self.facts.older {
            return Err(self.refuse_tip(Code::Rollback, "it is older than the commit that was accepted last"));
        }
        if self.facts.known.iter().any(|k| k.payload.as_ref() == Some(&accepted.payload)) {
            Ok(())
        } else {
            Err(self.refuse_tip(Code::Diverged, "its history does not contain the commit that was accepted last"))
        }
    }

    /// The introduction is in the tip's history and signed by the key that the configuration states.
    fn introduced_by(&self, introduction: &Introduction) -> Refused<&Commit> {
        let missing = || self.refuse_tip(Code::PreIntro, "its history does not contain the configured introduction");
        let first = self.facts.introduction.as_ref().filter(|c| c.id == introduction.commit).ok_or_else(missing)?;
        if self.facts.older || !self.facts.known.iter().any(|k| k.id == introduction.commit) {
            return Err(missing());
        }
        let Some(fingerprint) = first.signature.key() else {
            return Err(self.refuse(first, self.policy.judge(&first.signature, When::Member)));
        };
        if let Revoked::Keys(keys) = &self.policy.revoked
            && keys.contains(fingerprint)
        {
            return Err(self.refuse(first, self.policy.judge(&first.signature, When::Member)));
        }
        if fingerprint != introduction.signer {
            let reason =
                format!("the introduction is not signed by the key {} that is configured", introduction.signer);
            let fingerprint = Some(fingerprint.to_owned());
            return Err(self.refusal(Code::UnknownKey, (&first.id, &first.subject), fingerprint, reason));
        }
        Ok(first)
    }

    fn every_commit(&self) -> Refused<VerifiedRevision> {
        let commits: BTreeMap<&CommitId, &Commit> = self.facts.commits.iter().map(|c| (&c.id, c)).collect();
        let order = self.parents_first(&commits)?;
        let mut may_be_root = self.accepted.is_none() && self.policy.introduction.is_none();
        let mut tip = None;
        for commit in &order {
            let judged = self.judge(commit)?;
            self.place(commit, &commits, &mut may_be_root)?;
            tip = Some((commit.payload.as_ref(), judged));
        }
        match tip {
            Some((payload, judged)) => self.revision(payload, order.len(), Some(judged)),
            None => Err(self.refuse_tip(Code::Diverged, "there is no way from the last accepted commit to it")),
        }
    }

    /// The rules on a commit's parents.
    fn place(&self, commit: &Commit, range: &BTreeMap<&CommitId, &Commit>, may_be_root: &mut bool) -> Refused<()> {
        let refuse =
            |code, reason: &str| Err(self.refusal(code, (&commit.id, &commit.subject), None, reason.to_owned()));
        if commit.parents.is_empty() && !std::mem::take(may_be_root) {
            return refuse(Code::Root, "it has no parent: it begins a second, unrelated history");
        }
        let introduced = |id: &CommitId| self.facts.known.iter().any(|k| k.id == *id && k.introduced);
        if commit.parents.iter().all(|p| range.contains_key(p) || introduced(p)) {
            Ok(())
        } else {
            refuse(Code::PreIntro, "one of its parents is from before the introduction")
        }
    }

    /// The commits of the range from the oldest on, so that a parent is judged before its children.
    fn parents_first<'c>(&self, commits: &BTreeMap<&CommitId, &'c Commit>) -> Refused<Vec<&'c Commit>> {
        let known: BTreeSet<&CommitId> = self.facts.known.iter().map(|k| &k.id).collect();
        let incomplete = || self.refuse_tip(Code::Shallow, "a part of its history is missing");
        let mut order = Vec::with_capacity(commits.len());
        let mut seen = BTreeSet::new();
        let mut stack = vec![(*commits.get(&self.facts.tip).ok_or_else(incomplete)?, 0)];
        seen.insert(&self.facts.tip);
        while let Some((commit, next)) = stack.pop() {
            let Some(parent) = commit.parents.get(next) else {
                order.push(commit);
                continue;
            };
            stack.push((commit, next + 1));
            match commits.get(parent) {
                Some(found) if seen.insert(parent) => stack.push((found, 0)),
                Some(_) => {}
                None if known.contains(parent) => {}
                None => return Err(incomplete()),
            }
        }
        Ok(order)
    }

    fn judge(&self, commit: &Commit) -> Refused<Judgement> {
        let when = if commit.id == self.facts.tip { self.now } else { When::Member };
        let judged = self.policy.judge(&commit.signature, when);
        if judged.code.is_none() { Ok(judged) } else { Err(self.refuse(commit, judged)) }
    }

    fn tip_as_known(&self) -> Option<&Known> {
        self.facts.known.iter().find(|k| k.id == self.facts.tip)
    }

    fn revision(&self, payload: Option<&Digest>, verified: usize, tip: Option<Judgement>) -> Refused<VerifiedRevision> {
        let payload = payload.ok_or_else(|| self.refuse_tip(Code::Format, "it cannot be read"))?.clone();
        Ok(VerifiedRevision { tip: self.facts.tip.clone(), payload, verified, signer: tip.and_then(|j| j.signer) })
    }

    fn refuse(&self, commit: &Commit, judged: Judgement) -> Box<Refusal> {
        let code = judged.code.unwrap_or(Code::Format);
        self.refusal(code, (&commit.id, &commit.subject), judged.fingerprint, judged.reason)
    }

    fn refuse_tip(&self, code: Code, reason: &str) -> Box<Refusal> {
        let tip = &self.facts.tip;
        let subject = self.facts.commits.iter().find(|c| c.id == *tip).map_or("", |c| &c.subject);
        self.refusal(code, (tip, subject), None, reason.to_owned())
    }

    fn refusal(
        &self,
        code: Code,
        (commit, subject): (&CommitId, &str),
        fingerprint: Option<String>,
        reason: String,
    ) -> Box<Refusal> {
        Box::new(Refusal {
            code,
            commit: commit.clone(),
            subject: subject.to_owned(),
            fingerprint,
            reason,
            accepted: self.accepted.map(|a| a.commit.clone()),
            remedy: code.remedy().to_owned(),
        })
    }
}
