//! Answers, each with the headers that keep a browser from doing more than showing it.

use std::fmt;

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Response, StatusCode,
    body::Bytes,
    header::{self, HeaderName, HeaderValue},
};
use serde::Serialize;

use super::super::serve::Body;

/// Nothing is loaded from elsewhere, nothing inline runs, nobody frames it, nothing can be sent.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What every answer carries.
const HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// An answer.
pub(super) struct Reply(Response<Body>);

impl Reply {
    /// A whole body of this type.
    pub(super) fn new(kind: &'static str, body: impl Into<Bytes>) -> Self {
        let whole: Full<Bytes> = Full::new(body.into());
        Self::stream(kind, whole.boxed_unsync())
    }

    /// A body that may go on.
    pub(super) fn stream(kind: &'static str, body: Body) -> Self {
        let mut response = Response::new(body);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        Self(response)
    }

    /// A text.
    pub(super) fn text(text: impl Into<Bytes>) -> Self {
        Self::new("text/plain; charset=utf-8", text)
    }

    /// A value of ours, which always has a JSON form.
    pub(super) fn json(value: &impl Serialize) -> Self {
        let mut text = serde_json::to_vec(value).unwrap_or_default();
        text.push(b'\n');
        Self::new("application/json", text)
    }

    /// The same with another status.
    pub(super) fn status(mut self, status: StatusCode) -> Self {
        *self.0.status_mut() = status;
        self
    }

    /// The same with a mark for the loop that serves.
    pub(super) fn mark<T: Clone + Send + Sync + 'static>(mut self, mark: T) -> Self {
        self.0.extensions_mut().insert(mark);
        self
    }

    /// What is sent.
    pub(super) fn into_response(mut self) -> Response<Body> {
        for (name, value) in HEADERS {
            self.0.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        self.0
    }
}

/// Why there is no answer, in the form in which the command line tells its own failures.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    message: String,
    help: &'static str,
    headers: Vec<(HeaderName, &'static str)>,
}

impl Problem {
    /// A problem with what to do about it.
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>, help: &'static str) -> Self {
        Self { status, code, message: message.into(), help, headers: Vec::new() }
    }

    /// Something of ours failed.
    pub(super) fn ours(code: &'static str, error: impl fmt::Display) -> Self {
        let help = "look at the agent's log";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, code, error.to_string(), help)
    }

    /// The same with one more header.
    pub(super) fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The status that is answered.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// The answer.
    pub(super) fn into_reply(self) -> Reply {
        let body = serde_json::json!({
            "schema": 1,
            "error": { "code": self.code, "message": self.message, "help": self.help },
        });
        let mut reply = Reply::json(&body).status(self.status);
        for (name, value) in self.headers {
            reply.0.headers_mut().append(name, HeaderValue::from_static(value));
        }
        reply
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.help)
    }
}
