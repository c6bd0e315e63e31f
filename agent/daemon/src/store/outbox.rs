//! The outbox: messages that must reach a sink, at least once, in order for each stack and sink.

use rusqlite::{Transaction, params};

use super::{Store, StoreError};

/// No pause between two tries is longer, in milliseconds: receivers may ask for an hour. A time that is farther away is
/// from a clock that was wrong.
const LONGEST_PAUSE_MS: i64 = 2 * 3600 * 1000;

/// A message to be queued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The sink's name.
    pub sink: String,
    /// What keeps its order: the stack, or empty for messages about the whole.
    pub lane: String,
    /// The message as JSON.
    pub message: String,
}

/// A queued message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// Its number.
    pub id: i64,
    /// The sink's name.
    pub sink: String,
    /// The message as JSON.
    pub message: String,
    /// How often it was tried.
    pub tries: u32,
    /// When it was queued, in milliseconds since 1970.
    pub created_ms: i64,
}

/// How much waits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutboxStats {
    /// Messages that wait.
    pub pending: i64,
    /// Messages that were given up.
    pub undelivered: i64,
    /// What the last failed try said.
    pub last_error: Option<String>,
    /// When the oldest message that waits was queued, in milliseconds since 1970.
    pub oldest_ms: Option<i64>,
}

pub(super) fn enqueue(tx: &Transaction<'_>, messages: &[Outgoing], now_ms: i64) -> rusqlite::Result<()> {
    for message in messages {
        tx.execute(
            "INSERT INTO outbox (sink, lane, message, created_ms, next_ms) VALUES (?1, ?2, ?3, ?4, ?4)",
            params![message.sink, message.lane, message.message, now_ms],
        )?;
    }
    Ok(())
}

impl Store {
    /// Queues messages that belong to no other record.
    pub fn enqueue(&self, messages: &[Outgoing], now_ms: i64) -> Result<(), StoreError> {
        self.write(|tx| enqueue(tx, messages, now_ms))
    }

    /// The messages that may be tried now: the first of each lane whose time has come.
    pub fn due(&self, now_ms: i64) -> Result<Vec<Queued>, StoreError> {
        self.read(|db| {
            db.prepare(
                "SELECT id, sink, message, tries, created_ms FROM outbox
                 WHERE (next_ms <= ?1 OR next_ms > ?1 + ?2) AND id IN (
                     SELECT min(id) FROM outbox WHERE delivered_ms IS NULL AND given_up_ms IS NULL GROUP BY sink, lane)
                 ORDER BY id LIMIT 100",
            )?
            .query_map([now_ms, LONGEST_PAUSE_MS], |r| {
                Ok(Queued {
                    id: r.get(0)?,
                    sink: r.get(1)?,
                    message: r.get(2)?,
                    tries: r.get(3)?,
                    created_ms: r.get(4)?,
                })
            })?
            .collect()
        })
    }

    /// When the next message may be tried, in milliseconds since 1970.
    pub fn next_due(&self) -> Result<Option<i64>, StoreError> {
        self.read(|db| {
            db.query_row(
                "SELECT min(next_ms) FROM outbox WHERE id IN (
                     SELECT min(id) FROM outbox WHERE delivered_ms IS NULL AND given_up_ms IS NULL GROUP BY sink, lane)",
                [],
                |r| r.get(0),
            )
        })
    }

    /// Notes a delivery.
    pub fn delivered(&self, id: i64, now_ms: i64) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.execute("UPDATE outbox SET delivered_ms = ?2, tries = tries + 1 WHERE id = ?1", params![id, now_ms])
                .map(drop)
        })
    }

    /// Notes a failed try. Without `next_ms` the message is given up; it stays, and is shown as undelivered.
    pub fn not_delivered(&self, id: i64, error: &str, next_ms: Option<i64>, now_ms: i64) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.execute(
                "UPDATE outbox SET tries = tries + 1, last_error = ?2, next_ms = coalesce(?3, next_ms),
                     given_up_ms = CASE WHEN ?3 IS NULL THEN ?4 END
                 WHERE id = ?1",
                params![id, error, next_ms, now_ms],
            )
            .map(drop)
        })
    }

    /// How much waits.
    pub fn outbox_stats(&self) -> Result<OutboxStats, StoreError> {
        self.read(|db| {
            db.query_row(
                "SELECT count(*) FILTER (WHERE given_up_ms IS NULL), count(*) FILTER (WHERE given_up_ms IS NOT NULL),
                     (SELECT last_error FROM outbox WHERE delivered_ms IS NULL AND last_error IS NOT NULL
                      ORDER BY id DESC LIMIT 1),
                     min(created_ms) FILTER (WHERE given_up_ms IS NULL)
                 FROM outbox WHERE delivered_ms IS NULL",
                [],
                |r| {
                    Ok(OutboxStats {
                        pending: r.get(0)?,
                        undelivered: r.get(1)?,
                        last_error: r.get(2)?,
                        oldest_ms: r.get(3)?,
                    })
                },
            )
        })
    }
}
