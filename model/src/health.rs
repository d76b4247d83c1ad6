//! Whether the model can be relied on: one state with the facts behind it, found by asking the model about made-up vectors.
//!
//! Only a healthy model denies by itself, and a workload that has drifted is denied nothing by itself either. Whatever the
//! state, findings go on.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Model;
use crate::drift::Drifted;
use crate::episode::{TOP_FACTS, TOP_SCORES};
use crate::event::Time;
use crate::features::{COORDINATES, Coordinate, FeatureVector};
use crate::online::{AnomalyScore, AnyDetector, Detector, FIRST_ROWS};
use crate::schema::SCHEMA;

/// How often it is looked, on the boot clock.
const LOOK_NS: u64 = 10_000_000_000;
/// For so long after the last number that is none the model is not relied on.
const NON_FINITE_NS: u64 = 86_400_000_000_000;
/// Bits by which made-up vectors must differ: less is the same.
const SAME: f64 = 1e-6;
/// Made-up vectors lie so many bits beyond the benign range in one coordinate, and twice as many; each step must tell by half
/// as much.
const BEYOND: f64 = 8.0;

/// The state of the model, and the facts behind it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum HealthState {
    /// Nothing is wrong.
    Healthy,
    /// The forest was not grown yet: nothing is anomalous.
    Untrained {
        /// Rows there are. In JSON [`Health`] has the name already, beside which a state lies.
        #[serde(rename = "have")]
        rows: usize,
        /// Rows it is grown from.
        needed: u64,
    },
    /// The forest says the same about everything.
    Constant {
        /// Cuts after which it isolates each made-up vector.
        depth: f64,
        /// Made-up vectors.
        asked: usize,
    },
    /// What is ordinary is over the threshold, or what is strange does not stand out, or not the more the stranger it is.
    Saturated {
        /// Bits of a vector without any surprise.
        quiet: f64,
        /// Bits of the vector that stands out least, of those far beyond the benign range in one coordinate each.
        strange: f64,
        /// Threshold.
        level: f64,
    },
    /// No input is sure to reach the threshold.
    Unreachable {
        /// Threshold.
        level: f64,
        /// Bits that an episode is sure to be able to reach.
        most: f64,
    },
    /// A workload's quantities have walked away from its reference.
    Drifted {
        /// Which, and how far.
        of: Vec<Drifted>,
    },
    /// A score was no number.
    NonFinite {
        /// How many since the model is there.
        scores: u64,
        /// The last one.
        last: Time,
    },
}

impl HealthState {
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self.kind() {
            Kind::Healthy => "healthy",
            Kind::Untrained => "untrained",
            Kind::Constant => "constant",
            Kind::Saturated => "saturated",
            Kind::Unreachable => "unreachable",
            Kind::Drifted => "drifted",
            Kind::NonFinite => "non-finite",
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Healthy => Kind::Healthy,
            Self::Untrained { .. } => Kind::Untrained,
            Self::Constant { .. } => Kind::Constant,
            Self::Saturated { .. } => Kind::Saturated,
            Self::Unreachable { .. } => Kind::Unreachable,
            Self::Drifted { .. } => Kind::Drifted,
            Self::NonFinite { .. } => Kind::NonFinite,
        }
    }

    /// Whether automatic denials may be founded on the model.
    pub fn may_deny(&self) -> bool {
        matches!(self, Self::Healthy)
    }

    /// Whether a person has to look: a young model only has to be waited for, and a drift is a finding of its own.
    pub fn is_fault(&self) -> bool {
        !matches!(self, Self::Healthy | Self::Untrained { .. } | Self::Drifted { .. })
    }
}

/// A state without its facts: they may change while it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    Healthy,
    Untrained,
    Constant,
    Saturated,
    Unreachable,
    Drifted,
    NonFinite,
}

impl fmt::Display for HealthState {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Healthy => write!(out, "healthy"),
            Self::Untrained { rows, needed } => {
                write!(out, "untrained: the forest has {rows} of the {needed} rows that it is grown from")
            }
            Self::Constant { asked: 0, .. } => write!(out, "constant: the detector never finds anything"),
            Self::Constant { depth, asked } => {
                write!(out, "constant: the forest isolates {asked} different vectors after the same {depth:.1} cuts")
            }
            Self::Saturated { quiet, level, .. } if quiet >= level => {
                write!(out, "saturated: a vector without any surprise has {quiet:.1} bits, the threshold is {level:.1}")
            }
            Self::Saturated { quiet, strange, .. } => write!(
                out,
                "saturated: a vector far beyond what is ordinary has {strange:.1} bits, one without any surprise {quiet:.1}"
            ),
            Self::Unreachable { level, most } => {
                write!(out, "unreachable: the threshold is {level:.1} bits, and no episode is sure to reach {most:.1}")
            }
            Self::Drifted { of } => {
                let named: Vec<String> = of.iter().map(Drifted::to_string).collect();
                write!(out, "drifted: {}", named.join("; "))
            }
            Self::NonFinite { scores, .. } => write!(out, "non-finite: {scores} scores were no numbers"),
        }
    }
}

