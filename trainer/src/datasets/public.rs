//! Public sets against the literature: the trees of our forest alone, score then learn, at least ten seeds.

use std::fmt::Write as _;

use linfa::traits::Fit;
use linfa::{Dataset, ParamGuard};
use model::forest::{Forest, ForestParams, Tree};
use model::random::Random;
use ndarray::{Array2, ArrayView1};
use serde::{Deserialize, Serialize};

use super::{Loaded, Table, traces};
use crate::stats;

const TREES: usize = 64;
const SAMPLE: usize = 256;
const RESERVOIR: usize = 2_048;
/// The first rows are learnt, but not evaluated, for every method alike.
const WARM_UP: usize = 256;
/// While it is young the forest is grown anew at every doubling.
const YOUNG: usize = 16_384;
const ROWS_PER_TREE: usize = 256;
/// Rows of one set that are taken, after shuffling.
const MOST_ROWS: usize = 50_000;

/// The forest of a stream: uniform reservoir, grown anew at doublings, then tree by tree.
pub struct Stream {
    reservoir: Vec<Vec<f64>>,
    seen: usize,
    forest: Forest,
    next_tree: usize,
    random: Random,
}

impl Stream {
    /// By seed.
    pub fn new(seed: u64) -> Self {
        Self { reservoir: Vec::new(), seen: 0, forest: Forest::default(), next_tree: 0, random: Random::new(seed) }
    }

    /// Scores a row; higher = more anomalous.
    pub fn score(&self, row: &[f64]) -> f64 {
        -self.forest.depth(row)
    }

    /// Learns a row.
    ///
    /// # Errors
    ///
    /// When the rows cannot be learnt from: no columns, or too many.
    pub fn learn(&mut self, row: ArrayView1<f64>) -> anyhow::Result<()> {
        self.seen += 1;
        if self.reservoir.len() < RESERVOIR {
            self.reservoir.push(row.to_vec());
        } else if let Some(slot) = self.reservoir.get_mut(self.random.below(self.seen)) {
            *slot = row.to_vec();
        }
        let doubled = self.seen >= WARM_UP && self.seen <= YOUNG && self.seen.is_power_of_two();
        if doubled {
            let seed = self.random.draw();
            let params = ForestParams::new(TREES, SAMPLE, seed).check()?;
            self.forest = params.fit(&Dataset::from(self.rows()?))?;
        } else if self.seen > YOUNG && self.seen.is_multiple_of(ROWS_PER_TREE) {
            let rows = self.rows()?;
            if let Some(tree) = self.forest.trees.get_mut(self.next_tree) {
                *tree = Tree::grow(&rows, SAMPLE, &mut self.random);
            }
            self.next_tree = (self.next_tree + 1) % TREES;
        }
        Ok(())
    }

    fn rows(&self) -> anyhow::Result<Array2<f64>> {
        let width = self.reservoir.first().map_or(0, Vec::len);
        Ok(Array2::from_shape_vec((self.reservoir.len(), width), self.reservoir.iter().flatten().copied().collect())?)
    }
}

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
/// When its rows cannot be learnt from.
pub fn evaluate_set(name: &str, loaded: &Loaded, seeds: usize) -> anyhow::Result<Vec<PublicResult>> {
    match loaded {
        Loaded::Table(table) => {
            let runs = (1..=seeds as u64).map(|seed| prequential(table, seed)).collect::<anyhow::Result<Vec<_>>>()?;
            Ok(vec![summarised(name, "our trees, score then learn", &runs)])
        }
        Loaded::Split(train, test) => {
            let runs = (1..=seeds as u64).map(|seed| frozen(train, test, seed)).collect::<anyhow::Result<Vec<_>>>()?;
            Ok(vec![summarised(name, "our trees, learnt on normal rows, frozen", &runs)])
        }
        Loaded::Traces(set) => traces::evaluate(name, set, seeds),
    }
}

/// Scores with their labels.
pub(super) type Scored = Vec<(f64, bool)>;

fn shuffled(rows: usize, seed: u64) -> Vec<usize> {
    let mut random = Random::new(seed ^ 0x006f_7264_6572);
    let mut order: Vec<usize> = (0..rows).collect();
    for at in (1..rows).rev() {
        order.swap(at, random.below(at + 1));
    }
    order
}

fn prequential(table: &Table, seed: u64) -> anyhow::Result<Scored> {
    let mut stream = Stream::new(seed);
    let mut scored = Vec::new();
    for (at, row) in shuffled(table.labels.len(), seed).into_iter().take(MOST_ROWS).enumerate() {
        let values = table.rows.row(row);
        if at >= WARM_UP {
            scored.push((stream.score(&values.to_vec()), table.labels[row]));
        }
        stream.learn(values)?;
    }
    Ok(scored)
}

fn frozen(train: &Table, test: &Table, seed: u64) -> anyhow::Result<Scored> {
    let mut stream = Stream::new(seed);
    for row in shuffled(train.labels.len(), seed) {
        if !train.labels[row] {
            stream.learn(train.rows.row(row))?;
        }
    }
    let rows = test.rows.rows().into_iter().zip(&test.labels);
    Ok(rows.map(|(row, label)| (stream.score(&row.to_vec()), *label)).collect())
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn what_lies_apart_is_found_while_the_stream_is_learnt_and_labels_by_lot_are_not() {
        let good = &evaluate_set("cloud", &Loaded::Table(table(1)), 3).unwrap()[0];
        assert!(good.auc[0] > 0.97 && good.seeds == 3, "{good:?}");
        let mut lot = table(1);
        lot.labels = shuffled(lot.labels.len(), 9).into_iter().map(|at| at % 50 == 7).collect();
        let lot = &evaluate_set("lot", &Loaded::Table(lot), 3).unwrap()[0];
        assert!((lot.auc[1] - 0.5).abs() < 0.15, "{lot:?}");
    }
}
