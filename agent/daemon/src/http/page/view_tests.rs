use evenkeel_core::{
    change::{DriftKind, ServiceChangeKind, Why, WhyKind},
    id::{DeploymentId, SyncId},
    outcome::{
        Activity, AgentStatus, DriftStatus, EngineStatus, RefusedStatus, SourceStatus, StackActivity, StackLast, Step,
    },
    people::{Guarded, Hold, Person, Stated, Suspended, WindowState},
    reason::Code,
};

use super::*;

const HOSTILE: &str =
    "</title></bdi><script>alert(1)</script><img src=x onerror=alert(2)> \" ' & {{ server }} \u{202e}txt";
const ID: &str = "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1";
const AT: &str = "2026-11-21T12:00:00Z";

fn about() -> About {
    let signer = Some(Signer { principal: HOSTILE.to_owned(), fingerprint: "SHA256:x".to_owned() });
    About { subject: HOSTILE.to_owned(), author: HOSTILE.to_owned(), signer }
}

fn stack(name: &str, state: StackState, health: &str) -> StackStatus {
    StackStatus {
        name: name.to_owned(),
        state,
        commit: Some(ID.to_owned()),
        digest: None,
        health: health.to_owned(),
        since: Some(AT.to_owned()),
        last: Some(StackLast {
            outcome: Outcome::RolledBack,
            reason: Some(Reason::new(Code::GateUnhealthy, HOSTILE)),
            commit: Some(ID.to_owned()),
            at: AT.to_owned(),
        }),
        drift: vec![DriftStatus {
            kind: DriftKind::Config,
            name: HOSTILE.to_owned(),
            by_person: true,
            what: HOSTILE.to_owned(),
            since: AT.to_owned(),
        }],
        suspended: Some(suspended(false)),
        hold: Some(Hold { since: AT.to_owned(), reason: format!("chosen: {HOSTILE}") }),
        window: Some(WindowState { window: HOSTILE.to_owned(), open: false, changes: Some(AT.to_owned()) }),
    }
}

fn suspended(all: bool) -> Suspended {
    let by = Person { uid: 0, name: HOSTILE.to_owned() };
    Suspended { all, since: AT.to_owned(), until: AT.to_owned(), by, reason: HOSTILE.to_owned() }
}

fn status(stacks: Vec<StackStatus>) -> Status {
    Status {
        schema: 1,
        server: "home".to_owned(),
        source: SourceStatus {
            url: HOSTILE.to_owned(),
            reference: format!("refs/heads/{HOSTILE}"),
            tip: None,
            accepted: Some(ID.to_owned()),
            about: Some(about()),
            refused: None,
            contact: Some(AT.to_owned()),
            stale: false,
        },
        stacks,
        suspended: None,
        guarded: Some(Guarded {
            plan: "5d41402abc4b".to_owned(),
            removes: vec![HOSTILE.to_owned()],
            since: AT.to_owned(),
            confirmed: None,
        }),
        agent: AgentStatus { running: true, version: "0.1.0".to_owned(), pid: None },
        engine: EngineStatus { reachable: true },
        activity: None,
        outbox: OutboxStatus { pending: 2, undelivered: 1, last_error: Some(HOSTILE.to_owned()) },
        backup: None,
        notices: vec![HOSTILE.to_owned()],
    }
}

fn history() -> History {
    let reason = Some(Reason::new(Code::GateUnhealthy, HOSTILE));
    let deployment = DeploymentRecord {
        id: DeploymentId(1),
        stack: HOSTILE.to_owned(),
        from: Some(ID.to_owned()),
        to: Some(HOSTILE.to_owned()),
        outcome: Some(Outcome::RolledBack),
        reason: reason.clone(),
        started: AT.to_owned(),
        ended: Some("2026-11-21T12:01:05Z".to_owned()),
        snapshot: Some(HOSTILE.to_owned()),
        changes: vec![ServiceChange {
            service: HOSTILE.to_owned(),
            change: ServiceChangeKind::Recreate,
            why: vec![Why { kind: WhyKind::Env, name: HOSTILE.to_owned() }],
        }],
        steps: vec![Step {
            at: "2026-11-21T12:00:03.25Z".to_owned(),
            event: "failed".to_owned(),
            detail: Some(HOSTILE.to_owned()),
        }],
    };
    let sync = SyncRecord {
        stated: Some(Stated { by: Person { uid: 0, name: HOSTILE.to_owned() }, reason: HOSTILE.to_owned() }),
        id: SyncId(7),
        commit: Some(ID.to_owned()),
        about: Some(about()),
        trigger: HOSTILE.to_owned(),
        started: AT.to_owned(),
        ended: None,
        outcome: None,
        reason,
        deployments: vec![deployment],
    };
    History { schema: 1, syncs: vec![sync], interventions: vec![] }
}

fn page(status: &Status) -> String {
    PageView::new(status, &history()).render().unwrap()
}

