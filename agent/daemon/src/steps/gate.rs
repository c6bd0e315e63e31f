//! The gate at work: the engine's events and inspections feed core's pure verdict.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use evenkeel_core::{
    health::{Activity, ContainerSample, Failure, Gate, GatePolicy, Health, Verdict, expectations},
    journal::Seen,
    reason::{Code, Reason},
    release::Release,
};
use futures_util::{FutureExt as _, StreamExt as _, stream::BoxStream};
use tokio::time::{Instant, sleep};

use super::{
    masked::{shown_check, shown_lines},
    probe::Prober,
};
use crate::{
    engine::{Check, Happening, Tick},
    host::{Host, now_ms},
};

/// How often a project is looked at when no event says that something happened.
const LOOK: Duration = Duration::from_secs(1);
/// The least time between two looks.
const LEAST_PAUSE: Duration = Duration::from_millis(5);
/// Events come in flocks; this long they are gathered.
const GATHER: Duration = Duration::from_millis(50);
/// How many lines of a failed container's log are shown.
const LOG_LINES: u32 = 5;

/// How a watch ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// Everything was good for long enough; with what was seen last.
    Passed(Vec<Seen>),
    /// It will not become good.
    Failed(Reason),
    /// The agent was asked to stop; the journal stays where it is.
    Stopped,
}

/// What stood before.
#[derive(Debug, Clone, Copy)]
pub struct Stood<'a> {
    /// The containers that stood before the apply or rollback.
    pub before: &'a [String],
    /// The containers that were not well before the deployment touched anything.
    pub ailing: &'a [String],
    /// Whether the last good release is put back. It is no better than it was: what ailed before may ail again.
    pub back: bool,
    /// Services whose new containers were started beside those of `before`, which are left out: they are not on trial.
    pub beside: &'a [String],
    /// Services whose containers got a signal: what their healthchecks said before is no word on what they do now.
    pub signalled: &'a BTreeSet<String>,
    /// When the deployment began, in milliseconds since 1970: what befell new containers since then counts.
    pub since_ms: i64,
}

impl<'a> Stood<'a> {
    /// What only tells new containers from old ones.
    fn mere(before: &'a [String]) -> Self {
        static NONE: BTreeSet<String> = BTreeSet::new();
        Self { before, ailing: &[], back: false, beside: &[], signalled: &NONE, since_ms: now_ms() }
    }
}

/// Watches a release until the verdict. Containers that nobody touched and that had ended before are not held against it.
pub async fn watch(host: &Host, release: &Release, policy: GatePolicy, stood: Stood<'_>) -> Watched {
    let mut eyes = Eyes::open(host, release, policy, stood).probing();
    loop {
        let verdict = eyes.look().await;
        match verdict {
            Verdict::Passed if !eyes.has_answers() => {
                host.activity.at_work(release.stack.as_str(), "waiting for its probes to answer once more");
            }
            Verdict::Passed => return Watched::Passed(eyes.seen),
            Verdict::Failed(failure) => return Watched::Failed(explain(host, release, failure).await),
            Verdict::Waiting(what) => {
                tracing::debug!(stack = %release.stack, "waiting for {what}");
                host.activity.at_work(release.stack.as_str(), &format!("waiting for {what}"));
            }
        }
        tokio::select! {
            () = eyes.blink() => {}
            () = host.stop.cancelled() => return Watched::Stopped,
        }
    }
}

/// Ends when a container that was made since `before` fails. Never ends otherwise.
pub async fn first_failure(host: &Host, release: &Release, before: &[String]) -> Reason {
    let mut eyes = Eyes::open(host, release, never(), Stood::mere(before));
    eyes.only_new = true;
    loop {
        if let Verdict::Failed(failure) = eyes.look().await {
            return explain(host, release, failure).await;
        }
        eyes.blink().await;
    }
}

/// Why a release fails right now, if one of its new containers does.
pub async fn failure_now(host: &Host, release: &Release, before: &[String]) -> Option<Reason> {
    let mut eyes = Eyes::open(host, release, never(), Stood::mere(before));
    eyes.only_new = true;
    match eyes.look().await {
        Verdict::Failed(failure) => Some(explain(host, release, failure).await),
        Verdict::Waiting(_) | Verdict::Passed => None,
    }
}

/// What is there now of a release, for the record.
pub async fn seen_now(host: &Host, release: &Release) -> Vec<Seen> {
    let services = release.model.services();
    let mut samples = host.engine.samples(&release.project).await.unwrap_or_default();
    samples.retain(|(sample, _)| services.contains_key(sample.service.as_str()));
    samples.iter().map(|(sample, _)| seen(sample, &[])).collect()
}

