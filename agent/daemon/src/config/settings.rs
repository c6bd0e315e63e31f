//! The validated configuration: what the rest of the agent sees.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use evenkeel_core::id::CommitId;
use evenkeel_layout::{LayoutConfig, name::ServerName, window::Window};
use serde::{Deserialize, Serialize};

pub use super::remote::SshRemote;

/// Everything that `agent.yml` says, with defaults filled in and checked as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// This server's name.
    pub server: ServerName,
    /// Whether that is only the host's own name, since the configuration gives none.
    pub server_is_host: bool,
    /// Plan and report, change nothing.
    pub observe: bool,
    /// The repository.
    pub source: Source,
    /// Whose commits may run.
    pub trust: Trust,
    /// How the repository is read, in place of its own `evenkeel.yml`.
    pub layout: Option<LayoutConfig>,
    /// Where things are on this server.
    pub paths: Paths,
    /// What opens files that are encrypted in Git.
    pub secrets: Secrets,
    /// The engine.
    pub engine: Engine,
    /// The health gate's times, unless a stack says otherwise.
    pub gate: Gate,
    /// What is done about drift.
    pub drift: Drift,
    /// When deployments may begin, unless a stack says otherwise; `None`: at any time.
    pub window: Option<Window>,
    /// How many stacks may be removed at once without a person's confirm.
    pub prune_max: usize,
    /// How many releases of a stack are kept.
    pub releases_keep: usize,
    /// Backups before a deployment.
    pub backup: Option<Backup>,
    /// Who is told.
    pub reports: Vec<Sink>,
    /// What listens.
    pub listen: Listen,
    /// How to log.
    pub log: Log,
}

/// The repository that is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// `https://`, `http://`, `file://`, `ssh://` or `user@host:path`.
    pub url: String,
    /// A full branch ref, `refs/heads/…`.
    pub reference: String,
    /// How often to look.
    pub interval: Duration,
    /// Wall clock of one fetch.
    pub timeout: Duration,
    /// A CA bundle instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Sent to the URL's own host only.
    pub token_file: Option<PathBuf>,
    /// The user name that goes with the token.
    pub username: String,
    /// Set if the URL is one of SSH.
    pub ssh: Option<Ssh>,
}

/// How a repository is reached over SSH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ssh {
    /// What the URL says. It names a user.
    pub remote: SshRemote,
    /// The private key that the server knows as a deploy key.
    pub key: PathBuf,
    /// The server's own keys, in `ssh`'s syntax. No other one is believed.
    pub known_hosts: PathBuf,
}

/// Whose commits may run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// Who lists the keys whose signatures count.
    pub signers: SignersOf,
    /// Keys that never count, one public key a line.
    pub revoked: Option<PathBuf>,
    /// Where trusted history begins; without it, every commit from the root must be signed. Always there if the
    /// repository lists the keys.
    pub introduction: Option<Introduction>,
    /// Keys of the forge, whose clean merges are accepted, in `ssh-keygen`'s allowed-signers syntax.
    pub forge_keys: Option<PathBuf>,
    /// Whether a tip must say which branch it is meant for.
    pub require_deploy_to: bool,
    /// How long the repository may be silent before somebody is told. Longer than the interval.
    pub stale_after: Duration,
}

/// Who lists the keys whose signatures count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignersOf {
    /// The server, in at least one of two places.
    Server {
        /// SSH keys, in `ssh-keygen`'s allowed-signers syntax.
        allowed_signers: Option<PathBuf>,
        /// A folder of OpenPGP certificates.
        openpgp_certificates: Option<PathBuf>,
    },
    /// The repository, in `.evenkeel/allowed_signers`.
    Repository,
}

impl Trust {
    /// The server's file of allowed signers, if it is the server that lists them.
    pub fn allowed_signers(&self) -> Option<&Path> {
        match &self.signers {
            SignersOf::Server { allowed_signers, .. } => allowed_signers.as_deref(),
            SignersOf::Repository => None,
        }
    }

    /// The server's folder of OpenPGP certificates, if there is one.
    pub fn openpgp_certificates(&self) -> Option<&Path> {
        match &self.signers {
            SignersOf::Server { openpgp_certificates, .. } => openpgp_certificates.as_deref(),
            SignersOf::Repository => None,
        }
    }
}

