//! The agent as a process: configuration, store, listeners and the one loop that syncs.

pub mod answers;
mod container;
mod drift;
mod due;
pub mod explain;
mod keeping;
mod listeners;
mod logging;
mod silence;
mod systemd;
mod told;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, atomic::AtomicI64},
    time::Duration,
};

use evenkeel_core::{
    outcome::{Exit, Outcome},
    people::Stated,
    reason::{Class, Code, Reason},
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    compose::ComposeError,
    config::{
        self, ConfigErrors,
        settings::{LogFormat, Settings},
    },
    engine::own::Own,
    host::{
        Host,
        activity::{self, Tracker},
        outbox,
        turns::Turns,
    },
    metrics::Metrics,
    report,
    run::SyncEnd,
    socket,
    store::{Store, StoreError},
    sync::{Cache, Looked, Memory, PutBack, RestoreOrder, Wish, look_for_drift, put_back, recover, restore, sync},
    terminal,
    trigger::{self, ConfigWatch, CurrentConfig, Schedule, Slot, Trigger, Waker, Work},
};

/// How long an apply may go on when the agent is asked to stop. Then it is left where it is, as after a kill, and the
/// next start finishes it. The unit's `TimeoutStopSec=` is longer than this and all that comes after it.
const STOP_PATIENCE: Duration = Duration::from_secs(90);
/// How often the line on a terminal is drawn anew.
const REDRAW: Duration = Duration::from_millis(500);
/// How long reports are given to leave when the agent ends.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// The same for `agent --once`, which nobody follows.
const LAST_WORDS_ONCE: Duration = Duration::from_secs(30);

/// The agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no Compose.
    #[error(transparent)]
    Compose(#[from] ComposeError),
    /// The socket cannot be opened.
    #[error(transparent)]
    Socket(#[from] socket::BindError),
    /// A listener cannot be opened.
    #[error(
        "cannot listen for {purpose} at {address}: {source}; `ss -ltnp` tells who has the port, `listen` in the configuration chooses another"
    )]
    Listen {
        /// What it is for.
        purpose: &'static str,
        /// Where.
        address: std::net::SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The agent is in a container that has not the folders that it needs.
    #[error("{0}")]
    Misplaced(String),
    /// Something else of the system.
    #[error("{0}")]
    System(String),
}

impl ServiceError {
    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Misplaced(_)
            | Self::Config(_)
            | Self::Socket(_)
            | Self::Listen { .. }
            | Self::Store(StoreError::Busy(_)) => Exit::Usage,
            Self::Store(_) => Exit::Halted,
            Self::Compose(_) => Exit::Transient,
            Self::System(_) => Exit::Failed,
        }
    }
}

/// What a person orders, to be done by the one loop.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Order {
    /// An earlier release.
    PutBack(PutBack),
    /// Data from a snapshot.
    Restore(RestoreOrder),
    /// A sync that waits for no maintenance window.
    Override(Stated),
}

/// Everything that lives as long as the process.
struct Service {
    store: Arc<Store>,
    current: watch::Sender<CurrentConfig>,
    client: report::Client,
    wake_outbox: Arc<tokio::sync::Notify>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    activity: Tracker,
    turns: Arc<Turns>,
    /// Wakes who waits for the end of suspensions.
    due: tokio::sync::Notify,
    /// When the next window opens that a stack waits for.
    opens: Arc<AtomicI64>,
    /// The container that this agent is in, if it is in one; unset until the engine was asked.
    own: OnceLock<Option<Arc<Own>>>,
}

