//! Which Compose is there, and whether it is new enough.

use semver::Version;

/// The oldest Compose that does what is asked of it.
pub const MINIMUM: Version = Version::new(2, 20, 0);

/// Reads what `docker compose version --short` prints. Packagers append their own revision (`2.26.1-4`), some put a `v` in
/// front; neither says anything of what Compose can do.
pub fn parse(text: &str) -> Option<Version> {
    let text = text.trim().trim_start_matches('v');
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let mut parts = text[..end].split('.').filter(|p| !p.is_empty()).map(str::parse::<u64>);
    let mut next = |default: Option<u64>| match parts.next() {
        Some(Ok(n)) => Some(n),
        Some(Err(_)) => None,
        None => default,
    };
    Some(Version::new(next(None)?, next(None)?, next(Some(0))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_versions_as_packagers_print_them() {
        for (text, version) in [
            ("2.26.1\n", (2, 26, 1)),
            ("2.26.1-4", (2, 26, 1)),
            ("v2.20.0", (2, 20, 0)),
            ("2.29.7+ds1-1", (2, 29, 7)),
            ("5.0", (5, 0, 0)),
        ] {
            assert_eq!(parse(text), Some(Version::new(version.0, version.1, version.2)), "{text:?}");
        }
        for text in ["", "dev", "2", "unknown flag: --short"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
