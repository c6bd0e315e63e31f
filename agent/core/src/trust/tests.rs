//! The rules, one by one, on made-up histories. Commits are named by one digit.

use std::collections::BTreeMap;

use super::*;

const ALLOWED: &str = "SHA256:allowed";
const OTHER: &str = "SHA256:other";
const NOW: i64 = 1_000;

fn id(name: char) -> CommitId {
    CommitId::new(&name.to_string().repeat(40)).unwrap()
}

fn payload(name: char) -> Digest {
    Digest::of(name.to_string().as_bytes())
}

fn valid(fingerprint: &str) -> Signature {
    Signature::Valid { fingerprint: fingerprint.to_owned() }
}

fn lapsed(fingerprint: &str) -> Signature {
    Signature::Lapsed { fingerprint: fingerprint.to_owned(), reason: "its certificate has expired".to_owned() }
}

fn commit(name: char, parents: &str) -> Commit {
    Commit {
        id: id(name),
        parents: parents.chars().map(id).collect(),
        payload: Some(payload(name)),
        subject: format!("commit {name}"),
        signature: valid(ALLOWED),
        trailers: Trailers::default(),
        authorisation: Authorisation::Unread,
        merge: Merge::Unasked,
    }
}

fn known(name: char) -> Known {
    Known { id: id(name), payload: Some(payload(name)), introduced: true, authorisation: Authorisation::Unread }
}

fn key(valid_before: Option<i64>) -> AllowedKey {
    AllowedKey {
        principals: "me@example.org".to_owned(),
        fingerprint: ALLOWED.to_owned(),
        namespaces: None,
        valid_after: None,
        valid_before,
    }
}

fn policy() -> Policy {
    Policy {
        authority: Authority::Server(Signers::new(vec![key(None)])),
        revoked: Revoked::Keys([].into()),
        introduction: None,
        forge: Signers::default(),
        deploy_to: None,
    }
}

fn listing(keys: Vec<AllowedKey>) -> Policy {
    Policy { authority: Authority::Server(Signers::new(keys)), ..policy() }
}

fn introduced(name: char) -> Policy {
    let introduction = Introduction { commit: id(name), signer: ALLOWED.to_owned() };
    Policy { introduction: Some(introduction), ..policy() }
}

/// Facts of the commits `name parents`, newest last, with the walk ending at `ends`.
fn facts(commits: &[(char, &str)], ends: &str) -> Facts {
    let tip = commits.last().map(|c| c.0).or(ends.chars().next()).unwrap();
    Facts {
        tip: id(tip),
        commits: commits.iter().map(|(name, parents)| commit(*name, parents)).collect(),
        known: ends.chars().map(known).collect(),
        older: false,
        introduction: None,
        files: Files::new(),
    }
}

fn accepted(name: char) -> Accepted {
    Accepted { commit: id(name), payload: payload(name) }
}

fn refused(policy: &Policy, last: Option<char>, facts: &Facts) -> (Code, CommitId) {
    let refusal = verify(policy, last.map(accepted).as_ref(), facts, NOW).unwrap_err();
    (refusal.code, refusal.commit)
}

#[test]
fn a_signed_history_from_its_root_is_accepted() {
    let revision = verify(&policy(), None, &facts(&[('1', ""), ('2', "1"), ('3', "2")], ""), NOW).unwrap();
    assert_eq!((revision.tip(), revision.verified()), (&id('3'), 3));
    assert_eq!(revision.payload_digest(), &payload('3'));
    assert_eq!(revision.signer().unwrap().principal, "me@example.org");
}

#[test]
fn only_what_is_new_since_the_accepted_commit_is_judged() {
    let revision = verify(&policy(), Some(&accepted('1')), &facts(&[('2', "1")], "1"), NOW).unwrap();
    assert_eq!(revision.verified(), 1);
    let unmoved = verify(&policy(), Some(&accepted('1')), &facts(&[], "1"), NOW).unwrap();
    assert_eq!((unmoved.verified(), unmoved.signer()), (0, None));
}

