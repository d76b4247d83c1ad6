//! The threshold: a return level of this host's own benign episodes, or the shipped start value until there are enough.
//!
//! With a budget of N episodes a day and D days of data, `T_N` is the ⌊N·D⌋-th largest episode score. With k independent
//! exceedances the true rate over the nominal one is Gamma(k)/k distributed. Exceedances are not independent: a restart makes
//! three at once. So k is counted in disturbances ([`independent`]); it and the interval are always shown, and below five the
//! level says nothing and the start value is used.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::event::Time;
use crate::features::{COORDINATES, FeatureVector};
use crate::grown::{Grown, Ranges};
use crate::params::MAX_OWN;
use crate::score::{mix, strongest};

/// Independent exceedances before the host's own level is used.
const ENOUGH: f64 = 5.0;
/// Scores that are kept: the largest of the days that count.
pub(crate) const MAX_SCORES: usize = 512;
/// Days that count, at most.
const DAYS: f64 = 30.0;
const DAY: f64 = 86_400e9;
/// A level of a host's own is never below this: a quiet host must not page about two bits.
pub(crate) const LEAST: f64 = 12.0;

/// The level in force.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// Bits; an episode at or above it is a finding of its own.
    pub level: f64,
    /// Whether it comes from this host's own data.
    pub calibrated: bool,
    /// Exceedances behind it.
    pub exceedances: u32,
    /// Independent ones among them.
    pub independent: f64,
    /// 90 % interval of true rate / nominal rate.
    pub interval: (f64, f64),
    /// Days of data.
    pub days: f64,
}

impl Threshold {
    /// Whether one that was read from a snapshot can have been in force.
    pub(crate) fn is_sound(&self) -> bool {
        [self.level, self.independent, self.interval.0, self.interval.1, self.days].iter().all(|it| it.is_finite())
    }
}

/// λ, 0–1, and the own forest that has this share of a workload's score.
pub(crate) type OwnSay = (f64, Arc<Grown>);

/// What the score of a closed episode was made of, so that a newer forest can be asked what it is worth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Past {
    /// Whose episode it was.
    workload: Arc<str>,
    /// When it closed.
    closed: Time,
    /// The part of facts and calls: it stays what it was.
    fixed: f64,
    /// The vectors that raised a coordinate furthest, with the hour since 1970 of each.
    vectors: Vec<(u64, FeatureVector)>,
}

impl Past {
    /// One of a workload that closed at a time, with the bits of its facts and calls and the vectors behind the rest, with their hours.
    pub fn new(workload: Arc<str>, closed: Time, fixed: f64, vectors: Vec<(u64, FeatureVector)>) -> Self {
        Self { workload, closed, fixed, vectors }
    }

    /// What it is worth to the pooled forest and the workload's own, neither told what its hours taught.
    fn score_by(&self, grown: &Grown, ranges: &Ranges, own: Option<&OwnSay>) -> f64 {
        let mut most = [0.0_f64; COORDINATES];
        for (hour, vector) in &self.vectors {
            let pool = grown.score_without(*hour, vector, Some(ranges));
            let score = match own {
                Some((share, own)) => mix(*share, &own.score_without(*hour, vector, None), &pool),
                None => pool,
            };
            most.iter_mut().zip(score.contributions).for_each(|(most, part)| *most = most.max(part));
        }
        self.fixed + strongest(most.iter())
    }

    /// Whether one that was read from a snapshot can have been.
    pub(crate) fn is_sound(&self) -> bool {
        let vectors = self.vectors.iter().all(|(_, vector)| vector.is_finite());
        self.fixed.is_finite() && self.vectors.len() <= COORDINATES && vectors
    }
}

/// What a new forest is to score: closed episodes, and what the own forests of their workloads say.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "StoredRecall", into = "StoredRecall")]
pub struct Recall {
    closed: Arc<Vec<Scored>>,
    own: BTreeMap<Arc<str>, OwnSay>,
}

/// A recall in a snapshot: episodes by number, whatever they were worth.
#[derive(Clone, Serialize, Deserialize)]
struct StoredRecall {
    past: Vec<(u64, Past)>,
    own: BTreeMap<Arc<str>, OwnSay>,
}

