mod snapshots;
use std::collections::{BTreeMap, BTreeSet};

use evenkeel_core::{
    drift::{Finding, Kind},
    id::{CommitId, Digest, ReleaseId},
    journal::{Event, Purpose, SnapshotDecision, State},
    model::Model,
    outcome::{About, Outcome, Signer},
    people::{Person, Stated, Told},
    reason::{Code, Reason},
    release::{FileRecord, Release, SecretEnv},
    trust::Accepted,
};
use evenkeel_layout::name::StackName;

use super::*;

fn commit(digit: &str) -> CommitId {
    CommitId::new(&digit.repeat(40)).unwrap()
}

fn about() -> About {
    let signer = Some(Signer { principal: "ada".to_owned(), fingerprint: "SHA256:x".to_owned() });
    About { subject: "Begin".to_owned(), author: "Ada".to_owned(), signer }
}

fn stack(name: &str) -> StackName {
    StackName::new(name).unwrap()
}

fn release(name: &str, content: &[u8]) -> (Release, BTreeMap<Digest, Vec<u8>>) {
    let digest = Digest::of(content);
    let record = FileRecord { digest: digest.clone(), size: content.len() as u64, executable: false };
    let release = Release {
        id: ReleaseId(0),
        stack: stack(name),
        project: name.to_owned(),
        directory: format!("stacks/{name}"),
        commit: commit("a"),
        digest: Digest::of(b"candidate"),
        depends_on: vec![],
        gate: evenkeel_layout::gate::GateSpec::default(),
        model: Model::parse(r#"{"services":{}}"#).unwrap(),
        images: BTreeMap::new(),
        files: BTreeMap::from([("f".to_owned(), record)]),
        passive: vec![],
        secret_env: SecretEnv::default(),
        snapshot: None,
        again: None,
        kept_as: None,
        adopted: None,
        group: None,
        window: None,
        drift: None,
    };
    (release, BTreeMap::from([(digest, content.to_vec())]))
}

fn kept_out(keep: Keep) -> KeptOut {
    let reason = Reason::new(Code::GateUnhealthy, "web became unhealthy");
    KeptOut { digest: Digest::of(b"candidate"), commit: commit("a"), keep, tip: None, reason }
}

/// Runs a stack through a deployment that ends with `last` and gives the stored candidate.
fn deploy(store: &Store, name: &str, content: &[u8], outcome: Outcome) -> ReleaseId {
    deploy_over(store, name, content, outcome, (None, None))
}

/// The same over a release that runs, with the snapshot that was taken before.
fn deploy_over(
    store: &Store,
    name: &str,
    content: &[u8],
    outcome: Outcome,
    (from, snapshot): (Option<ReleaseId>, Option<&str>),
) -> ReleaseId {
    let sync = store.begin_sync("poll", 1).unwrap();
    let name = stack(name);
    let new = NewDeployment { sync, stack: &name, to: Some(&commit("a")), from: None, changes: &[] };
    let digest = Some(Digest::of(b"candidate"));
    let intended = Event::Intended { digest, from, purpose: Purpose::Deploy, group: None };
    let id = store.intend(&new, &intended, 2).unwrap();
    let (release, contents) = release(name.as_str(), content);
    let (to, _) = store.stage(id, &release, &contents, 3).unwrap();
    store.append(id, &Event::BackupStarted { quiet: Vec::new() }, 4).unwrap();
    store.append(id, &Event::BackedUp { snapshot: SnapshotDecision::NotConfigured, left_out: vec![] }, 5).unwrap();
    store.append(id, &Event::ApplyStarted { before: vec![], ailing: vec![], beside: vec![] }, 6).unwrap();
    let committed = outcome == Outcome::Committed;
    let reason = Reason::new(Code::GateUnhealthy, "web became unhealthy");
    if committed {
        store.append(id, &Event::Applied, 7).unwrap();
    } else {
        store.append(id, &Event::Failed { reason: reason.clone() }, 7).unwrap();
        store.append(id, &Event::RollbackStarted { before: vec![] }, 7).unwrap();
        store.append(id, &Event::RollbackApplied, 7).unwrap();
    }
    let end = Conclusion {
        deployment: id,
        stack: &name,
        event: if committed { &Event::GatePassed { seen: vec![] } } else { &Event::RollbackPassed },
        outcome,
        reason: (!committed).then_some(&reason),
        snapshot,
        release: if committed { ReleaseMove::Forward(to) } else { ReleaseMove::Stay(Some(to)) },
        keep_out: (!committed).then(|| kept_out(Keep::Failed)),
        evidence: &[],
        messages: vec![Outgoing { sink: "ntfy-1".into(), lane: name.to_string(), message: "{}".into() }],
    };
    store.conclude(&end, 8).unwrap();
    store.end_sync(sync, outcome, None, 9).unwrap();
    to
}

#[test]
fn a_second_agent_on_one_state_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Store::open(dir.path()).unwrap();
    assert!(matches!(Store::open(dir.path()), Err(StoreError::Busy(_))));
}

