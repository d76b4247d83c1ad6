//! How many people are disturbed a day: by rank, not first come, so that a flood cannot use the budget up.

use std::collections::BTreeSet;

use model::event::Time;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

const DAY_NS: u64 = 24 * 3_600 * 1_000_000_000;
/// Above the budget a finding has to be this much more surprising than the best one sent, in bits.
const MARGIN_BITS: f64 = 6.0;
/// Findings held back that are told apart a day; beyond it they are counted at every attempt.
const MAX_HELD: usize = 4_096;

/// What was spent today.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    day: u64,
    spent: u32,
    best: f64,
    held_back: u64,
    held: BTreeSet<Uuid>,
}

impl Budget {
    /// Whether a finding of this score (bits) may be raised above Low now. `class_a`: it holds a never-seen exec edge or
    /// destination, which is never held back.
    pub fn admit(&mut self, id: Uuid, at: Time, score: f64, class_a: bool, pages_per_day: u32) -> bool {
        let day = at.unix_ns / DAY_NS;
        if day != self.day {
            *self = Self { day, held_back: self.held_back, ..Self::default() };
        }
        let admitted = self.spent < pages_per_day || class_a || score >= self.best + MARGIN_BITS;
        if admitted {
            self.spent = self.spent.saturating_add(1);
            self.best = self.best.max(score);
        } else if self.held.len() >= MAX_HELD || self.held.insert(id) {
            self.held_back += 1;
        }
        admitted
    }

    /// Findings that stayed Low for want of budget, ever.
    pub fn held_back(&self) -> u64 {
        self.held_back
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_does_not_hide_what_is_worse() {
        let mut budget = Budget::default();
        let one = Uuid::from_u128(1_000);
        let at = Time { unix_ns: 5 * DAY_NS, boot_ns: 1 };
        let admitted = (0..100).filter(|n| budget.admit(Uuid::from_u128(*n), at, 20.0, false, 5)).count();
        assert_eq!(admitted, 5);
        assert_eq!(budget.held_back(), 95);
        assert!(budget.admit(one, at, 26.0, false, 5), "6 bits more than the best one");
        assert!(!budget.admit(one, at, 31.9, false, 5));
        assert!(budget.admit(one, at, 1.0, true, 5), "never-seen facts are never held back");
        let tomorrow = Time { unix_ns: 6 * DAY_NS, boot_ns: 2 };
        assert!(budget.admit(one, tomorrow, 20.0, false, 5));
    }
}
