//! Looking from time to time, not all servers in the same second, and less often while it fails.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use tokio::{sync::watch, time};

use super::{Trigger, Waker};

/// Failures make the pauses longer up to this, unless the interval itself is longer. A network that is back after an hour
/// is noticed this late at most.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(5 * 60);

/// How often to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// The configured interval.
    pub interval: Duration,
    /// How many syncs in a row failed for a reason that may pass.
    pub failures: u32,
}

/// The pause before the next look: the interval, doubled for each failure up to 5 minutes, and then up to 5 % shorter
/// or longer. `fraction` is random, from 0 to 1.
pub fn delay(schedule: Schedule, fraction: f64) -> Duration {
    let cap = LONGEST_BACK_OFF.max(schedule.interval);
    let doubled = 2_u32.checked_pow(schedule.failures).and_then(|factor| schedule.interval.checked_mul(factor));
    let pause = doubled.map_or(cap, |pause| pause.min(cap));
    let fraction = if fraction.is_finite() { fraction.clamp(0.0, 1.0) } else { 0.5 };
    pause.mul_f64(0.95 + 0.1 * fraction)
}

/// Wakes the slot again and again, until the sender of `schedule` is gone. A changed schedule starts a new pause.
/// `random` gives numbers from 0 to 1, such as [`random_fraction`].
pub async fn poll<R, O>(waker: Waker<R, O>, mut schedule: watch::Receiver<Schedule>, mut random: impl FnMut() -> f64) {
    loop {
        let pause = delay(*schedule.borrow_and_update(), random());
        tokio::select! {
            () = time::sleep(pause) => waker.wake(Trigger::Poll),
            changed = schedule.changed() => if changed.is_err() { return },
        }
    }
}

/// A number from 0 to 1, different each time. Good enough to spread load; not for secrets.
pub fn random_fraction() -> f64 {
    // Each RandomState has other keys, so the hash of nothing differs.
    let bits = RandomState::new().hash_one(()) >> 32;
    f64::from(u32::try_from(bits).unwrap_or(0)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trigger::{Work, slot};

    fn secs(interval: u64, failures: u32) -> u128 {
        (delay(Schedule { interval: Duration::from_secs(interval), failures }, 0.5).as_millis() + 500) / 1000
    }

    #[test]
    fn failures_double_the_pause_up_to_five_minutes() {
        let pauses: Vec<u128> = (0..6).map(|failures| secs(60, failures)).collect();
        assert_eq!(pauses, [60, 120, 240, 300, 300, 300]);
        assert_eq!(secs(3600, 9), 3600, "an interval longer than that is never shortened");
    }

    proptest! {
        #[test]
        fn the_pause_stays_within_five_percent(millis in 1_u64..1_000_000_000, failures: u32, fraction: f64) {
            let interval = Duration::from_millis(millis);
            let pause = delay(Schedule { interval, failures }, fraction);
            prop_assert!(pause >= interval.mul_f64(0.949));
            prop_assert!(pause <= interval.max(LONGEST_BACK_OFF).mul_f64(1.051));
        }
    }

    #[test]
    fn random_fractions_differ_and_fit() {
        let fractions: Vec<f64> = (0..50).map(|_| random_fraction()).collect();
        assert!(fractions.iter().all(|f| (0.0..=1.0).contains(f)));
        assert!(
            fractions.windows(2).any(|pair| pair[0] < pair[1]) && fractions.windows(2).any(|pair| pair[0] > pair[1])
        );
    }

    #[tokio::test]
    async fn polls_until_the_schedule_is_dropped_and_follows_its_changes() {
        let (waker, mut slot) = slot::<(), ()>();
        let (sender, receiver) = watch::channel(Schedule { interval: Duration::from_secs(3600), failures: 0 });
        let poller = tokio::spawn(poll(waker, receiver, || 0.5));
        sender.send(Schedule { interval: Duration::from_millis(20), failures: 0 }).unwrap();
        for _ in 0..3 {
            let woken = time::timeout(Duration::from_secs(5), slot.next()).await.unwrap();
            assert!(matches!(woken, Work::Sync(why) if why.contains(&Trigger::Poll)));
        }
        drop(sender);
        time::timeout(Duration::from_secs(5), poller).await.unwrap().unwrap();
    }
}
