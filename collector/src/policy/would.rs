//! How often something would have been denied while a workload was monitored, and how often at most: what a person has to know
//! before it enforces. A bare zero says nothing without its time.

use std::fmt;

use model::rate::poisson_upper;
use serde::{Deserialize, Serialize};

const DAY_NS: f64 = 24.0 * 3_600.0 * 1e9;
/// The bound holds in so many of a hundred hosts.
const CONFIDENCE: f64 = 0.95;

/// What would have been denied.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WouldDeny {
    /// Automatic decisions that were made as shadows.
    pub denials: u64,
    /// Days of the event clock on which they could have been.
    pub days: f64,
    /// The true rate a day is below this in 95 of 100 cases: exact Poisson bound (Garwood, 1936), 3/days when there was none.
    pub per_day_at_most: f64,
}

impl WouldDeny {
    /// So many in so many nanoseconds of the event clock.
    pub fn over(denials: u64, ns: u64) -> Self {
        let days = ns as f64 / DAY_NS;
        Self { denials, days, per_day_at_most: poisson_upper(denials, CONFIDENCE) / days.max(1e-3) }
    }
}

impl fmt::Display for WouldDeny {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { denials, days, per_day_at_most } = self;
        let plural = if *denials == 1 { "" } else { "s" };
        write!(out, "{denials} would-be denial{plural} in {days:.1} d: fewer than {per_day_at_most:.2} a day (95 %)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_few_days_is_no_promise() {
        let week = 7 * 24 * 3_600 * 1_000_000_000;
        assert_eq!(WouldDeny::over(0, week).to_string(), "0 would-be denials in 7.0 d: fewer than 0.43 a day (95 %)");
        assert_eq!(WouldDeny::over(1, week).to_string(), "1 would-be denial in 7.0 d: fewer than 0.68 a day (95 %)");
        // One a week at most needs three weeks without any.
        assert!(WouldDeny::over(0, 3 * week).per_day_at_most < 1.0 / 7.0);
        assert!(WouldDeny::over(0, 0).per_day_at_most.is_finite());
    }
}
