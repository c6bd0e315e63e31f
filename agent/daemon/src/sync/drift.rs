//! Drift: what a server lost since its releases were committed. It is told once, and what nobody did on purpose is
//! put back, from the store alone: neither Git nor a registry is asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use evenkeel_core::{
    change::{ServiceChange, ServiceChangeKind, Why, WhyKind},
    drift::{self, Finding, Kind, Mode, Seen, Standing},
    model::Service,
    outcome::Outcome,
    reason::{Code, Reason},
    release::Release,
};
use evenkeel_layout::name::StackName;
use tokio::time::Instant;

use super::deploy;
use crate::{
    config::settings::Event,
    git::Repo,
    host::{
        Host,
        messages::{self, Happening},
        now_ms, people,
    },
    run::{Run, SyncEnd},
    steps::apply::shared,
    store::DriftRecord,
    tree::{differing::Stamps, live::Shared},
};

/// What is remembered from look to look.
#[derive(Debug, Default)]
pub struct Memory {
    /// Since when a difference is there: somebody may be at work, so that only what lasts counts.
    since: BTreeMap<(StackName, Kind, String), Instant>,
    /// The live files as they were read last.
    stamps: Stamps,
}

/// What a look came to.
#[derive(Debug, Default)]
pub struct Looked {
    /// When it is worth to look again, if that is sooner than usual.
    pub again: Option<Duration>,
    /// The sync that put something back.
    pub end: Option<SyncEnd>,
}

impl Looked {
    fn again_in(&mut self, pause: Duration) {
        self.again = Some(self.again.map_or(pause, |sooner| sooner.min(pause)));
    }
}

/// Looks at every release, tells what is new and what is over, and puts back what may be.
pub async fn look(host: &Host, memory: &mut Memory) -> Result<Looked, Reason> {
    let mut looked = Looked::default();
    let known = host.store.drift().map_err(|e| e.reason())?;
    let mut releases = host.store.current_releases().map_err(|e| e.reason())?;
    releases.retain(|_, release| mode_of(host, release) != Mode::Off);
    for stack in known.keys().filter(|stack| !releases.contains_key(*stack)) {
        host.store.set_drift(stack, None, &[], now_ms()).map_err(|e| e.reason())?;
    }
    if releases.is_empty() {
        return Ok(looked);
    }
    let engine = engine(host).await?;
    let mut to_heal = Vec::new();
    for release in releases.values() {
        let found = find(host, release, &engine, memory).await?;
        let lasting = memory.lasting(release, found, host.settings.gate.min_healthy_time, &mut looked);
        let before = known.get(&release.stack).cloned().unwrap_or_default();
        let record = tell(host, release, &before, lasting)?;
        if record.findings.iter().any(|f| f.is_healed(mode_of(host, release))) {
            to_heal.push((release, record));
        }
    }
    memory.since.retain(|(stack, ..), _| releases.contains_key(stack));
    heal(host, to_heal, &mut looked).await?;
    Ok(looked)
}

/// What is done about drift of a stack.
fn mode_of(host: &Host, release: &Release) -> Mode {
    release.drift.unwrap_or(host.settings.drift.mode)
}

/// What the engine has.
struct Engine {
    containers: BTreeMap<String, Vec<Standing>>,
    networks: BTreeSet<String>,
}

async fn engine(host: &Host) -> Result<Engine, Reason> {
    let away = |e: crate::engine::EngineError| e.reason(Code::EngineUnreachable);
    let mut containers = host.engine.standing().await.map_err(away)?;
    let networks = host.engine.networks().await.map_err(away)?;
    let stopped = host.store.stopped().map_err(|e| e.reason())?;
    let mut gone = stopped.clone();
    for standing in containers.values_mut().flatten() {
        standing.stopped_by_person = stopped.contains(&standing.id);
        gone.remove(&standing.id);
    }
    host.store.forget_stopped(&gone).map_err(|e| e.reason())?;
    Ok(Engine { containers, networks })
}

async fn find(host: &Host, release: &Release, engine: &Engine, memory: &mut Memory) -> Result<Vec<Finding>, Reason> {
    let (live, files, mut stamps) = (host.live.clone(), release.files.clone(), std::mem::take(&mut memory.stamps));
    let differing = tokio::task::spawn_blocking(move || {
        let differing = live.differing(&files, &mut stamps);
        (differing, stamps)
    })
    .await;
    let (differing, stamps) =
        differing.map_err(|_| Reason::new(Code::Internal, "looking at live files panicked; please report this"))?;
    memory.stamps = stamps;
    let differing = differing.map_err(|e| e.reason())?;
    // The files of all other releases are only asked for if something differs: a look comes with every event.
    let others = if differing.is_empty() { Shared::new() } else { shared(host, &release.stack)? };
    let files: Vec<(String, String)> = differing
        .into_iter()
        // A path of several stacks is written by the newest of them.
        .filter(|(path, _)| !others.contains_key(path))
        .map(|(path, wrong)| (path, wrong.to_owned()))
        .collect();
    let nothing = Vec::new();
    Ok(drift::find(
        release,
        &Seen {
            containers: engine.containers.get(&release.project).unwrap_or(&nothing),
            networks_gone: &networks_gone(release, &engine.networks),
            files: &files,
            model_file: &host.model_path(&release.stack).display().to_string(),
        },
    ))
}

