//! Public sets against the literature: the trees of our forest alone, score then learn, at least ten seeds.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::{Loaded, Table, traces};
use crate::stats;
use crate::streaming::{self, Method, Ours};

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
/// When traces cannot be learnt from.
pub fn evaluate_set(name: &str, loaded: &Loaded, seeds: usize) -> anyhow::Result<Vec<PublicResult>> {
    let ours = Method { name: "ours", make: |width, seed| Box::new(Ours::new(width, TREES, seed)) };
    let seeded = 1..=seeds as u64;
    Ok(match loaded {
        Loaded::Table(table) => {
            let runs: Vec<Scored> = seeded.map(|seed| streaming::once(&ours, table, seed)).collect();
            vec![summarised(name, "our trees, score then learn", &runs)]
        }
        Loaded::Split(train, test) => {
            let runs: Vec<Scored> = seeded.map(|seed| frozen(&ours, train, test, seed)).collect();
            vec![summarised(name, "our trees, learnt on normal rows, frozen", &runs)]
        }
        Loaded::Traces(set) => traces::evaluate(name, set, seeds)?,
    })
}

/// Scores with their labels.
pub(crate) type Scored = Vec<(f64, bool)>;

/// Learns the normal rows of the training part, in the order of the seed, and scores the test without learning it.
pub(crate) fn frozen(method: &Method, train: &Table, test: &Table, seed: u64) -> Scored {
    let mut detector = (method.make)(train.rows.ncols(), seed);
    for row in streaming::order(train.labels.len(), seed) {
        if !train.labels[row] {
            detector.learn(&train.rows.row(row).to_vec());
        }
    }
    let rows = test.rows.rows().into_iter().zip(&test.labels);
    rows.map(|(row, label)| (detector.score(&row.to_vec()), *label)).collect()
}

/// Median and quartiles over runs.
pub(crate) fn summarised(set: &str, method: &str, runs: &[Scored]) -> PublicResult {
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
