//! The mode of a workload: learning → monitoring → enforcing. Nothing enforces on install.

use serde::{Deserialize, Serialize};

/// What the agent does about a workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Everything it does teaches the baseline; only shipped knowledge (the prior) is judged.
    #[default]
    Learning,
    /// Judged against the frozen baseline; what would be denied is counted by shadow entries.
    Monitoring,
    /// Judged, and automatic decisions deny.
    Enforcing,
}
