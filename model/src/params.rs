//! The model's parameters, checked once.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Workloads that hold rows of their own, and may so have a forest of their own.
pub const MAX_OWN: usize = 64;

/// How the model is built. `Params::default()` is what the agent uses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Params {
    /// Seed of everything random; the same seed and events give the same scores, bit for bit.
    pub seed: u64,
    /// Trees of the forest, 1–1,024.
    pub trees: usize,
    /// Rows that a tree is grown from (ψ of Liu, Ting and Zhou, 2008), 8–4,096.
    pub sample: usize,
    /// Episodes a day that may exceed the threshold once it is calibrated, 0.001–1,000.
    pub budget_per_day: f64,
    /// Threshold in bits until the host's own data give one, 1–1,000.
    pub start_threshold: f64,
    /// Which detector scores the vectors.
    pub detector: DetectorKind,
    /// Rows are not spared what their own hour taught: exists so that tests can show what sparing them is worth. Never kept, never
    /// configured.
    #[serde(skip)]
    pub leaks: bool,
}

/// Which detector scores the vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DetectorKind {
    /// The online isolation forest with the gap term.
    #[default]
    Forest,
    /// Nothing is ever anomalous: exists so that tests can show that the forest matters.
    Constant,
    /// Anything may be anomalous, by lot: exists so that tests can show that health sees it and detection fails.
    Random,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            seed: 0x5eed,
            trees: 64,
            sample: 256,
            budget_per_day: 1.0,
            // A never-seen exec edge of a workload with a few hundred observations is worth up to 24 bits by itself and
            // about 15 more by its gap in the forest; ordinary variation of one workload stays below 15.
            start_threshold: 30.0,
            detector: DetectorKind::Forest,
            leaks: false,
        }
    }
}

/// Why parameters are refused.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("model parameter {name} = {value} is outside {range}")]
pub struct ParamsError {
    /// Name of the field.
    pub name: &'static str,
    /// What was asked for.
    pub value: f64,
    /// What is possible.
    pub range: &'static str,
}

/// Parameters that were checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValidParams(Params);

impl ValidParams {
    /// The parameters.
    pub fn get(&self) -> &Params {
        &self.0
    }
}

impl Params {
    /// Checks every value.
    ///
    /// # Errors
    ///
    /// Names the first parameter that is out of range.
    pub fn check(self) -> Result<ValidParams, ParamsError> {
        let in_range = |name, value: f64, low: f64, high: f64, range| {
            if (low..=high).contains(&value) { Ok(()) } else { Err(ParamsError { name, value, range }) }
        };
        in_range("trees", self.trees as f64, 1.0, 1024.0, "1 to 1,024")?;
        in_range("sample", self.sample as f64, 8.0, 4096.0, "8 to 4,096")?;
        in_range("budget_per_day", self.budget_per_day, 0.001, 1000.0, "0.001 to 1,000")?;
        in_range("start_threshold", self.start_threshold, 1.0, 1000.0, "1 to 1,000 bits")?;
        Ok(ValidParams(self))
    }
}
