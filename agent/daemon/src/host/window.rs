//! Maintenance windows at a moment: whether one is open, and when that changes.
//!
//! A window is hours of the wall clock. When the clock is set forward over its beginning it opens when the clock goes on;
//! when an hour comes twice it is open in both.

use evenkeel_core::{
    people::WindowState,
    reason::{Code, Reason},
};
use evenkeel_layout::window::{Span, Window};

use crate::config::time_zone;
use jiff::{Timestamp, ToSpan as _, Zoned, civil::Time, tz::TimeZone};

/// How far is looked ahead, in days: each span begins at least once a week.
const AHEAD: i64 = 9;

/// A window at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// Whether deployments may begin.
    pub open: bool,
    /// When that changes; `None` if not within a week.
    pub changes: Option<Timestamp>,
}

/// The window at `now`. The error names a time zone that this server does not know.
pub fn at(window: &Window, now: Timestamp) -> Result<At, String> {
    let mut hours: Vec<(Timestamp, Timestamp)> = Vec::new();
    for span in window.spans() {
        let zone = time_zone(span)?;
        hours.extend(around(span, &zone, now).unwrap_or_default());
    }
    let mut open_until = now;
    // Spans that overlap or follow each other are one.
    while let Some((_, end)) = hours.iter().find(|(start, end)| *start <= open_until && *end > open_until) {
        open_until = *end;
    }
    let open = open_until > now;
    let furthest = now.saturating_add((AHEAD - 2).saturating_mul(24).hours()).unwrap_or(Timestamp::MAX);
    let changes = if open {
        Some(open_until).filter(|until| *until < furthest)
    } else {
        hours.iter().map(|(start, _)| *start).filter(|start| *start > now).min()
    };
    Ok(At { open, changes })
}

/// The hours of a span from the day before `now` on.
fn around(span: &Span, zone: &TimeZone, now: Timestamp) -> Option<Vec<(Timestamp, Timestamp)>> {
    let today = Zoned::new(now, zone.clone()).date();
    let moment = |date: jiff::civil::Date, minutes: u16| {
        let day = date.checked_add(i64::from(minutes / 1440).days()).ok()?;
        let (hour, minute) = (i8::try_from(minutes % 1440 / 60).ok()?, i8::try_from(minutes % 60).ok()?);
        Some(day.to_datetime(Time::new(hour, minute, 0, 0).ok()?).to_zoned(zone.clone()).ok()?.timestamp())
    };
    let mut hours = Vec::new();
    for offset in -1..=AHEAD {
        let date = today.checked_add(offset.days()).ok()?;
        let weekday = usize::try_from(date.weekday().to_monday_zero_offset()).ok()?;
        if span.days[weekday] {
            hours.push((moment(date, span.from)?, moment(date, span.to)?));
        }
    }
    Some(hours)
}

/// Why a stack waits for its window at `now`, with the moment when it opens; `None` if it need not.
pub fn closed(window: &Window, now: Timestamp) -> Result<Option<(Reason, Option<Timestamp>)>, Reason> {
    let at = at(window, now).map_err(|message| Reason::new(Code::StackInvalid, format!("its window: {message}")))?;
    if at.open {
        return Ok(None);
    }
    let opens = at.changes.map_or_else(String::new, |at| format!(", which opens at {at}"));
    let message = format!(
        "it waits for its maintenance window ({window}){opens}; `evenkeel sync --override --reason …` does not wait"
    );
    Ok(Some((Reason::new(Code::HeldByWindow, message), at.changes)))
}

/// A window in the status.
pub fn state(window: &Window, now: Timestamp) -> WindowState {
    let at = at(window, now).ok();
    WindowState {
        window: window.to_string(),
        open: at.is_some_and(|at| at.open),
        changes: at.and_then(|at| at.changes).map(|at| at.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(spans: &[&str], now: &str) -> (bool, Option<String>) {
        let window = Window::new(spans.iter().map(|span| span.parse().unwrap()).collect()).unwrap();
        let at = at(&window, now.parse().unwrap()).unwrap();
        (at.open, at.changes.map(|at| at.to_string()))
    }

    fn is(open: bool, changes: &str) -> (bool, Option<String>) {
        (open, Some(changes.to_owned()))
    }

    #[test]
    fn a_window_opens_and_closes_by_the_clock_of_its_zone() {
        let night = ["Sat,Sun 22:00-06:00 Europe/Berlin"];
        // A Friday; in November Berlin is an hour ahead.
        assert_eq!(seen(&night, "2026-11-20T12:00:00Z"), is(false, "2026-11-21T21:00:00Z"));
        assert_eq!(seen(&night, "2026-11-21T21:00:00Z"), is(true, "2026-11-22T05:00:00Z"));
        assert_eq!(seen(&night, "2026-11-23T04:59:59Z"), is(true, "2026-11-23T05:00:00Z"));
        assert_eq!(seen(&night, "2026-11-23T05:00:00Z"), is(false, "2026-11-28T21:00:00Z"));
    }

    #[test]
    fn spans_that_meet_are_one_and_one_without_end_never_changes() {
        let two = ["Mon 10:00-12:00 UTC", "Mon 12:00-13:00 UTC"];
        assert_eq!(seen(&two, "2026-11-23T10:30:00Z"), is(true, "2026-11-23T13:00:00Z"));
        assert_eq!(seen(&["00:00-24:00 UTC"], "2026-11-23T10:30:00Z"), (true, None));
    }

    #[test]
    fn a_window_that_the_clock_skips_opens_when_the_clock_goes_on_and_one_that_comes_twice_is_open_twice() {
        let window = ["02:15-02:45 Europe/Berlin"];
        // 2027-03-28: from 02:00 to 03:00 the clock shows nothing; it goes on at 01:00 UTC.
        assert_eq!(seen(&window, "2027-03-28T00:59:00Z"), is(false, "2027-03-28T01:15:00Z"));
        assert_eq!(seen(&window, "2027-03-28T01:20:00Z"), is(true, "2027-03-28T01:45:00Z"));
        // 2026-10-25: from 02:00 to 03:00 comes twice, at 00:00 and at 01:00 UTC.
        let long = ["02:00-03:00 Europe/Berlin"];
        assert_eq!(seen(&long, "2026-10-25T00:00:00Z"), is(true, "2026-10-25T02:00:00Z"));
        assert_eq!(seen(&long, "2026-10-25T01:30:00Z"), is(true, "2026-10-25T02:00:00Z"));
    }

    #[test]
    fn a_zone_that_nobody_knows_is_an_error_and_never_open() {
        let window = Window::new(vec!["02:00-03:00 Europe/Atlantis".parse().unwrap()]).unwrap();
        assert!(at(&window, Timestamp::UNIX_EPOCH).unwrap_err().contains("Europe/Atlantis"));
        assert!(!state(&window, Timestamp::UNIX_EPOCH).open);
    }
}
