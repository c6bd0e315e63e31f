//! A small blocking HTTP/1.1 client: enough to look at a page, and to send bad requests that a good client would not.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(10);

/// A body larger than this is sent only after a short wait for an early refusal, as curl does.
const EARLY: usize = 64 * 1024;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Response {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; `Null` if it is not.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The first header of this name, given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// Gets `url` (`http://host:port/path`).
pub fn get(url: &str) -> io::Result<Response> {
    request("GET", url, &[], b"")
}

/// The text at `url`, or why there is none.
pub fn text(url: &str) -> Result<String, String> {
    match get(url) {
        Ok(r) if r.status == 200 => Ok(r.text().trim_end().to_owned()),
        Ok(r) => Err(format!("{url} answered {}", r.status)),
        Err(e) => Err(format!("{url}: {e}")),
    }
}

/// Sends one request on a connection of its own and reads the whole answer.
pub fn request(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Response> {
    let (authority, path) = split(url)?;
    let mut stream = TcpStream::connect(authority)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut head =
        vec![format!("{method} {path} HTTP/1.1"), format!("Host: {authority}"), "Connection: close".to_owned()];
    if !body.is_empty() || method == "POST" {
        head.push(format!("Content-Length: {}", body.len()));
    }
    head.extend(headers.iter().map(|(name, value)| format!("{name}: {value}")));
    let head = head.join("\r\n") + "\r\n\r\n";
    stream.write_all(head.as_bytes())?;
    if body.len() <= EARLY || !answers_early(&stream)? {
        // A server that refuses may close while we still write: its answer counts, not our error.
        let _ = stream.write_all(body);
    }
    let mut raw = Vec::new();
    match stream.read_to_end(&mut raw) {
        Err(e) if raw.is_empty() => Err(e),
        _ => parse(&raw),
    }
}

fn split(url: &str) -> io::Result<(&str, &str)> {
    let rest = url.strip_prefix("http://").ok_or_else(|| invalid("the URL does not begin with http://"))?;
    Ok(rest.find('/').map_or((rest, "/"), |at| rest.split_at(at)))
}

fn answers_early(stream: &TcpStream) -> io::Result<bool> {
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    let early = matches!(stream.peek(&mut [0]), Ok(1));
    stream.set_read_timeout(Some(TIMEOUT))?;
    Ok(early)
}

pub(crate) fn parse(raw: &[u8]) -> io::Result<Response> {
    let end =
        raw.windows(4).position(|w| w == b"\r\n\r\n").ok_or_else(|| invalid("the answer has no end of headers"))?;
    let head = String::from_utf8_lossy(&raw[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next().and_then(|l| l.split(' ').nth(1)).and_then(|s| s.parse().ok());
    let status = status.ok_or_else(|| invalid("the answer has no status"))?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|l| l.split_once(':'))
        .map(|(n, v)| (n.trim().to_ascii_lowercase(), v.trim().to_owned()))
        .collect();
    let chunked = headers.iter().any(|(n, v)| n == "transfer-encoding" && v.eq_ignore_ascii_case("chunked"));
    let body = if chunked { unchunk(&raw[end + 4..])? } else { raw[end + 4..].to_vec() };
    Ok(Response { status, headers, body })
}

fn unchunk(mut rest: &[u8]) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|w| w == b"\r\n").ok_or_else(|| invalid("a chunk has no length"))?;
        let length = std::str::from_utf8(&rest[..end]).ok().and_then(|t| usize::from_str_radix(t.trim(), 16).ok());
        let length = length.ok_or_else(|| invalid("a chunk's length is no number"))?;
        rest = &rest[end + 2..];
        if length == 0 {
            return Ok(body);
        }
        if rest.len() < length + 2 {
            return Err(invalid("the last chunk was cut off"));
        }
        body.extend_from_slice(&rest[..length]);
        rest = &rest[length + 2..];
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}
