//! Trees are grown on a thread of their own and published as a whole, so that no event waits for them.
//!
//! What is grown, and when it is published, depends on the events alone: a growth begins with everything it needs, and is
//! taken over at a time that does not depend on how long it took. Whoever reaches that time first waits for the rest of it, and
//! where there is no thread (a copy of a model, one that was restored, no room for one) it is done there and then. So
//! the same events give the same scores, bit for bit, on any number of cores.
//!
//! A growth that panics, or that ends in numbers that are none, is a bug of ours and would end so again: it is given up,
//! wherever it was done, and the forest that there is goes on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::beside::{self, Coming};
use crate::event::Time;
use crate::forest::ForestValidParams;
use crate::grown::{Grown, Ranges};
use crate::random::Random;
use crate::reservoir::{MAX_ROWS, Taken};
use crate::threshold::{Recall, Rescored};

/// From its beginning to its publication, on the boot clock of the events: a hundred times as long as it takes.
const PUBLISHED_AFTER_NS: u64 = 1_000_000_000;

/// Everything that a growth needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Growth {
    pub params: ForestValidParams,
    /// The forest as it is, to be changed.
    pub grown: Arc<Grown>,
    /// First tree, and how many.
    pub first: usize,
    pub many: usize,
    /// Whether the scale is measured as well.
    pub measure: bool,
    #[serde(rename = "points")]
    pub rows: Taken,
    pub random: Random,
    /// Closed episodes whose scores shall be those of the new forest.
    pub recall: Recall,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Crop {
    pub grown: Arc<Grown>,
    /// What the closed episodes are worth now.
    pub rescored: Rescored,
}

impl Growth {
    /// What comes of it; `None` when it has to be given up.
    fn tried(&self) -> Option<Crop> {
        // Nothing that it shares is changed by it.
        let crop = catch_unwind(AssertUnwindSafe(|| self.finish())).ok()?;
        crop.is_sound(self.params.trees()).then_some(crop)
    }

    fn finish(&self) -> Crop {
        let (mut grown, mut random, trees) = (Grown::clone(&self.grown), self.random.clone(), self.params.trees());
        let due = (self.first..self.first + self.many).map(|tree| tree % trees);
        let points = self.rows.points();
        let ranges = Ranges::of(&points);
        grown.grow(&self.params, due, self.measure, (&points, &ranges), &mut random);
        let rescored = self.recall.rescored(&grown, &ranges);
        // Here, so that nobody who judges has to.
        grown.exam();
        Crop { grown: Arc::new(grown), rescored }
    }
}

impl Crop {
    fn is_sound(&self, trees: usize) -> bool {
        self.grown.is_sound(trees) && self.rescored.scores().iter().all(|(_, score)| score.is_finite())
    }
}

/// A growth that has begun.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Growing {
    growth: Arc<Growth>,
    begun: Time,
    /// Nobody's state: what it will say follows from the growth.
    #[serde(skip)]
    coming: Option<Coming<Option<Crop>>>,
}

impl Growing {
    /// Begins.
    pub fn begin(at: Time, growth: Growth) -> Self {
        let growth = Arc::new(growth);
        let given = Arc::clone(&growth);
        Self { growth, begun: at, coming: beside::run(move || given.tried()) }
    }

    /// Whether it is to be taken over. A clock that began anew, with the machine, does not put it off.
    pub fn is_due(&self, at: Time) -> bool {
        at.boot_ns.abs_diff(self.begun.boot_ns) >= PUBLISHED_AFTER_NS
    }

    /// What came of it; `None` when it has to be given up. Whoever judges never panics because of it.
    pub fn harvest(self) -> Option<Crop> {
        let crop = self.coming.and_then(Coming::wait).unwrap_or_else(|| self.growth.tried());
        beside::leave(self.growth);
        crop
    }

    /// Whether what was read from a snapshot can be grown.
    pub fn is_sound(&self, params: &ForestValidParams) -> bool {
        let Growth { params: own, grown, first, many, rows, recall, .. } = self.growth.as_ref();
        let (trees, points) = (params.trees(), rows.points());
        own == params
            && grown.is_sound(trees)
            && *first < trees
            && (1..=trees).contains(many)
            && (grown.trees() == trees || *many == trees)
            && points.len() <= MAX_ROWS
            && points.iter().all(|point| point.vector.is_finite())
            && recall.is_sound(trees)
    }
}

#[cfg(test)]
impl Growing {
    /// The same, only that it panics.
    pub fn spoilt(self) -> Self {
        Self::begin(self.begun, Growth { rows: Taken::impossible(), ..Growth::clone(&self.growth) })
    }
}

impl Clone for Growing {
    fn clone(&self) -> Self {
        Self { growth: Arc::clone(&self.growth), begun: self.begun, coming: None }
    }
}

impl PartialEq for Growing {
    fn eq(&self, other: &Self) -> bool {
        self.growth == other.growth && self.begun == other.begun
    }
}

#[cfg(test)]
mod tests {
    use linfa::ParamGuard;

    use super::*;
    use crate::features::{Coordinate, FeatureVector};
    use crate::forest::ForestParams;
    use crate::reservoir::Point;
    use crate::threshold::{Calibration, Past};

    fn growth(seed: u64) -> Growth {
        let mut random = Random::new(seed);
        let points = (0..400).map(|n| {
            let mut vector = FeatureVector::default();
            vector.bits.iter_mut().for_each(|bits| *bits = -0.7 * (1.0 - random.unit()).ln());
            Point { hour: n % 20, vector }
        });
        let points: Vec<Point> = points.collect();
        let mut strange = FeatureVector::default();
        strange.raise(Coordinate::Net, 20.0);
        Growth {
            params: ForestParams::new(16, 64, seed).check().expect("good parameters"),
            grown: Arc::default(),
            first: 0,
            many: 16,
            measure: true,
            rows: points.into(),
            random,
            recall: recall_of(vec![
                Past::new(Arc::from("a"), Time::default(), 3.0, vec![(5, strange)]),
                Past::new(Arc::from("a"), Time::default(), 4.0, Vec::new()),
            ]),
        }
    }

