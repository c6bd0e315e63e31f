use super::*;

const POLICY: GatePolicy =
    GatePolicy { min_healthy_time: Duration::from_secs(10), healthy_deadline: Duration::from_secs(60) };

fn expect(may_end: bool) -> Expectations {
    Expectations::from([("web".to_owned(), Expected { replicas: 1, may_end, must_end: false })])
}

fn web(activity: Activity, health: Health) -> ContainerSample {
    ContainerSample {
        service: "web".to_owned(),
        id: "1".to_owned(),
        name: "p-web-1".to_owned(),
        activity,
        health,
        restarts: 0,
        oom_killed: false,
        exit_code: None,
        probe: None,
    }
}

fn code(verdict: &Verdict) -> Option<Code> {
    match verdict {
        Verdict::Failed(failure) => Some(failure.reason.code),
        Verdict::Waiting(_) | Verdict::Passed => None,
    }
}

/// Runs samples one a second and gives the second of the verdict.
fn run(expected: Expectations, samples: impl Fn(u64) -> Vec<ContainerSample>) -> (u64, Verdict) {
    let mut gate = Gate::new(POLICY, expected, BTreeSet::from(["old".to_owned()]), 0);
    for second in 0..200 {
        match gate.observe(second * 1000, &samples(second)) {
            Verdict::Waiting(_) => {}
            verdict => return (second, verdict),
        }
    }
    panic!("no verdict");
}

#[test]
fn passes_after_the_stable_time_and_not_before() {
    assert_eq!(run(expect(false), |_| vec![web(Activity::Running, Health::None)]), (10, Verdict::Passed));
}

#[test]
fn waits_for_the_healthcheck_before_the_stable_time_begins() {
    let slow = |s| vec![web(Activity::Running, if s < 7 { Health::Starting } else { Health::Healthy })];
    assert_eq!(run(expect(false), slow), (17, Verdict::Passed));
}

#[test]
fn fails_at_once_when_a_container_becomes_unhealthy() {
    let (second, verdict) =
        run(expect(false), |s| vec![web(Activity::Running, if s < 3 { Health::Starting } else { Health::Unhealthy })]);
    assert_eq!((second, code(&verdict)), (3, Some(Code::GateUnhealthy)));
}

#[test]
fn fails_at_once_when_a_container_exits() {
    for exit in [0, 1, 137] {
        let (second, verdict) = run(expect(false), |_| vec![web(Activity::Exited(exit), Health::None)]);
        assert_eq!((second, code(&verdict)), (0, Some(Code::GateExited)));
    }
}

#[test]
fn a_service_that_may_end_passes_with_0_and_fails_with_1() {
    assert_eq!(run(expect(true), |_| vec![web(Activity::Exited(0), Health::None)]), (10, Verdict::Passed));
    let (_, verdict) = run(expect(true), |_| vec![web(Activity::Exited(1), Health::None)]);
    assert_eq!(code(&verdict), Some(Code::GateExited));
}

#[test]
fn a_container_that_ended_is_judged_by_its_exit_code_and_not_by_its_healthcheck() {
    let ended = |code| move |_| vec![web(Activity::Exited(code), Health::Unhealthy)];
    assert_eq!(run(expect(true), ended(0)), (10, Verdict::Passed));
    for (expected, code) in [(expect(true), 1), (expect(false), 0)] {
        let (_, verdict) = run(expected, ended(code));
        assert_eq!(self::code(&verdict), Some(Code::GateExited));
    }
}

#[test]
fn one_restart_of_a_container_with_a_healthcheck_is_waited_for() {
    let restarts = |s| {
        let mut sample = web(Activity::Running, Health::Healthy);
        if s == 3 {
            sample = web(Activity::Restarting, Health::Unhealthy);
        }
        sample.restarts = u64::from(s >= 3);
        vec![sample]
    };
    assert_eq!(run(expect(false), restarts), (14, Verdict::Passed));
}

#[test]
fn a_service_that_is_awaited_must_end() {
    let expected = Expectations::from([("web".to_owned(), Expected { replicas: 1, may_end: true, must_end: true })]);
    let ends = |s| vec![web(if s < 5 { Activity::Running } else { Activity::Exited(0) }, Health::None)];
    assert_eq!(run(expected, ends), (15, Verdict::Passed));
}

#[test]
fn a_restart_begins_the_stable_time_again() {
    let once = |s| {
        let mut sample = web(Activity::Running, Health::None);
        sample.restarts = u64::from(s >= 5);
        vec![sample]
    };
    assert_eq!(run(expect(false), once), (16, Verdict::Passed));
}

#[test]
fn a_crash_loop_is_known_at_its_third_restart() {
    let (second, verdict) = run(expect(false), |s| {
        let mut sample = web(Activity::Restarting, Health::None);
        sample.restarts = s;
        // Now and then it is seen running, when the engine tells no exit code.
        (sample.activity, sample.exit_code) =
            if s == 3 { (Activity::Running, None) } else { (Activity::Restarting, Some(7)) };
        vec![sample]
    });
    assert_eq!((second, code(&verdict)), (3, Some(Code::GateExited)));
    let Verdict::Failed(failure) = verdict else { panic!("no failure") };
    let said = "p-web-1 is in a crash loop: 3 restarts since it was started, last after exit code 7";
    assert_eq!(failure.reason.message, said);
}

