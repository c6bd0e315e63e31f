//! The host: the adapters that a configuration gives, the store, and the clock.

pub mod acceptance;
pub mod activity;
pub mod backup_plan;
pub mod candidates;
pub mod delivered;
pub mod encrypted;
pub mod examples;
pub mod keeping;
pub mod lasting;
pub mod messages;
pub mod outbox;
mod own;
pub mod people;
pub mod silence;
pub mod snapshots;
pub mod stacks;
pub mod status;
pub mod tags;
pub mod turns;
pub mod window;
pub mod words;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicI64},
    time::{SystemTime, UNIX_EPOCH},
};

use evenkeel_core::{health::GatePolicy, reason::Reason};
use evenkeel_layout::{gate::GateSpec, name::StackName};
use tokio_util::sync::CancellationToken;

use crate::{
    backup::Restic,
    compose::{Compose, ComposeError},
    config::settings::Settings,
    engine::{Engine, own::Own},
    metrics::Metrics,
    process::Runner,
    store::Store,
    tree::live::LiveTree,
};

/// Everything that the spines work with. Made anew when the configuration changes; the store stays.
pub struct Host {
    /// What the configuration says.
    pub settings: Arc<Settings>,
    /// The store.
    pub store: Arc<Store>,
    /// The engine.
    pub engine: Engine,
    /// Compose.
    pub compose: Compose,
    /// The live tree.
    pub live: LiveTree,
    /// restic, if backups are configured.
    pub restic: Option<Restic>,
    /// Who may move which tags now.
    pub tags: tags::TagLocks,
    /// Whose turn it is at the backup repository.
    pub turns: Arc<turns::Turns>,
    /// Cancelled when the agent is asked to stop.
    pub stop: CancellationToken,
    /// Wakes the outbox worker.
    pub outbox: Arc<tokio::sync::Notify>,
    /// Follows what is done.
    pub activity: activity::Tracker,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// When the next window opens that a stack waits for, in milliseconds since 1970; never if far away.
    pub opens: Arc<AtomicI64>,
    /// The container that this agent is in, if it is in one of this engine's.
    pub own: Option<Arc<Own>>,
}

impl Host {
    /// Builds the adapters. Starts nothing and asks nobody.
    pub fn new(settings: Arc<Settings>, store: Arc<Store>, stop: CancellationToken) -> Result<Self, ComposeError> {
        let runner = Runner::supervised();
        let compose =
            Compose::find(runner.clone(), Some(&settings.engine.socket), settings.engine.registry_auth.as_deref())?;
        let restic = settings
            .backup
            .as_ref()
            .map(|backup| Restic::new(runner, backup, &settings.paths.state, settings.server.as_str()));
        Ok(Self {
            engine: Engine::new(&settings.engine.socket),
            compose,
            live: LiveTree::new(&settings.paths.live),
            restic,
            tags: tags::TagLocks::default(),
            turns: Arc::default(),
            store,
            settings,
            stop,
            outbox: Arc::default(),
            activity: activity::Tracker::default(),
            metrics: Arc::default(),
            opens: Arc::new(AtomicI64::new(i64::MAX)),
            own: None,
        })
    }

    /// The mirror of the repository.
    pub fn mirror(&self) -> PathBuf {
        self.settings.paths.mirror()
    }

    /// Where a commit is staged.
    pub fn staging(&self) -> PathBuf {
        self.settings.paths.state.join("staging")
    }

    /// The model of a stack as a file: a stable path that people meet in `docker compose ls`.
    pub fn model_path(&self, stack: &StackName) -> PathBuf {
        self.models().join(format!("{stack}.json"))
    }

    /// Where the models are that Compose is given.
    pub fn models(&self) -> PathBuf {
        self.settings.paths.state.join("models")
    }

    /// A project directory in the live tree.
    pub fn live_directory(&self, directory: &str) -> PathBuf {
        if directory.is_empty() { self.live.root().to_owned() } else { self.live.root().join(directory) }
    }

    /// The gate of a stack: its own times over the server's.
    pub fn gate_policy(&self, spec: GateSpec) -> GatePolicy {
        let server = self.settings.gate;
        GatePolicy {
            min_healthy_time: spec.min_healthy_time.unwrap_or(server.min_healthy_time),
            healthy_deadline: spec.healthy_deadline.unwrap_or(server.healthy_deadline),
        }
    }
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Writes a file of the agent's own state as a whole: beside, to disk, then renamed. For the owner only.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Reason> {
    use std::io::Write as _;
    let write = || -> std::io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::Builder::new().prefix(".new").tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        std::fs::File::open(folder)?.sync_all()
    };
    write().map_err(|e| {
        let code = match e.kind() {
            std::io::ErrorKind::StorageFull => evenkeel_core::reason::Code::DiskFull,
            _ => evenkeel_core::reason::Code::FileWrite,
        };
        Reason::new(code, format!("cannot write {}: {e}", path.display()))
    })
}
