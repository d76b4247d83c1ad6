//! What was done while a cycle was recorded: `cycle-NN.toml` beside its recording.

use std::path::{Path, PathBuf};

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

/// A recorded day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// What was done.
    #[serde(default, rename = "span")]
    pub spans: Vec<Span>,
}

fn one() -> f64 {
    1.0
}

/// Something that was done, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// Benign or not.
    pub kind: Kind,
    /// Name of the change or attack.
    pub name: String,
    /// Of an attack.
    #[serde(default)]
    pub class: Option<Class>,
    /// Workload, as Stockade names it.
    #[serde(default)]
    pub workload: String,
    /// Event time of the first operation.
    pub start_unix_ns: u64,
    /// Event time of the last one.
    pub end_unix_ns: u64,
    /// Process id of the attack's root.
    #[serde(default)]
    pub root_pid: u32,
    /// Its cookie; 0 when it is the service's own process.
    #[serde(default)]
    pub root_cookie: u64,
    /// Cookies of its further processes that are not below that one.
    #[serde(default)]
    pub other_roots: Vec<u64>,
    /// Event time of the operation that does the harm.
    #[serde(default)]
    pub harm_unix_ns: u64,
    /// That operation, in words.
    #[serde(default)]
    pub harm: String,
    /// Anything else.
    #[serde(default)]
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

/// The labels of a journal: beside it, or in the same place below another folder.
pub fn beside(journal: &Path, journals: &Path, labels: Option<&Path>) -> PathBuf {
    let own = journal.with_extension("toml");
    match (labels, own.strip_prefix(journals)) {
        (Some(labels), Ok(below)) if !own.exists() => labels.join(below),
        _ => own,
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

    #[test]
    fn labels_are_read_and_what_cannot_be_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cycle-03.toml");
        let read = |text: &str| {
            std::fs::write(&path, text).expect("written");
            Cycle::read(&path)
        };
        let cycle = read(GOOD).expect("good labels");
        assert_eq!((cycle.split, cycle.spans[0].class), (Split::Test, Some(Class::InProcess)));
        let refused = |text: String| format!("{:#}", read(&text).expect_err("bad labels"));
        assert!(refused(GOOD.replace("end_unix_ns = 9", "end_unix_ns = 4")).contains("ends before it begins"));
        assert!(refused(GOOD.replace("class = \"in-process\"", "")).contains("has no class"));
        assert!(refused(GOOD.replace("24.0", "0.0")).contains("clock_factor is 0"));
        assert!(refused(GOOD.replace("\"test\"", "\"exam\"")).contains("are no labels"));
    }
}
