//! Decisions. A row is never reused: numbers name them in kernel records and in the audit.

use super::{Store, StoreError, bodies, signed, to_json};
use crate::decision::{Decision, DecisionState};
use crate::policy::{DecisionChange, audit_entry};

const KEPT: i64 = 100_000;

impl Store {
    /// Keeps a new decision together with its audit line. Has to succeed before an automatic one reaches the kernel.
    ///
    /// # Errors
    ///
    /// When the database cannot be written; neither was kept then.
    pub fn record_made(&mut self, decision: &Decision) -> Result<(), StoreError> {
        let entry = audit_entry(DecisionChange::Made, decision, decision.created);
        self.together("record a decision", |store| {
            store.save_decision(decision)?;
            store.audit(&entry)
        })
    }

    /// Keeps a decision as it is now.
    ///
    /// # Errors
    ///
    /// When the database cannot be written.
    pub fn save_decision(&mut self, decision: &Decision) -> Result<(), StoreError> {
        let body = to_json("decisions", decision)?;
        let state = if decision.state == DecisionState::Active { "active" } else { "ended" };
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO decisions (number, short, state, body) VALUES (?1, ?2, ?3, ?4)")
            .and_then(|mut insert| insert.execute((signed(decision.number), decision.short(), state, body)))
            .map_err(StoreError::statement("keep a decision"))?;
        Ok(())
    }

    /// The newest decisions, newest first.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn decisions(&self, most: u32) -> Result<Vec<Decision>, StoreError> {
        bodies(&self.connection, "decisions", "SELECT body FROM decisions ORDER BY number DESC LIMIT ?1", [most])
    }

    /// A decision by its short name (`D-31F8Q`, any case) or its number.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn decision(&self, name: &str) -> Result<Option<Decision>, StoreError> {
        let query = "SELECT body FROM decisions WHERE short = upper(?1) OR number = ?2 ORDER BY number DESC LIMIT 1";
        let number = name.parse::<i64>().unwrap_or(-1);
        Ok(bodies(&self.connection, "decisions", query, (name, number))?.pop())
    }

    /// Decisions that the policy needs after a restart: the active ones and the newest ended ones.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn decisions_to_restore(&self) -> Result<Vec<Decision>, StoreError> {
        let query = "SELECT body FROM decisions WHERE state = 'active' OR number >
                     (SELECT coalesce(max(number), 0) FROM decisions) - 1024 ORDER BY number";
        bodies(&self.connection, "decisions", query, [])
    }

    /// How many automatic decisions about a workload were made as shadows since a time of the event clock.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn shadows_since(&self, workload: &str, unix_ns: u64) -> Result<u64, StoreError> {
        let query = "SELECT count(*) FROM decisions
                     WHERE json_extract(body, '$.shadow') AND json_extract(body, '$.author.by') = 'automatic'
                     AND json_extract(body, '$.workload') = ?1 AND json_extract(body, '$.created.unix_ns') >= ?2";
        self.connection
            .prepare_cached(query)
            .and_then(|mut count| count.query_row((workload, signed(unix_ns)), |row| row.get::<_, i64>(0)))
            .map(i64::unsigned_abs)
            .map_err(StoreError::statement("count would-be denials"))
    }

    /// The lowest number above every decision ever kept.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn next_decision(&self) -> Result<u64, StoreError> {
        self.connection
            .query_row("SELECT coalesce(max(number), 0) + 1 FROM decisions", [], |row| row.get::<_, i64>(0))
            .map(i64::unsigned_abs)
            .map_err(StoreError::statement("number a decision"))
    }

    pub(super) fn prune_decisions(&mut self) -> Result<(), StoreError> {
        self.connection
            .execute(
                "DELETE FROM decisions WHERE state = 'ended' AND number <= (SELECT max(number) FROM decisions) - ?1",
                [KEPT],
            )
            .map_err(StoreError::statement("drop old decisions"))?;
        Ok(())
    }
}
