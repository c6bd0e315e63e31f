//! Durations as people write them: `500ms`, `10s`, `5m`, `2h`, `7d`.

use std::time::Duration;

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration: write a whole number and a unit, as in 500ms, 10s, 5m, 2h or 7d")]
pub struct DurationError(String);

/// Reads one whole number followed by `ms`, `s`, `m`, `h` or `d`, with nothing between or around them.
///
/// At most ten years (3650 days), so that sums of durations cannot overflow.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let refused = || DurationError(text.chars().take(40).collect());
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(refused()),
    };
    let ms = number.parse::<u64>().ok().and_then(|n| n.checked_mul(factor_ms)).ok_or_else(refused)?;
    if ms > 3650 * 86_400_000 { Err(refused()) } else { Ok(Duration::from_millis(ms)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_each_unit() {
        for (text, ms) in
            [("500ms", 500), ("0s", 0), ("10s", 10_000), ("5m", 300_000), ("2h", 7_200_000), ("7d", 604_800_000)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn refuses_what_could_be_misread() {
        for text in ["", "s", "10", "10 s", " 10s", "1.5h", "-1s", "1h30m", "10S", "99999999999999999999s", "4000d"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
