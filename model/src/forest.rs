//! The isolation forest (Liu, Ting and Zhou, 2008): points that few random cuts separate from the rest are anomalous.
//!
//! Trees are complete and of depth eight, laid out as a heap: a point walks down without a branch that depends on the tree's
//! shape, and every leaf stores its depth plus the expected rest `c(n)` for the rows that it holds. Batch training follows
//! linfa's `ParamGuard` and `Fit`; [`crate::online`] replaces trees one by one.

use linfa::dataset::DatasetBase;
use linfa::traits::{Fit, PredictInplace};
use linfa::{ParamGuard, error::Error};
use ndarray::{Array1, Array2, ArrayView1};
use serde::{Deserialize, Serialize};

use crate::random::Random;

/// Levels of cuts.
pub const DEPTH: usize = 8;
/// Columns that a forest can cut.
pub const MOST_COLUMNS: usize = 256;
const CUTS: usize = (1 << DEPTH) - 1;
const LEAVES: usize = 1 << DEPTH;

/// How a forest is grown.
#[derive(Clone, Debug, PartialEq)]
pub struct ForestValidParams {
    trees: usize,
    sample: usize,
    seed: u64,
}

/// How a forest is grown, not yet checked.
#[derive(Clone, Debug, PartialEq)]
pub struct ForestParams(ForestValidParams);

impl ForestParams {
    /// `trees` trees of `sample` rows each.
    pub fn new(trees: usize, sample: usize, seed: u64) -> Self {
        Self(ForestValidParams { trees, sample, seed })
    }
}

impl ParamGuard for ForestParams {
    type Checked = ForestValidParams;
    type Error = Error;

    fn check_ref(&self) -> Result<&Self::Checked, Self::Error> {
        if !(1..=1024).contains(&self.0.trees) || !(8..=4096).contains(&self.0.sample) {
            return Err(Error::Parameters("a forest has 1 to 1,024 trees of 8 to 4,096 rows".to_owned()));
        }
        Ok(&self.0)
    }

    fn check(self) -> Result<Self::Checked, Self::Error> {
        self.check_ref()?;
        Ok(self.0)
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
        let mut random = Random::new(self.seed);
        let trees = (0..self.trees).map(|_| Tree::grow(rows, self.sample, &mut random)).collect();
        Ok(Forest { trees })
    }
}

/// Scores rows: minus their depth, so that higher = more anomalous.
impl PredictInplace<Array2<f64>, Array1<f64>> for Forest {
    fn predict_inplace<'a>(&'a self, rows: &'a Array2<f64>, scores: &mut Array1<f64>) {
        for (row, score) in rows.rows().into_iter().zip(scores) {
            let own: Vec<f64>;
            let point = match row.as_slice() {
                Some(point) => point,
                None => {
                    own = row.to_vec();
                    &own
                }
            };
            *score = -self.depth(point);
        }
    }

    fn default_target(&self, rows: &Array2<f64>) -> Array1<f64> {
        Array1::zeros(rows.nrows())
    }
}

/// Trees.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Forest {
    /// At least one once grown.
    pub trees: Vec<Tree>,
}

impl Forest {
    /// Mean depth at which a point is isolated, in cuts; lower = more anomalous. 0 without trees. The point is as wide as the
    /// rows were.
    pub fn depth(&self, point: &[f64]) -> f64 {
        if self.trees.is_empty() {
            return 0.0;
        }
        self.trees.iter().map(|tree| tree.depth(point)).sum::<f64>() / self.trees.len() as f64
    }

    /// Whether every tree is complete, so that a point can walk down it.
    pub(crate) fn is_sound(&self, columns: usize) -> bool {
        self.trees.iter().all(|tree| tree.is_sound(columns))
    }

    /// Adds to `cuts` how often each coordinate cut the way of a point, weighted by how much nearer to isolation it got.
    pub fn attribute<const N: usize>(&self, point: &[f64; N]) -> [f64; N] {
        let mut shares = [0.0; N];
        for tree in &self.trees {
            tree.attribute(point, &mut shares);
        }
        let sum: f64 = shares.iter().sum();
        if sum > 0.0 { shares.map(|share| share / sum) } else { [1.0 / N as f64; N] }
    }
}

/// One tree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tree {
    /// Coordinate of each cut; a cut at +∞ passes everything to the left.
    coordinate: Vec<u8>,
    cut: Vec<f64>,
    depth: Vec<f64>,
    mass: Vec<u16>,
}

impl Tree {
    /// Grows a tree from `sample` rows drawn without replacement (all, when there are fewer).
    pub fn grow(rows: &Array2<f64>, sample: usize, random: &mut Random) -> Self {
        let mut chosen: Vec<usize> = (0..rows.nrows()).collect();
        let taken = sample.min(chosen.len());
        for at in 0..taken {
            let other = at + random.below(chosen.len() - at);
            chosen.swap(at, other);
        }
        chosen.truncate(taken);
        let mut tree = Self {
            coordinate: vec![0; CUTS],
            cut: vec![f64::INFINITY; CUTS],
            depth: vec![0.0; LEAVES],
            mass: vec![0; CUTS + LEAVES],
        };
        tree.split(0, 0, &mut chosen, rows, random, None);
        tree
    }

