//! What a restart continues from: the model and the policy's state, kept together so that they fit.

use model::event::Time;
use rusqlite::OptionalExtension;

use super::{Store, StoreError, from_json, signed, to_json};
use crate::policy::State;

/// Snapshots kept: the newest, and the one before it.
const KEPT: i64 = 2;

/// A snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved {
    /// When it was made, UTC nanoseconds.
    pub at_unix_ns: u64,
    /// The boot that it was made in, as /proc/sys/kernel/random/boot_id says.
    pub boot: String,
    /// The model's own bytes.
    pub model: Vec<u8>,
    /// The policy's state.
    pub policy: State,
}

impl Store {
    /// Keeps a snapshot and drops all but the one before it.
    ///
    /// # Errors
    ///
    /// When the database cannot be written; the earlier snapshots are untouched then.
    pub fn save_snapshot(&mut self, model: &[u8], policy: &State, boot: &str, at: Time) -> Result<(), StoreError> {
        let state = to_json("snapshots", policy)?;
        self.together("keep a snapshot", |store| {
            let insert = "INSERT INTO snapshots (at_ns, boot, model, policy) VALUES (?1, ?2, ?3, ?4)";
            let drop = "DELETE FROM snapshots WHERE number <= (SELECT max(number) FROM snapshots) - ?1";
            store
                .connection
                .execute(insert, (signed(at.unix_ns), boot, model, state))
                .and_then(|_| store.connection.execute(drop, [KEPT]))
                .map_err(StoreError::statement("keep a snapshot"))?;
            Ok(())
        })
    }

    /// A snapshot: 0 is the newest, 1 the one before it (for when the newest model cannot be restored).
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn snapshot(&self, age: u32) -> Result<Option<Saved>, StoreError> {
        let query = "SELECT at_ns, boot, model, policy FROM snapshots ORDER BY number DESC LIMIT 1 OFFSET ?1";
        let found = self
            .connection
            .query_row(query, [age], |row| {
                Ok((
                    row.get::<_, i64>(0)?,
                    row.get::<_, String>(1)?,
                    row.get::<_, Vec<u8>>(2)?,
                    row.get::<_, String>(3)?,
                ))
            })
            .optional()
            .map_err(StoreError::statement("read a snapshot"))?;
        found
            .map(|(at, boot, model, policy)| {
                Ok(Saved { at_unix_ns: at.unsigned_abs(), boot, model, policy: from_json("snapshots", &policy)? })
            })
            .transpose()
    }

    /// The policy's state to continue from: the snapshot's (or an empty one), corrected by what was kept after it.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn policy_state(&self, saved: Option<&Saved>) -> Result<State, StoreError> {
        let mut state = saved.map(|saved| saved.policy.clone()).unwrap_or_default();
        let mut open = Vec::new();
        for finding in std::mem::take(&mut state.findings) {
            if !self.is_closed(finding.id)? {
                open.push(finding);
            }
        }
        for later in self.open_findings()? {
            match open.iter_mut().find(|finding| finding.id == later.id) {
                Some(finding) if finding.updated < later.updated => *finding = later,
                Some(_) => {}
                None => open.push(later),
            }
        }
        state.findings = open;
        state.next_decision = state.next_decision.max(self.next_decision()?);
        Ok(state)
    }
}
