//! What was done while a cycle was recorded: `cycle-NN.toml` beside its recording.
//!
//! All times are event time in nanoseconds since 1970, as in the events. Whoever records writes these files and the trainer
//! reads them: this file is the one place that knows their format, and `xtask/src/corpus` takes it in by its path. So it may
//! use serde, toml and anyhow, and nothing of ours.

use std::path::Path;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

/// What a cycle is used for. The attacks of the test never appear in the validation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Baselines are learnt from it.
    Train,
    /// Thresholds and parameters are chosen on it.
    Validation,
    /// Looked at once.
    Test,
}

/// Benign or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A change that is part of normal operation.
    Benign,
    /// An attack.
    Attack,
}

/// What an attack uses, which says what can find it at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// A program, file or destination that is new there.
    Visible,
    /// Only the workload's own programs and peers.
    InProcess,
    /// It hides: padded, slow, split, behind a flood.
    Evasive,
}

impl Class {
    /// All.
    pub const ALL: [Self; 3] = [Self::Visible, Self::InProcess, Self::Evasive];

    /// Name.
    pub fn name(self) -> &'static str {
        ["visible", "in-process", "evasive"][self as usize]
    }
}

/// A recorded day. Host, cycle and split have to be there; a key that is none of these is refused, because a label that was
/// misspelt would be an attack less.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cycle {
    /// Host.
    pub host: String,
    /// Its number on that host, from which the order follows.
    pub cycle: u32,
    /// What it is used for.
    pub split: Split,
    /// Seed of its script.
    #[serde(default)]
    pub seed: u64,
    /// Kernel release.
    #[serde(default)]
    pub kernel: String,
    /// When it was recorded, RFC 3339.
    #[serde(default)]
    pub recorded: String,
    /// How long it took.
    #[serde(default)]
    pub seconds: f64,
    /// Event time per real time: a cycle is one day of event time.
    #[serde(default = "one")]
    pub clock_factor: f64,
    /// Event time at the beginning of the recording.
    #[serde(default)]
    pub start_unix_ns: u64,
    /// Records in it.
    #[serde(default)]
    pub records: u64,
    /// Records and syscalls that were lost: 0 in a good recording.
    #[serde(default)]
    pub lost: u64,
    /// What was lost, in words or as the ledger has it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub loss: String,
    /// Requests of the customers that were answered well, and those that were not.
    #[serde(default)]
    pub requests: [u64; 2],
    /// What was done, by start.
    #[serde(default, rename = "span")]
    pub spans: Vec<Span>,
}

fn one() -> f64 {
    1.0
}

/// Something that was done, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// Benign or not.
    pub kind: Kind,
    /// Name of the change or attack.
    pub name: String,
    /// Of an attack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// Workload, as Stockade names it.
    #[serde(default)]
    pub workload: String,
    /// Event time of the first operation.
    pub start_unix_ns: u64,
    /// Event time of the last one.
    pub end_unix_ns: u64,
    /// Root process of an attack in the machine's own pid namespace; 0: the service's own process.
    #[serde(default)]
    pub root_pid: u32,
    /// Its cookie; 0 when it is the service's own process.
    #[serde(default)]
    pub root_cookie: u64,
    /// Cookies of its further processes that are not below that one: a payload that is first looked at, then started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_roots: Vec<u64>,
    /// Event time of the operation that does the harm; none where it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub harm_unix_ns: Option<u64>,
    /// That operation, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub harm: String,
    /// Anything else.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

impl Cycle {
    /// Reads and checks the labels of a cycle.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or says what cannot be.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read the labels {}", path.display()))?;
        let cycle: Self = toml::from_str(&text).with_context(|| format!("{} are no labels", path.display()))?;
        cycle.check().with_context(|| format!("the labels {} cannot be right", path.display()))?;
        Ok(cycle)
    }

    /// Checks and writes the labels of a cycle.
    ///
    /// # Errors
    ///
    /// When they say what cannot be, or the file cannot be written.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        self.check().with_context(|| format!("the labels for {} cannot be right", path.display()))?;
        std::fs::write(path, toml::to_string(self)?)
            .with_context(|| format!("cannot write the labels {}", path.display()))
    }

    fn check(&self) -> anyhow::Result<()> {
        if !(self.clock_factor.is_finite() && self.clock_factor > 0.0) {
            bail!("clock_factor is {}: event time has to pass", self.clock_factor);
        }
        for span in &self.spans {
            if span.start_unix_ns > span.end_unix_ns {
                bail!("{} ends before it begins", span.name);
            }
            match (span.kind, span.class) {
                (Kind::Attack, None) => bail!("the attack {} has no class: visible, in-process or evasive", span.name),
                (Kind::Attack, Some(_)) if span.workload.is_empty() => {
                    bail!("the attack {} has no workload", span.name)
                }
                _ => (),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        host = "web"
        cycle = 3
        split = "test"
        clock_factor = 24.0
        [[span]]
        kind = "attack"
        name = "reverse shell"
        class = "in-process"
        workload = "unit:web.service"
        start_unix_ns = 5
        end_unix_ns = 9
    "#;

    fn read(text: &str) -> anyhow::Result<Cycle> {
        let path = std::env::temp_dir().join(format!("stockade-labels-{}.toml", std::process::id()));
        std::fs::write(&path, text)?;
        let cycle = Cycle::read(&path);
        std::fs::remove_file(&path)?;
        cycle
    }

    #[test]
    fn labels_are_read_and_what_cannot_be_is_refused() {
        let cycle = read(GOOD).expect("good labels");
        assert_eq!((cycle.split, cycle.spans[0].class), (Split::Test, Some(Class::InProcess)));
        assert_eq!(read(&toml::to_string(&cycle).expect("text")).expect("what was written"), cycle);
        let refused = |text: String| format!("{:#}", read(&text).expect_err("bad labels"));
        assert!(refused(GOOD.replace("end_unix_ns = 9", "end_unix_ns = 4")).contains("ends before it begins"));
        assert!(refused(GOOD.replace("class = \"in-process\"", "")).contains("has no class"));
        assert!(refused(GOOD.replace("24.0", "0.0")).contains("clock_factor is 0"));
        assert!(refused(GOOD.replace("\"test\"", "\"exam\"")).contains("are no labels"));
        assert!(refused(GOOD.replace("workload =", "worklaod =")).contains("worklaod"));
    }
}
