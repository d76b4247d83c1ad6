//! Decisions → deny entries in kernel maps.
//!
//! [`effective`] sums the live decisions up to one entry per key, [`kernel_maps`] writes what changed in an order in which
//! nothing is missed, [`evaluate`] says what the kernel would answer.

pub mod effective;
pub mod evaluate;
pub mod kernel_maps;
pub mod prefix;
pub mod slots;

use std::collections::BTreeMap;
use std::path::PathBuf;

use aya::maps::MapError;

pub use effective::Effective;
pub use kernel_maps::{Applied, Disarmed, KernelMaps, disarm_pinned};
pub use slots::Slots;

use crate::decision::{Decision, DecisionState};

/// Why entries could not be made or written.
#[derive(Debug, thiserror::Error)]
pub enum EnforceError {
    /// A bounded map has no room left.
    #[error("{map} holds at most {limit} entries and is full; release a decision first, nothing was evicted")]
    Full {
        /// Name of the map.
        map: &'static str,
        /// Entries that it can hold.
        limit: u32,
    },
    /// The decisions on one prefix cut its ports into too many ranges.
    #[error(
        "decisions up to #{decision} on {net} need more than four port ranges; widen the ports or deny the whole address"
    )]
    TooManyPortRanges {
        /// The prefix.
        net: String,
        /// Newest decision on it.
        decision: u64,
    },
    /// A cgroup that cannot be denied.
    #[error("cgroup {path} is at level {level}, only 1–31 can be denied; the root would be the whole host")]
    CgroupLevel {
        /// Path of the cgroup.
        path: String,
        /// Its level below the v2 root.
        level: u32,
    },
    /// A kernel map refused.
    #[error("cannot {what} in {map}: {source}")]
    Map {
        /// What was tried.
        what: &'static str,
        /// On which map.
        map: &'static str,
        /// What the kernel said.
        source: MapError,
    },
    /// The object has no such map.
    #[error("the kernel programs have no map {map}; they are of another version, rebuild with `cargo xtask bpf`")]
    Missing {
        /// Name of the map.
        map: &'static str,
    },
    /// The pin directory could not be read or removed.
    #[error("cannot {what} {path}: {source}")]
    Pin {
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Puts decisions into force.
pub trait Enforcer {
    /// Makes the kernel deny what `live` says, and nothing else. A decision whose deadline passed counts as gone.
    ///
    /// # Errors
    ///
    /// When the sum cannot be expressed (nothing was changed), or the kernel refused a write (call again: what was written
    /// is remembered).
    fn apply(&mut self, live: &[Decision], now_boot_ns: u64) -> Result<Applied, EnforceError>;

    /// Operations denied since the last call, per decision number. Every decision on a key gets the key's hits.
    ///
    /// # Errors
    ///
    /// When the counters cannot be read.
    fn hits(&mut self) -> Result<BTreeMap<u64, u64>, EnforceError>;

    /// Removes every entry at once.
    ///
    /// # Errors
    ///
    /// When the kernel refused a write; the master switch may then be set all the same.
    fn disarm(&mut self) -> Result<Disarmed, EnforceError>;
}

/// Writes into the kernel's deny maps.
pub struct KernelEnforcer {
    slots: Slots,
    effective: Effective,
    maps: KernelMaps,
    read: BTreeMap<u32, u64>,
    unclaimed: BTreeMap<u64, u64>,
}

impl KernelEnforcer {
    /// Takes over the maps with what an earlier agent left in them: the first [`Enforcer::apply`] replaces it.
    pub fn new(mut maps: KernelMaps) -> Self {
        maps.adopt();
        Self {
            slots: Slots::default(),
            effective: Effective::default(),
            maps,
            read: BTreeMap::new(),
            unclaimed: BTreeMap::new(),
        }
    }

    /// What was last put into force.
    pub fn effective(&self) -> &Effective {
        &self.effective
    }

    /// The maps, for the heartbeat and for sweeping.
    pub fn maps(&mut self) -> &mut KernelMaps {
        &mut self.maps
    }

    /// Credits the hits since the last reading to the decisions that share each slot.
    fn collect_hits(&mut self) -> Result<(), EnforceError> {
        for (slot, numbers) in &self.effective.shares {
            let count = self.maps.hits(*slot)?.count;
            let before = self.read.insert(*slot, count).unwrap_or(0);
            let new = count.saturating_sub(before);
            if new > 0 {
                for number in numbers {
                    *self.unclaimed.entry(*number).or_default() += new;
                }
            }
        }
        Ok(())
    }
}

impl Enforcer for KernelEnforcer {
    fn apply(&mut self, live: &[Decision], now_boot_ns: u64) -> Result<Applied, EnforceError> {
        let next = Effective::of(live, now_boot_ns, &mut self.slots)?;
        let applied = self.maps.apply(&next)?;
        // Hits up to here belong to the decisions that held the slots until now.
        let reused = self.effective.shares != next.shares;
        if reused {
            self.collect_hits()?;
        }
        for slot in next.shares.keys() {
            if !self.read.contains_key(slot) {
                // A new entry starts from its slot's old total. Hits within these microseconds are left to the next reader.
                let _ = self.read.insert(*slot, self.maps.base_of(*slot));
            }
        }
        self.read.retain(|slot, _| next.shares.contains_key(slot));
        self.effective = next;
        Ok(applied)
    }

    fn hits(&mut self) -> Result<BTreeMap<u64, u64>, EnforceError> {
        self.collect_hits()?;
        Ok(std::mem::take(&mut self.unclaimed))
    }

    fn disarm(&mut self) -> Result<Disarmed, EnforceError> {
        let disarmed = self.maps.clear()?;
        self.effective = Effective::default();
        self.slots = Slots::default();
        self.read.clear();
        Ok(disarmed)
    }
}

/// Keeps the sum but writes nowhere: for replay and for hosts where nothing can be enforced.
#[derive(Debug, Default)]
pub struct NoEnforcer {
    slots: Slots,
    effective: Effective,
}

impl NoEnforcer {
    /// What would be in force.
    pub fn effective(&self) -> &Effective {
        &self.effective
    }
}

impl Enforcer for NoEnforcer {
    fn apply(&mut self, live: &[Decision], now_boot_ns: u64) -> Result<Applied, EnforceError> {
        self.effective = Effective::of(live, now_boot_ns, &mut self.slots)?;
        Ok(Applied::default())
    }

    fn hits(&mut self) -> Result<BTreeMap<u64, u64>, EnforceError> {
        Ok(BTreeMap::new())
    }

    fn disarm(&mut self) -> Result<Disarmed, EnforceError> {
        *self = Self::default();
        Ok(Disarmed::default())
    }
}

/// Numbers of the active decisions whose deadline is at or before `now_boot_ns`: the caller marks them lapsed.
pub fn lapsed(decisions: &[Decision], now_boot_ns: u64) -> Vec<u64> {
    let due = |decision: &&Decision| decision.state == DecisionState::Active && !decision.is_live(now_boot_ns);
    decisions.iter().filter(due).map(|decision| decision.number).collect()
}

/// The next deadline after `now_boot_ns`: when to call [`Enforcer::apply`] again.
pub fn next_deadline(decisions: &[Decision], now_boot_ns: u64) -> Option<u64> {
    decisions.iter().filter(|decision| decision.is_live(now_boot_ns)).map(|decision| decision.until.boot_ns).min()
}

#[cfg(test)]
mod tests;
