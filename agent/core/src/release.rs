//! Releases: what a stack ran, in enough detail to run it again without network, Git or registry.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_layout::{
    drift,
    gate::GateSpec,
    name::{GroupName, StackName},
    window::Window,
};
use serde::{Deserialize, Serialize};

use crate::{
    id::{CommitId, Digest, ImageId, ReleaseId},
    model::Model,
};

/// A repository file as a release has it. The content is kept under its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// SHA-256 of the content.
    pub digest: Digest,
    /// Size of the content in bytes.
    pub size: u64,
    /// Whether the executable bit is set.
    pub executable: bool,
}

/// Repository path to file.
pub type Files = BTreeMap<String, FileRecord>;

/// Variables whose values become secrets when containers are made. No `Debug`: the values are secret.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretEnv(pub BTreeMap<String, String>);

/// A stack as a commit wants it: rendered, with everything it needs known but its images.
#[derive(Clone)]
pub struct Candidate {
    /// The stack.
    pub stack: StackName,
    /// Its Compose project.
    pub project: String,
    /// Compose's project directory, relative to the live root; `""` for the root.
    pub directory: String,
    /// The commit it comes from.
    pub commit: CommitId,
    /// Stacks that must be committed first.
    pub depends_on: Vec<StackName>,
    /// What the stack says of its gate.
    pub gate: GateSpec,
    /// The model, with paths under the live root.
    pub model: Model,
    /// The slice: its layers and every repository file that the model mounts, reads or builds from.
    pub files: Files,
    /// Of `files`, those that only people and Compose's own commands read (layers, env files): they change no container.
    pub passive: Vec<String>,
    /// Values of secrets that come from the environment.
    pub secret_env: SecretEnv,
    /// The stacks that it moves with.
    pub group: Option<GroupName>,
    /// When deployments of the stack may begin.
    pub window: Option<Window>,
    /// What is done about drift; `None`: as the server has it.
    pub drift: Option<drift::Mode>,
}

impl Candidate {
    /// What makes two candidates the same bytes: the model, the content of active files, the secret values.
    /// Known before any image is pulled, so a quarantined candidate costs nothing.
    pub fn digest(&self) -> Digest {
        let active: BTreeMap<_, _> = self.files.iter().filter(|(path, _)| !self.passive.contains(path)).collect();
        let secrets: BTreeMap<_, _> = self.secret_env.0.iter().map(|(k, v)| (k, Digest::of(v.as_bytes()))).collect();
        let text = serde_json::json!([self.project, self.directory, self.model, active, secrets]).to_string();
        Digest::of(text.as_bytes())
    }
}

/// What stands for the removal of the release with this digest, to keep a removal that failed from being tried at
/// every poll.
pub fn removal_digest(of: &Digest) -> Digest {
    Digest::of(format!("removal of {of}").as_bytes())
}

/// One image of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseImage {
    /// The reference that the model names.
    pub reference: String,
    /// The image it stood for.
    pub id: ImageId,
    /// The reference by digest under which a registry has it, if one had it: should it be pruned here, it comes from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<String>,
}

/// What a stack ran, or is about to run.
#[derive(Clone, Serialize, Deserialize)]
pub struct Release {
    /// Its number in the store; 0 until it is stored.
    pub id: ReleaseId,
    /// The stack.
    pub stack: StackName,
    /// Its Compose project.
    pub project: String,
    /// Compose's project directory, relative to the live root.
    pub directory: String,
    /// The commit it comes from.
    pub commit: CommitId,
    /// The candidate's digest.
    pub digest: Digest,
    /// Stacks it depends on.
    pub depends_on: Vec<StackName>,
    /// What the stack says of its gate.
    pub gate: GateSpec,
    /// The model that was applied.
    pub model: Model,
    /// The exact images, by service.
    pub images: BTreeMap<String, ReleaseImage>,
    /// The slice of live files.
    pub files: Files,
    /// Of `files`, those that change no container.
    pub passive: Vec<String>,
    /// Values of secrets that come from the environment.
    pub secret_env: SecretEnv,
    /// The restic snapshot that was taken before this release replaced its predecessor.
    pub snapshot: Option<String>,
    /// The kept release that this one is again, since a person wanted it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<ReleaseId>,
    /// The name that our tags of its images have, if not the stack's: it had another one when they were made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_as: Option<StackName>,
    /// The containers that somebody else had started and that were what the stack wants, by id: they were taken over as
    /// they ran. `None` if there was none to be taken over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopted: Option<BTreeSet<String>>,
    /// The stacks that it moves with, as it said then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupName>,
    /// When deployments of the stack may begin; `None`: at any time, unless the server says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// What is done about drift; `None`: as the server has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<drift::Mode>,
}

impl Release {
    /// The release that a candidate becomes with these images.
    pub fn of(candidate: &Candidate, images: BTreeMap<String, ReleaseImage>) -> Self {
        Self {
            id: ReleaseId(0),
            stack: candidate.stack.clone(),
            project: candidate.project.clone(),
            directory: candidate.directory.clone(),
            commit: candidate.commit.clone(),
            digest: candidate.digest(),
            depends_on: candidate.depends_on.clone(),
            gate: candidate.gate,
            model: candidate.model.clone(),
            images,
            files: candidate.files.clone(),
            passive: candidate.passive.clone(),
            secret_env: candidate.secret_env.clone(),
            snapshot: None,
            again: None,
            kept_as: None,
            adopted: None,
            group: candidate.group.clone(),
            window: candidate.window.clone(),
            drift: candidate.drift,
        }
    }

    /// Whether a container was taken over as it ran.
    pub fn has_adopted(&self, container: &str) -> bool {
        self.adopted.as_ref().is_some_and(|adopted| adopted.contains(container))
    }

    /// This kept release as a candidate, to be put back.
    #[must_use]
    pub fn again(&self) -> Self {
        Self { id: ReleaseId(0), snapshot: None, again: Some(self.origin()), kept_as: None, ..self.clone() }
    }

    /// The release whose bytes these are first.
    pub fn origin(&self) -> ReleaseId {
        self.again.unwrap_or(self.id)
    }
}

/// The release that a person means who says `rollback` and no number: the newest kept one that is older than what runs
/// and differs from it. After a rollback it is one further back.
pub fn before<'r>(kept: &'r [Release], current: &Release) -> Option<&'r Release> {
    let older = kept.iter().filter(|r| r.id < current.origin() && r.digest != current.digest);
    older.max_by_key(|r| r.id)
}
