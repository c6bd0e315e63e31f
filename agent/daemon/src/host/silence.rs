//! A repository that does not answer. That somebody holds news back cannot be seen; that there is none can.

use evenkeel_core::{
    id::CommitId,
    outcome::Outcome,
    reason::{Code, Reason},
};

use super::{Host, messages::Happening, now_ms};
use crate::{
    config::{
        duration_text,
        settings::{Event, Settings},
    },
    store::{Store, StoreError, instant},
};

/// Since when the repository has been silent for longer than `trust.stale_after`, in words; `None` if it has not.
pub fn too_long(store: &Store, settings: &Settings, now_ms: i64) -> Result<Option<String>, StoreError> {
    let Some(since) = store.silent_since()? else { return Ok(None) };
    let limit = settings.trust.stale_after;
    if u128::try_from(now_ms - since).unwrap_or(0) < limit.as_millis() {
        return Ok(None);
    }
    let what = "has not answered since";
    let limit = duration_text(limit);
    Ok(Some(format!(
        "the repository {} {what} {}, longer than trust.stale_after ({limit}): newer commits would not be seen. \
         Check the network, the repository's server and source.auth; `evenkeel sync` says what is wrong",
        settings.source.url,
        instant(since)
    )))
}

impl Host {
    /// Raises the alarm once for each silence.
    pub fn tell_silence(&self) -> Result<(), StoreError> {
        let now = now_ms();
        let Some(what) = too_long(&self.store, &self.settings, now)? else { return Ok(()) };
        if self.store.silence_was_told()? {
            return Ok(());
        }
        let reason = Reason::new(Code::SourceStale, what);
        tracing::warn!(code = %reason.code, "{reason}");
        let messages = self.tell(&Happening::of_the_whole(Event::Stale, Outcome::Aborted, Some(&reason)));
        self.store.tell_silence(&reason, &messages, now)?;
        self.outbox.notify_one();
        Ok(())
    }

    /// Notes that the repository answered with this tip, and tells it if the alarm was raised.
    pub fn contact(&self, tip: &CommitId) -> Result<(), StoreError> {
        if !self.store.silence_was_told()? {
            return self.store.contact(tip, &[], now_ms());
        }
        tracing::info!("the repository answers again");
        let news = self.tell(&Happening::of_the_whole(Event::Recovered, Outcome::Unchanged, None));
        self.store.contact(tip, &news, now_ms())?;
        self.outbox.notify_one();
        Ok(())
    }
}
