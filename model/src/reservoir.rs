//! The rows that the forest is grown from: paced by time and spread over the hours of the day.
//!
//! A ten-minute burst must not become the model, and a nightly job must not be new every night. So a cell (workload and
//! executable) gives at most one row a minute, and each of the 24 hour slots keeps its own 85 rows, in which a newcomer
//! replaces a row drawn by the seeded generator.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::counts::{Counts, hour_of};
use crate::event::Time;
use crate::facts::Fact;
use crate::features::{Coordinate, FeatureVector};
use crate::random::Random;

/// Hour slots.
const SLOTS: usize = 24;
/// Rows that a slot keeps.
const PER_SLOT: usize = 85;
/// Rows in all.
pub const MAX_ROWS: usize = SLOTS * PER_SLOT;
/// Cells whose last minute is remembered; when there are more, the oldest are forgotten and may give a row early.
const MAX_CELLS: usize = 16_384;
/// Novel facts that a row remembers.
pub(crate) const FACTS_PER_ROW: usize = 8;
const MINUTE: u64 = 60_000_000_000;

/// A row as it is now, and the hour since 1970 that brought it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Hour.
    pub hour: u64,
    /// Bits.
    pub vector: FeatureVector,
}

/// The rows of an hour slot.
///
/// Facts that were new when a row was made are kept beside the rest, because their surprise has to be judged again when a
/// tree is grown: a fact that other hours have taught since is no longer new (exact cross-fit by owner).
#[derive(Clone, Debug, Default, PartialEq)]
struct Slot {
    /// Without what new facts contribute. Shared with who grows trees from them, and copied when a row is replaced meanwhile.
    settled: Arc<Vec<Point>>,
    /// New facts by row, and their bits; few rows bring any.
    novel: BTreeMap<usize, Vec<(Fact, f64)>>,
}

/// The rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Reservoir {
    slots: Vec<Slot>,
    /// In all slots.
    rows: usize,
    last_minute: BTreeMap<u64, u64>,
    admitted: u64,
    random: Random,
}

impl Reservoir {
    /// An empty reservoir.
    pub fn new(seed: u64) -> Self {
        let slots = vec![Slot::default(); SLOTS];
        Self { slots, rows: 0, last_minute: BTreeMap::new(), admitted: 0, random: Random::new(seed) }
    }

    /// Offers a vector. `true` when it became a row.
    ///
    /// `settled` is the vector without what `novel` contributes.
    pub fn offer(&mut self, cell: u64, at: Time, settled: FeatureVector, novel: &[(Fact, f64)]) -> bool {
        let minute = at.unix_ns / MINUTE;
        if self.last_minute.get(&cell) == Some(&minute) {
            return false;
        }
        if self.last_minute.len() >= MAX_CELLS && !self.last_minute.contains_key(&cell) {
            self.last_minute.retain(|_, last| last.saturating_add(60) > minute);
            if self.last_minute.len() >= MAX_CELLS {
                return false;
            }
        }
        self.last_minute.insert(cell, minute);
        let slot = &mut self.slots[(hour_of(at) % SLOTS as u64) as usize];
        let place = if slot.settled.len() < PER_SLOT { slot.settled.len() } else { self.random.below(PER_SLOT) };
        self.rows += usize::from(place == slot.settled.len());
        slot.put(place, Point { hour: hour_of(at), vector: settled }, novel);
        self.admitted = self.admitted.saturating_add(1);
        true
    }

    /// What is wrong with rows that were read from a snapshot.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let broken = |slot: &Slot| {
            let settled = slot.settled.iter().all(|row| row.vector.is_finite());
            let finite = slot.novel.values().flatten().all(|(_, bits)| bits.is_finite());
            let few = slot.novel.values().all(|novel| novel.len() <= FACTS_PER_ROW);
            !settled || !finite || !few || slot.settled.len() > PER_SLOT
        };
        let rows = self.slots.len() != SLOTS || self.slots.iter().any(broken) || self.last_minute.len() > MAX_CELLS;
        rows.then_some("the rows of the forest")
    }

    /// Rows ever admitted.
    pub fn admitted(&self) -> u64 {
        self.admitted
    }

    /// Rows held.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows as they are now, to be read later: each fact's surprise is as it is now for the hour that made the row.
    pub fn taken(&self, host: &Counts) -> Taken {
        self.taken_where(|fact, hour| host.get(fact).is_none_or(|count| count.is_owned_by(hour)))
    }

    /// The same where no fact that was ever taught is new, not even to the hour that taught it.
    pub(crate) fn leaked(&self, host: &Counts) -> Taken {
        self.taken_where(|fact, _| host.get(fact).is_none())
    }

    fn taken_where(&self, is_new: impl Fn(&Fact, u64) -> bool) -> Taken {
        let mut raised = Vec::new();
        for (at, slot) in self.slots.iter().enumerate() {
            for (row, novel) in &slot.novel {
                let Some(Point { hour, .. }) = slot.settled.get(*row) else { continue };
                let new = novel.iter().filter(|(fact, _)| is_new(fact, *hour));
                raised.extend(new.map(|(fact, bits)| (at, *row, fact.family().coordinate, *bits)));
            }
        }
        Taken { slots: self.slots.iter().map(|slot| Arc::clone(&slot.settled)).collect(), raised }
    }
}

