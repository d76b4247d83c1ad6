//! What a detector says about made-up vectors, and whether that can be relied on.

use crate::event::Time;
use crate::features::{COORDINATES, Coordinate, FeatureVector};
use crate::schema::SCHEMA;
use crate::score::{AnomalyScore, TOP_FACTS, TOP_SCORES};
use crate::state::HealthState;

/// Bits by which made-up vectors must differ: less is the same.
const SAME: f64 = 1e-6;
/// Made-up vectors lie so many bits beyond the benign range in one coordinate, and twice as many; each step must tell by half
/// as much.
pub(crate) const BEYOND: f64 = 8.0;

/// What a detector said, whatever the threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Exam {
    /// Bits of a vector without any surprise, and the cuts that isolate it.
    quiet: f64,
    depth: f64,
    /// Bits of the vector that stands out least.
    strange: f64,
    /// Bits that an episode is sure to be able to reach.
    most: f64,
    is_finite: bool,
    /// Every vector is isolated after the same cuts.
    is_constant: bool,
    /// The rows are not all the same, as far as a bit matters.
    varies: bool,
    /// What is strange stands out, and the more the stranger it is.
    stands_out: bool,
}

impl Exam {
    /// Asks a detector, given the edges of the benign range.
    pub fn of(limits: [f64; COORDINATES], varies: bool, score: impl Fn(&FeatureVector) -> AnomalyScore) -> Self {
        let attainable = FeatureVector { bits: SCHEMA.map(|row| row.attainable) };
        let quiet = score(&FeatureVector::default());
        let so_far_out = |coordinate: Coordinate, times: f64| {
            let mut vector = FeatureVector::default();
            vector.raise(coordinate, limits[coordinate as usize] + times * BEYOND);
            score(&vector)
        };
        let beyond = Coordinate::ALL.map(|coordinate| so_far_out(coordinate, 1.0));
        let rises = |coordinate: Coordinate| {
            so_far_out(coordinate, 2.0).value > beyond[coordinate as usize].value + BEYOND / 2.0
        };
        let most = reachable(&score(&attainable));
        let strange = beyond.iter().map(|score| score.value).fold(f64::INFINITY, f64::min);
        Self {
            quiet: quiet.value,
            depth: quiet.depth,
            strange,
            most,
            is_finite: beyond.iter().chain([&quiet]).all(|score| score.value.is_finite()) && most.is_finite(),
            is_constant: beyond.iter().all(|score| (score.depth - quiet.depth).abs() < SAME),
            varies,
            stands_out: strange >= quiet.value + BEYOND / 2.0 && Coordinate::ALL.into_iter().all(rises),
        }
    }

    /// What is wrong with the forest of one workload, given the lowest threshold that it may have to stay below. Where all rows are
    /// the same no tree can tell anything apart, and the range alone does: that is no fault of a service that always does the
    /// same.
    pub fn fault(&self, level: f64, now: Time) -> Option<HealthState> {
        self.fault_if(self.is_constant && self.varies, level, now)
    }

    /// The state of a model that judges by it, given the threshold. No host does always the same.
    pub fn state(&self, level: f64, now: Time) -> HealthState {
        let healthy = || match self.most {
            most if level > most => HealthState::Unreachable { level, most },
            _ => HealthState::Healthy,
        };
        self.fault_if(self.is_constant, level, now).unwrap_or_else(healthy)
    }

    fn fault_if(&self, is_constant: bool, level: f64, now: Time) -> Option<HealthState> {
        let Self { quiet, depth, strange, .. } = *self;
        match () {
            () if !self.is_finite => Some(HealthState::NonFinite { scores: 0, last: now }),
            () if is_constant => Some(HealthState::Constant { depth, asked: COORDINATES + 1 }),
            () if quiet >= level || !self.stands_out => Some(HealthState::Saturated { quiet, strange, level }),
            () => None,
        }
    }
}

/// Bits that an episode is sure to be able to reach: three coordinates as far as the schema says, five programs of new names
/// that have no file, and calls that nobody ever made.
fn reachable(score: &AnomalyScore) -> f64 {
    let mut parts: [f64; COORDINATES] = score.contributions;
    parts.sort_by(|a, b| b.total_cmp(a));
    let bits = |coordinate: Coordinate| coordinate.schema().attainable;
    parts.iter().take(TOP_SCORES).sum::<f64>() + TOP_FACTS as f64 * bits(Coordinate::Lineage) + bits(Coordinate::Seq)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A detector that says what a function says, as depth below ten cuts.
    fn asked(says: fn(f64) -> f64, limits: [f64; COORDINATES], varies: bool) -> Exam {
        Exam::of(limits, varies, |vector| {
            let value = says(vector.bits.iter().sum());
            let contributions =
                vector.bits.map(|bits| bits * value.max(0.0) / vector.bits.iter().sum::<f64>().max(1.0));
            AnomalyScore { value, depth: 10.0 - value, median_depth: 10.0, gap: 0.0, contributions }
        })
    }

    fn state_of(says: fn(f64) -> f64) -> HealthState {
        asked(says, [1.0; COORDINATES], true).state(30.0, Time::default())
    }

    #[test]
    fn trees_that_tell_nothing_apart_are_a_fault_where_there_is_something_to_tell() {
        let by_range = |vector: &FeatureVector| {
            let gap: f64 = vector.bits.iter().map(|bits| (bits - 1.0).max(0.0)).sum();
            AnomalyScore { value: gap, depth: 8.0, median_depth: 8.0, gap, ..AnomalyScore::default() }
        };
        let [alike, varied] = [false, true].map(|varies| Exam::of([1.0; COORDINATES], varies, by_range));
        let constant = HealthState::Constant { depth: 8.0, asked: 9 };
        assert_eq!(alike.fault(12.0, Time::default()), None);
        assert_eq!(varied.fault(12.0, Time::default()), Some(constant.clone()));
        assert_eq!([alike, varied].map(|exam| exam.state(12.0, Time::default())), [constant.clone(), constant]);
        let broken = asked(|_| 40.0, [1.0; COORDINATES], false).fault(12.0, Time::default());
        assert!(matches!(broken, Some(HealthState::Saturated { .. })), "and nothing else is forgiven: {broken:?}");
    }

    #[test]
    fn a_detector_that_does_not_tell_strange_from_ordinary_is_not_healthy() {
        assert_eq!(state_of(|bits| bits), HealthState::Healthy);
        assert!(matches!(state_of(|_| 7.0), HealthState::Constant { asked: 9, .. }));
        assert!(matches!(state_of(|bits| bits.min(2.0)), HealthState::Saturated { strange, .. } if strange == 2.0));
        assert!(matches!(state_of(|bits| 31.0 + bits), HealthState::Saturated { quiet, .. } if quiet == 31.0));
        assert!(matches!(state_of(|bits| bits / 0.0), HealthState::NonFinite { .. }));
        // Whatever it says, it says it without order: one of the eight does not stand out.
        let random = |bits: f64| crate::random::Random::new(bits.to_bits()).unit() * 40.0;
        let each: Vec<HealthState> = (1..=50)
            .map(|edge| {
                let limits = std::array::from_fn(|at| f64::from(edge * 8 + at as u32));
                asked(random, limits, true).state(50.0, Time::default())
            })
            .collect();
        assert!(each.iter().filter(|state| state.may_deny()).count() <= 2, "{each:?}");
    }
}
