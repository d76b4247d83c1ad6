//! The rows that must not win.

use super::{Detector, Seen};

/// The surprise of the eight coordinates added up: our features without a forest.
pub struct SumOfBits;

impl Detector for SumOfBits {
    fn name(&self) -> &str {
        "sum of surprise bits, no forest"
    }

    fn learn(&mut self, _: &Seen) {}

    fn score(&mut self, seen: &Seen) -> anyhow::Result<f64> {
        Ok(seen.verdict.vector.bits.iter().sum())
    }
}

/// Says the same about everything.
pub struct Constant;

impl Detector for Constant {
    fn name(&self) -> &str {
        "constant"
    }

    fn learn(&mut self, _: &Seen) {}

    fn score(&mut self, _: &Seen) -> anyhow::Result<f64> {
        Ok(1.0)
    }
}

/// Draws lots.
pub struct Random(model::random::Random);

impl Random {
    /// By seed.
    pub fn new(seed: u64) -> Self {
        Self(model::random::Random::new(seed ^ 0x7261_6e64_6f6d))
    }
}

impl Detector for Random {
    fn name(&self) -> &str {
        "random"
    }

    fn learn(&mut self, _: &Seen) {}

    fn score(&mut self, _: &Seen) -> anyhow::Result<f64> {
        Ok(self.0.unit())
    }
}
