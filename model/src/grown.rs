//! What scores: trees, the hours that each was grown from, and the ranges of the rows. It is replaced as a whole.
//!
//! `A(x) = median(h) − h(x) + Σ_j max(0, x_j − p99.9_j)`: isolation depth below the median, plus how far the point lies beyond
//! the benign range. The second term is the limit of a cut drawn in the box that includes the query (the insertion rule of
//! robust random cut forests, Guha and others, 2016): without it every point outside the range scores alike. Both parts are
//! in bits and add up coordinate by coordinate, so the score explains itself.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

use crate::exam::Exam;
use crate::features::{COORDINATES, FeatureVector};
use crate::forest::{Forest, ForestValidParams};
use crate::halves::Halves;
use crate::random::Random;
use crate::reservoir::Point;
use crate::score::AnomalyScore;

/// Least spread of a coordinate: most rows have no bits in most of them, and a fraction of a bit is no surprise.
pub(crate) const LEAST_BITS: f64 = 1.0;
/// Share of benign rows that lie within the range beyond which the gap begins.
const RANGE: f64 = 0.999;
/// Shares of benign rows that lie below the ends of what is called usual.
const USUAL: (f64, f64) = (0.01, 0.99);

/// A forest as it is published.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Grown {
    forest: Forest,
    halves: Halves,
    median_depth: f64,
    medians: [f64; COORDINATES],
    limits: [f64; COORDINATES],
    usual: [(f64, f64); COORDINATES],
    #[serde(skip)]
    asked: Asked,
}

/// What it says about made-up vectors, asked once. It follows from the rest.
#[derive(Clone, Debug, Default)]
struct Asked(OnceLock<Exam>);

impl PartialEq for Asked {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Grown {
    /// What it says about made-up vectors.
    pub(crate) fn exam(&self) -> &Exam {
        let varies = || self.usual.iter().any(|(low, high)| high - low >= LEAST_BITS);
        self.asked.0.get_or_init(|| Exam::of(self.limits, varies(), |vector| self.score(vector)))
    }

    /// Trees.
    pub(crate) fn trees(&self) -> usize {
        self.forest.len()
    }

    /// Beyond this many bits of a coordinate the gap begins.
    pub(crate) fn limits(&self) -> [f64; COORDINATES] {
        self.limits
    }

    /// Between which bits 98 % of the rows lie; zeros before there are any.
    pub(crate) fn usual(&self) -> [(f64, f64); COORDINATES] {
        self.usual
    }

    /// What a vector is worth; nothing before there are trees.
    pub(crate) fn score(&self, vector: &FeatureVector) -> AnomalyScore {
        if self.forest.is_empty() {
            return AnomalyScore::default();
        }
        let point = self.floored(vector);
        let walk = self.forest.walk(&point);
        self.add_up(&point, walk.depth, &self.limits, || self.forest.attribute_walk(&walk))
    }

    /// What a vector of an hour would be worth had nothing of that hour been learnt: asked of the trees that lack it, against
    /// the ranges of the other hours, or of all where those are not at hand.
    pub(crate) fn score_without(&self, hour: u64, vector: &FeatureVector, ranges: Option<&Ranges>) -> AnomalyScore {
        let (point, lacks) = (self.floored(vector), |tree| !self.halves.has_seen(tree, hour));
        match self.forest.depth_by(&point, lacks) {
            Some(depth) => {
                let limits = ranges.map_or(self.limits, |ranges| {
                    std::array::from_fn(|coordinate| ranges.limit_without(hour, coordinate))
                });
                self.add_up(&point, depth, &limits, || self.forest.attribute_by(&point, lacks))
            }
            None => self.score(vector),
        }
    }

    fn add_up(
        &self,
        point: &[f64; COORDINATES],
        depth: f64,
        limits: &[f64; COORDINATES],
        shares: impl FnOnce() -> [f64; COORDINATES],
    ) -> AnomalyScore {
        let mut contributions = [0.0; COORDINATES];
        let mut gap = 0.0;
        for ((slot, bits), limit) in contributions.iter_mut().zip(point).zip(limits) {
            *slot = (bits - limit).max(0.0);
            gap += *slot;
        }
        let isolation = self.median_depth - depth;
        let value = isolation + gap;
        // Whose cuts they were takes longer to say than how many, and matters only where there were few.
        if isolation > 0.0 {
            contributions.iter_mut().zip(shares()).for_each(|(slot, share)| *slot += share * isolation);
        }
        let sum: f64 = contributions.iter().sum();
        if sum > 0.0 {
            contributions = contributions.map(|part| part * value.max(0.0) / sum);
        }
        AnomalyScore { value, depth, median_depth: self.median_depth, gap, contributions }
    }

