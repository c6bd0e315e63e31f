//! Whose turn it is at the backup repository: restic locks it while it tidies or checks, and a deployment does not wait
//! for that.

use tokio::sync::{RwLock, RwLockReadGuard, watch};

/// The turns. Keeping gives way to whoever comes.
pub struct Turns {
    used: RwLock<()>,
    waiting: watch::Sender<usize>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { used: RwLock::new(()), waiting: watch::Sender::new(0) }
    }
}

impl Turns {
    /// Waits until keeping has left the repository, which it does at once. Others may use it at the same time. Held until the
    /// value is dropped.
    pub async fn take(&self) -> RwLockReadGuard<'_, ()> {
        let _waiting = Waiting::begin(&self.waiting);
        self.used.read().await
    }

    /// Does `work` unless somebody uses the repository or comes to want it; then `tidy` is done in its place, and this is
    /// `None`.
    pub async fn when_free<T>(&self, work: impl Future<Output = T>, tidy: impl Future<Output = ()>) -> Option<T> {
        let mut waiting = self.waiting.subscribe();
        let _alone = self.used.try_write().ok()?;
        let done = tokio::select! {
            done = work => Some(done),
            _ = waiting.wait_for(|count| *count > 0) => None,
        };
        if done.is_none() {
            tidy.await;
        }
        done
    }
}

/// Somebody who waits, as long as this lives.
struct Waiting<'a>(&'a watch::Sender<usize>);

impl<'a> Waiting<'a> {
    fn begin(waiting: &'a watch::Sender<usize>) -> Self {
        waiting.send_modify(|count| *count += 1);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use super::*;

    #[tokio::test]
    async fn keeping_gives_way_and_is_tidied_before_the_other_begins() {
        let turns = Arc::new(Turns::default());
        let is_tidy = Arc::new(AtomicBool::new(false));
        let (keeper, flag) = (Arc::clone(&turns), Arc::clone(&is_tidy));
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let keeping = tokio::spawn(async move {
            let work = async {
                begun.send(()).unwrap();
                std::future::pending::<()>().await;
            };
            keeper.when_free(work, async { flag.store(true, Ordering::SeqCst) }).await
        });
        has_begun.await.unwrap();
        let turn = turns.take().await;
        assert!(is_tidy.load(Ordering::SeqCst));
        assert_eq!(keeping.await.unwrap(), None);
        assert_eq!(turns.when_free(async { 1 }, async {}).await, None, "somebody has it");
        drop(turn);
        assert_eq!(turns.when_free(async { 1 }, async {}).await, Some(1));
    }
}