/// Waits until nothing of a release is left: the gate of a removal. What else a person started in its project may stay, and
/// what `stood` before, if it is only put back.
pub async fn absent(host: &Host, release: &Release, stood: &[String], patience: Duration) -> Watched {
    let services = release.model.services();
    let until = Instant::now() + patience;
    loop {
        let left = match host.engine.project(&release.project).await {
            Ok(mut containers) => {
                containers.retain(|c| services.contains_key(c.service.as_str()) && !stood.contains(&c.id));
                if containers.is_empty() {
                    return Watched::Passed(Vec::new());
                }
                containers.iter().map(|c| c.name.clone()).collect::<Vec<_>>().join(", ")
            }
            Err(error) => error.to_string(),
        };
        if Instant::now() >= until {
            return Watched::Failed(Reason::new(Code::GateDeadline, format!("still there after the removal: {left}")));
        }
        host.activity.at_work(release.stack.as_str(), &format!("waiting until these are gone: {left}"));
        tokio::select! {
            () = sleep(LOOK) => {}
            () = host.stop.cancelled() => return Watched::Stopped,
        }
    }
}

/// A policy that neither passes nor gives up: only failures count.
fn never() -> GatePolicy {
    let long = Duration::from_secs(365 * 24 * 3600);
    GatePolicy { min_healthy_time: long, healthy_deadline: long }
}

/// A gate with its source of samples.
struct Eyes<'a> {
    host: &'a Host,
    began: Instant,
    release: &'a Release,
    gate: Gate,
    stood: Stood<'a>,
    only_new: bool,
    has_set_aside: bool,
    events: Option<BoxStream<'static, Happening>>,
    /// When the last event was, by the engine's clock; what comes after it is asked for.
    heard_ms: i64,
    out_of_memory: BTreeSet<String>,
    exit_codes: BTreeMap<String, i64>,
    prober: Option<Prober>,
    seen: Vec<Seen>,
    /// When they opened, by the clock that the engine has too.
    opened_ms: i64,
    /// Of containers that got a signal: when their healthchecks began.
    checks: BTreeMap<String, BTreeSet<Option<i64>>>,
}

impl<'a> Eyes<'a> {
    fn open(host: &'a Host, release: &'a Release, policy: GatePolicy, stood: Stood<'a>) -> Self {
        let known = stood.before.iter().cloned().collect();
        let gate = Gate::new(policy, expectations(&release.model), known, 0);
        let began = Instant::now();
        Self {
            host,
            began,
            release,
            gate,
            stood,
            only_new: false,
            has_set_aside: false,
            events: None,
            heard_ms: stood.since_ms,
            out_of_memory: BTreeSet::new(),
            exit_codes: BTreeMap::new(),
            prober: None,
            seen: Vec::new(),
            opened_ms: now_ms(),
            checks: BTreeMap::new(),
        }
    }

    /// Has the probes asked, too. On the way back the script counts only if all was well before: it looks at the whole.
    fn probing(mut self) -> Self {
        let with_script = !self.stood.back || self.stood.ailing.is_empty();
        self.prober = Some(Prober::new(self.host, self.release, with_script));
        self
    }

    /// Milliseconds since the eyes opened: the gate's clock.
    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    async fn look(&mut self) -> Verdict {
        if self.events.is_none() {
            self.events = self.host.engine.events(&self.release.project, Some(self.heard_ms)).ok();
        }
        let samples = self.host.engine.samples(&self.release.project).await;
        let now = self.now_ms();
        match samples {
            Ok(samples) => {
                let samples = samples.into_iter().map(|(sample, check)| self.fresh(sample, check)).collect();
                let mut samples = self.chosen(samples);
                for sample in &mut samples {
                    sample.oom_killed |= self.out_of_memory.contains(&sample.id);
                    sample.exit_code = sample.exit_code.or(self.exit_codes.get(&sample.id).copied());
                }
                if let Some(prober) = self.prober.as_mut() {
                    prober.look(&mut samples);
                    self.gate.script_says(prober.script_said());
                }
                self.seen = samples.iter().map(|sample| seen(sample, self.stood.before)).collect();
                self.gate.observe(now, &samples)
            }
            Err(error) => {
                tracing::warn!(stack = %self.release.stack, %error, "the engine cannot be asked; clocks stand still");
                self.events = None;
                self.gate.unknown(now)
            }
        }
    }

    /// A container that got a signal is as good as its first healthcheck that began after it says. If the clock was set back
    /// meanwhile, the second one that comes counts.
    fn fresh(&mut self, sample: ContainerSample, check: Option<Check>) -> ContainerSample {
        if !self.stood.signalled.contains(&sample.service) || !self.stood.before.contains(&sample.id) {
            return sample;
        }
        let checks = self.checks.entry(sample.id.clone()).or_default();
        checks.insert(check.map(|check| check.began_ms));
        let counts = checks.len() > 2 || check.is_some_and(|check| check.began_ms >= self.opened_ms);
        ContainerSample { health: after_signal(sample.health, check.filter(|_| counts)), ..sample }
    }

    /// Whether the probes have answered since all is well. A round that is under way may be about to say otherwise.
    fn has_answers(&mut self) -> bool {
        let since = self.began + Duration::from_millis(self.gate.good_since_ms().unwrap_or_default());
        self.prober.as_mut().is_none_or(|prober| prober.has_asked_since(since))
    }

