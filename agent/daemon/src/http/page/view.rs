//! The status page as texts and tones, for the template to put in place. The template escapes every one of them.

use std::time::Duration;

use askama::Template;
use evenkeel_core::{
    change::ServiceChange,
    outcome::{
        About, DeploymentRecord, History, OutboxStatus, Outcome, Signer, StackActivity, StackState, StackStatus,
        Status, SyncRecord,
    },
    people::{Suspended, WindowState},
    reason::Reason,
};

use crate::host::{
    activity,
    words::{self, seconds_between, short},
};

/// How grave something is; the class of its mark. Colour never says it alone: the mark has words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tone {
    Good,
    Idle,
    Busy,
    Warn,
    Bad,
}

impl Tone {
    fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Idle => "idle",
            Self::Busy => "busy",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }
}

/// A word with a colour.
pub(super) struct Mark {
    pub tone: &'static str,
    pub word: String,
}

impl Mark {
    fn new(tone: Tone, word: impl Into<String>) -> Self {
        Self { tone: tone.class(), word: word.into() }
    }

    fn state(state: StackState) -> Self {
        let tone = match state {
            StackState::Steady => Tone::Good,
            StackState::Deploying => Tone::Busy,
            StackState::RolledBack | StackState::Held | StackState::Aborted => Tone::Warn,
            StackState::Rejected | StackState::Halted => Tone::Bad,
        };
        Self::new(tone, words::state(state))
    }

    fn health(health: &str) -> Self {
        let tone = match health {
            "healthy" => Tone::Good,
            "starting" => Tone::Busy,
            "unhealthy" | "stopped" => Tone::Bad,
            _ => Tone::Idle,
        };
        Self::new(tone, if tone == Tone::Idle { "health unknown" } else { health })
    }

    fn outcome(outcome: Option<Outcome>) -> Self {
        let Some(outcome) = outcome else { return Self::new(Tone::Busy, "under way") };
        let tone = match outcome {
            Outcome::Committed => Tone::Good,
            Outcome::Unchanged => Tone::Idle,
            Outcome::RolledBack | Outcome::Held | Outcome::Aborted | Outcome::Quarantined => Tone::Warn,
            Outcome::Rejected | Outcome::Refused | Outcome::Halted => Tone::Bad,
        };
        Self::new(tone, words::outcome(outcome))
    }
}

/// A moment: for programs, and for people without a script.
pub(super) struct When {
    pub iso: String,
    pub text: String,
}

impl When {
    fn new(iso: &str) -> Self {
        let text = match (iso.get(..10), iso.get(11..19)) {
            (Some(day), Some(time)) => format!("{day} {time} UTC"),
            _ => iso.to_owned(),
        };
        Self { iso: iso.to_owned(), text }
    }
}

/// A commit as people know it.
pub(super) struct CommitView {
    pub id: String,
    pub short: String,
    pub subject: Option<String>,
    pub author: Option<String>,
    pub signer: Option<Signer>,
}

impl CommitView {
    fn new(id: &str, about: Option<&About>) -> Self {
        let text = |text: &String| Some(text.clone()).filter(|t| !t.is_empty());
        Self {
            id: id.to_owned(),
            short: short(id).to_owned(),
            subject: about.and_then(|a| text(&a.subject)),
            author: about.and_then(|a| text(&a.author)),
            signer: about.and_then(|a| a.signer.clone()),
        }
    }
}

/// Why something is as it is.
pub(super) struct WhyView {
    pub code: &'static str,
    pub message: String,
}

impl WhyView {
    fn new(reason: Option<&Reason>) -> Option<Self> {
        reason.map(|r| Self { code: r.code.as_str(), message: r.message.clone() })
    }
}

/// One stack.
pub(super) struct StackView {
    pub name: String,
    pub state: Mark,
    pub health: Mark,
    pub commit: Option<String>,
    pub since: Option<When>,
    pub last: Option<LastView>,
    pub drift: Vec<DriftView>,
    pub doing: Option<DoingView>,
    pub suspended: Option<SuspendedView>,
    /// Why it stays at a release that a person chose.
    pub hold: Option<String>,
    pub window: Option<WindowView>,
}

