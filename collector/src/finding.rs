//! A finding: what the SOC sees. One per (host, workload, subtree, type); it is created, updated and closed.

use std::sync::Arc;

use model::Fact;
use model::event::Time;
use model::explain::Part;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::short::short_name;

/// What kind of thing was found. Stable: routing and suppression depend on the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingType {
    /// A never-seen exec edge.
    ExecNovel,
    /// An executable that lives in memory only or was deleted.
    MemoryExec,
    /// A never-seen destination.
    EgressNovel,
    /// Files or directories that the workload never used, or many files at once.
    FileNovel,
    /// Syscall sequences that the workload never made.
    Sequence,
    /// Unusual volume, fan-out or error rate.
    Volume,
    /// A workload's quantities have walked away from those of its first judged days, in small steps.
    Drift,
    /// Evidence was lost for longer than a moment.
    Loss,
    /// Far more was found than the day's budget lets through: one finding instead of each.
    Storm,
    /// The agent itself: breaker opened, model unhealthy, enforcement refused.
    Agent,
}

/// How bad. A lone anomaly is Low or Medium; High needs corroboration by another sensor, or code from memory that no workload
/// of this host ever ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Look when there is time.
    Low,
    /// Look today.
    Medium,
    /// Look now.
    High,
}

/// The life of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FindingState {
    /// New evidence may still raise it.
    Open,
    /// No new distinct evidence for five minutes, or closed by an operator.
    Closed,
}

/// A process as a finding keeps it: text may hold anything, so it is made printable only where it is printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSummary {
    /// Cookie.
    pub cookie: u64,
    /// Process id.
    pub pid: u32,
    /// Executable.
    pub exe: Arc<str>,
    /// Command line, cut.
    pub cmdline: Arc<str>,
    /// Real user.
    pub uid: u32,
    /// Login user.
    pub loginuid: Option<u32>,
}

/// One reason, in bits, with the usual value beside the one now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// Coordinate or fact family: `exec edge`, `destination`, `sequence`, `volume`, …
    pub what: String,
    /// What was seen now, by name: `httpd > sh`, `203.0.113.7:4444/tcp`, `socket>connect>dup2`.
    pub now: String,
    /// What is usual, in words: `7 edges, none to sh`.
    pub usual: String,
    /// Surprise in bits; higher = more anomalous.
    pub bits: f64,
}

/// A finding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// UUIDv5 of host, workload, subtree, type and episode start: the same replay gives the same id.
    pub id: Uuid,
    /// Type.
    #[serde(rename = "type")]
    pub kind: FindingType,
    /// Severity now.
    pub severity: Severity,
    /// State.
    pub state: FindingState,
    /// Host name.
    pub host: Arc<str>,
    /// Workload.
    pub workload: Arc<str>,
    /// The mode of the workload when it was last updated: `learning`, `monitoring`, `enforcing`.
    pub mode: crate::policy::mode::Mode,
    /// First evidence.
    pub created: Time,
    /// When its episode began: what its subtree did from then on is the incident.
    #[serde(default)]
    pub began: Time,
    /// Last evidence.
    pub updated: Time,
    /// How often evidence was added.
    pub count: u32,
    /// One sentence for a title.
    pub title: String,
    /// The process that the finding hangs on: root of the subtree.
    pub anchor: u64,
    /// From the outermost known ancestor to the process that did it.
    pub tree: Vec<ProcessSummary>,
    /// Episode score in bits; higher = more anomalous.
    pub score: f64,
    /// Threshold in force.
    pub threshold: f64,
    /// Whether the threshold is a return level of this host's own data.
    pub calibrated: bool,
    /// Isolation depth of the most anomalous vector and the median depth, in cuts.
    pub depth: Option<(f64, f64)>,
    /// What each coordinate contributes to the most anomalous vector that it tells of, beside its usual range; the largest
    /// first, at most three.
    #[serde(default)]
    pub parts: Vec<Part>,
    /// Why by name, the most surprising first.
    pub reasons: Vec<Reason>,
    /// The program that did it, and its script.
    #[serde(default)]
    pub program: Arc<str>,
    /// The facts behind it that its workload's baseline lacks, or that are dangerous anywhere: what a mark can be about.
    #[serde(default)]
    pub facts: Vec<Fact>,
    /// What the subtree did before the first denial, oldest first; at most 16.
    pub happened: Vec<String>,
    /// Other open findings of the same subtree.
    pub related: Vec<Uuid>,
    /// Decisions that it caused.
    pub decisions: Vec<u64>,
    /// Denied operations.
    pub denied: u64,
    /// Share of its calls that were lost, 0–1, in the mean over its evidence.
    pub lost: f64,
    /// A program of it had another file since less than a day: a deploy, or the incident itself.
    #[serde(default)]
    pub stale: bool,
    /// Made by the demo or a test: no feed pages anybody.
    pub test: bool,
}

impl Finding {
    /// The short name that people type: `F-` and the last five digits of the id in Crockford's base 32.
    pub fn short(&self) -> String {
        short_name('F', self.id.as_u128() as u64)
    }
}
