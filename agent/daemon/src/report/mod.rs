//! Tells people and programs what happened: a message in; delivered, or why not.
//!
//! One file for each kind of sink. Nothing here knows the outbox: whoever calls [`deliver`] decides when to try again.

mod discord;
mod message;
mod ntfy;
mod send;
mod text;
mod webhook;

use std::time::Duration;

pub use evenkeel_core::outcome::Signer;
pub use message::{Commit, Message, Why};
pub use send::{Client, ClientError, client};
pub use text::headline;

use crate::config::{
    SecretError,
    settings::{Sink, SinkKind},
};

/// A message was not delivered. The text never holds a URL, a token or a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeliverError {
    /// It may pass later, or once a person has put something right.
    #[error("{why}")]
    Retry {
        /// How long the receiver wants to be left alone, if it said so; at most an hour.
        after: Option<Duration>,
        /// What happened, and what to do about it.
        why: String,
    },
    /// The receiver will never take this very message.
    #[error("{why}")]
    Permanent {
        /// What happened, and what to do about it.
        why: String,
    },
}

impl DeliverError {
    fn retry(why: impl Into<String>) -> Self {
        Self::Retry { after: None, why: why.into() }
    }

    fn permanent(why: impl Into<String>) -> Self {
        Self::Permanent { why: why.into() }
    }
}

impl From<SecretError> for DeliverError {
    fn from(error: SecretError) -> Self {
        Self::retry(error.to_string())
    }
}

/// Delivers one message to one sink, in at most 30 seconds. `now_unix` is the time of this try in seconds.
///
/// Secrets are read from their files each time, so a changed one is used at the next try.
pub async fn deliver(client: &Client, sink: &Sink, message: &Message, now_unix: i64) -> Result<(), DeliverError> {
    match &sink.kind {
        SinkKind::Webhook { url, secret_file } => webhook::deliver(client, url, secret_file, message, now_unix).await,
        SinkKind::Discord { url_file } => discord::deliver(client, url_file, message).await,
        SinkKind::Ntfy { url, token_file } => ntfy::deliver(client, url, token_file.as_deref(), message).await,
    }
}

#[cfg(test)]
mod tests;
