//! Public sets through our forest and its rivals side by side: the streams of `streaming`, the frozen split of NSL-KDD, and what
//! river says of the very same rows.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, ensure};
use ndarray::{Array1, Array2, Axis};

use crate::datasets::{Loaded, PublicResult, Scored, Table, evaluate_set, frozen, summarised};
use crate::detectors::Centres;
use crate::streaming::{self, METHODS, MOST_ROWS, Method, WARM_UP};

/// Name of river's row.
const RIVER: &str = "Half-Space Trees of river 0.26.1, as shipped (10 of height 8)";

/// Every method on a set.
///
/// `streams` is the folder of [`write_streams`] where river left its scores.
///
/// # Errors
///
/// When river's scores are missing or of other rows.
pub fn evaluate(
    name: &str,
    loaded: &Loaded,
    seeds: usize,
    streams: Option<&Path>,
) -> anyhow::Result<Vec<PublicResult>> {
    Ok(match loaded {
        Loaded::Table(table) => {
            let runs = |method: &Method| seeded(seeds, |seed| streaming::once(method, table, seed));
            let all = METHODS.iter().map(|method| summarised(name, method.name, &runs(method)));
            all.chain(streams.map(|folder| river(name, table, folder)).transpose()?).collect()
        }
        Loaded::Split(train, test) => {
            let runs = |method: &Method| seeded(seeds, |seed| frozen(method, train, test, seed));
            let all = METHODS.iter().map(|method| summarised(name, method.name, &runs(method)));
            all.chain([summarised(name, "max robust z, no forest", &[robust(train, test)])]).collect()
        }
        Loaded::Traces(_) => evaluate_set(name, loaded, seeds)?,
    })
}

fn seeded(seeds: usize, run: impl Fn(u64) -> Scored) -> Vec<Scored> {
    (0..seeds as u64).map(run).collect()
}

/// The largest robust z of any column, centred on the normal rows of the training part. Most columns are the same in most
/// rows, so that their quartiles are one: a spread is then the standard deviation, the best of nine scales for this row
/// by the labels of the test: a trivial row is given every advantage.
fn robust(train: &Table, test: &Table) -> Scored {
    let normal: Vec<usize> = (0..train.labels.len()).filter(|row| !train.labels[*row]).collect();
    let normal = train.rows.select(Axis(0), &normal);
    let centres = Centres::of(normal.columns().into_iter().map(|column| column.to_vec()), deviation);
    test.rows.rows().into_iter().zip(&test.labels).map(|(row, label)| (centres.most(&row.to_vec()), *label)).collect()
}

/// Standard deviation; 1 of a constant.
fn deviation(values: &[f64]) -> f64 {
    let of = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / of;
    let square = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / of;
    if square > 0.0 { square.sqrt() } else { 1.0 }
}

