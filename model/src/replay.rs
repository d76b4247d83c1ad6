//! Takes a stream of events through a model in event time, as a running agent does: score, then learn, and let time pass.
//!
//! The trainer drives the model with it; a test of the agent shows that the scores are the agent's, bit for bit.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::event::{Event, Time};
use crate::{EpisodeView, Model, Standing, Verdict};

/// Boot time between two ticks, as in a running agent.
pub const TICK_NS: u64 = 200_000_000;

/// A model, who is judged by it, and how far time has passed.
#[derive(Clone, Debug)]
pub struct Replay {
    model: Model,
    ready: BTreeSet<Arc<str>>,
    now: u64,
    last_tick: u64,
}

/// What one event led to.
#[derive(Clone, Debug)]
pub struct Step {
    /// Episodes that closed before it.
    pub closed: Vec<EpisodeView>,
    /// How its workload is judged.
    pub standing: Standing,
    /// What the model says; `None` when it is no evidence.
    pub verdict: Option<Verdict>,
}

impl Replay {
    /// Begins with a model, new or restored.
    pub fn new(model: Model) -> Self {
        let judged = |name: &Arc<str>| model.summary(name).is_some_and(|summary| summary.frozen);
        let ready = model.workloads().into_iter().filter(judged).collect();
        Self { model, ready, now: 0, last_tick: 0 }
    }

    /// Takes one event: lets the time until it pass, scores it against what was known before it, then learns from it.
    pub fn feed(&mut self, event: &Event) -> Step {
        let closed = self.pass_time(event.at);
        let standing = self.standing(&event.process.workload);
        let verdict = self.model.observe(event, standing);
        Step { closed, standing, verdict }
    }

    /// Lets time pass.
    pub fn pass_time(&mut self, at: Time) -> Vec<EpisodeView> {
        self.now = self.now.max(at.boot_ns);
        if self.now < self.last_tick + TICK_NS {
            return Vec::new();
        }
        self.last_tick = self.now;
        self.model.tick(at)
    }

    /// How a workload is judged.
    pub fn standing(&self, workload: &str) -> Standing {
        if self.ready.contains(workload) { Standing::Ready } else { Standing::Learning }
    }

    /// Freezes the baseline of a workload and judges it from now on.
    pub fn freeze(&mut self, workload: &Arc<str>, at: Time) {
        if self.ready.insert(workload.clone()) {
            self.model.freeze(workload, at);
        }
    }

    /// Freezes the baselines of all workloads known so far.
    pub fn freeze_all(&mut self, at: Time) {
        for workload in self.model.workloads() {
            self.freeze(&workload, at);
        }
    }

    /// Goes back to learning.
    pub fn thaw(&mut self, workload: &str) {
        if self.ready.remove(workload) {
            self.model.thaw(workload);
        }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The model, to keep.
    pub fn into_model(self) -> Model {
        self.model
    }
}

/// Scores of all verdicts folded into one number: equal runs have equal ones (FNV-1a over both scores' bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub u64);

impl Default for Fingerprint {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fingerprint {
    /// Takes a verdict.
    pub fn take(&mut self, verdict: &Verdict) {
        let bits = verdict.score.value.to_bits() ^ verdict.episode.score.to_bits().rotate_left(17);
        self.0 = (self.0 ^ bits).wrapping_mul(0x0000_0100_0000_01b3);
    }
}
