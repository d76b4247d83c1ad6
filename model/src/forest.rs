//! The isolation forest (Liu, Ting and Zhou, 2008): points that few random cuts separate from the rest are anomalous.
//!
//! Integer trees ([`crate::tree`]) over quantised numbers ([`crate::quantiser`]): a depth is a sum of integers, so that the same
//! seed, rows and point give the same score on every machine, whatever the order in which trees or rows are taken. Batch
//! training follows linfa's `ParamGuard` and `Fit`; [`crate::stream`] learns row by row.

use linfa::dataset::DatasetBase;
use linfa::traits::{Fit, PredictInplace};
use linfa::{ParamGuard, error::Error};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::params::Params;
use crate::quantiser::Quantiser;
use crate::random::Random;
pub use crate::tree::{DEPTH, MOST_COLUMNS, Tree, expected_rest};
use crate::tree::{Draw, MOST_SAMPLE, ONE_CUT, Quantised, Rows, Shares};

/// Points that are taken through a tree together.
const BLOCK: usize = 32;
/// Trees that a point is taken through together.
const TOGETHER: usize = 8;
/// Trees of a forest.
const MOST_TREES: usize = 1_024;

/// How a forest is grown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForestValidParams {
    trees: usize,
    sample: usize,
    seed: u64,
    floor: f64,
}

/// How a forest is grown, not yet checked.
#[derive(Clone, Debug, PartialEq)]
pub struct ForestParams(ForestValidParams);

impl ForestParams {
    /// `trees` trees of `sample` rows each.
    pub fn new(trees: usize, sample: usize, seed: u64) -> Self {
        Self(ForestValidParams { trees, sample, seed, floor: 0.0 })
    }

    /// The least spread of a column, in its own units: differences far below it do not matter. 0 without.
    #[must_use]
    pub fn floor(mut self, floor: f64) -> Self {
        self.0.floor = floor;
        self
    }
}

impl ParamGuard for ForestParams {
    type Checked = ForestValidParams;
    type Error = Error;

    fn check_ref(&self) -> Result<&Self::Checked, Self::Error> {
        if !(1..=MOST_TREES).contains(&self.0.trees) || !(8..=MOST_SAMPLE).contains(&self.0.sample) {
            return Err(Error::Parameters("a forest has 1 to 1,024 trees of 8 to 4,096 rows".to_owned()));
        }
        if !self.0.floor.is_finite() || self.0.floor < 0.0 {
            return Err(Error::Parameters("the least spread of a column is a finite number, 0 or more".to_owned()));
        }
        Ok(&self.0)
    }

    fn check(self) -> Result<Self::Checked, Self::Error> {
        self.check_ref()?;
        Ok(self.0)
    }
}

impl ForestValidParams {
    /// Those of a model, which were checked with it.
    pub(crate) fn of(params: &Params, floor: f64) -> Self {
        Self { trees: params.trees, sample: params.sample, seed: params.seed, floor }
    }

    /// Trees.
    pub fn trees(&self) -> usize {
        self.trees
    }

    /// Rows of a tree.
    pub fn sample(&self) -> usize {
        self.sample
    }

    /// Seed of everything random.
    pub fn seed(&self) -> u64 {
        self.seed
    }
}

impl<T> Fit<Array2<f64>, T, Error> for ForestValidParams {
    type Object = Forest;

    fn fit(&self, dataset: &DatasetBase<Array2<f64>, T>) -> Result<Forest, Error> {
        let rows = dataset.records();
        if rows.nrows() == 0 || !(1..=MOST_COLUMNS).contains(&rows.ncols()) {
            return Err(Error::Parameters(format!(
                "a forest needs rows of 1 to {MOST_COLUMNS} numbers, not {:?}",
                rows.dim()
            )));
        }
        if !rows.iter().all(|number| number.is_finite()) {
            return Err(Error::Parameters(
                "a forest needs finite numbers: NaN and infinity cut nothing off".to_owned(),
            ));
        }
        let mut forest = Forest::default();
        forest.measure(self, rows.view());
        let mut random = Random::new(self.seed);
        for tree in 0..self.trees {
            forest.replace(self, tree, rows.view(), (0..rows.nrows()).collect(), &mut random);
        }
        Ok(forest)
    }
}

