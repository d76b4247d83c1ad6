//! What one subtree did during its episode: who has to be denied is decided from it.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::Verdict;
use model::conduct::{self, Conduct, Processes};
use model::event::{Event, Process, Time};
use serde::{Deserialize, Serialize};

use super::evidence::{self, Sensor};
use crate::finding::ProcessSummary;

/// Deeds kept of one subtree.
pub const MAX_DEEDS: usize = 16;
/// Subtrees followed at once.
pub const MAX_TRAILS: usize = 4_096;
/// As in the model: an episode closes after five minutes without evidence, on the boot clock.
const QUIET_NS: u64 = 300 * 1_000_000_000;
/// An episode that the model forgot early (it holds 4,096) is over at the latest now.
const LONGEST_NS: u64 = 25 * 3_600 * 1_000_000_000;

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
    /// What can be denied of it.
    pub conduct: Conduct,
    /// What it did, oldest first.
    pub deeds: Vec<String>,
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
            conduct: Conduct::default(),
            deeds: Vec::new(),
            denied: false,
        }
    }

    /// Adds what an event says.
    pub fn follow(&mut self, event: &Event, verdict: &Verdict, judged: bool) {
        if !self.kept && verdict.episode.evidence > 0 {
            self.kept = true;
            self.started = verdict.episode.started;
        }
        self.conduct.complete &= verdict.complete;
        if let Some(deed) = conduct::deed(event)
            && !self.denied
            && self.deeds.len() < MAX_DEEDS
            && self.deeds.last() != Some(&deed)
        {
            self.deeds.push(deed);
        }
        if !judged {
            return;
        }
        if conduct::novel(verdict).next().is_some() {
            self.last = event.at;
        }
        if let Some(sensor) = evidence::sensor(event, verdict) {
            self.last = event.at;
            self.sensors.insert(sensor);
        }
        self.conduct.follow(event, verdict);
    }

    /// Whether it is over although the model does not say so: it was never kept there and has been quiet for as long.
    pub fn is_over(&self, at: Time) -> bool {
        let quiet = at.boot_ns.saturating_sub(self.last.boot_ns);
        quiet >= if self.kept { LONGEST_NS } else { QUIET_NS }
    }

    /// The sensors by name: `process, flow`.
    pub fn sensor_names(&self) -> String {
        self.sensors.iter().map(|sensor| sensor.name()).collect::<Vec<_>>().join(" and ")
    }
}

/// From the outermost known ancestor to the process itself, so that a finding can print a tree.
pub fn tree(known: &Processes, process: &Process) -> Vec<ProcessSummary> {
    let above = process.ancestors.iter().rev().filter_map(|cookie| known.get(*cookie)).map(|known| summary(known));
    above.chain([summary(process)]).collect()
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
