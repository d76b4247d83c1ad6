//! Forests of their own, beside the pooled one, for the workloads that give enough rows.
//!
//! Bits mean the same everywhere, but not every workload varies alike: what a build does every hour lies beyond the range of
//! a key-value store, and the pool knows one range for both. A workload with rows enough is scored by
//! `A = λ A_own + (1 − λ) A_pool`, `λ = n / (n + 512)`, n = the rows that its own forest holds. As no row tells a cell's
//! minute twice ([`crate::reservoir`]), n is close to an effective sample size: a burst does not add to it. Everybody else is
//! scored by the pool alone, bit for bit.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::counts::Counts;
use crate::event::Time;
use crate::facts::Fact;
use crate::features::FeatureVector;
use crate::grown::Grown;
use crate::online::{AnomalyScore, Detector, PooledForest};
use crate::params::{DetectorKind, Params};
use crate::threshold::Recall;

/// Workloads that hold rows of their own.
pub const MAX_OWN: usize = 64;
/// Rows without which an own forest says nothing.
const LEAST_ROWS: usize = 512;
/// Days that these rows are from.
const LEAST_DAYS: u32 = 3;
/// Rows at which both forests have the same say.
const HALF_ROWS: f64 = 512.0;
const DAY: u64 = 86_400_000_000_000;
/// Silence after which a seat is free: longer than a monthly job's.
const SILENCE: u64 = 35 * DAY;

/// λ, and the forest that has it.
pub(crate) type OwnSay = (f64, Arc<Grown>);

/// The own forests of a host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OwnForests {
    params: Params,
    seats: BTreeMap<Arc<str>, Seat>,
    refused: u64,
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

    /// Whether it has to go when another workload wants its place: who had a day to show rows and is not heard yet, or has
    /// been silent for long.
    fn may_leave(&self, at: Time) -> bool {
        let passed = |since: Time| at.unix_ns.saturating_sub(since.unix_ns);
        (!self.has_enough() && passed(self.since) >= DAY) || passed(self.last) >= SILENCE
    }

    /// Before this time of the unix clock no trees of it are due, as far as its rows tell.
    fn due_from(&self) -> u64 {
        self.forest.due_from().filter(|_| self.has_enough()).unwrap_or(u64::MAX)
    }

    /// λ, 0–1: how much of the score is the own forest's.
    fn share(&self) -> f64 {
        let rows = self.rows as f64;
        if self.has_enough() && self.forest.size().1 > 0 { rows / (rows + HALF_ROWS) } else { 0.0 }
    }
}

impl OwnForests {
    /// Nobody has one yet.
    pub fn new(params: &Params) -> Self {
        Self { params: params.clone(), seats: BTreeMap::new(), refused: 0, agenda: Agenda::default() }
    }

    /// λ of a workload, 0–1: how much of its score is its own forest's.
    pub fn share(&self, workload: &str) -> f64 {
        self.seats.get(workload).map_or(0.0, Seat::share)
    }

