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

/// Medians and spreads.
pub struct RobustZ {
    sample: Sample<RAW>,
    centre: [(f64, f64); RAW],
}

impl RobustZ {
    /// By seed of its sample.
    pub fn new(seed: u64) -> Self {
        Self { sample: Sample::new(seed ^ 0x7a), centre: [(0.0, 1.0); RAW] }
    }
}

impl Detector for RobustZ {
    fn name(&self) -> &'static str {
        "max robust z"
    }

    fn learn(&mut self, seen: &Seen) {
        self.sample.offer(seen.raw);
    }

    fn settle(&mut self) -> anyhow::Result<()> {
        for (column, centre) in self.centre.iter_mut().enumerate() {
            let mut values: Vec<f64> = self.sample.rows.iter().map(|row| row[column]).collect();
            if values.is_empty() {
                continue;
            }
            let (low, middle, high) =
                (quantile(&mut values, 0.25), quantile(&mut values, 0.5), quantile(&mut values, 0.75));
            // Where half of all rows are equal, the unit is one: these are counts and logarithms.
            *centre = (middle, (high - low).max(1.0));
        }
        Ok(())
    }

    fn score(&mut self, seen: &Seen) -> f64 {
        let z = seen.raw.into_iter().zip(self.centre).map(|(value, (middle, spread))| (value - middle) / spread);
        z.map(f64::abs).fold(0.0, f64::max)
    }
}