/// What the agent does for a stack now.
pub(super) struct DoingView {
    pub steps: Vec<PathStep>,
    pub detail: Option<String>,
    pub since: When,
}

/// A step on the way of a deployment, and whether it is behind, under way or ahead.
pub(super) struct PathStep {
    pub word: &'static str,
    pub class: &'static str,
}

impl DoingView {
    fn new(doing: &StackActivity, goes_back: bool) -> Self {
        const FORWARD: &[(&str, &str)] =
            &[("stage", "stage"), ("backup", "back up"), ("apply", "apply"), ("gate", "gate")];
        const BACK: &[(&str, &str)] = &[("rollback", "roll back"), ("gate", "gate")];
        let path = if goes_back || doing.phase == "rollback" { BACK } else { FORWARD };
        let now = path.iter().position(|(phase, _)| *phase == doing.phase);
        let steps = path.iter().enumerate().map(|(at, (_, word))| PathStep {
            word,
            class: match now {
                Some(now) if at < now => "done",
                Some(now) if at == now => "current",
                _ => "ahead",
            },
        });
        Self { steps: steps.collect(), detail: doing.detail.clone(), since: When::new(&doing.since) }
    }
}

/// One difference between the server and a stack's release.
pub(super) struct DriftView {
    pub what: String,
    pub since: When,
}

/// What a person left alone.
pub(super) struct SuspendedView {
    pub until: When,
    pub by: String,
    pub reason: String,
}

impl SuspendedView {
    fn new(suspended: &Suspended) -> Self {
        Self { until: When::new(&suspended.until), by: suspended.by.name.clone(), reason: suspended.reason.clone() }
    }
}

/// A maintenance window.
pub(super) struct WindowView {
    pub window: String,
    pub open: bool,
    pub changes: Option<When>,
}

impl WindowView {
    fn new(window: &WindowState) -> Self {
        let WindowState { window, open, changes } = window;
        Self { window: window.clone(), open: *open, changes: changes.as_deref().map(When::new) }
    }
}

/// What happened to a stack last.
pub(super) struct LastView {
    pub word: &'static str,
    pub at: When,
    pub commit: Option<String>,
    pub why: Option<WhyView>,
}

impl StackView {
    fn new(stack: &StackStatus, doing: Option<DoingView>) -> Self {
        let last = stack.last.as_ref().map(|last| LastView {
            word: words::outcome(last.outcome),
            at: When::new(&last.at),
            commit: last.commit.as_deref().map(|c| short(c).to_owned()),
            why: WhyView::new(last.reason.as_ref()),
        });
        Self {
            name: stack.name.clone(),
            state: Mark::state(stack.state),
            health: Mark::health(&stack.health),
            commit: stack.commit.as_deref().map(|c| short(c).to_owned()),
            since: stack.since.as_deref().map(When::new),
            last,
            drift: stack.drift.iter().map(|d| DriftView { what: d.what.clone(), since: When::new(&d.since) }).collect(),
            doing,
            suspended: stack.suspended.as_ref().map(SuspendedView::new),
            // The last end may say the same.
            hold: stack
                .hold
                .as_ref()
                .filter(|hold| {
                    stack.last.as_ref().and_then(|l| l.reason.as_ref()).is_none_or(|r| r.message != hold.reason)
                })
                .map(|hold| hold.reason.clone()),
            window: stack.window.as_ref().map(WindowView::new),
        }
    }
}

/// One sync.
pub(super) struct SyncView {
    pub id: String,
    pub outcome: Mark,
    pub commit: Option<CommitView>,
    pub trigger: String,
    /// Who asked for it, and why.
    pub stated: Option<(String, String)>,
    pub started: When,
    pub took: Option<String>,
    pub why: Option<WhyView>,
    pub deployments: Vec<DeploymentView>,
}

