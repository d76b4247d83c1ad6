//! What a subtree did that can be denied, and whether it may be: the part of a denial that follows from events and verdicts
//! alone. The agent's policy acts by it and the evaluation counts by it, so what the scorecard calls a would-be denial is one.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use collector_common::flow::Direction;
use collector_common::process::{EXEC_MEMORY, EXEC_UNLINKED};
use serde::{Deserialize, Serialize};

use crate::event::{Body, Event, Flow, Process};
use crate::{Fact, FactSurprise, Verdict};

/// Evidence below this many bits neither opens an episode's finding nor corroborates another sensor.
pub const EVIDENCE_BITS: f64 = 6.0;
/// Culprits, and destinations, kept of one subtree: the first half and the newest half, so that decoys shield neither what came
/// before them nor what comes after.
const MAX_NOVEL: usize = 16;
/// Processes remembered.
const MAX_PROCESSES: usize = 65_536;
/// Ended processes remembered: children outlive their parents.
const MAX_ENDED: usize = 8_192;

/// Facts that the workload is judged against and does not hold.
pub fn novel(verdict: &Verdict) -> impl Iterator<Item = &FactSurprise> {
    verdict.facts.iter().filter(|fact| fact.novel)
}

/// Whether a verdict is strong enough to say something about its subtree: [`EVIDENCE_BITS`] of score, or of a new fact.
pub fn is_evidence(verdict: &Verdict) -> bool {
    verdict.score.value >= EVIDENCE_BITS || novel(verdict).any(|fact| fact.bits >= EVIDENCE_BITS)
}

/// Code that no file holds: from memory, or from a file that was deleted.
pub fn runs_from_memory(event: &Event) -> bool {
    matches!(&event.body, Body::Exec(exec) if exec.bits & (EXEC_MEMORY | EXEC_UNLINKED) != 0)
}

/// Whether an event's novelty is a finding of its own: a never-seen program or destination, unless such things are daily
/// bread there and the episode is below the threshold.
pub fn is_news(event: &Event, verdict: &Verdict) -> bool {
    let class_a = is_novel_exec(event, verdict) || novel_destination(event, verdict).is_some();
    let expected = |fact: &FactSurprise| fact.expected || !fact.class_a;
    class_a && (verdict.episode.over_threshold || !novel(verdict).all(expected))
}

/// A never-seen exec edge or executable.
pub fn is_novel_exec(event: &Event, verdict: &Verdict) -> bool {
    matches!(event.body, Body::Exec(_)) && novel(verdict).any(|fact| matches!(fact.fact, Fact::ExecEdge { .. }))
}

/// A never-seen destination that this host connected to.
pub fn novel_destination(event: &Event, verdict: &Verdict) -> Option<SocketAddr> {
    let Body::Flow(flow) = &event.body else { return None };
    let unknown = novel(verdict).any(|fact| matches!(fact.fact, Fact::Destination { .. }));
    (unknown && flow.direction == Direction::Out as u8).then_some(flow.remote)
}

/// What was done, for the list of what happened.
pub fn deed(event: &Event) -> Option<String> {
    match &event.body {
        Body::Exec(_) => Some(format!("exec {}", base_name(&event.process.exe))),
        Body::Flow(flow) if flow.direction == Direction::Out as u8 => Some(format!("connect {}", peer(flow))),
        _ => None,
    }
}

/// `203.0.113.10:443/tcp`.
pub fn peer(flow: &Flow) -> String {
    let protocol = if flow.protocol == 17 { "udp" } else { "tcp" };
    format!("{}/{protocol}", flow.remote)
}

/// The last part of a path.
pub fn base_name(path: &str) -> &str {
    path.rsplit('/').find(|part| !part.is_empty()).unwrap_or(path)
}

/// The novelties of one subtree in one episode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conduct {
    /// Processes that made a never-seen exec edge, oldest first; none of them below another.
    pub culprits: Vec<Arc<Process>>,
    /// Never-seen destinations and who reached for them, oldest first; none of them below a culprit.
    pub reached: Vec<(Arc<Process>, SocketAddr)>,
    /// All of its evidence came without loss.
    pub complete: bool,
}

