//! SQLite: modes, model snapshots, findings, decisions, audit. One file, mode 0600, in WAL mode.

mod audit;
mod decisions;
mod findings;
mod marks;
mod modes;
mod schema;
mod snapshots;

use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use audit::AuditRow;
use rusqlite::Connection;
use serde::Serialize;
use serde::de::DeserializeOwned;
pub use snapshots::Saved;

/// How long a writer waits for a reader of another process, e.g. a backup.
const BUSY: Duration = Duration::from_secs(2);

/// Why the store did not do as asked. It never deletes or repairs a file that it does not understand.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened or made.
    #[error("cannot open the database {path}: {why}; check that its directory exists, is writable and has room")]
    Open {
        /// File.
        path: PathBuf,
        /// Cause.
        why: String,
    },
    /// The file is damaged or no database of ours.
    #[error(
        "the database {path} is damaged: {why}; nothing was changed. Move it away to start afresh (baselines are learnt \
         again), or try `sqlite3 {path} .recover` on a copy"
    )]
    Damaged {
        /// File.
        path: PathBuf,
        /// Cause.
        why: String,
    },
    /// Written by a newer release.
    #[error(
        "the database {path} has schema {found}, this release knows {known}: run the newer release, or move the file away"
    )]
    Newer {
        /// File.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// Newest known.
        known: u32,
    },
    /// A statement failed.
    #[error("cannot {what} in the database: {source}; is the disk full or read-only?")]
    Statement {
        /// What was tried.
        what: &'static str,
        /// Cause.
        source: rusqlite::Error,
    },
    /// A row does not hold what this release writes.
    #[error("a row of {table} cannot be read: {why}; it was written by another release or changed by hand")]
    Row {
        /// Table.
        table: &'static str,
        /// Cause.
        why: String,
    },
}

impl StoreError {
    fn statement(what: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| Self::Statement { what, source }
    }
}

/// The open database.
pub struct Store {
    connection: Connection,
    path: PathBuf,
}

impl Store {
    /// Opens or makes the database.
    ///
    /// # Errors
    ///
    /// A [`StoreError`] that names the file and the remedy. Nothing was deleted.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |why: String| StoreError::Open { path: path.to_owned(), why };
        // SQLite gives its -wal and -shm files the mode of the database, so that is made first and made private.
        let file = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path);
        let file = file.map_err(|error| failed(error.to_string()))?;
        let private = std::fs::Permissions::from_mode(0o600);
        file.set_permissions(private).map_err(|error| failed(format!("its mode cannot be set to 0600: {error}")))?;
        let mut connection = Connection::open(path).map_err(|error| failed(error.to_string()))?;
        connection.busy_timeout(BUSY).map_err(|error| failed(error.to_string()))?;
        prepare(&connection).and_then(|()| check(&connection)).map_err(|error| damaged_or(path, error))?;
        schema::migrate(&mut connection, path)?;
        Ok(Self { connection, path: path.to_owned() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes every write fail, as a full disk would.
    #[cfg(test)]
    pub(crate) fn refuse_writes(&self, refuse: bool) {
        self.connection.pragma_update(None, "query_only", refuse).unwrap();
    }
}

/// Writes the write-ahead log back into the database, on a connection of its own: whoever writes meanwhile does not wait.
///
/// # Errors
///
/// When the database cannot be opened or written; the log keeps everything, and the next call tries again.
pub fn write_back(path: &Path) -> Result<(), StoreError> {
    let connection = Connection::open(path).map_err(StoreError::statement("write the log back"))?;
    // A row of counts comes back; it does not matter whether a reader kept a part of the log in use.
    connection
        .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
        .map_err(StoreError::statement("write the log back"))
}

/// `synchronous=NORMAL` survives a killed agent but may lose the last commits when power fails. That is enough: the kernel's
/// entries do not survive that either, so an audit row and its denial are lost together.
fn prepare(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "trusted_schema", false)?;
    // Writing the log back waits for the disk, up to a second: never on the path of a decision. See `write_back`.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", 16 << 20)
}

fn check(connection: &Connection) -> Result<(), rusqlite::Error> {
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" {
        return Ok(());
    }
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    Err(rusqlite::Error::SqliteFailure(code, Some(verdict)))
}

fn damaged_or(path: &Path, error: rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    let why = error.to_string();
    match error.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase) => StoreError::Damaged { path: path.to_owned(), why },
        _ => StoreError::Open { path: path.to_owned(), why },
    }
}

fn to_json<T: Serialize>(table: &'static str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Row { table, why: error.to_string() })
}

fn from_json<T: DeserializeOwned>(table: &'static str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Row { table, why: error.to_string() })
}

/// Every row's JSON of a query with one text column.
fn bodies<T: DeserializeOwned>(
    connection: &Connection,
    table: &'static str,
    query: &str,
    parameters: impl rusqlite::Params,
) -> Result<Vec<T>, StoreError> {
    let read = StoreError::statement("read rows");
    let texts = connection
        .prepare_cached(query)
        .and_then(|mut found| {
            found.query_map(parameters, |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()
        })
        .map_err(read)?;
    texts.iter().map(|text| from_json(table, text)).collect()
}

/// SQLite has signed integers only; times and numbers stay below 2^63.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
