//! Verdicts → findings and decisions.
pub mod mode;
