//! A shooting range: an agent that is killed with SIGKILL wherever its own journal or its own requests to the engine say
//! that it got somewhere, and is then started again.
//!
//! From outside, as a power cut would come: the range reads the agent's store beside it and stands on its way to the
//! engine. Where it kills is what a run without a kill went through, so a new step is killed at without anybody thinking
//! of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::mpsc::Receiver,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    docker::docker,
    journal::Journal,
    receivers::{socket::Socket, webhook::Webhook},
    wait::{PATIENCE, seconds, wait_until},
    world::World,
};
use evenkeel_core::journal::Event;

/// How often the store is looked at.
const LOOK: Duration = Duration::from_micros(300);

/// Where an agent is killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aim {
    /// Nowhere: it goes on undisturbed.
    Nowhere,
    /// So long after each of these events of the journal in turn, with a start in between.
    Steps(Vec<String>, Duration),
    /// As soon as the engine was asked for its so-manieth change.
    Change(usize),
}

/// Something that an agent does, again and again.
pub trait Operation {
    /// What is remembered from its beginning to its end.
    type Begun;

    /// Makes all ready, says [`Range::mark`], and sets it going with an agent that runs.
    fn begin(&mut self, range: &mut Range) -> Self::Begun;

    /// Waits for the end, and sees that all is right. Panics with `told`, which says where the agent was killed, if not.
    fn check(&mut self, range: &mut Range, begun: Self::Begun, told: &str);
}

/// An agent to be killed, and what it should be then.
#[derive(Debug)]
pub struct Range {
    /// The server.
    pub world: World,
    /// Is told of everything.
    pub webhook: Webhook,
    /// The way to the engine.
    pub way: Socket,
    /// Where the agent is killed in this round, and who tells of requests.
    aim: Aim,
    wire: Option<Receiver<()>>,
    /// The last deployment before what is looked at.
    since: i64,
    /// The last sync before the agent was started.
    before_start: i64,
    /// How often the agent was killed at which state.
    killed_at: BTreeMap<String, u32>,
    began: Instant,
}

impl Range {
    /// A range without any stack. What is deployed is settled quickly.
    #[track_caller]
    pub fn new() -> Self {
        let mut world = World::new();
        let webhook = Webhook::start("the-key");
        let sink = webhook.sink(&world.config);
        world.report_to(&[sink]);
        let way = Socket::to_engine(&world.folder().join("engine.sock"));
        world.config.set("engine", &format!("{{ socket: \"{}\", parallel: 2 }}", way.url()));
        world.config.set("gate", "{ min_healthy_time: 200ms, healthy_deadline: 20s, progress_deadline: 60s }");
        let killed_at = BTreeMap::new();
        Self {
            world,
            webhook,
            way,
            aim: Aim::Nowhere,
            wire: None,
            since: 0,
            before_start: 0,
            killed_at,
            began: Instant::now(),
        }
    }

    /// The agent's journal, as it is on disk.
    #[track_caller]
    fn journal(&self) -> Journal {
        Journal::open(&self.world.server().join("state"))
    }

    /// A number that the store answers with.
    #[track_caller]
    pub fn count(&self, query: &str) -> i64 {
        self.journal().number(query)
    }

    /// The events that were journalled since the round began, in order.
    #[track_caller]
    pub fn events(&self) -> Vec<String> {
        self.journal().events(self.since)
    }

    /// Starts the agent.
    #[track_caller]
    pub fn start(&mut self) {
        self.before_start = self.count("SELECT coalesce(max(id), 0) FROM syncs");
        self.world.start();
    }

    /// Sees to it that an agent runs that has nothing to do: it has looked at everything after its start.
    #[track_caller]
    pub fn settle(&mut self) {
        if !self.world.is_running() {
            self.start();
        }
        self.world.wait_running();
        let ended = format!(
            "SELECT count(*) FROM syncs
             WHERE id > {} AND trigger <> 'rollback' AND commit_id IS NOT NULL AND ended_ms IS NOT NULL",
            self.before_start
        );
        self.wait_still("the agent has looked at everything", || {
            if self.count(&ended) > 0 { Ok(()) } else { Err("no sync has ended since the start".to_owned()) }
        });
    }