#[test]
fn the_file_and_its_folder_are_for_the_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let store = Store::open(&state).unwrap();
    deploy(&store, "web", b"x", Outcome::Committed);
    assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
    for entry in fs::read_dir(&state).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", entry.path());
    }
}

/// A store as version 1 left it: a release that runs, one that failed, one that halted its stack, an unfinished deployment.
fn version_1(dir: &Path) {
    let db = Connection::open(dir.join(FILE)).unwrap();
    db.execute_batch(MIGRATIONS[0]).unwrap();
    let (release, _) = release("web", b"x");
    let body = serde_json::to_string(&release).unwrap();
    let reason = serde_json::to_string(&Reason::new(Code::GateUnhealthy, "web became unhealthy")).unwrap();
    db.execute("INSERT INTO releases (stack, state, created_ms, body) VALUES ('web', 'current', 5, ?1)", [body])
        .unwrap();
    db.execute("INSERT INTO syncs (trigger, started_ms) VALUES ('poll', 1)", []).unwrap();
    db.execute("INSERT INTO deployments (sync, stack, started_ms) VALUES (1, 'web', 2)", []).unwrap();
    let intended = r#"{"event":"intended","digest":null,"from":1}"#;
    db.execute("INSERT INTO journal VALUES (1, 1, 2, ?1)", [intended]).unwrap();
    for (digest, halted) in [("b", false), ("c", true)] {
        let digest = Digest::of(digest.as_bytes());
        let row = rusqlite::params![digest.as_str(), "a".repeat(40), halted, reason];
        db.execute("INSERT INTO quarantine VALUES ('web', ?1, ?2, ?3, ?4, 7)", row).unwrap();
    }
    db.pragma_update(None, "user_version", 1).unwrap();
}

#[test]
fn a_store_of_an_older_version_is_brought_up_to_date_with_all_that_it_knows() {
    let dir = tempfile::tempdir().unwrap();
    version_1(dir.path());
    let older = Store::open_read_only(dir.path()).err().unwrap();
    assert!(matches!(older, StoreError::Older { found: 1, .. }), "{older}");
    for _ in 0..2 {
        let store = Store::open(dir.path()).unwrap();
        let web = stack("web");
        let keep = |digest: &[u8]| store.kept_out(&web, &Digest::of(digest)).unwrap().map(|out| out.keep);
        assert_eq!((keep(b"b"), keep(b"c"), keep(b"d")), (Some(Keep::Failed), Some(Keep::Halted), None));
        assert_eq!(store.halted().unwrap(), std::slice::from_ref(&web));
        let kept = store.kept_releases(Some(&web)).unwrap();
        assert!(kept.len() == 1 && kept[0].current && kept[0].evidence.is_empty(), "{kept:?}");
        let unfinished = store.unfinished().unwrap();
        assert_eq!((unfinished.len(), unfinished[0].progress.from()), (1, Some(ReleaseId(1))));
        assert_eq!((store.interventions(0, 9).unwrap(), store.suspensions().unwrap()), (vec![], vec![]));
    }
    assert!(Store::open_read_only(dir.path()).is_ok());
}

