//! Whole traces of calls: a forest over surprise rates beside our sequence coordinate and STIDE. Every judged trace is scored
//! by what the training traces taught; then once more with copies removed, since a trace that is a copy of a training trace
//! is no test of anything.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use collector_common::token;
use model::random::Random;
use model::sequence::Sequences;
use ndarray::Array2;

use super::public::{PublicResult, Scored, summarised};
use super::{Origin, Trace};
use crate::detectors::{Fitted, Kind};
use crate::stats;

/// Calls of a window of our sequence coordinate.
const WINDOW: usize = 128;
/// Longest context of a call, itself included.
const ORDER: usize = 4;
/// A training trace is scored by what the others taught: each of so many parts by the rest. By itself it would hold nothing
/// new, and the forest would take every new trace for strange.
const FOLDS: usize = 5;
/// A call of which nothing at all is known: one of so many.
const CALLS: f64 = 340.0;
/// Surprise rates of a trace.
const RATES: usize = 2;

/// Every method on every trace, then without copies.
pub(super) fn evaluate(set: &str, traces: &[Trace], seeds: usize) -> anyhow::Result<Vec<PublicResult>> {
    let judged: Vec<&Trace> = traces.iter().filter(|trace| trace.origin != Origin::Training).collect();
    let methods = scored(traces, &judged, seeds)?;
    let distinct = distinct(traces, &judged);
    let everything: Vec<usize> = (0..judged.len()).collect();
    let mut results = Vec::new();
    for (what, chosen) in [("", everything), (", copies removed", distinct)] {
        for (method, runs) in &methods {
            let only = |run: &Scored| -> Scored { chosen.iter().filter_map(|at| run.get(*at)).copied().collect() };
            let runs: Vec<Scored> = runs.iter().map(only).collect();
            let mut shares: Vec<[f64; 3]> = runs.iter().map(at_false_shares).collect();
            shares.sort_by(|a, b| a[1].total_cmp(&b[1]));
            let middle = shares.get(shares.len() / 2).copied();
            results.push(PublicResult { at_false_share: middle, ..summarised(&format!("{set}{what}"), method, &runs) });
        }
    }
    Ok(results)
}

/// Scores of the judged traces by method and seed.
fn scored(traces: &[Trace], judged: &[&Trace], seeds: usize) -> anyhow::Result<Vec<(&'static str, Vec<Scored>)>> {
    let training: Vec<&[u16]> = calls_of(traces).collect();
    let label = |trace: &&Trace| matches!(trace.origin, Origin::Attack(_));
    let by = |score: &dyn Fn(&[u16]) -> f64| -> Scored {
        judged.iter().map(|trace| (score(&trace.calls), label(trace))).collect()
    };
    let all = Grams::of(training.iter().copied());
    let mut rows = cross_fitted(&training);
    let mut points: Vec<[f64; RATES]> = judged.iter().map(|trace| all.rates(&trace.calls)).collect();
    one_sided(&mut rows, &mut points);
    let rows =
        Array2::from_shape_vec((rows.len(), RATES), rows.concat()).context("the training traces make no table")?;
    let mut forests = Vec::new();
    for seed in 0..seeds as u64 {
        let forest = Fitted::to(Kind::Forest, rows.clone(), seed)?;
        let scores = points.iter().map(|point| forest.score(point)).collect::<anyhow::Result<Vec<f64>>>()?;
        forests.push(scores.into_iter().zip(judged.iter().map(label)).collect());
    }
    let (coordinate, stide) = (coordinate(&training), stide(&training));
    Ok(vec![
        ("our forest over two surprise rates, whole traces", forests),
        ("surprise of a call after three, no forest", vec![by(&|calls| all.rates(calls)[0])]),
        ("our sequence coordinate, mean over windows", vec![by(&coordinate)]),
        ("STIDE, n = 3, share of trigrams", vec![by(&stide)]),
    ])
}

fn calls_of(traces: &[Trace]) -> impl Iterator<Item = &[u16]> {
    traces.iter().filter(|trace| trace.origin == Origin::Training).map(|trace| trace.calls.as_slice())
}

