//! One HTTP request with every bound: time, size, no redirects, no URL in an error.

use std::{error::Error as _, time::Duration};

use reqwest::{
    Method, StatusCode, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER},
    redirect,
};

use super::DeliverError;

/// The client that all sinks share.
pub type Client = reqwest::Client;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const TOTAL_TIMEOUT: Duration = Duration::from_secs(30);

/// More of an answer than this is not read, in bytes.
const MAX_ANSWER_BYTES: usize = 16 * 1024;

/// Longest pause that a receiver may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// The HTTP client could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up HTTPS: {0}; is the package `ca-certificates` whole?")]
pub struct ClientError(String);

/// Makes the client: the system's CA certificates, ten seconds to connect, thirty in all, no redirects.
///
/// A redirect is never followed: it would turn a report into a GET, or take it to a host that nobody configured.
/// Without any CA certificates on the system only plain HTTP works, and that is logged.
pub fn client() -> Result<Client, ClientError> {
    // Fails if somebody installed one already, which is just as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = || {
        Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TOTAL_TIMEOUT)
            .redirect(redirect::Policy::none())
            .user_agent(concat!("evenkeel/", env!("CARGO_PKG_VERSION")))
    };
    builder().build().or_else(|error| {
        tracing::warn!(error = chain(&error), "reports over https will fail: install the package `ca-certificates`");
        builder().tls_certs_only([]).build().map_err(|error| ClientError(chain(&error)))
    })
}

/// What a receiver answered.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<Duration>,
    /// The beginning of the body.
    pub(super) body: Vec<u8>,
}

/// Posts a JSON body. An answer of any status is `Ok`.
pub(super) async fn post_json(
    client: &Client,
    url: Url,
    headers: HeaderMap,
    body: Vec<u8>,
) -> Result<Answer, DeliverError> {
    let failed = |error: reqwest::Error| DeliverError::retry(format!("cannot reach the receiver: {}", chain(&error)));
    let request = client
        .request(Method::POST, url)
        .headers(headers)
        .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
        .body(body);
    let mut answer = request.send().await.map_err(|error| failed(error.without_url()))?;
    let status = answer.status();
    let seconds = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let mut body = Vec::new();
    // An answer that breaks off has still told its status.
    while let Ok(Some(chunk)) = answer.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() >= MAX_ANSWER_BYTES {
            body.truncate(MAX_ANSWER_BYTES);
            break;
        }
    }
    Ok(Answer { status, retry_after: seconds.and_then(pause), body })
}

/// A pause of so many seconds, if it is one; at most an hour.
pub(super) fn pause(seconds: f64) -> Option<Duration> {
    Some(Duration::try_from_secs_f64(seconds).ok()?.min(LONGEST_PAUSE))
}

impl Answer {
    /// Whether the message was taken, or what kind of failure it is. `receiver` names the receiver for people.
    pub(super) fn judge(self, receiver: &str) -> Result<(), DeliverError> {
        let status = self.status;
        if status.is_success() {
            return Ok(());
        }
        let said = format!("{receiver} answered {status}");
        Err(match status.as_u16() {
            300..400 => DeliverError::permanent(format!("{said}, a redirect: configure the final URL")),
            401 | 403 => DeliverError::retry(format!("{said}: correct the token, secret or URL in its file")),
            404 | 410 => DeliverError::retry(format!("{said}: is the URL right, and does it still exist?")),
            408 | 425 | 429 => DeliverError::Retry { after: self.retry_after, why: format!("{said}: try again later") },
            400..500 => DeliverError::permanent(format!("{said}: it does not take this message")),
            _ => DeliverError::Retry { after: self.retry_after, why: format!("{said}: try again later") },
        })
    }
}

/// An error and its causes. reqwest's own text says little without them.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.ends_with(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_never_longer_than_an_hour() {
        assert_eq!(pause(1.5), Some(Duration::from_millis(1500)));
        assert_eq!(pause(1e12), Some(LONGEST_PAUSE));
        assert_eq!((pause(-1.0), pause(f64::NAN)), (None, None));
    }

    #[test]
    fn what_can_be_put_right_is_tried_again() {
        let judged = |status| {
            let status = StatusCode::from_u16(status).unwrap();
            Answer { status, retry_after: None, body: Vec::new() }.judge("it")
        };
        for status in [200, 204] {
            assert_eq!(judged(status), Ok(()));
        }
        for status in [401, 403, 404, 408, 429, 500, 503] {
            assert!(matches!(judged(status), Err(DeliverError::Retry { .. })), "{status}");
        }
        for status in [302, 400, 413, 422] {
            assert!(matches!(judged(status), Err(DeliverError::Permanent { .. })), "{status}");
        }
    }
}