#[test]
fn a_commit_with_the_same_payload_counts_as_the_accepted_one() {
    let twin = Known { payload: Some(payload('1')), ..known('a') };
    let on_twin = Facts { known: vec![twin.clone()], ..facts(&[('2', "a")], "") };
    assert!(verify(&policy(), Some(&accepted('1')), &on_twin, NOW).is_ok());
    let twin_itself = Facts { known: vec![twin], ..facts(&[], "a") };
    assert_eq!(verify(&policy(), Some(&accepted('1')), &twin_itself, NOW).unwrap().accepted().commit, id('a'));
    let same_id_other_payload =
        Facts { known: vec![Known { payload: Some(payload('9')), ..known('1') }], ..facts(&[('2', "1")], "") };
    assert_eq!(refused(&policy(), Some('1'), &same_id_other_payload).0, Code::Diverged);
}

#[test]
fn history_only_moves_forward() {
    let older = Facts { older: true, ..facts(&[], "1") };
    assert_eq!(refused(&policy(), Some('2'), &older), (Code::Rollback, id('1')));
    assert_eq!(refused(&policy(), Some('2'), &facts(&[('3', "1")], "1")), (Code::Diverged, id('3')));
    assert_eq!(refused(&policy(), Some('2'), &facts(&[('3', "")], "")), (Code::Diverged, id('3')));
}

#[test]
fn the_oldest_bad_commit_is_named_not_the_tip() {
    for (signature, code) in [
        (Signature::Unsigned, Code::Unsigned),
        (Signature::Malformed("odd".to_owned()), Code::Format),
        (Signature::Invalid { fingerprint: ALLOWED.to_owned(), reason: "odd".to_owned() }, Code::BadSig),
        (Signature::Unsupported { fingerprint: None, reason: "odd".to_owned() }, Code::UnknownKey),
        (Signature::Revoked { fingerprint: ALLOWED.to_owned(), reason: "odd".to_owned() }, Code::Revoked),
        (lapsed(OTHER), Code::UnknownKey),
        (valid(OTHER), Code::UnknownKey),
    ] {
        let mut facts = facts(&[('2', "1"), ('3', "2"), ('4', "3")], "1");
        facts.commits[0].signature = signature.clone();
        facts.commits[2].signature = signature;
        assert_eq!(refused(&policy(), Some('1'), &facts), (code, id('2')));
    }
}

#[test]
fn a_certificate_that_lapsed_counts_below_the_tip_and_not_at_it() {
    let certificates = BTreeMap::from([(OTHER.to_owned(), "Me, Myself <me@example.org>".to_owned())]);
    let list = Signers::new(vec![key(None)]).with_certificates(certificates);
    let policy = Policy { authority: Authority::Server(list), ..policy() };
    let mut facts = facts(&[('2', "1"), ('3', "2")], "1");
    facts.commits[0].signature = lapsed(OTHER);
    let revision = verify(&policy, Some(&accepted('1')), &facts, NOW).unwrap();
    assert_eq!(revision.verified(), 2);
    facts.commits[1].signature = lapsed(OTHER);
    assert_eq!(refused(&policy, Some('1'), &facts), (Code::Expired, id('3')));
    let judged = policy.judge(&valid(OTHER), When::Now(NOW));
    assert_eq!(judged.signer.unwrap().principal, "Me, Myself <me@example.org>");
    let revoked = Policy { revoked: Revoked::Keys([OTHER.to_owned()].into()), ..policy };
    assert_eq!(revoked.judge(&lapsed(OTHER), When::Now(NOW)).code, Some(Code::Revoked));
}

#[test]
fn both_sides_of_a_merge_are_judged() {
    let mut facts = facts(&[('2', "1"), ('3', "1"), ('4', "23")], "1");
    assert!(verify(&policy(), Some(&accepted('1')), &facts, NOW).is_ok());
    facts.commits[1].signature = Signature::Unsigned;
    assert_eq!(refused(&policy(), Some('1'), &facts), (Code::Unsigned, id('3')));
}

#[test]
fn the_tips_key_must_count_now_and_the_others_must_be_listed() {
    let expired = listing(vec![key(Some(NOW - 1))]);
    assert_eq!(refused(&expired, Some('1'), &facts(&[('2', "1")], "1")), (Code::Expired, id('2')));
    let both = listing(vec![key(Some(NOW - 1)), AllowedKey { fingerprint: OTHER.to_owned(), ..key(None) }]);
    let mut facts = facts(&[('2', "1"), ('3', "2")], "1");
    facts.commits[1].signature = valid(OTHER);
    assert!(verify(&both, Some(&accepted('1')), &facts, NOW).is_ok());
}

