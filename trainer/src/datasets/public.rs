//! Public sets against the literature: the trees of our forest alone, score then learn, at least ten seeds; and on traces our
//! sequence coordinate beside STIDE.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use collector_common::token;
use model::sequence::Sequences;
use serde::{Deserialize, Serialize};

use super::{Loaded, Origin, Table, Trace};
use crate::stats;
use crate::streaming::{self, Method, Ours, Streaming};

const TREES: usize = 64;
const WINDOW: usize = 128;

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
pub fn evaluate_set(name: &str, loaded: &Loaded, seeds: usize) -> Vec<PublicResult> {
    match loaded {
        Loaded::Table(table) => {
            let ours = Method { name: "ours", make: |width, seed| Box::new(Ours::new(width, TREES, seed)) };
            let runs: Vec<_> = (1..=seeds as u64).map(|seed| streaming::once(&ours, table, seed)).collect();
            vec![summarised(name, "our trees, score then learn", &runs)]
        }
        Loaded::Split(train, test) => {
            let runs: Vec<_> = (1..=seeds as u64).map(|seed| frozen(train, test, seed)).collect();
            vec![summarised(name, "our trees, learnt on normal rows, frozen", &runs)]
        }
        Loaded::Traces(traces) => on_traces(name, traces),
    }
}

type Scored = Vec<(f64, bool)>;
/// A method's name, and how it scores a trace.
type Score<'a> = (&'a str, &'a dyn Fn(&[u16]) -> f64);

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

fn summarised(set: &str, method: &str, runs: &[Scored]) -> PublicResult {
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

fn on_traces(set: &str, traces: &[Trace]) -> Vec<PublicResult> {
    let tokens = |calls: &[u16]| -> Vec<u16> {
        calls.iter().map(|call| token::token(*call, token::Outcome::Ok, token::arg::PLAIN)).collect()
    };
    let (mut sequences, mut known) = (Sequences::default(), BTreeSet::new());
    for trace in traces.iter().filter(|trace| trace.origin == Origin::Training) {
        tokens(&trace.calls).chunks(WINDOW).for_each(|window| sequences.learn(window));
        known.extend(trigrams(&trace.calls));
    }
    let surprise = |calls: &[u16]| {
        let windows: Vec<f64> =
            tokens(calls).chunks(WINDOW).map(|window| sequences.surprise(window, &sequences).bits).collect();
        windows.iter().sum::<f64>() / windows.len().max(1) as f64
    };
    let stide = |calls: &[u16]| {
        let strange = trigrams(calls).filter(|trigram| !known.contains(trigram)).count();
        strange as f64 / calls.len().saturating_sub(2).max(1) as f64
    };
    let judged: Vec<&Trace> = traces.iter().filter(|trace| trace.origin != Origin::Training).collect();
    let methods: [Score; 2] =
        [("our sequence coordinate, mean over windows", &surprise), ("STIDE, n = 3, share of trigrams", &stide)];
    let result = |(method, score): Score| {
        let of = |trace: &&Trace| (score(&trace.calls), matches!(trace.origin, Origin::Attack(_)));
        let scored: Scored = judged.iter().map(of).collect();
        PublicResult { at_false_share: Some(at_false_shares(&scored)), ..summarised(set, method, &[scored]) }
    };
    methods.into_iter().map(result).collect()
}

fn trigrams(calls: &[u16]) -> impl Iterator<Item = (u16, u16, u16)> + '_ {
    calls.iter().zip(calls.iter().skip(1)).zip(calls.iter().skip(2)).map(|((a, b), c)| (*a, *b, *c))
}

fn at_false_shares(scored: &Scored) -> [f64; 3] {
    let points = stats::curve(scored);
    [0.01, 0.05, 0.1].map(|most| {
        points.iter().filter(|point| point.false_share <= most).map(|point| point.recall).fold(0.0, f64::max)
    })
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

    #[test]
    fn strange_orders_are_found_in_traces() {
        let usual = |n: u16| Trace {
            origin: if n.is_multiple_of(2) { Origin::Training } else { Origin::Validation },
            calls: [3, 4, 5, 6].into_iter().cycle().skip(usize::from(n) % 4).take(200).collect(),
        };
        let attack = Trace { origin: Origin::Attack("x".into()), calls: [3, 5, 4, 6].repeat(40) };
        let traces: Vec<Trace> = (0..40).map(usual).chain([attack]).collect();
        for result in evaluate_set("traces", &Loaded::Traces(traces), 1) {
            assert_eq!((result.auc[1], result.at_false_share), (1.0, Some([1.0; 3])), "{result:?}");
        }
    }
}
