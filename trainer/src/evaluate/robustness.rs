//! What a real host does not grant: a clean past, a world that stands still, an attack that is sudden.
//!
//! Three questions to the whole system, at the middle budget and over the seeds of an evaluation: what is still found after
//! attacks were learnt as normal ([`contamination`]), how long a lasting benign change is noise ([`recovery`]), and from when
//! on an attack that grows slowly is one ([`ramp`]).

mod contamination;
mod ramp;
mod recovery;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub use contamination::{Contaminated, Kinds};
pub use ramp::Ramp;
pub use recovery::Recovery;

use super::{AtBudget, Evaluation, Options, seeds};
use crate::corpus::Corpus;

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Question {
    /// What is still found after attacks were learnt as normal?
    Contamination,
    /// How long is a lasting change noise?
    Recovery,
    /// From when on is a slow ramp found?
    Ramp,
}

impl Question {
    /// All.
    pub const ALL: [Self; 3] = [Self::Contamination, Self::Recovery, Self::Ramp];
}

/// The answers; nothing where nothing was asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Robustness {
    /// False alarms a host-day.
    pub budget: f64,
    /// How many seeds.
    pub seeds: usize,
    /// With attacks among what is learnt; the first row is without.
    pub contamination: Vec<Contaminated>,
    /// After lasting changes.
    pub recovery: Vec<Recovery>,
    /// Days that are looked at after a change.
    pub days: usize,
    /// Attacks that grow slowly.
    pub ramps: Vec<Ramp>,
}

/// Asks the seeds of these evaluations.
///
/// # Errors
///
/// When a journal cannot be read.
pub fn robustness(
    corpus: &Corpus,
    options: &Options,
    each: &[Evaluation],
    questions: &[Question],
) -> anyhow::Result<Robustness> {
    let mut answers = Robustness {
        budget: options.budgets.get(options.budgets.len() / 2).copied().unwrap_or_default(),
        seeds: each.len(),
        contamination: Vec::new(),
        recovery: Vec::new(),
        days: recovery::ROUNDS * recovery::test_days(corpus),
        ramps: Vec::new(),
    };
    for question in questions {
        match question {
            Question::Contamination => answers.contamination = contamination::contamination(corpus, options, each)?,
            Question::Recovery => answers.recovery = recovery::recovery(corpus, options, each)?,
            Question::Ramp => answers.ramps = ramp::ramps(corpus, each)?,
        }
    }
    Ok(answers)
}

/// The whole system at the middle budget.
fn middle(evaluation: &Evaluation) -> Option<&AtBudget> {
    let at = &seeds::full(evaluation)?.at;
    at.get(at.len() / 2)
}
