//! The rules on history, over the facts that the adapter gathered.
//!
//! Every commit of the range is judged by what the facts say of it and of its parents, parents first; then the tip as a
//! whole. The oldest commit that breaks a rule names the refusal.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Accepted, Authorisation, Authorised, Authority, Code, Commit, Facts, Introduction, Judgement, Known, Merge, Policy,
    Refusal, Revoked, Signature, Signers, Verdict, VerifiedRevision, When, authority, judge,
};
use crate::id::{CommitId, Digest};

type Refused<T> = Result<T, Box<Refusal>>;
type Lists<'a> = Vec<(&'a Digest, &'a Authorised)>;

/// A commit and the judgement on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged<'f> {
    /// The commit.
    pub commit: &'f Commit,
    /// What was found.
    pub judgement: Judgement,
}

/// The judgement on a whole range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined<'f> {
    /// Every commit of the range, parents first.
    pub commits: Vec<Judged<'f>>,
    /// Whether the tip may run.
    pub decision: Result<VerifiedRevision, Box<Refusal>>,
}

/// The facts, in the order in which the rules ask for them.
pub(super) struct History<'f> {
    policy: &'f Policy,
    accepted: Option<&'f Accepted>,
    facts: &'f Facts,
    now: When,
    range: BTreeMap<&'f CommitId, &'f Commit>,
    known: BTreeMap<&'f CommitId, &'f Known>,
}

impl<'f> History<'f> {
    pub fn new(policy: &'f Policy, accepted: Option<&'f Accepted>, facts: &'f Facts, now: When) -> Self {
        let range = facts.commits.iter().map(|c| (&c.id, c)).collect();
        let known = facts.known.iter().map(|k| (&k.id, k)).collect();
        Self { policy, accepted, facts, now, range, known }
    }

