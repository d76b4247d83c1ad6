//! Rivals: what somebody would use instead, each behind the same two questions.
//!
//! A detector learns from the training days, settles, and then scores every later event. It never sees a label.

mod batch;
mod features;
mod rate;
mod robust;
mod stide;
mod trivial;

use model::Verdict;
use model::event::Event;

pub use features::{RAW, RAW_NAMES, raw};

/// What a detector may look at.
pub struct Seen<'a> {
    /// The event.
    pub event: &'a Event,
    /// What the model says about it: the eight coordinates are there.
    pub verdict: &'a Verdict,
    /// Its plain numbers.
    pub raw: [f64; RAW],
    /// It belongs to the last part of the training days, when a baseline exists.
    pub late: bool,
}

/// A rival.
pub trait Detector {
    /// Name of its row.
    fn name(&self) -> &'static str;

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

    /// Scores an event; higher = more anomalous.
    fn score(&mut self, seen: &Seen) -> f64;
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
