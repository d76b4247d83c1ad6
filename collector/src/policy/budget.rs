//! How many people are disturbed a day: by rank, not first come, so that a flood cannot use the budget up.
//!
//! A finding is raised above Low while the day's budget lasts and its workload has not had a third of it; beyond that only if it
//! holds a never-seen exec edge or destination, or is clearly more surprising than the best one sent. The rest stays Low, is
//! counted, and becomes one finding of its own when there is much of it. So the rate of what disturbs people is controlled
//! here, day by day, and never by moving the threshold: denials ask that one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use model::event::Time;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

const DAY_NS: u64 = 24 * 3_600 * 1_000_000_000;
/// Above the budget a finding has to be this much more surprising than the best one sent, in bits.
const MARGIN_BITS: f64 = 6.0;
/// One workload gets this part of the budget, so that a noisy one does not speak for the whole host.
const SHARE: u32 = 3;
/// Findings held back that are told apart a day; beyond it they are counted at every attempt.
const MAX_HELD: usize = 4_096;
/// So many times the budget held back in a day are a storm, and at least so many findings.
const STORM: (usize, usize) = (3, 10);

/// What was spent today.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Budget {
    day: u64,
    spent: u32,
    /// What each workload had of it; as many as the model knows workloads, at most.
    shares: BTreeMap<Arc<str>, u32>,
    best: f64,
    held_back: u64,
    /// Held back today, by workload; [`MAX_HELD`] in all.
    kept_low: BTreeMap<Arc<str>, BTreeSet<Uuid>>,
}

/// A finding that wants to be more than Low.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Which.
    pub id: Uuid,
    /// Whose.
    pub workload: Arc<str>,
    /// Bits of its episode.
    pub score: f64,
    /// It holds a never-seen exec edge or destination: it is never held back.
    pub class_a: bool,
}

/// Far more is found than people will be disturbed about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storm {
    /// Findings held back today.
    pub held: usize,
    /// Workloads that they are about.
    pub workloads: usize,
    /// The workload with the most of them, and how many.
    pub loudest: (Arc<str>, usize),
    /// Findings a day that are allowed.
    pub allowed: u32,
}

impl Budget {
    /// Whether a finding may be raised above Low now.
    pub fn admit(&mut self, candidate: &Candidate, at: Time, pages_per_day: u32) -> bool {
        self.begin_day(at);
        let had = self.shares.get(&candidate.workload).copied().unwrap_or(0);
        let within = self.spent < pages_per_day && had < pages_per_day.div_ceil(SHARE);
        let admitted = within || candidate.class_a || candidate.score >= self.best + MARGIN_BITS;
        if admitted {
            self.spent = self.spent.saturating_add(1);
            self.shares.insert(candidate.workload.clone(), had.saturating_add(1));
            self.best = self.best.max(candidate.score);
        } else {
            self.hold_back(candidate);
        }
        admitted
    }

    fn begin_day(&mut self, at: Time) {
        let day = at.unix_ns / DAY_NS;
        if day != self.day {
            *self = Self { day, held_back: self.held_back, ..Self::default() };
        }
    }

    fn hold_back(&mut self, candidate: &Candidate) {
        let full = self.held_today() >= MAX_HELD;
        if full || self.kept_low.entry(candidate.workload.clone()).or_default().insert(candidate.id) {
            self.held_back += 1;
        }
    }

    /// Findings that stayed Low for want of budget, ever.
    pub fn held_back(&self) -> u64 {
        self.held_back
    }

    fn held_today(&self) -> usize {
        self.kept_low.values().map(BTreeSet::len).sum()
    }

    /// The storm of this day, if there is one.
    pub fn storm(&self, at: Time, pages_per_day: u32) -> Option<Storm> {
        let held = self.held_today();
        let many = (STORM.0 * pages_per_day as usize).max(STORM.1);
        if held < many || at.unix_ns / DAY_NS != self.day {
            return None;
        }
        let (loudest, of) = self.kept_low.iter().max_by_key(|(_, held)| held.len())?;
        let loudest = (loudest.clone(), of.len());
        Some(Storm { held, workloads: self.kept_low.len(), loudest, allowed: pages_per_day })
    }
}

