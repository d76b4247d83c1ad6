//! Forests of their own, beside the pooled one, for the workloads that give enough rows.
//!
//! Bits mean the same everywhere, but not every workload varies alike: what a build does every hour lies beyond the range of
//! a key-value store, and the pool knows one range for both. A workload with rows enough is scored by
//! `A = λ A_own + (1 − λ) A_pool`, `λ = n / (n + 512)`, n = the rows that its own forest holds. As no row tells a cell's
//! minute twice ([`crate::reservoir`]), n is close to an effective sample size: a burst does not add to it. Everybody else is
//! scored by the pool alone, bit for bit, and so is a workload whose own forest tells nothing of use about made-up vectors
//! ([`crate::exam`]): who it is, health says.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::counts::Counts;
use crate::event::Time;
use crate::exam::Exam;
use crate::facts::Fact;
use crate::features::FeatureVector;
use crate::online::{Detector, PooledForest};
use crate::params::{DetectorKind, MAX_OWN, Params};
use crate::score::{AnomalyScore, mix};
use crate::state::HealthState;
use crate::threshold::{LEAST, OwnSay, Recall};

/// Rows without which an own forest says nothing.
const LEAST_ROWS: usize = 512;
/// Days that these rows are from.
const LEAST_DAYS: u32 = 3;
/// Rows at which both forests have the same say.
const HALF_ROWS: f64 = 512.0;
const DAY: u64 = 86_400_000_000_000;
/// Within so long who has a seat is to show [`LEAST_ROWS`].
const CHANCE: u64 = 7 * DAY;
/// Silence after which a seat is free: longer than a monthly job's.
const SILENCE: u64 = 35 * DAY;

/// The own forests of a host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OwnForests {
    params: Params,
    seats: BTreeMap<Arc<str>, Seat>,
    refused: u64,
    /// Growths that came to nothing since the start.
    #[serde(skip)]
    given_up: u64,
    #[serde(skip)]
    agenda: Agenda,
}

/// Which seats have something to do, so that no event asks all of them. It follows from the seats.
#[derive(Clone, Debug, Default)]
struct Agenda {
    /// Whose trees are growing; nothing is known of forests that were just read.
    growing: Option<Vec<Arc<str>>>,
    /// Before this time of the unix clock nobody can begin: either no trees are due, or only those of workloads that stand
    /// behind one whose trees are growing.
    due_from: u64,
}

impl Agenda {
    fn of(seats: &BTreeMap<Arc<str>, Seat>) -> Self {
        let is_free = |(_, seat): &(&Arc<str>, &Seat)| !(seat.forest.is_growing() && seat.has_enough());
        let due_from = seats.iter().take_while(is_free).map(|(_, seat)| seat.due_from()).min().unwrap_or(u64::MAX);
        Self { growing: Some(growing_in(seats)), due_from }
    }

    /// A workload's trees may be due from another time on.
    fn note(&mut self, workload: &Arc<str>, due_from: u64) {
        let first = self.growing.as_ref().and_then(|growing| growing.first());
        if first.is_none_or(|first| workload < first) {
            self.due_from = self.due_from.min(due_from);
        }
    }
}

impl PartialEq for Agenda {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// What one workload has taught its own forest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Seat {
    forest: PooledForest,
    /// Rows held, 0 to [`crate::reservoir::MAX_ROWS`].
    rows: usize,
    /// Calendar days of event time with an offer.
    days: u32,
    since: Time,
    last: Time,
}

impl Seat {
    fn new(params: &Params, at: Time) -> Self {
        Self { forest: PooledForest::new(params), rows: 0, days: 1, since: at, last: at }
    }

    fn has_enough(&self) -> bool {
        self.rows >= LEAST_ROWS && self.days >= LEAST_DAYS
    }

    /// Whether it has to go when another workload wants its place: who had a day to show rows and shows too few to be heard after
    /// a week, or has been silent for long. If everybody not heard yet had to go after a day, nobody would ever be.
    fn may_leave(&self, at: Time) -> bool {
        let passed = |since: Time| u128::from(at.unix_ns.saturating_sub(since.unix_ns));
        let tried = passed(self.since);
        let is_slow = self.rows as u128 * u128::from(CHANCE) < LEAST_ROWS as u128 * tried;
        let is_late = tried >= u128::from(CHANCE);
        (!self.has_enough() && tried >= u128::from(DAY) && (is_slow || is_late))
            || passed(self.last) >= u128::from(SILENCE)
    }

    /// Before this time of the unix clock no trees of it are due, as far as its rows tell.
    fn due_from(&self) -> u64 {
        self.forest.due_from().filter(|_| self.has_enough()).unwrap_or(u64::MAX)
    }

    /// λ, 0–1: how much of the score is the own forest's.
    fn share(&self) -> f64 {
        let rows = self.rows as f64;
        if self.may_be_heard() && self.sickness().is_none() { rows / (rows + HALF_ROWS) } else { 0.0 }
    }

    fn may_be_heard(&self) -> bool {
        self.has_enough() && self.forest.size().1 > 0
    }

    /// Why it is not heard although there is enough of it: it follows from the trees, and so is the same after a restart.
    fn sickness(&self) -> Option<HealthState> {
        self.forest.grown().exam().fault(LEAST, self.forest.grown_at())
    }

    /// What is wrong with it, and since when. One whose new trees could not be grown is heard all the same: the ones before them are
    /// what they were.
    fn fault(&self) -> Option<(HealthState, Time)> {
        let since = self.forest.grown_at();
        let sick = self.may_be_heard().then(|| self.sickness()).flatten();
        let stunted = self.has_enough().then(|| self.forest.given_up().state()).flatten();
        sick.or(stunted).map(|state| (state, since))
    }
}

