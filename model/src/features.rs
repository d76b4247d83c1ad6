//! The eight surprise coordinates of the forest, all in one-sided bits and so comparable across workloads.

use serde::{Deserialize, Serialize};

/// Number of coordinates.
pub const COORDINATES: usize = 8;

/// What a coordinate is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Coordinate {
    /// Order of syscalls.
    Seq = 0,
    /// Calls that are rare in any workload.
    Priv = 1,
    /// Who started what.
    Lineage = 2,
    /// Where a program reads, writes and deletes, and how many files at once.
    File = 3,
    /// Where to, and serving what.
    Net = 4,
    /// To how many.
    Fanout = 5,
    /// How much.
    Volume = 6,
    /// How much failed.
    Error = 7,
}

impl Coordinate {
    /// All, in the order of their numbers.
    pub const ALL: [Self; COORDINATES] =
        [Self::Seq, Self::Priv, Self::Lineage, Self::File, Self::Net, Self::Fanout, Self::Volume, Self::Error];
}

/// A point for the forest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FeatureVector {
    /// Bits per [`Coordinate`], never negative; higher = more anomalous.
    pub bits: [f64; COORDINATES],
}

impl FeatureVector {
    /// A coordinate.
    pub fn get(&self, coordinate: Coordinate) -> f64 {
        self.bits[coordinate as usize]
    }

    /// Whether every coordinate is a number.
    pub(crate) fn is_finite(&self) -> bool {
        self.bits.iter().all(|bits| bits.is_finite())
    }

    /// Raises a coordinate to at least `bits`.
    pub fn raise(&mut self, coordinate: Coordinate, bits: f64) {
        let slot = &mut self.bits[coordinate as usize];
        *slot = slot.max(bits);
    }

    /// The larger of both, coordinate by coordinate.
    pub fn joined(&self, other: &Self) -> Self {
        let mut joined = *self;
        for (slot, bits) in joined.bits.iter_mut().zip(other.bits) {
            *slot = slot.max(bits);
        }
        joined
    }
}
