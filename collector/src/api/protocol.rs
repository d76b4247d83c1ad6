//! What goes over the socket.

use std::sync::Arc;

use model::event::Event;
use model::{Drifted, Health, HealthState};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::decision::{DecisionAction, Target};
use crate::finding::Finding;
use crate::policy::marks::Reach;
use crate::policy::mode::Mode;
use crate::policy::would::WouldDeny;
use crate::sinks::{Change, SinkStatus};

/// Version of this protocol. Both sides come from one binary; another version is refused.
pub const VERSION: u32 = 1;
/// Longest line in bytes.
pub const LONGEST: usize = 1 << 20;

/// A line from the client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// [`VERSION`].
    pub version: u32,
    /// What is asked.
    pub request: Request,
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// [`Status`].
    Status,
    /// The newest findings.
    Findings {
        /// Closed ones too.
        all: bool,
    },
    /// One finding by its short name or id.
    Finding {
        /// `F-…`.
        name: String,
    },
    /// Decisions.
    Decisions {
        /// Those that ended too.
        all: bool,
    },
    /// Makes a decision.
    AddDecision(Box<NewDecision>),
    /// Undoes a decision.
    Release {
        /// `D-…`.
        name: String,
        /// Why.
        reason: String,
    },
    /// What people said about findings.
    Marks {
        /// What is over, too.
        all: bool,
    },
    /// Says that a finding is fine.
    MarkBenign(Box<NewMark>),
    /// Says that a finding was an attack: what its subtree did since then is unlearnt.
    MarkMalicious {
        /// `F-…`.
        finding: String,
        /// Why.
        reason: String,
    },
    /// Takes a mark back.
    UndoMark {
        /// `M-…`.
        name: String,
        /// Why.
        reason: String,
    },
    /// Modes of all workloads.
    Modes,
    /// Changes a mode.
    SetMode {
        /// Workload.
        workload: String,
        /// New mode.
        mode: Mode,
        /// Why.
        reason: String,
        /// Falls back after so many seconds.
        for_seconds: Option<u64>,
        /// Even if the baseline is not ready.
        force: bool,
    },
    /// [`BaselineRow`]s.
    BaselineStatus,
    /// Facts of one workload.
    Baseline {
        /// Workload.
        workload: String,
    },
    /// [`TopRow`]s.
    Top,
    /// A stream of [`WatchItem`]s.
    Watch {
        /// Which.
        what: Watch,
    },
    /// Removes every denial.
    Disarm,
}

impl Request {
    /// Whether it changes something: only root and the agent's own user may.
    pub fn changes(&self) -> bool {
        match self {
            Self::AddDecision(_) | Self::Release { .. } | Self::SetMode { .. } | Self::Disarm => true,
            Self::MarkBenign(_) | Self::MarkMalicious { .. } | Self::UndoMark { .. } => true,
            Self::Status | Self::Findings { .. } | Self::Finding { .. } | Self::Decisions { .. } => false,
            Self::Marks { .. } | Self::Modes | Self::BaselineStatus | Self::Baseline { .. } => false,
            Self::Top | Self::Watch { .. } => false,
        }
    }
}

/// A decision that a person asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewDecision {
    /// Whom. For a tree, `cookie` may be a plain pid.
    pub target: Target,
    /// What.
    pub action: DecisionAction,
    /// Only count.
    pub shadow: bool,
    /// For how long.
    pub ttl_seconds: u64,
    /// Why.
    pub reason: String,
}

/// A person's word that a finding is fine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewMark {
    /// `F-…`.
    pub finding: String,
    /// How far.
    pub reach: Reach,
    /// Families of dangerous facts that are meant too.
    pub naming: Vec<String>,
    /// For so many seconds; without it until it is undone.
    pub for_seconds: Option<u64>,
    /// Why.
    pub reason: String,
}

/// What can be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Watch {
    /// Findings as they change.
    Findings,
    /// Events as they come.
    Events,
}

/// One item of a stream.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WatchItem {
    /// A finding changed.
    Finding(Change, Arc<Finding>),
    /// Something happened.
    Event(Arc<Event>),
}

