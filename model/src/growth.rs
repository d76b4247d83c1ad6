//! Trees are grown on a thread of their own and published as a whole, so that no event waits for them.
//!
//! What is grown, and when it is published, depends on the events alone: a growth begins with everything it needs, and is
//! taken over at a time that does not depend on how long it took. Whoever reaches that time first waits for the rest of it, and
//! where there is no thread (a copy of a model, one that was restored, no room for one) it is done there and then. So
//! the same events give the same scores, bit for bit, on any number of cores.

use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use serde::{Deserialize, Serialize};

use crate::event::Time;
use crate::forest::ForestValidParams;
use crate::grown::{Grown, Ranges};
use crate::random::Random;
use crate::reservoir::{MAX_ROWS, Point};
use crate::threshold::{MAX_SCORES, Past};

/// From its beginning to its publication, in time of the events: a hundred times as long as it takes.
const PUBLISHED_AFTER_NS: u64 = 200_000_000;

/// Everything that a growth needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Growth {
    pub params: ForestValidParams,
    /// The forest as it is, to be changed.
    pub grown: Grown,
    /// First tree, and how many.
    pub first: usize,
    pub many: usize,
    /// Whether the scale is measured as well.
    pub measure: bool,
    pub points: Vec<Point>,
    pub random: Random,
    /// Closed episodes by their number, whose scores shall be those of the new forest.
    pub past: Vec<(u64, Past)>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Crop {
    pub grown: Grown,
    /// What the closed episodes are worth now, by number.
    pub scores: Vec<(u64, f64)>,
}

impl Growth {
    fn finish(&self) -> Crop {
        let (mut grown, mut random, trees) = (self.grown.clone(), self.random.clone(), self.params.trees());
        let due = (self.first..self.first + self.many).map(|tree| tree % trees);
        grown.grow(&self.params, due, self.measure, &self.points, &mut random);
        let ranges = Ranges::of(&self.points);
        let scores = self.past.iter().map(|(number, past)| (*number, past.score_by(&grown, &ranges))).collect();
        Crop { grown, scores }
    }
}

/// A growth that has begun.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Growing {
    growth: Arc<Growth>,
    begun: Time,
    /// Nobody's state: what it will say follows from the growth.
    #[serde(skip)]
    worker: Option<JoinHandle<Crop>>,
}

impl Growing {
    /// Begins.
    pub fn begin(at: Time, growth: Growth) -> Self {
        let growth = Arc::new(growth);
        let given = Arc::clone(&growth);
        let worker = Builder::new().name("growth".to_owned()).spawn(move || given.finish()).ok();
        Self { growth, begun: at, worker }
    }

    /// Whether it is to be taken over. A clock that was set back does not put it off.
    pub fn is_due(&self, at: Time) -> bool {
        at.unix_ns.abs_diff(self.begun.unix_ns) >= PUBLISHED_AFTER_NS
    }

    /// What came of it.
    pub fn harvest(self) -> Crop {
        self.worker.and_then(|worker| worker.join().ok()).unwrap_or_else(|| self.growth.finish())
    }

    /// Whether what was read from a snapshot can be grown.
    pub fn is_sound(&self, params: &ForestValidParams) -> bool {
        let Growth { params: own, grown, first, many, points, past, .. } = self.growth.as_ref();
        let trees = params.trees();
        own == params
            && grown.is_sound(trees)
            && *first < trees
            && (1..=trees).contains(many)
            && (grown.trees() == trees || *many == trees)
            && points.len() <= MAX_ROWS
            && points.iter().all(|point| point.vector.is_finite())
            && past.len() <= MAX_SCORES
            && past.iter().all(|(_, past)| past.is_sound())
    }
}

impl Clone for Growing {
    fn clone(&self) -> Self {
        Self { growth: Arc::clone(&self.growth), begun: self.begun, worker: None }
    }
}

impl PartialEq for Growing {
    fn eq(&self, other: &Self) -> bool {
        self.growth == other.growth && self.begun == other.begun
    }
}