impl fmt::Display for Storm {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { held, workloads, loudest: (loudest, of), allowed } = self;
        let plural = if *workloads == 1 { "" } else { "s" };
        write!(
            out,
            "{held} findings of {workloads} workload{plural} were held back at Low today, {of} of them of {loudest}: "
        )?;
        write!(out, "policy.pages_per_day allows {allowed}, and a third of that a workload")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn day(number: u64) -> Time {
        Time { unix_ns: number * DAY_NS, boot_ns: number }
    }

    fn of(id: u128, workload: &str, score: f64) -> Candidate {
        Candidate { id: Uuid::from_u128(id), workload: workload.into(), score, class_a: false }
    }

    #[test]
    fn a_flood_does_not_hide_what_is_worse() {
        let mut budget = Budget::default();
        let admitted = (0..100).filter(|n| budget.admit(&of(*n, &format!("w{n}"), 20.0), day(5), 5)).count();
        assert_eq!((admitted, budget.held_back()), (5, 95));
        assert!(budget.admit(&of(1_000, "w", 26.0), day(5), 5), "6 bits more than the best one");
        assert!(!budget.admit(&of(1_000, "w", 31.9), day(5), 5));
        let never_seen = Candidate { class_a: true, ..of(1_000, "w", 1.0) };
        assert!(budget.admit(&never_seen, day(5), 5), "never-seen facts are never held back");
        assert!(budget.admit(&of(1_000, "w", 20.0), day(6), 5));
    }

    #[test]
    fn a_noisy_workload_leaves_something_for_the_others() {
        let mut budget = Budget::default();
        let noisy = (0..50).filter(|n| budget.admit(&of(*n, "noisy", 20.0), day(5), 6)).count();
        assert_eq!(noisy, 2, "a third of six");
        assert!(budget.admit(&of(100, "quiet", 13.0), day(5), 6), "although it is less surprising");
    }

    #[test]
    fn much_that_is_held_back_is_a_storm_until_the_day_is_over() {
        let mut budget = Budget::default();
        let ask = |budget: &mut Budget, which: std::ops::Range<u128>, workload: &str| {
            which.filter(|n| budget.admit(&of(*n, workload, 20.0), day(5), 5)).count()
        };
        assert_eq!(ask(&mut budget, 0..16, "noisy"), 2);
        assert_eq!(budget.storm(day(5), 5), None, "two were sent, fourteen are not fifteen");
        assert_eq!(ask(&mut budget, 50..54, "other"), 2);
        let storm = budget.storm(day(5), 5).expect("a storm");
        assert_eq!((storm.held, storm.workloads, &*storm.loudest.0, storm.loudest.1), (16, 2, "noisy", 14));
        ask(&mut budget, 2..16, "noisy");
        assert_eq!(budget.storm(day(5), 5), Some(storm), "the same ones again are not more");
        assert_eq!(budget.storm(day(6), 5), None);
    }

    #[test]
    fn what_an_older_agent_kept_is_taken_over() {
        let older = r#"{"day":5,"spent":5,"best":20.0,"held_back":7,"held":["00000000-0000-0000-0000-000000000001"]}"#;
        let budget: Budget = serde_json::from_str(older).expect("a budget");
        assert_eq!((budget.spent, budget.held_back()), (5, 7));
    }

    proptest! {
        #[test]
        fn the_budget_is_never_exceeded(
            asked in proptest::collection::vec((0u8..6, 0.0f64..60.0, proptest::bool::weighted(0.05)), 0..300),
            pages in 0u32..12,
        ) {
            let (mut budget, mut excused) = (Budget::default(), 0);
            let (mut sent, mut best) = (BTreeMap::<u8, u32>::new(), 0.0_f64);
            for (n, (workload, score, class_a)) in asked.iter().enumerate() {
                let candidate = Candidate { class_a: *class_a, ..of(n as u128, &workload.to_string(), *score) };
                if budget.admit(&candidate, day(5), pages) {
                    let excuse = *class_a || *score >= best + MARGIN_BITS;
                    excused += u32::from(excuse);
                    *sent.entry(*workload).or_default() += u32::from(!excuse);
                    best = best.max(*score);
                }
            }
            prop_assert!(sent.values().sum::<u32>() <= pages, "{sent:?} of {pages}");
            prop_assert!(sent.values().all(|sent| *sent <= pages.div_ceil(SHARE)), "{sent:?} of {pages}");
            let all: u64 = u64::from(sent.values().sum::<u32>() + excused) + budget.held_back();
            prop_assert_eq!(all, asked.len() as u64, "what is not sent is counted");
        }
    }
}
