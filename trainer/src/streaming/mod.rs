//! Streaming detectors on tables of numbers: every row is scored, then learnt; labels are looked at by nobody but the referee.
//!
//! The protocol, the same for every method: rows in an order drawn by the seed, the first [`MOST_ROWS`] of it; the first
//! [`WARM_UP`] rows are learnt and not evaluated; seeds `0..seeds`, and of AUC and average precision the median over them.

mod adaptive;
mod half_space;
mod online;
mod ours;
mod report;
mod rivals;

use model::random::Random;

pub use adaptive::AdaptiveForest;
pub use half_space::HalfSpaceTrees;
pub use online::{OnlineForest, Reading};
pub use ours::Ours;
pub use report::{Row, markdown, plain};
pub use rivals::RIVALS;

use crate::datasets::Table;
use crate::stats;

/// The sets of the table, as ADBench names their files.
pub const SETS: [(&str, &str); 5] = [
    ("shuttle", "32_shuttle.npz"),
    ("mammography", "23_mammography.npz"),
    ("annthyroid", "2_annthyroid.npz"),
    ("satellite", "30_satellite.npz"),
    ("cover", "10_cover.npz"),
];

/// The methods of the table.
pub const METHODS: &[Method] = &[
    Method { name: "Stockade's forest, 64 trees", make: |width, seed| Box::new(Ours::new(width, 64, seed)) },
    Method { name: "Stockade's forest, 128 trees", make: |width, seed| Box::new(Ours::new(width, 128, seed)) },
    RIVALS[0],
    RIVALS[1],
    RIVALS[2],
    RIVALS[3],
];

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
pub(crate) fn order(rows: usize, seed: u64) -> Vec<usize> {
    let mut random = Random::new(seed ^ 0x006f_7264_6572);
    let mut order: Vec<usize> = (0..rows).collect();
    for at in (1..rows).rev() {
        order.swap(at, random.below(at + 1));
    }
    order
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;

    /// Scores by the only column, and counts what it learnt before it was asked for the first time.
    struct First {
        learnt: usize,
        asked: bool,
    }

    impl Streaming for First {
        fn score(&mut self, row: &[f64]) -> f64 {
            assert!(self.asked || self.learnt == WARM_UP, "asked after {} rows", self.learnt);
            self.asked = true;
            row[0]
        }

        fn learn(&mut self, _row: &[f64]) {
            self.learnt += 1;
        }
    }

    /// A cloud, and a few points far from it.
    fn table(seed: u64) -> Table {
        let mut random = Random::new(seed);
        let labels: Vec<bool> = (0..2_000).map(|n: i32| n % 50 == 7).collect();
        let rows = labels.iter().flat_map(|outlier| {
            let shift = if *outlier { 4.0 } else { 0.0 };
            (0..5).map(|_| (0..4).map(|_| random.unit()).sum::<f64>() + shift).collect::<Vec<_>>()
        });
        let rows = Array2::from_shape_vec((labels.len(), 5), rows.collect()).expect("a table");
        Table { rows, labels }
    }

    #[test]
    fn every_method_is_asked_after_the_same_rows_in_the_same_order() {
        let method = Method { name: "first", make: |_, _| Box::new(First { learnt: 0, asked: false }) };
        let (one, two) = (once(&method, &table(1), 3), once(&method, &table(1), 3));
        assert_eq!(one.len(), 2_000 - WARM_UP);
        assert_eq!(one, two);
        assert_ne!(one, once(&method, &table(1), 4), "the seed draws the order");
        let reached = run(&method, &table(1), 3);
        assert!(reached.auc[0] > 0.9 && reached.ap[1] > 0.9, "{reached:?}");
    }

    #[test]
    fn what_lies_apart_is_found_while_the_stream_is_learnt_and_labels_by_lot_are_not() {
        for method in METHODS {
            let good = run(method, &table(1), 3);
            assert!(good.auc[0] > 0.97, "{}: {good:?}", method.name);
            let mut lot = table(1);
            lot.labels = order(lot.labels.len(), 9).into_iter().map(|at| at % 50 == 7).collect();
            let lot = run(method, &lot, 3);
            assert!((lot.auc[1] - 0.5).abs() < 0.15, "{}: {lot:?}", method.name);
        }
    }
}