/// One stack's part in a sync.
pub(super) struct DeploymentView {
    pub stack: String,
    pub outcome: Mark,
    pub from: Option<String>,
    pub to: Option<String>,
    pub took: Option<String>,
    pub why: Option<WhyView>,
    pub snapshot: Option<String>,
    pub changes: Vec<String>,
    pub steps: Vec<StepView>,
}

/// One line of a journal.
pub(super) struct StepView {
    pub at: When,
    pub after: String,
    pub word: String,
    pub detail: Option<String>,
}

impl SyncView {
    fn new(sync: &SyncRecord) -> Self {
        Self {
            id: sync.id.to_string(),
            outcome: Mark::outcome(sync.outcome),
            commit: sync.commit.as_deref().map(|id| CommitView::new(id, sync.about.as_ref())),
            trigger: sync.trigger.clone(),
            stated: sync.stated.as_ref().map(|stated| (stated.by.name.clone(), stated.reason.clone())),
            started: When::new(&sync.started),
            took: took(&sync.started, sync.ended.as_deref()),
            why: WhyView::new(sync.reason.as_ref()),
            deployments: sync.deployments.iter().map(DeploymentView::new).collect(),
        }
    }
}

impl DeploymentView {
    fn new(deployment: &DeploymentRecord) -> Self {
        let id = |id: &Option<String>| id.as_deref().map(|id| short(id).to_owned());
        let steps = deployment.steps.iter().map(|step| StepView {
            at: When::new(&step.at),
            after: seconds_between(&deployment.started, &step.at).map_or_else(String::new, span),
            word: step.event.replace('_', " "),
            detail: step.detail.clone(),
        });
        Self {
            stack: deployment.stack.clone(),
            outcome: Mark::outcome(deployment.outcome),
            from: id(&deployment.from),
            to: id(&deployment.to),
            // Without a step there was nothing that took any time.
            took: took(&deployment.started, deployment.ended.as_deref()).filter(|_| !deployment.steps.is_empty()),
            why: WhyView::new(deployment.reason.as_ref()),
            snapshot: deployment.snapshot.clone(),
            changes: deployment.changes.iter().map(change).collect(),
            steps: steps.collect(),
        }
    }
}

/// `api: recreate (image, env PORT)`.
fn change(change: &ServiceChange) -> String {
    let word = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let kind = word(serde_json::to_value(change.change).unwrap_or_default());
    let why = change.why.iter().map(|why| {
        let kind = word(serde_json::to_value(why.kind).unwrap_or_default());
        if kind == why.name { kind } else { format!("{kind} {}", why.name) }
    });
    let why = why.collect::<Vec<_>>().join(", ");
    if why.is_empty() { format!("{}: {kind}", change.service) } else { format!("{}: {kind} ({why})", change.service) }
}

fn took(started: &str, ended: Option<&str>) -> Option<String> {
    seconds_between(started, ended?).map(span)
}