    /// What comes from now on is what the agent is killed in. Said when all is ready, right before it is set going.
    #[track_caller]
    pub fn mark(&mut self) {
        self.since = self.count("SELECT coalesce(max(id), 0) FROM deployments");
        self.wire = Some(self.way.wire(if let Aim::Change(count) = self.aim { count } else { usize::MAX }));
    }

    /// Whether nothing is under way: no deployment, no sync.
    fn is_still(&self) -> bool {
        let open = "SELECT (SELECT count(*) FROM deployments WHERE ended_ms IS NULL)
             + (SELECT count(*) FROM syncs WHERE ended_ms IS NULL)";
        self.count(open) == 0
    }

    /// Whether something has ended in this round and nothing is under way.
    fn is_over(&self) -> bool {
        let ended = format!("SELECT count(*) FROM deployments WHERE id > {} AND ended_ms IS NOT NULL", self.since);
        self.count(&ended) > 0 && self.is_still()
    }

    /// Waits until nothing is under way and `wanted` is so.
    #[track_caller]
    pub fn wait_still(&self, what: &str, wanted: impl Fn() -> Result<(), String>) {
        wait_until(PATIENCE, &format!("{what}; events {:?}", self.events()), || {
            if self.is_still() { wanted() } else { Err(format!("something is under way: {:?}", self.events())) }
        });
    }

    /// Kills the running agent where `aim` says. Then it does not run, unless all was over before.
    #[track_caller]
    fn kill_at_aim(&mut self) {
        let wire = self.wire.take().expect("a round begins with a mark");
        match &self.aim.clone() {
            Aim::Nowhere => {}
            Aim::Steps(steps, delay) => {
                for (n, step) in steps.iter().enumerate() {
                    if n > 0 {
                        self.start();
                    }
                    if !self.kill_after(step, *delay) {
                        return;
                    }
                }
            }
            aim @ Aim::Change(_) => {
                let begun = Instant::now();
                while wire.recv_timeout(Duration::from_millis(20)).is_err() {
                    assert!(begun.elapsed() < PATIENCE, "neither {aim:?} nor an end came: {:?}", self.events());
                    if self.is_over() && wire.try_recv().is_err() {
                        return;
                    }
                }
                let what = self.way.changes().pop().map(|(_, what)| what).unwrap_or_default();
                self.kill(what);
            }
        }
    }

    /// Kills the agent after the next event of this name; not if all is over before.
    fn kill_after(&mut self, step: &str, delay: Duration) -> bool {
        let (journal, begun) = (self.journal(), Instant::now());
        let query =
            format!("SELECT count(*) FROM journal WHERE deployment > {} AND event ->> 'event' = '{step}'", self.since);
        let count = || journal.number(&query);
        let known = if step == "interrupted" { count() } else { 0 };
        while count() <= known {
            assert!(begun.elapsed() < PATIENCE, "{step} never came: {:?}", self.events());
            if begun.elapsed() > seconds(1) && self.is_over() {
                return false;
            }
            sleep(LOOK);
        }
        sleep(delay);
        let events = self.events();
        let interrupted = events.iter().filter(|event| *event == "interrupted").count();
        let last = events.last().cloned().unwrap_or_default();
        self.kill(format!("{last}{}", "'".repeat(interrupted)));
        true
    }

    fn kill(&mut self, at: String) {
        self.world.take_agent().kill();
        *self.killed_at.entry(at).or_default() += 1;
    }

    /// One round: something is set going, the agent is killed and started again, and all has to come right in the end.
    #[track_caller]
    pub fn round<O: Operation>(&mut self, operation: &mut O, aim: &Aim) {
        self.round_with(operation, aim, |_| {});
    }

    /// The same, and something happens while the agent is dead.
    #[track_caller]
    pub fn round_with<O: Operation>(&mut self, operation: &mut O, aim: &Aim, meanwhile: impl FnOnce(&mut Self)) {
        self.aim = aim.clone();
        let begun = operation.begin(self);
        self.kill_at_aim();
        meanwhile(self);
        if !self.world.is_running() {
            self.start();
        }
        let told = format!("{aim:?}, events {:?}", self.events());
        operation.check(self, begun, &told);
    }