/// Whether the model can be relied on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// State.
    #[serde(flatten)]
    pub state: HealthState,
    /// Since when, to ten seconds.
    pub since: Time,
    /// Rows in the reservoir.
    pub rows: usize,
    /// Trees.
    pub trees: usize,
    /// Events of workloads for which there was no room.
    pub unmodelled: u64,
    /// Episodes dropped because too many were open.
    pub dropped: u64,
}

impl fmt::Display for Health {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.state {
            HealthState::Healthy => write!(out, "healthy, {} trees over {} rows", self.trees, self.rows)?,
            _ => write!(out, "{}", self.state)?,
        }
        let lost = [
            (self.unmodelled, "events of workloads beyond the bound"),
            (self.dropped, "episodes dropped because too many were open"),
        ];
        lost.iter().filter(|(count, _)| *count > 0).try_for_each(|(count, what)| write!(out, "; {count} {what}"))
    }
}

/// Watches the model's health from inside.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Vigil {
    kind: Option<Kind>,
    since: Time,
    /// When it was looked last; boot clock.
    looked: u64,
    non_finite: u64,
    last_non_finite: Time,
}

impl Vigil {
    /// A score as it may be used: what is no number is counted and worth nothing.
    pub(crate) fn checked(&mut self, score: AnomalyScore, at: Time) -> AnomalyScore {
        let numbers = [score.value, score.depth, score.median_depth, score.gap];
        if numbers.iter().chain(&score.contributions).all(|number| number.is_finite()) {
            return score;
        }
        self.non_finite = self.non_finite.saturating_add(1);
        self.last_non_finite = at;
        AnomalyScore::default()
    }

    fn non_finite(&self, now: Time) -> Option<HealthState> {
        let recent = now.unix_ns.saturating_sub(self.last_non_finite.unix_ns) < NON_FINITE_NS;
        let state = HealthState::NonFinite { scores: self.non_finite, last: self.last_non_finite };
        (self.non_finite > 0 && recent).then_some(state)
    }
}

impl Model {
    /// Whether the model can be relied on, on this host as a whole.
    pub fn health(&self) -> Health {
        self.health_as(self.state())
    }

    /// The same for one workload: it may have drifted.
    pub fn health_of(&self, workload: &str) -> Health {
        let of = self.drifted(workload);
        match self.state() {
            HealthState::Healthy if !of.is_empty() => {
                let since = of.iter().map(|drifted| drifted.since).min_by_key(|since| since.unix_ns);
                Health { since: since.unwrap_or_default(), ..self.health_as(HealthState::Drifted { of }) }
            }
            state => self.health_as(state),
        }
    }

    /// Quantities of a workload that have walked away from its reference.
    pub fn drifted(&self, workload: &str) -> Vec<Drifted> {
        self.workloads.get(workload).map_or_else(Vec::new, |known| known.drift.drifted().collect())
    }

    /// Every workload of which something has, sorted.
    pub fn all_drifted(&self) -> Vec<(Arc<str>, Vec<Drifted>)> {
        let each = self.workloads.iter().map(|(name, known)| (name.clone(), known.drift.drifted().collect()));
        each.filter(|(_, of): &(_, Vec<Drifted>)| !of.is_empty()).collect()
    }

    /// Looks whether the state has changed, every ten seconds.
    pub(crate) fn keep_vigil(&mut self, at: Time) {
        if self.vigil.kind.is_some() && at.boot_ns < self.vigil.looked.saturating_add(LOOK_NS) {
            return;
        }
        self.vigil.looked = at.boot_ns;
        let kind = Some(self.state().kind());
        if self.vigil.kind != kind {
            self.vigil.since = at;
        }
        self.vigil.kind = kind;
    }

    fn health_as(&self, state: HealthState) -> Health {
        let (rows, trees) = self.detector.size();
        let known = self.vigil.kind == Some(state.kind());
        Health {
            since: if known { self.vigil.since } else { self.now },
            state,
            rows,
            trees,
            unmodelled: self.unmodelled,
            dropped: self.episodes.closed_early(),
        }
    }

    fn state(&self) -> HealthState {
        if let Some(state) = self.vigil.non_finite(self.now) {
            return state;
        }
        let (rows, trees) = self.detector.size();
        match &self.detector {
            AnyDetector::Constant => HealthState::Constant { depth: 0.0, asked: 0 },
            AnyDetector::Forest(_) if trees == 0 => HealthState::Untrained { rows, needed: FIRST_ROWS },
            AnyDetector::Forest(forest) => examined(forest.as_ref(), forest.limits(), self.threshold().level, self.now),
            AnyDetector::Random(_) => examined(&self.detector, [BEYOND; COORDINATES], self.threshold().level, self.now),
        }
    }
}

