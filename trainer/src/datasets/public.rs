//! Public sets against the literature: the trees of our forest alone, score then learn, at least ten seeds.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::{Loaded, Table, traces};
use crate::stats;
use crate::streaming::{self, Method, Ours, Streaming};

const TREES: usize = 64;

/// What a method reaches on a set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PublicResult {
    /// Set.
    pub set: String,
    /// Method, and how it is asked.
    pub method: String,
    /// Seeds.
    pub seeds: usize,
    /// AUC: lower quartile, median, upper quartile.
    pub auc: [f64; 3],
    /// Average precision, likewise.
    pub ap: [f64; 3],
    /// Share of attacks above what 1, 5 and 10 % of normal traces reach; traces only.
    pub at_false_share: Option<[f64; 3]>,
}

/// Evaluates a set with seeds `1..=seeds`.
///
/// # Errors
///
/// When its traces cannot be learnt from.
pub fn evaluate_set(name: &str, loaded: &Loaded, seeds: usize) -> anyhow::Result<Vec<PublicResult>> {
    match loaded {
        Loaded::Table(table) => {
            let ours = Method { name: "ours", make: |width, seed| Box::new(Ours::new(width, TREES, seed)) };
            let runs: Vec<_> = (1..=seeds as u64).map(|seed| streaming::once(&ours, table, seed)).collect();
            Ok(vec![summarised(name, "our trees, score then learn", &runs)])
        }
        Loaded::Split(train, test) => {
            let runs: Vec<_> = (1..=seeds as u64).map(|seed| frozen(train, test, seed)).collect();
            Ok(vec![summarised(name, "our trees, learnt on normal rows, frozen", &runs)])
        }
        Loaded::Traces(set) => traces::evaluate(name, set, seeds),
    }
}

/// Scores with their labels.
pub(super) type Scored = Vec<(f64, bool)>;

fn frozen(train: &Table, test: &Table, seed: u64) -> Scored {
    let mut forest = Ours::new(train.rows.ncols(), TREES, seed);
    for row in streaming::order(train.labels.len(), seed) {
        if !train.labels[row] {
            forest.learn(&train.rows.row(row).to_vec());
        }
    }
    let rows = test.rows.rows().into_iter().zip(&test.labels);
    rows.map(|(row, label)| (forest.score(&row.to_vec()), *label)).collect()
}

/// Median and quartiles over runs.
pub(super) fn summarised(set: &str, method: &str, runs: &[Scored]) -> PublicResult {
    let of = |measure: fn(&[(f64, bool)]) -> Option<f64>| {
        let mut values: Vec<f64> = runs.iter().filter_map(|run| measure(run)).collect();
        [0.25, 0.5, 0.75].map(|share| stats::quantile(&mut values, share))
    };
    PublicResult {
        set: set.to_owned(),
        method: method.to_owned(),
        seeds: runs.len(),
        auc: of(stats::auc),
        ap: of(stats::average_precision),
        at_false_share: None,
    }
}

/// The table.
pub fn markdown(results: &[PublicResult]) -> String {
    let mut out = String::from(
        "| set | method | seeds | AUC (quartiles) | AP (quartiles) | found at 1 / 5 / 10 % false |\n|---|---|---|---|---|---|\n",
    );
    for result in results {
        let of = |[low, middle, high]: [f64; 3]| format!("{middle:.3} ({low:.3}–{high:.3})");
        let found = result.at_false_share.map_or("–".to_owned(), |[a, b, c]| format!("{a:.3} / {b:.3} / {c:.3}"));
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {found} |",
            result.set,
            result.method,
            result.seeds,
            of(result.auc),
            of(result.ap)
        );
    }
    out
}