/// What a new forest says about closed episodes.
#[derive(Clone, Debug, Default)]
pub struct Rescored {
    asked: Arc<Vec<Scored>>,
    /// By number.
    scores: Vec<(u64, f64)>,
    /// What was asked for with these scores.
    told: Arc<Vec<Scored>>,
}

impl Recall {
    /// With these own forests.
    pub(crate) fn with(self, own: BTreeMap<Arc<str>, OwnSay>) -> Self {
        Self { own, ..self }
    }

    /// What they are worth.
    pub(crate) fn rescored(&self, grown: &Grown, ranges: &Ranges) -> Rescored {
        let score = |past: &Past| past.score_by(grown, ranges, self.own.get(&past.workload));
        let scores: Vec<(u64, f64)> = self.closed.iter().map(|scored| (scored.number, score(&scored.past))).collect();
        let told = Arc::new(with_scores(&self.closed, &scores));
        Rescored { asked: Arc::clone(&self.closed), scores, told }
    }

    /// Whether one that was read from a snapshot can have been asked for.
    pub(crate) fn is_sound(&self, trees: usize) -> bool {
        self.closed.len() <= MAX_SCORES
            && self.closed.iter().all(|scored| scored.past.is_sound())
            && self.own.len() <= MAX_OWN
            && self.own.values().all(|(share, own)| (0.0..=1.0).contains(share) && own.is_sound(trees))
    }
}

impl PartialEq for Recall {
    fn eq(&self, other: &Self) -> bool {
        let past = |recall: &Self| recall.closed.iter().map(|it| (it.number, Arc::clone(&it.past))).collect::<Vec<_>>();
        past(self) == past(other) && self.own == other.own
    }
}

impl From<Recall> for StoredRecall {
    fn from(recall: Recall) -> Self {
        let past = recall.closed.iter().map(|scored| (scored.number, Past::clone(&scored.past)));
        Self { past: past.collect(), own: recall.own }
    }
}

impl From<StoredRecall> for Recall {
    fn from(stored: StoredRecall) -> Self {
        let past = stored.past.into_iter();
        let closed = past.map(|(number, past)| Scored { number, score: 0.0, past: Arc::new(past) });
        Self { closed: Arc::new(closed.collect()), own: stored.own }
    }
}

