//! Locks on image tags: they are host-wide, so two stacks that share one may not move it at the same time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::OwnedMutexGuard;

/// The locks, one for each reference that was ever asked for.
#[derive(Default)]
pub struct TagLocks(Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl TagLocks {
    /// Waits until all of `references` are free and takes them, always in the same order, so nobody waits in a ring.
    pub async fn take(&self, references: BTreeSet<String>) -> Vec<OwnedMutexGuard<()>> {
        let locks: Vec<_> = {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            references.into_iter().map(|r| Arc::clone(known.entry(r).or_default())).collect()
        };
        let mut guards = Vec::with_capacity(locks.len());
        for lock in locks {
            guards.push(lock.lock_owned().await);
        }
        guards
    }
}