    /// Low values are never anomalous: they are lifted to the median.
    fn floored(&self, vector: &FeatureVector) -> [f64; COORDINATES] {
        let mut point = vector.bits;
        for (slot, median) in point.iter_mut().zip(self.medians) {
            *slot = slot.max(median);
        }
        point
    }

    /// Grows trees anew, of these numbers, each from the rows of half of the hours, given their ranges; `measure`: the scale as
    /// well.
    pub(crate) fn grow(
        &mut self,
        params: &ForestValidParams,
        trees: impl IntoIterator<Item = usize>,
        measure: bool,
        (points, ranges): (&[Point], &Ranges),
        random: &mut Random,
    ) {
        self.asked = Asked::default();
        self.medians = std::array::from_fn(|coordinate| ranges.quantile(coordinate, 0.5));
        self.limits = std::array::from_fn(|coordinate| ranges.quantile(coordinate, RANGE));
        self.usual = std::array::from_fn(|coordinate| {
            (ranges.quantile(coordinate, USUAL.0), ranges.quantile(coordinate, USUAL.1))
        });
        let floored: Vec<f64> = points.iter().flat_map(|point| self.floored(&point.vector)).collect();
        let Ok(rows) = ArrayView2::from_shape((points.len(), COORDINATES), &floored) else { return };
        if measure {
            self.forest.measure(params, rows);
        }
        let hours: Vec<u64> = points.iter().map(|point| point.hour).collect();
        for tree in trees {
            self.halves.draw(tree, &hours, random);
            let seen = (0..hours.len()).filter(|row| self.halves.has_seen(tree, hours[*row])).collect();
            self.forest.replace(params, tree, rows, seen, random);
        }
        let depths = rows.rows().into_iter().zip(&hours).filter_map(|(row, hour)| {
            let row = row.as_slice()?;
            let lacks = |tree| !self.halves.has_seen(tree, *hour);
            Some(self.forest.depth_by(row, lacks).unwrap_or_else(|| self.forest.depth(row)))
        });
        self.median_depth = quantile(&mut depths.collect::<Vec<f64>>(), 0.5);
    }

    /// What is wrong with what was read from a snapshot.
    pub(crate) fn is_sound(&self, trees: usize) -> bool {
        let usual = self.usual.iter().flat_map(|(low, high)| [low, high]);
        let numbers = self.medians.iter().chain(&self.limits).chain([&self.median_depth]).chain(usual);
        let grown = self.forest.is_empty() || self.forest.len() == trees;
        let halves = self.halves.len() == self.forest.len();
        numbers.into_iter().all(|number| number.is_finite()) && grown && halves && self.forest.is_sound(COORDINATES)
    }
}

#[cfg(test)]
impl Grown {
    /// The same trees, only that the median row is isolated after so many cuts.
    pub(crate) fn misjudging(&self, median_depth: f64) -> Self {
        Self { median_depth, asked: Asked::default(), ..self.clone() }
    }

    /// The same ranges with the trees of another one.
    pub(crate) fn with_trees_of(&self, other: &Self) -> Self {
        Self { forest: other.forest.clone(), asked: Asked::default(), ..self.clone() }
    }
}

/// The rows' bits, coordinate by coordinate, the largest first, with the hour of each.
pub(crate) struct Ranges {
    descending: [Vec<(f64, u64)>; COORDINATES],
    /// Rows of each hour.
    hours: BTreeMap<u64, usize>,
}

impl Ranges {
    /// Of these rows.
    pub(crate) fn of(points: &[Point]) -> Self {
        let descending = std::array::from_fn(|coordinate| {
            let mut bits: Vec<_> = points.iter().map(|point| (point.vector.bits[coordinate], point.hour)).collect();
            bits.sort_by(|a, b| b.0.total_cmp(&a.0));
            bits
        });
        let mut hours = BTreeMap::new();
        points.iter().for_each(|point| *hours.entry(point.hour).or_default() += 1);
        Self { descending, hours }
    }

    /// The bits below which a share of the rows lies; 0 without rows.
    fn quantile(&self, coordinate: usize, share: f64) -> f64 {
        let rows = &self.descending[coordinate];
        from_top(rows.len(), share).and_then(|place| rows.get(place)).map_or(0.0, |(bits, _)| *bits)
    }