impl Rescored {
    /// Scores by number.
    pub fn scores(&self) -> &[(u64, f64)] {
        &self.scores
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Scored {
    number: u64,
    score: f64,
    past: Arc<Past>,
}

/// These episodes with other scores, where there are any for them, the largest first.
fn with_scores(closed: &[Scored], scores: &[(u64, f64)]) -> Vec<Scored> {
    let scores: BTreeMap<u64, f64> = scores.iter().copied().collect();
    let mut told = closed.to_vec();
    for scored in &mut told {
        scored.score = scores.get(&scored.number).copied().unwrap_or(scored.score);
    }
    told.sort_by(|a, b| b.score.total_cmp(&a.score));
    told
}

/// Scores of closed episodes.
///
/// A threshold stands on what was scored weeks ago, by a forest that no longer exists. So the vectors are kept, not only the
/// scores, and whenever a forest is published all of them are scored anew: level and scores are of one forest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    since: Option<Time>,
    /// The largest score first: the level is read for every event. Shared with who scores them anew.
    scored: Arc<Vec<Scored>>,
    next: u64,
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

    /// Adds a closed episode with its score. Everything counts that no human has called an incident: leaving out what alarmed
    /// would lower the level at every turn.
    pub fn add(&mut self, past: Past, score: f64, budget_per_day: f64) {
        let oldest = past.closed.unix_ns.saturating_sub((horizon(budget_per_day) * DAY) as u64);
        let all = Arc::make_mut(&mut self.scored);
        all.retain(|other| other.past.closed.unix_ns >= oldest);
        let place = all.partition_point(|other| other.score >= score);
        all.insert(place, Scored { number: self.next, score, past: Arc::new(past) });
        all.truncate(MAX_SCORES);
        self.next = self.next.wrapping_add(1);
    }

    /// What is to be scored anew.
    pub(crate) fn recall(&self) -> Recall {
        Recall { closed: Arc::clone(&self.scored), own: BTreeMap::new() }
    }

    /// Takes the scores of a new forest. Episodes that closed since they were asked for keep theirs until the next one.
    pub(crate) fn rescore(&mut self, news: &Rescored) {
        self.scored = match Arc::ptr_eq(&self.scored, &news.asked) {
            true => Arc::clone(&news.told),
            false => Arc::new(with_scores(&self.scored, &news.scores)),
        };
    }

    /// The level for a budget.
    pub fn threshold(&self, now: Time, budget_per_day: f64, start: f64) -> Threshold {
        let begun = self.since.map_or(now.unix_ns, |since| since.unix_ns);
        let days = (now.unix_ns.saturating_sub(begun) as f64 / DAY).min(horizon(budget_per_day));
        let rank = (budget_per_day * days) as u32;
        let exceed = self.scored.get(..rank as usize).unwrap_or(self.scored.as_slice());
        let mut times: Vec<u64> = exceed.iter().map(|scored| scored.past.closed.unix_ns).collect();
        let independent = independent(&mut times);
        let own = exceed.last().filter(|_| exceed.len() == rank as usize && independent >= ENOUGH);
        Threshold {
            level: own.map_or(start, |scored| scored.score.max(LEAST)),
            calibrated: own.is_some(),
            exceedances: exceed.len() as u32,
            independent,
            interval: gamma_interval(independent.max(1.0)),
            days,
        }
    }

    /// What is wrong with scores that were read from a snapshot.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let sorted = self.scored.is_sorted_by(|a, b| a.score >= b.score);
        let finite = self.scored.iter().all(|scored| scored.score.is_finite() && scored.past.is_sound());
        (self.scored.len() > MAX_SCORES || !sorted || !finite).then_some("scores of closed episodes")
    }
}

/// Independent ones among exceedances at these times, which are sorted: those of one disturbance come together.
///
/// The share of them is the extremal index by the times between exceedances (Ferro and Segers, 2003): 1 when they
/// come at random, the less the more they crowd. No less than one of them is independent, if there is any.
pub fn independent(times: &mut [u64]) -> f64 {
    times.sort_unstable();
    let gaps = || times.windows(2).map(|two| (two[1] - two[0]) as f64);
    let (sum, squares) = (gaps().sum::<f64>(), gaps().map(|gap| gap * gap).sum::<f64>());
    let all = times.len() as f64;
    let share = match times.len() {
        0 | 1 => 1.0,
        _ if squares == 0.0 => 0.0,
        _ => (2.0 * sum * sum / ((all - 1.0) * squares)).min(1.0),
    };
    (share * all).max(all.min(1.0))
}