impl Slot {
    fn put(&mut self, place: usize, row: Point, novel: &[(Fact, f64)]) {
        let settled = Arc::make_mut(&mut self.settled);
        match settled.get_mut(place) {
            Some(known) => *known = row,
            None => settled.push(row),
        }
        if novel.is_empty() {
            self.novel.remove(&place);
        } else {
            self.novel.insert(place, novel.iter().take(FACTS_PER_ROW).cloned().collect());
        }
    }
}

/// The rows as they were when a growth began. Taking them copies none.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Point>", into = "Vec<Point>")]
pub struct Taken {
    slots: Vec<Arc<Vec<Point>>>,
    /// Slot and row to which a fact that was still new gives bits.
    raised: Vec<(usize, usize, Coordinate, f64)>,
}

impl Taken {
    /// Each as a point.
    pub fn points(&self) -> Vec<Point> {
        let starts = self.slots.iter().scan(0, |next, slot| Some(std::mem::replace(next, *next + slot.len())));
        let starts: Vec<usize> = starts.collect();
        let mut points: Vec<Point> = self.slots.iter().flat_map(|slot| slot.iter().copied()).collect();
        for (slot, row, coordinate, bits) in &self.raised {
            points[starts[*slot] + row].vector.raise(*coordinate, *bits);
        }
        points.iter_mut().for_each(|point| point.vector.bits[Coordinate::File as usize] = 0.0);
        points
    }
}

#[cfg(test)]
impl Taken {
    /// Rows that nobody can have taken: whoever reads them panics.
    pub(crate) fn impossible() -> Self {
        Self { slots: Vec::new(), raised: vec![(0, 0, Coordinate::Seq, 1.0)] }
    }
}

impl PartialEq for Taken {
    fn eq(&self, other: &Self) -> bool {
        self.points() == other.points()
    }
}

impl From<Vec<Point>> for Taken {
    fn from(points: Vec<Point>) -> Self {
        Self { slots: vec![Arc::new(points)], raised: Vec::new() }
    }
}

impl From<Taken> for Vec<Point> {
    fn from(taken: Taken) -> Self {
        taken.points()
    }
}

/// A reservoir in a snapshot: each row with its facts.
#[derive(Serialize, Deserialize)]
struct Stored {
    slots: Vec<Vec<Row>>,
    last_minute: BTreeMap<u64, u64>,
    admitted: u64,
    random: Random,
}

#[derive(Serialize, Deserialize)]
struct Row {
    settled: FeatureVector,
    hour: u64,
    novel: Vec<(Fact, f64)>,
}

impl From<Reservoir> for Stored {
    fn from(reservoir: Reservoir) -> Self {
        let Reservoir { slots, last_minute, admitted, random, .. } = reservoir;
        let rows = |mut slot: Slot| -> Vec<Row> {
            let novel = |at| slot.novel.remove(&at).unwrap_or_default();
            let numbered = slot.settled.iter().zip((0..).map(novel));
            numbered.map(|(row, novel)| Row { settled: row.vector, hour: row.hour, novel }).collect()
        };
        Self { slots: slots.into_iter().map(rows).collect(), last_minute, admitted, random }
    }
}