    /// [`RANGE`] of the rows of other hours.
    fn limit_without(&self, hour: u64, coordinate: usize) -> f64 {
        let rows = &self.descending[coordinate];
        let mut others = rows.iter().filter(|(_, of)| *of != hour);
        let many = rows.len() - self.hours.get(&hour).copied().unwrap_or(0);
        from_top(many, RANGE).and_then(|place| others.nth(place)).map_or(0.0, |(bits, _)| *bits)
    }
}

/// Place of a quantile among so many values, the largest first.
fn from_top(values: usize, share: f64) -> Option<usize> {
    let last = values.checked_sub(1)?;
    Some(last - ((share * values as f64) as usize).min(last))
}

/// The value below which a share of the values lies; 0 without values. Changes their order.
fn quantile(values: &mut [f64], share: f64) -> f64 {
    let Some(last) = values.len().checked_sub(1) else { return 0.0 };
    let at = ((share * values.len() as f64) as usize).min(last);
    *values.select_nth_unstable_by(at, f64::total_cmp).1
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use linfa::ParamGuard;

    use super::*;
    use crate::event::Time;
    use crate::features::Coordinate;
    use crate::forest::ForestParams;
    use crate::score::{mix, strongest};
    use crate::threshold::{Calibration, Past};

    /// Two days of quiet rows; one hour of them brought something of its own.
    fn rows_with_an_odd_hour(odd: u64, seed: u64) -> Vec<Point> {
        let mut random = Random::new(seed);
        let mut rows: Vec<Point> = (0..2_000)
            .map(|n| {
                let mut vector = FeatureVector::default();
                vector.bits.iter_mut().for_each(|bits| *bits = -0.7 * (1.0 - random.unit()).ln());
                Point { hour: n % 48, vector }
            })
            .collect();
        rows.iter_mut().filter(|row| row.hour == odd).for_each(|row| {
            row.vector.raise(Coordinate::Lineage, 12.0);
            row.vector.raise(Coordinate::Net, 9.0);
        });
        rows
    }

    fn grown(rows: &[Point], seed: u64) -> Grown {
        let params = ForestParams::new(64, 256, seed).check().expect("good parameters");
        let mut grown = Grown::default();
        grown.grow(&params, 0..64, true, (rows, &Ranges::of(rows)), &mut Random::new(seed));
        grown
    }

    #[test]
    fn what_an_hour_brought_is_as_strange_to_those_who_lack_the_hour_as_to_a_forest_without_it() {
        for seed in 1..=3 {
            let rows = rows_with_an_odd_hour(17, seed);
            let others: Vec<Point> = rows.iter().filter(|row| row.hour != 17).copied().collect();
            let (all, without) = (grown(&rows, seed), grown(&others, seed));
            let odd = rows.iter().find(|row| row.hour == 17).expect("a row of that hour").vector;
            let told = all.score(&odd).value;
            let own = all.score_without(17, &odd, Some(&Ranges::of(&rows))).value;
            let fresh = without.score(&odd).value;
            assert!(told < fresh - 8.0, "the hour has taught itself: {told}, {fresh} without it");
            assert!((own - fresh).abs() < 1.5, "{own}, {fresh} without it");
        }
    }

    #[test]
    fn a_closed_episode_is_scored_anew_by_both_forests_neither_told_what_its_hour_taught() {
        for seed in 1..=3 {
            let (pool_rows, own_rows) = (rows_with_an_odd_hour(40, seed + 9), rows_with_an_odd_hour(17, seed));
            let (pool, own, ranges) = (grown(&pool_rows, seed), grown(&own_rows, seed), Ranges::of(&pool_rows));
            let odd = own_rows.iter().find(|row| row.hour == 17).expect("a row of that hour").vector;
            let mut calibration = Calibration::default();
            for workload in ["its own", "none"] {
                calibration.add(Past::new(workload.into(), Time::default(), 0.0, vec![(17, odd)]), 0.0, 1.0);
            }
            let own_says = BTreeMap::from([("its own".into(), (0.7, Arc::new(own.clone())))]);
            let rescored = calibration.recall().with(own_says).rescored(&pool, &ranges);
            let mut scores: Vec<(u64, f64)> = rescored.scores().to_vec();
            scores.sort_unstable_by_key(|(number, _)| *number);

            let by_pool = pool.score_without(17, &odd, Some(&ranges));
            let worth = |score: &AnomalyScore| strongest(score.contributions.iter());
            let [mixed, told] =
                [own.score_without(17, &odd, None), own.score(&odd)].map(|own| worth(&mix(0.7, &own, &by_pool)));
            assert_eq!(scores, [(0, mixed), (1, worth(&by_pool))], "seed {seed}");
            assert!(told < mixed, "seed {seed}: {told} by trees that have seen it, {mixed} by those that lack it");
        }
    }

    #[test]
    fn leaving_an_hour_out_of_the_ranges_is_measuring_the_other_hours() {
        let rows = rows_with_an_odd_hour(3, 5);
        let others: Vec<Point> = rows.iter().filter(|row| row.hour != 3).copied().collect();
        for coordinate in 0..COORDINATES {
            let (of_all, of_others) = (Ranges::of(&rows), Ranges::of(&others));
            assert_eq!(of_all.limit_without(3, coordinate), of_others.quantile(coordinate, RANGE));
        }
        assert_eq!(Ranges::of(&[]).quantile(0, RANGE), 0.0);
    }
}
