//! What happens to stacks and services, and why: the words of plans and of reports.

use evenkeel_layout::name::{GroupName, StackName};
use serde::{Deserialize, Serialize};

/// What happens to a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StackChangeKind {
    /// It has no release yet.
    Create,
    /// It has a release and gets another.
    Update,
    /// No commit wants it any more: its containers go, its volumes stay.
    Remove,
}

/// What happens to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceChangeKind {
    /// A container is made.
    Create,
    /// Its containers are replaced.
    Recreate,
    /// New containers are started beside the old ones, which go when the new ones are well.
    #[serde(rename = "start-first")]
    StartFirst,
    /// Its containers are restarted.
    Restart,
    /// Its containers get a signal.
    Signal,
    /// Nothing.
    None,
    /// Its containers are removed.
    Remove,
}

/// What kind of thing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhyKind {
    /// The image reference.
    Image,
    /// A variable; the name is the variable's.
    Env,
    /// The command or entrypoint.
    Command,
    /// A published port.
    Port,
    /// A network.
    Network,
    /// A volume or bind mount.
    Volume,
    /// A label.
    Label,
    /// The content of a mounted file, or of a config.
    File,
    /// The value or content of a secret.
    Secret,
    /// The build section or a file it reads.
    Build,
    /// The healthcheck.
    Healthcheck,
    /// A service that this one cannot outlive changes.
    Dependency,
    /// Anything else; the name is the model's key.
    Other,
}

/// One cause of a change: names only, never values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Why {
    /// What kind of thing.
    pub kind: WhyKind,
    /// Its name.
    pub name: String,
}

/// What happens to one service, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceChange {
    /// The service.
    pub service: String,
    /// What happens.
    pub change: ServiceChangeKind,
    /// Why, sorted.
    pub why: Vec<Why>,
}

/// What happens to one stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackChange {
    /// The stack.
    pub stack: StackName,
    /// What happens.
    pub change: StackChangeKind,
    /// The group that it moves with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupName>,
    /// Its services, sorted by name.
    pub services: Vec<ServiceChange>,
}

/// What kind of thing differs. The text form is part of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DriftKind {
    /// A service has fewer containers than it should.
    Missing,
    /// A container is there and does not run.
    Stopped,
    /// A network that services are on is gone.
    Network,
    /// A container was made from another image.
    Image,
    /// A container was made from other files than the agent's.
    Config,
    /// A tracked file in the live tree was changed or removed by hand.
    File,
}
