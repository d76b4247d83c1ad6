//! Rivals: what somebody would use instead, each behind the same two questions.
//!
//! A detector learns from the training days, settles, and then scores every later event. It never sees a label.

mod batch;
mod features;
mod outside;
mod rate;
mod robust;
mod stide;
mod trivial;

use std::path::Path;

use model::Verdict;
use model::event::Event;

pub use batch::{Fitted, Kind};
pub use features::{RAW, RAW_NAMES, raw};
pub use outside::{Recorder, Vectors};
pub use robust::Centres;

/// What a detector may look at.
pub struct Seen<'a> {
    /// Its place in the host's days, the same in every pass.
    pub key: EventKey,
    /// The event.
    pub event: &'a Event,
    /// What the model says about it: the eight coordinates are there.
    pub verdict: &'a Verdict,
    /// Its plain numbers.
    pub raw: [f64; RAW],
    /// It belongs to the last part of the training days, when a baseline exists.
    pub late: bool,
}

/// An event of a host: the day's number among all, and its place in the day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventKey {
    /// Day.
    pub day: u32,
    /// Place, from 0 on.
    pub place: u32,
}

/// A rival.
pub trait Detector {
    /// Name of its row.
    fn name(&self) -> &str;

    /// Learns from a training day.
    fn learn(&mut self, seen: &Seen);

    /// The training days are over.
    ///
    /// # Errors
    ///
    /// When it cannot be fitted.
    fn settle(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    /// Scores an event; finite, higher = more anomalous.
    ///
    /// # Errors
    ///
    /// When it has no score for the event: that ends the evaluation, since any number in its place would be invented.
    fn score(&mut self, seen: &Seen) -> anyhow::Result<f64>;

    /// Every day was scored.
    ///
    /// # Errors
    ///
    /// When what it wrote or read is not whole.
    fn finish(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}

/// Every rival, in the order of the table. Each is seeded by itself, so that leaving one out changes no other.
pub fn all(seed: u64) -> Vec<Box<dyn Detector>> {
    use batch::Batch;
    vec![
        Box::new(trivial::SumOfBits),
        Box::new(stide::Stide::default()),
        Box::new(robust::RobustZ::new(seed)),
        Box::new(rate::Rate::default()),
        Box::new(Batch::forest_on_coordinates(seed)),
        Box::new(Batch::forest_on_raw(seed)),
        Box::new(Batch::pca(seed)),
        Box::new(Batch::kmeans(seed)),
        Box::new(trivial::Constant),
        Box::new(trivial::Random::new(seed)),
    ]
}

/// Rivals that scored this host's events outside of this program: `FOLDER/HOST.parquet`, one column a rival.
///
/// # Errors
///
/// When the file is missing or damaged.
pub fn from_outside(folder: &Path, host: &str) -> anyhow::Result<Vec<Box<dyn Detector>>> {
    outside::read(&folder.join(format!("{host}.parquet")))
}
