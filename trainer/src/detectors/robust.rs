//! The largest robust z-score of any plain number: the trivial detector that is hard to beat on many public sets.

use model::random::Random;

use super::features::RAW;
use super::{Detector, Seen};
use crate::stats::quantile;

/// Rows that medians are taken of.
pub const MAX_ROWS: usize = 20_000;

/// A uniform sample of a stream (Vitter's algorithm R), seeded.
pub struct Sample<const N: usize> {
    /// The rows.
    pub rows: Vec<[f64; N]>,
    seen: u64,
    random: Random,
}

impl<const N: usize> Sample<N> {
    /// Empty.
    pub fn new(seed: u64) -> Self {
        Self { rows: Vec::new(), seen: 0, random: Random::new(seed) }
    }

    /// Offers a row.
    pub fn offer(&mut self, row: [f64; N]) {
        self.seen += 1;
        if self.rows.len() < MAX_ROWS {
            self.rows.push(row);
        } else if let Some(slot) = self.rows.get_mut(self.random.below(self.seen as usize)) {
            *slot = row;
        }
    }
}

/// Medians and spreads of columns.
pub struct Centres(Vec<(f64, f64)>);

impl Centres {
    /// Of columns; a spread is the distance of the quartiles, and at least what `floor` says of the column, which is not 0:
    /// where half of all rows are equal the quartiles have none.
    pub fn of(columns: impl Iterator<Item = Vec<f64>>, floor: impl Fn(&[f64]) -> f64) -> Self {
        let centre = |mut values: Vec<f64>| {
            if values.is_empty() {
                return (0.0, 1.0);
            }
            let least = floor(&values);
            let (low, middle, high) =
                (quantile(&mut values, 0.25), quantile(&mut values, 0.5), quantile(&mut values, 0.75));
            (middle, (high - low).max(least))
        };
        Self(columns.map(centre).collect())
    }

    /// The largest |z| of a row; higher = more anomalous.
    pub fn most(&self, row: &[f64]) -> f64 {
        let z = row.iter().zip(&self.0).map(|(value, (middle, spread))| (value - middle) / spread);
        z.map(f64::abs).fold(0.0, f64::max)
    }
}

/// The largest robust z of the plain numbers of an event.
pub struct RobustZ {
    sample: Sample<RAW>,
    centres: Centres,
}

impl RobustZ {
    /// By seed of its sample.
    pub fn new(seed: u64) -> Self {
        Self { sample: Sample::new(seed ^ 0x7a), centres: Centres(Vec::new()) }
    }
}

impl Detector for RobustZ {
    fn name(&self) -> &str {
        "max robust z"
    }

    fn learn(&mut self, seen: &Seen) {
        self.sample.offer(seen.raw);
    }

    fn settle(&mut self) -> anyhow::Result<()> {
        let column = |column: usize| self.sample.rows.iter().map(|row| row[column]).collect();
        // These are counts and logarithms: their unit is one.
        self.centres = Centres::of((0..RAW).map(column), |_| 1.0);
        Ok(())
    }

    fn score(&mut self, seen: &Seen) -> anyhow::Result<f64> {
        Ok(self.centres.most(&seen.raw))
    }
}