impl From<Stored> for Reservoir {
    fn from(stored: Stored) -> Self {
        let Stored { slots, last_minute, admitted, random } = stored;
        let slot = |rows: Vec<Row>| {
            let settled = rows.iter().map(|row| Point { hour: row.hour, vector: row.settled }).collect();
            let novel = rows.into_iter().map(|row| row.novel).enumerate().filter(|(_, novel)| !novel.is_empty());
            Slot { settled: Arc::new(settled), novel: novel.collect() }
        };
        let slots: Vec<Slot> = slots.into_iter().map(slot).collect();
        Self { rows: slots.iter().map(|slot| slot.settled.len()).sum(), slots, last_minute, admitted, random }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(minutes: u64) -> Time {
        Time { unix_ns: minutes * MINUTE, boot_ns: 0 }
    }

    #[test]
    fn a_burst_gives_one_row_a_minute() {
        let mut reservoir = Reservoir::new(1);
        for call in 0..10_000u64 {
            let time = Time { unix_ns: call * MINUTE / 1_000, boot_ns: 0 };
            reservoir.offer(1, time, FeatureVector::default(), &[]);
        }
        assert_eq!(reservoir.len(), 10, "ten minutes at a thousand windows a minute");
    }

    #[test]
    fn every_hour_keeps_its_rows() {
        let mut reservoir = Reservoir::new(1);
        (0..85).for_each(|n| assert!(reservoir.offer(n, at(3 * 60), FeatureVector::default(), &[])));
        for minute in 4 * 60..27 * 60 {
            reservoir.offer(1, at(minute), FeatureVector::default(), &[]);
        }
        assert_eq!(reservoir.slots[3].settled.len(), 85, "23 busy hours later the nightly job is still known");
        assert!(reservoir.len() <= MAX_ROWS);
    }

    #[test]
    fn a_fact_that_other_hours_taught_is_not_new_any_more() {
        let fact = Fact::Listen { exe: "/bin/a".into(), port: 80, protocol: 6 };
        let (mut reservoir, mut host) = (Reservoir::new(1), Counts::default());
        host.learn(&fact, at(0), 1);
        reservoir.offer(1, at(0), FeatureVector::default(), &[(fact.clone(), 12.0)]);
        let net = |host: &Counts| reservoir.taken(host).points()[0].vector.get(Coordinate::Net);
        assert_eq!(net(&host), 12.0);
        host.learn(&fact, at(60), 2);
        assert_eq!(net(&host), 0.0);
    }

    #[test]
    fn rows_that_were_taken_stay_what_they_were() {
        let fact = Fact::Listen { exe: "/bin/a".into(), port: 80, protocol: 6 };
        let (mut reservoir, mut host) = (Reservoir::new(1), Counts::default());
        for minute in 0..85 {
            let novel: &[_] = if minute % 9 == 0 { &[(fact.clone(), 12.0)] } else { &[] };
            reservoir.offer(minute, at(minute / 2), FeatureVector::default(), novel);
        }
        let (taken, before) = (reservoir.taken(&host), reservoir.taken(&host).points());
        assert_eq!(before.iter().filter(|point| point.vector.get(Coordinate::Net) == 12.0).count(), 10);
        host.learn(&fact, at(0), 1);
        host.learn(&fact, at(60), 2);
        let mut loud = FeatureVector::default();
        loud.raise(Coordinate::Seq, 7.0);
        (0..200).for_each(|n| assert!(reservoir.offer(100 + n, at(50), loud, &[])));
        assert_eq!(taken.points(), before);
        let bytes = postcard::to_stdvec(&taken).expect("bytes");
        assert_eq!(postcard::from_bytes::<Taken>(&bytes).expect("rows").points(), before);
        let now = reservoir.taken(&host).points();
        assert!(now.len() == 85 && now.iter().all(|point| point.vector.get(Coordinate::Net) == 0.0));
        let bytes = postcard::to_stdvec(&reservoir).expect("bytes");
        assert_eq!(postcard::from_bytes::<Reservoir>(&bytes).expect("a reservoir"), reservoir);
    }

    proptest! {
        /// The owner of a fact tells exactly what taking the row's own hour out of the data and counting again would tell.
        #[test]
        fn cross_fit_by_owner_is_leaving_the_own_hour_out(taught in proptest::collection::vec((0u16..6, 0u64..5), 1..40)) {
            let fact = |port| Fact::Listen { exe: "/bin/a".into(), port, protocol: 6 };
            let (mut reservoir, mut host) = (Reservoir::new(1), Counts::default());
            for (n, (port, hour)) in taught.iter().enumerate() {
                let n = n as u64;
                reservoir.offer(n, at(hour * 60 + n), FeatureVector::default(), &[(fact(*port), 9.0)]);
                host.learn(&fact(*port), at(hour * 60 + n), n);
            }
            let own = reservoir.slots.iter().flat_map(|slot| slot.novel.values().map(|novel| novel[0].0.clone()));
            for (row, own) in reservoir.taken(&host).points().iter().zip(own) {
                let elsewhere = taught.iter().any(|(port, hour)| fact(*port) == own && *hour != row.hour);
                prop_assert_eq!(row.vector.get(Coordinate::Net) == 9.0, !elsewhere);
            }
        }
    }
}
