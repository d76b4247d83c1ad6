//! Counts of facts, and what a fact is worth: bits of surprise by Witten–Bell back-off.
//!
//! `P(x|c) = (n_c(x) + T_c · P(x|↑c)) / (N_c + T_c)` (Witten and Bell, 1991, method C), where `c` is the workload and
//! executable, `↑c` the executable anywhere on the host, and above that a constant of the family. `T_c` is how many
//! different values were seen and `N_c` how often: where novelty is normal (`T ≈ N`, a build job) a new value costs about a
//! bit; where it is not (a database with three destinations and five hundred connections) it costs seven and the parent's.

use std::collections::BTreeMap;
use std::sync::Arc;

use libm::{exp2, log2};
use serde::{Deserialize, Serialize};

use crate::event::Time;
use crate::facts::Fact;
use crate::features::Coordinate;

/// Values that one context holds; further ones are counted as overflow and stay surprising.
pub const MAX_VALUES: usize = 1_024;
/// Contexts that one table holds.
pub const MAX_CONTEXTS: usize = 4_096;
/// Where a new value costs no more bits of its own, before its parent's, new values are daily bread: one observation in three
/// was one (`N ≤ 3T`). A build job that fetches from everywhere pays 1, a server with three destinations 7.
pub const DAILY_BITS: f64 = 2.0;
/// How often values are new is not known before there were so many.
const DAILY_VALUES: usize = 16;
/// Nanoseconds of an hour: the block that teaches a fact.
const HOUR: u64 = 3_600_000_000_000;
/// Owner of a fact that more than one hour taught.
const MANY: u64 = u64::MAX;

/// How often a value was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// By how many different processes in a row (a loop of one process counts once).
    pub n: u32,
    /// On how many different days.
    pub days: u32,
    /// First time.
    pub first: Time,
    /// Day of the last time.
    last_day: u64,
    /// Process of the last time.
    last_process: u64,
    /// Hour that taught it, or [`MANY`].
    owner: u64,
}

impl Count {
    /// Whether only the hour of `at` has taught it, so that a row of that hour must still call it new (cross-fit).
    pub fn is_owned_by(&self, hour: u64) -> bool {
        self.owner == hour
    }
}

/// The hour block of a time.
pub fn hour_of(at: Time) -> u64 {
    at.unix_ns / HOUR
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Context {
    total: u64,
    values: BTreeMap<Fact, Count>,
}

/// Facts by context.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    contexts: BTreeMap<(u8, Arc<str>), Context>,
    overflow: u64,
    newest: Time,
}

impl Counts {
    /// Counts a fact. `true` when it was new here.
    pub fn learn(&mut self, fact: &Fact, at: Time, process: u64) -> bool {
        let key = fact.context();
        if !self.contexts.contains_key(&key) && self.contexts.len() >= MAX_CONTEXTS {
            self.overflow = self.overflow.saturating_add(1);
            return false;
        }
        let context = self.contexts.entry(key).or_default();
        let (day, hour) = (at.unix_ns / (24 * HOUR), hour_of(at));
        if let Some(count) = context.values.get_mut(fact) {
            if count.last_process != process {
                count.n = count.n.saturating_add(1);
                context.total = context.total.saturating_add(1);
            }
            count.days = count.days.saturating_add(u32::from(count.last_day != day));
            if count.owner != hour {
                count.owner = MANY;
            }
            count.last_day = day;
            count.last_process = process;
            return false;
        }
        if context.values.len() >= MAX_VALUES {
            self.overflow = self.overflow.saturating_add(1);
            return false;
        }
        let count = Count { n: 1, days: 1, first: at, last_day: day, last_process: process, owner: hour };
        context.values.insert(fact.clone(), count);
        context.total = context.total.saturating_add(1);
        // Directories go on appearing in any workload that works: they do not make its baseline young again.
        if fact.family().coordinate != Coordinate::File {
            self.newest = at;
        }
        true
    }

    /// Takes a fact over with the count that it has elsewhere.
    pub(crate) fn take_over(&mut self, fact: &Fact, count: Count) {
        let room = self.contexts.len() < MAX_CONTEXTS || self.contexts.contains_key(&fact.context());
        let context = if room { Some(self.contexts.entry(fact.context()).or_default()) } else { None };
        match context.filter(|context| context.values.len() < MAX_VALUES) {
            Some(context) => {
                context.total = context.total.saturating_add(u64::from(count.n));
                context.values.insert(fact.clone(), count);
            }
            None => self.overflow = self.overflow.saturating_add(1),
        }
    }

    /// The count of a fact.
    pub fn get(&self, fact: &Fact) -> Option<&Count> {
        self.contexts.get(&fact.context())?.values.get(fact)
    }

    /// Probability of a fact, given that of its parent.
    pub fn probability(&self, fact: &Fact, parent: f64) -> f64 {
        self.probability_by(fact, parent, 1.0)
    }

    /// The same where each observation counts as so many.
    fn probability_by(&self, fact: &Fact, parent: f64, weight: f64) -> f64 {
        let Some(context) = self.contexts.get(&fact.context()) else { return parent };
        let seen = context.values.get(fact).map_or(0.0, |count| f64::from(count.n));
        let (total, types) = (context.total as f64, context.values.len() as f64);
        (weight * seen + types * parent) / (weight * total + types)
    }

    /// Values of a context, and how often it was seen.
    pub fn context(&self, fact: &Fact) -> (usize, u64) {
        self.contexts.get(&fact.context()).map_or((0, 0), |context| (context.values.len(), context.total))
    }

