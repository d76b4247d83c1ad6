//! The threshold: a return level of this host's own benign episodes, or the shipped start value until there are enough.
//!
//! With a budget of N episodes a day and D days of data, `T_N` is the ⌊N·D⌋-th largest episode score. With k independent
//! exceedances the true rate over the nominal one is Gamma(k)/k distributed, so k and that interval are always shown; below
//! five exceedances the level says nothing and the start value is used.

use serde::{Deserialize, Serialize};

use crate::event::Time;

/// Exceedances before the host's own level is used.
const ENOUGH: u32 = 5;
/// Scores that are kept: the largest of the days that count.
const MAX_SCORES: usize = 512;
/// Days that count, at most.
const DAYS: f64 = 30.0;
const DAY: f64 = 86_400e9;
/// A level is never below this: a quiet host must not page about two bits.
const LEAST: f64 = 12.0;

/// The level in force.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// Bits; an episode at or above it is a finding of its own.
    pub level: f64,
    /// Whether it comes from this host's own data.
    pub calibrated: bool,
    /// Exceedances behind it.
    pub exceedances: u32,
    /// 90 % interval of true rate / nominal rate.
    pub interval: (f64, f64),
    /// Days of data.
    pub days: f64,
}

/// Scores of closed episodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    since: Option<Time>,
    /// When it closed (unix) and its score, the largest first: the level is read for every event.
    scores: Vec<(u64, f64)>,
}

/// Days that count for a budget: no more than the scores that are kept can rank.
fn horizon(budget_per_day: f64) -> f64 {
    DAYS.min(MAX_SCORES as f64 / budget_per_day)
}

impl Calibration {
    /// Begins to count days: the first judged evidence.
    pub fn begin(&mut self, at: Time) {
        self.since.get_or_insert(at);
    }

    /// Adds a closed episode. Everything counts that no human has called an incident: leaving out what alarmed would lower
    /// the level at every turn.
    pub fn add(&mut self, at: Time, score: f64, budget_per_day: f64) {
        let oldest = at.unix_ns.saturating_sub((horizon(budget_per_day) * DAY) as u64);
        self.scores.retain(|(time, _)| *time >= oldest);
        let place = self.scores.partition_point(|(_, other)| *other >= score);
        self.scores.insert(place, (at.unix_ns, score));
        self.scores.truncate(MAX_SCORES);
    }

    /// The level for a budget.
    pub fn threshold(&self, now: Time, budget_per_day: f64, start: f64) -> Threshold {
        let begun = self.since.map_or(now.unix_ns, |since| since.unix_ns);
        let days = (now.unix_ns.saturating_sub(begun) as f64 / DAY).min(horizon(budget_per_day));
        let rank = (budget_per_day * days) as u32;
        let interval = gamma_interval(rank.max(1));
        let ranked = self.scores.get((rank as usize).saturating_sub(1)).filter(|_| rank >= ENOUGH);
        match ranked {
            Some((_, score)) => {
                Threshold { level: score.max(LEAST), calibrated: true, exceedances: rank, interval, days }
            }
            None => Threshold { level: start, calibrated: false, exceedances: rank, interval, days },
        }
    }

    /// What is wrong with scores that were read from a snapshot.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let sorted = self.scores.is_sorted_by(|a, b| a.1 >= b.1);
        let finite = self.scores.iter().all(|(_, score)| score.is_finite());
        (self.scores.len() > MAX_SCORES || !sorted || !finite).then_some("scores of closed episodes")
    }
}

/// 5 % and 95 % quantiles of Gamma(k)/k by Wilson and Hilferty (1931), exact to a percent for k ≥ 2.
pub fn gamma_interval(k: u32) -> (f64, f64) {
    const Z: f64 = 1.644_853_6;
    let k = f64::from(k);
    let quantile = |z: f64| {
        let root = 1.0 - 1.0 / (9.0 * k) + z / (3.0 * k.sqrt());
        root.max(0.0).powi(3)
    };
    (quantile(-Z), quantile(Z))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn day(n: f64) -> Time {
        Time { unix_ns: (n * DAY) as u64 + 1, boot_ns: 0 }
    }

    #[test]
    fn the_level_is_a_return_level_once_there_are_five_exceedances() {
        let mut calibration = Calibration::default();
        calibration.begin(day(0.0));
        (0..100).for_each(|n| calibration.add(day(f64::from(n) * 0.07), f64::from(n) / 2.0, 1.0));
        let early = calibration.threshold(day(4.0), 1.0, 30.0);
        assert!(!early.calibrated && early.level == 30.0);
        let later = calibration.threshold(day(7.0), 1.0, 30.0);
        assert!(later.calibrated);
        assert_eq!((later.level, later.exceedances), (46.5, 7), "the seventh largest of 0, 0.5, … 49.5");
    }

    #[test]
    fn the_interval_is_that_of_a_gamma_distribution() {
        let (low, high) = gamma_interval(7);
        assert!((low - 0.47).abs() < 0.01 && (high - 1.69).abs() < 0.01, "{low} {high}");
    }

    #[test]
    fn a_quiet_host_does_not_page_about_nothing() {
        let mut calibration = Calibration::default();
        calibration.begin(day(0.0));
        (0..50).for_each(|n| calibration.add(day(f64::from(n) * 0.2), 1.0, 1.0));
        assert_eq!(calibration.threshold(day(10.0), 1.0, 30.0).level, LEAST);
    }

    #[test]
    fn a_large_budget_stays_calibrated() {
        let mut calibration = Calibration::default();
        calibration.begin(day(0.0));
        (0..6_000).for_each(|n| calibration.add(day(f64::from(n) / 200.0), f64::from(n % 100), 100.0));
        let threshold = calibration.threshold(day(30.0), 100.0, 30.0);
        assert!(threshold.calibrated && threshold.exceedances <= 512, "{threshold:?}");
        // Half of the 200 episodes a day may exceed it.
        assert!((48.0..=52.0).contains(&threshold.level), "{threshold:?}");
    }

    proptest! {
        #[test]
        fn a_calibrated_level_was_reached_by_as_many_as_it_says(scores in proptest::collection::vec(0.0f64..100.0, 10..400)) {
            let mut calibration = Calibration::default();
            calibration.begin(day(0.0));
            scores.iter().enumerate().for_each(|(n, score)| calibration.add(day(n as f64 * 0.02), *score, 1.0));
            let threshold = calibration.threshold(day(8.0), 1.0, 30.0);
            prop_assert!(threshold.calibrated);
            let reached = scores.iter().filter(|score| **score >= threshold.level).count();
            let above = scores.iter().filter(|score| **score > threshold.level).count();
            prop_assert!((above < 8 && reached >= 8) || threshold.level == LEAST, "{} of {}", reached, scores.len());
        }
    }
}