    /// Runs an operation without a kill, and then once for each place that it went through: after each event of its
    /// journal, a second time where the events say that a try was cut short, and with each change that it asked the engine
    /// for.
    #[track_caller]
    pub fn everywhere<O: Operation>(&mut self, operation: &mut O) {
        self.everywhere_after(operation, None);
    }

    /// The same, but only after the event `known`: what comes before it is where another test kills.
    #[track_caller]
    pub fn everywhere_after<O: Operation>(&mut self, operation: &mut O, known: Option<&str>) {
        self.round(operation, &Aim::Nowhere);
        let (steps, changes) = (self.journal().timed_events(self.since), self.way.changes());
        println!("goes through {steps:?} and asks the engine for {changes:?}");
        let begins = match known {
            Some(known) => {
                let at = steps.iter().filter(|(_, step)| step == known).map(|(at, _)| *at).min();
                at.expect("it goes through what is known")
            }
            None => 0,
        };
        let places = 1..=changes.len();
        let changes: Vec<usize> = places.filter(|place| changes[place - 1].0 > begins).collect();
        let mut seen = BTreeSet::new();
        let steps = steps.into_iter().filter(|step| step.0 > begins).map(|step| step.1);
        // Of several deployments the first that gets there is killed.
        let steps: Vec<String> = steps.filter(|step| seen.insert(step.clone())).collect();
        assert!(steps.iter().all(|step| Event::NAMES.contains(&step.as_str())) && !steps.is_empty(), "{steps:?}");
        let cut_short = |step: &str| (step == "apply_started" || step == "rollback_started").then_some("interrupted");
        let aims = steps.iter().map(|step| {
            let steps = [step.as_str()].into_iter().chain(cut_short(step)).map(str::to_owned).collect();
            Aim::Steps(steps, Duration::ZERO)
        });
        for aim in aims.chain(changes.into_iter().map(Aim::Change)) {
            self.round(operation, &aim);
        }
    }

    /// Every release that is known keeps its images, no other one does, and none is neither here nor there.
    #[track_caller]
    pub fn check_kept_images(&self, stack: &str) {
        let stack = self.world.stack(stack);
        let known = self.count(&format!("SELECT count(*) FROM releases WHERE stack = '{stack}'"));
        let tags = docker(&["image", "ls", "--format", "{{.Tag}}", &format!("evenkeel-keep/{stack}")]);
        assert_eq!(i64::try_from(tags.lines().count()), Ok(known), "{tags}");
        let undone = "SELECT count(*) FROM releases WHERE state NOT IN ('current', 'former')";
        assert_eq!(self.count(undone), 0);
    }

    /// The events that were told of a commit, in order.
    pub fn told_of(&self, commit: &str) -> Vec<String> {
        // At least once is the promise, and the id tells a repetition: so distinct ids are counted.
        let mut ids = BTreeSet::new();
        let taken = self.webhook.taken().into_iter().filter(|d| d.body["commit"]["id"] == commit);
        taken.filter(|d| ids.insert(d.id.clone())).map(|d| d.event).collect()
    }

    /// How the deployments of this round ended, in order.
    #[track_caller]
    pub fn ended(&self) -> Vec<String> {
        self.journal().outcomes(self.since)
    }

    /// Prints where the agent was killed how often.
    pub fn print(&self, what: &str) {
        println!(
            "{what}: killed {} times at {} distinct places in {:?}: {:?}",
            self.killed_at.values().sum::<u32>(),
            self.killed_at.len(),
            self.began.elapsed(),
            self.killed_at
        );
    }

    /// At how many distinct places the agent was killed.
    pub fn places(&self) -> usize {
        self.killed_at.len()
    }

    /// How long the range has been in use.
    pub fn age(&self) -> Duration {
        self.began.elapsed()
    }
}

impl Default for Range {
    fn default() -> Self {
        Self::new()
    }
}