    /// Whether a new value is nothing new in the context of a fact: so many were new before that the next one costs at most
    /// [`DAILY_BITS`] and its parent's.
    pub fn is_used_to_news(&self, fact: &Fact) -> bool {
        let (types, total) = self.context(fact);
        let cost = log2((total as f64 + types as f64) / types.max(1) as f64);
        types >= DAILY_VALUES && cost <= DAILY_BITS
    }

    /// Every fact, in a fixed order.
    pub fn facts(&self) -> impl Iterator<Item = (&Fact, &Count)> {
        self.contexts.values().flat_map(|context| &context.values)
    }

    /// What is wrong with counts that were read from a snapshot.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let broken = |(key, context): (&(u8, Arc<str>), &Context)| {
            let times: u64 = context.values.values().map(|count| u64::from(count.n)).sum();
            context.values.len() > MAX_VALUES
                || context.total < times
                || context.values.keys().any(|fact| fact.context() != *key)
        };
        (self.contexts.len() > MAX_CONTEXTS || self.contexts.iter().any(broken)).then_some("counts of facts")
    }

    /// Facts that did not fit.
    pub fn overflow(&self) -> u64 {
        self.overflow
    }

    /// When the newest fact was learnt.
    pub fn newest(&self) -> Time {
        self.newest
    }

    /// Share of facts that one hour alone has taught: the Good–Turing chance that the next fact is new, 0–1.
    pub fn singleton_share(&self) -> f64 {
        let (mut single, mut all) = (0u64, 0u64);
        for (_, count) in self.facts() {
            single += u64::from(count.owner != MANY);
            all += 1;
        }
        if all == 0 { 1.0 } else { single as f64 / all as f64 }
    }
}

/// Most bits that one fact can be worth: no single fact reaches the threshold by itself, however long the baseline.
pub const MOST_BITS: f64 = 24.0;

/// Surprise of a fact in bits, 0–24: workload and executable → executable on this host → the family's base.
pub fn bits(fact: &Fact, workload: Option<&Counts>, host: &Counts) -> f64 {
    bits_by(fact, workload, host, 1.0)
}

/// The same about a program that is another one since lately: what its workload knows of it counts half.
pub fn inherited_bits(fact: &Fact, workload: &Counts, host: &Counts) -> f64 {
    bits_by(fact, Some(workload), host, 0.5)
}

fn bits_by(fact: &Fact, workload: Option<&Counts>, host: &Counts, weight: f64) -> f64 {
    let base = exp2(-fact.family().base_bits);
    let on_host = host.probability(fact, base);
    let here = workload.map_or(on_host, |counts| counts.probability_by(fact, on_host, weight));
    (-log2(here)).clamp(0.0, MOST_BITS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn edge(child: usize) -> Fact {
        Fact::ExecEdge { parent: "/bin/server".into(), child: format!("/bin/{child}").into() }
    }

    fn counts(values: usize, times: usize) -> Counts {
        let mut counts = Counts::default();
        for n in 0..times {
            counts.learn(&edge(n % values), Time { unix_ns: n as u64, boot_ns: 0 }, n as u64);
        }
        counts
    }

    #[test]
    fn novelty_is_dear_where_it_is_rare_and_cheap_where_it_is_normal() {
        let (closed, open) = (counts(3, 500), counts(500, 500));
        let new = edge(9_999);
        let none = Counts::default();
        // log2(503 / 3) = 7.4 bits and the family's 8.
        assert!((bits(&new, Some(&closed), &none) - 15.39).abs() < 0.01);
        // log2(1000 / 500) = 1 bit and the family's 8.
        assert!((bits(&new, Some(&open), &none) - 9.0).abs() < 0.01);
        assert!(bits(&edge(0), Some(&closed), &none) < 2.0);
        // log2(253 / 3) = 6.4 bits: half the counts.
        assert!((inherited_bits(&new, &closed, &none) - 14.4).abs() < 0.01);
    }

    #[test]
    fn news_are_daily_bread_only_where_many_were_new_before() {
        for (values, times, used) in [(500, 500, true), (200, 600, true), (200, 700, false), (3, 500, false)] {
            assert_eq!(counts(values, times).is_used_to_news(&edge(9_999)), used, "{values} in {times}");
        }
        assert!(!counts(15, 15).is_used_to_news(&edge(9_999)), "nobody knows yet");
        assert!(!Counts::default().is_used_to_news(&edge(0)), "and of what was never done, the first time is news");
    }

    #[test]
    fn a_fact_of_one_hour_is_owned_by_it() {
        let mut counts = Counts::default();
        let at = |hour: u64| Time { unix_ns: hour * HOUR, boot_ns: 0 };
        assert!(counts.learn(&edge(1), at(5), 1));
        assert!(counts.get(&edge(1)).is_some_and(|count| count.is_owned_by(5)));
        assert_eq!(counts.singleton_share(), 1.0);
        assert!(!counts.learn(&edge(1), at(6), 2));
        assert!(counts.get(&edge(1)).is_some_and(|count| !count.is_owned_by(5) && !count.is_owned_by(6)));
        assert_eq!(counts.singleton_share(), 0.0);
    }

    #[test]
    fn values_are_bounded_and_the_rest_is_counted() {
        let counts = counts(MAX_VALUES + 10, MAX_VALUES + 10);
        assert_eq!((counts.facts().count(), counts.overflow()), (MAX_VALUES, 10));
    }

    proptest! {
        #[test]
        fn probabilities_are_probabilities(values in 1usize..50, times in 1usize..500, asked in 0usize..60, parent in 1e-9f64..1.0) {
            let counts = counts(values, times);
            let p = counts.probability(&edge(asked), parent);
            prop_assert!(p > 0.0 && p <= 1.0);
        }
    }
}
