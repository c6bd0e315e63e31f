//! The allowed-signers file, in `ssh-keygen`'s syntax (ALLOWED SIGNERS in ssh-keygen(1)).
//!
//! A line that `ssh-keygen` would stumble over is an error here, with its number: a typing mistake must not become a
//! key that silently does not count.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use evenkeel_core::trust::{AllowedKey, Signers};
use jiff::{civil::DateTime, tz::TimeZone};

use super::key::{self, KeyError};

/// Largest file of keys that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// One line that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct LineError {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

/// Reads a file's content. Times without a `Z` are in `zone`, as `ssh-keygen` takes them in the system's.
pub fn parse(text: &[u8], zone: &TimeZone) -> Result<Signers, LineError> {
    let mut keys = Vec::new();
    // Not `lines()`: that would drop a carriage return, which ssh-keygen takes as part of the key.
    for (number, line) in text.split(|&b| b == b'\n').enumerate() {
        let fail = |what: String| LineError { line: number + 1, what };
        let line = std::str::from_utf8(line).map_err(|_| fail("it is not UTF-8".to_owned()))?;
        if let Some(key) = entry(line, zone).map_err(fail)? {
            keys.push(key);
        }
    }
    Ok(Signers::new(keys))
}

/// One line; nothing for a blank line and a comment.
fn entry(line: &str, zone: &TimeZone) -> Result<Option<AllowedKey>, String> {
    let line = line.trim_start_matches([' ', '\t', '\r']);
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (principals, rest) = principals(line)?;
    let (options, fingerprint) = match public_key(rest) {
        Ok(fingerprint) => (Options::default(), fingerprint),
        Err(without) => {
            let (text, after) = options_end(rest)?;
            let options = Options::parse(text, zone).map_err(|why| {
                // A key that cannot be read looks like options that nobody knows; say what is more likely.
                if rest.starts_with("ssh-") || rest.starts_with("ecdsa-") || rest.starts_with("sk-") {
                    without
                } else {
                    why
                }
            })?;
            (options, public_key(after.trim_start_matches([' ', '\t']))?)
        }
    };
    Ok(Some(AllowedKey {
        principals: principals.to_owned(),
        fingerprint,
        namespaces: options.namespaces,
        valid_after: options.valid_after,
        valid_before: options.valid_before,
    }))
}

/// The first field, which may stand in quotes.
fn principals(line: &str) -> Result<(&str, &str), String> {
    let (field, rest) = match line.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').ok_or("a quotation mark is not closed")?,
        None => {
            line.split_once([' ', '\t']).ok_or("nothing follows the principals; a line is: principals [options] key")?
        }
    };
    if field.is_empty() || field.contains('"') {
        return Err("the principals are empty, or a quotation mark stands inside".to_owned());
    }
    Ok((field, rest.trim_start_matches([' ', '\t'])))
}

/// The fingerprint of `kind base64 [comment]`. A key of a kind that is not accepted has one too; no signature by it
/// is ever valid.
pub(super) fn public_key(text: &str) -> Result<String, String> {
    let mut fields = text.split([' ', '\t']).filter(|f| !f.is_empty());
    let (Some(kind), Some(base64)) = (fields.next(), fields.next()) else {
        return Err("there is no public key (kind and base64 text)".to_owned());
    };
    if base64.contains('\r') {
        return Err("a carriage return ends the line; save the file with Unix line ends".to_owned());
    }
    let blob = STANDARD.decode(base64).map_err(|_| "the public key is not base64".to_owned())?;
    if key::kind(&blob) != Some(kind) {
        return Err(format!("the public key is not of the kind {:?} that stands before it", cut(kind)));
    }
    match key::read(&blob) {
        Ok(key) => Ok(key.fingerprint),
        Err(KeyError::Unsupported { fingerprint, .. }) => Ok(fingerprint),
        Err(KeyError::Malformed) => Err("the public key cannot be read".to_owned()),
    }
}

/// Where the options end: at the first blank outside quotation marks.
fn options_end(text: &str) -> Result<(&str, &str), String> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' if !escaped => quoted = !quoted,
            ' ' | '\t' if !quoted => return Ok(text.split_at(at)),
            _ => {}
        }
        escaped = c == '\\' && !escaped;
    }
    Err("there is no public key".to_owned())
}

#[derive(Default)]
struct Options {
    namespaces: Option<String>,
    valid_after: Option<i64>,
    valid_before: Option<i64>,
}

impl Options {
    fn parse(mut text: &str, zone: &TimeZone) -> Result<Self, String> {
        let mut options = Self::default();
        loop {
            let name_len = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).unwrap_or(text.len());
            let (name, rest) = text.split_at(name_len);
            let name = name.to_ascii_lowercase();
            if name == "cert-authority" {
                return Err("cert-authority: SSH certificates are not accepted; list each signer's own key".to_owned());
            }
            if !["namespaces", "valid-after", "valid-before"].contains(&name.as_str()) {
                return Err(format!("unknown option {:?}; known are namespaces, valid-after, valid-before", cut(text)));
            }
            let rest = rest.strip_prefix('=').ok_or_else(|| format!("{name} has no value"))?;
            let (value, rest) = quoted(rest).ok_or_else(|| format!("the value of {name} is not in quotation marks"))?;
            let twice = match name.as_str() {
                "namespaces" => options.namespaces.replace(value).is_some(),
                "valid-after" => options.valid_after.replace(time(&value, zone)?).is_some(),
                _ => options.valid_before.replace(time(&value, zone)?).is_some(),
            };
            if twice {
                return Err(format!("{name} stands there twice"));
            }
            match rest.strip_prefix(',') {
                Some(more) => text = more,
                None if rest.is_empty() => break,
                None => return Err(format!("after {name} stands {:?}", cut(rest))),
            }
        }
        match (options.valid_after, options.valid_before) {
            (Some(after), Some(before)) if before <= after => {
                Err("valid-before is not later than valid-after".to_owned())
            }
            _ => Ok(options),
        }
    }
}

