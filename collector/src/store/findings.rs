//! Findings, kept for 90 days and at most 100,000.

use model::event::Time;
use uuid::Uuid;

use super::{Store, StoreError, bodies, signed, to_json};
use crate::finding::{Finding, FindingState};

const KEPT: i64 = 100_000;
const KEPT_NS: u64 = 90 * 86_400 * 1_000_000_000;

impl Store {
    /// Keeps a finding as it is now.
    ///
    /// # Errors
    ///
    /// When the database cannot be written.
    pub fn save_finding(&mut self, finding: &Finding) -> Result<(), StoreError> {
        let body = to_json("findings", finding)?;
        let state = if finding.state == FindingState::Open { "open" } else { "closed" };
        let kind = serde_json::to_value(finding.kind).ok();
        let severity = serde_json::to_value(finding.severity).ok();
        let name =
            |value: Option<serde_json::Value>| value.and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
        self.connection
            .prepare_cached(
                "INSERT OR REPLACE INTO findings (id, short, state, type, severity, workload, created_ns, updated_ns, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )
            .and_then(|mut insert| {
                insert.execute((
                    finding.id.to_string(),
                    finding.short(),
                    state,
                    name(kind),
                    name(severity),
                    finding.workload.as_ref(),
                    signed(finding.created.unix_ns),
                    signed(finding.updated.unix_ns),
                    body,
                ))
            })
            .map_err(StoreError::statement("keep a finding"))?;
        Ok(())
    }

    /// The most recently updated findings, newest first.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn findings(&self, most: u32) -> Result<Vec<Finding>, StoreError> {
        let query = "SELECT body FROM findings ORDER BY updated_ns DESC, id LIMIT ?1";
        bodies(&self.connection, "findings", query, [most])
    }

    /// A finding by its short name (`F-7Q2KX`, any case) or its whole id. Several when the short name is ambiguous.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn finding(&self, name: &str) -> Result<Vec<Finding>, StoreError> {
        let query = "SELECT body FROM findings WHERE short = upper(?1) OR id = lower(?1) ORDER BY updated_ns DESC";
        bodies(&self.connection, "findings", query, [name])
    }

    /// Findings that were open when they were last kept.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn open_findings(&self) -> Result<Vec<Finding>, StoreError> {
        bodies(&self.connection, "findings", "SELECT body FROM findings WHERE state = 'open' ORDER BY id", [])
    }

    pub(super) fn is_closed(&self, id: Uuid) -> Result<bool, StoreError> {
        self.connection
            .query_row("SELECT count(*) FROM findings WHERE id = ?1 AND state = 'closed'", [id.to_string()], |row| {
                row.get::<_, i64>(0)
            })
            .map(|count| count > 0)
            .map_err(StoreError::statement("look a finding up"))
    }

    /// Drops what is too old or too much: closed findings, ended decisions, audit lines. Call it daily.
    ///
    /// # Errors
    ///
    /// When the database cannot be written.
    pub fn prune(&mut self, at: Time) -> Result<(), StoreError> {
        let oldest = signed(at.unix_ns.saturating_sub(KEPT_NS));
        self.connection
            .execute(
                "DELETE FROM findings WHERE state = 'closed' AND (updated_ns < ?1 OR id IN
                 (SELECT id FROM findings ORDER BY updated_ns DESC LIMIT -1 OFFSET ?2))",
                (oldest, KEPT),
            )
            .map_err(StoreError::statement("drop old findings"))?;
        self.prune_decisions()?;
        self.prune_audit()
    }
}
