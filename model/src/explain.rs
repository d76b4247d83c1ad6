//! Why a vector is anomalous, in words.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::features::{Coordinate, FeatureVector};
use crate::online::AnomalyScore;

/// Parts that are named.
const NAMED: usize = 3;

/// The parts of a score, the largest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// Cuts after which the vector is isolated, and the median.
    pub depth: (f64, f64),
    /// Coordinate, its bits now, its share of the score in bits, and what it was about.
    pub parts: Vec<Part>,
}

/// One part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Coordinate.
    pub coordinate: Coordinate,
    /// Its surprise in bits.
    pub bits: f64,
    /// What it contributes to the score in bits.
    pub contribution: f64,
    /// The most surprising thing behind it; empty when it is a quantity.
    pub because: String,
}

impl Explanation {
    /// Names the largest contributions.
    pub fn of(vector: &FeatureVector, score: &AnomalyScore, because: impl Fn(Coordinate) -> String) -> Self {
        let mut parts: Vec<Part> = Coordinate::ALL
            .into_iter()
            .filter(|coordinate| score.contributions[*coordinate as usize] > 0.1)
            .map(|coordinate| Part {
                coordinate,
                bits: vector.get(coordinate),
                contribution: score.contributions[coordinate as usize],
                because: because(coordinate),
            })
            .collect();
        parts.sort_by(|a, b| b.contribution.total_cmp(&a.contribution));
        parts.truncate(NAMED);
        Self { depth: (score.depth, score.median_depth), parts }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "isolated after {:.1} cuts, usually {:.1}", self.depth.0, self.depth.1)?;
        for (at, part) in self.parts.iter().enumerate() {
            let between = if at == 0 { ": " } else { ", " };
            write!(out, "{between}{} {:.1} bits", part.coordinate.name(), part.bits)?;
            if !part.because.is_empty() {
                write!(out, " ({})", part.because)?;
            }
        }
        Ok(())
    }
}