/// 5 % and 95 % quantiles of Gamma(k)/k by Wilson and Hilferty (1931), exact to a percent for k ≥ 2.
pub fn gamma_interval(k: f64) -> (f64, f64) {
    const Z: f64 = 1.644_853_6;
    let quantile = |z: f64| {
        let root = (1.0 - 1.0 / (9.0 * k) + z / (3.0 * k.sqrt())).max(0.0);
        root * root * root
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
        (0..100).for_each(|n| {
            calibration.add(Past::new("a".into(), day(f64::from(n) * 0.07), 0.0, Vec::new()), f64::from(n) / 2.0, 1.0)
        });
        let early = calibration.threshold(day(4.0), 1.0, 30.0);
        assert!(!early.calibrated && early.level == 30.0);
        let later = calibration.threshold(day(7.0), 1.0, 30.0);
        assert!(later.calibrated);
        assert_eq!((later.level, later.exceedances), (46.5, 7), "the seventh largest of 0, 0.5, … 49.5");
    }

    #[test]
    fn the_interval_is_that_of_a_gamma_distribution() {
        let (low, high) = gamma_interval(7.0);
        assert!((low - 0.47).abs() < 0.01 && (high - 1.69).abs() < 0.01, "{low} {high}");
    }

    #[test]
    fn a_quiet_host_does_not_page_about_nothing() {
        let mut calibration = Calibration::default();
        calibration.begin(day(0.0));
        (0..50)
            .for_each(|n| calibration.add(Past::new("a".into(), day(f64::from(n) * 0.2), 0.0, Vec::new()), 1.0, 1.0));
        assert_eq!(calibration.threshold(day(10.0), 1.0, 30.0).level, LEAST);
    }

    #[test]
    fn a_large_budget_stays_calibrated() {
        let mut calibration = Calibration::default();
        calibration.begin(day(0.0));
        (0..6_000).for_each(|n| {
            calibration.add(
                Past::new("a".into(), day(f64::from(n) / 200.0), 0.0, Vec::new()),
                f64::from(n % 100),
                100.0,
            )
        });
        let threshold = calibration.threshold(day(30.0), 100.0, 30.0);
        assert!(threshold.calibrated && threshold.exceedances <= 512, "{threshold:?}");
        // Half of the 200 episodes a day may exceed it.
        assert!((48.0..=52.0).contains(&threshold.level), "{threshold:?}");
    }

    #[test]
    fn what_comes_in_crowds_counts_as_crowds() {
        let hours = |hours: &[f64]| -> Vec<u64> { hours.iter().map(|hour| (hour * 3_600e9) as u64).collect() };
        let mut random = crate::random::Random::new(1);
        let mut at = 0.0;
        let mut alone: Vec<f64> = Vec::new();
        for _ in 0..400 {
            at -= 24.0 * (1.0 - random.unit()).ln();
            alone.push(at);
        }
        let k = independent(&mut hours(&alone));
        assert!((340.0..=400.0).contains(&k), "four hundred at random are independent: {k}");
        let rare = alone.iter().take(100).map(|at| 4.0 * at);
        let crowds: Vec<f64> = rare.flat_map(|at| [0.0, 0.1, 0.2, 0.3].map(|more| at + more)).collect();
        let k = independent(&mut hours(&crowds));
        assert!((70.0..140.0).contains(&k), "four hundred in crowds of four are a hundred: {k}");
        assert_eq!((independent(&mut []), independent(&mut [5]), independent(&mut [5, 5, 5])), (0.0, 1.0, 1.0));
    }

    #[test]
    fn three_restarts_are_not_enough_to_calibrate() {
        let mut calibration = Calibration::default();
        calibration.begin(day(0.0));
        // Nine episodes over the rest, in three crowds; and a quiet one an hour.
        for n in 0..9 * 24 {
            let score = if n % 72 < 3 { 40.0 } else { 15.0 };
            let at =
                if n % 72 < 3 { f64::from(n / 72 * 72) / 24.0 + f64::from(n % 72) * 1e-4 } else { f64::from(n) / 24.0 };
            calibration.add(Past::new("a".into(), day(at), 0.0, Vec::new()), score, 1.0);
        }
        let threshold = calibration.threshold(day(9.0), 1.0, 30.0);
        assert!(!threshold.calibrated && threshold.level == 30.0, "{threshold:?}");
        assert_eq!(threshold.exceedances, 9);
        assert!(threshold.independent < 5.0 && threshold.interval.1 > 1.8, "{threshold:?}");
    }

    proptest! {
        #[test]
        fn a_calibrated_level_was_reached_by_as_many_as_it_says(scores in proptest::collection::vec(0.0f64..100.0, 10..400)) {
            let mut calibration = Calibration::default();
            calibration.begin(day(0.0));
            scores.iter().enumerate().for_each(|(n, score)| calibration.add(Past::new("a".into(), day(n as f64 * 0.02), 0.0, Vec::new()), *score, 1.0));
            let threshold = calibration.threshold(day(8.0), 1.0, 30.0);
            prop_assert!(threshold.calibrated || threshold.independent < ENOUGH);
            prop_assume!(threshold.calibrated);
            let reached = scores.iter().filter(|score| **score >= threshold.level).count();
            let above = scores.iter().filter(|score| **score > threshold.level).count();
            prop_assert!((above < 8 && reached >= 8) || threshold.level == LEAST, "{} of {}", reached, scores.len());
        }
    }
}
