//! What the agent is doing, for the status, for systemd and for a terminal; and whether each part of it keeps within
//! the time that it may take, for the watchdog.
//!
//! Every part is bounded by a deadline of its own (a pull, a backup, a gate); what is given here is that deadline with
//! room to spare. A part that passes it hangs in a way that nobody foresaw, and only a restart helps.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use evenkeel_core::outcome::{Activity, StackActivity};
use jiff::Timestamp;
use tokio::sync::watch;

use super::now_ms;
use crate::store::instant;

/// How long the agent may take between two phases: for its store, and for small questions to the engine.
const BETWEEN: Duration = Duration::from_secs(15 * 60);
/// How long a loop that waits for something to do may stay silent.
const IDLE: Duration = Duration::from_secs(60);
/// How often a loop that waits should say so.
pub const IDLE_BEAT: Duration = Duration::from_secs(20);

/// Follows what the agent is doing. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tracker {
    now: Arc<watch::Sender<Now>>,
}

/// What the agent is doing at one moment.
#[derive(Debug, Clone)]
pub struct Now {
    sync: Option<Syncing>,
    parts: Vec<Part>,
    /// The last sync's end, or the start of the process, in milliseconds since 1970.
    idle_since_ms: i64,
    /// Until when nothing need be heard while no part is under way.
    quiet_until: Instant,
    next_part: u64,
}

#[derive(Debug, Clone)]
struct Syncing {
    commit: Option<String>,
    since_ms: i64,
}

#[derive(Debug, Clone)]
struct Part {
    number: u64,
    stack: Option<String>,
    phase: &'static str,
    since_ms: i64,
    detail: Option<String>,
    allowed: Duration,
    until: Instant,
}

impl Default for Tracker {
    fn default() -> Self {
        let now = Now {
            sync: None,
            parts: Vec::new(),
            idle_since_ms: now_ms(),
            quiet_until: Instant::now() + BETWEEN,
            next_part: 0,
        };
        Self { now: Arc::new(watch::Sender::new(now)) }
    }
}

impl Tracker {
    /// A sync begins; it ends when the guard is dropped.
    pub fn sync(&self) -> SyncGuard {
        self.now.send_modify(|now| now.sync = Some(Syncing { commit: None, since_ms: now_ms() }));
        SyncGuard(self.clone())
    }

    /// The sync that runs is about this commit.
    pub fn commit(&self, commit: &str) {
        self.now.send_modify(|now| {
            if let Some(sync) = &mut now.sync {
                sync.commit = Some(commit.to_owned());
            }
        });
    }

    /// A phase begins, of one stack or of the whole, which may take `allowed`; it ends when the guard is dropped.
    pub fn phase(&self, stack: Option<&str>, phase: &'static str, allowed: Duration) -> PhaseGuard {
        let mut number = 0;
        self.now.send_modify(|now| {
            number = now.next_part;
            now.next_part += 1;
            now.parts.push(Part {
                number,
                stack: stack.map(str::to_owned),
                phase,
                since_ms: now_ms(),
                detail: None,
                allowed,
                until: Instant::now() + allowed,
            });
        });
        PhaseGuard { tracker: self.clone(), number }
    }

    /// The phase of a stack is at work on `detail`, and has its whole time again: for work that is bounded by what it
    /// sees and not by a clock.
    pub fn at_work(&self, stack: &str, detail: &str) {
        self.now.send_if_modified(|now| {
            let Some(part) = now.parts.iter_mut().rfind(|p| p.stack.as_deref() == Some(stack)) else { return false };
            part.until = Instant::now() + part.allowed;
            let is_news = part.detail.as_deref() != Some(detail);
            part.detail = Some(detail.to_owned());
            is_news
        });
    }

    /// The loop that waits for something to do is alive.
    pub fn waits(&self) {
        self.now.send_if_modified(|now| {
            now.quiet_until = Instant::now() + IDLE;
            false
        });
    }

    /// Whether at this moment every part keeps within its time.
    pub fn is_alive(&self, at: Instant) -> bool {
        let now = self.now.borrow();
        now.parts.iter().all(|part| at < part.until) && (!now.parts.is_empty() || at < now.quiet_until)
    }

    /// What it does now, and every change of it.
    pub fn subscribe(&self) -> watch::Receiver<Now> {
        self.now.subscribe()
    }

    /// What it does now; `None` while it waits for something to do.
    pub fn activity(&self) -> Option<Activity> {
        self.now.borrow().activity()
    }
}

impl Now {
    /// What it does; `None` while it waits for something to do.
    pub fn activity(&self) -> Option<Activity> {
        let sync = self.sync.as_ref()?;
        let of_stacks = self.parts.iter().filter_map(|part| {
            Some(StackActivity {
                stack: part.stack.clone()?,
                phase: part.phase.to_owned(),
                since: instant(part.since_ms),
                detail: part.detail.clone(),
            })
        });
        let whole = self.parts.iter().find(|part| part.stack.is_none());
        Some(Activity {
            commit: sync.commit.clone(),
            since: instant(sync.since_ms),
            phase: whole.map(|part| part.phase.to_owned()),
            stacks: of_stacks.collect(),
        })
    }