/// Scores rows: minus their depth, so that higher = more anomalous.
impl PredictInplace<Array2<f64>, Array1<f64>> for Forest {
    fn predict_inplace<'a>(&'a self, rows: &'a Array2<f64>, scores: &mut Array1<f64>) {
        self.depths(rows.view(), |at, depth| {
            if let Some(score) = scores.get_mut(at) {
                *score = -depth;
            }
        });
    }

    fn default_target(&self, rows: &Array2<f64>) -> Array1<f64> {
        Array1::zeros(rows.nrows())
    }
}

/// Where a point came to.
pub(crate) struct Walk {
    leaves: [u8; MOST_TREES],
    /// Mean depth at which it is isolated, in cuts.
    pub depth: f64,
}

/// Trees, and the scale that they cut in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Forest {
    quantiser: Quantiser,
    trees: Vec<Tree>,
}

impl Forest {
    /// Trees; 0 before it is grown.
    pub fn len(&self) -> usize {
        self.trees.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.trees.is_empty()
    }

    /// Mean depth at which a point is isolated, in cuts; lower = more anomalous. 0 without trees. The point is as wide as the
    /// rows were; NaN in it speaks for nothing.
    pub fn depth(&self, point: &[f64]) -> f64 {
        self.walk(point).depth
    }

    /// Takes a point down every tree.
    pub(crate) fn walk(&self, point: &[f64]) -> Walk {
        let point = self.quantised(point);
        let (mut leaves, mut sum) = ([0; MOST_TREES], 0);
        let trees = self.trees.get(..MOST_TREES).unwrap_or(&self.trees);
        let (eights, rest) = trees.as_chunks::<TOGETHER>();
        let (first, last) = leaves.split_at_mut(eights.len() * TOGETHER);
        for (trees, slots) in eights.iter().zip(first.chunks_exact_mut(TOGETHER)) {
            let ends = Tree::leaves_of(trees.each_ref(), &point);
            sum += trees.iter().zip(ends).map(|(tree, leaf)| tree.depth_at(leaf)).sum::<u32>();
            slots.copy_from_slice(&ends);
        }
        for (tree, slot) in rest.iter().zip(last) {
            [*slot] = Tree::leaves_of([tree], &point);
            sum += tree.depth_at(*slot);
        }
        Walk { leaves, depth: self.mean(sum) }
    }

    /// The depths of many points, each told with its number: what [`Self::depth`] gives, bit for bit, in less time.
    pub fn depths(&self, points: ArrayView2<'_, f64>, mut tell: impl FnMut(usize, f64)) {
        let mut block = vec![[0; BLOCK]; self.quantiser.width()];
        let mut row = [0; MOST_COLUMNS];
        for (number, points) in points.axis_chunks_iter(ndarray::Axis(0), BLOCK).enumerate() {
            for (at, point) in points.rows().into_iter().enumerate() {
                self.quantise(point, &mut row);
                block.iter_mut().zip(row).for_each(|(column, value)| column[at] = value);
            }
            let mut sums = [0; BLOCK];
            self.trees.iter().for_each(|tree| tree.add_depths(&block, &mut sums));
            for (at, sum) in sums.into_iter().take(points.nrows()).enumerate() {
                tell(number * BLOCK + at, self.mean(sum));
            }
        }
    }

    /// The depth by those trees alone whose number is asked for; `None` when none is.
    pub(crate) fn depth_by(&self, point: &[f64], asked: impl Fn(usize) -> bool) -> Option<f64> {
        let point = self.quantised(point);
        let trees = self.trees.iter().enumerate().filter(|(number, _)| asked(*number));
        let (sum, many) = trees.fold((0, 0), |(sum, many), (_, tree)| (sum + tree.depth(&point), many + 1));
        (many > 0).then(|| f64::from(sum) / f64::from(many * ONE_CUT))
    }

    /// How much each coordinate had to do with isolating a point: its cuts on the way count by how far they thinned the company
    /// of the point. Shares of 1.
    pub fn attribute<const N: usize>(&self, point: &[f64; N]) -> [f64; N] {
        self.attribute_walk(&self.walk(point))
    }

