//! The store: one SQLite file that holds journal, releases, history, quarantine and outbox.
//!
//! What belongs together is written in one transaction, and a transaction is on disk when it returns
//! (`synchronous = FULL`). A store that cannot be read, or is from a newer version, is an error: the agent never
//! starts from nothing.

mod brought;
mod drift;
mod history;
mod journal;
mod kept_out;
mod memory;
mod outbox;
mod people;
mod release;
mod source;

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use evenkeel_core::reason::{Code, Reason};
use rusqlite::{Connection, ErrorCode, OpenFlags};

pub use drift::DriftRecord;
pub use history::{DeploymentEnd, NewDeployment, instant};
pub use journal::Unfinished;
pub use kept_out::{Keep, KeptOut};
pub use memory::Memory;
pub use outbox::{OutboxStats, Outgoing, Queued};
pub use people::Words;
pub use release::{Conclusion, ReleaseMove};
pub use source::{RefusedTip, SourceState};

/// How the file came to be as it is, version by version. A step that has left this house is never changed.
const MIGRATIONS: [&str; 6] = [
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
    include_str!("schema/5.sql"),
    include_str!("schema/6.sql"),
];
/// The layout of the file; a higher one is from a newer Evenkeel.
#[expect(clippy::cast_possible_wrap, reason = "a handful")]
const SCHEMA_VERSION: i64 = MIGRATIONS.len() as i64;
const FILE: &str = "evenkeel.db";
const LOCK: &str = "lock";

/// The store cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another agent works on this state directory.
    #[error(
        "another agent works on {0}; stop it first, or give this one a `paths.state` of its own (find it with `fuser {0}/lock`)"
    )]
    Busy(String),
    /// There is no store yet.
    #[error("there is no store in {0}: no agent has run there yet")]
    Absent(String),
    /// The file is from a newer version.
    #[error(
        "the store {path} has version {found}, this evenkeel knows {SCHEMA_VERSION}: install the newer evenkeel again"
    )]
    Newer {
        /// The file.
        path: String,
        /// Its version.
        found: i64,
    },
    /// The file is from an older version, and who reads it may not bring it up to date.
    #[error(
        "the store {path} has version {found}, this evenkeel works with {SCHEMA_VERSION}: start the agent, which brings it up to date"
    )]
    Older {
        /// The file.
        path: String,
        /// Its version.
        found: i64,
    },
    /// SQLite failed.
    #[error("the store {path} cannot be used: {source}; nothing was changed, check the disk and the file's owner")]
    Sqlite {
        /// The file.
        path: String,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// A record is not what it should be.
    #[error("the store {path} holds a record that cannot be read ({what}); restore the file from a backup")]
    Damaged {
        /// The file.
        path: String,
        /// Which record.
        what: String,
    },
    /// The directory cannot be used.
    #[error(
        "cannot use the state directory: {path}: {source}; it must be on a disk that can be written, and belong to the agent's user"
    )]
    Directory {
        /// The directory or file.
        path: String,
        /// What the system says.
        source: io::Error,
    },
}

impl StoreError {
    /// The reason that is reported.
    pub fn reason(&self) -> Reason {
        if !self.is_full() {
            return Reason::new(Code::StoreFailed, self.to_string());
        }
        let (Self::Sqlite { path, .. } | Self::Directory { path, .. }) = self else {
            return Reason::new(Code::StoreFailed, self.to_string());
        };
        let what = format!("there is no room for {path}; make room on its disk, the agent tries again by itself");
        Reason::new(Code::DiskFull, what)
    }

    /// Whether there is no room on the disk, which is nobody's fault and may pass.
    fn is_full(&self) -> bool {
        use rusqlite::ffi;
        match self {
            // Of the shared memory beside the file SQLite does not say why it cannot grow.
            Self::Sqlite { source, .. } => source
                .sqlite_error()
                .is_some_and(|e| e.code == ErrorCode::DiskFull || e.extended_code == ffi::SQLITE_IOERR_SHMSIZE),
            Self::Directory { source, .. } => source.kind() == io::ErrorKind::StorageFull,
            Self::Busy(_) | Self::Absent(_) | Self::Older { .. } | Self::Newer { .. } | Self::Damaged { .. } => false,
        }
    }
}

/// The open store. Calls are short and may be made from any thread.
pub struct Store {
    path: PathBuf,
    db: Mutex<Connection>,
    generation: AtomicU64,
    _lock: Option<File>,
}