/// A line to the client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// What was asked for.
    Ok(Value),
    /// Why not.
    Error(ApiError),
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct ApiError {
    /// For the exit code.
    pub code: ErrorCode,
    /// For people.
    pub text: String,
}

/// What kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// The request makes no sense, or names something that is not there.
    Usage,
    /// Protected, not ready, out of bounds.
    Refused,
    /// The caller may not.
    NotPermitted,
    /// The agent could not.
    Failed,
}

impl ApiError {
    /// An error of a kind.
    pub fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

/// How the agent is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the agent.
    pub version: String,
    /// Host name.
    pub host: String,
    /// Seconds since it was started.
    pub up_seconds: u64,
    /// Whether new connections can be denied.
    pub can_deny_network: bool,
    /// Starting programs can be denied: the kernel asks LSM programs, which was proven.
    #[serde(default)]
    pub can_deny_programs: bool,
    /// Changing files by path can be denied.
    #[serde(default)]
    pub can_deny_files: bool,
    /// Programs that are off, and why.
    pub off: Vec<String>,
    /// The ledger.
    pub ledger: Value,
    /// The ledger in words.
    pub ledger_text: String,
    /// Workloads by mode: learning, monitoring, enforcing.
    pub workloads: [usize; 3],
    /// Whether the model can be relied on; unless it is healthy, nothing is denied automatically.
    pub health: Health,
    /// Workloads that have drifted, and how: nothing is denied automatically there.
    #[serde(default)]
    pub drifted: Vec<(Arc<str>, Vec<Drifted>)>,
    /// Workloads whose own forest is sick, and how: the pooled one judges them alone, and nothing is denied automatically there.
    #[serde(default)]
    pub sick: Vec<(Arc<str>, HealthState)>,
    /// How far back an incident can be unlearnt, in seconds; `None` = nothing can.
    #[serde(default)]
    pub unlearns_s: Option<u64>,
    /// Threshold in bits.
    pub threshold: f64,
    /// Whether it comes from this host's own data.
    pub calibrated: bool,
    /// Independent episodes that it rests on, and the findings a day that they promise, at 90 %.
    #[serde(default)]
    pub promise: Option<(f64, (f64, f64))>,
    /// Open findings: low, medium, high.
    pub findings: [usize; 3],
    /// Findings held back by the budget.
    pub held_back: u64,
    /// Decisions in force: denying, shadow.
    pub decisions: [usize; 2],
    /// Feeds.
    pub sinks: Vec<SinkStatus>,
    /// Decisions measured, the last and the longest time from the kernel's record to the written entry, in microseconds.
    pub latency_us: (u64, u64, u64),
    /// Resident memory in MiB.
    pub memory_mib: u64,
    /// The clock runs so many times faster than real: a demo.
    pub clock_factor: f64,
}

/// One workload's baseline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BaselineRow {
    /// Workload.
    pub workload: String,
    /// Mode.
    pub mode: Mode,
    /// On whose word, when not by default.
    pub author: String,
    /// When a temporary mode falls back, seconds from now.
    pub falls_back_in: Option<u64>,
    /// Ready to be monitored.
    pub ready: bool,
    /// What is missing, or what to do next.
    pub reasons: Vec<String>,
    /// `partial`, `tainted`, `too-quiet`.
    pub flags: Vec<String>,
    /// Windows seen.
    pub windows: u64,
    /// Execs seen.
    pub execs: u64,
    /// Flow records seen.
    pub flows: u64,
    /// Programs.
    pub exes: u64,
    /// Exec edges.
    pub exec_edges: u64,
    /// Destinations.
    pub destinations: u64,
    /// Trigrams.
    pub trigrams: u64,
    /// Chance that the next fact is new, 0–1.
    pub singleton_share: f64,
    /// What would have been denied since it is monitored; nothing in other modes.
    #[serde(default)]
    pub would_deny: Option<WouldDeny>,
}

/// One workload's rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopRow {
    /// Workload.
    pub workload: String,
    /// Windows so far.
    pub windows: u64,
    /// Execs so far.
    pub execs: u64,
    /// Flow records so far.
    pub flows: u64,
    /// Running processes.
    pub processes: usize,
}
