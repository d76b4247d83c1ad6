//! What the agent's policy makes of a verdict, as far as an evaluation asks: the lane, the novelties that are told whatever
//! they score, and whether the episode would be denied.
//!
//! What can be denied of a subtree, and whether it may be, is [`model::conduct`], by which the agent acts. Here stands only
//! when a subtree's trail begins and ends, which in the agent (`collector/src/policy/mod.rs`) also keeps findings. Two things
//! of the agent are not asked: whether the model is healthy (`Knowledge::health`) and the protected processes.

use std::collections::BTreeMap;

use model::conduct::{self, Conduct, Processes, is_news, novel_destination, runs_from_memory};
use model::event::{Body, Event, Time};
use model::{Standing, Verdict};

use super::track::Lane;

/// Subtrees that are followed.
const MAX_TRAILS: usize = 16_384;

/// The lane of an event.
pub fn lane(event: &Event, verdict: &Verdict) -> Lane {
    match &event.body {
        Body::Exec(_) if runs_from_memory(event) => Lane::MemoryExec,
        Body::Exec(_) => Lane::Exec,
        Body::Flow(_) if novel_destination(event, verdict).is_some() => Lane::Egress,
        Body::Flow(_) => Lane::Flow,
        Body::File(_) => Lane::File,
        _ => Lane::Window,
    }
}

/// Whether a finding is told whatever the episode scores: a never-seen program or destination, or code without a file.
pub fn is_told_anyway(event: &Event, verdict: &Verdict, standing: Standing) -> bool {
    runs_from_memory(event) || (standing == Standing::Ready && is_news(event, verdict))
}

struct Trail {
    started: Time,
    /// The model keeps the episode. Not so for a novelty that is hardly a surprise.
    kept: bool,
    conduct: Conduct,
}

/// Follows subtrees as the policy does.
#[derive(Default)]
pub struct Policy {
    trails: BTreeMap<u64, Trail>,
    processes: Processes,
}

impl Policy {
    /// Remembers whom an event is about.
    pub fn note(&mut self, event: &Event) {
        self.processes.note(event);
    }

    /// Whether the episode is one that would be denied if its score reached the threshold.
    pub fn would_deny(&mut self, event: &Event, verdict: &Verdict, standing: Standing) -> bool {
        if standing == Standing::Learning {
            return false;
        }
        let Some(trail) = trail_of(&mut self.trails, event, verdict) else { return false };
        if !trail.kept && verdict.episode.evidence > 0 {
            (trail.kept, trail.started) = (true, verdict.episode.started);
        }
        trail.conduct.complete &= verdict.complete;
        trail.conduct.follow(event, verdict);
        trail.conduct.has_target(&self.processes) && trail.conduct.refusal(verdict, &event.process.workload).is_none()
    }

    /// The day is over: episodes are closed.
    pub fn end_day(&mut self) {
        self.trails.clear();
    }
}

/// The trail of an event's subtree. It begins with the first evidence or novelty, and anew with each episode.
fn trail_of<'a>(trails: &'a mut BTreeMap<u64, Trail>, event: &Event, verdict: &Verdict) -> Option<&'a mut Trail> {
    let (anchor, started) = (verdict.episode.anchor, verdict.episode.started);
    let is_over = |trail: &Trail| trail.kept && verdict.episode.evidence > 0 && trail.started != started;
    if trails.get(&anchor).is_some_and(is_over) {
        trails.remove(&anchor);
    }
    let begins = is_news(event, verdict) || runs_from_memory(event) || conduct::is_evidence(verdict);
    if !trails.contains_key(&anchor) && (!begins || trails.len() >= MAX_TRAILS) {
        return None;
    }
    let fresh = || Trail { started, kept: false, conduct: Conduct::default() };
    Some(trails.entry(anchor).or_insert_with(fresh))
}
