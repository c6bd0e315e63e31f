use std::collections::{BTreeSet, VecDeque};

use evenkeel_layout::name::{GroupName, StackName};

use super::*;

mod quiet;

fn intended() -> Event {
    Event::Intended { digest: Some(Digest::of(b"x")), from: Some(ReleaseId(1)), purpose: Purpose::Deploy, group: None }
}

/// A person wants a kept release back.
fn wanted_back() -> Event {
    let purpose = Purpose::Again(ReleaseId(1));
    Event::Intended { digest: Some(Digest::of(b"x")), from: Some(ReleaseId(2)), purpose, group: None }
}

/// A person wants data back.
fn data_wanted_back() -> Event {
    let swap = Swap {
        path: "/v/data".to_owned(),
        saved: "/v/data".to_owned(),
        restored: "/v/.restoring/data".to_owned(),
        aside: "/v/data.before".to_owned(),
    };
    let restore =
        Restore { stack: "web".to_owned(), project: "web".to_owned(), snapshot: "1a2b".to_owned(), swaps: vec![swap] };
    let purpose = Purpose::Restore(restore);
    Event::Intended { digest: Some(Digest::of(b"x")), from: Some(ReleaseId(2)), purpose, group: None }
}

/// One of several that move together.
fn intended_together() -> Event {
    let name = |text| StackName::new(text).unwrap();
    let group = Group { name: GroupName::new("shop").unwrap(), waves: vec![vec![name("db")], vec![name("web")]] };
    let from = Some(ReleaseId(1));
    Event::Intended { digest: Some(Digest::of(b"x")), from, purpose: Purpose::Deploy, group: Some(group) }
}

fn passed() -> Event {
    Event::GatePassed { seen: vec![Seen { container: "web-1".to_owned(), state: "healthy".to_owned() }] }
}

fn failed() -> Event {
    Event::Failed { reason: Reason::new(Code::GateUnhealthy, "web is unhealthy") }
}

fn left_alone() -> Event {
    Event::LeftAlone { reason: Reason::new(Code::HeldAsOwn, "the agent runs in it") }
}

fn before(id: &str) -> Vec<String> {
    vec![id.to_owned()]
}

fn quiet() -> Vec<Quiet> {
    vec![Quiet { service: "db".to_owned(), container: "d".to_owned() }]
}

fn backed_up() -> Event {
    Event::BackedUp { snapshot: SnapshotDecision::NotConfigured, left_out: vec![] }
}

fn every_event() -> Vec<Event> {
    vec![
        intended(),
        wanted_back(),
        data_wanted_back(),
        intended_together(),
        Event::Staged { to: Some(ReleaseId(2)) },
        Event::BackupStarted { quiet: vec![] },
        Event::BackupStarted { quiet: quiet() },
        Event::Calming { ailing: vec![] },
        backed_up(),
        Event::Woken,
        Event::ApplyStarted { before: before("a"), ailing: vec![], beside: vec![] },
        Event::ApplyStarted { before: before("a"), ailing: vec![], beside: before("web") },
        Event::Applied,
        passed(),
        Event::Switched,
        Event::GroupPassed { seen: vec![] },
        Event::Retired { seen: vec![], left: vec![] },
        failed(),
        Event::RollbackStarted { before: before("b") },
        Event::RollbackApplied,
        Event::RollbackPassed,
        Event::Interrupted,
        left_alone(),
    ]
}

fn good_path() -> Vec<Event> {
    vec![
        intended(),
        Event::Staged { to: Some(ReleaseId(2)) },
        Event::BackupStarted { quiet: vec![] },
        backed_up(),
        Event::ApplyStarted { before: before("a"), ailing: vec![], beside: vec![] },
        Event::Applied,
        passed(),
    ]
}

/// One that starts the service `web` beside what stands.
fn path_beside() -> Vec<Event> {
    let mut events = good_path();
    events[4] = Event::ApplyStarted { before: before("a"), ailing: vec![], beside: before("web") };
    events.extend([Event::Switched, Event::Retired { seen: vec![], left: vec![] }]);
    events
}