    fn recall_of(past: Vec<Past>) -> Recall {
        let mut calibration = Calibration::default();
        past.into_iter().rev().for_each(|past| calibration.add(past, 0.0, 1.0));
        calibration.recall()
    }

    fn change(growth: &mut Growth, change: impl FnMut(&mut Point)) {
        let mut points = growth.rows.points();
        points.iter_mut().for_each(change);
        growth.rows = points.into();
    }

    fn at(seconds: u64) -> Time {
        Time { unix_ns: 0, boot_ns: seconds * 1_000_000_000 }
    }

    #[test]
    fn a_thread_a_copy_and_a_restored_growth_say_the_same_bit_for_bit() {
        for seed in 1..=5 {
            let begun = Growing::begin(at(1), growth(seed));
            let copy = begun.clone();
            let bytes = postcard::to_stdvec(&begun).expect("bytes");
            let restored: Growing = postcard::from_bytes(&bytes).expect("a growth");
            assert_eq!(begun, restored);
            let crops = [begun, copy, restored].map(|growing| growing.harvest().expect("a crop"));
            for crop in &crops[1..] {
                assert_eq!((&crop.grown, crop.rescored.scores()), (&crops[0].grown, crops[0].rescored.scores()));
            }
            let scores = crops[0].rescored.scores();
            let score_of = |number: u64| scores.iter().find(|(it, _)| *it == number).expect("a score").1;
            assert!(score_of(1) > 15.0, "a strange vector is worth something: {scores:?}");
            assert_eq!(score_of(0), 4.0, "facts stay what they were");
        }
    }

    #[test]
    fn a_growth_that_panics_is_given_up_with_a_thread_and_without() {
        let begun = Growing::begin(at(1), growth(1)).spoilt();
        let copy = begun.clone();
        assert!(begun.harvest().is_none() && copy.harvest().is_none());
        assert!(Growing::begin(at(1), growth(1)).harvest().is_some(), "the thread goes on");
    }

    #[test]
    fn a_forest_of_numbers_that_are_none_is_given_up() {
        let mut broken = growth(1);
        change(&mut broken, |point| point.vector.bits[2] = f64::NAN);
        let begun = Growing::begin(at(1), broken);
        let copy = begun.clone();
        assert!(begun.harvest().is_none() && copy.harvest().is_none());
        let past = Past::new(Arc::from("a"), Time::default(), f64::INFINITY, Vec::new());
        let broken = Growth { recall: recall_of(vec![past]), ..growth(1) };
        assert!(Growing::begin(at(1), broken).harvest().is_none(), "nor may a level be none");
    }

    #[test]
    fn a_level_is_always_of_the_forest_in_force() {
        let (mut quiet, mut loud) = (growth(3), growth(3));
        change(&mut loud, |point| point.vector.bits.iter_mut().for_each(|bits| *bits *= 4.0));
        // Ten days with an episode each, scored by a forest that has seen quiet days only.
        let hours = 100..110;
        let vector = |hour: u64| {
            let mut vector = FeatureVector::default();
            vector.raise(Coordinate::Seq, 34.0 + hour as f64 / 20.0);
            vector
        };
        let day = |hour: u64| Time { unix_ns: (hour - 99) * 86_400_000_000_000, boot_ns: 0 };
        let mut calibration = Calibration::default();
        calibration.begin(Time { unix_ns: 1, boot_ns: 0 });
        quiet.recall = Recall::default();
        let before = quiet.finish().grown;
        for hour in hours.clone() {
            let past = Past::new(Arc::from("a"), day(hour), 0.0, vec![(hour, vector(hour))]);
            calibration.add(past, before.score(&vector(hour)).value, 1.0);
        }
        let level = |calibration: &Calibration| calibration.threshold(day(110), 1.0, 30.0).level;
        let old = level(&calibration);
        loud.recall = calibration.recall();
        let crop = loud.finish();
        calibration.rescore(&crop.rescored);
        let reach = hours.filter(|hour| crop.grown.score(&vector(*hour)).value >= level(&calibration)).count();
        assert!(level(&calibration) < old - 3.0, "{} and {old} before", level(&calibration));
        assert_eq!(reach, 10, "one a day, as the budget says: by the old level there would never be one again");
    }

    #[test]
    fn it_is_published_by_the_clock_of_the_events_also_when_that_began_anew() {
        let growing = Growing::begin(at(100), growth(1));
        assert!(!growing.is_due(at(100)) && growing.is_due(at(101)) && growing.is_due(at(3)));
    }

    #[test]
    fn what_cannot_have_been_begun_is_refused() {
        let params = growth(1).params;
        let sound = |growth: Growth| Growing::begin(at(0), growth).is_sound(&params);
        assert!(sound(growth(1)));
        assert!(!sound(Growth { first: 16, ..growth(1) }) && !sound(Growth { many: 17, ..growth(1) }));
        assert!(!sound(Growth { many: 8, ..growth(1) }), "the first trees are grown together");
        let mut broken = growth(1);
        change(&mut broken, |point| point.vector.bits[2] = f64::NAN);
        assert!(!sound(broken));
        let mut broken = growth(1);
        let past = Past::new(Arc::from("a"), Time::default(), f64::INFINITY, Vec::new());
        broken.recall = recall_of(vec![past]);
        assert!(!sound(broken));
    }
}
