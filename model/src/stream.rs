//! An online isolation forest over plain rows of numbers: score a row, then learn it.
//!
//! A uniform reservoir of what was seen; trees are grown from it a few at a time. Early, at every doubling of the rows seen,
//! half of the trees are grown anew, so that the first rows do not rule for long; later one tree every 256 rows, the oldest
//! first. This is the forest of the agent without what the agent knows of hosts: hours, facts, workloads ([`crate::online`]).

use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

use crate::forest::{Forest, ForestValidParams};
use crate::random::Random;

/// Rows that are kept.
const RESERVOIR: usize = 2_048;
/// Rows before the forest is grown for the first time.
const FIRST_ROWS: u64 = 256;
/// Up to here half of the trees are grown anew at every doubling.
const YOUNG: u64 = 16_384;
/// Afterwards one tree in so many rows.
const ROWS_PER_TREE: u64 = 256;

/// A forest that learns row by row.
///
/// ```
/// use linfa::ParamGuard;
/// use model::forest::ForestParams;
/// use model::stream::OnlineForest;
///
/// let params = ForestParams::new(64, 256, 7).check()?;
/// let mut forest = OnlineForest::new(params, 2);
/// for n in 0..1_000 {
///     let row = [f64::from(n % 10), f64::from(n % 7)];
///     let _before_it_is_known = forest.score(&row);
///     forest.learn(&row);
/// }
/// assert!(forest.score(&[50.0, 3.0]) > forest.score(&[5.0, 3.0]));
/// # Ok::<(), linfa::error::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OnlineForest {
    params: ForestValidParams,
    width: usize,
    reservoir: Vec<f64>,
    seen: u64,
    forest: Forest,
    next_tree: usize,
    random: Random,
}

impl OnlineForest {
    /// For rows of `width` numbers, 1 to 256.
    pub fn new(params: ForestValidParams, width: usize) -> Self {
        let random = Random::new(params.seed());
        let width = width.clamp(1, crate::forest::MOST_COLUMNS);
        Self { params, width, reservoir: Vec::new(), seen: 0, forest: Forest::default(), next_tree: 0, random }
    }

    /// Scores a row: minus the mean number of cuts that isolate it, so that higher = more anomalous; −24 to 0. The same for
    /// every row until 256 were learnt. Numbers that are missing or NaN speak for nothing.
    pub fn score(&self, row: &[f64]) -> f64 {
        -self.forest.depth(row)
    }

    /// Learns a row. One that is too short or not finite is passed over: `false`.
    pub fn learn(&mut self, row: &[f64]) -> bool {
        if row.len() != self.width || !row.iter().all(|number| number.is_finite()) {
            return false;
        }
        self.seen += 1;
        self.keep(row);
        let doubled = self.seen.is_power_of_two() && (FIRST_ROWS..=YOUNG).contains(&self.seen);
        if doubled {
            let trees = self.params.trees();
            let half = if self.forest.is_empty() { trees } else { trees.div_ceil(2) };
            self.grow(half, true);
        } else if self.seen > FIRST_ROWS && self.seen.is_multiple_of(ROWS_PER_TREE) {
            self.grow(1, self.next_tree == 0);
        }
        true
    }

    /// Rows learnt.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The forest as it is now.
    pub fn forest(&self) -> &Forest {
        &self.forest
    }

    /// Every row seen is in the reservoir with the same chance (Vitter's algorithm R, 1985).
    fn keep(&mut self, row: &[f64]) {
        if self.reservoir.len() < RESERVOIR * self.width {
            self.reservoir.extend_from_slice(row);
            return;
        }
        let at = self.random.below(self.seen as usize) * self.width;
        if let Some(slot) = self.reservoir.get_mut(at..at + self.width) {
            slot.copy_from_slice(row);
        }
    }

