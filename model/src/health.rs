//! Whether the model can be relied on: one state with the facts behind it, found by asking the model about made-up vectors.
//!
//! Only a healthy model denies by itself, and a workload that has drifted is denied nothing by itself either. Whatever the
//! state, findings go on.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Model;
use crate::drift::Drifted;
use crate::event::Time;
use crate::exam::{BEYOND, Exam};
use crate::features::COORDINATES;
use crate::online::{AnyDetector, Detector, FIRST_ROWS};
use crate::score::AnomalyScore;
use crate::state::{HealthState, Kind};

/// How often it is looked, on the boot clock.
const LOOK_NS: u64 = 10_000_000_000;
/// For so long after the last number that is none the model is not relied on.
const NON_FINITE_NS: u64 = 86_400_000_000_000;

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
    /// Growths of trees that were given up since the start, own forests included.
    #[serde(default)]
    pub given_up: u64,
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
            (self.given_up, "growths of trees given up"),
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
    /// A score as it may be used: what is no number is counted and worth what the pool says, or nothing.
    pub(crate) fn checked(&mut self, score: AnomalyScore, pool: AnomalyScore, at: Time) -> AnomalyScore {
        if score.is_finite() {
            return score;
        }
        self.non_finite = self.non_finite.saturating_add(1);
        self.last_non_finite = at;
        if pool.is_finite() { pool } else { AnomalyScore::default() }
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

    /// The same for one workload: its own forest may be sick, or it may have drifted.
    pub fn health_of(&self, workload: &str) -> Health {
        match self.state() {
            HealthState::Healthy => self.healthy_but_for(workload),
            state => self.health_as(state),
        }
    }

    fn healthy_but_for(&self, workload: &str) -> Health {
        if let Some((sick, since)) = self.own.fault_of(workload) {
            return Health { since, ..self.health_as(sick) };
        }
        let of = self.drifted(workload);
        match of.iter().map(|drifted| drifted.since).min_by_key(|since| since.unix_ns) {
            Some(since) => Health { since, ..self.health_as(HealthState::Drifted { of }) },
            None => self.health_as(HealthState::Healthy),
        }
    }

    /// Every workload whose own forest is sick, sorted, and how. The pooled forest judges it alone, and nothing is denied
    /// automatically there.
    pub fn all_sick(&self) -> Vec<(Arc<str>, HealthState)> {
        self.own.faults().collect()
    }

    /// After a restart: what the detectors do not keep of their own state, before an event has to wait for it.
    pub(crate) fn recover(&mut self) {
        self.own.exams().for_each(drop);
        if self.vigil.kind == Some(Kind::Stunted) {
            self.detector.still_stunted(self.vigil.since);
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
            given_up: self.detector.given_up().all + self.own.given_up(),
        }
    }

    fn state(&self) -> HealthState {
        if let Some(state) = self.vigil.non_finite(self.now) {
            return state;
        }
        if let Some(state) = self.detector.given_up().state() {
            return state;
        }
        let (rows, trees) = self.detector.size();
        let state_of = |exam: &Exam| exam.state(self.threshold().level, self.now);
        match &self.detector {
            AnyDetector::Constant => HealthState::Constant { depth: 0.0, asked: 0 },
            AnyDetector::Forest(_) if trees == 0 => HealthState::Untrained { rows, needed: FIRST_ROWS },
            AnyDetector::Forest(forest) => state_of(forest.grown().exam()),
            AnyDetector::Random(_) => {
                state_of(&Exam::of([BEYOND; COORDINATES], true, |vector| self.detector.score(vector)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Params, Threshold};

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
            HealthState::Stunted { in_a_row: 3, last },
        ] {
            let told = Health { state, since: last, rows: 9, trees: 64, unmodelled: 1, dropped: 2, given_up: 4 };
            let json = serde_json::to_value(&told).expect("JSON");
            assert_eq!(serde_json::from_value::<Health>(json.clone()).expect("what was told"), told, "{json}");
        }
    }

    #[test]
    fn a_score_that_is_no_number_is_worth_nothing_and_counted_for_a_day() {
        let mut model = Model::new(Params::default()).expect("good parameters");
        let at = |hours: u64| Time { unix_ns: hours * 3_600_000_000_000, boot_ns: hours };
        let broken = AnomalyScore { value: 4.0, gap: f64::NAN, ..AnomalyScore::default() };
        let pool = AnomalyScore { value: 3.0, ..AnomalyScore::default() };
        assert_eq!(model.vigil.checked(pool, broken, at(0)), pool, "nobody asks what else there is");
        assert_eq!(model.vigil.checked(broken, broken, at(0)), AnomalyScore::default());
        assert_eq!(model.vigil.checked(broken, pool, at(1)), pool);
        model.tick(at(2));
        assert_eq!(model.health().state, HealthState::NonFinite { scores: 2, last: at(1) });
        assert!(!model.health().state.may_deny() && model.health().state.is_fault());
        model.tick(at(26));
        assert!(matches!(model.health().state, HealthState::Untrained { .. }));
        let Threshold { level, .. } = model.threshold();
        assert_eq!(level, Params::default().start_threshold, "and the threshold is what it was");
    }
}