    pub fn examine(&self) -> Examined<'f> {
        let order = match self.parents_first() {
            Ok(order) => order,
            Err(refusal) => return Examined { commits: Vec::new(), decision: Err(refusal) },
        };
        let commits = self.judge_all(&order);
        let decision = self.decide(&commits);
        Examined { commits, decision }
    }

    fn judge_all(&self, order: &[&'f Commit]) -> Vec<Judged<'f>> {
        let vouched = self.vouched();
        let mut first_root = self.accepted.is_none() && self.policy.introduction.is_none();
        let judge = |commit: &&'f Commit| {
            let may_be_root = commit.parents.is_empty() && std::mem::take(&mut first_root);
            Judged { commit, judgement: self.judge(commit, may_be_root, &vouched) }
        };
        order.iter().map(judge).collect()
    }

    // ------------------------------------------------------------ the tip as a whole

    fn decide(&self, judged: &[Judged<'_>]) -> Refused<VerifiedRevision> {
        if let Revoked::Unreadable(why) = &self.policy.revoked {
            return Err(self.refuse_tip(Code::Revocation, why));
        }
        match (self.accepted, &self.policy.introduction) {
            (Some(accepted), _) => {
                let tip = self.known.get(&self.facts.tip);
                if let Some(tip) = tip.filter(|k| k.payload.as_ref() == Some(&accepted.payload)) {
                    return self.revision(tip.payload.as_ref(), 0, None);
                }
                self.forward(accepted)?;
            }
            (None, Some(introduction)) => {
                let first = self.introduced_by(introduction)?;
                if first.id == self.facts.tip {
                    let judged = self.introduction_as_tip(first)?;
                    self.meant_for_here(first, &judged)?;
                    return self.revision(first.payload.as_ref(), 1, Some(judged));
                }
            }
            (None, None) => {}
        }
        for Judged { commit, judgement } in judged {
            if !judgement.is_good() {
                return Err(self.refuse(commit, judgement));
            }
        }
        let Some(Judged { commit: tip, judgement }) = judged.last() else {
            return Err(self.refuse_tip(Code::Diverged, "there is no way from the last accepted commit to it"));
        };
        self.meant_for_here(tip, judgement)?;
        self.revision(tip.payload.as_ref(), judged.len(), Some(judgement.clone()))
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
    fn introduced_by(&self, introduction: &Introduction) -> Refused<&'f Commit> {
        let missing = || self.refuse_tip(Code::PreIntro, "its history does not contain the configured introduction");
        let first = self.facts.introduction.as_ref().filter(|c| c.id == introduction.commit).ok_or_else(missing)?;
        if self.facts.older || !self.known.contains_key(&introduction.commit) {
            return Err(missing());
        }
        let Some(fingerprint) = first.signature.key() else {
            return Err(self.refuse(first, &judge(&[], &self.policy.revoked, &first.signature, When::Member)));
        };
        let judged = judge::judge_key(&[], &self.policy.revoked, fingerprint, When::Member);
        if judged.verdict == Verdict::Revoked {
            return Err(self.refuse(first, &judged));
        }
        if fingerprint != introduction.signer {
            let reason =
                format!("the introduction is not signed by the key {} that is configured", introduction.signer);
            let judged = Judgement::refused(Verdict::UnknownKey, Code::UnknownKey, reason);
            return Err(self.refuse(first, &judged.by(Some(fingerprint))));
        }
        if self.lists_are_in_the_repository()
            && let Err(why) = self.list(&first.authorisation)
        {
            return Err(self.refuse(first, &unauthorised(why)));
        }
        Ok(first)
    }

    /// The introduction's key is stated by the server. A server that lists keys must list this one too, and it must
    /// count now.
    fn introduction_as_tip(&self, first: &Commit) -> Refused<Judgement> {
        let own = self.list(&first.authorisation).ok().map(|(_, file)| &file.signers);
        let judged = match (&self.policy.authority, own) {
            (Authority::Server(signers), _) => judge(&[signers], &self.policy.revoked, &first.signature, self.now),
            (Authority::Repository, own) => {
                let stated = self.policy.introduction.as_ref().map(|i| i.signer.clone()).unwrap_or_default();
                Judgement {
                    verdict: Verdict::Good,
                    code: None,
                    signer: own.and_then(|list| list.label(&stated)),
                    reason: "the configured introduction".to_owned(),
                    fingerprint: Some(stated),
                }
            }
        };
        if judged.is_good() { Ok(judged) } else { Err(self.refuse(first, &judged)) }
    }

    /// A signature does not cover the branch: if the server asks for it, the tip itself says which one it is meant for.
    fn meant_for_here(&self, tip: &Commit, judged: &Judgement) -> Refused<()> {
        let Some(branch) = &self.policy.deploy_to else { return Ok(()) };
        let reason = if judged.verdict != Verdict::Good {
            "the tip is not signed by an allowed signer, who alone can say which branch it is meant for".to_owned()
        } else if tip.trailers.deploy_to.contains(branch) {
            return Ok(());
        } else if let Some(other) = tip.trailers.deploy_to.first() {
            format!("it says that it is meant for {}, not for {branch}", other.escape_debug())
        } else {
            format!("it does not say that it is meant for {branch}")
        };
        let refused = Judgement::refused(Verdict::Misplaced, Code::DeployTo, reason);
        Err(self.refuse(tip, &refused.by(judged.fingerprint.as_deref())))
    }

    fn revision(&self, payload: Option<&Digest>, verified: usize, tip: Option<Judgement>) -> Refused<VerifiedRevision> {
        let payload = payload.ok_or_else(|| self.refuse_tip(Code::Format, "it cannot be read"))?.clone();
        Ok(VerifiedRevision { tip: self.facts.tip.clone(), payload, verified, signer: tip.and_then(|j| j.signer) })
    }

    // ------------------------------------------------------------ one commit

    /// The judgement on one commit of the range: can it be read, may it stand where it stands, does its signature
    /// count, or else does somebody answer for it; and does it leave the list of signers alone.
    fn judge(&self, commit: &Commit, may_be_root: bool, vouched: &BTreeMap<&CommitId, &Commit>) -> Judgement {
        if matches!(commit.signature, Signature::Malformed(_)) {
            return judge(&[], &self.policy.revoked, &commit.signature, When::Member);
        }
        if let Some(refused) = self.misplaced(commit, may_be_root) {
            return refused;
        }
        let files = match self.parents_files(commit) {
            Ok(files) => files,
            Err(why) => return unauthorised(format!("it cannot be judged by its parent: {why}")),
        };
        let own = self.own(commit, &files);
        let judged = if own.is_good() { own } else { self.stands_in(commit, own, vouched) };
        if !judged.is_good() {
            return judged;
        }
        match self.keeps_the_list(commit, &files, &judged) {
            Ok(()) => judged,
            Err(why) => Judgement { signer: judged.signer, ..unauthorised(why).by(judged.fingerprint.as_deref()) },
        }
    }

    /// The rules on a commit's parents.
    fn misplaced(&self, commit: &Commit, may_be_root: bool) -> Option<Judgement> {
        let refuse = |code, reason: &str| Some(Judgement::refused(Verdict::Misplaced, code, reason));
        if commit.parents.is_empty() && !may_be_root {
            return refuse(Code::Root, "it has no parent: it begins a second, unrelated history");
        }
        let stands = |id: &CommitId| self.range.contains_key(id) || self.known.get(id).is_some_and(|k| k.introduced);
        if commit.parents.iter().all(stands) {
            None
        } else {
            refuse(Code::PreIntro, "one of its parents is from before the introduction")
        }
    }

    /// By its own signature alone, under the lists of all its parents or that of the server.
    fn own(&self, commit: &Commit, files: &Lists<'_>) -> Judgement {
        let lists: Vec<&Signers> = match &self.policy.authority {
            Authority::Server(signers) => vec![signers],
            Authority::Repository => files.iter().map(|(_, file)| &file.signers).collect(),
        };
        judge(&lists, &self.policy.revoked, &commit.signature, self.when(commit))
    }

    /// What may make up for a signature that does not count: the forge's clean merge, or somebody who vouches.
    fn stands_in(&self, commit: &Commit, own: Judgement, vouched: &BTreeMap<&CommitId, &Commit>) -> Judgement {
        let own = self.by_the_forge(commit).unwrap_or(own);
        match vouched.get(&commit.id) {
            Some(by) if !own.is_good() => {
                let reason = format!("{}; but {} answers for it", own.reason, by.id.short());
                Judgement { verdict: Verdict::Vouched, code: None, reason, ..own }
            }
            _ => own,
        }
    }

    /// The judgement on what the forge signed; `None` if it did not, or its key does not count.
    fn by_the_forge(&self, commit: &Commit) -> Option<Judgement> {
        let fingerprint = commit.signature.key()?;
        let judged = judge(&[&self.policy.forge], &self.policy.revoked, &commit.signature, self.when(commit));
        let is_listed = self.policy.forge.label(fingerprint).is_some();
        if !judged.is_good() {
            return is_listed.then_some(judged);
        }
        let other = |why: &str| Judgement {
            signer: judged.signer.clone(),
            ..Judgement::refused(Verdict::UnknownKey, Code::Merge, why)
        };
        Some(match &commit.merge {
            Merge::Clean => Judgement {
                verdict: Verdict::ForgeMerge,
                reason: "a clean merge, signed by the forge".to_owned(),
                ..judged
            },
            Merge::Unasked => other("the forge signed it, and it is not a merge of two commits").by(Some(fingerprint)),
            Merge::Other(why) => other(&format!("the forge signed it, and {why}")).by(Some(fingerprint)),
        })
    }

    /// Who answers for which commits: those who sign for it with a key that counts, where the repository lists the keys
    /// as admins. That they stand on good ground is seen when they are judged themselves: all of the range must be good.
    fn vouched(&self) -> BTreeMap<&'f CommitId, &'f Commit> {
        let mut vouched = BTreeMap::new();
        for by in self.facts.commits.iter().filter(|c| !c.trailers.vouches.is_empty()) {
            let Ok(files) = self.parents_files(by) else { continue };
            let own = self.own(by, &files);
            let Some(fingerprint) = own.fingerprint.as_ref().filter(|_| own.is_good()) else { continue };
            let when = self.when(by);
            if !self.lists_are_in_the_repository() || authority::is_admin(&files, fingerprint, when) {
                vouched.extend(by.trailers.vouches.iter().map(|id| (id, by)));
            }
        }
        vouched
    }

    // ------------------------------------------------------------ the repository's own list

    /// The list of signers changes only by an admin's hand, and only forward.
    fn keeps_the_list(&self, commit: &Commit, parents: &Lists<'_>, judged: &Judgement) -> Result<(), String> {
        if !self.lists_are_in_the_repository() {
            return Ok(());
        }
        let (digest, file) = self.list(&commit.authorisation)?;
        let (highest, inherited) = authority::inherited(parents);
        if inherited == Some(digest) {
            return Ok(());
        }
        if judged.verdict != Verdict::Good {
            return Err("it touches the list of signers, which only an admin's own signature may change".to_owned());
        }
        let fingerprint = judged.fingerprint.as_deref().unwrap_or_default();
        if !authority::is_admin(parents, fingerprint, self.when(commit)) {
            let kept = if inherited.is_some() { "differs from" } else { "undoes one of two changes in" };
            return Err(format!("its list of signers {kept} its parents', and its signer is no admin in all of them"));
        }
        if file.serial > highest {
            Ok(())
        } else {
            Err(format!("it changes the list of signers without raising its serial, which is {highest} in its parents"))
        }
    }

    fn parents_files(&self, commit: &Commit) -> Result<Lists<'f>, String> {
        if !self.lists_are_in_the_repository() {
            return Ok(Vec::new());
        }
        commit
            .parents
            .iter()
            .map(|parent| {
                let in_range = self.range.get(parent).map(|c| &c.authorisation);
                let authorisation = in_range.or_else(|| self.known.get(parent).map(|k| &k.authorisation));
                self.list(authorisation.unwrap_or(&Authorisation::Unread))
                    .map_err(|why| format!("{}: {why}", parent.short()))
            })
            .collect()
    }

    fn list(&self, found: &Authorisation) -> Result<(&'f Digest, &'f Authorised), String> {
        match found {
            Authorisation::File(digest) => self.facts.files.get_key_value(digest).ok_or("it was not read".to_owned()),
            Authorisation::Unusable(why) => Err(why.clone()),
            Authorisation::Unread => Err("its list of signers was not read".to_owned()),
        }
    }

    fn lists_are_in_the_repository(&self) -> bool {
        self.policy.authority == Authority::Repository
    }

    // ------------------------------------------------------------ small things

    /// Only the tip's key must count at this moment.
    fn when(&self, commit: &Commit) -> When {
        if commit.id == self.facts.tip { self.now } else { When::Member }
    }

    /// The commits of the range from the oldest on, so that a parent is judged before its children.
    fn parents_first(&self) -> Refused<Vec<&'f Commit>> {
        let incomplete = || self.refuse_tip(Code::Shallow, "a part of its history is missing");
        let mut order = Vec::with_capacity(self.range.len());
        let mut seen = BTreeSet::new();
        let mut stack: Vec<(&'f Commit, usize)> = Vec::new();
        match self.range.get(&self.facts.tip) {
            Some(tip) => stack.push((tip, 0)),
            // The tip is where the walk began: there is no range.
            None if self.range.is_empty() => {}
            None => return Err(incomplete()),
        }
        seen.insert(&self.facts.tip);
        while let Some((commit, next)) = stack.pop() {
            let Some(parent) = commit.parents.get(next) else {
                order.push(commit);
                continue;
            };
            stack.push((commit, next + 1));
            match self.range.get(parent) {
                Some(found) if seen.insert(parent) => stack.push((found, 0)),
                Some(_) => {}
                None if self.known.contains_key(parent) => {}
                None => return Err(incomplete()),
            }
        }
        Ok(order)
    }

    fn refuse(&self, commit: &Commit, judged: &Judgement) -> Box<Refusal> {
        let place = (&self.facts.tip, &commit.id, commit.subject.as_str());
        Refusal::of_commit(self.policy, self.accepted, place, judged)
    }

    fn refuse_tip(&self, code: Code, reason: &str) -> Box<Refusal> {
        let tip = &self.facts.tip;
        let subject = self.range.get(tip).map_or("", |c| &c.subject);
        Refusal::of_tip(self.policy, self.accepted, (tip, subject), (code, reason.to_owned()))
    }
}

fn unauthorised(why: String) -> Judgement {
    Judgement::refused(Verdict::Unauthorised, Code::Authz, why)
}
