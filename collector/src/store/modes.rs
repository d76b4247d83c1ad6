//! The modes of workloads.

use super::{Store, StoreError, bodies, to_json};
use crate::policy::Entry;
use crate::policy::mode::ModeRow;

impl Store {
    /// Keeps a mode, with its line in the audit.
    ///
    /// # Errors
    ///
    /// When the database cannot be written; neither was kept then.
    pub fn save_mode(&mut self, row: &ModeRow) -> Result<(), StoreError> {
        let body = to_json("modes", row)?;
        let entry = Entry {
            at: row.since,
            author: row.author.clone(),
            what: format!("mode {}", row.mode),
            subject: row.workload.to_string(),
            text: row.reason.clone(),
        };
        self.together("keep a mode", |store| {
            store
                .connection
                .prepare_cached("INSERT OR REPLACE INTO modes (workload, body) VALUES (?1, ?2)")
                .and_then(|mut insert| insert.execute((row.workload.as_ref(), &body)))
                .map_err(StoreError::statement("keep a mode"))?;
            store.audit(&entry)
        })
    }

    /// All modes.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn modes(&self) -> Result<Vec<ModeRow>, StoreError> {
        bodies(&self.connection, "modes", "SELECT body FROM modes ORDER BY workload", [])
    }
}
