//! A commit object, read strictly: what Git itself writes, and nothing that two readers could read in two ways.

use evenkeel_core::id::{CommitId, Digest};

/// Largest commit object that is read, in bytes.
pub const MAX_COMMIT_BYTES: usize = 1024 * 1024;

/// A commit object does not follow the rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the commit object is malformed: {0}")]
pub struct FormatError(String);

fn wrong<T>(what: impl Into<String>) -> Result<T, FormatError> {
    Err(FormatError(what.into()))
}

/// A commit's parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawCommit<'a> {
    /// The tree's id, in hexadecimal.
    pub tree: &'a str,
    /// The parents, in order.
    pub parents: Vec<CommitId>,
    /// Who wrote it: `name <address> seconds zone`.
    pub author: Person<'a>,
    /// The signature's text, armour included.
    pub signature: Option<Vec<u8>>,
    /// What the signature is over: the object without its signature header.
    pub payload: Vec<u8>,
    /// The message.
    pub message: &'a [u8],
}

impl RawCommit<'_> {
    /// SHA-256 of the signed payload.
    pub fn payload_digest(&self) -> Digest {
        Digest::of(&self.payload)
    }

    /// The first line of the message, fit for display.
    pub fn subject(&self) -> String {
        let line = self.message.split(|&b| b == b'\n').find(|l| !l.trim_ascii().is_empty()).unwrap_or_default();
        displayable(line, 200)
    }
}

/// A name and a time, as a commit states them. Nothing about them is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Person<'a> {
    /// The name's bytes.
    pub name: &'a [u8],
    /// Seconds since 1970.
    pub seconds: i64,
}

/// At most `max` characters of `bytes`, without what could steer a terminal or reorder a line.
pub fn displayable(bytes: &[u8], max: usize) -> String {
    String::from_utf8_lossy(bytes).trim().chars().filter(|c| !steers(*c)).take(max).collect()
}

fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Takes a commit object apart. `hex_len` is the length of an id in the repository: 40 (SHA-1) or 64 (SHA-256).
///
/// One `tree`, the parents, `author`, `committer`, then other headers, each at most once (`mergetag` excepted); at most
/// one signature header, that of the repository's object format; no NUL anywhere.
pub fn parse(raw: &[u8], hex_len: usize) -> Result<RawCommit<'_>, FormatError> {
    if raw.contains(&0) {
        return wrong("it holds a NUL byte");
    }
    let Some(end) = raw.windows(2).position(|w| w == b"\n\n") else {
        return wrong("no empty line ends its headers");
    };
    let mut lines = Lines { raw, at: 0, end: end + 1 };

    let tree = id(lines.expect("tree")?, hex_len)?;
    let mut parents = Vec::new();
    while let Some(value) = lines.accept("parent") {
        parents.push(CommitId::new(id(value, hex_len)?).map_err(|e| FormatError(e.to_string()))?);
    }
    let author = person(lines.expect("author")?)?;
    person(lines.expect("committer")?)?;
    let (signature, payload) = extras(&mut lines, if hex_len == 64 { "gpgsig-sha256" } else { "gpgsig" })?;
    Ok(RawCommit { tree, parents, author, signature, payload, message: &raw[end + 2..] })
}

/// The signature's text, and the object without it.
type Parts = (Option<Vec<u8>>, Vec<u8>);

/// The headers after the committer.
fn extras(lines: &mut Lines<'_>, wanted: &str) -> Result<Parts, FormatError> {
    let mut payload = lines.raw[..lines.at].to_vec();
    let mut signature: Option<Vec<u8>> = None;
    let mut seen: Vec<&[u8]> = Vec::new();
    while let Some(line) = lines.next() {
        let (key, value) = split(line)?;
        if [b"tree".as_slice(), b"parent", b"author", b"committer"].contains(&key) {
            return wrong(format!("a second or misplaced {} header", displayable(key, 20)));
        }
        if key != b"mergetag" && seen.contains(&key) {
            return wrong(format!("two {} headers", displayable(key, 40)));
        }
        seen.push(key);
        if key == wanted.as_bytes() {
            let mut text = value.to_vec();
            text.push(b'\n');
            while let Some(more) = lines.continuation() {
                text.extend_from_slice(&more[1..]);
                text.push(b'\n');
            }
            signature = Some(text);
        } else if key.starts_with(b"gpgsig") {
            return wrong(format!("a {} header does not belong in this repository", displayable(key, 40)));
        } else {
            let from = lines.at - line.len() - 1;
            while lines.continuation().is_some() {}
            payload.extend_from_slice(&lines.raw[from..lines.at]);
        }
    }
    payload.extend_from_slice(&lines.raw[lines.end..]);
    Ok((signature, payload))
}

fn split(line: &[u8]) -> Result<(&[u8], &[u8]), FormatError> {
    match line.iter().position(|&b| b == b' ') {
        Some(at) if at > 0 && line[..at].iter().all(u8::is_ascii_graphic) => Ok((&line[..at], &line[at + 1..])),
        _ => wrong(format!("a header line without a name and a value: {:?}", displayable(line, 40))),
    }
}

/// Header lines, each without its line feed.
struct Lines<'a> {
    raw: &'a [u8],
    at: usize,
    /// Just after the line feed of the last header line.
    end: usize,
}

