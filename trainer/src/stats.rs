//! The few statistics that a claim about detection needs, exact where counts are small.

use model::random::Random;
use model::rate::bisect;
pub use model::rate::{poisson_lower, poisson_upper};

/// The count below which a share of the counts of a negative binomial distribution lies: of a Poisson process whose rate is
/// only known from `k` independent events seen before, so that `mean` more are expected.
pub fn count_quantile(k: f64, mean: f64, share: f64) -> u64 {
    let seen = k / (k + mean);
    let mut term = seen.powf(k);
    let (mut sum, mut count) = (term, 0);
    while sum < share && count < 1_000_000 {
        term *= (k + count as f64) / (count + 1) as f64 * (1.0 - seen);
        sum += term;
        count += 1;
    }
    count
}

/// Two-sided interval of a share, exact (Clopper and Pearson, 1934).
pub fn clopper_pearson(found: u64, of: u64, confidence: f64) -> (f64, f64) {
    if of == 0 {
        return (0.0, 1.0);
    }
    let tail = (1.0 - confidence) / 2.0;
    let low = if found == 0 { 0.0 } else { bisect(0.0, 1.0, |p| 1.0 - binomial_at_most(found - 1, of, p) < tail) };
    let high = if found == of { 1.0 } else { bisect(0.0, 1.0, |p| binomial_at_most(found, of, p) > tail) };
    (low, high)
}

fn binomial_at_most(found: u64, of: u64, p: f64) -> f64 {
    let log_choose = |k: u64| (0..k).map(|i| ((of - i) as f64 / (i + 1) as f64).ln()).sum::<f64>();
    let (yes, no) = (p.ln(), (1.0 - p).ln());
    (0..=found).map(|k| (log_choose(k) + k as f64 * yes + (of - k) as f64 * no).exp()).sum::<f64>().min(1.0)
}

/// Chance that a positive scores higher than a negative, ties counted half; `None` without both.
pub fn auc(scored: &[(f64, bool)]) -> Option<f64> {
    let mut sorted: Vec<&(f64, bool)> = scored.iter().collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let positives = scored.iter().filter(|(_, positive)| *positive).count() as f64;
    let negatives = scored.len() as f64 - positives;
    if positives == 0.0 || negatives == 0.0 {
        return None;
    }
    let (mut at, mut rank_sum) = (0, 0.0);
    while at < sorted.len() {
        let ties = sorted[at..].iter().take_while(|other| other.0 == sorted[at].0).count();
        let mean_rank = at as f64 + (ties as f64 + 1.0) / 2.0;
        rank_sum += mean_rank * sorted[at..at + ties].iter().filter(|other| other.1).count() as f64;
        at += ties;
    }
    Some((rank_sum - positives * (positives + 1.0) / 2.0) / (positives * negatives))
}

/// Average precision as scikit-learn defines it: ties are taken together. `None` without positives.
pub fn average_precision(scored: &[(f64, bool)]) -> Option<f64> {
    let mut sum = 0.0;
    let mut recall_before = 0.0;
    for point in curve(scored) {
        sum += (point.recall - recall_before) * point.precision;
        recall_before = point.recall;
    }
    scored.iter().any(|(_, positive)| *positive).then_some(sum)
}

/// A threshold's place on the curves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Score at or above which there is an alarm.
    pub threshold: f64,
    /// Share of positives above it.
    pub recall: f64,
    /// Share of what is above it that is positive.
    pub precision: f64,
    /// Share of negatives above it.
    pub false_share: f64,
}

/// Both curves at every distinct score, the highest first.
pub fn curve(scored: &[(f64, bool)]) -> Vec<Point> {
    let mut sorted: Vec<&(f64, bool)> = scored.iter().collect();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let positives = scored.iter().filter(|(_, positive)| *positive).count().max(1) as f64;
    let negatives = scored.iter().filter(|(_, positive)| !*positive).count().max(1) as f64;
    let (mut hits, mut alarms, mut points) = (0.0, 0.0, Vec::new());
    for (at, (score, positive)) in sorted.iter().map(|pair| (pair.0, pair.1)).enumerate() {
        hits += f64::from(u8::from(positive));
        alarms += 1.0;
        if sorted.get(at + 1).is_none_or(|next| next.0 < score) {
            let false_share = (alarms - hits) / negatives;
            points.push(Point { threshold: score, recall: hits / positives, precision: hits / alarms, false_share });
        }
    }
    points
}

