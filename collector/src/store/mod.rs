//! SQLite: modes, model snapshots, findings, decisions, audit.
