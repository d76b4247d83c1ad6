//! Bounds of a rate, given how many events were seen: exact where counts are small.

use libm::{exp, lgamma, log};

/// Upper bound of the mean of a Poisson count at a confidence (0–1), given how many were seen: exact (Garwood, 1936). For none
/// seen and 95 % it is 3.0, the "rule of three".
pub fn poisson_upper(seen: u64, confidence: f64) -> f64 {
    let above = |mean: f64| poisson_at_most(seen, mean) > 1.0 - confidence;
    let mut high = 1.0;
    while above(high) {
        high *= 2.0;
    }
    bisect(0.0, high, above)
}

/// Lower bound at a confidence; 0 when nothing was seen.
pub fn poisson_lower(seen: u64, confidence: f64) -> f64 {
    if seen == 0 {
        return 0.0;
    }
    bisect(0.0, seen as f64, |mean| 1.0 - poisson_at_most(seen - 1, mean) < 1.0 - confidence)
}

fn poisson_at_most(seen: u64, mean: f64) -> f64 {
    if mean <= 0.0 {
        return 1.0;
    }
    // By logarithms: exp(−mean) alone is nothing for means that a noisy host reaches.
    let term = |k: u64| exp(k as f64 * log(mean) - mean - lgamma(k as f64 + 1.0));
    (0..=seen).map(term).sum()
}

/// Where a property that holds at `low` stops holding.
pub fn bisect(mut low: f64, mut high: f64, holds: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..200 {
        let middle = f64::midpoint(low, high);
        if holds(middle) { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bounds_are_those_of_the_tables() {
        assert!((poisson_upper(0, 0.95) - 2.9957).abs() < 1e-3);
        assert!((poisson_upper(5, 0.975) - 11.668).abs() < 1e-2);
        assert!((poisson_lower(5, 0.975) - 1.6235).abs() < 1e-3);
        // By chi-squared quantiles: half of that of 4,002 degrees of freedom.
        assert!((poisson_upper(2_000, 0.95) - 2_075.0).abs() < 2.0, "{}", poisson_upper(2_000, 0.95));
    }

    proptest! {
        #[test]
        fn a_bound_holds_what_it_bounds(seen in 0u64..2_000) {
            prop_assert!(poisson_lower(seen, 0.975) <= seen as f64 && poisson_upper(seen, 0.975) > seen as f64);
        }
    }
}
