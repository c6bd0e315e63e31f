//! `window`: when deployments of a stack may begin, as a person writes it: `Mon-Fri 02:00-05:00 Europe/Berlin`.
//!
//! Only the words are read here. What they mean at a moment depends on a clock and on the zones that a machine knows.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// More spans than this are no window.
const MAX_SPANS: usize = 50;
/// Minutes of a day.
const DAY: u16 = 24 * 60;
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// Why a text is no span of a window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a window: write days, times and a zone, as in `Mon-Fri 02:00-05:00 Europe/Berlin`; days and zone may be left out"
)]
pub struct WindowError(String);

/// Some hours of some days, such as `Sat,Sun 22:00-06:00 UTC`. Hours that end before they begin end on the next day.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span {
    /// Whether it begins on each day of the week, Monday first.
    pub days: [bool; 7],
    /// When it begins, in minutes since midnight.
    pub from: u16,
    /// When it ends, in minutes since midnight of the day that it begins on; more than a day's if on the next day.
    pub to: u16,
    /// The time zone's name, such as `Europe/Berlin`; `None` for the server's own.
    pub zone: Option<String>,
}

/// All spans of a window; never empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Vec<Span>", into = "Vec<Span>")]
pub struct Window(Vec<Span>);

impl Window {
    /// A window of these spans, unless there are none or too many.
    pub fn new(spans: Vec<Span>) -> Option<Self> {
        (!spans.is_empty() && spans.len() <= MAX_SPANS).then_some(Self(spans))
    }

    /// Its spans, as written.
    pub fn spans(&self) -> &[Span] {
        &self.0
    }
}

impl TryFrom<Vec<Span>> for Window {
    type Error = WindowError;

    fn try_from(spans: Vec<Span>) -> Result<Self, WindowError> {
        Self::new(spans).ok_or_else(|| WindowError(String::new()))
    }
}

impl From<Window> for Vec<Span> {
    fn from(window: Window) -> Self {
        window.0
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spans: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&spans.join("; "))
    }
}

impl TryFrom<String> for Span {
    type Error = WindowError;

    fn try_from(text: String) -> Result<Self, WindowError> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

impl FromStr for Span {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Self, WindowError> {
        let wrong = || WindowError(text.chars().take(80).collect());
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let at = words.iter().position(|word| word.contains(':')).filter(|at| *at <= 1).ok_or_else(wrong)?;
        let days = if at == 1 { days(words[0]).ok_or_else(wrong)? } else { [true; 7] };
        let (from, to) = words[at].split_once('-').ok_or_else(wrong)?;
        let (from, to) = (minutes(from).ok_or_else(wrong)?, minutes(to).ok_or_else(wrong)?);
        let zone = match words[at + 1..] {
            [] => None,
            [zone] if is_zone(zone) => Some(zone.to_owned()),
            _ => return Err(wrong()),
        };
        if from == DAY || from == to {
            return Err(wrong());
        }
        Ok(Self { days, from, to: if to > from { to } else { to + DAY }, zone })
    }
}

/// `UTC`, `Europe/Berlin`, `America/Argentina/Buenos_Aires`: never a path that leads elsewhere.
fn is_zone(text: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+'))
    };
    text.len() <= 64 && text.split('/').all(part)
}

/// `Mon`, `Mon-Fri`, `Sat,Sun`, `Fri-Mon,Wed`.
fn days(text: &str) -> Option<[bool; 7]> {
    let day = |name: &str| DAYS.iter().position(|known| known.eq_ignore_ascii_case(name));
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut at, last) = (day(first)?, day(last)?);
        days[at] = true;
        while at != last {
            at = (at + 1) % 7;
            days[at] = true;
        }
    }
    Some(days)
}

/// `02:00` to `24:00`, in minutes.
fn minutes(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |digits: &str| -> Option<u16> {
        let plain = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit());
        if plain { digits.parse().ok() } else { None }
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let all = hours * 60 + minutes;
    (minutes < 60 && all <= DAY).then_some(all)
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days != [true; 7] {
            let names: Vec<&str> = DAYS.iter().zip(self.days).filter(|(_, is)| *is).map(|(name, _)| *name).collect();
            write!(f, "{} ", names.join(","))?;
        }
        // An end at midnight is written as the end of the day.
        let to = if self.to > DAY { self.to - DAY } else { self.to };
        write!(f, "{:02}:{:02}-{:02}:{:02}", self.from / 60, self.from % 60, to / 60, to % 60)?;
        self.zone.as_ref().map_or(Ok(()), |zone| write!(f, " {zone}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_understood_and_said_again() {
        let cases = [
            ("02:00-05:00", "02:00-05:00"),
            ("Mon-Fri 02:00-05:00 Europe/Berlin", "Mon,Tue,Wed,Thu,Fri 02:00-05:00 Europe/Berlin"),
            ("sat,SUN 22:00-06:00 UTC", "Sat,Sun 22:00-06:00 UTC"),
            ("Fri-Mon,Wed 00:00-24:00", "Mon,Wed,Fri,Sat,Sun 00:00-24:00"),
            ("22:00-00:00", "22:00-24:00"),
        ];
        for (written, said) in cases {
            let span: Span = written.parse().unwrap();
            assert_eq!(span.to_string(), said);
            assert_eq!(said.parse::<Span>().unwrap(), span);
        }
        let night: Span = "22:00-06:00".parse().unwrap();
        assert_eq!((night.from, night.to), (22 * 60, 30 * 60));
    }

    #[test]
    fn what_is_no_window_is_refused() {
        let wrong = [
            "",
            "Mon",
            "02:00",
            "2:00-5:00",
            "02:00-02:00",
            "24:00-05:00",
            "25:00-26:00",
            "02:60-03:00",
            "Mo 02:00-05:00",
            "02:00-05:00 ../../etc/passwd",
            "02:00-05:00 /etc/localtime",
            "02:00-05:00 UTC UTC",
            "Mon Tue 02:00-03:00",
            "-1:00-02:00",
            "02:00-05:00 Europe//Berlin",
        ];
        for text in wrong {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_window_is_kept_as_it_is_written() {
        let window = Window::new(vec!["Sat 02:00-05:00 UTC".parse().unwrap()]).unwrap();
        let json = serde_json::to_string(&window).unwrap();
        assert_eq!(json, r#"["Sat 02:00-05:00 UTC"]"#);
        assert_eq!(serde_json::from_str::<Window>(&json).unwrap(), window);
        assert!(serde_json::from_str::<Window>("[]").is_err());
    }
}