impl Store {
    /// Opens the store in `dir`, or makes a new one, and keeps other agents out for as long as it lives.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let unusable = |path: &Path| {
            let path = path.display().to_string();
            move |source| StoreError::Directory { path, source }
        };
        fs::create_dir_all(dir).map_err(unusable(dir))?;
        fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(unusable(dir))?;
        let lock_path = dir.join(LOCK);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(unusable(&lock_path))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| StoreError::Busy(dir.display().to_string()))?;
        let path = dir.join(FILE);
        // The file holds resolved variables: it must never be readable by others, not even for a moment.
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(unusable(&path))?;
        let store = Self::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, Some(lock))?;
        store.prepare()?;
        Ok(store)
    }

    /// Opens the store in `dir` for reading beside a running agent, or without one.
    pub fn open_read_only(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(FILE);
        if !path.exists() {
            return Err(StoreError::Absent(dir.display().to_string()));
        }
        let store = Self::connect(path.clone(), OpenFlags::SQLITE_OPEN_READ_ONLY, None)?;
        match store.version() {
            Err(StoreError::Sqlite { source, .. }) if source.sqlite_error_code() == Some(ErrorCode::CannotOpen) => {
                Self::open_still(path)
            }
            Ok(found) if found < SCHEMA_VERSION => {
                Err(StoreError::Older { path: store.path.display().to_string(), found })
            }
            version => version.map(|_| store),
        }
    }

    /// Opens a store that nobody can write, not even the files that readers need: on a disk mounted read-only, say.
    fn open_still(path: PathBuf) -> Result<Self, StoreError> {
        let name = path.display().to_string().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let still = Self::connect(PathBuf::from(format!("file:{name}?immutable=1")), flags, None)?;
        let store = Self { path, ..still };
        store.version()?;
        Ok(store)
    }

    fn connect(path: PathBuf, flags: OpenFlags, lock: Option<File>) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Sqlite { path: path.display().to_string(), source };
        let db = Connection::open_with_flags(&path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(failed)?;
        db.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
        Ok(Self { path, db: Mutex::new(db), generation: AtomicU64::new(0), _lock: lock })
    }

    fn version(&self) -> Result<i64, StoreError> {
        let found = self.read(|db| db.query_row("PRAGMA user_version", [], |row| row.get(0)))?;
        if found > SCHEMA_VERSION {
            return Err(StoreError::Newer { path: self.path.display().to_string(), found });
        }
        Ok(found)
    }

    fn prepare(&self) -> Result<(), StoreError> {
        self.read(|db| {
            db.pragma_update(None, "journal_mode", "WAL")?;
            db.pragma_update(None, "synchronous", "FULL")?;
            db.pragma_update(None, "foreign_keys", true)
        })?;
        let found = self.version()?;
        // Each step is whole or not at all, and on disk before the next.
        for (step, version) in MIGRATIONS.iter().zip(1..).filter(|(_, version)| *version > found) {
            self.write(|tx| {
                tx.execute_batch(step)?;
                tx.pragma_update(None, "user_version", version)
            })?;
        }
        Ok(())
    }

    /// Rises with every transaction of this process: as long as it is the same, so is what the store says.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    fn lock_db(&self) -> MutexGuard<'_, Connection> {
        // A panic in a read leaves nothing half done: SQLite rolls an open transaction back.
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, source: rusqlite::Error) -> StoreError {
        StoreError::Sqlite { path: self.path.display().to_string(), source }
    }

    fn read<T>(&self, f: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        f(&self.lock_db()).map_err(|e| self.failed(e))
    }

    fn write<T>(&self, f: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let mut db = self.lock_db();
        let tx = db.transaction().map_err(|e| self.failed(e))?;
        let value = f(&tx).map_err(|e| self.failed(e))?;
        tx.commit().map_err(|e| self.failed(e))?;
        self.generation.fetch_add(1, Ordering::Relaxed);
        Ok(value)
    }

    fn decode<T: serde::de::DeserializeOwned>(&self, what: &str, json: &str) -> Result<T, StoreError> {
        // The error of serde may quote the content, which may be secret: say only which record it is.
        serde_json::from_str(json)
            .map_err(|_| StoreError::Damaged { path: self.path.display().to_string(), what: what.to_owned() })
    }
}

/// JSON of a value of ours, which always has one.
fn encode<T: serde::Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))
}

#[cfg(test)]
mod tests;
