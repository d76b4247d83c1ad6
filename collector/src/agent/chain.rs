//! The pure part of the path, from record to outcomes: the same for a running agent and for a replay.

use std::sync::Arc;

use model::event::{Event, Time};
use model::{Model, Verdict};

use crate::decode::Record;
use crate::enrich::Enricher;
use crate::enrich::surroundings::Surroundings;
use crate::policy::{Outcome, Policy, Wellbeing};
use crate::score::Scorer;

/// How often it is asked how the model is, on the boot clock.
const LOOK_NS: u64 = 10_000_000_000;

/// Enrich, score, policy.
pub struct Chain<S> {
    /// Names processes and workloads.
    pub enricher: Enricher<S>,
    /// Owns the model.
    pub scorer: Scorer,
    /// Makes findings and decisions.
    pub policy: Policy,
    /// When it was last asked how the model is; boot clock.
    looked: Option<u64>,
}

/// What one record led to.
pub struct Step {
    /// The event, unless the record only taught the process table.
    pub event: Option<Arc<Event>>,
    /// What the model said.
    pub verdict: Option<Verdict>,
    /// What has to be done about it.
    pub outcomes: Vec<Outcome>,
}

impl<S: Surroundings> Chain<S> {
    /// A chain that knows nothing yet.
    pub fn new(enricher: Enricher<S>, model: Model, policy: Policy) -> Self {
        let scorer = Scorer::new(model, policy.modes().rows());
        Self { enricher, scorer, policy, looked: None }
    }

    /// Takes one record through.
    pub fn feed(&mut self, record: &Record) -> Step {
        match self.enricher.enrich(record) {
            Some(event) => self.judge(event),
            None => Step { event: None, verdict: None, outcomes: Vec::new() },
        }
    }

    /// Takes one event through what comes after the enricher.
    pub fn judge(&mut self, event: Event) -> Step {
        let verdict = self.scorer.score(&event);
        let outcomes = self.policy.on_event(&event, verdict.as_ref(), self.scorer.knowledge());
        Step { event: Some(Arc::new(event)), verdict, outcomes }
    }

    /// Lets time pass.
    pub fn tick(&mut self, at: Time) -> Vec<Outcome> {
        let closed = self.scorer.tick(at);
        let mut outcomes = self.policy.on_tick(at, &closed);
        if self.looked.is_none_or(|looked| at.boot_ns >= looked.saturating_add(LOOK_NS)) {
            self.looked = Some(at.boot_ns);
            outcomes.extend(self.policy.on_health(&Wellbeing::of(self.scorer.model()), at));
        }
        outcomes
    }

    /// Follows what a mode change means for the model.
    pub fn follow(&mut self, outcomes: &[Outcome], at: Time) {
        for outcome in outcomes {
            if let Outcome::Mode(row) = outcome {
                self.scorer.follow(row, at);
            }
        }
    }
}