#[test]
fn no_text_becomes_markup() {
    let mut hostile = status(vec![stack("web", StackState::RolledBack, "healthy")]);
    hostile.server = HOSTILE.to_owned();
    let doing = StackActivity {
        stack: HOSTILE.to_owned(),
        phase: HOSTILE.to_owned(),
        since: AT.to_owned(),
        detail: Some(HOSTILE.to_owned()),
    };
    hostile.activity =
        Some(Activity { commit: Some(ID.to_owned()), since: AT.to_owned(), phase: None, stacks: vec![doing] });
    hostile.stacks[0].name = HOSTILE.to_owned();
    hostile.stacks[0].health = HOSTILE.to_owned();
    hostile.source.refused =
        Some(RefusedStatus { commit: HOSTILE.to_owned(), code: HOSTILE.to_owned(), message: HOSTILE.to_owned() });
    let page = page(&hostile);
    let count = |what: &str| page.matches(what).count();
    assert_eq!((count("<script"), count("</title>"), count("<img")), (1, 1, 0), "{page}");
    assert!(page.contains("&#60;script&#62;alert(1)") && !page.contains("onerror=alert(2)>"), "it is shown, as text");
    assert_eq!(count(" style="), 0, "the policy allows no inline style");
    assert_eq!(count("<bdi"), count("</bdi>"));
    let mut tags = page.split('<').filter_map(|rest| rest.split_once('>')).map(|(tag, _)| tag);
    assert_eq!(tags.find(|tag| tag.contains("alert")), None);
}

#[test]
fn the_gravest_news_is_the_headline() {
    let headline = |status: &Status| {
        let mark = headline(status);
        format!("{}: {}", mark.tone, mark.word)
    };
    let steady = |name: &str| stack(name, StackState::Steady, "healthy");
    assert_eq!(headline(&status(vec![])), "idle: No stack was deployed yet");
    let mut now = status(vec![steady("a"), steady("b")]);
    assert_eq!(headline(&now), "good: All 2 stacks run as the newest commit wants");
    now.stacks[0].state = StackState::RolledBack;
    assert_eq!(headline(&now), "warn: Not as the newest commit wants: a");
    now.source.refused = Some(RefusedStatus { commit: ID.to_owned(), code: "E".to_owned(), message: "m".to_owned() });
    assert_eq!(headline(&now), "bad: The newest commit is refused");
    now.stacks[1].health = "stopped".to_owned();
    assert_eq!(headline(&now), "bad: Not healthy: b");
    now.stacks.extend(["c", "d", "e", "f"].map(|name| stack(name, StackState::Deploying, "starting")));
    assert_eq!(headline(&now), "busy: Deploying c, d, e and 1 more");
    now.engine.reachable = false;
    assert_eq!(headline(&now), "bad: The engine does not answer");
    now.stacks[0].state = StackState::Halted;
    assert_eq!(headline(&now), "bad: A person must act: a");
}

#[test]
fn a_deployment_is_told_with_steps_evidence_and_snapshot() {
    let mut history = history();
    let deployment = &mut history.syncs[0].deployments[0];
    deployment.snapshot = Some("4f2a".to_owned());
    deployment.changes[0].service = "api".to_owned();
    deployment.changes[0].why[0].name = "PORT".to_owned();
    deployment.steps[0].detail = Some("api became unhealthy".to_owned());
    let page = PageView::new(&status(vec![]), &history).render().unwrap();
    for wanted in [
        "snapshot <code>4f2a</code>",
        "api: recreate (env PORT)",
        "3.2 s",
        "api became unhealthy",
        "took 1 min 5 s",
        "gate.unhealthy",
    ] {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }
}

#[test]
fn spans_are_told_as_people_read_them() {
    for (seconds, text) in
        [(0.0, "0.0 s"), (-3.0, "0.0 s"), (9.94, "9.9 s"), (12.7, "12 s"), (185.0, "3 min 5 s"), (7800.0, "2 h 10 min")]
    {
        assert_eq!(span(seconds), text);
    }
}

#[test]
fn a_stack_shows_where_its_deployment_is() {
    let doing = |phase: &str, detail: Option<&str>| {
        let mut status = status(vec![stack("web", StackState::Deploying, "starting")]);
        let doing = StackActivity {
            stack: "web".to_owned(),
            phase: phase.to_owned(),
            since: AT.to_owned(),
            detail: detail.map(str::to_owned),
        };
        status.activity = Some(Activity { commit: None, since: AT.to_owned(), phase: None, stacks: vec![doing] });
        status
    };
    let steps = |view: &PageView| -> Vec<String> {
        let doing = view.stacks[0].doing.as_ref().unwrap();
        doing.steps.iter().map(|step| format!("{}: {}", step.word, step.class)).collect()
    };
    let forward = doing("apply", Some("waiting for app"));
    let mut history = history();
    let view = PageView::new(&forward, &history);
    assert_eq!(steps(&view), ["stage: done", "back up: done", "apply: current", "gate: ahead"]);
    let text = view.render().unwrap();
    assert!(text.contains("aria-current=\"step\">apply") && text.contains("<bdi>waiting for app</bdi>"), "{text}");

    // A gate after a rollback is known from the journal.
    let deployment = &mut history.syncs[0].deployments[0];
    deployment.stack = "web".to_owned();
    deployment.outcome = None;
    deployment.steps[0].event = "rollback_started".to_owned();
    assert_eq!(steps(&PageView::new(&doing("gate", None), &history)), ["roll back: done", "gate: current"]);
    let idle = PageView::new(&status(vec![stack("web", StackState::Steady, "healthy")]), &history);
    assert!(idle.stacks[0].doing.is_none());
}
