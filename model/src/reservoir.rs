//! The rows that the forest is grown from: paced by time and spread over the hours of the day.
//!
//! A ten-minute burst must not become the model, and a nightly job must not be new every night. So a cell (workload and
//! executable) gives at most one row a minute, and each of the 24 hour slots keeps its own 85 rows, in which a newcomer
//! replaces a row drawn by the seeded generator.

use std::collections::BTreeMap;

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

/// One admitted vector.
///
/// Facts that were new when the row was made are kept beside the rest, because their surprise has to be judged again when a
/// tree is grown: a fact that other hours have taught since is no longer new (exact cross-fit by owner).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Row {
    settled: FeatureVector,
    hour: u64,
    novel: Vec<(Fact, f64)>,
}

/// A row as it is now, and the hour since 1970 that brought it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Hour.
    pub hour: u64,
    /// Bits.
    pub vector: FeatureVector,
}

/// The rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reservoir {
    slots: Vec<Vec<Row>>,
    last_minute: BTreeMap<u64, u64>,
    admitted: u64,
    random: Random,
}

impl Reservoir {
    /// An empty reservoir.
    pub fn new(seed: u64) -> Self {
        Self { slots: vec![Vec::new(); SLOTS], last_minute: BTreeMap::new(), admitted: 0, random: Random::new(seed) }
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
        let row = Row { settled, hour: hour_of(at), novel: novel.iter().take(FACTS_PER_ROW).cloned().collect() };
        let slot = &mut self.slots[(hour_of(at) % SLOTS as u64) as usize];
        if slot.len() < PER_SLOT {
            slot.push(row);
        } else {
            let at = self.random.below(PER_SLOT);
            slot[at] = row;
        }
        self.admitted = self.admitted.saturating_add(1);
        true
    }

    /// What is wrong with rows that were read from a snapshot.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let broken = |row: &Row| {
            let finite = row.settled.is_finite() && row.novel.iter().all(|(_, bits)| bits.is_finite());
            !finite || row.novel.len() > FACTS_PER_ROW
        };
        let slots = self.slots.len() != SLOTS || self.slots.iter().any(|slot| slot.len() > PER_SLOT);
        let rows = slots || self.slots.iter().flatten().any(broken) || self.last_minute.len() > MAX_CELLS;
        rows.then_some("the rows of the forest")
    }

    /// Rows ever admitted.
    pub fn admitted(&self) -> u64 {
        self.admitted
    }

    /// Rows held.
    pub fn len(&self) -> usize {
        self.slots.iter().map(Vec::len).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows as points, each fact's surprise as it is now for the hour that made the row.
    pub fn points(&self, host: &Counts) -> Vec<Point> {
        self.slots.iter().flatten().map(|row| row.point(host)).collect()
    }
}

impl Row {
    fn point(&self, host: &Counts) -> Point {
        let mut vector = self.settled;
        for (fact, bits) in &self.novel {
            if host.get(fact).is_none_or(|count| count.is_owned_by(self.hour)) {
                vector.raise(fact.family().coordinate, *bits);
            }
        }
        vector.bits[Coordinate::File as usize] = 0.0;
        Point { hour: self.hour, vector }
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
        assert_eq!(reservoir.slots[3].len(), 85, "23 busy hours later the nightly job is still known");
        assert!(reservoir.len() <= MAX_ROWS);
    }

    #[test]
    fn a_fact_that_other_hours_taught_is_not_new_any_more() {
        let fact = Fact::Listen { exe: "/bin/a".into(), port: 80, protocol: 6 };
        let (mut reservoir, mut host) = (Reservoir::new(1), Counts::default());
        host.learn(&fact, at(0), 1);
        reservoir.offer(1, at(0), FeatureVector::default(), &[(fact.clone(), 12.0)]);
        let net = |host: &Counts| reservoir.points(host)[0].vector.get(Coordinate::Net);
        assert_eq!(net(&host), 12.0);
        host.learn(&fact, at(60), 2);
        assert_eq!(net(&host), 0.0);
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
            for row in reservoir.slots.iter().flatten() {
                let [(own, _)] = &row.novel[..] else { panic!("one fact a row") };
                let elsewhere = taught.iter().any(|(port, hour)| fact(*port) == *own && *hour != row.hour);
                prop_assert_eq!(row.point(&host).vector.get(Coordinate::Net) == 9.0, !elsewhere);
            }
        }
    }
}