/// `0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`.
fn span(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default().as_secs();
    match whole {
        0..10 => format!("{:.1} s", seconds.max(0.0)),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// The whole page.
#[derive(Template)]
#[template(path = "page.html")]
pub(super) struct PageView {
    server: String,
    version: String,
    headline: Mark,
    activity: Option<String>,
    notices: Vec<String>,
    url: String,
    branch: String,
    contact: Option<When>,
    accepted: Option<CommitView>,
    refused: Option<RefusedView>,
    suspended: Option<SuspendedView>,
    guarded: Option<GuardedView>,
    stacks: Vec<StackView>,
    syncs: Vec<SyncView>,
    outbox: OutboxStatus,
}

/// A plan that waits for a person.
pub(super) struct GuardedView {
    pub plan: String,
    pub removes: String,
}

/// A refusal with its remedy.
pub(super) struct RefusedView {
    pub short: String,
    pub message: String,
}

impl PageView {
    pub(super) fn new(status: &Status, history: &History) -> Self {
        let source = &status.source;
        Self {
            server: status.server.clone(),
            version: status.agent.version.clone(),
            headline: headline(status),
            activity: status.activity.as_ref().map(|activity| activity::line(activity, None)),
            notices: status.notices.clone(),
            url: source.url.clone(),
            branch: source.reference.strip_prefix("refs/heads/").unwrap_or(&source.reference).to_owned(),
            contact: source.contact.as_deref().map(When::new),
            accepted: source.accepted.as_deref().map(|id| CommitView::new(id, source.about.as_ref())),
            refused: source.refused.as_ref().map(|refused| RefusedView {
                short: short(&refused.commit).to_owned(),
                message: refused.message.clone(),
            }),
            suspended: status.suspended.as_ref().map(SuspendedView::new),
            guarded: status
                .guarded
                .as_ref()
                .filter(|guarded| guarded.confirmed.is_none())
                .map(|guarded| GuardedView { plan: guarded.plan.clone(), removes: guarded.removes.join(", ") }),
            stacks: status
                .stacks
                .iter()
                .map(|stack| StackView::new(stack, doing(&stack.name, status, history)))
                .collect(),
            syncs: history.syncs.iter().map(SyncView::new).collect(),
            outbox: status.outbox.clone(),
        }
    }
}

/// What the agent does for a stack now, if anything.
fn doing(stack: &str, status: &Status, history: &History) -> Option<DoingView> {
    let activity = status.activity.as_ref()?.stacks.iter().find(|doing| doing.stack == stack)?;
    let under_way = |d: &&DeploymentRecord| d.stack == stack && d.outcome.is_none();
    let deployment = history.syncs.iter().flat_map(|sync| &sync.deployments).find(under_way);
    let goes_back = deployment.is_some_and(|d| d.steps.iter().any(|step| step.event == "rollback_started"));
    Some(DoingView::new(activity, goes_back))
}

/// The one sentence that matters most.
fn headline(status: &Status) -> Mark {
    let all = status.stacks.len();
    let names = |wanted: &dyn Fn(&StackStatus) -> bool| -> Vec<&str> {
        status.stacks.iter().filter(|s| wanted(s)).map(|s| s.name.as_str()).collect()
    };
    let halted = names(&|s| s.state == StackState::Halted);
    let sick = names(&|s| matches!(s.health.as_str(), "unhealthy" | "stopped"));
    let deploying = names(&|s| s.state == StackState::Deploying);
    let behind = names(&|s| s.state != StackState::Steady);
    if !halted.is_empty() {
        return Mark::new(Tone::Bad, format!("A person must act: {}", some(&halted)));
    }
    if !status.engine.reachable {
        return Mark::new(Tone::Bad, "The engine does not answer");
    }
    if !deploying.is_empty() {
        return Mark::new(Tone::Busy, format!("Deploying {}", some(&deploying)));
    }
    if !sick.is_empty() {
        return Mark::new(Tone::Bad, format!("Not healthy: {}", some(&sick)));
    }
    if status.source.refused.is_some() {
        return Mark::new(Tone::Bad, "The newest commit is refused");
    }
    if status.source.stale {
        return Mark::new(Tone::Bad, "The repository has not answered for too long");
    }
    if status.suspended.is_some() {
        return Mark::new(Tone::Warn, "Every stack is suspended");
    }
    if !behind.is_empty() {
        return Mark::new(Tone::Warn, format!("Not as the newest commit wants: {}", some(&behind)));
    }
    match all {
        0 => Mark::new(Tone::Idle, "No stack was deployed yet"),
        1 => Mark::new(Tone::Good, "The stack runs as the newest commit wants"),
        _ => Mark::new(Tone::Good, format!("All {all} stacks run as the newest commit wants")),
    }
}

/// At most three names.
fn some(names: &[&str]) -> String {
    match names {
        [first, second, third, rest @ ..] if !rest.is_empty() => {
            format!("{first}, {second}, {third} and {} more", rest.len())
        }
        _ => names.join(", "),
    }
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
