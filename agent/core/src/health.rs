//! The health gate: container samples in, a verdict out. The clock is an argument, in milliseconds of any origin.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    model::{Model, Service},
    reason::{Code, Reason},
};

/// Restarts of one container after which it is called a crash loop.
const CRASH_LOOP_RESTARTS: u64 = 3;
/// The most by which time without an engine may move the deadline.
const UNKNOWN_CAP: Duration = Duration::from_secs(5 * 60);

/// The gate's times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatePolicy {
    /// How long everything must be good without a break.
    pub min_healthy_time: Duration,
    /// How long until everything must be good.
    pub healthy_deadline: Duration,
}

/// What a container is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Made, not started.
    Created,
    /// Up.
    Running,
    /// Ended; the engine will start it again.
    Restarting,
    /// Ended, with this exit code.
    Exited(i64),
    /// Frozen by somebody.
    Paused,
}

/// What the engine's healthcheck says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// There is no healthcheck.
    None,
    /// Not known yet.
    Starting,
    /// Good.
    Healthy,
    /// Bad, after all its retries.
    Unhealthy,
}

/// One container at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSample {
    /// Its service.
    pub service: String,
    /// The engine's id.
    pub id: String,
    /// Its name, for people.
    pub name: String,
    /// What it is doing.
    pub activity: Activity,
    /// What its healthcheck says.
    pub health: Health,
    /// How often the engine has restarted it.
    pub restarts: u64,
    /// Whether one of its processes was killed for want of memory.
    pub oom_killed: bool,
    /// The exit code with which its process ended last, if that is known.
    pub exit_code: Option<i64>,
    /// What a probe of its service found wrong.
    pub probe: Option<String>,
}

/// What is expected of one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// How many containers.
    pub replicas: u64,
    /// Whether ending with exit code 0 is good.
    pub may_end: bool,
    /// Whether something waits for it to end (`service_completed_successfully`), so that running is not enough.
    pub must_end: bool,
}

/// What is expected of each service.
pub type Expectations = BTreeMap<String, Expected>;

/// Reads from a model what its services should look like.
pub fn expectations(model: &Model) -> Expectations {
    let services = model.services();
    let awaited: Vec<&str> = services
        .values()
        .flat_map(Service::depends_on)
        .filter(|(_, condition)| *condition == "service_completed_successfully")
        .map(|(name, _)| name)
        .collect();
    services
        .iter()
        .map(|(name, service)| {
            let value = service.value();
            let replicas = value["scale"].as_u64().or_else(|| value["deploy"]["replicas"].as_u64()).unwrap_or(1);
            let must_end = awaited.contains(name);
            // What has a healthcheck of its own is meant to answer it, so it may not end unless something waits for that.
            let ends = (service.restart() == "no" || service.restart().starts_with("on-failure"))
                && !service.has_healthcheck();
            ((*name).to_owned(), Expected { replicas, may_end: must_end || ends, must_end })
        })
        .collect()
}

/// What the gate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Not decided; what it waits for, for people.
    Waiting(String),
    /// Everything was good for long enough.
    Passed,
    /// It will not become good.
    Failed(Failure),
}

/// Why a gate failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What happened, without log lines.
    pub reason: Reason,
    /// The container whose log tells more.
    pub container: Option<String>,
}

/// A gate at work.
#[derive(Debug, Clone)]
pub struct Gate {
    known: BTreeSet<String>,
    policy: GatePolicy,
    expected: Expectations,
    deadline_ms: u64,
    good_since: Option<u64>,
    unknown_since: Option<u64>,
    unknown_total: Duration,
    courses: BTreeMap<String, Course>,
    script: Option<String>,
    waiting_for: String,
}

/// What became of one container since it was first seen.
#[derive(Debug, Clone)]
struct Course {
    first_restarts: u64,
    last_restarts: u64,
    exit_code: Option<i64>,
}

impl Gate {
    /// Opens a gate at `now_ms`. `known` are containers from before the deployment: their earlier restarts do not
    /// count.
    pub fn new(policy: GatePolicy, expected: Expectations, known: BTreeSet<String>, now_ms: u64) -> Self {
        Self {
            known,
            policy,
            expected,
            deadline_ms: now_ms.saturating_add(millis(policy.healthy_deadline)),
            good_since: None,
            unknown_since: None,
            unknown_total: Duration::ZERO,
            courses: BTreeMap::new(),
            script: None,
            waiting_for: "its containers".to_owned(),
        }
    }

    /// Takes services out of what is expected.
    pub fn forget(&mut self, services: &BTreeSet<String>) {
        self.expected.retain(|name, _| !services.contains(name));
    }

    /// What the stack's own health-check script has against it now; `None`: nothing, or there is no script.
    pub fn script_says(&mut self, complaint: Option<String>) {
        self.script = complaint;
    }

    /// The engine could not be asked: unknown is not unhealthy, so clocks stand still, up to a cap.
    pub fn unknown(&mut self, now_ms: u64) -> Verdict {
        self.unknown_since.get_or_insert(now_ms);
        self.good_since = None;
        "the engine to answer".clone_into(&mut self.waiting_for);
        self.verdict(now_ms)
    }

    /// Looks at all containers of the project at `now_ms`.
    pub fn observe(&mut self, now_ms: u64, containers: &[ContainerSample]) -> Verdict {
        self.end_unknown(now_ms);
        match self.judge(containers) {
            Judgement::Bad(failure) => return Verdict::Failed(failure),
            Judgement::Good => {
                self.good_since.get_or_insert(now_ms);
                "the stable time".clone_into(&mut self.waiting_for);
            }
            Judgement::NotYet(what) => {
                self.good_since = None;
                self.waiting_for = what;
            }
        }
        self.verdict(now_ms)
    }