impl<'a> Lines<'a> {
    fn peek(&self) -> Option<&'a [u8]> {
        let rest = &self.raw[self.at..self.end];
        rest.iter().position(|&b| b == b'\n').map(|len| &rest[..len])
    }

    fn next(&mut self) -> Option<&'a [u8]> {
        let line = self.peek()?;
        self.at += line.len() + 1;
        Some(line)
    }

    fn continuation(&mut self) -> Option<&'a [u8]> {
        self.peek().filter(|l| l.first() == Some(&b' '))?;
        self.next()
    }

    fn accept(&mut self, key: &str) -> Option<&'a [u8]> {
        let line = self.peek()?;
        let value = line.strip_prefix(key.as_bytes())?.strip_prefix(b" ")?;
        self.at += line.len() + 1;
        Some(value)
    }

    fn expect(&mut self, key: &str) -> Result<&'a [u8], FormatError> {
        self.accept(key).map_or_else(|| wrong(format!("no {key} header where it should be")), Ok)
    }
}

fn id(value: &[u8], hex_len: usize) -> Result<&str, FormatError> {
    match std::str::from_utf8(value) {
        Ok(text) if text.len() == hex_len && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) => Ok(text),
        _ => wrong("an object id that is none"),
    }
}

/// `name <address> seconds zone`, as Git checks it.
fn person(value: &[u8]) -> Result<Person<'_>, FormatError> {
    let parts = || {
        let open = value.iter().position(|&b| b == b'<')?;
        let close = open + value[open..].iter().position(|&b| b == b'>')?;
        let name = if open == 0 { &value[..0] } else { value[..open].strip_suffix(b" ")? };
        let text = std::str::from_utf8(value[close + 1..].strip_prefix(b" ")?).ok()?;
        let (seconds, zone) = text.split_once(' ')?;
        let clean = !name.contains(&b'>') && !value[open + 1..close].contains(&b'<');
        let digits = (1..=18).contains(&seconds.len()) && seconds.bytes().all(|b| b.is_ascii_digit());
        let offset = zone.strip_prefix(['+', '-'])?;
        let zoned = offset.len() == 4 && offset.bytes().all(|b| b.is_ascii_digit());
        let seconds = seconds.parse().ok()?;
        (clean && digits && zoned).then_some(Person { name, seconds })
    };
    parts().map_or_else(|| wrong("an author or committer that is not `name <address> seconds zone`"), Ok)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: &str =
        "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor A <a@x> 1 +0000\ncommitter A <a@x> 1 +0000\n";

    fn parsed(extras: &str) -> Result<RawCommit<'static>, FormatError> {
        parse(Box::leak(format!("{HEAD}{extras}\nsubject\n").into_boxed_str()).as_bytes(), 40)
    }

    #[test]
    fn the_payload_is_the_object_without_its_signature() {
        let commit = parsed("encoding x\ngpgsig -----B\n line\n \nHG:a b\n more\n").unwrap();
        assert_eq!(commit.signature.as_deref(), Some(b"-----B\nline\n\n".as_slice()));
        assert_eq!(commit.payload, format!("{HEAD}encoding x\nHG:a b\n more\n\nsubject\n").into_bytes());
        assert_eq!(commit.subject(), "subject");
        assert_eq!(commit.author, Person { name: b"A", seconds: 1 });
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for extras in [
            "gpgsig a\ngpgsig b\n",
            "gpgsig-sha256 a\n",
            "gpgsig\n",
            "gpgsigx a\n",
            "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n",
            "author A <a@x> 1 +0000\n",
            " continuation\n",
            "encoding a\nencoding b\n",
            "odd\n",
            "nul \0\n",
        ] {
            assert!(parsed(extras).is_err(), "{extras:?}");
        }
        assert!(parsed("mergetag a\n b\nmergetag c\n").is_ok());
        assert!(parse(HEAD.as_bytes(), 40).is_err());
        assert!(parse(format!("{HEAD}\n").as_bytes(), 64).is_err());
    }

    #[test]
    fn people_are_written_as_git_writes_them() {
        for (text, good) in [
            ("A B <a@x> 12 -0730", true),
            ("<a@x> 0 +0000", true),
            ("A <> 0 +0000", true),
            ("A <a@x> 1 +00000", false),
            ("A <a@x> -1 +0000", false),
            ("A <a<x> 1 +0000", false),
            ("A <a@x>1 +0000", false),
            ("A a@x 1 +0000", false),
            ("A <a@x> 1", false),
            ("A> <a@x> 1 +0000", false),
        ] {
            assert_eq!(person(text.as_bytes()).is_ok(), good, "{text}");
        }
    }

    #[test]
    fn a_subject_cannot_steer_a_terminal() {
        assert_eq!(displayable("\u{1b}[31mred\u{202e}\r\n".as_bytes(), 200), "[31mred");
        assert_eq!(displayable("x".repeat(300).as_bytes(), 200).len(), 200);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(raw in proptest::collection::vec(any::<u8>(), 0..400), tail in "[ -~\n]{0,200}") {
            let _ = parse(&raw, 40);
            let _ = parse(format!("{HEAD}{tail}").as_bytes(), 40);
        }
    }
}
