//! Does the budget hold? What a level from so few days promises, beside what the test days then saw.

use model::threshold::{gamma_interval, independent};
use serde::{Deserialize, Serialize};

use super::track::{Track, Unit};
use crate::labels::Split;
use crate::stats;

/// Share of cases in which what is promised holds.
pub const PROMISED: f64 = 0.9;
const HOURS_A_DAY: u64 = 24;

/// What the level of one budget promises, and what came.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Promise {
    /// Alarms a host-day.
    pub budget: f64,
    /// Level in bits.
    pub level: f64,
    /// Alarms of the validation above it.
    pub alarms: usize,
    /// Independent ones among them.
    pub independent: f64,
    /// Alarms a host-day that the true rate of this level lies between, at [`PROMISED`].
    pub rate: (f64, f64),
    /// Alarms a host-day that so many test days see, at [`PROMISED`].
    pub expected: (f64, f64),
    /// Alarms a host-day that they saw.
    pub seen: f64,
}

impl Promise {
    /// Whether it was kept.
    pub fn is_kept(&self) -> bool {
        (self.expected.0..=self.expected.1).contains(&self.seen)
    }
}

/// The promise of a level for so many host-days of test. `None` when no alarm of the validation lies above it.
pub fn promise(track: &Track, budget: f64, level: f64, test_days: f64) -> Option<Promise> {
    let above = |of: Split| track.benign.iter().filter(move |((split, _), score)| *split == of && **score > level);
    let mut times: Vec<u64> = above(Split::Validation).map(|((_, unit), _)| end_to_end(unit)).collect();
    let alarms = times.len();
    if alarms == 0 {
        return None;
    }
    let independent = independent(&mut times);
    // Alarms of one disturbance: so many come at once, and so many times fewer disturbances are expected.
    let crowd = alarms as f64 / independent;
    let (low, high) = gamma_interval(independent);
    let expected =
        |share| stats::count_quantile(independent, budget * test_days / crowd, share) as f64 * crowd / test_days;
    let tail = (1.0 - PROMISED) / 2.0;
    Some(Promise {
        budget,
        level,
        alarms,
        independent,
        rate: (low * budget, high * budget),
        expected: (expected(tail), expected(1.0 - tail)),
        seen: above(Split::Test).count() as f64 / test_days,
    })
}

/// Host-days laid end to end, in hours.
fn end_to_end(unit: &Unit) -> u64 {
    unit.day as u64 * HOURS_A_DAY + unit.hour % HOURS_A_DAY
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(validation: &[(usize, u64)], test: usize) -> Track {
        let mut track = Track::named("x");
        let unit = |day, hour, anchor| Unit { day, anchor, hour };
        for (at, (day, hour)) in validation.iter().enumerate() {
            track.benign(Split::Validation, unit(*day, *hour, at as u64), None, 20.0);
        }
        (0..test).for_each(|at| track.benign(Split::Test, unit(10, 0, at as u64), None, 20.0));
        track
    }

    #[test]
    fn alarms_that_come_in_crowds_promise_less() {
        let alone = promise(&track(&[(0, 3), (1, 20), (2, 4), (3, 1), (4, 15), (5, 9)], 9), 1.0, 10.0, 8.0);
        let crowd = promise(&track(&[(0, 3), (0, 3), (0, 3), (4, 15), (4, 15), (4, 16)], 9), 1.0, 10.0, 8.0);
        let (alone, crowd) = (alone.expect("a promise"), crowd.expect("a promise"));
        assert_eq!((alone.alarms, crowd.alarms), (6, 6));
        assert!(alone.independent > 5.0 && crowd.independent < 3.0, "{alone:?} {crowd:?}");
        assert!(crowd.expected.1 > 1.3 * alone.expected.1 && crowd.rate.1 > alone.rate.1, "{alone:?} {crowd:?}");
        assert!(alone.is_kept() && alone.seen == 9.0 / 8.0);
        assert!(!promise(&track(&[(0, 3), (1, 20), (2, 4)], 40), 1.0, 10.0, 8.0).expect("a promise").is_kept());
        assert_eq!(promise(&track(&[(0, 3)], 1), 1.0, 20.0, 8.0), None, "at the level is not above it");
    }
}
