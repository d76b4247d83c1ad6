//! Why a vector is anomalous, in words.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::features::{COORDINATES, Coordinate, FeatureVector};
use crate::score::AnomalyScore;

/// Parts that are named.
const NAMED: usize = 3;
/// Share of the score from which a part is one, and bits.
const LEAST: (f64, f64) = (0.05, 0.1);

/// The parts of a score, the largest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// Cuts after which the vector is isolated, and the median.
    pub depth: (f64, f64),
    /// What each of the coordinates that matter contributes, at most three of them.
    pub parts: Vec<Part>,
}

/// What one coordinate contributes, beside what is usual. Low values are never anomalous, so a coordinate that contributes lies
/// above what is usual, or within it in an unusual combination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Coordinate.
    pub coordinate: Coordinate,
    /// Its surprise in bits.
    pub bits: f64,
    /// What it contributes to the score in bits.
    pub contribution: f64,
    /// Between which bits 98 % of the host's rows lie (p1–p99).
    pub usual: (f64, f64),
    /// The most surprising thing behind it; empty when it is a quantity.
    pub because: String,
}

impl Explanation {
    /// Names the largest contributions. `usual`: see [`Part::usual`].
    pub fn of(
        vector: &FeatureVector,
        score: &AnomalyScore,
        usual: &[(f64, f64); COORDINATES],
        because: impl Fn(Coordinate) -> String,
    ) -> Self {
        let least = LEAST.1.max(LEAST.0 * score.value);
        let mut parts: Vec<Part> = Coordinate::ALL
            .into_iter()
            .filter(|coordinate| score.contributions[*coordinate as usize] > least)
            .map(|coordinate| Part {
                coordinate,
                bits: vector.get(coordinate),
                contribution: score.contributions[coordinate as usize],
                usual: usual[coordinate as usize],
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
            write!(out, "{between}{} {part}", part.coordinate.name())?;
        }
        Ok(())
    }
}

impl fmt::Display for Part {
    /// All but the coordinate's name: `9.2 bits, usually 0–1.3 (nginx > sh never seen)`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, high) = self.usual;
        let within = if self.bits <= high { "within its usual" } else { "usually" };
        write!(out, "{:.1} bits, {within} {}–{}", self.bits, short(low), short(high))?;
        if self.because.is_empty() { Ok(()) } else { write!(out, " ({})", self.because) }
    }
}

/// `0` and `1.3`: no `0.0` where nothing is usual.
fn short(bits: f64) -> String {
    let text = format!("{bits:.1}");
    text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(bits: f64, usual: (f64, f64), because: &str) -> Part {
        Part { coordinate: Coordinate::Lineage, bits, contribution: 1.0, usual, because: because.to_owned() }
    }

    #[test]
    fn a_part_says_on_which_side_of_the_usual_it_lies() {
        let explained = Explanation {
            depth: (1.94, 8.4),
            parts: vec![part(9.2, (0.0, 1.3), "nginx > sh never seen"), part(1.5, (0.0, 2.0), "")],
        };
        assert_eq!(
            explained.to_string(),
            "isolated after 1.9 cuts, usually 8.4: lineage 9.2 bits, usually 0–1.3 (nginx > sh never seen), \
             lineage 1.5 bits, within its usual 0–2"
        );
    }
}
