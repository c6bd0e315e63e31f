//! The words: what a person reads on a phone. Text that comes from a commit or a log is made harmless here.

use std::{borrow::Cow, fmt::Write as _};

use evenkeel_core::outcome::Outcome;

use super::Message;
use crate::config::settings::Event;

/// An invisible character: it breaks mentions and links without changing what is read.
const BREAK: char = '\u{200b}';

/// Longest headline, in characters.
const HEADLINE_CHARS: usize = 200;

/// What happened, in one line: `web rolled back on home: api became unhealthy`. Harmless as [`harmless`] has it.
pub fn headline(message: &Message) -> String {
    let mut line = heading(message);
    let why = message.reason.as_ref().map(|reason| reason.message.as_str());
    let what = why.or_else(|| message.commit.as_ref().map(|commit| commit.subject.as_str()));
    if let Some(first) = what.and_then(|text| text.lines().find(|line| !line.trim().is_empty())) {
        let _ = write!(line, ": {}", harmless(first));
    }
    fit(line.chars().map(|c| Cow::Owned(c.to_string())), HEADLINE_CHARS, |piece| piece.chars().count())
}

/// What happened, without the why: made of names and our own words only.
pub(super) fn heading(message: &Message) -> String {
    let Message { server, stack, commit, event, outcome, .. } = message;
    let commit = commit.as_ref().map(|commit| format!("commit {}", commit.id.short()));
    let who = match (event, stack) {
        // Nothing but a suspension holds everything.
        (Event::Held, None) => "every stack".to_owned(),
        (_, None) => commit.unwrap_or_else(|| "the configured commit".to_owned()),
        (_, Some(stack)) => stack.to_string(),
    };
    match event {
        Event::Deployed if message.to.is_none() && stack.is_some() => format!("{who} removed from {server}"),
        Event::Deployed => format!("{who} deployed on {server}"),
        Event::RolledBack => format!("{who} rolled back on {server}"),
        Event::Refused => match outcome {
            Outcome::Rejected => format!("{who} rejected on {server}"),
            Outcome::Aborted => format!("{who} not deployed on {server}"),
            _ => format!("{who} refused on {server}"),
        },
        Event::Held => match outcome {
            Outcome::Quarantined => format!("{who} kept out on {server}, it failed before"),
            _ => format!("{who} held on {server}"),
        },
        Event::Halted => format!("{who} halted on {server}, a person must act"),
        Event::Drift => format!("{who} drifted on {server}"),
        Event::Stale => format!("no news for {server}"),
        Event::Backup => format!("backups of {server} need a look"),
        Event::Recovered if stack.is_none() => format!("{server} recovered"),
        Event::Recovered => format!("{who} recovered on {server}"),
    }
}

/// Text of others, with nothing in it that a receiver could take for a mention, a link, a control or a trick of
/// writing direction. Lines stay lines.
pub(super) fn harmless(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for line in text.trim().lines() {
        if !clean.is_empty() {
            clean.push('\n');
        }
        for (number, word) in line.split(|c: char| c.is_whitespace() || c.is_control()).enumerate() {
            if number > 0 && !clean.ends_with([' ', '\n']) {
                clean.push(' ');
            }
            push_unlinked(&mut clean, word);
        }
        clean.truncate(clean.trim_end_matches(' ').len());
    }
    clean
}

/// Pushes a word, with breaks where a receiver would find a mention or a link.
fn push_unlinked(clean: &mut String, word: &str) {
    // Paths and flags are to be copied as they are, and nobody makes links of them.
    let may_be_link = !word.starts_with(['/', '-', '.', '~']);
    let mut previous = ' ';
    let mut rest = word.chars().filter(|c| !is_invisible(*c)).peekable();
    while let Some(c) = rest.next() {
        clean.push(c);
        let next = rest.peek().copied().unwrap_or(' ');
        let breaks = match c {
            '@' => true,
            ':' => next == '/',
            '.' => may_be_link && previous.is_alphanumeric() && next.is_alphabetic(),
            _ => false,
        };
        if breaks {
            clean.push(BREAK);
        }
        previous = c;
    }
}

/// Characters without a shape: zero width, writing direction, tags, variation of nothing.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Joins pieces as long as they cost at most `limit` together; what does not fit becomes an ellipsis.
/// A piece is never cut, so an escape keeps its character.
pub(super) fn fit<'p>(
    pieces: impl Iterator<Item = Cow<'p, str>>,
    limit: usize,
    cost: impl Fn(&str) -> usize,
) -> String {
    let ellipsis = cost("…");
    let (mut text, mut used, mut room_for_ellipsis) = (String::new(), 0, 0);
    for piece in pieces {
        used += cost(&piece);
        if used > limit {
            text.truncate(room_for_ellipsis);
            if ellipsis <= limit {
                text.push('…');
            }
            return text;
        }
        text.push_str(&piece);
        if used + ellipsis <= limit {
            room_for_ellipsis = text.len();
        }
    }
    text
}

/// A duration for people.
pub(super) fn took(duration_ms: u64) -> String {
    match duration_ms {
        0..10_000 => format!("{}.{} s", duration_ms / 1000, duration_ms % 1000 / 100),
        10_000..120_000 => format!("{} s", duration_ms / 1000),
        _ => format!("{} min {} s", duration_ms / 60_000, duration_ms % 60_000 / 1000),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn breaks_mentions_and_links_but_leaves_what_is_copied() {
        for (text, wanted) in [
            ("hi @everyone", "hi @\u{200b}everyone"),
            ("see https://evil.example/x", "see https:\u{200b}//evil.\u{200b}example/x"),
            ("www.evil.com", "www.\u{200b}evil.\u{200b}com"),
            ("bump web to 1.2.3", "bump web to 1.2.3"),
            ("run: chmod 600 /etc/evenkeel/a.yml", "run: chmod 600 /etc/evenkeel/a.yml"),
            ("a\u{202e}b\u{200b}c\x1b[31m", "abc [31m"),
            ("  two\r\n\tlines  ", "two\nlines"),
        ] {
            assert_eq!(harmless(text), wanted);
        }
    }

    #[test]
    fn durations_read_well() {
        assert_eq!([took(950), took(12_345), took(125_000)], ["0.9 s", "12 s", "2 min 5 s"]);
    }

    proptest! {
        #[test]
        fn what_fits_is_whole_and_what_does_not_ends_in_an_ellipsis(text in ".{0,80}", limit in 0_usize..60) {
            let pieces = || text.chars().map(|c| Cow::Owned(c.to_string()));
            let fitted = fit(pieces(), limit, str::len);
            prop_assert!(fitted.len() <= limit);
            if text.len() <= limit {
                prop_assert_eq!(fitted, text);
            } else if limit >= 3 {
                prop_assert!(fitted.ends_with('…'));
            }
        }

        #[test]
        fn no_mention_or_link_survives(text in "\\PC{0,20}(@everyone|https://a.b|://)\\PC{0,20}") {
            let clean = harmless(&text);
            prop_assert!(!clean.contains("@e") && !clean.contains("://"), "{clean:?}");
        }
    }
}
