//! The online detector: one pooled forest a host, behind the [`Detector`] trait.
//!
//! Rows come in by [`Detector::offer`]; trees that are due grow beside ([`crate::growth`]); what scores is published as a whole
//! ([`crate::grown`]).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::beside;
use crate::counts::Counts;
use crate::event::Time;
use crate::facts::Fact;
use crate::features::{COORDINATES, FeatureVector};
use crate::forest::ForestValidParams;
use crate::grown::{Grown, LEAST_BITS};
use crate::growth::{Growing, Growth};
use crate::params::{DetectorKind, Params};
use crate::random::Random;
use crate::reservoir::Reservoir;
use crate::score::AnomalyScore;
use crate::state::HealthState;
use crate::threshold::{Recall, Rescored};

/// Rows before the forest is grown for the first time.
pub const FIRST_ROWS: u64 = 64;
/// Admitted rows after which the next tree is replaced.
const ROWS_PER_TREE: u64 = 256;
/// In this time every tree is replaced at least once, if rows come at all.
const TURNOVER_NS: u64 = 24 * 3_600_000_000_000;
/// Bits that [`DetectorKind::Random`] gives at most, as many as the forest gives to what is strange.
const MOST_BY_LOT: f64 = 20.0;

/// Scores vectors and learns from them.
pub trait Detector {
    /// Scores a vector; learns nothing.
    fn score(&self, vector: &FeatureVector) -> AnomalyScore;

    /// Offers a vector for learning; see [`Reservoir::offer`].
    fn offer(&mut self, cell: u64, at: Time, settled: FeatureVector, novel: &[(Fact, f64)]);

    /// Between which bits 98 % of the rows lie, by coordinate; zeros as long as nothing was grown.
    fn usual(&self) -> [(f64, f64); COORDINATES];

    /// Rows held and trees grown.
    fn size(&self) -> (usize, usize);
}

/// The forest that everybody on the host shares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PooledForest {
    params: ForestValidParams,
    grown: Arc<Grown>,
    growing: Option<Growing>,
    reservoir: Reservoir,
    random: Random,
    next_tree: usize,
    grown_at_rows: u64,
    grown_at: Time,
    /// Not kept: a restart may have brought a version that can grow them.
    #[serde(skip)]
    given_up: GivenUp,
    /// [`Params::leaks`].
    #[serde(skip)]
    leaks: bool,
}

/// Growths that came to nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct GivenUp {
    /// Since the start.
    pub all: u64,
    /// Since the last one that was taken over.
    in_a_row: u64,
    last: Time,
}

impl GivenUp {
    fn count(&mut self, at: Time) {
        *self = Self { all: self.all.saturating_add(1), in_a_row: self.in_a_row.saturating_add(1), last: at };
    }

    /// What that means for the model's health.
    pub fn state(&self) -> Option<HealthState> {
        (self.in_a_row > 0).then_some(HealthState::Stunted { in_a_row: self.in_a_row, last: self.last })
    }
}

impl PooledForest {
    /// Without rows or trees.
    pub fn new(params: &Params) -> Self {
        Self {
            params: forest_params(params),
            grown: Arc::default(),
            growing: None,
            reservoir: Reservoir::new(params.seed ^ 0x7265_7365_7276),
            random: Random::new(params.seed),
            next_tree: 0,
            grown_at_rows: 0,
            grown_at: Time::default(),
            given_up: GivenUp::default(),
            leaks: params.leaks,
        }
    }

    /// Beyond this many bits of a coordinate the gap begins.
    pub fn limits(&self) -> [f64; COORDINATES] {
        self.grown.limits()
    }