#[test]
fn people_see_a_digest_that_only_this_store_can_make_and_what_is_compared_stays() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    version_1(one.path());
    version_1(other.path());
    let store = Store::open(one.path()).unwrap();
    let web = stack("web");
    let digest = store.current_releases().unwrap()[&web].digest.clone();
    let shown = store.shown_digest(&digest).unwrap();
    assert_eq!(store.kept_releases(Some(&web)).unwrap()[0].digest, shown);
    assert!(shown.len() == 64 && shown != digest.as_str(), "{shown}");
    assert_eq!(digest, release("web", b"x").0.digest, "what an older store compared is compared still");
    drop(store);
    let again = Store::open(one.path()).unwrap();
    assert_eq!(again.shown_digest(&digest).unwrap(), shown, "it stays the same as long as the store lives");
    assert_ne!(
        Store::open(other.path()).unwrap().shown_digest(&digest).unwrap(),
        shown,
        "each store has a key of its own"
    );
    assert_ne!(again.shown_digest(&Digest::of(b"y")).unwrap(), shown);
}

fn stated() -> Stated {
    Stated { by: Person { uid: 1000, name: "alice".to_owned() }, reason: "it is slow".to_owned() }
}

fn words(told: Told, stated: &Stated) -> Words<'_> {
    Words { told, stack: Some("web"), stated, detail: None }
}

#[test]
fn a_retry_lifts_what_is_kept_out_and_does_not_forget_what_is_in_doubt() {
    let dir = tempfile::tempdir().unwrap();
    version_1(dir.path());
    let store = Store::open(dir.path()).unwrap();
    let web = stack("web");
    assert_eq!(store.retry(words(Told::Retry, &stated()), 9).unwrap(), 2);
    for digest in [b"b", b"c"] {
        assert_eq!(store.kept_out(&web, &Digest::of(digest)).unwrap(), None);
    }
    assert_eq!(store.halted().unwrap(), [web], "the next deployment still makes all anew");
    assert_eq!(store.retry(words(Told::Retry, &stated()), 9).unwrap(), 0);
    let told = store.interventions(0, 9).unwrap();
    assert!(told.len() == 2 && told[0].told == Told::Retry && told[0].by == stated().by, "{told:?}");
}

#[test]
fn a_plan_is_confirmed_by_its_own_id_only_and_a_changed_plan_is_another() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let removes = ["a".to_owned(), "b".to_owned()];
    store.guard(Some(("one", &removes)), 1).unwrap();
    assert!(!store.confirm("two", words(Told::Confirm, &stated()), 2).unwrap());
    assert!(store.confirm("one", words(Told::Confirm, &stated()), 2).unwrap());
    store.guard(Some(("one", &removes)), 3).unwrap();
    assert_eq!(store.guarded().unwrap().unwrap().confirmed, Some(stated().by), "the same plan stays confirmed");
    store.guard(Some(("two", &removes)), 4).unwrap();
    assert_eq!(store.guarded().unwrap().unwrap().confirmed, None);
    store.guard(None, 5).unwrap();
    assert_eq!(store.guarded().unwrap(), None);
    assert_eq!(store.interventions(0, 9).unwrap().len(), 1, "what was refused is no intervention");
}

#[test]
fn a_store_of_a_newer_version_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path()).unwrap());
    Connection::open(dir.path().join(FILE)).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(Store::open(dir.path()), Err(StoreError::Newer { found: 99, .. })));
}

#[test]
fn a_file_that_is_no_store_is_an_error_and_not_a_fresh_start() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(FILE), "this is not a database, whatever its name says, is it?").unwrap();
    assert!(matches!(Store::open(dir.path()), Err(StoreError::Sqlite { .. })));
    assert!(fs::read(dir.path().join(FILE)).unwrap().starts_with(b"this is not"));
}

