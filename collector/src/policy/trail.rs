//! What one subtree did during its episode: who has to be denied is decided from it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use model::Verdict;
use model::event::{Body, Event, Process, Time};
use serde::{Deserialize, Serialize};

use super::evidence::{self, Sensor};
use crate::decision::Destination;
use crate::finding::ProcessSummary;

/// Deeds kept of one subtree.
pub const MAX_DEEDS: usize = 16;
/// Culprits, and destinations, kept of one subtree: with more than a few the whole subtree is the target.
const MAX_NOVEL: usize = 16;
/// Subtrees followed at once.
pub const MAX_TRAILS: usize = 4_096;
/// As in the model: an episode closes after five minutes without evidence, on the boot clock.
const QUIET_NS: u64 = 300 * 1_000_000_000;
/// An episode that the model forgot early (it holds 4,096) is over at the latest now.
const LONGEST_NS: u64 = 25 * 3_600 * 1_000_000_000;
/// Processes remembered by name.
const MAX_PROCESSES: usize = 65_536;
/// Ended processes remembered by name: children outlive their parents.
const MAX_ENDED: usize = 8_192;

/// One subtree in one episode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trail {
    /// Cookie of the episode's anchor.
    pub anchor: u64,
    /// Workload.
    pub workload: Arc<str>,
    /// When the episode began.
    pub started: Time,
    /// Last evidence.
    pub last: Time,
    /// The model keeps the episode and will say when it closes. Not so for a novelty that is hardly a surprise.
    pub kept: bool,
    /// Sensors that gave evidence.
    pub sensors: BTreeSet<Sensor>,
    /// Processes that made a never-seen exec edge, oldest first; none of them below another.
    pub culprits: Vec<Arc<Process>>,
    /// Never-seen destinations and who reached for them, oldest first; none of them below a culprit.
    pub reached: Vec<(Arc<Process>, Destination)>,
    /// What it did, oldest first.
    pub deeds: Vec<String>,
    /// All of its evidence came without loss.
    pub complete: bool,
    /// Something was denied: later deeds are not listed.
    pub denied: bool,
}

impl Trail {
    /// A new one, from its first evidence.
    pub fn begin(event: &Event, verdict: &Verdict) -> Self {
        Self {
            anchor: verdict.episode.anchor,
            workload: event.process.workload.clone(),
            started: verdict.episode.started,
            last: event.at,
            kept: false,
            sensors: BTreeSet::new(),
            culprits: Vec::new(),
            reached: Vec::new(),
            deeds: Vec::new(),
            complete: true,
            denied: false,
        }
    }

    /// Adds what an event says.
    pub fn follow(&mut self, event: &Event, verdict: &Verdict, judged: bool) {
        if !self.kept && verdict.episode.evidence > 0 {
            self.kept = true;
            self.started = verdict.episode.started;
        }
        self.complete &= verdict.complete;
        if let Some(deed) = evidence::deed(event)
            && !self.denied
            && self.deeds.len() < MAX_DEEDS
            && self.deeds.last() != Some(&deed)
        {
            self.deeds.push(deed);
        }
        if !judged {
            return;
        }
        if evidence::novel(verdict).next().is_some() {
            self.last = event.at;
        }
        if let Some(sensor) = evidence::sensor(event, verdict) {
            self.last = event.at;
            self.sensors.insert(sensor);
        }
        if self.is_below_a_culprit(&event.process) {
            return;
        }
        if evidence::is_novel_exec(event, verdict) && self.culprits.len() < MAX_NOVEL {
            self.culprits.push(event.process.clone());
        }
        if let Some(to) = evidence::novel_destination(event, verdict)
            && self.reached.len() < MAX_NOVEL
        {
            let reach = (event.process.clone(), to);
            let known =
                |(process, to): &(Arc<Process>, Destination)| process.cookie == reach.0.cookie && *to == reach.1;
            if !self.reached.iter().any(known) {
                self.reached.push(reach);
            }
        }
    }

    fn is_below_a_culprit(&self, process: &Process) -> bool {
        let above =
            |culprit: &Arc<Process>| culprit.cookie == process.cookie || process.ancestors.contains(&culprit.cookie);
        self.culprits.iter().any(above)
    }

    /// Whether it is over although the model does not say so: it was never kept there and has been quiet for as long.
    pub fn is_over(&self, at: Time) -> bool {
        let quiet = at.boot_ns.saturating_sub(self.last.boot_ns);
        quiet >= if self.kept { LONGEST_NS } else { QUIET_NS }
    }

    /// A fact of class A (exec edge, destination) that the frozen baseline does not hold.
    pub fn has_class_a(&self) -> bool {
        !self.culprits.is_empty() || !self.reached.is_empty()
    }

    /// The sensors by name: `process, flow`.
    pub fn sensor_names(&self) -> String {
        self.sensors.iter().map(|sensor| sensor.name()).collect::<Vec<_>>().join(" and ")
    }
}

/// Processes by cookie, so that a finding can print a tree.
#[derive(Clone, Debug, Default)]
pub struct Names {
    known: BTreeMap<u64, Arc<Process>>,
    ended: VecDeque<u64>,
    overflow: u64,
}

impl Names {
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

    /// From the outermost known ancestor to the process itself.
    pub fn tree(&self, process: &Process) -> Vec<ProcessSummary> {
        let above = process.ancestors.iter().rev().filter_map(|cookie| self.get(*cookie)).map(|known| summary(known));
        above.chain([summary(process)]).collect()
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

fn summary(process: &Process) -> ProcessSummary {
    ProcessSummary {
        cookie: process.cookie,
        pid: process.pid,
        exe: process.exe.clone(),
        cmdline: process.cmdline.clone(),
        uid: process.uid,
        loginuid: process.loginuid,
    }
}