/// Places of the judged traces that are neither a training trace again nor an earlier one of the same label.
fn distinct(traces: &[Trace], judged: &[&Trace]) -> Vec<usize> {
    let known: BTreeSet<&[u16]> = calls_of(traces).collect();
    let mut seen = BTreeSet::new();
    let mut places = Vec::new();
    for (at, trace) in judged.iter().enumerate() {
        let (attack, calls) = (matches!(trace.origin, Origin::Attack(_)), trace.calls.as_slice());
        if !known.contains(calls) && seen.insert((attack, calls)) {
            places.push(at);
        }
    }
    places
}

/// Rates of the training traces, each by what the other parts taught.
fn cross_fitted(training: &[&[u16]]) -> Vec<[f64; RATES]> {
    let mut random = Random::new(0x666f_6c64);
    let folds: Vec<usize> = training.iter().map(|_| random.below(FOLDS)).collect();
    let mut rows = vec![[0.0; RATES]; training.len()];
    for fold in 0..FOLDS {
        let others = training.iter().zip(&folds).filter(|(_, of)| **of != fold).map(|(calls, _)| *calls);
        let grams = Grams::of(others);
        for ((row, calls), _) in rows.iter_mut().zip(training).zip(&folds).filter(|(_, of)| **of == fold) {
            *row = grams.rates(calls);
        }
    }
    rows
}

/// Less surprise than usual is not strange: below its median a rate is its median.
fn one_sided(rows: &mut [[f64; RATES]], points: &mut [[f64; RATES]]) {
    for rate in 0..RATES {
        let mut values: Vec<f64> = rows.iter().map(|row| row[rate]).collect();
        let middle = stats::quantile(&mut values, 0.5);
        rows.iter_mut().chain(&mut *points).for_each(|row| row[rate] = row[rate].max(middle));
    }
}

/// How often calls follow each other, and in how many traces each call is.
struct Grams<'a> {
    counts: BTreeMap<&'a [u16], u32>,
    /// How often a context was followed, and by how many different calls.
    follows: BTreeMap<&'a [u16], (u32, u32)>,
    traces_with: BTreeMap<u16, u32>,
    traces: u32,
}

impl<'a> Grams<'a> {
    fn of(traces: impl Iterator<Item = &'a [u16]>) -> Self {
        let mut grams =
            Self { counts: BTreeMap::new(), follows: BTreeMap::new(), traces_with: BTreeMap::new(), traces: 0 };
        for calls in traces {
            for gram in (1..=ORDER).flat_map(|order| calls.windows(order)) {
                *grams.counts.entry(gram).or_default() += 1;
            }
            for call in calls.iter().collect::<BTreeSet<_>>() {
                *grams.traces_with.entry(*call).or_default() += 1;
            }
            grams.traces += 1;
        }
        for (gram, count) in &grams.counts {
            let context = grams.follows.entry(&gram[..gram.len() - 1]).or_default();
            *context = (context.0 + count, context.1 + 1);
        }
        grams
    }

    /// Chance of the last call after the others (Witten and Bell, 1991): what a context does not know is left to the shorter
    /// one, by as much as different calls followed it.
    fn chance(&self, gram: &[u16]) -> f64 {
        let Some((_, context)) = gram.split_last() else { return 1.0 / CALLS };
        let shorter = self.chance(&gram[1..]);
        self.follows.get(context).map_or(shorter, |(times, kinds)| {
            let count = self.counts.get(gram).copied().unwrap_or(0);
            (f64::from(count) + f64::from(*kinds) * shorter) / f64::from(times + kinds)
        })
    }

    /// Mean bits a call: of the call after the three before it, and of the share of traces in which it is at all.
    fn rates(&self, calls: &[u16]) -> [f64; RATES] {
        let of = calls.len().max(1) as f64;
        let after = (0..calls.len()).map(|at| -self.chance(&calls[(at + 1).saturating_sub(ORDER)..=at]).log2());
        let share = |call: &u16| {
            let with = f64::from(self.traces_with.get(call).copied().unwrap_or(0));
            -((with + 0.5) / (f64::from(self.traces) + 1.0)).log2()
        };
        [after.sum::<f64>() / of, calls.iter().map(share).sum::<f64>() / of]
    }
}