#[test]
fn a_commit_moves_the_pointer_and_a_rollback_leaves_it_and_keeps_the_candidate_out() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let good = deploy(&store, "web", b"good", Outcome::Committed);
    assert_eq!(store.kept_out(&stack("web"), &Digest::of(b"candidate")).unwrap(), None);
    deploy(&store, "web", b"bad", Outcome::RolledBack);
    assert_eq!(store.current_releases().unwrap()[&stack("web")].id, good);
    let kept_out = store.kept_out(&stack("web"), &Digest::of(b"candidate")).unwrap().unwrap();
    assert_eq!(kept_out.reason.code, Code::GateUnhealthy);
    assert_eq!(store.last_end(&stack("web")).unwrap().unwrap().outcome, Outcome::RolledBack);
}

#[test]
fn contents_go_only_with_the_last_release_that_has_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    for content in [b"one".as_slice(), b"two", b"three", b"two"] {
        deploy(&store, "web", content, Outcome::Committed);
    }
    let past: Vec<ReleaseId> = store.past_releases(&stack("web"), 1).unwrap().iter().map(|r| r.id).collect();
    assert_eq!(past.len(), 2);
    store.forget_releases(&past).unwrap();
    assert_eq!(store.blob(&Digest::of(b"one")).unwrap(), None);
    assert_eq!(store.blob(&Digest::of(b"two")).unwrap(), Some(b"two".to_vec()));
    assert_eq!(store.blob(&Digest::of(b"three")).unwrap(), Some(b"three".to_vec()));
}

#[test]
fn an_unfinished_deployment_is_found_where_its_journal_left_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    deploy(&store, "web", b"good", Outcome::Committed);
    let sync = store.begin_sync("poll", 10).unwrap();
    let api = stack("api");
    let new = NewDeployment { sync, stack: &api, to: Some(&commit("b")), from: None, changes: &[] };
    store
        .intend(&new, &Event::Intended { digest: None, from: None, purpose: Purpose::Deploy, group: None }, 11)
        .unwrap();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    let unfinished = store.unfinished().unwrap();
    assert_eq!(unfinished.len(), 1);
    assert_eq!((unfinished[0].stack.as_str(), unfinished[0].progress.state()), ("api", State::Staging));
}

#[test]
fn messages_keep_their_order_in_a_lane_and_do_not_wait_for_other_lanes() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let message = |lane: &str, text: &str| Outgoing { sink: "s".into(), lane: lane.into(), message: text.into() };
    store.enqueue(&[message("web", "1"), message("web", "2"), message("api", "3")], 100).unwrap();
    let due = |now| store.due(now).unwrap().into_iter().map(|q| q.message).collect::<Vec<_>>();
    assert_eq!(due(99), Vec::<String>::new());
    assert_eq!(due(100), ["1", "3"]);
    let first = store.due(100).unwrap().remove(0);
    store.not_delivered(first.id, "503", Some(500), 100).unwrap();
    assert_eq!(due(499), ["3"]);
    assert_eq!(due(500), ["1", "3"]);
    store.delivered(first.id, 501).unwrap();
    assert_eq!(due(501), ["2", "3"]);
    let second = store.due(501).unwrap().remove(0);
    store.not_delivered(second.id, "410", None, 502).unwrap();
    assert_eq!(due(503), ["3"]);
    let stats = store.outbox_stats().unwrap();
    assert_eq!((stats.pending, stats.undelivered, stats.last_error.as_deref()), (1, 1, Some("410")));
}

#[test]
fn a_time_of_a_clock_that_was_wrong_is_not_waited_for() {
    const DAY_MS: i64 = 24 * 3600 * 1000;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let now = 20_000 * DAY_MS;
    store.enqueue(&[Outgoing { sink: "s".into(), lane: "web".into(), message: "1".into() }], now).unwrap();
    let id = store.due(now).unwrap()[0].id;
    store.not_delivered(id, "503", Some(now + 2_000), now).unwrap();
    assert_eq!(store.due(now + 1_999).unwrap(), []);
    assert_eq!(store.due(now - 10 * DAY_MS).unwrap()[0].id, id, "the clock was set back");
}