    /// What is wrong with a forest that was read from a snapshot, given the parameters that stand beside it.
    pub(crate) fn fault(&self, params: &Params) -> Option<&'static str> {
        let own = self.params != forest_params(params) || self.next_tree >= params.trees;
        let growing = self.growing.as_ref().is_some_and(|growing| !growing.is_sound(&self.params));
        (own || growing || !self.grown.is_sound(params.trees))
            .then_some("the forest")
            .or_else(|| self.reservoir.fault())
    }

    /// What scores now.
    pub(crate) fn grown(&self) -> &Arc<Grown> {
        &self.grown
    }

    /// Whether trees are growing.
    pub(crate) fn is_growing(&self) -> bool {
        self.growing.is_some()
    }

    /// Begins to grow the trees that are due, unless some are growing. `recall`: the closed episodes that the new forest shall
    /// score.
    pub fn begin_what_is_due(&mut self, at: Time, host: &Counts, recall: impl FnOnce() -> Recall) {
        let due = self.next_due().filter(|(from, _)| at.unix_ns >= *from);
        let Some((_, many)) = due else { return };
        let growth = Growth {
            params: self.params.clone(),
            grown: Arc::clone(&self.grown),
            first: self.next_tree,
            many,
            // The scale is measured anew once in a turnover, and while the model is young.
            measure: many > 1 || self.next_tree == 0,
            rows: if self.leaks { self.reservoir.leaked(host) } else { self.reservoir.taken(host) },
            random: Random::new(self.random.draw()),
            recall: recall(),
        };
        self.growing = Some(Growing::begin(at, growth));
        self.next_tree = (self.next_tree + many) % self.params.trees();
        self.grown_at_rows = self.reservoir.admitted();
        self.grown_at = at;
    }

    /// Takes a forest over whose time has come; what it says about the closed episodes. A growth that came to nothing is counted,
    /// and the next one begins when that would have been due anyway.
    pub fn publish(&mut self, at: Time) -> Option<Rescored> {
        let Some(crop) = self.growing.take_if(|growing| growing.is_due(at))?.harvest() else {
            self.given_up.count(at);
            return None;
        };
        self.given_up.in_a_row = 0;
        beside::leave(std::mem::replace(&mut self.grown, crop.grown));
        Some(crop.rescored)
    }

    /// From when on trees are due (unix clock), unless some are growing, and how many: all the first time; half of them at every
    /// doubling while the model is young, so that the first rows do not rule for long; later one by one.
    fn next_due(&self) -> Option<(u64, usize)> {
        let (rows, trees) = (self.reservoir.admitted(), self.params.trees());
        let young = rows <= 16 * FIRST_ROWS;
        let doubled = rows >= self.grown_at_rows.saturating_mul(2);
        // Where the first growth came to nothing, there are none yet.
        let none = self.grown.trees() == 0;
        match () {
            () if rows < FIRST_ROWS || self.growing.is_some() => None,
            () if none && doubled => Some((0, trees)),
            () if young && doubled => Some((0, trees.div_ceil(2))),
            () if rows >= self.grown_at_rows.saturating_add(ROWS_PER_TREE) => {
                let many = if none { trees } else { 1 };
                Some((self.grown_at.unix_ns.saturating_add(TURNOVER_NS / trees as u64), many))
            }
            () => None,
        }
    }

    /// Growths that came to nothing.
    pub(crate) fn given_up(&self) -> GivenUp {
        self.given_up
    }

    /// Makes what is growing panic.
    #[cfg(test)]
    pub(crate) fn spoil(&mut self) {
        self.growing = self.growing.take().map(Growing::spoilt);
    }

    /// Makes the median row be isolated after so many cuts, whatever the trees say.
    #[cfg(test)]
    pub(crate) fn misjudge(&mut self, median_depth: f64) {
        self.grown = Arc::new(self.grown.misjudging(median_depth));
    }

    /// Takes the trees of another forest and keeps the ranges.
    #[cfg(test)]
    pub(crate) fn take_trees_of(&mut self, other: &Self) {
        self.grown = Arc::new(self.grown.with_trees_of(&other.grown));
    }

    /// When the last growth began.
    pub(crate) fn grown_at(&self) -> Time {
        self.grown_at
    }

    /// From when on trees are due as far as the rows tell, on the unix clock.
    pub(crate) fn due_from(&self) -> Option<u64> {
        self.next_due().map(|(from, _)| from)
    }
}

fn forest_params(params: &Params) -> ForestValidParams {
    ForestValidParams::of(params, LEAST_BITS)
}

