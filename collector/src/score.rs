//! Asks the model about each event. Nothing after this stage learns.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::event::{Event, Time};
use model::{EpisodeView, Model, Standing, Verdict};

use crate::policy::Knowledge;
use crate::policy::mode::{Mode, ModeRow};

/// The model and who is judged against a frozen baseline.
pub struct Scorer {
    model: Model,
    ready: BTreeSet<Arc<str>>,
    scored: u64,
}

impl Scorer {
    /// A model, new or restored, and the modes that the policy restored with it.
    pub fn new<'a>(model: Model, rows: impl Iterator<Item = &'a ModeRow>) -> Self {
        let ready = rows.filter(|row| row.mode > Mode::Learning).map(|row| row.workload.clone()).collect();
        Self { model, ready, scored: 0 }
    }

    /// Scores an event against what was known before it, then learns from it. `None` when it carries no evidence.
    pub fn score(&mut self, event: &Event) -> Option<Verdict> {
        let standing = self.standing(&event.process.workload);
        let verdict = self.model.observe(event, standing);
        self.scored += u64::from(verdict.is_some());
        verdict
    }

    /// How a workload is judged.
    pub fn standing(&self, workload: &str) -> Standing {
        if self.ready.contains(workload) { Standing::Ready } else { Standing::Learning }
    }

    /// Follows a changed mode: leaving learning freezes the baseline, going back thaws it.
    pub fn follow(&mut self, row: &ModeRow, at: Time) {
        let was_ready = self.ready.contains(&row.workload);
        match (was_ready, row.mode > Mode::Learning) {
            (false, true) => {
                self.model.freeze(&row.workload, at);
                self.ready.insert(row.workload.clone());
            }
            (true, false) => {
                self.model.thaw(&row.workload);
                self.ready.remove(&row.workload);
            }
            _ => {}
        }
    }

    /// Episodes that closed by now.
    pub fn tick(&mut self, at: Time) -> Vec<EpisodeView> {
        self.model.tick(at)
    }

    /// Verdicts given since the start.
    pub fn scored(&self) -> u64 {
        self.scored
    }

    /// The model, for reading.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// What the policy asks of the model.
    pub fn knowledge(&self) -> &dyn Knowledge {
        &self.model
    }
}