/// Our sequence coordinate: bits of a window, mean over the trace's windows.
fn coordinate(training: &[&[u16]]) -> impl Fn(&[u16]) -> f64 + use<> {
    let tokens = |calls: &[u16]| -> Vec<u16> {
        calls.iter().map(|call| token::token(*call, token::Outcome::Ok, token::arg::PLAIN)).collect()
    };
    let mut sequences = Sequences::default();
    training.iter().for_each(|calls| tokens(calls).chunks(WINDOW).for_each(|window| sequences.learn(window)));
    move |calls| {
        let windows: Vec<f64> =
            tokens(calls).chunks(WINDOW).map(|window| sequences.surprise(window, &sequences).bits).collect();
        windows.iter().sum::<f64>() / windows.len().max(1) as f64
    }
}

/// Share of trigrams that no training trace holds.
fn stide(training: &[&[u16]]) -> impl Fn(&[u16]) -> f64 + use<> {
    let known: BTreeSet<[u16; 3]> = training.iter().flat_map(|calls| trigrams(calls)).collect();
    move |calls| {
        let strange = trigrams(calls).filter(|trigram| !known.contains(trigram)).count();
        strange as f64 / calls.len().saturating_sub(2).max(1) as f64
    }
}

fn trigrams(calls: &[u16]) -> impl Iterator<Item = [u16; 3]> + '_ {
    calls.array_windows().copied()
}

/// Share of attacks above what 1, 5 and 10 % of the normal traces reach.
fn at_false_shares(scored: &Scored) -> [f64; 3] {
    let points = stats::curve(scored);
    [0.01, 0.05, 0.1].map(|most| {
        points.iter().filter(|point| point.false_share <= most).map(|point| point.recall).fold(0.0, f64::max)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usual(n: u16) -> Trace {
        Trace {
            origin: if n.is_multiple_of(2) { Origin::Training } else { Origin::Validation },
            calls: [3, 4, 5, 6].into_iter().cycle().skip(usize::from(n) % 4).take(200 + usize::from(n)).collect(),
        }
    }

    #[test]
    fn strange_orders_are_found_in_traces() {
        let attack = Trace { origin: Origin::Attack("x".into()), calls: [3, 5, 4, 6].repeat(40) };
        let traces: Vec<Trace> = (0..120).map(usual).chain([attack]).collect();
        for result in evaluate("traces", &traces, 2).unwrap() {
            assert_eq!((result.auc[1], result.at_false_share), (1.0, Some([1.0; 3])), "{result:?}");
        }
    }

    #[test]
    fn copies_are_taken_out_but_not_a_trace_that_is_both() {
        let trace = |origin, calls: &[u16]| Trace { origin, calls: calls.to_vec() };
        let attack = || Origin::Attack("x".into());
        let traces = [
            trace(Origin::Training, &[1, 2]),
            trace(Origin::Validation, &[1, 2]),
            trace(Origin::Validation, &[3]),
            trace(Origin::Validation, &[3]),
            trace(attack(), &[3]),
            trace(attack(), &[3]),
        ];
        let judged: Vec<&Trace> = traces.iter().skip(1).collect();
        assert_eq!(distinct(&traces, &judged), [1, 3]);
    }

    #[test]
    fn chances_of_all_calls_sum_to_one_and_fall_back_where_nothing_is_known() {
        let calls: Vec<u16> = [1, 2, 3, 1, 2, 4].repeat(5);
        let grams = Grams::of([calls.as_slice()].into_iter());
        for context in [&[][..], &[1, 2], &[9, 1, 2], &[9]] {
            let sum: f64 = (0..340).map(|call| grams.chance(&[context, &[call]].concat())).sum();
            assert!((sum - 1.0).abs() < 1e-9, "{context:?}: {sum}");
        }
        assert_eq!(grams.chance(&[9, 1]), grams.chance(&[1]), "9 was never followed");
        assert!(grams.chance(&[1, 2]) > 0.8 && grams.chance(&[1, 9]) < 0.01);
    }
}