#[test]
fn what_is_remembered_outlives_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.remembered(Memory::Server).unwrap(), None);
    store.remember(Memory::Server, "home").unwrap();
    store.remember(Memory::Server, "away").unwrap();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.remembered(Memory::Server).unwrap().as_deref(), Some("away"));
    assert_eq!(store.remembered(Memory::BackupRepository).unwrap(), None);
}

#[test]
fn polls_that_find_nothing_do_not_bury_history() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    deploy(&store, "web", b"x", Outcome::Committed);
    for now in 10..20 {
        let sync = store.begin_sync("poll", now).unwrap();
        store.set_sync_commit(sync, &commit("a"), &about()).unwrap();
        store.end_sync(sync, Outcome::Unchanged, None, now).unwrap();
    }
    let history = store.history(100).unwrap();
    assert_eq!(
        history.iter().map(|s| s.outcome.unwrap()).collect::<Vec<_>>(),
        [Outcome::Unchanged, Outcome::Committed]
    );
    assert_eq!(history[1].deployments[0].steps.last().unwrap().event, "gate_passed");
}

#[test]
fn a_reader_sees_the_store_of_a_running_agent() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Store::open_read_only(dir.path()), Err(StoreError::Absent(_))));
    let store = Store::open(dir.path()).unwrap();
    deploy(&store, "web", b"x", Outcome::Committed);
    assert_eq!(Store::open_read_only(dir.path()).unwrap().history(10).unwrap().len(), 1);
}

#[test]
fn a_refusal_is_new_once_and_cleared_by_the_next_accepted_commit() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.contact(&commit("b"), &[], 1).unwrap();
    let refused = RefusedTip {
        tip: commit("b").to_string(),
        commit: commit("b").to_string(),
        code: "E-UNSIGNED".into(),
        message: "not signed".into(),
    };
    assert!(store.refuse(&refused).unwrap());
    assert!(!store.refuse(&refused).unwrap());
    assert!(store.accept(None, (&commit("c"), &Digest::of(b"payload")), 2).unwrap());
    assert!(!store.accept(None, (&commit("d"), &Digest::of(b"other")), 3).unwrap());
    assert_eq!(store.source_state().unwrap().refused, None);
    assert_eq!(store.accepted().unwrap(), Some((commit("c"), Digest::of(b"payload"))));
}

#[test]
fn a_sync_ends_with_its_last_deployment_and_as_its_gravest() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let sync = store.begin_sync("poll", 1).unwrap();
    let (web, api, reason) = (stack("web"), stack("api"), Reason::new(Code::HeldByDependency, "it waits"));
    let new = |stack| NewDeployment { sync, stack, to: None, from: None, changes: &[] };
    let open = store
        .intend(&new(&web), &Event::Intended { digest: None, from: None, purpose: Purpose::Deploy, group: None }, 2)
        .unwrap();
    for (outcome, reason) in [(Outcome::Unchanged, None), (Outcome::Held, Some(&reason))] {
        let end = DeploymentEnd { new: new(&api), outcome, reason, messages: vec![] };
        store.record_end(&end, 3).unwrap();
    }
    store.end_sync(sync, Outcome::Aborted, None, 4).unwrap();
    assert_eq!(store.history(1).unwrap()[0].outcome, None, "its deployment is to be taken up again");
    let end = Conclusion {
        deployment: open,
        stack: &web,
        event: &Event::Failed { reason: reason.clone() },
        outcome: Outcome::RolledBack,
        reason: Some(&reason),
        snapshot: None,
        release: ReleaseMove::Stay(None),
        keep_out: None,
        evidence: &[],
        messages: vec![],
    };
    store.conclude(&end, 5).unwrap();
    store.end_open_syncs(Outcome::Aborted, 6).unwrap();
    assert_eq!(store.history(1).unwrap()[0].outcome, Some(Outcome::Held));
}

