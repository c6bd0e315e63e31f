//! Small values: durations, refs, URLs. Each check says what it wants, never what it got if that may be a secret.

use std::{
    path::{Component, Path},
    time::Duration,
};

use evenkeel_layout::window::Span;
use jiff::tz::TimeZone;
use reqwest::Url;

/// Reads `500ms`, `10s`, `5m`, `2h` or `7d`: a whole number and one unit.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    // 15 digits of milliseconds are longer than any server lives, and cannot overflow below.
    if digits == 0 || digits > 15 {
        return None;
    }
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

/// The time zone of a window's span; the server's own if it names none.
pub fn time_zone(span: &Span) -> Result<TimeZone, String> {
    let Some(name) = &span.zone else { return Ok(TimeZone::system()) };
    TimeZone::get(name).map_err(|_| {
        format!("this server knows no time zone {name}; correct the name, install the package tzdata, or write UTC")
    })
}

/// A duration as [`parse_duration`] reads it, in the largest unit that fits.
pub(crate) fn duration_text(duration: Duration) -> String {
    let millis = duration.as_millis();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if millis >= size && millis.is_multiple_of(size) {
            return format!("{}{unit}", millis / size);
        }
    }
    format!("{millis}ms")
}

/// Whether `name` is a full branch ref that Git accepts (`git check-ref-format`).
pub(super) fn is_branch_ref(name: &str) -> bool {
    let Some(branch) = name.strip_prefix("refs/heads/") else { return false };
    let part_is_good = |part: &str| {
        let is_lock = Path::new(part).extension().is_some_and(|extension| extension == "lock");
        !(part.is_empty() || part.starts_with('.') || is_lock)
    };
    branch.len() <= 250
        && branch.split('/').all(part_is_good)
        && !branch.ends_with('.')
        && !branch.contains("..")
        && !branch.contains("@{")
        && !branch.chars().any(|c| c.is_control() || " ~^:?*[\\".contains(c))
}

/// Whether `path` is absolute, not the root itself and free of `.` and `..`.
pub(super) fn is_plain_absolute(path: &Path) -> bool {
    let mut parts = path.components();
    parts.next() == Some(Component::RootDir)
        && path.file_name().is_some()
        && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// Checks a URL of one of `schemes`. The error is a message and a remedy, neither of which repeats the URL.
pub(super) fn checked_url(text: &str, schemes: &[&str]) -> Result<Url, (String, String)> {
    let wanted = schemes.iter().map(|scheme| format!("{scheme}://")).collect::<Vec<_>>().join(" or ");
    let url =
        Url::parse(text).map_err(|error| (format!("is no URL: {error}"), format!("write a URL with {wanted}")))?;
    if !schemes.contains(&url.scheme()) {
        return Err((format!("has a scheme that is not supported: {}", url.scheme()), format!("use {wanted}")));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err((
            "has a user name or password in it, which would end up in logs and process lists".to_owned(),
            "take it out of the URL and put it into a file of mode 0600 (`token_file`, where the block has one)"
                .to_owned(),
        ));
    }
    if url.fragment().is_some() {
        return Err(("has a `#` part, which no server sees".to_owned(), "remove it".to_owned()));
    }
    if url.scheme() == "file" && (url.host_str().is_some_and(|host| !host.is_empty()) || !url.path().starts_with('/')) {
        return Err(("names a host in a file URL".to_owned(), "write file:///absolute/path".to_owned()));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_one_unit() {
        for (text, millis) in [("500ms", 500), ("10s", 10_000), ("5m", 300_000), ("2h", 7_200_000), ("7d", 604_800_000)]
        {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)));
            assert_eq!(duration_text(Duration::from_millis(millis)), text);
        }
        for text in ["", "10", "s", "1.5s", "-1s", "10 s", "1m30s", "10S", "999999999999999999s"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn only_full_branch_refs_pass() {
        for good in ["refs/heads/main", "refs/heads/feature/x-1", "refs/heads/ü"] {
            assert!(is_branch_ref(good), "{good}");
        }
        for bad in [
            "main",
            "refs/tags/v1",
            "refs/heads/",
            "refs/heads/a..b",
            "refs/heads/.a",
            "refs/heads/a.lock",
            "refs/heads/a b",
            "refs/heads/a//b",
            "refs/heads/a.",
            "refs/heads/a@{1}",
            "refs/heads/a\n",
            "refs/heads/*",
        ] {
            assert!(!is_branch_ref(bad), "{bad}");
        }
    }

    #[test]
    fn a_url_with_credentials_is_refused_without_repeating_them() {
        let (message, help) = checked_url("https://you:hunter2@example.org/x.git", &["https"]).unwrap_err();
        assert!(help.contains("token_file") && !message.contains("hunter2") && !help.contains("hunter2"));
        assert!(checked_url("ssh://git@example.org/x", &["https", "file"]).is_err());
        assert!(checked_url("file://host/x", &["file"]).is_err());
        assert!(checked_url("file:///srv/x.git", &["file"]).is_ok());
    }

    #[test]
    fn paths_must_be_absolute_and_plain() {
        for (path, good) in [("/srv/x", true), ("/", false), ("srv/x", false), ("/srv/../etc", false), ("", false)] {
            assert_eq!(is_plain_absolute(Path::new(path)), good, "{path}");
        }
    }
}