/// Asks a detector about made-up vectors, given the edges of the benign range.
fn examined(detector: &dyn Detector, limits: [f64; COORDINATES], level: f64, now: Time) -> HealthState {
    let attainable = FeatureVector { bits: SCHEMA.map(|row| row.attainable) };
    let quiet = detector.score(&FeatureVector::default());
    let so_far_out = |coordinate: Coordinate, times: f64| {
        let mut vector = FeatureVector::default();
        vector.raise(coordinate, limits[coordinate as usize] + times * BEYOND);
        detector.score(&vector)
    };
    let beyond = Coordinate::ALL.map(|coordinate| so_far_out(coordinate, 1.0));
    let rises =
        |coordinate: Coordinate| so_far_out(coordinate, 2.0).value > beyond[coordinate as usize].value + BEYOND / 2.0;
    let most = reachable(&detector.score(&attainable));
    let strange = beyond.iter().map(|score| score.value).fold(f64::INFINITY, f64::min);
    if !beyond.iter().all(|score| score.value.is_finite()) || !quiet.value.is_finite() || !most.is_finite() {
        return HealthState::NonFinite { scores: 0, last: now };
    }
    if beyond.iter().all(|score| (score.depth - quiet.depth).abs() < SAME) {
        return HealthState::Constant { depth: quiet.depth, asked: beyond.len() + 1 };
    }
    let stands_out = strange >= quiet.value + BEYOND / 2.0 && Coordinate::ALL.into_iter().all(rises);
    if quiet.value >= level || !stands_out {
        return HealthState::Saturated { quiet: quiet.value, strange, level };
    }
    if level > most { HealthState::Unreachable { level, most } } else { HealthState::Healthy }
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
    use crate::facts::Fact;
    use crate::{Params, Threshold};

    /// A detector that says what a function says, as depth below ten cuts.
    struct Says(fn(f64) -> f64);

    impl Detector for Says {
        fn score(&self, vector: &FeatureVector) -> AnomalyScore {
            let value = (self.0)(vector.bits.iter().sum());
            let contributions =
                vector.bits.map(|bits| bits * value.max(0.0) / vector.bits.iter().sum::<f64>().max(1.0));
            AnomalyScore { value, depth: 10.0 - value, median_depth: 10.0, gap: 0.0, contributions }
        }

        fn offer(&mut self, _: u64, _: Time, _: FeatureVector, _: &[(Fact, f64)]) {}

        fn usual(&self) -> [(f64, f64); COORDINATES] {
            Default::default()
        }

        fn size(&self) -> (usize, usize) {
            (100, 1)
        }
    }

    #[test]
    fn every_state_is_read_as_it_was_told() {
        let last = Time { unix_ns: 5, boot_ns: 3 };
        for state in [
            HealthState::Healthy,
            HealthState::Untrained { rows: 3, needed: 64 },
            HealthState::Constant { depth: 8.0, asked: 16 },
            HealthState::Saturated { quiet: 31.0, strange: 2.0, level: 30.0 },
            HealthState::Unreachable { level: 300.0, most: 90.0 },
            HealthState::Drifted { of: Vec::new() },
            HealthState::NonFinite { scores: 2, last },
        ] {
            let told = Health { state, since: last, rows: 9, trees: 64, unmodelled: 1, dropped: 2 };
            let json = serde_json::to_value(&told).expect("JSON");
            assert_eq!(serde_json::from_value::<Health>(json.clone()).expect("what was told"), told, "{json}");
        }
    }

    fn state_of(says: fn(f64) -> f64) -> HealthState {
        examined(&Says(says), [1.0; COORDINATES], 30.0, Time::default())
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
                examined(
                    &Says(random),
                    std::array::from_fn(|at| f64::from(edge * 8 + at as u32)),
                    50.0,
                    Time::default(),
                )
            })
            .collect();
        assert!(each.iter().filter(|state| state.may_deny()).count() <= 2, "{each:?}");
    }

    #[test]
    fn a_score_that_is_no_number_is_worth_nothing_and_counted_for_a_day() {
        let mut model = Model::new(Params::default()).expect("good parameters");
        let at = |hours: u64| Time { unix_ns: hours * 3_600_000_000_000, boot_ns: hours };
        let broken = AnomalyScore { value: 4.0, gap: f64::NAN, ..AnomalyScore::default() };
        assert_eq!(model.vigil.checked(broken, at(1)), AnomalyScore::default());
        model.tick(at(2));
        assert_eq!(model.health().state, HealthState::NonFinite { scores: 1, last: at(1) });
        assert!(!model.health().state.may_deny() && model.health().state.is_fault());
        model.tick(at(26));
        assert!(matches!(model.health().state, HealthState::Untrained { .. }));
        let Threshold { level, .. } = model.threshold();
        assert_eq!(level, Params::default().start_threshold, "and the threshold is what it was");
    }
}
