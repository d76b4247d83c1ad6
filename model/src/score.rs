//! What a vector is worth, and how several such numbers become one.

use serde::{Deserialize, Serialize};

use crate::features::COORDINATES;

/// Contributions of different coordinates that count in an episode.
pub(crate) const TOP_SCORES: usize = 3;
/// Different facts that count in an episode.
pub(crate) const TOP_FACTS: usize = 5;

/// What a vector is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AnomalyScore {
    /// Bits; higher = more anomalous. Ordinary vectors lie around 0, below it as often as above.
    pub value: f64,
    /// Cuts after which the vector is isolated, in the mean over the trees.
    pub depth: f64,
    /// The same for the median row.
    pub median_depth: f64,
    /// Bits beyond the benign range, all coordinates together.
    pub gap: f64,
    /// The positive part of the value by coordinate: sums to `max(0, value)`.
    pub contributions: [f64; COORDINATES],
}

impl AnomalyScore {
    /// Whether everything about it is a number.
    pub(crate) fn is_finite(&self) -> bool {
        let numbers = [self.value, self.depth, self.median_depth, self.gap];
        numbers.iter().chain(&self.contributions).all(|number| number.is_finite())
    }
}

/// Everything in proportion. Where one of the two finds nothing, its value below 0 takes from what the other one found, and
/// so from every part of it alike.
pub(crate) fn mix(share: f64, own: &AnomalyScore, pool: &AnomalyScore) -> AnomalyScore {
    let between = |own: f64, pool: f64| share * own + (1.0 - share) * pool;
    let value = between(own.value, pool.value);
    let mut contributions = pool.contributions;
    for (slot, own) in contributions.iter_mut().zip(own.contributions) {
        *slot = between(own, *slot);
    }
    let sum: f64 = contributions.iter().sum();
    if sum > 0.0 {
        contributions = contributions.map(|part| part * value.max(0.0) / sum);
    }
    AnomalyScore {
        value,
        depth: between(own.depth, pool.depth),
        median_depth: between(own.median_depth, pool.median_depth),
        gap: between(own.gap, pool.gap),
        contributions,
    }
}

/// The forest's part of an episode, of the largest contribution of each coordinate.
pub(crate) fn strongest<'a>(contributions: impl Iterator<Item = &'a f64>) -> f64 {
    top(contributions, TOP_SCORES)
}

/// The sum of the largest.
pub(crate) fn top<'a>(values: impl Iterator<Item = &'a f64>, most: usize) -> f64 {
    let mut sorted: Vec<f64> = values.copied().collect();
    sorted.sort_by(|a, b| b.total_cmp(a));
    // Not `sum`, which makes -0 of nothing.
    sorted.iter().take(most).fold(0.0, |sum, value| sum + value)
}