/// Rows of a set in the order of a seed, for methods that are no part of this program: `SET.SEED.npy`.
///
/// # Errors
///
/// When a file cannot be written.
pub fn write_streams(name: &str, table: &Table, seeds: usize, folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for seed in 0..seeds {
        let rows: Vec<usize> = streaming::order(table.labels.len(), seed as u64).into_iter().take(MOST_ROWS).collect();
        let path = folder.join(format!("{name}.{seed}.npy"));
        let rows: Array2<f64> = table.rows.select(Axis(0), &rows);
        ndarray_npy::write_npy(&path, &rows).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// What river's scores of those rows reach, by the same referee. As many seeds as there are files.
fn river(name: &str, table: &Table, folder: &Path) -> anyhow::Result<PublicResult> {
    let mut runs: Vec<Scored> = Vec::new();
    for seed in 0.. {
        let path = folder.join(format!("{name}.{seed}.scores.npy"));
        if !path.exists() {
            break;
        }
        let scores: Array1<f64> =
            ndarray_npy::read_npy(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let order: Vec<usize> = streaming::order(table.labels.len(), seed).into_iter().take(MOST_ROWS).collect();
        ensure!(
            scores.len() == order.len() && scores.iter().all(|score| score.is_finite()),
            "{} holds {} scores of {} rows, or one that is no number",
            path.display(),
            scores.len(),
            order.len()
        );
        let scored = scores.iter().zip(order).skip(WARM_UP).map(|(score, row)| (*score, table.labels[row]));
        runs.push(scored.collect());
    }
    ensure!(!runs.is_empty(), "river left no scores of {name} in {}", folder.display());
    Ok(summarised(name, RIVER, &runs))
}

/// Methods down, sets across, AUC / AP in each cell and their mean at the end.
pub fn matrix(results: &[PublicResult]) -> String {
    let mut sets: Vec<&str> = Vec::new();
    let mut methods: Vec<&str> = Vec::new();
    for result in results {
        if !sets.contains(&result.set.as_str()) {
            sets.push(&result.set);
        }
        if !methods.contains(&result.method.as_str()) {
            methods.push(&result.method);
        }
    }
    let mut out =
        format!("| method | seeds | {} | mean |\n|---|---|{}---|\n", sets.join(" | "), "---|".repeat(sets.len()));
    for method in methods {
        let own: Vec<&PublicResult> = results.iter().filter(|result| result.method == method).collect();
        let cells: Vec<String> = sets
            .iter()
            .map(|set| own.iter().find(|result| result.set == *set))
            .map(|result| result.map_or("–".to_owned(), |result| cell(result.auc[1], result.ap[1])))
            .collect();
        let mean = |of: fn(&PublicResult) -> f64| own.iter().map(|result| of(result)).sum::<f64>() / own.len() as f64;
        let whole = own.len() == sets.len();
        let mean = if whole { cell(mean(|r| r.auc[1]), mean(|r| r.ap[1])) } else { "–".to_owned() };
        let seeds = own.first().map_or(0, |result| result.seeds);
        // Writing to a string does not fail.
        let _ = writeln!(out, "| {method} | {seeds} | {} | {mean} |", cells.join(" | "));
    }
    out
}

fn cell(auc: f64, ap: f64) -> String {
    format!("{auc:.3} / {ap:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::random::Random;

    /// A cloud, and a few rows far from it.
    fn table(seed: u64, rows: usize) -> Table {
        let mut random = Random::new(seed);
        let labels: Vec<bool> = (0..rows).map(|n| n % 50 == 7).collect();
        let numbers = labels.iter().flat_map(|far| {
            let shift = if *far { 4.0 } else { 0.0 };
            (0..5).map(|_| (0..4).map(|_| random.unit()).sum::<f64>() + shift).collect::<Vec<_>>()
        });
        let rows = Array2::from_shape_vec((rows, 5), numbers.collect()).expect("a table");
        Table { rows, labels }
    }

    #[test]
    fn everyone_finds_what_lies_far_apart_in_a_stream_and_in_a_frozen_test() {
        for loaded in [Loaded::Table(table(1, 3_000)), Loaded::Split(table(1, 3_000), table(2, 500))] {
            for result in evaluate("cloud", &loaded, 3, None).unwrap() {
                assert!(result.auc[1] > 0.95, "{result:?}");
            }
        }
    }

    #[test]
    fn scores_from_outside_are_judged_by_the_same_referee_and_others_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let table = table(3, 1_000);
        write_streams("cloud", &table, 2, folder.path()).unwrap();
        for seed in 0..2 {
            let rows: Array2<f64> = ndarray_npy::read_npy(folder.path().join(format!("cloud.{seed}.npy"))).unwrap();
            let scores = rows.sum_axis(Axis(1));
            ndarray_npy::write_npy(folder.path().join(format!("cloud.{seed}.scores.npy")), &scores).unwrap();
        }
        let result = river("cloud", &table, folder.path()).unwrap();
        assert_eq!((result.seeds, result.auc[1]), (2, 1.0));
        let short = Array1::<f64>::zeros(999);
        ndarray_npy::write_npy(folder.path().join("cloud.1.scores.npy"), &short).unwrap();
        let refused = river("cloud", &table, folder.path()).unwrap_err().to_string();
        assert!(refused.contains("999 scores of 1000 rows"), "{refused}");
        assert!(river("other", &table, folder.path()).is_err());
    }

    #[test]
    fn a_mean_is_given_over_all_sets_or_not_at_all() {
        let of = |set: &str, method: &str, auc| PublicResult {
            set: set.to_owned(),
            method: method.to_owned(),
            seeds: 3,
            auc: [auc; 3],
            ap: [0.5; 3],
            at_false_share: None,
        };
        let told = matrix(&[of("a", "x", 0.9), of("b", "x", 0.7), of("a", "y", 0.8)]);
        assert!(told.contains("| x | 3 | 0.900 / 0.500 | 0.700 / 0.500 | 0.800 / 0.500 |"), "{told}");
        assert!(told.contains("| y | 3 | 0.800 / 0.500 | – | – |"), "{told}");
    }
}