#[test]
fn a_probe_that_is_not_answered_is_waited_for_and_begins_the_stable_time_again() {
    let refused = |until: u64| {
        move |s| {
            let mut sample = web(Activity::Running, Health::None);
            sample.probe = (s < 3 || (6..until).contains(&s)).then(|| "whose probe tcp 80 says: refused".to_owned());
            vec![sample]
        }
    };
    assert_eq!(run(expect(false), refused(9)), (19, Verdict::Passed));
    let (second, verdict) = run(expect(false), refused(u64::MAX));
    let Verdict::Failed(failure) = verdict else { panic!("no failure") };
    assert_eq!((second, failure.reason.code), (60, Code::GateDeadline));
    let said = "not healthy after 60 s: still waiting for p-web-1, whose probe tcp 80 says: refused";
    assert_eq!(failure.reason.message, said);
}

#[test]
fn what_the_script_has_against_it_is_waited_for() {
    let good = [web(Activity::Running, Health::None)];
    let mut gate = Gate::new(POLICY, expect(false), BTreeSet::new(), 0);
    gate.script_says(Some("the health-check script: no disk".to_owned()));
    assert_eq!(gate.observe(0, &good), waiting("the health-check script: no disk"));
    gate.script_says(None);
    gate.observe(1_000, &good);
    assert_eq!(gate.observe(11_000, &good), Verdict::Passed);
}

#[test]
fn a_process_that_was_killed_for_want_of_memory_is_not_well_though_the_container_runs_on() {
    let (_, verdict) = run(expect(false), |_| {
        let mut sample = web(Activity::Running, Health::None);
        sample.oom_killed = true;
        vec![sample]
    });
    assert_eq!(code(&verdict), Some(Code::GateOom));
}

#[test]
fn earlier_restarts_of_an_unchanged_container_do_not_count() {
    let old = |_| {
        let mut sample = web(Activity::Running, Health::None);
        sample.id = "old".to_owned();
        sample.restarts = 40;
        vec![sample]
    };
    assert_eq!(run(expect(false), old), (10, Verdict::Passed));
}

#[test]
fn a_replica_that_is_missing_is_waited_for_until_the_deadline() {
    let expected = Expectations::from([("web".to_owned(), Expected { replicas: 2, may_end: false, must_end: false })]);
    let (second, verdict) = run(expected, |_| vec![web(Activity::Running, Health::None)]);
    assert_eq!((second, code(&verdict)), (60, Some(Code::GateDeadline)));
}

#[test]
fn an_engine_that_does_not_answer_is_not_held_against_the_candidate() {
    let mut gate = Gate::new(POLICY, expect(false), BTreeSet::new(), 0);
    assert!(matches!(gate.observe(0, &[web(Activity::Running, Health::Starting)]), Verdict::Waiting(_)));
    for second in 1..=100 {
        assert!(matches!(gate.unknown(second * 1000), Verdict::Waiting(_)), "{second}");
    }
    assert!(matches!(gate.observe(101_000, &[web(Activity::Running, Health::Healthy)]), Verdict::Waiting(_)));
    assert_eq!(gate.observe(111_000, &[web(Activity::Running, Health::Healthy)]), Verdict::Passed);
}

#[test]
fn an_engine_that_never_comes_back_fails_the_gate_in_the_end() {
    let mut gate = Gate::new(POLICY, expect(false), BTreeSet::new(), 0);
    gate.unknown(0);
    assert_eq!(code(&gate.unknown(359_000)), None);
    assert_eq!(code(&gate.unknown(360_000)), Some(Code::GateDeadline));
}

#[test]
fn an_oom_kill_is_named_as_such() {
    let (_, verdict) = run(expect(false), |_| {
        let mut sample = web(Activity::Exited(137), Health::None);
        sample.oom_killed = true;
        vec![sample]
    });
    assert_eq!(code(&verdict), Some(Code::GateOom));
}

#[test]
fn expectations_come_from_the_model() {
    let model = Model::parse(
        r#"{"services":{"db":{"restart":"always"},"migrate":{},"page":{"healthcheck":{"test":["CMD","true"]}},"web":{"restart":"unless-stopped","deploy":{"replicas":3},
            "depends_on":{"migrate":{"condition":"service_completed_successfully"}}}}}"#,
    )
    .unwrap();
    let expected = expectations(&model);
    assert_eq!(expected["db"], Expected { replicas: 1, may_end: false, must_end: false });
    assert_eq!(expected["migrate"], Expected { replicas: 1, may_end: true, must_end: true });
    assert_eq!(expected["page"], Expected { replicas: 1, may_end: false, must_end: false });
    assert_eq!(expected["web"], Expected { replicas: 3, may_end: false, must_end: false });
}

#[test]
fn it_says_when_time_alone_decides() {
    let good = [web(Activity::Running, Health::Healthy)];
    let mut gate = Gate::new(POLICY, expect(false), BTreeSet::new(), 0);
    assert_eq!(gate.observe(1_500, &[web(Activity::Running, Health::Starting)]), waiting("p-web-1 to become healthy"));
    assert_eq!(gate.next_change_ms(), 60_000);
    gate.observe(2_300, &good);
    assert_eq!(gate.next_change_ms(), 12_300);
    assert_eq!(gate.observe(12_299, &good), waiting("the stable time"));
    assert_eq!(gate.observe(12_300, &good), Verdict::Passed);
}

#[test]
fn without_an_engine_it_says_when_the_last_of_its_patience_ends() {
    let mut gate = Gate::new(POLICY, expect(false), BTreeSet::new(), 0);
    gate.unknown(20_000);
    let decided = gate.next_change_ms();
    assert_eq!(gate.unknown(decided - 1), waiting("the engine to answer"));
    assert_eq!(code(&gate.unknown(decided)), Some(Code::GateDeadline));
}

fn waiting(what: &str) -> Verdict {
    Verdict::Waiting(what.to_owned())
}
