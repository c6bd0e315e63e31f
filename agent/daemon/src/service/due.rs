//! What is due by the clock: the end of a suspension, the opening of a window. The clock itself may be set meanwhile.

use std::{
    fs,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use evenkeel_core::people::Suspension;

use super::{Order, Service};
use crate::{
    host::{now_ms, people},
    run::SyncEnd,
    store::StoreError,
    trigger::{Trigger, Waker},
};

/// How often the clock is compared with the time that went by, when nothing is due sooner.
const LOOK: Duration = Duration::from_secs(20);
/// The shortest pause.
const SOONEST: Duration = Duration::from_millis(20);
/// A difference up to this is how clocks are; beyond it somebody set one. In milliseconds.
const TOLERANCE_MS: i64 = 2000;

/// Ends suspensions when their time is over, and wakes the loop. Until the agent stops.
pub(super) async fn watch(service: Arc<Service>, waker: Waker<SyncEnd, Order>) {
    let mut clock = Clock::start();
    let started = now_ms();
    let mut pause = tell(service.store.move_suspensions(|s| s.at_start(started))).map_or(LOOK, |()| SOONEST);
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = service.due.notified() => {}
            () = service.stop.cancelled() => return,
        }
        pause = tell(look(&service, &mut clock, &waker)).unwrap_or(LOOK);
    }
}

fn tell<T>(result: Result<T, StoreError>) -> Option<T> {
    result.inspect_err(|error| tracing::error!(%error, "cannot look after suspensions")).ok()
}

/// Does what is due, and gives the pause until the next look.
fn look(service: &Service, clock: &mut Clock, waker: &Waker<SyncEnd, Order>) -> Result<Duration, StoreError> {
    let jump = clock.jump_ms();
    if jump.abs() > TOLERANCE_MS && !service.store.suspensions()?.is_empty() {
        tracing::warn!(jump_ms = jump, "the clock was set; suspensions last as long as they were asked for");
        service.store.move_suspensions(|suspension| suspension.after_clock_set(jump))?;
    }
    if people::end_due(&service.store, &service.settings())? {
        waker.wake(Trigger::Due);
    }
    let now = now_ms();
    let opens = service.opens.load(Ordering::Relaxed);
    if now >= opens {
        // The sync that comes of this says what waits next.
        service.opens.store(i64::MAX, Ordering::Relaxed);
        waker.wake(Trigger::Due);
    }
    let ends = service.store.suspensions()?.into_iter().map(|s: Suspension| s.until_ms);
    let left = ends.chain(Some(opens).filter(|opens| *opens > now)).map(|at| at.saturating_sub(now)).min();
    let left = left.map_or(LOOK, |ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
    Ok(left.clamp(SOONEST, LOOK))
}

/// The wall clock beside one that nobody sets.
struct Clock {
    wall_ms: i64,
    steady: Steady,
}

enum Steady {
    /// Time since the boot, which goes on while the machine sleeps.
    Boot(Duration),
    /// Where that cannot be read.
    Process(Instant),
}

impl Clock {
    fn start() -> Self {
        let steady = since_boot().map_or_else(|| Steady::Process(Instant::now()), Steady::Boot);
        Self { wall_ms: now_ms(), steady }
    }

    /// By how much the wall clock went further than time since the last call, in milliseconds.
    fn jump_ms(&mut self) -> i64 {
        let next = Self::start();
        let passed = match (&self.steady, &next.steady) {
            (Steady::Boot(before), Steady::Boot(now)) => now.saturating_sub(*before),
            (Steady::Process(before), Steady::Process(now)) => now.saturating_duration_since(*before),
            // One of the two cannot be read any more: nothing is known of this time.
            _ => Duration::from_millis(u64::try_from(next.wall_ms - self.wall_ms).unwrap_or(0)),
        };
        let jump = next.wall_ms - self.wall_ms - i64::try_from(passed.as_millis()).unwrap_or(i64::MAX);
        *self = next;
        jump
    }
}

/// Time since the boot, from `/proc/uptime`: `12345.67 …`.
fn since_boot() -> Option<Duration> {
    let text = fs::read_to_string("/proc/uptime").ok()?;
    Duration::try_from_secs_f64(text.split_ascii_whitespace().next()?.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_nobody_sets_does_not_jump_and_one_that_is_set_does() {
        let mut clock = Clock::start();
        assert!(clock.jump_ms().abs() < TOLERANCE_MS);
        clock.wall_ms -= 3_600_000;
        let jump = clock.jump_ms();
        assert!((jump - 3_600_000).abs() < TOLERANCE_MS, "{jump}");
        assert!(clock.jump_ms().abs() < TOLERANCE_MS, "a jump is told once");
    }
}