    /// Leaves out what this deployment has not touched and a person had stopped before, and what is about to go.
    fn chosen(&mut self, mut samples: Vec<ContainerSample>) -> Vec<ContainerSample> {
        let Stood { before, beside, .. } = self.stood;
        samples.retain(|s| !before.contains(&s.id) || !(self.only_new || beside.contains(&s.service)));
        if self.only_new {
            return samples;
        }
        if !self.has_set_aside {
            let excused = |s: &&ContainerSample| {
                self.stood.ailing.contains(&s.id)
                    && (self.stood.back || matches!(s.activity, Activity::Exited(_) | Activity::Paused))
            };
            let services: BTreeSet<String> = samples.iter().filter(excused).map(|s| s.service.clone()).collect();
            self.gate.forget(&services);
            self.has_set_aside = true;
        }
        samples
    }

    /// Waits for an event, for the next regular look, or until time alone decides.
    async fn blink(&mut self) {
        let decided_in = Duration::from_millis(self.gate.next_change_ms().saturating_sub(self.now_ms()));
        let is_asking = self.prober.as_ref().is_some_and(Prober::is_asking);
        // When the time is over, what is asked decides.
        let pause = if decided_in.is_zero() && is_asking { LOOK } else { LOOK.min(decided_in).max(LEAST_PAUSE) };
        let answered = async {
            match self.prober.as_mut() {
                Some(prober) => prober.answered().await,
                None => std::future::pending().await,
            }
        };
        let Some(events) = self.events.as_mut() else {
            tokio::select! {
                () = sleep(pause) => {}
                () = answered => {}
            }
            return;
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = answered => {}
            tick = events.next() => {
                sleep(GATHER).await;
                let mut tick = Some(tick);
                while let Some(happened) = tick {
                    let Some(happened) = happened else {
                        self.events = None; // the engine hung up; the next look asks for a new stream
                        return;
                    };
                    self.heard_ms = self.heard_ms.max(happened.at_ms);
                    match happened.tick {
                        // What befell an old container before this began is not the deployment's.
                        Tick::OutOfMemory(container)
                            if happened.at_ms < self.opened_ms && self.stood.before.contains(&container) => {}
                        Tick::OutOfMemory(container) => _ = self.out_of_memory.insert(container),
                        Tick::Died(container, code) => _ = self.exit_codes.insert(container, code),
                        Tick::Other => {}
                    }
                    tick = events.next().now_or_never();
                }
            }
        }
    }
}

/// What the health of a container that got a signal is worth, with the last of its healthchecks that counts. The engine says
/// `healthy` until enough of them have failed.
fn after_signal(health: Health, check: Option<Check>) -> Health {
    match (health, check) {
        (Health::None, _) => Health::None,
        (_, None) => Health::Starting,
        (Health::Healthy, Some(check)) if !check.is_good => Health::Starting,
        (health, Some(_)) => health,
    }
}

/// A container as the evidence has it. A restart that it got over is part of it.
fn seen(sample: &ContainerSample, before: &[String]) -> Seen {
    let state = match (sample.activity, sample.health) {
        (Activity::Running, Health::Healthy) => "healthy".to_owned(),
        (Activity::Running, Health::Unhealthy) => "unhealthy".to_owned(),
        (Activity::Running, Health::Starting) => "starting".to_owned(),
        (Activity::Running, Health::None) => "running".to_owned(),
        (Activity::Exited(code), _) => format!("exited {code}"),
        (Activity::Created, _) => "created".to_owned(),
        (Activity::Restarting, _) => "restarting".to_owned(),
        (Activity::Paused, _) => "paused".to_owned(),
    };
    let state = match sample.restarts {
        0 => state,
        _ if before.contains(&sample.id) => state,
        1 => format!("{state} after a restart"),
        restarts => format!("{state} after {restarts} restarts"),
    };
    Seen { container: sample.name.clone(), state }
}

/// Adds what the failed container's healthcheck said and the end of its log, without values that may be secret.
async fn explain(host: &Host, release: &Release, failure: Failure) -> Reason {
    let Some(container) = failure.container else { return failure.reason };
    let mut message = failure.reason.message;
    if failure.reason.code == Code::GateUnhealthy
        && let Some(said) = host.engine.healthcheck_said(&container).await
        && let Some(said) = shown_check(&release.model, &release.secret_env, &said)
    {
        message = format!("{message}; its healthcheck says: {said}");
    }
    let log = host.engine.log_tail(&container, LOG_LINES).await;
    let lines = shown_lines(&release.model, &release.secret_env, &log);
    if !lines.is_empty() {
        message = format!("{message}; its log ends: {}", lines.join(" | "));
    }
    Reason { message, ..failure.reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_signal_only_a_healthcheck_that_began_after_it_and_ended_well_makes_healthy() {
        let check = |is_good| Some(Check { began_ms: 1, is_good });
        for (health, check, worth) in [
            (Health::Healthy, None, Health::Starting),
            (Health::Unhealthy, None, Health::Starting),
            (Health::Healthy, check(false), Health::Starting),
            (Health::Healthy, check(true), Health::Healthy),
            (Health::Unhealthy, check(false), Health::Unhealthy),
            (Health::None, None, Health::None),
        ] {
            assert_eq!(after_signal(health, check), worth, "{health:?} {check:?}");
        }
    }
}
