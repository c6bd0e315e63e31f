//! The one slot between everything that wants a sync and the one loop that runs them.

use std::{
    collections::BTreeSet,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, oneshot};

use super::Trigger;

/// Makes a slot and the first of its wakers. `R` is what is known at the end of a sync.
pub fn slot<R: Clone>() -> (Waker<R>, Slot<R>) {
    let shared = Arc::new(Shared { state: Mutex::default(), woken: Notify::new() });
    (Waker { shared: Arc::clone(&shared) }, Slot { shared, running: Vec::new() })
}

struct Shared<R> {
    state: Mutex<State<R>>,
    woken: Notify,
}

struct State<R> {
    pending: BTreeSet<Trigger>,
    /// Who waits for a sync that has not begun.
    waiting: Vec<oneshot::Sender<R>>,
    /// Whether there is no consumer any more.
    closed: bool,
}

impl<R> Default for State<R> {
    fn default() -> Self {
        Self { pending: BTreeSet::new(), waiting: Vec::new(), closed: false }
    }
}

impl<R> Shared<R> {
    /// A panic elsewhere leaves the sets whole: each is changed by one call.
    fn state(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks for a sync. Cheap to clone, never waits.
pub struct Waker<R> {
    shared: Arc<Shared<R>>,
}

impl<R> Clone for Waker<R> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<R> Waker<R> {
    /// Asks for a sync. Any number of calls before it begins are one sync.
    pub fn wake(&self, trigger: Trigger) {
        self.shared.state().pending.insert(trigger);
        self.shared.woken.notify_one();
    }

    /// Asks for a sync as a person does, and gives a ticket for the end of a sync that begins after this call:
    /// one that runs already may have looked at the repository too early.
    pub fn request(&self) -> Ticket<R> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.shared.state();
        // Dropped at once when nobody serves the slot any more: the ticket then says so.
        if !state.closed {
            state.waiting.push(sender);
            state.pending.insert(Trigger::Manual);
        }
        drop(state);
        self.shared.woken.notify_one();
        Ticket(receiver)
    }
}

/// Waits for the end of the sync that serves one request.
pub struct Ticket<R>(oneshot::Receiver<R>);

impl<R> Ticket<R> {
    /// What the sync ended with, or `None` if the agent stopped before.
    pub async fn done(self) -> Option<R> {
        self.0.await.ok()
    }
}

/// The consumer's end. One loop calls [`Slot::next`], syncs, and calls [`Slot::finished`].
pub struct Slot<R> {
    shared: Arc<Shared<R>>,
    /// Who waits for the sync that runs.
    running: Vec<oneshot::Sender<R>>,
}

impl<R: Clone> Slot<R> {
    /// Waits until somebody wants a sync, and gives everything that wanted it so far: never empty.
    ///
    /// May be dropped while it waits (in a `select!`), and nothing is lost.
    pub async fn next(&mut self) -> BTreeSet<Trigger> {
        loop {
            {
                let mut state = self.shared.state();
                if !state.pending.is_empty() {
                    // Those of a sync that never finished stay and are served by this one, which is later still.
                    self.running.append(&mut state.waiting);
                    return mem::take(&mut state.pending);
                }
            }
            self.shared.woken.notified().await;
        }
    }

    /// Tells everyone whose request the sync that just ended has served.
    pub fn finished(&mut self, result: &R) {
        for waiting in self.running.drain(..) {
            // A caller that hung up is no fault.
            let _ = waiting.send(result.clone());
        }
    }
}

impl<R> Drop for Slot<R> {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.closed = true;
        state.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn many_triggers_are_one_sync() {
        let (waker, mut slot) = slot::<u32>();
        for trigger in [Trigger::Webhook, Trigger::Poll, Trigger::Webhook] {
            waker.clone().wake(trigger);
        }
        assert_eq!(slot.next().await, BTreeSet::from([Trigger::Webhook, Trigger::Poll]));
        assert!(timeout(SOON, slot.next()).await.is_err());
    }

    #[tokio::test]
    async fn a_wake_during_a_sync_is_not_lost() {
        let (waker, mut slot) = slot::<u32>();
        waker.wake(Trigger::Start);
        slot.next().await;
        waker.wake(Trigger::Webhook);
        slot.finished(&1);
        assert_eq!(slot.next().await, BTreeSet::from([Trigger::Webhook]));
    }

    #[tokio::test]
    async fn a_request_waits_for_a_sync_that_begins_after_it() {
        let (waker, mut slot) = slot::<u32>();
        waker.wake(Trigger::Poll);
        slot.next().await;
        let ticket = tokio::spawn(waker.request().done());
        slot.finished(&1);
        assert_eq!(slot.next().await, BTreeSet::from([Trigger::Manual]));
        slot.finished(&2);
        assert_eq!(ticket.await.unwrap(), Some(2));
    }

    #[tokio::test]
    async fn all_who_asked_before_are_served_by_one_sync() {
        let (waker, mut slot) = slot::<u32>();
        let tickets = [waker.request(), waker.request()];
        slot.next().await;
        slot.finished(&7);
        for ticket in tickets {
            assert_eq!(ticket.done().await, Some(7));
        }
    }

    #[tokio::test]
    async fn a_ticket_ends_when_the_agent_does() {
        let (waker, mut slot) = slot::<u32>();
        let before = waker.request();
        slot.next().await;
        let during = waker.request();
        drop(slot);
        assert_eq!(before.done().await, None);
        assert_eq!(during.done().await, None);
        assert_eq!(waker.request().done().await, None);
    }

    #[tokio::test]
    async fn a_waiting_consumer_wakes_up() {
        let (waker, mut slot) = slot::<u32>();
        let consumer = tokio::spawn(async move { slot.next().await });
        tokio::time::sleep(SOON).await;
        waker.wake(Trigger::Watch);
        assert_eq!(timeout(Duration::from_secs(5), consumer).await.unwrap().unwrap(), BTreeSet::from([Trigger::Watch]));
    }
}