impl Service {
    fn start(config_path: &Path) -> Result<Self, ServiceError> {
        let settings = Arc::new(config::load(config_path)?);
        logging::start(&settings.log);
        let store = Arc::new(Store::open(&settings.paths.state)?);
        let client = report::client().map_err(|e| ServiceError::System(e.to_string()))?;
        let (current, _) = watch::channel(CurrentConfig { settings, rejected: None });
        Ok(Self {
            store,
            current,
            client,
            wake_outbox: Arc::default(),
            metrics: Arc::default(),
            stop: CancellationToken::new(),
            activity: Tracker::default(),
            turns: Arc::default(),
            due: tokio::sync::Notify::new(),
            opens: Arc::new(AtomicI64::new(i64::MAX)),
            own: OnceLock::new(),
        })
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.current.borrow().settings)
    }

    fn host(&self) -> Result<Host, ComposeError> {
        let mut host = Host::new(self.settings(), Arc::clone(&self.store), self.stop.clone())?;
        host.outbox = Arc::clone(&self.wake_outbox);
        host.activity = self.activity.clone();
        host.metrics = Arc::clone(&self.metrics);
        host.turns = Arc::clone(&self.turns);
        host.opens = Arc::clone(&self.opens);
        host.own = self.own.get().cloned().flatten();
        Ok(host)
    }

    /// Refuses to work from a container that has not the folders that it needs. An engine that is away cannot tell, nor which
    /// stack is the agent's own: then this gives why nothing may be done yet, and is asked again.
    async fn unplaced(&self) -> Result<Option<Reason>, ServiceError> {
        match container::check(&self.settings()).await {
            Ok(own) => {
                // The first answer stays: a process does not change its container.
                self.own.get_or_init(|| own.map(Arc::new));
                Ok(None)
            }
            Err(container::Misplaced::Unknown(error)) => {
                tracing::warn!("cannot check yet whether this container has the folders that it needs: {error}");
                Ok(Some(error.reason(Code::EngineUnreachable)))
            }
            Err(wrong) => Err(ServiceError::Misplaced(wrong.to_string())),
        }
    }

    /// Shows what is going on while a person looks on.
    fn show_on_terminal(&self) {
        if self.settings().log.format == LogFormat::Text && terminal::is_watched() {
            let (tracker, stop) = (self.activity.clone(), self.stop.clone());
            tokio::spawn(async move {
                while !stop.is_cancelled() {
                    let doing = tracker.activity().map(|a| activity::line(&a, Some(jiff::Timestamp::now())));
                    terminal::show(&doing.unwrap_or_default());
                    tokio::time::sleep(REDRAW).await;
                }
                terminal::show("");
            });
        }
    }

    /// Gives queued reports a moment to leave. What does not leave now leaves after the next start.
    async fn last_words(&self, patience: Duration) {
        let settings = self.settings();
        let deliver = outbox::deliver_due(&self.store, &settings, &self.client);
        if tokio::time::timeout(patience, deliver).await.is_err() {
            tracing::warn!("some reports have not left yet; they will after the next start");
        }
    }
}

/// Finishes what was left unfinished, then works. When the agent is asked to stop, this ends within [`STOP_PATIENCE`].
async fn recover_and(host: &Host, work: impl Future<Output = SyncEnd>) -> SyncEnd {
    let too_long = async {
        host.stop.cancelled().await;
        tokio::time::sleep(STOP_PATIENCE).await;
    };
    tokio::select! {
        end = recover_then(host, work) => end,
        () = too_long => {
            let what = "the agent was asked to stop and this took too long; the next start finishes it";
            SyncEnd::failed(None, Outcome::Aborted, Reason::new(Code::Interrupted, what))
        }
    }
}

/// What is unfinished because the engine is away stays so.
async fn recover_then(host: &Host, work: impl Future<Output = SyncEnd>) -> SyncEnd {
    match recover(host).await {
        Ok(0) => {}
        Ok(count) => tracing::info!(count, "took up unfinished deployments"),
        Err(reason) if reason.code == Code::StoreFailed => return SyncEnd::failed(None, Outcome::Halted, reason),
        Err(reason) => return SyncEnd::failed(None, Outcome::Aborted, reason),
    }
    work.await
}

/// One sync, and the end. SIGTERM ends it as it ends the agent.
pub async fn once(config_path: &Path) -> Result<(SyncEnd, Arc<Store>), ServiceError> {
    let service = Service::start(config_path)?;
    let unplaced = service.unplaced().await?;
    let host = service.host()?;
    tokio::spawn(stop_on_signal(service.stop.clone()));
    service.show_on_terminal();
    let mut cache = Cache::default();
    let wish = Wish { trigger: Trigger::Manual.as_str(), insists: true, overrides: None };
    let end = match unplaced {
        Some(reason) => SyncEnd::failed(None, Outcome::Aborted, reason),
        None => recover_and(&host, Box::pin(sync(&host, &mut cache, wish))).await,
    };
    log_end(&end);
    service.last_words(LAST_WORDS_ONCE).await;
    terminal::show("");
    Ok((end, service.store))
}

