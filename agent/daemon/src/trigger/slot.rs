//! The one slot between everything that wants a sync and the one loop that runs them. What a person orders in so many
//! words goes through it one by one; any number of reasons to look are one sync.

use std::{
    collections::{BTreeSet, VecDeque},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, oneshot};

use super::Trigger;

/// What the loop has to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work<O> {
    /// A sync, for all these reasons; never none.
    Sync(BTreeSet<Trigger>),
    /// What a person ordered.
    Order(O),
}

/// Makes a slot and the first of its wakers. `R` is what is known at the end of a sync or an order, `O` what may be ordered.
pub fn slot<R: Clone, O>() -> (Waker<R, O>, Slot<R, O>) {
    let shared = Arc::new(Shared { state: Mutex::default(), woken: Notify::new() });
    (Waker { shared: Arc::clone(&shared) }, Slot { shared, running: Vec::new() })
}

struct Shared<R, O> {
    state: Mutex<State<R, O>>,
    woken: Notify,
}

struct State<R, O> {
    pending: BTreeSet<Trigger>,
    /// Who waits for a sync that has not begun.
    waiting: Vec<oneshot::Sender<R>>,
    /// What was ordered and has not begun, first come first.
    orders: VecDeque<(O, oneshot::Sender<R>)>,
    /// Whether there is no consumer any more.
    closed: bool,
}

impl<R, O> Default for State<R, O> {
    fn default() -> Self {
        Self { pending: BTreeSet::new(), waiting: Vec::new(), orders: VecDeque::new(), closed: false }
    }
}

impl<R, O> Shared<R, O> {
    /// A panic elsewhere leaves the sets whole: each is changed by one call.
    fn state(&self) -> MutexGuard<'_, State<R, O>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks for a sync. Cheap to clone, never waits.
pub struct Waker<R, O> {
    shared: Arc<Shared<R, O>>,
}

impl<R, O> Clone for Waker<R, O> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<R, O> Waker<R, O> {
    /// Asks for a sync. Any number of calls before it begins are one sync.
    pub fn wake(&self, trigger: Trigger) {
        self.shared.state().pending.insert(trigger);
        self.shared.woken.notify_one();
    }

    /// Asks for a sync as a person does, and gives a ticket for the end of a sync that begins after this call:
    /// one that runs already may have looked at the repository too early.
    pub fn request(&self) -> Ticket<R> {
        self.ask(|state, sender| {
            state.waiting.push(sender);
            state.pending.insert(Trigger::Manual);
        })
    }

    /// Orders something, and gives a ticket for its end.
    pub fn order(&self, order: O) -> Ticket<R> {
        self.ask(|state, sender| state.orders.push_back((order, sender)))
    }

    fn ask(&self, put: impl FnOnce(&mut State<R, O>, oneshot::Sender<R>)) -> Ticket<R> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.shared.state();
        // Dropped at once when nobody serves the slot any more: the ticket then says so.
        if !state.closed {
            put(&mut state, sender);
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

/// The consumer's end. One loop calls [`Slot::next`], does it, and calls [`Slot::finished`].
pub struct Slot<R, O> {
    shared: Arc<Shared<R, O>>,
    /// Who waits for what is being done.
    running: Vec<oneshot::Sender<R>>,
}

impl<R: Clone, O> Slot<R, O> {
    /// Waits until somebody wants something. Orders come first, one by one; of syncs all that was wanted so far.
    ///
    /// May be dropped while it waits (in a `select!`), and nothing is lost.
    pub async fn next(&mut self) -> Work<O> {
        loop {
            {
                let mut state = self.shared.state();
                if let Some((order, sender)) = state.orders.pop_front() {
                    self.running.push(sender);
                    return Work::Order(order);
                }
                if !state.pending.is_empty() {
                    // Those of a sync that never finished stay and are served by this one, which is later still.
                    self.running.append(&mut state.waiting);
                    return Work::Sync(mem::take(&mut state.pending));
                }
            }
            self.shared.woken.notified().await;
        }
    }

    /// Tells everyone whose request the work that just ended has served.
    pub fn finished(&mut self, result: &R) {
        for waiting in self.running.drain(..) {
            // A caller that hung up is no fault.
            let _ = waiting.send(result.clone());
        }
    }
}

impl<R, O> Drop for Slot<R, O> {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.closed = true;
        state.waiting.clear();
        state.orders.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_millis(50);

    fn syncs<const N: usize>(triggers: [Trigger; N]) -> Work<&'static str> {
        Work::Sync(BTreeSet::from(triggers))
    }

    #[tokio::test]
    async fn orders_come_first_one_by_one_and_each_has_its_own_end() {
        let (waker, mut slot) = slot::<u32, &str>();
        let sync = waker.request();
        let (first, second) = (waker.order("first"), waker.order("second"));
        for (order, end) in [("first", 1), ("second", 2)] {
            assert_eq!(slot.next().await, Work::Order(order));
            slot.finished(&end);
        }
        assert_eq!((first.done().await, second.done().await), (Some(1), Some(2)));
        assert_eq!(slot.next().await, syncs([Trigger::Manual]));
        slot.finished(&3);
        assert_eq!(sync.done().await, Some(3));
        drop(slot);
        assert_eq!(waker.order("too late").done().await, None);
    }

    #[tokio::test]
    async fn many_triggers_are_one_sync() {
        let (waker, mut slot) = slot::<u32, &str>();
        for trigger in [Trigger::Webhook, Trigger::Poll, Trigger::Webhook] {
            waker.clone().wake(trigger);
        }
        assert_eq!(slot.next().await, syncs([Trigger::Webhook, Trigger::Poll]));
        assert!(timeout(SOON, slot.next()).await.is_err());
    }

    #[tokio::test]
    async fn a_wake_during_a_sync_is_not_lost() {
        let (waker, mut slot) = slot::<u32, &str>();
        waker.wake(Trigger::Start);
        slot.next().await;
        waker.wake(Trigger::Webhook);
        slot.finished(&1);
        assert_eq!(slot.next().await, syncs([Trigger::Webhook]));
    }

    #[tokio::test]
    async fn a_request_waits_for_a_sync_that_begins_after_it() {
        let (waker, mut slot) = slot::<u32, &str>();
        waker.wake(Trigger::Poll);
        slot.next().await;
        let ticket = tokio::spawn(waker.request().done());
        slot.finished(&1);
        assert_eq!(slot.next().await, syncs([Trigger::Manual]));
        slot.finished(&2);
        assert_eq!(ticket.await.unwrap(), Some(2));
    }

    #[tokio::test]
    async fn all_who_asked_before_are_served_by_one_sync() {
        let (waker, mut slot) = slot::<u32, &str>();
        let tickets = [waker.request(), waker.request()];
        slot.next().await;
        slot.finished(&7);
        for ticket in tickets {
            assert_eq!(ticket.done().await, Some(7));
        }
    }

    #[tokio::test]
    async fn a_ticket_ends_when_the_agent_does() {
        let (waker, mut slot) = slot::<u32, &str>();
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
        let (waker, mut slot) = slot::<u32, &str>();
        let consumer = tokio::spawn(async move { slot.next().await });
        tokio::time::sleep(SOON).await;
        waker.wake(Trigger::Watch);
        assert_eq!(timeout(Duration::from_secs(5), consumer).await.unwrap().unwrap(), syncs([Trigger::Watch]));
    }
}