/// The first trusted commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introduction {
    /// Its id.
    pub commit: CommitId,
    /// The fingerprint of the key that signed it, `SHA256:…`.
    pub signer: String,
}

/// Where things are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// The agent's own state.
    pub state: PathBuf,
    /// The live tree.
    pub live: PathBuf,
    /// Environment files that are never in Git.
    pub env: PathBuf,
    /// The agent's socket.
    pub socket: PathBuf,
}

impl Paths {
    /// The mirror of the repository.
    pub fn mirror(&self) -> PathBuf {
        self.state.join("mirror.git")
    }
}

/// What opens files that are encrypted in Git.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secrets {
    /// A file of age keys.
    pub age_identities: Option<PathBuf>,
}

/// The engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// `unix:///…`.
    pub socket: String,
    /// Stacks side by side.
    pub parallel: usize,
    /// A Docker `config.json` directory's file; `None` for the usual place.
    pub registry_auth: Option<PathBuf>,
    /// Whether external networks that nobody made are created.
    pub create_networks: bool,
    /// What a model may read outside the repository besides bind mounts: these files, and what is below these folders.
    pub allow_host_paths: Vec<PathBuf>,
}

/// The health gate's times; `min_healthy_time < healthy_deadline < progress_deadline`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gate {
    /// How long everything must be good without a break.
    pub min_healthy_time: Duration,
    /// How long until everything must be good.
    pub healthy_deadline: Duration,
    /// How long apply and gate may take together.
    pub progress_deadline: Duration,
}

/// What is done about drift.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drift {
    /// Put back, told, or neither.
    pub mode: evenkeel_core::drift::Mode,
    /// How often everything is looked at, besides when something happens.
    pub interval: Duration,
}

/// Backups by restic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// Whatever restic takes as a repository.
    pub repository: String,
    /// The repository's password, in a file.
    pub password_file: PathBuf,
    /// Credentials of the repository, as `NAME=value` lines.
    pub env_file: Option<PathBuf>,
    /// Whether a failed backup stops the deployment.
    pub required: bool,
    /// Which snapshots of a stack stay; `None`: all.
    pub keep: Option<Keep>,
}

/// Which snapshots of a stack stay. At least one count is not 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// The newest.
    pub last: usize,
    /// The newest of each of the last days that have one.
    pub daily: usize,
    /// The newest of each of the last months that have one.
    pub monthly: usize,
}

/// A sink and what it is told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sink {
    /// Unique and stable: its kind and a number in the list of that kind, such as `ntfy-1`.
    pub name: String,
    /// Which events it gets.
    pub on: BTreeSet<Event>,
    /// What it is.
    pub kind: SinkKind,
}

/// What a sink is. Secrets stay in their files and are read when used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkKind {
    /// JSON, signed.
    Webhook {
        /// Where to.
        url: String,
        /// The key of the signature.
        secret_file: PathBuf,
    },
    /// A Discord channel's webhook; its URL is itself a secret.
    Discord {
        /// The file that holds the URL.
        url_file: PathBuf,
    },
    /// An ntfy topic.
    Ntfy {
        /// The topic's URL.
        url: String,
        /// An access token.
        token_file: Option<PathBuf>,
    },
}

/// What can be told. The text form is part of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A stack was deployed or removed.
    Deployed,
    /// A stack went back to its last good release.
    RolledBack,
    /// Trust refused a commit.
    Refused,
    /// A stack waits, was rejected or could not be staged.
    Held,
    /// A person must act.
    Halted,
    /// A server differs from the release that it should run.
    Drift,
    /// What was wrong is right again.
    Recovered,
    /// The repository did not answer for too long.
    Stale,
    /// The backup repository could not be tidied or is not whole.
    Backup,
}

/// What listens. Nothing, unless asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listen {
    /// The webhook listener and the file of its secret.
    pub hooks: Option<Hooks>,
    /// The listener of the status page.
    pub page: Option<Page>,
}

/// The listener of the status page, the API, health and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Where it listens.
    pub address: SocketAddr,
    /// The token that readers must show, in a file; there is always one if others than this machine can reach the address.
    pub token_file: Option<PathBuf>,
}

/// The webhook listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hooks {
    /// Where it listens.
    pub address: SocketAddr,
    /// The shared secret, in a file.
    pub secret_file: PathBuf,
}

/// How to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The form of a line.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: tracing::Level,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
