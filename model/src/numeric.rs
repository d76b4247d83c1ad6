//! One-sided surprise of a number: how seldom was it this large or larger?

use libm::log2;
use serde::{Deserialize, Serialize};

/// Bins of a quarter of a power of two each: up to 2^32; the last one also holds what is larger.
const BINS: usize = 128;
const PER_OCTAVE: f64 = 4.0;
/// Weight of the pooled distribution, in observations.
const POOL: f64 = 50.0;

/// A distribution of non-negative numbers on a logarithmic scale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Numbers {
    bins: Vec<u32>,
    n: u32,
    largest: f64,
}

impl Default for Numbers {
    fn default() -> Self {
        Self { bins: vec![0; BINS], n: 0, largest: 0.0 }
    }
}

impl Numbers {
    /// Adds a number.
    pub fn learn(&mut self, x: f64) {
        if let Some(bin) = self.bins.get_mut(bin_of(x))
            && self.n < u32::MAX
        {
            *bin += 1;
            self.n += 1;
            self.largest = self.largest.max(x);
        }
    }

    /// Whether numbers that were read from a snapshot can have been learnt.
    pub(crate) fn is_sound(&self) -> bool {
        let sum: u64 = self.bins.iter().map(|bin| u64::from(*bin)).sum();
        self.bins.len() == BINS && sum == u64::from(self.n) && self.largest.is_finite() && self.largest >= 0.0
    }

    /// Observations.
    pub fn len(&self) -> u32 {
        self.n
    }

    /// Whether nothing was observed.
    pub fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// How many were at least this large.
    fn at_least(&self, x: f64) -> u32 {
        self.bins.iter().skip(bin_of(x)).sum()
    }

    /// Mean of `log2(1 + x)` over the larger half, in octaves, to the precision of the bins; 0 when nothing was observed.
    pub(crate) fn larger_half(&self) -> f64 {
        let half = f64::from(self.n) / 2.0;
        let (mut taken, mut sum) = (0.0, 0.0);
        for (bin, count) in self.bins.iter().enumerate().rev() {
            let of_it = f64::from(*count).min(half - taken);
            sum += of_it * bin as f64 / PER_OCTAVE;
            taken += of_it;
        }
        if half > 0.0 { sum / half } else { 0.0 }
    }

    fn share_at_least(&self, x: f64) -> f64 {
        if self.n == 0 { 1.0 } else { f64::from(self.at_least(x)) / f64::from(self.n) }
    }

    /// Bits of surprise: `−log2[(1 + #{cal ≥ x} + 50 · P_pool(≥ x)) / (51 + n)]`, and beyond the largest number ever seen
    /// one more for each doubling. Small numbers are never surprising.
    pub fn bits(&self, x: f64, pool: &Numbers) -> f64 {
        let tail =
            (1.0 + f64::from(self.at_least(x)) + POOL * pool.share_at_least(x)) / (1.0 + POOL + f64::from(self.n));
        let beyond = if self.n > 0 && x > self.largest && self.largest > 0.0 { log2(x / self.largest) } else { 0.0 };
        (-log2(tail)).max(0.0) + beyond
    }
}

fn bin_of(x: f64) -> usize {
    ((log2(1.0 + x.max(0.0)) * PER_OCTAVE) as usize).min(BINS - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_largest_ever_is_worth_its_rarity_and_its_distance() {
        let mut numbers = Numbers::default();
        (0..1000).for_each(|n| numbers.learn(f64::from(n % 100)));
        let pool = numbers.clone();
        assert!(numbers.bits(0.0, &pool) < 0.1);
        let at_edge = numbers.bits(150.0, &pool);
        assert!((9.0..11.5).contains(&at_edge), "{at_edge}");
        assert!((numbers.bits(99.0 * 1024.0, &pool) - 20.0).abs() < 1.0);
    }

    #[test]
    fn a_backup_larger_than_the_scale_is_learnt_too() {
        let mut numbers = Numbers::default();
        let backup = 8.0 * 1024.0 * 1024.0 * 1024.0;
        (0..200).for_each(|n| numbers.learn(if n % 10 == 0 { backup } else { 1000.0 }));
        assert!(numbers.bits(backup, &numbers.clone()) < 4.0, "every tenth flow is one");
        assert!(numbers.bits(64.0 * backup, &numbers.clone()) > 6.0, "and a larger one is still surprising");
    }

    proptest! {
        #[test]
        fn surprise_never_falls_with_the_number(mut values in proptest::collection::vec(0.0f64..1e9, 1..200), a in 0.0f64..1e9, b in 0.0f64..1e9) {
            let mut numbers = Numbers::default();
            values.drain(..).for_each(|x| numbers.learn(x));
            let (small, large) = (a.min(b), a.max(b));
            prop_assert!(numbers.bits(small, &numbers) <= numbers.bits(large, &numbers) + 1e-9);
        }
    }
}
