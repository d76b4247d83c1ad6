//! What a recording holds: the file `cycle-NN.toml` beside it.
//!
//! All times are event time in nanoseconds since 1970, as in the events of the recording.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// For what a cycle may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// To learn from.
    Train,
    /// To choose thresholds and parameters with.
    Validation,
    /// To report.
    Test,
}

/// Whether something belongs there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A change that must not be denied.
    Benign,
    /// An attack.
    Attack,
}

/// How an attack shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// A new program, file or destination.
    Visible,
    /// Only the workload's own binaries and peers.
    InProcess,
    /// Made so as not to be seen.
    Evasive,
}

/// Something that happened from a moment to a moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// Benign or an attack.
    pub kind: Kind,
    /// What.
    pub name: String,
    /// Of an attack.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub class: Option<Class>,
    /// Where, as the agent names it.
    pub workload: String,
    /// First malicious or unusual operation.
    pub start_unix_ns: u64,
    /// End of the last.
    pub end_unix_ns: u64,
    /// Root process of an attack in the machine's own pid namespace; 0: the service's own process.
    #[serde(default)]
    pub root_pid: u32,
    /// Its cookie.
    #[serde(default)]
    pub root_cookie: u64,
    /// Cookies of its further processes that are not below that one: a payload that is first looked at, then started.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub other_roots: Vec<u64>,
    /// When the harm was done.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub harm_unix_ns: Option<u64>,
    /// The operation that does it.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub harm: String,
    /// What else there is to know.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub note: String,
}

/// One recorded day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cycle {
    /// Which host.
    pub host: String,
    /// Which day of it, from 1.
    pub cycle: u32,
    /// What it is for.
    pub split: Split,
    /// Of the load and of the schedule.
    pub seed: u64,
    /// `uname -r`.
    pub kernel: String,
    /// When, in real time.
    pub recorded: String,
    /// How long, in real time.
    pub seconds: f64,
    /// Event time per real time.
    pub clock_factor: f64,
    /// Event time at the beginning of the recording.
    pub start_unix_ns: u64,
    /// Records in it.
    pub records: u64,
    /// Records and syscalls that were lost: 0 in a good recording.
    pub lost: u64,
    /// What was lost, in words or as the ledger has it.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub loss: String,
    /// Requests of the customers that were answered well, and those that were not.
    pub requests: [u64; 2],
    /// What happened, by start.
    #[serde(rename = "span", default)]
    pub spans: Vec<Span>,
}

impl Cycle {
    /// Reads a label file.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is not a label file", path.display()))
    }

    /// Writes a label file.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        fs::write(path, toml::to_string(self)?).with_context(|| format!("cannot write {}", path.display()))
    }
}
