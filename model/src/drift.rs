//! Drift: quantities of a workload that walk away from those of its first judged days, in steps too small to be found.
//!
//! What is judged adapts: a server that sends five percent more every day is never surprising. So each quantity has a course
//! beside it. A day's level is the mean of the larger half of the day's values, on the scale `log2(1 + x)`: it moves with the
//! tail and does not jump at a value that many share. The first seven days after the freeze are the frozen reference, with
//! mean `m` and standard deviation `s`; from then on two cumulative sums (Page, 1954) run over the days,
//! `S⁺ ← max(0, S⁺ + level − m − k)` and the same downwards, with `k = max(¼, s)` and the alarm at `h = max(2, 8 s)`. The
//! unit is the day: events of one day depend on each other, and so many of them would make any change significant.
//!
//! Findings teach no course. A drift ends when its sum has halved, or when a person freezes the workload anew.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::event::Time;
use crate::features::Coordinate;
use crate::numeric::Numbers;

/// Days of the reference.
const REFERENCE: usize = 7;
/// Values without which a day says nothing.
const LEAST: u32 = 30;
/// Nanoseconds of a day.
const DAY: u64 = 86_400_000_000_000;
/// Octaves by which a day's level may differ from the reference and count nothing, and how many standard deviations.
const ALLOWANCE: (f64, f64) = (0.25, 1.0);
/// Octave-days at which a course has drifted, and how many standard deviations.
const ALARM: (f64, f64) = (2.0, 8.0);

/// What a course is kept of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gauge {
    /// Bits of `seq`, of every window.
    Sequence,
    /// Bits of `priv`, of every window.
    RareCalls,
    /// Bits of `lineage`, of every exec.
    Lineage,
    /// Bits of `file`, of every file record.
    Files,
    /// Bits of `net`, of every flow.
    Net,
    /// Bytes that a flow has sent.
    FlowBytes,
    /// Bytes that a window has read and written.
    WindowBytes,
    /// Failed calls, per 128.
    Errors,
    /// Calls refused for lack of permission, per 128.
    PermissionErrors,
    /// Different destinations of a subtree in a minute.
    Destinations,
}

impl Gauge {
    /// The coordinate that it belongs to.
    pub fn coordinate(self) -> Coordinate {
        match self {
            Self::Sequence => Coordinate::Seq,
            Self::RareCalls => Coordinate::Priv,
            Self::Lineage => Coordinate::Lineage,
            Self::Files => Coordinate::File,
            Self::Net => Coordinate::Net,
            Self::FlowBytes | Self::WindowBytes => Coordinate::Volume,
            Self::Errors | Self::PermissionErrors => Coordinate::Error,
            Self::Destinations => Coordinate::Fanout,
        }
    }

    /// Its unit in words.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Sequence | Self::RareCalls | Self::Lineage | Self::Files | Self::Net => "bits of surprise",
            Self::FlowBytes => "bytes sent by a flow",
            Self::WindowBytes => "bytes read and written in a window",
            Self::Errors => "failed calls of 128",
            Self::PermissionErrors => "refused calls of 128",
            Self::Destinations => "destinations in a minute",
        }
    }
}

/// A quantity that has walked away.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drifted {
    /// Of what.
    pub gauge: Gauge,
    /// Typical value of the larger half in the reference days.
    pub usual: f64,
    /// The same of the last whole day.
    pub now: f64,
    /// First day on which that was certain.
    pub since: Time,
}

impl fmt::Display for Drifted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, unit) = (self.gauge.coordinate().name(), self.gauge.unit());
        write!(out, "{name}: {:.1} {unit}, {:.1} in the first {REFERENCE} days", self.now, self.usual)
    }
}

/// The courses of one workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    day: u64,
    courses: BTreeMap<Gauge, Course>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Course {
    today: Numbers,
    /// Levels of the reference days.
    reference: Vec<f64>,
    /// Level of the last whole day.
    last: f64,
    above: f64,
    below: f64,
    since: Option<Time>,
}

impl Drift {
    /// Adds a value of a judged workload.
    pub(crate) fn learn(&mut self, gauge: Gauge, value: f64, at: Time) {
        let day = at.unix_ns / DAY;
        // A clock that goes back begins no new day.
        if day > self.day {
            self.courses.values_mut().for_each(|course| course.end_day(at));
            self.day = day;
        }
        self.courses.entry(gauge).or_default().today.learn(value);
    }

    /// What has walked away, in a fixed order.
    pub fn drifted(&self) -> impl Iterator<Item = Drifted> {
        self.courses.iter().filter_map(|(gauge, course)| {
            let (mean, _) = course.spread();
            Some(Drifted { gauge: *gauge, usual: value(mean), now: value(course.last), since: course.since? })
        })
    }