#[test]
fn a_revoked_key_never_counts() {
    let revoked = Policy { revoked: Revoked::Keys([ALLOWED.to_owned()].into()), ..policy() };
    assert_eq!(refused(&revoked, Some('1'), &facts(&[('2', "1"), ('3', "2")], "1")), (Code::Revoked, id('2')));
    let unreadable = Policy { revoked: Revoked::Unreadable("gone".to_owned()), ..policy() };
    assert_eq!(refused(&unreadable, Some('1'), &facts(&[('2', "1")], "1")).0, Code::Revocation);
    assert_eq!(refused(&unreadable, Some('1'), &facts(&[], "1")).0, Code::Revocation);
}

#[test]
fn a_second_root_is_refused() {
    assert_eq!(refused(&policy(), None, &facts(&[('1', ""), ('2', ""), ('3', "12")], "")), (Code::Root, id('2')));
    assert_eq!(refused(&policy(), Some('1'), &facts(&[('2', ""), ('3', "12")], "1")), (Code::Root, id('2')));
}

#[test]
fn the_first_run_begins_at_the_introduction() {
    let mut facts = facts(&[('2', "1")], "1");
    assert_eq!(refused(&introduced('1'), None, &facts).0, Code::PreIntro);
    facts.introduction = Some(commit('1', "0"));
    assert_eq!(verify(&introduced('1'), None, &facts, NOW).unwrap().verified(), 1);

    facts.introduction = Some(Commit { signature: valid(OTHER), ..commit('1', "0") });
    assert_eq!(refused(&introduced('1'), None, &facts), (Code::UnknownKey, id('1')));
    facts.introduction = Some(Commit { signature: Signature::Unsigned, ..commit('1', "0") });
    assert_eq!(refused(&introduced('1'), None, &facts), (Code::Unsigned, id('1')));
}

#[test]
fn the_introduction_itself_may_be_the_tip() {
    let facts = Facts { introduction: Some(commit('1', "0")), ..facts(&[], "1") };
    assert_eq!(verify(&introduced('1'), None, &facts, NOW).unwrap().verified(), 1);
    let expired = Policy { introduction: introduced('1').introduction, ..listing(vec![key(Some(NOW - 1))]) };
    assert_eq!(refused(&expired, None, &facts).0, Code::Expired);
    let revoked = Policy { revoked: Revoked::Keys([ALLOWED.to_owned()].into()), ..introduced('1') };
    assert_eq!(refused(&revoked, None, &facts).0, Code::Revoked);
}

#[test]
fn nothing_stands_on_history_from_before_the_introduction() {
    let mut facts = facts(&[('3', "0"), ('4', "23")], "2");
    facts.known.push(Known { introduced: false, ..known('0') });
    assert_eq!(refused(&introduced('1'), Some('2'), &facts), (Code::PreIntro, id('3')));
    let older = Facts { older: true, introduction: Some(commit('1', "0")), ..self::facts(&[], "0") };
    assert_eq!(refused(&introduced('1'), None, &older).0, Code::PreIntro);
}

#[test]
fn a_history_with_a_hole_is_refused() {
    assert_eq!(refused(&policy(), Some('1'), &facts(&[('3', "2"), ('4', "31")], "1")).0, Code::Shallow);
}

#[test]
fn a_refusal_tells_the_operator_everything() {
    let mut facts = facts(&[('2', "1")], "1");
    facts.commits[0].signature = valid(OTHER);
    let refusal = verify(&policy(), Some(&accepted('1')), &facts, NOW).unwrap_err();
    insta::assert_snapshot!(refusal.to_string(), @r#"E-UNKNOWN-KEY: commit 222222222222 "commit 2": its key is not among the allowed signers (key SHA256:other). Last accepted: 111111111111. Next: sign with a key that is listed, or list this key in allowed_signers on the server"#);
    assert_eq!(refusal.to_reason().code, crate::reason::Code::TrustRefused);
}

#[test]
fn every_code_keeps_its_text_in_json() {
    for code in Code::ALL {
        assert_eq!(serde_json::to_string(code).unwrap(), format!("\"{}\"", code.as_str()));
        assert!(code.as_str().starts_with("E-") && !code.remedy().is_empty());
    }
}