/// A text in quotation marks, and what follows. `\"` is a quotation mark.
fn quoted(text: &str) -> Option<(String, &str)> {
    let text = text.strip_prefix('"')?;
    let mut value = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' if chars.peek().is_some_and(|(_, c)| *c == '"') => {
                value.push('"');
                chars.next();
            }
            c => value.push(c),
        }
    }
    None
}

/// `YYYYMMDD`, `YYYYMMDDHHMM` or `YYYYMMDDHHMMSS`; with `Z` or `UTC` at the end in UTC, else in `zone`.
fn time(text: &str, zone: &TimeZone) -> Result<i64, String> {
    let bad = || format!("{:?} is not a time; write YYYYMMDD[HHMM[SS]], with Z at the end for UTC", cut(text));
    let upper = text.to_ascii_uppercase();
    let utc = upper.strip_suffix("UTC").or_else(|| upper.strip_suffix('Z'));
    let digits = utc.unwrap_or(&upper);
    if !matches!(digits.len(), 8 | 12 | 14) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let part = |from: usize, to: usize| digits.get(from..to).map_or(Ok(0), str::parse::<i8>).map_err(|_| bad());
    let year = digits[..4].parse::<i16>().map_err(|_| bad())?;
    let when = DateTime::new(year, part(4, 6)?, part(6, 8)?, part(8, 10)?, part(10, 12)?, part(12, 14)?, 0)
        .map_err(|_| bad())?;
    let zone = if utc.is_some() { TimeZone::UTC } else { zone.clone() };
    let seconds = when.to_zoned(zone).map_err(|_| bad())?.timestamp().as_second();
    // ssh-keygen takes no time before 1970, and 0 as no bound at all.
    if seconds > 0 { Ok(seconds) } else { Err(bad()) }
}

fn cut(text: &str) -> String {
    super::commit::displayable(text.as_bytes(), 40)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIBLNFUECqyAHfIu8ZRL2I5XEWBHtSdRp5Vy1/CPLcZe";

    fn read(text: &str) -> Result<Signers, LineError> {
        parse(text.as_bytes(), &TimeZone::UTC)
    }

    fn one(text: &str) -> AllowedKey {
        entry(text, &TimeZone::UTC).unwrap().unwrap()
    }

    #[test]
    fn options_are_read_as_ssh_keygen_reads_them() {
        let key = one(&format!(
            "a@x,*@y  namespaces=\"git,file\",valid-after=\"20240101\",Valid-Before=\"203001021530Z\" {KEY} a comment"
        ));
        assert_eq!(key.principals, "a@x,*@y");
        assert_eq!(key.namespaces.as_deref(), Some("git,file"));
        assert_eq!(key.valid_after, Some(1_704_067_200));
        assert_eq!(key.valid_before, Some(1_893_598_200));
        assert_eq!(one(&format!("\"a b\" {KEY}")).principals, "a b");
    }

    #[test]
    fn a_time_without_z_is_local() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(time("20240101", &zone), Ok(1_704_067_200 - 7200));
        assert_eq!(time("20240101Z", &zone), Ok(1_704_067_200));
        assert_eq!(time("20240101000001utc", &zone), Ok(1_704_067_201));
        for bad in ["", "2024", "20241301", "20240230Z", "19700101Z", "202401010", "2024010a"] {
            assert!(time(bad, &zone).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_bad_line_is_named_by_its_number() {
        let with = |line: &str| read(&format!("# comment\n\n{line}\n")).unwrap_err();
        for (line, says) in [
            ("a".to_owned(), "nothing follows"),
            (format!("a cert-authority {KEY}"), "certificates"),
            (format!("a unknown {KEY}"), "unknown option"),
            (format!("a namespaces=git {KEY}"), "quotation marks"),
            (format!("a namespaces=\"git\",namespaces=\"x\" {KEY}"), "twice"),
            (format!("a valid-after=\"20300101\",valid-before=\"20200101\" {KEY}"), "later"),
            (format!("a valid-after=\"tomorrow\" {KEY}"), "not a time"),
            (format!("a {KEY}\r"), "carriage return"),
            (KEY.replacen("ssh-ed25519", "a ssh-rsa", 1), "kind"),
            ("a ssh-ed25519 !!!!".to_owned(), "base64"),
            (format!("\"a {KEY}"), "quotation mark"),
        ] {
            let error = with(&line);
            assert_eq!(error.line, 3, "{line}");
            assert!(error.what.contains(says), "{line}: {error}");
        }
    }

    #[test]
    fn a_comment_after_crlf_and_blank_lines_are_no_keys() {
        assert!(read("\n \t\r\n# a\r\n").unwrap().is_empty());
        assert!(!read(&format!("a {KEY} comment\r\n")).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in "[ -~\t\"\\\\]{0,120}") {
            let _ = parse(&bytes, &TimeZone::UTC);
            let _ = read(&format!("a {text} {KEY}"));
            let _ = read(&format!("a namespaces={text} {KEY}"));
        }
    }
}
