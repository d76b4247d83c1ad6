//! What one detector said during the validation and the test: the little that thresholds need, not every score.

use std::collections::BTreeMap;

use model::Time;
use serde::{Deserialize, Serialize};

use crate::labels::Split;

/// A day, over all hosts.
pub type DayNumber = usize;

/// What an alarm is counted by: one process subtree in one hour of event time. An alarm that goes on is one disturbance an
/// hour, whichever detector raises it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unit {
    /// Day.
    pub day: DayNumber,
    /// Subtree.
    pub anchor: u64,
    /// Hour since 1970.
    pub hour: u64,
}

/// A span of a day: its place in the list of the day's spans of that kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpanNumber {
    /// Day.
    pub day: DayNumber,
    /// Span.
    pub span: usize,
}

/// An event of an attack that scored higher than every one before it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rise {
    /// When.
    pub at: Time,
    /// Score.
    pub score: f64,
    /// Number of the attack's events before it.
    pub before: u64,
    /// Lane and kind of the evidence.
    pub lane: Lane,
}

/// Which record the evidence came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lane {
    /// Fast lane: an exec record.
    Exec,
    /// Fast lane: an exec record of a file in memory only.
    MemoryExec,
    /// Fast lane: a flow record to a new destination.
    Egress,
    /// A flow record.
    Flow,
    /// A file record.
    File,
    /// Slow lane: a window of syscalls.
    Window,
}

impl Lane {
    /// Its name.
    pub fn name(self) -> &'static str {
        ["fast: exec", "fast: memory exec", "fast: egress", "flow", "file", "slow: window"][self as usize]
    }
}

/// What one detector said.
#[derive(Clone, Debug, Default)]
pub struct Track {
    /// Name of its row.
    pub name: String,
    /// Highest score of the benign events of each unit, by split.
    pub benign: BTreeMap<(Split, Unit), f64>,
    /// Highest score of the benign events during each benign change.
    pub changes: BTreeMap<SpanNumber, f64>,
    /// Rises of each attack.
    pub attacks: BTreeMap<SpanNumber, Vec<Rise>>,
}

impl Track {
    /// Nothing yet.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Takes a benign event, and the change that it falls into.
    pub fn benign(&mut self, split: Split, unit: Unit, change: Option<SpanNumber>, score: f64) {
        let most = self.benign.entry((split, unit)).or_insert(f64::NEG_INFINITY);
        *most = most.max(score);
        if let Some(change) = change {
            let most = self.changes.entry(change).or_insert(f64::NEG_INFINITY);
            *most = most.max(score);
        }
    }

    /// Takes an event of an attack.
    pub fn attack(&mut self, attack: SpanNumber, rise: Rise) {
        let rises = self.attacks.entry(attack).or_default();
        if rises.last().is_none_or(|last| rise.score > last.score) {
            rises.push(rise);
        }
    }

    /// Takes over what was said about other hosts.
    pub fn join(&mut self, other: Self) {
        self.benign.extend(other.benign);
        self.changes.extend(other.changes);
        self.attacks.extend(other.attacks);
    }

    /// Scores of benign units of a split.
    pub fn benign_scores(&self, split: Split) -> impl Iterator<Item = f64> + '_ {
        self.benign.iter().filter(move |((of, _), _)| *of == split).map(|(_, score)| *score)
    }

    /// Highest score of an attack; nothing said about it is the lowest of all.
    pub fn peak(&self, attack: SpanNumber) -> f64 {
        self.attacks.get(&attack).and_then(|rises| rises.last()).map_or(f64::NEG_INFINITY, |rise| rise.score)
    }

    /// First event of an attack above a threshold.
    pub fn first_above(&self, attack: SpanNumber, threshold: f64) -> Option<Rise> {
        self.attacks.get(&attack)?.iter().find(|rise| rise.score > threshold).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rises_are_kept_and_the_first_above_a_threshold_is_found() {
        let mut track = Track::named("x");
        let attack = SpanNumber { day: 0, span: 0 };
        for (n, score) in [1.0, 5.0, 3.0, 9.0].into_iter().enumerate() {
            let at = Time { unix_ns: n as u64, boot_ns: 0 };
            track.attack(attack, Rise { at, score, before: n as u64, lane: Lane::Exec });
        }
        assert_eq!(track.attacks[&attack].len(), 3);
        assert_eq!(track.first_above(attack, 1.0).map(|rise| rise.before), Some(1), "above, not at");
        assert_eq!(track.first_above(attack, 9.0), None);
        assert_eq!(track.peak(attack), 9.0);
    }
}
