//! The tables, and how an older database becomes a newer one.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::{StoreError, damaged_or};

/// One step a version: step 0 makes version 1. A released step is never changed.
const STEPS: &[&str] = &[
    "
CREATE TABLE modes (workload TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE findings (
  id TEXT PRIMARY KEY, short TEXT NOT NULL, state TEXT NOT NULL, type TEXT NOT NULL, severity TEXT NOT NULL,
  workload TEXT NOT NULL, created_ns INTEGER NOT NULL, updated_ns INTEGER NOT NULL, body TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX findings_updated ON findings (updated_ns);
CREATE INDEX findings_short ON findings (short);
CREATE TABLE decisions (number INTEGER PRIMARY KEY, short TEXT NOT NULL, state TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX decisions_short ON decisions (short);
CREATE TABLE audit (
  number INTEGER PRIMARY KEY AUTOINCREMENT, at_ns INTEGER NOT NULL, what TEXT NOT NULL, subject TEXT NOT NULL,
  body TEXT NOT NULL);
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
  WHEN OLD.number > (SELECT max(number) FROM audit) - 1000000
  BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TABLE snapshots (
  number INTEGER PRIMARY KEY AUTOINCREMENT, at_ns INTEGER NOT NULL, boot TEXT NOT NULL, model BLOB NOT NULL,
  policy TEXT NOT NULL);
",
    "
CREATE TABLE marks (number INTEGER PRIMARY KEY, body TEXT NOT NULL);
",
    "
CREATE INDEX decisions_shadow ON decisions (
  json_extract(body, '$.workload'), json_extract(body, '$.created.unix_ns'))
  WHERE json_extract(body, '$.shadow') AND json_extract(body, '$.author.by') = 'automatic';
",
];

/// Newest version that this release writes.
pub(super) fn newest() -> u32 {
    STEPS.len() as u32
}

/// Brings the tables to the newest version, all steps or none.
pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let failed = |error| damaged_or(path, error);
    let found: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
    if found > newest() {
        return Err(StoreError::Newer { path: path.to_owned(), found, known: newest() });
    }
    if found == newest() {
        return Ok(());
    }
    let steps = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    for step in &STEPS[found as usize..] {
        steps.execute_batch(step).map_err(failed)?;
    }
    steps.pragma_update(None, "user_version", newest()).map_err(failed)?;
    steps.commit().map_err(failed)
}
