//! Streaming detectors on tables of numbers: every row is scored, then learnt; labels are looked at by nobody but the referee.
//!
//! The protocol, the same for every method: rows in an order drawn by the seed, the first [`MOST_ROWS`] of it; the first
//! [`WARM_UP`] rows are learnt and not evaluated; seeds `0..seeds`, and of AUC and average precision the median over them.

mod adaptive;
mod half_space;
mod online;
mod rivals;

pub use adaptive::AdaptiveForest;
pub use half_space::HalfSpaceTrees;
pub use online::{OnlineForest, Reading};
pub use rivals::RIVALS;

use crate::datasets::Table;
use crate::stats;
use model::random::Random;

/// Rows that are learnt first and not evaluated.
pub const WARM_UP: usize = 256;
/// Rows of one set that are taken, after shuffling.
pub const MOST_ROWS: usize = 50_000;

/// A detector of strange rows in a stream.
pub trait Streaming {
    /// Scores a row by what was learnt before it; higher = more anomalous, in units of the method's own.
    ///
    /// A row is as wide as the method was made for, and finite. Nothing is learnt; `&mut` is for scratch space only.
    fn score(&mut self, row: &[f64]) -> f64;

    /// Learns a row.
    fn learn(&mut self, row: &[f64]);
}

/// A method of the table.
#[derive(Clone, Copy)]
pub struct Method {
    /// Name in the table.
    pub name: &'static str,
    /// Makes it for rows of a width, by a seed.
    pub make: fn(width: usize, seed: u64) -> Box<dyn Streaming>,
}

/// What a method reaches on a set.
#[derive(Clone, Debug, PartialEq)]
pub struct Reached {
    /// AUC: lower quartile, median, upper quartile over the seeds.
    pub auc: [f64; 3],
    /// Average precision, likewise.
    pub ap: [f64; 3],
}

/// Runs a method over a set with the seeds `0..seeds`.
pub fn run(method: &Method, table: &Table, seeds: u64) -> Reached {
    let runs: Vec<_> = (0..seeds).map(|seed| once(method, table, seed)).collect();
    let of = |measure: fn(&[(f64, bool)]) -> Option<f64>| {
        let mut values: Vec<f64> = runs.iter().filter_map(|run| measure(run)).collect();
        [0.25, 0.5, 0.75].map(|share| stats::quantile(&mut values, share))
    };
    Reached { auc: of(stats::auc), ap: of(stats::average_precision) }
}

/// One pass: the scores of the evaluated rows beside their labels.
pub fn once(method: &Method, table: &Table, seed: u64) -> Vec<(f64, bool)> {
    let mut detector = (method.make)(table.rows.ncols(), seed);
    let mut scored = Vec::new();
    for (at, row) in order(table.labels.len(), seed).into_iter().take(MOST_ROWS).enumerate() {
        let values = table.rows.row(row).to_vec();
        if at >= WARM_UP {
            scored.push((detector.score(&values), table.labels[row]));
        }
        detector.learn(&values);
    }
    scored
}

/// The order of the rows; every method meets the same one.
pub fn order(rows: usize, seed: u64) -> Vec<usize> {
    let mut random = Random::new(seed ^ 0x006f_7264_6572);
    let mut order: Vec<usize> = (0..rows).collect();
    for at in (1..rows).rev() {
        order.swap(at, random.below(at + 1));
    }
    order
}