impl Detector for PooledForest {
    fn score(&self, vector: &FeatureVector) -> AnomalyScore {
        self.grown.score(vector)
    }

    fn offer(&mut self, cell: u64, at: Time, settled: FeatureVector, novel: &[(Fact, f64)]) {
        self.reservoir.offer(cell, at, settled, novel);
    }

    fn usual(&self) -> [(f64, f64); COORDINATES] {
        self.grown.usual()
    }

    fn size(&self) -> (usize, usize) {
        (self.reservoir.len(), self.grown.trees())
    }
}

/// The detector in use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AnyDetector {
    /// The forest.
    Forest(Box<PooledForest>),
    /// [`DetectorKind::Constant`].
    Constant,
    /// [`DetectorKind::Random`], with its seed.
    Random(u64),
}

impl AnyDetector {
    /// The one that the parameters ask for.
    pub fn new(params: &Params) -> Self {
        match params.detector {
            DetectorKind::Forest => Self::Forest(Box::new(PooledForest::new(params))),
            DetectorKind::Constant => Self::Constant,
            DetectorKind::Random => Self::Random(params.seed),
        }
    }

    /// Growths that came to nothing.
    pub(crate) fn given_up(&self) -> GivenUp {
        match self {
            Self::Forest(forest) => forest.given_up,
            Self::Constant | Self::Random(_) => GivenUp::default(),
        }
    }

    /// Before the restart the last growth came to nothing.
    pub(crate) fn still_stunted(&mut self, since: Time) {
        if let Self::Forest(forest) = self {
            forest.given_up = GivenUp { all: 0, in_a_row: 1, last: since };
        }
    }

    /// What is wrong with a detector that was read from a snapshot.
    pub(crate) fn fault(&self, params: &Params) -> Option<&'static str> {
        match (self, params.detector) {
            (Self::Forest(forest), DetectorKind::Forest) => forest.fault(params),
            (Self::Constant, DetectorKind::Constant) => None,
            (Self::Random(seed), DetectorKind::Random) if *seed == params.seed => None,
            _ => Some("another detector than the parameters ask for"),
        }
    }
}

impl Detector for AnyDetector {
    fn score(&self, vector: &FeatureVector) -> AnomalyScore {
        match self {
            Self::Forest(forest) => forest.score(vector),
            Self::Constant => AnomalyScore::default(),
            Self::Random(seed) => by_lot(*seed, vector),
        }
    }

    fn offer(&mut self, cell: u64, at: Time, settled: FeatureVector, novel: &[(Fact, f64)]) {
        if let Self::Forest(forest) = self {
            forest.offer(cell, at, settled, novel);
        }
    }

    fn usual(&self) -> [(f64, f64); COORDINATES] {
        match self {
            Self::Forest(forest) => forest.usual(),
            Self::Constant | Self::Random(_) => Default::default(),
        }
    }

    fn size(&self) -> (usize, usize) {
        match self {
            Self::Forest(forest) => forest.size(),
            Self::Constant | Self::Random(_) => (0, 0),
        }
    }
}