/// The networks that services of a release are on and that the engine does not have, by the model's key.
fn networks_gone(release: &Release, there: &BTreeSet<String>) -> BTreeSet<String> {
    let used: BTreeSet<&str> = release.model.services().values().flat_map(Service::networks).collect();
    let networks = release.model.section("networks");
    used.into_iter()
        .filter(|key| networks.get(key).is_some_and(|n| !there.contains(n["name"].as_str().unwrap_or(key))))
        .map(str::to_owned)
        .collect()
}

impl Memory {
    /// The findings that have lasted for `settle`; for the others it is worth to look again.
    fn lasting(
        &mut self,
        release: &Release,
        found: Vec<Finding>,
        settle: Duration,
        looked: &mut Looked,
    ) -> Vec<Finding> {
        let now = Instant::now();
        let key = |f: &Finding| (release.stack.clone(), f.kind, f.name.clone());
        let keys: BTreeSet<_> = found.iter().map(key).collect();
        self.since.retain(|known, _| known.0 != release.stack || keys.contains(known));
        found
            .into_iter()
            .filter(|finding| {
                let age = now - *self.since.entry(key(finding)).or_insert(now);
                let left = settle.saturating_sub(age);
                if !left.is_zero() {
                    looked.again_in(left);
                }
                left.is_zero()
            })
            .collect()
    }
}

/// Tells what is new, or that it is over, and remembers what was told.
fn tell(host: &Host, release: &Release, before: &DriftRecord, found: Vec<Finding>) -> Result<DriftRecord, Reason> {
    let now = now_ms();
    let mode = mode_of(host, release);
    let news = drift::news(&before.findings, &found);
    let mut messages = Vec::new();
    if !news.is_empty() {
        let message = drift::words(&news, mode);
        tracing::warn!(stack = %release.stack, "drift: {message}");
        messages = told(host, release, (Event::Drift, Outcome::Unchanged), Some(&Reason::new(Code::Drift, message)));
    } else if found.is_empty() && !before.findings.is_empty() {
        tracing::info!(stack = %release.stack, "drift: over");
        messages = told(host, release, (Event::Recovered, Outcome::Committed), None);
    }
    let is_new = before.findings.is_empty();
    let record =
        DriftRecord { since_ms: if is_new { now } else { before.since_ms }, findings: found, ..before.clone() };
    if record == *before {
        return Ok(record);
    }
    // How often it was tried counts for a while after the end: what fails again at once is not a first time.
    let is_past = record.findings.is_empty() && now >= record.next_ms.saturating_add(i64::from(record.tries) * 60_000);
    host.store.set_drift(&release.stack, (!is_past).then_some(&record), &messages, now).map_err(|e| e.reason())?;
    host.outbox.notify_one();
    Ok(record)
}

fn told(
    host: &Host,
    release: &Release,
    (event, outcome): (Event, Outcome),
    reason: Option<&Reason>,
) -> Vec<crate::store::Outgoing> {
    let repo = Repo::open(&host.mirror()).ok();
    let commit = messages::commit(repo.as_ref(), &release.commit, None);
    host.tell(&Happening {
        stack: Some(&release.stack),
        commit: Some(&commit),
        from: Some(&release.commit),
        to: Some(&release.commit),
        ..Happening::of_the_whole(event, outcome, reason)
    })
}

/// Puts back what may be, one stack after the other, within one sync.
async fn heal(host: &Host, to_heal: Vec<(&Release, DriftRecord)>, looked: &mut Looked) -> Result<(), Reason> {
    let halted = host.store.halted().map_err(|e| e.reason())?;
    let mut run: Option<Run<'_>> = None;
    for (release, record) in to_heal {
        // What a person has suspended is left alone; when that ends, the next look finds what there is.
        let suspended = people::suspension_of(&host.store, &release.stack).map_err(|e| e.reason())?;
        let is_own = host.own_stack(&release.stack, &release.project, &release.model).is_some();
        if suspended.is_some()
            || is_own
            || host.settings.observe
            || halted.contains(&release.stack)
            || host.stop.is_cancelled()
        {
            continue;
        }
        let now = now_ms();
        if let Ok(wait @ 1..) = u64::try_from(record.next_ms - now) {
            looked.again_in(Duration::from_millis(wait));
            continue;
        }
        // The try is spent before it is made.
        let tries = record.tries.saturating_add(1);
        let pause = i64::try_from(drift::pause(tries).as_millis()).unwrap_or(i64::MAX);
        let spent = DriftRecord { tries, next_ms: now.saturating_add(pause), ..record };
        host.store.set_drift(&release.stack, Some(&spent), &[], now).map_err(|e| e.reason())?;
        let run = match &mut run {
            Some(run) => run,
            none => none.insert(Run::begin(host, "drift", false).map_err(|e| e.reason())?),
        };
        let services = drift::services_to_heal(&release.model, &spent.findings, mode_of(host, release));
        deploy::heal(run, release, &changes(&services, &spent.findings)).await?;
        looked.again_in(Duration::ZERO);
    }
    looked.end = run.map(Run::conclude).transpose().map_err(|e| e.reason())?;
    Ok(())
}

/// What happens to the services, with the reason of each, for the history.
fn changes(services: &BTreeSet<String>, findings: &[Finding]) -> Vec<ServiceChange> {
    let why = |service: &String| match findings.iter().find(|f| f.name == *service) {
        Some(Finding { kind: Kind::Missing, .. }) => "missing",
        Some(Finding { kind: Kind::Stopped, .. }) => "stopped",
        _ => "network",
    };
    services
        .iter()
        .map(|service| ServiceChange {
            service: service.clone(),
            change: ServiceChangeKind::Recreate,
            why: vec![Why { kind: WhyKind::Other, name: why(service).to_owned() }],
        })
        .collect()
}