/// Percentile interval of a mean over resampled items (Efron, 1979), seeded. `None` without items.
pub fn bootstrap(values: &[f64], rounds: usize, confidence: f64, seed: u64) -> Option<(f64, f64)> {
    if values.is_empty() {
        return None;
    }
    let mut random = Random::new(seed);
    let mut means: Vec<f64> = (0..rounds)
        .map(|_| values.iter().map(|_| values[random.below(values.len())]).sum::<f64>() / values.len() as f64)
        .collect();
    let tail = (1.0 - confidence) / 2.0;
    Some((quantile(&mut means, tail), quantile(&mut means, 1.0 - tail)))
}

/// The value below which a share of the values lies, interpolated as numpy does; NaN without values. Sorts them.
pub fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let Some(last) = values.len().checked_sub(1) else { return f64::NAN };
    let at = share.clamp(0.0, 1.0) * last as f64;
    let (low, high) = (values[at.floor() as usize], values[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shares_are_as_in_the_tables() {
        let (low, high) = clopper_pearson(0, 10, 0.95);
        assert!(low == 0.0 && (high - 0.3085).abs() < 1e-3, "{high}");
        let (low, high) = clopper_pearson(7, 10, 0.95);
        assert!((low - 0.3475).abs() < 1e-3 && (high - 0.9333).abs() < 1e-3, "{low} {high}");
    }

    #[test]
    fn what_is_to_be_expected_is_wider_than_the_rate_is_known() {
        // By the table of the negative binomial distribution with r = 6, p = 6/14.
        assert_eq!((count_quantile(6.0, 8.0, 0.05), count_quantile(6.0, 8.0, 0.95)), (2, 16));
        // A rate that is known well leaves the Poisson distribution.
        assert_eq!((count_quantile(1e7, 8.0, 0.05), count_quantile(1e7, 8.0, 0.95)), (4, 13));
    }

    #[test]
    fn curves_are_those_of_the_textbooks() {
        let scored = [(0.1, false), (0.4, false), (0.35, true), (0.8, true)];
        assert_eq!(auc(&scored), Some(0.75));
        assert!((average_precision(&scored).unwrap() - 0.8333).abs() < 1e-3);
        assert_eq!(auc(&[(1.0, true)]), None);
        let constant = [(1.0, true), (1.0, false), (1.0, false), (1.0, false)];
        assert_eq!((auc(&constant), average_precision(&constant)), (Some(0.5), Some(0.25)));
    }

    #[test]
    fn a_bootstrap_is_seeded_and_holds_the_mean() {
        let values: Vec<f64> = (0..40).map(|n| f64::from(n % 4 == 0)).collect();
        let (low, high) = bootstrap(&values, 2_000, 0.95, 7).unwrap();
        assert!(low < 0.25 && high > 0.25 && low > 0.05 && high < 0.5, "{low} {high}");
        assert_eq!(bootstrap(&values, 2_000, 0.95, 7), Some((low, high)));
    }

    proptest! {
        #[test]
        fn turning_scores_around_turns_the_auc_around(
            scored in proptest::collection::vec((0u8..20, any::<bool>()), 2..60)
        ) {
            let scored: Vec<(f64, bool)> = scored.into_iter().map(|(score, yes)| (f64::from(score), yes)).collect();
            let turned: Vec<(f64, bool)> = scored.iter().map(|(score, yes)| (-score, *yes)).collect();
            if let (Some(one), Some(other)) = (auc(&scored), auc(&turned)) {
                prop_assert!((one + other - 1.0).abs() < 1e-9);
            }
        }
    }
}