impl Default for Conduct {
    fn default() -> Self {
        Self { culprits: Vec::new(), reached: Vec::new(), complete: true }
    }
}

impl Conduct {
    /// Adds what a judged event says.
    pub fn follow(&mut self, event: &Event, verdict: &Verdict) {
        if self.is_below_a_culprit(&event.process) {
            return;
        }
        if is_novel_exec(event, verdict) {
            keep(&mut self.culprits, event.process.clone());
        }
        if let Some(to) = novel_destination(event, verdict) {
            let cookie = event.process.cookie;
            if !self.reached.iter().any(|(process, known)| process.cookie == cookie && *known == to) {
                keep(&mut self.reached, (event.process.clone(), to));
            }
        }
    }

    fn is_below_a_culprit(&self, process: &Process) -> bool {
        let above =
            |culprit: &Arc<Process>| culprit.cookie == process.cookie || process.ancestors.contains(&culprit.cookie);
        self.culprits.iter().any(above)
    }

    /// A fact of class A (exec edge, destination) that the frozen baseline does not hold.
    pub fn has_class_a(&self) -> bool {
        !self.culprits.is_empty() || !self.reached.is_empty()
    }

    /// Whether there is somebody to deny something to: a destination, or a culprit that is not the service itself.
    pub fn has_target(&self, processes: &Processes) -> bool {
        !self.reached.is_empty() || self.culprits.iter().any(|culprit| !processes.is_main(culprit))
    }

    /// Why nothing of it is denied automatically, whatever it scores; none when it may be.
    pub fn refusal(&self, verdict: &Verdict, workload: &str) -> Option<&'static str> {
        if workload.starts_with("login") {
            return Some("people's sessions are never denied automatically");
        }
        if !self.complete || !verdict.complete {
            return Some("evidence was lost in this episode: it does not deny");
        }
        (verdict.episode.forest_sum <= 0.0)
            .then_some("the forest isolates nothing in this episode: facts alone do not deny")
    }
}

/// Keeps the first and the newest ones, [`MAX_NOVEL`] in all.
fn keep<T>(kept: &mut Vec<T>, new: T) {
    if kept.len() >= MAX_NOVEL {
        kept.remove(MAX_NOVEL / 2);
    }
    kept.push(new);
}

/// Processes by cookie, the ended ones for as long as there is room.
#[derive(Clone, Debug, Default)]
pub struct Processes {
    known: BTreeMap<u64, Arc<Process>>,
    ended: VecDeque<u64>,
    overflow: u64,
}

impl Processes {
    /// Remembers who an event is about.
    pub fn note(&mut self, event: &Event) {
        let cookie = event.process.cookie;
        if matches!(event.body, Body::Exit(_)) {
            self.ended.push_back(cookie);
            while self.ended.len() > MAX_ENDED {
                if let Some(oldest) = self.ended.pop_front() {
                    self.known.remove(&oldest);
                }
            }
        }
        if self.known.len() >= MAX_PROCESSES && !self.known.contains_key(&cookie) {
            self.overflow += 1;
            return;
        }
        self.known.insert(cookie, event.process.clone());
    }

    /// A process, if it is remembered.
    pub fn get(&self, cookie: u64) -> Option<&Arc<Process>> {
        self.known.get(&cookie)
    }

    /// Processes that did not fit.
    pub fn overflow(&self) -> u64 {
        self.overflow
    }

    /// Whether a process is the main one of its workload: started by somebody outside of it. It is never a tree target
    /// automatically, because denying it takes the whole service down.
    pub fn is_main(&self, process: &Process) -> bool {
        match process.ancestors.first() {
            None => true,
            Some(parent) => match self.get(*parent) {
                Some(parent) => parent.pid == 1 || parent.workload != process.workload,
                None => process.ancestors.len() == 1,
            },
        }
    }
}
