//! Waiting for something to become true, with a deadline and a useful message.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

/// How long a deployment may take before a test gives up on it. A loaded machine with two cores needs the room.
pub const PATIENCE: Duration = seconds(60);

/// How long between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Looks again and again until `look` returns `Ok`, and returns what it found. After `limit` it fails the test with
/// `what` was waited for and the last `Err`, which says what was seen.
#[track_caller]
pub fn wait_until<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        let seen = match look() {
            Ok(found) => return found,
            Err(seen) => seen,
        };
        assert!(started.elapsed() < limit, "waited {} s for this: {what}\nlast seen: {seen}", limit.as_secs_f32());
        sleep(PAUSE);
    }
}

/// Looks again and again for `span` and fails the test as soon as `look` returns `Err`: for what must not happen.
#[track_caller]
pub fn stays(span: Duration, what: &str, mut look: impl FnMut() -> Result<(), String>) {
    let started = Instant::now();
    while started.elapsed() < span {
        if let Err(seen) = look() {
            panic!("this should have stayed so: {what}\nafter {:.1} s: {seen}", started.elapsed().as_secs_f32());
        }
        sleep(PAUSE);
    }
}

/// Whole seconds, shorter to write.
pub const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
