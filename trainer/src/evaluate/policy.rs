//! What the agent's policy makes of a verdict, as far as an evaluation asks: the lane, the novelties that are told whatever
//! they score, and whether the episode would be denied.
//!
//! It says the same as `collector/src/policy` (`evidence.rs`, `trail.rs`, `decide.rs`), which the trainer must not use: a
//! denial needs an exec edge or destination that the frozen baseline does not hold, made by somebody else than the service's
//! main process, complete evidence, and a share of the forest in the episode's score.

use std::collections::BTreeMap;

use collector_common::flow::Direction;
use collector_common::process::{EXEC_MEMORY, EXEC_UNLINKED};
use model::event::{Body, Event, Process, Time};
use model::{Fact, Standing, Verdict};

use super::track::Lane;

/// Subtrees that are followed.
const MAX_TRAILS: usize = 16_384;
/// Processes that are remembered by their workload.
const MAX_PROCESSES: usize = 65_536;

/// The lane of an event.
pub fn lane(event: &Event, verdict: &Verdict) -> Lane {
    match &event.body {
        Body::Exec(exec) if exec.bits & (EXEC_MEMORY | EXEC_UNLINKED) != 0 => Lane::MemoryExec,
        Body::Exec(_) => Lane::Exec,
        Body::Flow(_) if is_novel_destination(event, verdict) => Lane::Egress,
        Body::Flow(_) => Lane::Flow,
        Body::File(_) => Lane::File,
        _ => Lane::Window,
    }
}

fn is_novel(verdict: &Verdict, is: fn(&Fact) -> bool) -> bool {
    verdict.facts.iter().any(|fact| fact.novel && is(&fact.fact))
}

fn is_novel_exec(event: &Event, verdict: &Verdict) -> bool {
    matches!(event.body, Body::Exec(_)) && is_novel(verdict, |fact| matches!(fact, Fact::ExecEdge { .. }))
}

fn is_novel_destination(event: &Event, verdict: &Verdict) -> bool {
    matches!(&event.body, Body::Flow(flow) if flow.direction == Direction::Out as u8)
        && is_novel(verdict, |fact| matches!(fact, Fact::Destination { .. }))
}

/// Whether a finding is told whatever the episode scores: a never-seen program or destination, or code without a file.
pub fn is_told_anyway(event: &Event, verdict: &Verdict, standing: Standing) -> bool {
    let novel = is_novel_exec(event, verdict) || is_novel_destination(event, verdict);
    lane(event, verdict) == Lane::MemoryExec || (standing == Standing::Ready && novel)
}

/// What an event did, for the list of what succeeded before.
pub fn deed(event: &Event) -> Option<String> {
    match &event.body {
        Body::Exec(_) => Some(format!("exec {}", event.process.exe.rsplit('/').next().unwrap_or("?"))),
        Body::Flow(flow) if flow.direction == Direction::Out as u8 => Some(format!("connect {}", flow.remote)),
        _ => None,
    }
}

#[derive(Clone, Copy, Debug)]
struct Trail {
    started: Time,
    /// A program that somebody else than the main process started, or a destination: something that can be denied.
    deniable: bool,
    complete: bool,
}

/// Follows subtrees as the policy does.
#[derive(Default)]
pub struct Policy {
    trails: BTreeMap<u64, Trail>,
    workloads: BTreeMap<u64, std::sync::Arc<str>>,
}

impl Policy {
    /// Remembers whom an event is about.
    pub fn note(&mut self, event: &Event) {
        if self.workloads.len() < MAX_PROCESSES || self.workloads.contains_key(&event.process.cookie) {
            self.workloads.insert(event.process.cookie, event.process.workload.clone());
        }
        if matches!(event.body, Body::Exit(_)) {
            // Children outlive their parents, but not the evaluation's patience: names are forgotten when there is no room.
            if self.workloads.len() >= MAX_PROCESSES {
                self.workloads.remove(&event.process.cookie);
            }
        }
    }

    /// Whether the episode is one that would be denied if its score reached the threshold.
    pub fn would_deny(&mut self, event: &Event, verdict: &Verdict, standing: Standing) -> bool {
        let anchor = verdict.episode.anchor;
        if standing == Standing::Learning || (!self.trails.contains_key(&anchor) && self.trails.len() >= MAX_TRAILS) {
            return false;
        }
        let started = verdict.episode.started;
        let fresh = Trail { started, deniable: false, complete: true };
        let main = self.is_main(&event.process);
        let trail = self.trails.entry(anchor).or_insert(fresh);
        if trail.started != started && verdict.episode.evidence > 0 {
            *trail = fresh;
        }
        trail.complete &= verdict.complete;
        trail.deniable |= is_novel_exec(event, verdict) && !main;
        trail.deniable |= is_novel_destination(event, verdict);
        trail.deniable
            && trail.complete
            && verdict.episode.forest_sum > 0.0
            && !event.process.workload.starts_with("login")
    }

    /// Whether a process was started by somebody outside of its workload.
    fn is_main(&self, process: &Process) -> bool {
        match process.ancestors.first() {
            None => true,
            Some(parent) => match self.workloads.get(parent) {
                Some(workload) => *workload != process.workload,
                None => process.ancestors.len() == 1,
            },
        }
    }

    /// The day is over: episodes are closed.
    pub fn end_day(&mut self) {
        self.trails.clear();
    }
}