    /// The next so many trees, in turn; `measure`: the scale as well.
    fn grow(&mut self, many: usize, measure: bool) {
        let Ok(rows) = ArrayView2::from_shape((self.reservoir.len() / self.width, self.width), &self.reservoir) else {
            return;
        };
        if measure {
            self.forest.measure(&self.params, rows);
        }
        let trees = self.params.trees();
        for tree in self.next_tree..self.next_tree + many {
            self.forest.replace(&self.params, tree % trees, rows, (0..rows.nrows()).collect(), &mut self.random);
        }
        self.next_tree = (self.next_tree + many) % trees;
    }
}

#[cfg(test)]
mod tests {
    use linfa::ParamGuard;

    use super::*;
    use crate::forest::ForestParams;

    /// Sums of uniform numbers: additions only, the same on every machine.
    fn around(centre: f64, random: &mut Random) -> [f64; 3] {
        [(); 3].map(|()| centre + (0..4).map(|_| random.unit()).sum::<f64>())
    }

    fn forest(trees: usize, seed: u64) -> OnlineForest {
        OnlineForest::new(ForestParams::new(trees, 256, seed).check().expect("good parameters"), 3)
    }

    #[test]
    fn the_same_seed_and_stream_give_the_scores_on_file_bit_for_bit() {
        let (mut forest, mut random) = (forest(20, 5), Random::new(6));
        let mut told = String::new();
        for n in 0..20_000 {
            // A stream that drifts, with a far row now and then.
            let far = if n % 97 == 0 { 5.0 } else { 0.0 };
            let row = around(far + f64::from(n) / 4_000.0, &mut random);
            if n % 800 == 400 {
                told.push_str(&format!("{n} {:016x} {:.6}\n", forest.score(&row).to_bits(), forest.score(&row)));
            }
            forest.learn(&row);
        }
        assert_eq!(told, include_str!("../tests/golden/stream.txt"), "if this is meant, put the left side on file");
    }

    #[test]
    fn what_was_strange_becomes_ordinary_when_the_stream_moves_there() {
        let (mut forest, mut random) = (forest(64, 1), Random::new(2));
        (0..1_000).for_each(|_| assert!(forest.learn(&around(0.0, &mut random))));
        let (old, new) = ([2.0; 3], [12.0; 3]);
        assert!(forest.score(&new) > forest.score(&old) + 3.0, "far from everything seen");
        (0..40_000).for_each(|_| assert!(forest.learn(&around(10.0, &mut random))));
        assert!(forest.score(&new) < forest.score(&old) - 1.0, "{} {}", forest.score(&new), forest.score(&old));
    }

    #[test]
    fn rows_that_are_none_teach_nothing_and_score_finitely() {
        let (mut forest, mut random) = (forest(8, 1), Random::new(2));
        assert_eq!(forest.score(&[1.0; 3]), 0.0, "nothing is known yet");
        (0..300).for_each(|_| assert!(forest.learn(&around(0.0, &mut random))));
        let before = forest.clone();
        for row in [&[f64::NAN; 3][..], &[f64::INFINITY; 3], &[1.0; 2], &[1.0; 4], &[]] {
            assert!(!forest.learn(row));
            assert!((-24.0..=0.0).contains(&forest.score(row)), "{row:?}: {}", forest.score(row));
        }
        assert_eq!(forest, before);
        let (missing, far) = (forest.score(&[f64::NAN, 2.0, 2.0]), forest.score(&[f64::INFINITY, 2.0, 2.0]));
        assert!(missing < far, "what is missing is not strange, what is infinite is: {missing} {far}");
    }

    #[test]
    fn a_forest_read_back_continues_bit_for_bit() {
        let (mut one, mut random) = (forest(9, 3), Random::new(4));
        (0..700).for_each(|_| assert!(one.learn(&around(0.0, &mut random))));
        let bytes = postcard::to_stdvec(&one).expect("bytes");
        let mut two: OnlineForest = postcard::from_bytes(&bytes).expect("a forest");
        assert_eq!(one, two);
        for _ in 0..900 {
            let row = around(1.0, &mut random);
            assert_eq!(one.score(&row).to_bits(), two.score(&row).to_bits());
            assert!(one.learn(&row) && two.learn(&row));
        }
    }
}