/// Every progress that any sequence of events can reach.
fn reachable() -> Vec<Progress> {
    let mut found: Vec<Progress> = Vec::new();
    let firsts = [intended(), wanted_back(), data_wanted_back(), intended_together()];
    let mut queue = firsts.iter().map(|first| Progress::begin(first).unwrap()).collect::<VecDeque<_>>();
    while let Some(progress) = queue.pop_front() {
        if found.contains(&progress) {
            continue;
        }
        queue.extend(every_event().iter().filter_map(|e| progress.clone().next(e).ok()));
        found.push(progress);
    }
    found
}

#[test]
fn a_good_deployment_ends_committed() {
    assert_eq!(Progress::replay(&good_path()).unwrap().state(), State::Committed);
}

#[test]
fn a_failure_before_the_apply_aborts_and_one_after_it_rolls_back() {
    for cut in 1..good_path().len() {
        let progress = Progress::replay(&good_path()[..cut]).unwrap();
        let touched = matches!(progress.state(), State::Applying | State::Gating);
        let expected = if touched { State::RollingBack } else { State::Aborted };
        assert_eq!(progress.next(&failed()).unwrap().state(), expected);
    }
}

#[test]
fn every_state_is_reachable_and_every_unfinished_one_makes_progress() {
    let found = reachable();
    let states: BTreeSet<_> = found.iter().map(Progress::state).collect();
    assert_eq!(states, State::ALL.iter().copied().collect());
    for progress in &found {
        assert_eq!(progress.todo().is_none(), progress.state().outcome().is_some(), "{progress:?}");
    }
}

#[test]
fn an_end_admits_no_event() {
    for progress in reachable().into_iter().filter(|p| p.state().outcome().is_some()) {
        for event in every_event() {
            assert!(progress.clone().next(&event).is_err(), "{progress:?} took {event:?}");
        }
    }
}

#[test]
fn a_rollback_never_leads_back_to_the_candidate() {
    for progress in reachable() {
        if matches!(progress.state(), State::RollingBack | State::GatingRollback) {
            for event in every_event() {
                if let Ok(next) = progress.clone().next(&event) {
                    let is_back = matches!(
                        next.state(),
                        State::RollingBack | State::GatingRollback | State::RolledBack | State::Halted
                    );
                    assert!(is_back, "{next:?}");
                }
            }
        }
    }
}

#[test]
fn there_is_no_apply_without_a_decision_about_the_backup() {
    for progress in reachable() {
        if matches!(progress.todo(), Some(Todo::Apply(_))) {
            assert!(progress.snapshot().is_some(), "{progress:?}");
        }
    }
}

#[test]
fn what_moves_together_is_committed_only_when_all_have_passed() {
    for progress in reachable().into_iter().filter(|p| p.group().is_some()) {
        for event in every_event() {
            let Ok(next) = progress.clone().next(&event) else { continue };
            if matches!(next.state(), State::Retiring | State::Committed) && progress.state() != State::Retiring {
                let from = (progress.state(), event.name());
                assert_eq!(from, (State::Passed, "group_passed"));
            }
        }
    }
    let together = |mut events: Vec<Event>| {
        events[0] = intended_together();
        events
    };
    let passed = Progress::replay(&together(good_path())).unwrap();
    assert_eq!(passed.clone().next(&failed()).unwrap().state(), State::RollingBack);
    assert_eq!(passed.next(&Event::Interrupted).unwrap().state(), State::Gating, "nobody has watched it since");
    let beside = together(path_beside()[..8].to_vec());
    let events: Vec<Event> = beside.into_iter().chain([Event::GroupPassed { seen: vec![] }]).collect();
    let states: Vec<State> = (7..=9).map(|n| Progress::replay(&events[..n]).unwrap().state()).collect();
    assert_eq!(states, [State::Switching, State::Passed, State::Retiring], "the old ones go when all have passed");
}

#[test]
fn a_way_back_may_be_interrupted_as_often_as_any() {
    let mut progress = Progress::replay(&good_path()[..6]).unwrap();
    for _ in 0..GATE_TRIES {
        progress = progress.next(&Event::Interrupted).unwrap();
    }
    for event in [Event::RollbackStarted { before: vec![] }, Event::RollbackApplied, Event::Interrupted] {
        progress = progress.next(&event).unwrap();
    }
    assert_eq!(progress.state(), State::GatingRollback);
}