/// Up to [`MOST_BY_LOT`] bits for any vector, always the same ones for the same vector, on one coordinate.
fn by_lot(seed: u64, vector: &FeatureVector) -> AnomalyScore {
    let mixed = vector.bits.iter().fold(seed, |mixed, bits| Random::new(mixed ^ bits.to_bits()).draw());
    let mut lot = Random::new(mixed);
    let (value, coordinate) = (MOST_BY_LOT * lot.unit(), lot.below(COORDINATES));
    let mut contributions = [0.0; COORDINATES];
    contributions[coordinate] = value;
    AnomalyScore { value, depth: MOST_BY_LOT - value, median_depth: MOST_BY_LOT, gap: 0.0, contributions }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::Coordinate;

    const MINUTE: u64 = 60_000_000_000;

    /// Sparse bits, as real rows are: mostly nothing, now and then a few bits in one coordinate.
    fn row(random: &mut Random) -> FeatureVector {
        let mut row = FeatureVector::default();
        for bits in &mut row.bits {
            if random.unit() < 0.1 {
                *bits = -2.0 * (1.0 - random.unit()).ln();
            }
        }
        row
    }

    fn trained(seed: u64) -> PooledForest {
        let mut forest = PooledForest::new(&Params { seed, ..Params::default() });
        let (mut random, host) = (Random::new(seed + 1), Counts::default());
        for n in 0..2_000 {
            let time = Time { unix_ns: n * MINUTE, boot_ns: n * MINUTE };
            forest.offer(n % 7, time, row(&mut random), &[]);
            forest.publish(time);
            forest.begin_what_is_due(time, &host, Recall::default);
        }
        forest
    }

    #[test]
    fn one_coordinate_eight_bits_beyond_its_range_outranks_nearly_all_benign_rows() {
        for seed in [1, 2, 3] {
            let forest = trained(seed);
            let mut attack = FeatureVector::default();
            attack.bits[Coordinate::Net as usize] = forest.limits()[Coordinate::Net as usize] + 8.0;
            let score = forest.score(&attack).value;
            let mut random = Random::new(seed + 100);
            let above = (0..5_000).filter(|_| forest.score(&row(&mut random)).value > score).count();
            assert!(above <= 10, "seed {seed}: {above} of 5,000 benign rows score higher than {score}");
        }
    }

    #[test]
    fn contributions_add_up_and_name_the_cause() {
        let forest = trained(1);
        let mut attack = FeatureVector::default();
        attack.bits[Coordinate::Lineage as usize] = 20.0;
        let score = forest.score(&attack);
        assert!((score.contributions.iter().sum::<f64>() - score.value).abs() < 1e-9);
        assert!(score.contributions[Coordinate::Lineage as usize] > 0.8 * score.value, "{score:?}");
        assert!(score.depth < score.median_depth);
    }

    #[test]
    fn quiet_is_not_an_alarm() {
        let forest = trained(1);
        assert!(forest.score(&FeatureVector::default()).value < 2.0);
    }

    /// Whatever grows panics: how often it is tried in so many rows, one a minute.
    #[test]
    fn what_cannot_be_grown_is_tried_seldom_and_what_there_is_goes_on() {
        let (mut forest, mut random, host) = (trained(1), Random::new(7), Counts::default());
        let (vector, mut young) = (row(&mut random), PooledForest::new(&Params::default()));
        let before = forest.score(&vector);
        for n in 0..2_000 {
            let time = Time { unix_ns: (2_000 + n) * MINUTE, boot_ns: (2_000 + n) * MINUTE };
            for forest in [&mut forest, &mut young] {
                forest.offer(n % 7, time, row(&mut random), &[]);
                forest.publish(time);
                forest.begin_what_is_due(time, &host, Recall::default);
                forest.spoil();
            }
        }
        let [old, young] = [&forest, &young].map(|forest| (forest.given_up().all, forest.size().1));
        assert!((7..=8).contains(&old.0) && old.1 == 64, "one tree in 256 rows: {old:?}");
        assert!((9..=13).contains(&young.0) && young.1 == 0, "at doublings, then in 256 rows: {young:?}");
        assert_eq!(forest.score(&vector), before);
        assert!(matches!(forest.given_up().state(), Some(HealthState::Stunted { in_a_row, .. }) if in_a_row == old.0));

        // What can be grown again is, and nothing is said any more.
        for n in 4_000..4_600 {
            let time = Time { unix_ns: n * MINUTE, boot_ns: n * MINUTE };
            forest.offer(n % 7, time, row(&mut random), &[]);
            forest.publish(time);
            forest.begin_what_is_due(time, &host, Recall::default);
        }
        assert_eq!((forest.given_up().all, forest.given_up().state()), (old.0, None));
        assert_ne!(forest.score(&vector), before);
    }

    #[test]
    fn the_same_seed_and_rows_give_the_same_scores_bit_for_bit() {
        let vector = FeatureVector { bits: [1.0, 0.0, 3.0, 0.0, 9.0, 0.0, 2.0, 0.0] };
        let (one, two) = (trained(4).score(&vector), trained(4).score(&vector));
        assert_eq!(one.value.to_bits(), two.value.to_bits());
    }
}
