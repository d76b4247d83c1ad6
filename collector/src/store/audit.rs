//! The audit: who changed what, when and why. Rows are added and never changed; the newest million is kept.

use super::{Store, StoreError, bodies, from_json, signed, to_json};
use crate::policy::Entry;

/// Rows kept.
const KEPT: i64 = 1_000_000;

/// A line of the audit with its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// Counts up from 1; a gap means that somebody changed the file.
    pub number: u64,
    /// The line.
    pub entry: Entry,
}

impl Store {
    /// Adds a line.
    ///
    /// # Errors
    ///
    /// When the database cannot be written.
    pub fn audit(&mut self, entry: &Entry) -> Result<(), StoreError> {
        let body = to_json("audit", entry)?;
        self.connection
            .prepare_cached("INSERT INTO audit (at_ns, what, subject, body) VALUES (?1, ?2, ?3, ?4)")
            .and_then(|mut insert| insert.execute((signed(entry.at.unix_ns), &entry.what, &entry.subject, body)))
            .map_err(StoreError::statement("write the audit"))?;
        Ok(())
    }

    /// The newest lines, oldest of them first.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn audit_rows(&self, most: u32) -> Result<Vec<AuditRow>, StoreError> {
        let rows = self
            .connection
            .prepare_cached("SELECT number, body FROM audit ORDER BY number DESC LIMIT ?1")
            .and_then(|mut found| {
                found
                    .query_map([most], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?
                    .collect::<Result<Vec<_>, _>>()
            })
            .map_err(StoreError::statement("read the audit"))?;
        rows.into_iter()
            .rev()
            .map(|(number, body)| Ok(AuditRow { number: number.unsigned_abs(), entry: from_json("audit", &body)? }))
            .collect()
    }

    /// The lines about one subject, oldest first.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn audit_about(&self, subject: &str) -> Result<Vec<Entry>, StoreError> {
        bodies(&self.connection, "audit", "SELECT body FROM audit WHERE subject = ?1 ORDER BY number", [subject])
    }

    pub(super) fn prune_audit(&mut self) -> Result<(), StoreError> {
        self.connection
            .execute("DELETE FROM audit WHERE number <= (SELECT max(number) FROM audit) - ?1", [KEPT])
            .map_err(StoreError::statement("shorten the audit"))?;
        Ok(())
    }

    /// Runs several writes as one: all of them are kept or none.
    pub(super) fn together(
        &mut self,
        what: &'static str,
        writes: impl FnOnce(&mut Self) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.connection.execute_batch("SAVEPOINT together").map_err(StoreError::statement(what))?;
        let written = writes(self);
        let end = if written.is_ok() { "RELEASE together" } else { "ROLLBACK TO together; RELEASE together" };
        let ended = self.connection.execute_batch(end).map_err(StoreError::statement(what));
        if ended.is_err() {
            // A commit that failed (disk full) leaves the transaction open; the next write must not join it.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        written.and(ended)
    }
}