    /// One line for people, also while it waits.
    pub fn line(&self) -> String {
        match self.activity() {
            Some(activity) => line(&activity, None),
            None => format!("idle since {}", instant(self.idle_since_ms)),
        }
    }
}

/// Ends a sync.
#[derive(Debug)]
pub struct SyncGuard(Tracker);

impl Drop for SyncGuard {
    fn drop(&mut self) {
        self.0.now.send_modify(|now| {
            now.sync = None;
            now.idle_since_ms = now_ms();
            now.quiet_until = Instant::now() + BETWEEN;
        });
    }
}

/// Ends a phase.
#[derive(Debug)]
pub struct PhaseGuard {
    tracker: Tracker,
    number: u64,
}

impl Drop for PhaseGuard {
    fn drop(&mut self) {
        self.tracker.now.send_modify(|now| {
            now.parts.retain(|part| part.number != self.number);
            now.quiet_until = Instant::now() + BETWEEN;
        });
    }
}

/// An activity in one line; with `now`, each part also says how long it has been at work.
pub fn line(activity: &Activity, now: Option<Timestamp>) -> String {
    let commit = activity.commit.as_deref().map_or("", |c| c.get(..12).unwrap_or(c));
    let for_long = |since: &str| -> String {
        let seconds = now.zip(since.parse::<Timestamp>().ok()).map(|(now, then)| now.as_second() - then.as_second());
        seconds.filter(|s| *s > 0).map(|s| format!(" ({s} s)")).unwrap_or_default()
    };
    let stacks: Vec<String> = activity
        .stacks
        .iter()
        .map(|at| {
            let detail = at.detail.as_deref().map(|d| format!(", {d}")).unwrap_or_default();
            format!("{} {}{detail}{}", doing(&at.phase), at.stack, for_long(&at.since))
        })
        .collect();
    let what = match &activity.phase {
        Some(phase) => doing(phase).to_owned() + &for_long(&activity.since),
        None if stacks.is_empty() => "at work".to_owned() + &for_long(&activity.since),
        None => stacks.join("; "),
    };
    if commit.is_empty() { format!("syncing: {what}") } else { format!("syncing {commit}: {what}") }
}

/// A phase as people say it.
fn doing(phase: &str) -> &str {
    match phase {
        "fetch" => "asking the repository",
        "trust" => "verifying signatures",
        "render" => "rendering the stacks",
        "observe" => "looking at what runs",
        "stage" => "staging",
        "backup" => "backing up",
        "apply" => "applying",
        "gate" => "gating",
        "retire" => "removing the old containers of",
        "rollback" => "rolling back",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn says_what_is_done_for_which_stack_and_then_that_it_is_idle() {
        let tracker = Tracker::default();
        let said = || tracker.subscribe().borrow().line();
        assert!(said().starts_with("idle since 20"), "{}", said());
        let sync = tracker.sync();
        let fetch = tracker.phase(None, "fetch", MINUTE);
        assert_eq!(said(), "syncing: asking the repository");
        drop(fetch);
        tracker.commit("0123456789abcdef0123456789abcdef01234567");
        let web = tracker.phase(Some("web"), "gate", MINUTE);
        let api = tracker.phase(Some("api"), "stage", MINUTE);
        tracker.at_work("web", "waiting for app");
        assert_eq!(said(), "syncing 0123456789ab: gating web, waiting for app; staging api");
        drop((web, api));
        assert_eq!(said(), "syncing 0123456789ab: at work");
        drop(sync);
        assert_eq!(tracker.activity(), None);
    }

    #[test]
    fn a_long_phase_within_its_time_is_alive_and_one_beyond_it_is_not() {
        let tracker = Tracker::default();
        let began = Instant::now();
        let pull = tracker.phase(Some("web"), "stage", 60 * MINUTE);
        assert!(tracker.is_alive(began + 59 * MINUTE));
        assert!(!tracker.is_alive(began + 61 * MINUTE), "the pull took longer than it may");
        let gate = tracker.phase(Some("api"), "gate", 10 * MINUTE);
        assert!(!tracker.is_alive(began + 11 * MINUTE), "one part that is stuck is enough");
        drop(gate);
        assert!(tracker.is_alive(began + 11 * MINUTE));
        drop(pull);
        assert!(tracker.is_alive(began + 14 * MINUTE));
        assert!(!tracker.is_alive(began + 16 * MINUTE), "nothing may take that long between two phases");
    }

    #[test]
    fn a_gate_that_looks_has_its_time_again() {
        let tracker = Tracker::default();
        let _gate = tracker.phase(Some("api"), "gate", 10 * MINUTE);
        let until = tracker.now.borrow().parts[0].until;
        std::thread::sleep(Duration::from_millis(5));
        tracker.at_work("api", "waiting for app");
        assert!(tracker.is_alive(until), "it was looking meanwhile");
        assert!(tracker.now.borrow().parts[0].until > until);
    }

    #[test]
    fn a_loop_that_waits_must_say_so() {
        let tracker = Tracker::default();
        tracker.waits();
        assert!(tracker.is_alive(Instant::now() + 2 * IDLE_BEAT));
        assert!(!tracker.is_alive(Instant::now() + 2 * MINUTE));
    }
}
