//! The states that a model's health can be in, each with the facts behind it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::drift::Drifted;
use crate::event::Time;

/// The state of the model, and the facts behind it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum HealthState {
    /// Nothing is wrong.
    Healthy,
    /// The forest was not grown yet: nothing is anomalous.
    Untrained {
        /// Rows there are. In JSON [`Health`] has the name already, beside which a state lies.
        #[serde(rename = "have")]
        rows: usize,
        /// Rows it is grown from.
        needed: u64,
    },
    /// The forest says the same about everything.
    Constant {
        /// Cuts after which it isolates each made-up vector.
        depth: f64,
        /// Made-up vectors.
        asked: usize,
    },
    /// What is ordinary is over the threshold, or what is strange does not stand out, or not the more the stranger it is.
    Saturated {
        /// Bits of a vector without any surprise.
        quiet: f64,
        /// Bits of the vector that stands out least, of those far beyond the benign range in one coordinate each.
        strange: f64,
        /// Threshold.
        level: f64,
    },
    /// No input is sure to reach the threshold.
    Unreachable {
        /// Threshold.
        level: f64,
        /// Bits that an episode is sure to be able to reach.
        most: f64,
    },
    /// A workload's quantities have walked away from its reference.
    Drifted {
        /// Which, and how far.
        of: Vec<Drifted>,
    },
    /// A score was no number.
    NonFinite {
        /// How many since the model is there; 0 when made-up vectors have them.
        scores: u64,
        /// The last one.
        last: Time,
    },
    /// Trees that were due could not be grown. Those before them go on.
    Stunted {
        /// Growths that were given up since the last one that was not.
        in_a_row: u64,
        /// When the last one was.
        last: Time,
    },
}

impl HealthState {
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self.kind() {
            Kind::Healthy => "healthy",
            Kind::Untrained => "untrained",
            Kind::Constant => "constant",
            Kind::Saturated => "saturated",
            Kind::Unreachable => "unreachable",
            Kind::Drifted => "drifted",
            Kind::NonFinite => "non-finite",
            Kind::Stunted => "stunted",
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Healthy => Kind::Healthy,
            Self::Untrained { .. } => Kind::Untrained,
            Self::Constant { .. } => Kind::Constant,
            Self::Saturated { .. } => Kind::Saturated,
            Self::Unreachable { .. } => Kind::Unreachable,
            Self::Drifted { .. } => Kind::Drifted,
            Self::NonFinite { .. } => Kind::NonFinite,
            Self::Stunted { .. } => Kind::Stunted,
        }
    }

    /// Whether automatic denials may be founded on the model.
    pub fn may_deny(&self) -> bool {
        matches!(self, Self::Healthy)
    }

    /// Whether a person has to look: a young model only has to be waited for, and a drift is a finding of its own.
    pub fn is_fault(&self) -> bool {
        !matches!(self, Self::Healthy | Self::Untrained { .. } | Self::Drifted { .. })
    }
}

/// A state without its facts: they may change while it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    Healthy,
    Untrained,
    Constant,
    Saturated,
    Unreachable,
    Drifted,
    NonFinite,
    Stunted,
}

impl fmt::Display for HealthState {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Healthy => write!(out, "healthy"),
            Self::Untrained { rows, needed } => {
                write!(out, "untrained: the forest has {rows} of the {needed} rows that it is grown from")
            }
            Self::Constant { asked: 0, .. } => write!(out, "constant: the detector never finds anything"),
            Self::Constant { depth, asked } => {
                write!(out, "constant: the forest isolates {asked} different vectors after the same {depth:.1} cuts")
            }
            Self::Saturated { quiet, level, .. } if quiet >= level => {
                write!(out, "saturated: a vector without any surprise has {quiet:.1} bits, the threshold is {level:.1}")
            }
            Self::Saturated { quiet, strange, .. } => write!(
                out,
                "saturated: a vector far beyond what is ordinary has {strange:.1} bits, one without any surprise {quiet:.1}"
            ),
            Self::Unreachable { level, most } => {
                write!(out, "unreachable: the threshold is {level:.1} bits, and no episode is sure to reach {most:.1}")
            }
            Self::Drifted { of } => {
                let named: Vec<String> = of.iter().map(Drifted::to_string).collect();
                write!(out, "drifted: {}", named.join("; "))
            }
            Self::NonFinite { scores: 0, .. } => {
                write!(out, "non-finite: made-up vectors have scores that are no numbers")
            }
            Self::NonFinite { scores, .. } => write!(out, "non-finite: {scores} scores were no numbers"),
            Self::Stunted { in_a_row, .. } => write!(
                out,
                "stunted: trees could not be grown {in_a_row} times in a row, those before them go on; the log says where it failed, please report it"
            ),
        }
    }
}
