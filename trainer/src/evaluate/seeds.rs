//! What of a result is the seed's: the whole system again with others, on the same days.

use serde::{Deserialize, Serialize};

use super::{Evaluation, FULL, Options, Row, evaluate};
use crate::corpus::Corpus;
use crate::stats::quantile;

/// The whole system with several seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seeds {
    /// Which, the one of the table first.
    pub seeds: Vec<u64>,
    /// Of the AUC.
    pub auc: Spread,
    /// Of the average precision.
    pub ap: Spread,
    /// Attacks found, by budget.
    pub found: Vec<Spread>,
    /// False alarms a host-day, by budget.
    pub false_a_day: Vec<Spread>,
}

/// Median and quartiles.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// A quarter lies below.
    pub low: f64,
    /// Half lies below.
    pub median: f64,
    /// Three quarters lie below.
    pub high: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        let mut at = |share| quantile(&mut values, share);
        Self { low: at(0.25), median: at(0.5), high: at(0.75) }
    }
}

/// Evaluates again with the seeds that follow the one of an evaluation, until there are so many.
///
/// # Errors
///
/// As [`evaluate`].
pub fn over_seeds(corpus: &Corpus, options: &Options, first: &Evaluation, count: u64) -> anyhow::Result<Seeds> {
    let full = |evaluation: &Evaluation| evaluation.rows.iter().find(|row| row.name == FULL).cloned();
    let mut rows: Vec<Row> = full(first).into_iter().collect();
    let seeds: Vec<u64> = (0..count.max(1)).map(|more| options.seed.wrapping_add(more)).collect();
    for seed in &seeds[1..] {
        let params = model::Params { seed: *seed, ..options.params.clone() };
        let again = Options { params, seed: *seed, rivals: false, ablations: false, ..options.clone() };
        rows.extend(full(&evaluate(corpus, &again, &first.commit)?));
        (options.progress)(&format!("seed {seed}"));
    }
    let budgets = 0..first.budgets.len();
    let at = |budget: usize| rows.iter().filter_map(move |row| row.at.get(budget));
    Ok(Seeds {
        auc: Spread::of(rows.iter().filter_map(|row| row.auc)),
        ap: Spread::of(rows.iter().filter_map(|row| row.ap)),
        found: budgets.clone().map(|budget| Spread::of(at(budget).map(|at| at.found as f64))).collect(),
        false_a_day: budgets.map(|budget| Spread::of(at(budget).map(|at| at.false_a_day))).collect(),
        seeds,
    })
}