/// The agent, until it is asked to stop.
pub async fn run(config_path: PathBuf) -> Result<(), ServiceError> {
    let service = Arc::new(Service::start(&config_path)?);
    let unplaced = service.unplaced().await?;
    let tasks = TaskTracker::new();
    let (waker, slot) = trigger::slot::<SyncEnd, Order>();
    let listener = socket::bind(&service.settings().paths.socket)?;
    let answers = answers::AgentAnswers::new(Arc::clone(&service), waker.clone());
    tasks.spawn(socket::serve(listener, Arc::new(answers), service.stop.clone().cancelled_owned()));
    listeners::hooks(&service, &waker, &tasks).await?;
    listeners::page(&service, &tasks).await;
    let watch = ConfigWatch::start(&config::watched(&service.settings(), &config_path))
        .map_err(|e| ServiceError::System(e.to_string()))?;
    tokio::spawn(trigger::follow(config_path, watch, service.current.clone(), waker.clone()));
    tokio::spawn(stop_on_signal(service.stop.clone()));
    tasks.spawn(due::watch(Arc::clone(&service), waker.clone()));
    let of_service = Arc::clone(&service);
    tasks.spawn(outbox::work(
        Arc::clone(&service.store),
        move || of_service.settings(),
        service.client.clone(),
        Arc::clone(&service.wake_outbox),
        service.stop.clone(),
    ));
    tasks.spawn(drift::watch(Arc::clone(&service), waker.clone()));
    tasks.spawn(silence::watch(Arc::clone(&service)));
    tasks.spawn(keeping::watch(Arc::clone(&service)));
    let socket_path = service.settings().paths.socket.clone();
    systemd::ready(&service.activity, &service.stop, &tasks);
    service.show_on_terminal();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), server = %service.settings().server, "the agent is ready");
    let ended = work(&service, waker, slot, unplaced).await;
    service.stop.cancel();
    tasks.close();
    if tokio::time::timeout(LAST_WORDS, tasks.wait()).await.is_err() {
        tracing::warn!("some connections did not end in time");
    }
    service.last_words(LAST_WORDS).await;
    if let Err(error) = std::fs::remove_file(&socket_path) {
        tracing::warn!(%error, "cannot remove the socket");
    }
    terminal::show("");
    tracing::info!("the agent has stopped");
    ended
}

/// The loop: one sync at a time, until the stop.
async fn work(
    service: &Service,
    waker: Waker<SyncEnd, Order>,
    mut slot: Slot<SyncEnd, Order>,
    mut unplaced: Option<Reason>,
) -> Result<(), ServiceError> {
    let schedule = |failures| Schedule { interval: service.settings().source.interval, failures };
    let (schedules, follow_schedule) = watch::channel(schedule(0));
    let poll = tokio::spawn(trigger::poll(waker.clone(), follow_schedule, trigger::random_fraction));
    waker.wake(Trigger::Start);
    let mut cache = Cache::default();
    let mut memory = Memory::default();
    let mut failures = 0;
    // A poll that ends as the one before it did is no news.
    let mut last: Option<SyncEnd> = None;
    while let Some(work) = next(service, &mut slot).await {
        if unplaced.is_some() {
            unplaced = service.unplaced().await?;
        }
        if let Work::Sync(triggers) = &work
            && triggers.iter().all(|t| *t == Trigger::Drift)
        {
            // The engine's return is noticed by who follows its events.
            if unplaced.is_none() {
                drift_only(service, &mut memory, &waker).await;
            }
            continue;
        }
        let end = match (&unplaced, service.host()) {
            (Some(reason), _) => SyncEnd::failed(None, Outcome::Aborted, reason.clone()),
            (None, Ok(host)) => recover_and(&host, Box::pin(carry_out(&host, &mut cache, &work))).await,
            (None, Err(error)) => {
                let code = error.code().unwrap_or(Code::ComposeMissing);
                let reason = Reason::new(code, error.to_string());
                SyncEnd::failed(None, Outcome::Aborted, reason)
            }
        };
        let is_known = last.as_ref().is_some_and(|last| is_same(last, &end));
        if !is_known || end.outcome == Outcome::Committed {
            service.metrics.sync_ended(end.outcome);
            log_end(&end);
        }
        failures = if end.is_transient() || end.reason.is_some() { failures + 1 } else { 0 };
        schedules.send_replace(schedule(failures));
        slot.finished(&end);
        let was_drift = matches!(&work, Work::Sync(triggers) if triggers.contains(&Trigger::Drift));
        if was_drift || !end.ends.is_empty() {
            waker.wake(Trigger::Drift);
        }
        last = Some(end.clone());
    }
    poll.abort();
    Ok(())
}

