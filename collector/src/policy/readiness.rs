//! Whether a workload's baseline is worth judging by, and if not, what is missing, in words.

use std::sync::Arc;

use model::WorkloadSummary;
use model::event::Time;
use serde::{Deserialize, Serialize};

use super::Config;

/// What a baseline is not, whatever its mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flags {
    /// Some of its processes are older than the agent, or evidence was lost.
    pub partial: bool,
    /// It learnt while a finding about it was open.
    pub tainted: bool,
    /// It does too little for the forest: only the novelty rules apply.
    pub too_quiet: bool,
    /// A program of it has another file since less than a day: what is known of it is inherited and counts half.
    #[serde(default)]
    pub stale: bool,
}

/// The answer for one workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Readiness {
    /// Workload.
    pub workload: Arc<str>,
    /// Whether it may go on to monitoring by itself.
    pub ready: bool,
    /// What is missing, one sentence each; empty when ready.
    pub reasons: Vec<String>,
    /// Flags.
    pub flags: Flags,
    /// Windows learnt.
    pub windows: u64,
    /// Executions learnt.
    pub execs: u64,
    /// Flows learnt.
    pub flows: u64,
    /// Executables known.
    pub exes: u64,
    /// Exec edges known.
    pub exec_edges: u64,
    /// Destinations known.
    pub destinations: u64,
    /// Trigrams known.
    pub trigrams: u64,
}

/// What the policy knows of a workload besides the model's summary.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Circumstances {
    /// Share of its evidence that was lost, 0–1.
    pub lost: f64,
    /// A finding about it is open.
    pub suspected: bool,
}

/// Judges a baseline at a moment of the event clock.
pub fn readiness(
    workload: &Arc<str>,
    summary: &WorkloadSummary,
    circumstances: Circumstances,
    config: &Config,
    at: Time,
) -> Readiness {
    let mut reasons = Vec::new();
    let quiet = at.unix_ns.saturating_sub(summary.last_new.unix_ns);
    if quiet < config.quiet_ns() {
        reasons.push(format!("new fact {} ago; wait {}", span(quiet), span(config.quiet_ns() - quiet)));
    }
    let watched = at.unix_ns.saturating_sub(summary.first_seen.unix_ns);
    let too_quiet = summary.windows < config.min_windows;
    // A workload that does little for four quiet periods will never do much: it gets the novelty rules only.
    let waited_enough = watched >= config.quiet_ns().saturating_mul(4);
    if too_quiet && !waited_enough {
        reasons.push(format!("{} of {} windows", summary.windows, config.min_windows));
    }
    if summary.execs < config.min_execs && !waited_enough {
        reasons.push(format!("{} of {} executions", summary.execs, config.min_execs));
    }
    if circumstances.lost > config.max_lost {
        reasons.push(format!(
            "{:.2} % of its evidence was lost; {:.2} % is allowed",
            circumstances.lost * 100.0,
            config.max_lost * 100.0
        ));
    }
    if circumstances.suspected {
        reasons.push("a finding about it is open: close it or mark it first".to_owned());
    }
    Readiness {
        workload: workload.clone(),
        ready: reasons.is_empty(),
        reasons,
        flags: Flags {
            partial: circumstances.lost > 0.0,
            tainted: circumstances.suspected,
            too_quiet,
            stale: !summary.stale.is_empty(),
        },
        windows: summary.windows,
        execs: summary.execs,
        flows: summary.flows,
        exes: summary.exes as u64,
        exec_edges: summary.exec_edges as u64,
        destinations: summary.destinations as u64,
        trigrams: summary.trigrams as u64,
    }
}

/// A span of time in one or two words: `27 s`, `3 min`, `5 h`, `6.9 d`.
pub fn span(ns: u64) -> String {
    let seconds = ns.div_ceil(1_000_000_000);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{:.1} d", seconds as f64 / 86_400.0),
    }
}