#[test]
fn interruptions_at_every_step_reach_an_end() {
    for progress in reachable() {
        let mut now = progress;
        for _ in 0..2 * (APPLY_TRIES + ROLLBACK_TRIES + GATE_TRIES) {
            now = match now.todo() {
                None => break,
                Some(Todo::BeginApply) if now.state() == State::Applying => {
                    now.next(&Event::ApplyStarted { before: vec![], ailing: vec![], beside: vec![] }).unwrap()
                }
                Some(Todo::BeginRollback) => now.next(&Event::RollbackStarted { before: vec![] }).unwrap(),
                // Whoever is woken twice is awake: it is done again until it is done.
                Some(Todo::Wake) => now.next(&Event::Woken).unwrap(),
                // A group is judged as soon as somebody looks.
                Some(Todo::AwaitGroup) => now.next(&Event::GroupPassed { seen: vec![] }).unwrap(),
                Some(_) => now.next(&Event::Interrupted).unwrap(),
            };
        }
        assert!(now.state().outcome().is_some(), "{now:?}");
    }
}

#[test]
fn what_a_person_wants_back_is_known_in_every_state_and_goes_the_same_way() {
    let mut events = good_path();
    events[0] = wanted_back();
    for cut in 1..=events.len() {
        assert_eq!(Progress::replay(&events[..cut]).unwrap().again(), Some(ReleaseId(1)));
    }
    assert_eq!(Progress::replay(&events).unwrap().state(), State::Committed);
    let of_both = |wanted: Option<ReleaseId>| -> BTreeSet<State> {
        reachable().iter().filter(|p| p.again() == wanted && p.group().is_none()).map(Progress::state).collect()
    };
    assert_eq!(of_both(None), of_both(Some(ReleaseId(1))));
}

#[test]
fn a_restore_goes_the_same_way_and_never_loses_sight_of_what_it_exchanges() {
    let of = |restores: bool| -> BTreeSet<State> {
        let found = reachable();
        let alone = found.iter().filter(|p| p.group().is_none());
        alone.filter(|p| p.restore().is_some() == restores).map(Progress::state).collect()
    };
    assert_eq!(of(true), of(false));
    for progress in reachable().iter().filter(|p| p.restore().is_some()) {
        if let Some(Todo::Apply(permit) | Todo::RollBack(permit)) = progress.todo() {
            assert_eq!(permit.restore(), progress.restore());
        }
        let failure = progress.failure().map(|reason| reason.message.as_str()).unwrap_or_default();
        if progress.state() == State::Halted {
            assert!(failure.contains("mv -nT /v/data.before /v/data;"), "{failure}");
        }
    }
}

#[test]
fn a_journal_from_before_people_could_ask_is_read() {
    let old = [
        r#"{"event":"intended","digest":null,"from":1}"#,
        r#"{"event":"gate_passed"}"#,
        r#"{"event":"backup_started"}"#,
        r#"{"event":"apply_started","before":[]}"#,
    ];
    let events = old.map(|text| serde_json::from_str::<Event>(text).unwrap());
    assert_eq!(
        events[0],
        Event::Intended { digest: None, from: Some(ReleaseId(1)), purpose: Purpose::Deploy, group: None }
    );
    assert_eq!(events[1], Event::GatePassed { seen: vec![] });
    assert_eq!(events[2], Event::BackupStarted { quiet: vec![] });
    assert_eq!(events[3], Event::ApplyStarted { before: vec![], ailing: vec![], beside: vec![] });
}