#[test]
fn the_files_of_a_candidate_on_trial_count_as_those_of_its_stack() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    deploy(&store, "web", b"current", Outcome::Committed);
    deploy(&store, "web", b"failed", Outcome::RolledBack);
    let sync = store.begin_sync("poll", 1).unwrap();
    let api = stack("api");
    let new = NewDeployment { sync, stack: &api, to: None, from: None, changes: &[] };
    let id = store
        .intend(&new, &Event::Intended { digest: None, from: None, purpose: Purpose::Deploy, group: None }, 2)
        .unwrap();
    let (trial, contents) = release("api", b"trial");
    store.stage(id, &trial, &contents, 3).unwrap();
    let beside = |name: &str| store.releases_beside(&stack(name)).unwrap().len();
    assert_eq!((beside("other"), beside("web"), beside("api")), (2, 1, 1));
    let failed = Event::Failed { reason: Reason::new(Code::GateUnhealthy, "sick") };
    store.append(id, &failed, 4).unwrap();
    assert_eq!(beside("other"), 1, "what goes back leaves its files to what was there before");
}

#[test]
fn an_older_store_is_brought_up_to_date_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let db = Connection::open(dir.path().join(FILE)).unwrap();
    db.execute_batch(MIGRATIONS[0]).unwrap();
    db.pragma_update(None, "user_version", 1).unwrap();
    db.execute("INSERT INTO syncs (trigger, started_ms) VALUES ('poll', 7)", []).unwrap();
    drop(db);
    assert!(matches!(Store::open_read_only(dir.path()), Err(StoreError::Older { found: 1, .. })));
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.version().unwrap(), SCHEMA_VERSION);
    assert_eq!(store.history(10).unwrap().len(), 1);
    assert!(store.drift().unwrap().is_empty());
}

#[test]
fn drift_and_what_people_stopped_are_remembered_until_they_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let finding = Finding { kind: Kind::Stopped, name: "a".to_owned(), by_person: true, what: "x".to_owned() };
    let record = DriftRecord { findings: vec![finding], since_ms: 1, tries: 2, next_ms: 3 };
    store.set_drift(&stack("web"), Some(&record), &[], 5).unwrap();
    assert_eq!(store.drift().unwrap(), BTreeMap::from([(stack("web"), record)]));
    store.set_drift(&stack("web"), None, &[], 6).unwrap();
    assert!(store.drift().unwrap().is_empty());

    let ids = |of: &[&str]| of.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<String>>();
    store.note_stopped("a", 1).unwrap();
    store.note_stopped("b", 1).unwrap();
    store.forget_stopped(&ids(&["a", "never"])).unwrap();
    assert_eq!(store.stopped().unwrap(), ids(&["b"]));
}

#[test]
fn what_a_person_accepts_is_kept_with_who_and_why_unless_it_moved_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let accepted = |digit: &str| Accepted { commit: commit(digit), payload: Digest::of(digit.as_bytes()) };
    let by = Person { uid: 0, name: "root".to_owned() };
    let stated = Stated { by, reason: "reset".to_owned() };
    let by_hand =
        |digit: &str, from: Option<&CommitId>, now| store.accept_by_hand(from, &accepted(digit), &stated, now).unwrap();
    assert!(by_hand("a", None, 1));
    assert!(!by_hand("b", None, 2), "it was accepted although the person saw another state");
    assert!(by_hand("b", Some(&commit("a")), 3));
    assert_eq!(store.accepted().unwrap(), Some((commit("b"), Digest::of(b"b"))));
    let told = store.interventions(0, 9).unwrap();
    assert_eq!((told.len(), told[0].told, told[0].reason.as_str()), (2, Told::TrustAccept, "reset"));
    assert_eq!(told[0].detail.as_deref(), Some("bbbbbbbbbbbb in place of aaaaaaaaaaaa"));
}