/// Looks for drift, and sees to it that somebody looks again when that is worth it.
async fn drift_only(service: &Service, memory: &mut Memory, waker: &Waker<SyncEnd, Order>) {
    // Without Compose there is nothing to put back with; the next sync says so.
    let Ok(host) = service.host() else { return };
    let looked = async {
        recover(&host).await?;
        look_for_drift(&host, memory).await
    };
    match looked.await {
        Ok(Looked { again, end }) => {
            if let Some(end) = end {
                service.metrics.sync_ended(end.outcome);
                log_end(&end);
            }
            if let Some(pause) = again {
                let (waker, stop) = (waker.clone(), service.stop.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = tokio::time::sleep(pause) => waker.wake(Trigger::Drift),
                        () = stop.cancelled() => {}
                    }
                });
            }
        }
        // The engine's return is noticed by who follows its events.
        Err(reason) => tracing::debug!(%reason, "cannot look for drift"),
    }
}

async fn carry_out(host: &Host, cache: &mut Cache, work: &Work<Order>) -> SyncEnd {
    let wish = match work {
        Work::Order(Order::PutBack(order)) => return put_back(host, order).await,
        Work::Order(Order::Restore(order)) => return restore(host, order).await,
        Work::Order(Order::Override(stated)) => {
            Wish { trigger: Trigger::Manual.as_str(), insists: true, overrides: Some(stated) }
        }
        Work::Sync(triggers) => Wish {
            trigger: triggers.first().copied().unwrap_or(Trigger::Poll).as_str(),
            // A person, a changed file and a start ask again for what waits; time alone does not.
            insists: triggers.iter().any(|t| matches!(t, Trigger::Manual | Trigger::Watch | Trigger::Start)),
            overrides: None,
        },
    };
    sync(host, cache, wish).await
}

/// Waits for something to do; `None` at the stop. Says meanwhile that it waits.
async fn next(service: &Service, slot: &mut Slot<SyncEnd, Order>) -> Option<Work<Order>> {
    loop {
        service.activity.waits();
        tokio::select! {
            biased;
            () = service.stop.cancelled() => return None,
            work = slot.next() => return Some(work),
            () = tokio::time::sleep(activity::IDLE_BEAT) => {}
        }
    }
}

/// Whether a sync ended as the one before it. What is tried again is the same trouble in whatever words it comes: a network
/// that is away breaks off here today and there tomorrow.
fn is_same(last: &SyncEnd, end: &SyncEnd) -> bool {
    let trouble = |end: &SyncEnd| {
        let reason = end.reason.as_ref()?;
        Some((reason.code, (reason.class != Class::Transient).then(|| reason.message.clone())))
    };
    (last.outcome, &last.ends, trouble(last)) == (end.outcome, &end.ends, trouble(end))
}

fn log_end(end: &SyncEnd) {
    let outcome = end.outcome.as_str();
    match (&end.reason, end.exit()) {
        (Some(reason), _) => tracing::warn!(outcome, code = %reason.code, "sync ended: {reason}"),
        (None, Exit::Fine) if end.ends.is_empty() => tracing::debug!(outcome, "sync ended"),
        (None, Exit::Fine) => tracing::info!(outcome, "sync ended"),
        (None, _) => tracing::warn!(outcome, "sync ended"),
    }
}

async fn stop_on_signal(stop: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        tracing::error!("cannot listen for signals; only SIGKILL will end the agent");
        return;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("asked to stop: finishing what must not be left half done");
    stop.cancel();
}