impl OwnForests {
    /// Nobody has one yet.
    pub fn new(params: &Params) -> Self {
        Self { params: params.clone(), seats: BTreeMap::new(), refused: 0, given_up: 0, agenda: Agenda::default() }
    }

    /// λ of a workload, 0–1: how much of its score is its own forest's.
    pub fn share(&self, workload: &str) -> f64 {
        self.seats.get(workload).map_or(0.0, Seat::share)
    }

    /// Workloads that hold rows, at most [`MAX_OWN`], and offers that found no place among them.
    pub fn size(&self) -> (usize, u64) {
        (self.seats.len(), self.refused)
    }

    /// Whether trees of a workload's own forest are growing.
    pub fn is_growing(&self, workload: &str) -> bool {
        self.seats.get(workload).is_some_and(|seat| seat.forest.is_growing())
    }

    /// What is wrong with a workload's own forest, and since when.
    pub(crate) fn fault_of(&self, workload: &str) -> Option<(HealthState, Time)> {
        self.seats.get(workload).and_then(Seat::fault)
    }

    /// The workloads whose own forests something is wrong with, sorted, and what.
    pub(crate) fn faults(&self) -> impl Iterator<Item = (Arc<str>, HealthState)> {
        self.seats.iter().filter_map(|(name, seat)| Some((name.clone(), seat.fault()?.0)))
    }

    /// What each of them says about made-up vectors; who was not asked yet is asked now.
    pub(crate) fn exams(&self) -> impl Iterator<Item = &Exam> {
        self.seats.values().map(|seat| seat.forest.grown().exam())
    }

    /// Growths that came to nothing since the start.
    pub(crate) fn given_up(&self) -> u64 {
        self.given_up
    }

    /// The pool's score of a workload's vector, mixed with that of its own forest.
    pub fn mixed(&self, workload: &str, vector: &FeatureVector, pool: AnomalyScore) -> AnomalyScore {
        match self.seats.get(workload) {
            Some(seat) if seat.share() > 0.0 => mix(seat.share(), &seat.forest.score(vector), &pool),
            _ => pool,
        }
    }

    /// Takes over trees whose time has come.
    pub(crate) fn publish(&mut self, at: Time) {
        let growing = self.agenda.growing.get_or_insert_with(|| growing_in(&self.seats));
        growing.retain(|name| {
            let Some(seat) = self.seats.get_mut(name) else { return false };
            let is_published = seat.forest.publish(at).is_some();
            let is_growing = seat.forest.is_growing();
            if !is_growing {
                self.agenda.due_from = 0;
                self.given_up = self.given_up.saturating_add(u64::from(!is_published));
            }
            is_growing
        });
    }

    /// Begins to grow what is due in one of them, the first by name, unless the trees of one before it are growing. Who has not
    /// shown enough needs none.
    pub(crate) fn begin_one(&mut self, at: Time, host: &Counts) {
        if at.unix_ns < self.agenda.due_from {
            return;
        }
        for seat in self.seats.values_mut().filter(|seat| seat.has_enough()) {
            seat.forest.begin_what_is_due(at, host, Recall::default);
            if seat.forest.is_growing() {
                break;
            }
        }
        self.agenda = Agenda::of(&self.seats);
    }

    /// What each own forest that is heard says, and how loud.
    pub(crate) fn says(&self) -> BTreeMap<Arc<str>, OwnSay> {
        let heard = self.seats.iter().filter(|(_, seat)| seat.share() > 0.0);
        heard.map(|(name, seat)| (name.clone(), (seat.share(), Arc::clone(seat.forest.grown())))).collect()
    }

    /// Offers a vector of a workload for learning; see [`crate::reservoir::Reservoir::offer`].
    pub fn offer(&mut self, workload: &Arc<str>, cell: u64, at: Time, settled: FeatureVector, novel: &[(Fact, f64)]) {
        if self.params.detector != DetectorKind::Forest {
            return;
        }
        let Some(seat) = self.seat(workload, at) else {
            self.refused = self.refused.saturating_add(1);
            return;
        };
        if at.unix_ns / DAY > seat.last.unix_ns / DAY {
            seat.days = seat.days.saturating_add(1);
        }
        seat.last = at;
        seat.forest.offer(cell, at, settled, novel);
        seat.rows = seat.forest.size().0;
        let due_from = seat.due_from();
        self.agenda.note(workload, due_from);
    }

    /// A workload's seat. When all are taken, the one with the fewest rows among those that may leave is given away.
    fn seat(&mut self, workload: &Arc<str>, at: Time) -> Option<&mut Seat> {
        if !self.seats.contains_key(workload) && self.seats.len() >= MAX_OWN {
            let leaving = self.seats.iter().filter(|(_, seat)| seat.may_leave(at)).min_by_key(|(_, seat)| seat.rows);
            let leaving = leaving.map(|(name, _)| name.clone())?;
            self.seats.remove(&leaving);
            self.agenda = Agenda::default();
        }
        Some(self.seats.entry(workload.clone()).or_insert_with(|| Seat::new(&self.params, at)))
    }

    /// What is wrong with forests that were read from a snapshot, given the parameters that stand beside them.
    pub(crate) fn fault(&self, params: &Params) -> Option<&'static str> {
        let counted = |seat: &Seat| seat.rows == seat.forest.size().0;
        if self.params != *params || self.seats.len() > MAX_OWN || !self.seats.values().all(counted) {
            return Some("the own forests");
        }
        self.seats.values().find_map(|seat| seat.forest.fault(&self.params))
    }
}

fn growing_in(seats: &BTreeMap<Arc<str>, Seat>) -> Vec<Arc<str>> {
    seats.iter().filter(|(_, seat)| seat.forest.is_growing()).map(|(name, _)| name.clone()).collect()
}

#[cfg(test)]
mod tests;
