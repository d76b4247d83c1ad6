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
    /// Of values; NaN without any.
    pub(super) fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        let mut at = |share| quantile(&mut values, share);
        Self { low: at(0.25), median: at(0.5), high: at(0.75) }
    }
}

impl Seeds {
    /// Of evaluations of the same days that differ by their seed only.
    pub fn of(each: &[Evaluation]) -> Self {
        let rows: Vec<&Row> = each.iter().filter_map(full).collect();
        let budgets = 0..each.first().map_or(0, |first| first.budgets.len());
        let at = |budget: usize| rows.iter().filter_map(move |row| row.at.get(budget));
        Self {
            seeds: each.iter().map(|evaluation| evaluation.seed).collect(),
            auc: Spread::of(rows.iter().filter_map(|row| row.auc)),
            ap: Spread::of(rows.iter().filter_map(|row| row.ap)),
            found: budgets.clone().map(|budget| Spread::of(at(budget).map(|at| at.found as f64))).collect(),
            false_a_day: budgets.map(|budget| Spread::of(at(budget).map(|at| at.false_a_day))).collect(),
        }
    }
}

/// The row of the whole system.
pub(super) fn full(evaluation: &Evaluation) -> Option<&Row> {
    evaluation.rows.iter().find(|row| row.name == FULL)
}

/// The evaluation and, of the whole system alone, so many in all with the seeds that follow its own.
///
/// # Errors
///
/// As [`evaluate`].
pub fn over_seeds(
    corpus: &Corpus,
    options: &Options,
    first: &Evaluation,
    count: u64,
) -> anyhow::Result<Vec<Evaluation>> {
    let mut each = vec![first.clone()];
    for more in 1..count.max(1) {
        let seed = options.seed.wrapping_add(more);
        each.push(evaluate(corpus, &alone(options, seed), &first.commit)?);
        (options.progress)(&format!("seed {seed}"));
    }
    Ok(each)
}

/// The whole system alone, with another seed.
pub(super) fn alone(options: &Options, seed: u64) -> Options {
    let params = model::Params { seed, ..options.params.clone() };
    Options { params, seed, rivals: false, outside: None, ablations: false, ..options.clone() }
}