    /// The same of a point that was taken down already.
    pub(crate) fn attribute_walk<const N: usize>(&self, walk: &Walk) -> [f64; N] {
        let mut shares = [0; MOST_COLUMNS];
        self.trees.iter().zip(walk.leaves).for_each(|(tree, leaf)| tree.attribute(leaf, &mut shares));
        of_one(&shares)
    }

    /// The same by those trees alone whose number is asked for.
    pub(crate) fn attribute_by<const N: usize>(&self, point: &[f64; N], asked: impl Fn(usize) -> bool) -> [f64; N] {
        let point = self.quantised(point);
        let mut shares = [0; MOST_COLUMNS];
        let trees = self.trees.iter().enumerate().filter(|(number, _)| asked(*number));
        trees.for_each(|(_, tree)| {
            let [leaf] = Tree::leaves_of([tree], &point);
            tree.attribute(leaf, &mut shares);
        });
        of_one(&shares)
    }

    /// Measures the scale of the columns anew. The cuts of the trees that there are stay where they are.
    pub(crate) fn measure(&mut self, params: &ForestValidParams, rows: ArrayView2<'_, f64>) {
        let older = std::mem::replace(&mut self.quantiser, Quantiser::fit(rows, params.floor));
        self.trees.iter_mut().for_each(|tree| tree.carry(&older, &self.quantiser));
    }

    /// Grows a tree, of this number, in the scale that there is, from a sample of the chosen rows. A number beyond the last
    /// tree is added as the next one.
    pub(crate) fn replace(
        &mut self,
        params: &ForestValidParams,
        at: usize,
        rows: ArrayView2<'_, f64>,
        chosen: Vec<usize>,
        random: &mut Random,
    ) {
        let sample = self.sampled(rows, chosen, params.sample, random);
        // Half of the trees follow the far values, half give every column its turn.
        let draw = if at.is_multiple_of(2) { Draw::ByRange } else { Draw::Uniform };
        let tree = Tree::grow(&sample, draw, random);
        match self.trees.get_mut(at) {
            Some(slot) => *slot = tree,
            None => self.trees.push(tree),
        }
    }

    /// Rows drawn without replacement, all when there are fewer, quantised.
    fn sampled(&self, rows: ArrayView2<'_, f64>, mut chosen: Vec<usize>, sample: usize, random: &mut Random) -> Rows {
        let taken = sample.min(chosen.len());
        let mut values = vec![0; taken * self.quantiser.width()];
        for (at, slot) in values.chunks_mut(self.quantiser.width().max(1)).enumerate() {
            let other = at + random.below(chosen.len() - at);
            chosen.swap(at, other);
            self.quantise(rows.row(chosen[at]), slot);
        }
        Rows::new(self.quantiser.width(), values)
    }

    fn quantise(&self, row: ArrayView1<'_, f64>, into: &mut [u16]) {
        match row.as_slice() {
            Some(row) => self.quantiser.quantise(row, into),
            None => self.quantiser.quantise(&row.to_vec(), into),
        }
    }

    fn quantised(&self, point: &[f64]) -> Quantised {
        let mut quantised = [0; MOST_COLUMNS];
        self.quantiser.quantise(point, &mut quantised);
        quantised
    }

    fn mean(&self, sum: u32) -> f64 {
        if self.trees.is_empty() { 0.0 } else { f64::from(sum) / (self.trees.len() as f64 * f64::from(ONE_CUT)) }
    }

    /// Whether a point of this width can walk down every tree.
    pub(crate) fn is_sound(&self, columns: usize) -> bool {
        let empty = self.trees.is_empty() && self.quantiser.width() == 0;
        let grown = self.quantiser.width() == columns && self.quantiser.is_sound();
        empty || (grown && self.trees.iter().all(|tree| tree.is_sound(columns)))
    }
}

fn of_one<const N: usize>(shares: &Shares) -> [f64; N] {
    let sum: u32 = shares.iter().sum();
    match sum {
        0 => [1.0 / N as f64; N],
        sum => std::array::from_fn(|column| f64::from(shares.get(column).copied().unwrap_or(0)) / f64::from(sum)),
    }
}

