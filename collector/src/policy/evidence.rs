//! What one verdict says in the words of findings: kinds, sensors, reasons, title.

use collector_common::file::Why;
use collector_common::process::EXEC_MEMORY;
use model::conduct::{self, EVIDENCE_BITS, base_name, peer};
use model::event::{Body, Event};
use model::{Fact, FactSurprise, Verdict};
use serde::{Deserialize, Serialize};

use super::mode::Mode;
use crate::finding::{FindingType, Reason, Severity};

/// Facts below this many bits are not worth a line.
const REASON_BITS: f64 = 1.0;
/// Trigrams named in one reason.
const NAMED_TRIGRAMS: usize = 3;

const SEQ: usize = 0;
const PRIV: usize = 1;
const FILE: usize = 3;
const FANOUT: usize = 5;
const VOLUME: usize = 6;
const ERROR: usize = 7;

/// Who saw it. Two different ones have to agree before a finding is High.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sensor {
    /// Exec records.
    Process,
    /// Flow records.
    Flow,
    /// Syscall windows.
    Trace,
    /// File records.
    File,
}

impl Sensor {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Flow => "flow",
            Self::Trace => "trace",
            Self::File => "file",
        }
    }
}

/// The sensor behind an event, when the verdict is evidence at all.
pub fn sensor(event: &Event, verdict: &Verdict) -> Option<Sensor> {
    let sensor = match event.body {
        Body::Exec(_) => Sensor::Process,
        Body::Flow(_) => Sensor::Flow,
        Body::Window(_) => Sensor::Trace,
        Body::File(_) => Sensor::File,
        _ => return None,
    };
    conduct::is_evidence(verdict).then_some(sensor)
}

/// How bad an event is without any other's word. Code that only memory holds, and that no workload of this host ever ran, needs
/// no second witness; otherwise it is bad enough to be looked at today, as is a deleted file.
pub fn alone(event: &Event, verdict: &Verdict) -> Severity {
    let from_memory = matches!(&event.body, Body::Exec(exec) if exec.bits & EXEC_MEMORY != 0);
    let is_unheard = |fact: &FactSurprise| matches!(fact.fact, Fact::MemoryExec { .. }) && fact.bits >= EVIDENCE_BITS;
    match conduct::runs_from_memory(event) {
        true if from_memory && verdict.facts.iter().any(is_unheard) => Severity::High,
        true => Severity::Medium,
        false => Severity::Low,
    }
}

/// The kinds of finding that this verdict is evidence for.
pub fn kinds(event: &Event, verdict: &Verdict, mode: Mode) -> Vec<FindingType> {
    let mut kinds = Vec::new();
    if conduct::runs_from_memory(event) {
        // Nobody has to learn for a week that this is rare: it speaks from the first second.
        kinds.push(FindingType::MemoryExec);
    }
    if mode == Mode::Learning {
        return kinds;
    }
    if conduct::is_news(event, verdict) {
        kinds.push(match event.body {
            Body::Exec(_) => FindingType::ExecNovel,
            _ => FindingType::EgressNovel,
        });
    }
    if kinds.is_empty() && verdict.episode.over_threshold && verdict.score.value >= EVIDENCE_BITS {
        kinds.extend(dominant(verdict));
    }
    kinds
}

fn dominant(verdict: &Verdict) -> Option<FindingType> {
    let parts = verdict.score.contributions;
    let groups = [
        (parts[SEQ] + parts[PRIV], FindingType::Sequence),
        (parts[FILE], FindingType::FileNovel),
        (parts[FANOUT] + parts[VOLUME] + parts[ERROR], FindingType::Volume),
    ];
    // The first of equals: what comes first says more.
    let most = groups.into_iter().rev().max_by(|left, right| left.0.total_cmp(&right.0));
    most.filter(|(bits, _)| *bits > 0.0).map(|(_, kind)| kind)
}

/// Why, the most surprising first.
pub fn reasons(verdict: &Verdict) -> Vec<Reason> {
    let mut reasons: Vec<Reason> = verdict
        .facts
        .iter()
        .filter(|fact| fact.novel || fact.bits >= REASON_BITS)
        .map(|fact| Reason {
            what: fact.fact.what().to_owned(),
            now: fact.fact.to_string(),
            usual: fact.usual.clone(),
            bits: fact.bits,
        })
        .collect();
    if !verdict.trigrams.is_empty() {
        reasons.push(sequence_reason(verdict));
    }
    reasons.sort_by(|left, right| right.bits.total_cmp(&left.bits));
    reasons
}

fn sequence_reason(verdict: &Verdict) -> Reason {
    let named: Vec<&str> = verdict.trigrams.iter().take(NAMED_TRIGRAMS).map(AsRef::as_ref).collect();
    let more = verdict.trigrams.len().saturating_sub(NAMED_TRIGRAMS);
    let rest = if more > 0 { format!(", +{more}") } else { String::new() };
    Reason {
        what: "sequence".to_owned(),
        now: format!("{} new trigrams: {}{rest}", verdict.trigrams.len(), named.join(", ")),
        usual: "none of them".to_owned(),
        bits: verdict.vector.bits[SEQ],
    }
}

/// One sentence for a title.
pub fn title(kind: FindingType, event: &Event) -> String {
    let exe = base_name(&event.process.exe);
    let workload = &event.process.workload;
    match (&event.body, kind) {
        (Body::Exec(_), FindingType::MemoryExec) => {
            format!("{exe} in {workload} runs from memory or from a deleted file")
        }
        (Body::Exec(exec), _) => {
            let parent = base_name(&exec.parent_exe);
            format!("{parent} started {}, which {workload} never did", event.process.exe)
        }
        (Body::Flow(flow), FindingType::EgressNovel) => {
            format!("{exe} reached {}, where {workload} never goes", peer(flow))
        }
        (Body::File(file), FindingType::FileNovel) if file.why == Why::Rate as u8 => {
            format!("{exe} changes more files at once than {workload} ever did")
        }
        (Body::File(file), FindingType::FileNovel) => {
            format!("{exe} uses {}, where {workload} never goes", file.directory)
        }
        (_, FindingType::FileNovel) => format!("{exe} uses files that {workload} never used"),
        (_, FindingType::Sequence) => format!("{exe} makes system calls that {workload} never made"),
        (_, FindingType::Volume) => format!("{exe} moves, tries or fails more than {workload} ever did"),
        _ => format!("{exe} in {workload} does what was never seen"),
    }
}
