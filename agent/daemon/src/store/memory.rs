//! What the agent should not take for something else when it is different one day: its own name, its backups' place.

use evenkeel_core::id::Digest;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rusqlite::{OptionalExtension, Transaction, params};
use sha2::Sha256;

use super::{Outgoing, Store, StoreError, outbox};

/// What is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// The server's name in the repository.
    Server,
    /// A digest of where the last backup went.
    BackupRepository,
    /// How the rule on snapshots was last applied.
    BackupForgotten,
    /// How the backup repository was last checked.
    BackupChecked,
    /// The key of the digests that people see, made with the store.
    DigestKey,
}

impl Memory {
    fn key(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::BackupRepository => "backup.repository",
            Self::BackupForgotten => "backup.forgotten",
            Self::BackupChecked => "backup.checked",
            Self::DigestKey => "digest.key",
        }
    }
}

impl Store {
    /// A digest as people see it: the same for the same bytes, as long as the store lives. It is over secrets too, so it is made
    /// with a key that never leaves the store: nobody can try guesses against it.
    pub fn shown_digest(&self, digest: &Digest) -> Result<String, StoreError> {
        let damaged =
            || StoreError::Damaged { path: self.path.display().to_string(), what: "the key of digests".to_owned() };
        let key = self.remembered(Memory::DigestKey)?.filter(|key| key.len() == 64).ok_or_else(damaged)?;
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).map_err(|_| damaged())?;
        mac.update(digest.as_str().as_bytes());
        Ok(hex::encode(mac.finalize().into_bytes()))
    }

    /// What was remembered last.
    pub fn remembered(&self, what: Memory) -> Result<Option<String>, StoreError> {
        self.read(|db| {
            db.query_row("SELECT value FROM memory WHERE what = ?1", [what.key()], |row| row.get(0)).optional()
        })
    }

    /// Remembers a value; writes only what is new.
    pub fn remember(&self, what: Memory, value: &str) -> Result<(), StoreError> {
        if self.remembered(what)?.as_deref() == Some(value) {
            return Ok(());
        }
        self.write(|tx| put(tx, what, value))
    }

    /// Remembers a value together with what is told of it.
    pub fn remember_and_tell(
        &self,
        what: Memory,
        value: &str,
        messages: &[Outgoing],
        now_ms: i64,
    ) -> Result<(), StoreError> {
        self.write(|tx| {
            put(tx, what, value)?;
            outbox::enqueue(tx, messages, now_ms)
        })
    }
}

fn put(tx: &Transaction<'_>, what: Memory, value: &str) -> rusqlite::Result<()> {
    tx.execute("INSERT OR REPLACE INTO memory VALUES (?1, ?2)", params![what.key(), value]).map(drop)
}