#[cfg(test)]
mod tests {
    use linfa::Dataset;
    use linfa::traits::Predict;

    use super::*;
    use crate::features::COORDINATES;

    fn cloud(rows: usize, seed: u64) -> Array2<f64> {
        let mut random = Random::new(seed);
        Array2::from_shape_fn((rows, COORDINATES), |_| (0..4).map(|_| random.unit()).sum::<f64>())
    }

    fn grown(seed: u64) -> Forest {
        let dataset = Dataset::from(cloud(1_000, 3));
        ForestParams::new(64, 256, seed).fit(&dataset).expect("good parameters")
    }

    #[test]
    fn a_point_outside_is_isolated_sooner_than_one_inside() {
        let forest = grown(1);
        let (inside, outside) = (forest.depth(&[2.0; COORDINATES]), forest.depth(&[3.9; COORDINATES]));
        assert!(outside < inside - 3.0, "{outside} against {inside}");
    }

    #[test]
    fn the_same_seed_grows_the_same_forest() {
        assert_eq!(grown(5), grown(5));
        assert_ne!(grown(5), grown(6));
    }

    #[test]
    fn what_cut_the_point_off_gets_the_blame() {
        let mut point = [2.0; COORDINATES];
        point[3] = 4.0;
        let shares = grown(1).attribute(&point);
        let most = (0..COORDINATES).max_by(|a, b| shares[*a].total_cmp(&shares[*b]));
        assert_eq!(most, Some(3), "{shares:?}");
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn impossible_parameters_are_refused() {
        let dataset = Dataset::from(cloud(10, 1));
        assert!(ForestParams::new(0, 256, 1).fit(&dataset).is_err());
        assert!(ForestParams::new(64, 1, 1).fit(&dataset).is_err());
        let empty = Dataset::from(Array2::<f64>::zeros((0, COORDINATES)));
        assert!(ForestParams::new(64, 256, 1).fit(&empty).is_err());
    }

    #[test]
    fn equal_rows_are_not_cut() {
        let dataset = Dataset::from(Array2::<f64>::ones((300, COORDINATES)));
        let forest = ForestParams::new(4, 256, 1).fit(&dataset).expect("good parameters");
        assert!((forest.depth(&[1.0; COORDINATES]) - 8.0 - expected_rest(256)).abs() < 1e-3);
    }

    #[test]
    fn batches_score_what_rows_score_bit_for_bit() {
        // Neither trees nor rows are a multiple of what is taken together.
        let dataset = Dataset::from(cloud(1_000, 3));
        let forest = ForestParams::new(21, 256, 8).check().and_then(|params| params.fit(&dataset)).expect("a forest");
        let rows = cloud(77, 4);
        let batch = forest.predict(&rows);
        for (row, score) in rows.rows().into_iter().zip(&batch) {
            assert_eq!((-forest.depth(&row.to_vec())).to_bits(), score.to_bits());
        }
        let turned = rows.clone().reversed_axes().as_standard_layout().to_owned().reversed_axes();
        assert_eq!(forest.predict(&turned), batch, "columns may lie one after the other as well");
    }

    #[test]
    fn measuring_anew_leaves_the_cuts_where_they_are() {
        let (narrow, params) = (cloud(1_000, 3), ForestParams::new(64, 256, 8).check().expect("good parameters"));
        let before = params.fit(&Dataset::from(narrow.clone())).expect("a forest");
        let mut after = before.clone();
        after.measure(&params, (narrow.clone() * 3.0 + 5.0).view());
        let moved = narrow.rows().into_iter().map(|row| {
            let row = row.to_vec();
            (before.depth(&row) - after.depth(&row)).abs()
        });
        // A scale three times as wide resolves a third: a row that lies within a step of a cut may change sides.
        let most = moved.fold(0.0, f64::max);
        assert!(most > 0.0 && most < 0.5, "{most} cuts");
    }

    #[test]
    fn a_spread_that_is_no_number_is_refused() {
        for floor in [f64::NAN, f64::INFINITY, -1.0] {
            assert!(ForestParams::new(64, 256, 1).floor(floor).check().is_err());
        }
    }
}