    /// Workloads that hold rows, at most [`MAX_OWN`], and offers that found no place among them.
    pub fn size(&self) -> (usize, u64) {
        (self.seats.len(), self.refused)
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
            if seat.forest.publish(at).is_some() {
                self.agenda.due_from = 0;
            }
            seat.forest.is_growing()
        });
    }

    /// Begins to grow what is due in one of them, unless another one's trees are growing. Who has not shown enough needs none.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::features::{COORDINATES, Coordinate};
    use crate::random::Random;

    const MINUTE: u64 = 60_000_000_000;

    fn at(minutes: u64) -> Time {
        Time { unix_ns: minutes * MINUTE, boot_ns: minutes * MINUTE }
    }

    fn named(name: &str) -> Arc<str> {
        name.into()
    }

    /// A few bits of one coordinate, more than `most` never.
    fn row(random: &mut Random, coordinate: Coordinate, most: f64) -> FeatureVector {
        let mut row = FeatureVector::default();
        row.raise(coordinate, random.unit() * most);
        row
    }

    /// One row every ten minutes.
    fn taught(own: &mut OwnForests, workload: &str, rows: u64, most: f64) {
        let (mut random, host) = (Random::new(rows), Counts::default());
        for n in 0..rows {
            own.offer(&named(workload), 1, at(10 * n), row(&mut random, Coordinate::Net, most), &[]);
            own.publish(at(10 * n));
            own.begin_one(at(10 * n), &host);
        }
        own.publish(at(10 * rows));
    }

    fn forests() -> OwnForests {
        OwnForests::new(&Params::default())
    }

    fn strange() -> FeatureVector {
        let mut vector = FeatureVector::default();
        vector.raise(Coordinate::Net, 9.0);
        vector
    }

    fn pooled() -> AnomalyScore {
        let mut contributions = [0.0; COORDINATES];
        contributions[Coordinate::Net as usize] = 7.1;
        AnomalyScore { value: 7.1, depth: 4.0, median_depth: 8.1, gap: 3.0, contributions }
    }

    #[test]
    fn without_enough_evidence_the_pool_scores_bit_for_bit() {
        let mut own = forests();
        taught(&mut own, "few rows", LEAST_ROWS as u64 - 1, 1.0);
        for n in 0..2 * LEAST_ROWS as u64 {
            own.offer(&named("two days"), n, at(n * 2), FeatureVector::default(), &[]);
        }
        for workload in ["few rows", "two days", "never heard of"] {
            assert_eq!(own.share(workload), 0.0, "{workload}");
            let (mixed, pool) = (own.mixed(workload, &strange(), pooled()), pooled());
            assert_eq!(mixed.value.to_bits(), pool.value.to_bits(), "{workload}");
            assert_eq!(mixed, pool, "{workload}");
        }
        taught(&mut own, "enough", LEAST_ROWS as u64, 1.0);
        assert_eq!(own.share("enough"), 0.5);
        assert_ne!(own.mixed("enough", &strange(), pooled()), pooled());
    }

    #[test]
    fn what_one_workload_does_all_day_is_strange_of_another() {
        let mut own = forests();
        taught(&mut own, "busy", 2_000, 10.0);
        taught(&mut own, "quiet", 2_000, 1.0);
        let [busy, quiet] = ["busy", "quiet"].map(|workload| own.mixed(workload, &strange(), pooled()).value);
        assert!(busy < pooled().value - 3.0, "{busy}");
        assert!(quiet > busy + 5.0, "{quiet} against {busy}");
    }

    #[test]
    fn seats_are_few_and_those_who_are_heard_keep_theirs() {
        let mut own = forests();
        taught(&mut own, "heard", 600, 1.0);
        let share = own.share("heard");
        for n in 0..300 {
            let late = at(6_000 + n / 100 * 2 * 24 * 60);
            own.offer(&named(&format!("{n}")), 1, late, FeatureVector::default(), &[]);
        }
        assert_eq!(own.size().0, MAX_OWN);
        assert!(own.size().1 > 0, "who found no seat is counted");
        assert!(own.seats.contains_key("200"), "who came after a day found one");
        assert_eq!(own.share("heard"), share);
        own.offer(&named("later"), 1, at(6_000 + 60 * 24 * 60), FeatureVector::default(), &[]);
        assert!(own.seats.contains_key("later") && own.seats.len() == MAX_OWN);
    }

    /// Whoever asks every seat at every event begins and publishes at the same times.
    #[test]
    fn nobody_waits_longer_because_not_everybody_is_asked() {
        let (mut told, mut asked) = (forests(), forests());
        let (mut random, host) = (Random::new(9), Counts::default());
        let mut waited = 0;
        for n in 0..9_000u64 {
            let name = named(&format!("{}", random.below(9)));
            let now = Time { unix_ns: n * MINUTE, boot_ns: n * 5_000_000 };
            let row = row(&mut random, Coordinate::Net, 4.0);
            for own in [&mut told, &mut asked] {
                own.offer(&name, n, now, row, &[]);
                own.publish(now);
                own.begin_one(now, &host);
            }
            asked.agenda = Agenda::default();
            waited += u32::from(told.seats.values().any(|seat| seat.due_from() <= now.unix_ns));
            let growing = [&told, &asked].map(|own| growing_in(&own.seats));
            assert_eq!(growing[0], growing[1], "after {n} rows");
        }
        assert!(told == asked);
        assert!(waited > 100, "trees waited for others only {waited} times");
    }

    #[test]
    fn a_full_seat_is_small() {
        let mut own = forests();
        let (mut random, host) = (Random::new(1), Counts::default());
        for minute in 0..4 * 24 * 60 {
            let row = FeatureVector { bits: std::array::from_fn(|_| random.unit() * 9.0) };
            own.offer(&named("full"), 1, at(minute), row, &[]);
            own.publish(at(minute));
            own.begin_one(at(minute), &host);
        }
        own.publish(at(5 * 24 * 60));
        assert_eq!(own.seats["full"].rows, crate::reservoir::MAX_ROWS);
        let bytes = postcard::to_stdvec(&own).expect("bytes").len();
        assert!(bytes < 256 << 10, "{bytes} bytes, and there may be {MAX_OWN} of them");
    }

    #[test]
    fn a_constant_detector_has_none() {
        let mut own = OwnForests::new(&Params { detector: DetectorKind::Constant, ..Params::default() });
        taught(&mut own, "busy", 600, 1.0);
        assert_eq!(own.size(), (0, 0));
    }

    #[test]
    fn impossible_forests_are_told() {
        let params = Params::default();
        let mut good = forests();
        taught(&mut good, "busy", 600, 1.0);
        assert_eq!(good.fault(&params), None);
        assert!(good.fault(&Params { sample: 128, ..params.clone() }).is_some(), "of other parameters");
        let mut rows = good.clone();
        rows.seats.values_mut().for_each(|seat| seat.rows += 1);
        assert!(rows.fault(&params).is_some(), "rows that are not there");
        let mut many = good.clone();
        let seat = good.seats["busy"].clone();
        many.seats.extend((0..MAX_OWN).map(|n| (named(&format!("{n}")), seat.clone())));
        assert!(many.fault(&params).is_some(), "more than there are seats");
    }

    fn score() -> impl Strategy<Value = AnomalyScore> {
        let parts = proptest::array::uniform8(0.0..20.0f64);
        (parts, -5.0..40.0f64, 0.0..9.0f64).prop_map(|(parts, value, depth)| {
            let sum: f64 = parts.iter().sum::<f64>().max(1e-3);
            let contributions = parts.map(|part| part * f64::max(value, 0.0) / sum);
            AnomalyScore { value, depth, median_depth: depth, gap: 0.0, contributions }
        })
    }

    proptest! {
        #[test]
        fn contributions_of_a_mix_add_up(own in score(), pool in score(), rows in 0usize..5_000) {
            let share = rows as f64 / (rows as f64 + HALF_ROWS);
            let mixed = mix(share, &own, &pool);
            prop_assert!((mixed.contributions.iter().sum::<f64>() - mixed.value.max(0.0)).abs() < 1e-9);
            prop_assert!(mixed.contributions.iter().all(|part| *part >= 0.0));
            let (low, high) = (own.value.min(pool.value), own.value.max(pool.value));
            prop_assert!((low - 1e-9..=high + 1e-9).contains(&mixed.value));
        }
    }
}
