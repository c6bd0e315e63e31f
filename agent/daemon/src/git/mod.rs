//! Git: the mirror of the tracked branch, reading objects, checking signatures. What the findings mean is decided in
//! `evenkeel_core::trust`.

pub mod allowed_signers;
pub mod apart;
pub mod aside;
pub mod certificates;
pub mod child;
pub mod commit;
mod error;
pub mod graph;
mod key;
mod link;
mod lists;
mod merge;
mod mirror;
mod object_tree;
#[cfg_attr(not(feature = "openpgp"), path = "openpgp_absent.rs")]
pub mod openpgp;
pub mod public_keys;
mod repo;
pub mod revoked;
pub mod signature;
mod ssh;
pub mod sshsig;
pub mod survey;
mod verify;
mod wire;
mod worker;

pub use error::GitError;
pub use mirror::{Fetched, VERB, fetch, fetch_with};
pub use object_tree::GitTree;
pub use repo::{CommitInfo, Repo, enclosing};
pub use verify::{keyring, policy, read_forge_keys, read_revoked, read_signers, verify};