    /// Since when everything has been good; `None` if it is not.
    pub fn good_since_ms(&self) -> Option<u64> {
        self.good_since
    }

    /// When time alone can change what the gate says, if the containers stay as they were at the last look.
    pub fn next_change_ms(&self) -> u64 {
        match (self.good_since, self.unknown_since) {
            (Some(since), _) => since.saturating_add(millis(self.policy.min_healthy_time)),
            (None, None) => self.deadline_ms,
            (None, Some(since)) => {
                let left = UNKNOWN_CAP.saturating_sub(self.unknown_total);
                self.deadline_ms.max(since).saturating_add(millis(left))
            }
        }
    }

    fn end_unknown(&mut self, now_ms: u64) {
        if let Some(since) = self.unknown_since.take() {
            let pause = Duration::from_millis(now_ms.saturating_sub(since));
            let granted = pause.min(UNKNOWN_CAP.saturating_sub(self.unknown_total));
            self.unknown_total += granted;
            self.deadline_ms = self.deadline_ms.saturating_add(millis(granted));
        }
    }

    fn verdict(&self, now_ms: u64) -> Verdict {
        if let Some(since) = self.good_since
            && now_ms.saturating_sub(since) >= millis(self.policy.min_healthy_time)
        {
            return Verdict::Passed;
        }
        let granted = self.unknown_since.map_or(0, |since| {
            millis(
                Duration::from_millis(now_ms.saturating_sub(since)).min(UNKNOWN_CAP.saturating_sub(self.unknown_total)),
            )
        });
        if now_ms >= self.deadline_ms.saturating_add(granted) && self.good_since.is_none() {
            let message = format!(
                "not healthy after {} s: still waiting for {}",
                self.policy.healthy_deadline.as_secs(),
                self.waiting_for
            );
            return Verdict::Failed(Failure { reason: Reason::new(Code::GateDeadline, message), container: None });
        }
        Verdict::Waiting(self.waiting_for.clone())
    }

    fn judge(&mut self, containers: &[ContainerSample]) -> Judgement {
        let mut waiting = None;
        for sample in containers {
            let Some(expected) = self.expected.get(&sample.service).copied() else { continue };
            match self.judge_one(sample, expected) {
                Judgement::Bad(failure) => return Judgement::Bad(failure),
                Judgement::NotYet(what) => _ = waiting.get_or_insert(what),
                Judgement::Good => {}
            }
        }
        for (service, expected) in &self.expected {
            let count = containers.iter().filter(|c| c.service == *service).count() as u64;
            if count < expected.replicas {
                waiting.get_or_insert(format!("{service} ({count} of {} containers)", expected.replicas));
            }
        }
        // The script may look at everything: what is known to be missing is told first.
        waiting.or_else(|| self.script.clone()).map_or(Judgement::Good, Judgement::NotYet)
    }

    fn judge_one(&mut self, sample: &ContainerSample, expected: Expected) -> Judgement {
        // A container that this deployment made has none of its restarts from before.
        let first_restarts = if self.known.contains(&sample.id) { sample.restarts } else { 0 };
        let begin = Course { first_restarts, last_restarts: sample.restarts, exit_code: None };
        let course = self.courses.entry(sample.id.clone()).or_insert(begin);
        let restarted = sample.restarts > course.last_restarts;
        course.last_restarts = sample.restarts;
        course.exit_code = sample.exit_code.or(course.exit_code);
        let restarts = sample.restarts.saturating_sub(course.first_restarts);
        let exit_code = course.exit_code;
        let bad = |code, message: String| {
            Judgement::Bad(Failure { reason: Reason::new(code, message), container: Some(sample.id.clone()) })
        };
        let name = &sample.name;
        if sample.oom_killed {
            return bad(Code::GateOom, format!("{name} was killed for want of memory"));
        }
        if restarts >= CRASH_LOOP_RESTARTS {
            let code = exit_code.map(|code| format!(", last after exit code {code}")).unwrap_or_default();
            let message = format!("{name} is in a crash loop: {restarts} restarts since it was started{code}");
            return bad(Code::GateExited, message);
        }
        // The engine calls a container unhealthy as soon as it has ended, whatever its healthcheck said before.
        if sample.activity == Activity::Running && sample.health == Health::Unhealthy {
            return bad(Code::GateUnhealthy, format!("{name} became unhealthy"));
        }
        match sample.activity {
            Activity::Exited(0) if expected.may_end => Judgement::Good,
            Activity::Exited(code) => bad(Code::GateExited, format!("{name} exited with code {code}")),
            Activity::Created => Judgement::NotYet(format!("{name} to start")),
            Activity::Restarting => Judgement::NotYet(format!("{name}, which is restarting")),
            Activity::Paused => Judgement::NotYet(format!("{name}, which is paused")),
            Activity::Running if restarted => Judgement::NotYet(format!("{name}, which restarted")),
            Activity::Running if sample.health == Health::Starting => {
                Judgement::NotYet(format!("{name} to become healthy"))
            }
            Activity::Running if expected.must_end => Judgement::NotYet(format!("{name} to end")),
            Activity::Running => match &sample.probe {
                Some(complaint) => Judgement::NotYet(format!("{name}, {complaint}")),
                None => Judgement::Good,
            },
        }
    }
}

enum Judgement {
    Good,
    NotYet(String),
    Bad(Failure),
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