    /// `stopped`: the level at which the rows could not be cut any more.
    fn split(
        &mut self,
        node: usize,
        level: usize,
        chosen: &mut [usize],
        rows: &Array2<f64>,
        random: &mut Random,
        stopped: Option<usize>,
    ) {
        self.mass[node] = chosen.len() as u16;
        if level == DEPTH {
            let depth = stopped.unwrap_or(DEPTH);
            self.depth[node - CUTS] = depth as f64 + expected_rest(chosen.len());
            return;
        }
        let cut = if stopped.is_none() && chosen.len() > 1 { draw_cut(chosen, rows, random) } else { None };
        let stopped = if cut.is_none() { stopped.or(Some(level)) } else { None };
        let middle = match cut {
            Some((coordinate, value)) => {
                self.coordinate[node] = coordinate as u8;
                self.cut[node] = value;
                partition(chosen, |row| rows[[row, coordinate]] < value)
            }
            None => chosen.len(),
        };
        let (left, right) = chosen.split_at_mut(middle);
        self.split(2 * node + 1, level + 1, left, rows, random, stopped);
        self.split(2 * node + 2, level + 1, right, rows, random, stopped);
    }

    fn is_sound(&self, columns: usize) -> bool {
        let lengths = [self.coordinate.len(), self.cut.len(), self.depth.len(), self.mass.len()];
        lengths == [CUTS, CUTS, LEAVES, CUTS + LEAVES]
            && self.coordinate.iter().all(|coordinate| usize::from(*coordinate) < columns)
            && self.cut.iter().all(|cut| !cut.is_nan())
            && self.depth.iter().all(|depth| depth.is_finite())
    }

    /// Depth at which a point is isolated, in cuts.
    pub fn depth(&self, point: &[f64]) -> f64 {
        let mut node = 0;
        while node < CUTS {
            let right = point[self.coordinate[node] as usize] >= self.cut[node];
            node = 2 * node + 1 + usize::from(right);
        }
        self.depth[node - CUTS]
    }

    /// Each cut on the way counts by the bits by which it thinned the company of the point.
    fn attribute(&self, point: &[f64], shares: &mut [f64]) {
        let mut node = 0;
        while node < CUTS {
            let coordinate = self.coordinate[node] as usize;
            let right = point[coordinate] >= self.cut[node];
            let next = 2 * node + 1 + usize::from(right);
            let (before, after) = (f64::from(self.mass[node]), f64::from(self.mass[next]).max(0.5));
            if self.cut[node].is_finite() && before > 0.0 {
                shares[coordinate] += (before / after).log2().max(0.0);
            }
            node = next;
        }
    }
}

/// A coordinate with some range, and a place within it, both uniform.
fn draw_cut(chosen: &[usize], rows: &Array2<f64>, random: &mut Random) -> Option<(usize, f64)> {
    let mut ranges = [(0, 0.0, 0.0); MOST_COLUMNS];
    let mut wide = 0;
    for coordinate in 0..rows.ncols().min(MOST_COLUMNS) {
        let (low, high) = range(chosen, rows.column(coordinate));
        if low < high {
            ranges[wide] = (coordinate, low, high);
            wide += 1;
        }
    }
    if wide == 0 {
        return None;
    }
    let (coordinate, low, high) = ranges[random.below(wide)];
    // Never the lower end itself, so that both sides get a row.
    let value = high - (high - low) * random.unit();
    Some((coordinate, value))
}

fn range(chosen: &[usize], column: ArrayView1<'_, f64>) -> (f64, f64) {
    chosen
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), row| (low.min(column[*row]), high.max(column[*row])))
}

fn partition(rows: &mut [usize], is_left: impl Fn(usize) -> bool) -> usize {
    let mut middle = 0;
    for at in 0..rows.len() {
        if is_left(rows[at]) {
            rows.swap(at, middle);
            middle += 1;
        }
    }
    middle
}

/// `c(n)`: expected depth of an unsuccessful search among `n` rows (equation 1 of the paper).
pub fn expected_rest(n: usize) -> f64 {
    const EULER: f64 = 0.577_215_664_901_532_9;
    match n {
        0 | 1 => 0.0,
        2 => 1.0,
        n => {
            let n = n as f64;
            2.0 * ((n - 1.0).ln() + EULER) - 2.0 * (n - 1.0) / n
        }
    }
}

#[cfg(test)]
mod tests {
    use linfa::Dataset;

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
        assert!((forest.depth(&[1.0; COORDINATES]) - expected_rest(256)).abs() < 1e-9);
    }
}