    /// Whether courses that were read from a snapshot can have been learnt.
    pub(crate) fn is_sound(&self) -> bool {
        self.courses.values().all(|course| {
            let levels = course.reference.iter().chain([&course.last, &course.above, &course.below]);
            course.today.is_sound()
                && course.reference.len() <= REFERENCE
                && levels.into_iter().all(|level| level.is_finite() && *level >= 0.0)
        })
    }
}

impl Course {
    fn end_day(&mut self, at: Time) {
        let today = std::mem::take(&mut self.today);
        if today.len() < LEAST {
            return;
        }
        self.last = today.larger_half();
        if self.reference.len() < REFERENCE {
            self.reference.push(self.last);
            return;
        }
        let (mean, deviation) = self.spread();
        let allowance = ALLOWANCE.0.max(ALLOWANCE.1 * deviation);
        let alarm = ALARM.0.max(ALARM.1 * deviation);
        // Bounded, so that what comes back is believed in days and not in months.
        let next = |sum: f64, step: f64| (sum + step - allowance).clamp(0.0, 2.0 * alarm);
        self.above = next(self.above, self.last - mean);
        self.below = next(self.below, mean - self.last);
        let most = self.above.max(self.below);
        if most >= alarm {
            self.since.get_or_insert(at);
        } else if most < alarm / 2.0 {
            self.since = None;
        }
    }

    /// Mean and standard deviation of the reference.
    fn spread(&self) -> (f64, f64) {
        let n = self.reference.len().max(2) as f64;
        let mean = self.reference.iter().sum::<f64>() / self.reference.len().max(1) as f64;
        let squares: f64 = self.reference.iter().map(|level| (level - mean) * (level - mean)).sum();
        (mean, (squares / (n - 1.0)).sqrt())
    }
}

/// A level as a value.
fn value(level: f64) -> f64 {
    libm::exp2(level) - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Days on which nothing but chance changes, or something grows by a factor a day. The first on which that is a drift.
    fn pass(drift: &mut Drift, random: &mut Random, days: std::ops::Range<u64>, growth: f64) -> Option<u64> {
        let (from, mut first) = (days.start, None);
        for day in days {
            // Days differ as a whole, not only their events: a quarter of an octave, and as much more on every seventh.
            let mood = (random.unit() - 0.5) / 2.0 + f64::from(u8::from(day % 7 == 6)) * 0.25;
            for n in 0..200 {
                let at = Time { unix_ns: day * DAY + n * DAY / 200, boot_ns: 0 };
                let bytes = 4_000.0 * (3.0 * random.unit() + mood).exp2() * growth.powi((day - from) as i32);
                drift.learn(Gauge::FlowBytes, bytes, at);
            }
            if drift.drifted().next().is_some() {
                first.get_or_insert(day);
            }
        }
        first
    }

    fn days(seed: u64, days: u64, growth: f64) -> (Drift, Option<u64>) {
        let (mut drift, mut random) = (Drift::default(), Random::new(seed));
        let first = pass(&mut drift, &mut random, 0..days, growth);
        (drift, first)
    }

    #[test]
    fn thirty_days_without_change_are_no_drift() {
        for seed in 1..=200 {
            let (drift, first) = days(seed, 31, 1.0);
            assert_eq!(first, None, "seed {seed}: {:?}", drift.drifted().next());
        }
    }

    #[test]
    fn five_percent_a_day_are_a_drift_within_three_weeks() {
        for seed in 1..=200 {
            let (drift, first) = days(seed, 31, 1.05);
            assert!(first.is_some_and(|day| (8..=21).contains(&day)), "seed {seed}: {first:?}");
            let drifted = drift.drifted().next().expect("it goes on");
            assert_eq!(drifted.gauge.coordinate(), Coordinate::Volume);
            assert!(drifted.now > 2.5 * drifted.usual, "{drifted}");
        }
    }

    #[test]
    fn what_shrinks_drifts_as_well_and_what_comes_back_is_over() {
        let (_, first) = days(1, 31, 0.93);
        assert!(first.is_some_and(|day| day <= 21), "{first:?}");
        let (mut drift, _) = days(2, 31, 1.05);
        pass(&mut drift, &mut Random::new(3), 31..45, 1.0);
        assert_eq!(drift.drifted().next(), None);
    }

    #[test]
    fn a_quiet_day_says_nothing() {
        let (mut drift, _) = days(3, 10, 1.0);
        for day in 10..40 {
            let at = Time { unix_ns: day * DAY, boot_ns: 0 };
            (0..LEAST - 1).for_each(|_| drift.learn(Gauge::FlowBytes, 1e9, at));
        }
        assert_eq!(drift.drifted().next(), None);
    }
}