#[test]
fn what_a_deployment_is_for_is_read_as_it_was_written_and_is_one_thing() {
    let written = |more: &str| format!(r#"{{"event":"intended","digest":null,"from":1{more}}}"#);
    for (more, purpose) in [
        ("", Purpose::Deploy),
        (r#","heal":["web"]"#, Purpose::Heal(vec!["web".to_owned()])),
        (r#","again":7"#, Purpose::Again(ReleaseId(7))),
    ] {
        let event = Event::Intended { digest: None, from: Some(ReleaseId(1)), purpose, group: None };
        assert_eq!(serde_json::from_str::<Event>(&written(more)).unwrap(), event);
        assert_eq!(serde_json::to_string(&event).unwrap(), written(more));
    }
    assert!(serde_json::from_str::<Event>(&written(r#","heal":["web"],"again":7"#)).is_err());
}

#[test]
fn what_is_left_alone_ends_where_it_was_and_says_so() {
    for progress in reachable().into_iter().filter(|p| p.state().outcome().is_none()) {
        let is_touched = progress.state().is_touched();
        let left = progress.next(&left_alone()).unwrap();
        let failure = left.failure().unwrap();
        assert_eq!(left.state(), if is_touched { State::Halted } else { State::Aborted });
        assert_eq!((failure.code, failure.message.contains("stays as it was left")), (Code::HeldAsOwn, is_touched));
    }
}

#[test]
fn after_an_interruption_a_try_is_spent_before_anything_is_touched() {
    let applying = Progress::replay(&good_path()[..5]).unwrap();
    assert!(matches!(applying.todo(), Some(Todo::Apply(_))));
    let interrupted = applying.next(&Event::Interrupted).unwrap();
    assert_eq!(interrupted.todo(), Some(Todo::BeginApply));
    assert!(interrupted.next(&Event::Applied).is_err());
}

#[test]
fn a_second_try_keeps_the_containers_of_the_first() {
    let mut events = good_path()[..5].to_vec();
    events.extend([
        Event::Interrupted,
        Event::ApplyStarted { before: before("made by the first try"), ailing: before("it"), beside: vec![] },
    ]);
    let Some(Todo::Apply(permit)) = Progress::replay(&events).unwrap().todo() else { panic!("not applying") };
    assert_eq!(permit.before(), ["a"]);
    assert!(permit.ailing().is_empty());
    assert!(permit.is_again());
}

#[test]
fn a_rollback_knows_what_was_not_well_before_the_deployment() {
    let mut events = good_path()[..4].to_vec();
    let stood = vec!["a".to_owned(), "b".to_owned()];
    events.push(Event::ApplyStarted { before: stood, ailing: before("b"), beside: vec![] });
    events.extend([failed(), Event::RollbackStarted { before: before("c") }]);
    let Some(Todo::RollBack(permit)) = Progress::replay(&events).unwrap().todo() else { panic!("not rolling back") };
    assert_eq!((permit.before(), permit.ailing()), (before("c").as_slice(), before("b").as_slice()));
    assert!(permit.is_back());
}

#[test]
fn a_rollback_that_fails_tells_both_why_it_was_needed_and_why_it_failed() {
    let mut events = good_path()[..6].to_vec();
    let second = Event::Failed { reason: Reason::new(Code::ApplyFailed, "the port is taken") };
    events.extend([failed(), Event::RollbackStarted { before: vec![] }, second]);
    let progress = Progress::replay(&events).unwrap();
    let failure = progress.failure().unwrap();
    assert_eq!((progress.state(), failure.code), (State::Halted, Code::RollbackFailed));
    assert!(failure.message.contains("web is unhealthy") && failure.message.contains("the port is taken"));
}

#[test]
fn the_journal_reads_back_what_it_wrote() {
    for event in every_event() {
        let json = serde_json::to_string(&event).unwrap();
        assert!(json.contains(&format!("\"event\":\"{}\"", event.name())), "{json}");
        assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), event);
    }
}

#[test]
fn what_could_not_be_put_back_is_left_for_another_try_and_never_rolled_back() {
    let heal = |event: &Event| match event {
        Event::Intended { digest, from, .. } => {
            let purpose = Purpose::Heal(vec!["web".to_owned()]);
            Event::Intended { digest: digest.clone(), from: *from, purpose, group: None }
        }
        other => other.clone(),
    };
    let path: Vec<Event> = good_path().iter().map(heal).collect();
    assert_eq!(Progress::replay(&path).unwrap().state(), State::Committed);
    for cut in 1..path.len() {
        let progress = Progress::replay(&path[..cut]).unwrap();
        assert_eq!(progress.next(&failed()).unwrap().state(), State::Aborted, "after {cut} events");
    }
    let mut interrupted = Progress::replay(&path[..path.len() - 1]).unwrap();
    while interrupted.todo().is_some() {
        interrupted = interrupted.next(&Event::Interrupted).unwrap();
    }
    assert_eq!(interrupted.state(), State::Aborted);
}

#[test]
fn what_is_started_beside_answers_with_the_old_ones_before_they_go() {
    let states = |events: &[Event]| {
        (1..=events.len()).map(|n| Progress::replay(&events[..n]).unwrap().state()).collect::<Vec<_>>()
    };
    let expected = [State::Applying, State::Gating, State::Switching, State::Retiring, State::Committed];
    assert_eq!(states(&path_beside())[4..], expected);
    assert_eq!(states(&good_path())[4..], [State::Applying, State::Gating, State::Committed]);
    // Nobody lets the old ones go without both having answered, and nobody needs that where nothing is started beside.
    for progress in reachable() {
        if matches!(progress.todo(), Some(Todo::Switch(_) | Todo::Retire(_))) {
            assert_eq!(progress.beside(), ["web"]);
        }
        if progress.state() != State::Switching {
            assert!(progress.next(&Event::Switched).is_err());
        }
    }
}

#[test]
fn once_the_old_ones_may_go_there_is_no_way_back_and_the_end_is_near() {
    for progress in reachable().into_iter().filter(|p| p.state() == State::Retiring) {
        // One that must be left alone is, wherever it is.
        let events = every_event().into_iter().filter(|event| !matches!(event, Event::LeftAlone { .. }));
        for next in events.filter_map(|event| progress.clone().next(&event).ok()) {
            assert!(matches!(next.state(), State::Retiring | State::Committed), "{next:?}");
        }
        let mut now = progress;
        while now.todo().is_some() {
            now = now.next(&Event::Interrupted).unwrap();
        }
        assert_eq!((now.state(), now.failure()), (State::Committed, None));
    }
}

#[test]
fn what_goes_wrong_while_both_answer_leads_back_and_the_way_back_knows_what_is_old() {
    let switching = Progress::replay(&path_beside()[..7]).unwrap();
    let mut interrupted = switching.clone();
    while interrupted.state() == State::Switching {
        interrupted = interrupted.next(&Event::Interrupted).unwrap();
    }
    for progress in [switching.next(&failed()).unwrap(), interrupted] {
        assert_eq!(progress.todo(), Some(Todo::BeginRollback));
        let back = progress.next(&Event::RollbackStarted { before: vec!["a".to_owned(), "new".to_owned()] }).unwrap();
        let Some(Todo::RollBack(permit)) = back.todo() else { panic!("not rolling back") };
        assert_eq!((permit.beside(), permit.stood()), (before("web").as_slice(), before("a").as_slice()));
        assert_eq!(permit.before().len(), 2);
    }
}

#[test]
fn what_is_started_beside_is_decided_with_the_first_try() {
    let mut events = path_beside()[..5].to_vec();
    events.extend([
        Event::Interrupted,
        Event::ApplyStarted { before: vec!["a".to_owned(), "new".to_owned()], ailing: vec![], beside: vec![] },
    ]);
    let Some(Todo::Apply(permit)) = Progress::replay(&events).unwrap().todo() else { panic!("not applying") };
    assert_eq!((permit.beside(), permit.stood()), (before("web").as_slice(), before("a").as_slice()));
    assert_eq!(permit.before(), ["a"]);
}

/// The steps from one state to another that the function knows, by their names in the journal.
fn known_steps() -> BTreeSet<(String, String)> {
    let name = |state: State| serde_json::to_value(state).unwrap().as_str().unwrap().to_owned();
    let mut steps = BTreeSet::new();
    for progress in reachable() {
        for next in every_event().iter().filter_map(|event| progress.clone().next(event).ok()) {
            steps.insert((name(progress.state()), name(next.state())));
        }
    }
    steps
}

#[test]
fn the_drawing_in_the_architecture_shows_every_state_and_only_steps_that_there_are() {
    let text = include_str!("../../../../ARCHITECTURE.md");
    let section = text.split("## A deployment\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let drawing: Vec<&str> = section.lines().filter(|line| line.starts_with("    ")).collect();
    let known = known_steps();
    let states: BTreeSet<&str> = known.iter().flat_map(|(from, to)| [from.as_str(), to.as_str()]).collect();
    let is_drawn = |state: &&str| {
        drawing.iter().any(|line| line.split(|c: char| c != '_' && !c.is_alphabetic()).any(|w| w == *state))
    };
    assert_eq!(states.iter().find(|state| !is_drawn(state)), None);
    let mut drawn = 0;
    for line in drawing {
        let words: Vec<&str> = line.split("->").map(|part| part.trim_matches(['-', '+', ' ', '|', '^', '>'])).collect();
        for pair in words.windows(2).filter(|pair| pair.iter().all(|word| states.contains(word))) {
            assert!(known.contains(&(pair[0].to_owned(), pair[1].to_owned())), "{pair:?} is no step");
            drawn += 1;
        }
    }
    assert!(drawn >= 9, "{drawn} steps are drawn from left to right");
}
