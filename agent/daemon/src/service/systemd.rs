//! What systemd is told (sd_notify(3)): ready, what is done now, that the agent is alive, that it stops. Elsewhere there
//! is nobody to tell, and all of this costs nothing.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::host::activity::Tracker;

/// Longest status that is told, in characters: people read it in one line of `systemctl status`.
const MAX_STATUS_CHARS: usize = 240;
/// Changes of the status come in flocks; this long they are gathered.
const GATHER: Duration = Duration::from_millis(100);

/// The agent is ready. From now on it says what it does and that it is alive, until it ends.
pub(super) fn ready(tracker: &Tracker, stop: &CancellationToken, tasks: &TaskTracker) {
    tell(&[NotifyState::Ready]);
    tasks.spawn(say_what_is_done(tracker.clone(), stop.clone()));
    if let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) {
        tracing::debug!(limit_s = limit.as_secs(), "systemd watches over this process");
        tokio::spawn(feed_the_watchdog(tracker.clone(), limit / 3));
    }
}

/// Tells each change of what is done, and that the agent stops as soon as it is asked to.
async fn say_what_is_done(tracker: Tracker, stop: CancellationToken) {
    let mut changes = tracker.subscribe();
    let mut told = String::new();
    loop {
        let line: String = changes.borrow_and_update().line().chars().take(MAX_STATUS_CHARS).collect();
        if line != told {
            tell(&[NotifyState::Status(&line)]);
            told = line;
        }
        tokio::select! {
            news = changes.changed() => if news.is_err() { return },
            () = stop.cancelled() => break,
        }
        tokio::select! {
            () = tokio::time::sleep(GATHER) => {}
            () = stop.cancelled() => break,
        }
    }
    let finishing = match tracker.activity() {
        Some(_) => "stopping: finishing what must not be left half done",
        None => "stopping",
    };
    tell(&[NotifyState::Stopping, NotifyState::Status(finishing)]);
}

/// Says that the agent is alive, as long as it is: the runtime turns, the loop is not stuck beyond its time, and what
/// looks at the engine looks.
async fn feed_the_watchdog(tracker: Tracker, pause: Duration) {
    let mut was_alive = true;
    loop {
        let is_alive = tracker.is_alive(Instant::now());
        if is_alive {
            tell(&[NotifyState::Watchdog]);
        } else if was_alive {
            let what = tracker.subscribe().borrow().line();
            tracing::error!("{what}: this takes longer than it ever may; systemd will start the agent anew");
        }
        was_alive = is_alive;
        tokio::time::sleep(pause).await;
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "cannot tell systemd");
    }
}
