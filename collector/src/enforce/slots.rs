//! Counter slots: one number per key, from the moment the key is first denied until it is released.

use std::collections::{BTreeSet, HashMap, VecDeque};

use collector_common::ExeId;
use collector_common::deny::AddressKey;
use collector_common::map::MAX_DENY;

use super::EnforceError;

/// What owns a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SlotKey {
    /// A process and its descendants, by cookie.
    Tree(u64),
    /// A cgroup and its descendants, by id.
    Cgroup(u64),
    /// A prefix, for everybody.
    Address(AddressKey),
    /// An executable, for everybody.
    File(ExeId),
}

/// Hands out slots `1..MAX_DENY`; 0 means "no entry" in the kernel. The longest-unused number goes out first, so that late
/// records of a released entry are not taken for those of a new one.
#[derive(Debug)]
pub struct Slots {
    taken: HashMap<SlotKey, u32>,
    free: VecDeque<u32>,
}

impl Default for Slots {
    fn default() -> Self {
        Self { taken: HashMap::new(), free: (1..MAX_DENY).collect() }
    }
}

impl Slots {
    /// The key's slot; the same one as long as the key is not released.
    ///
    /// # Errors
    ///
    /// When every slot is taken. Nothing is evicted.
    pub fn slot_of(&mut self, key: SlotKey) -> Result<u32, EnforceError> {
        if let Some(slot) = self.taken.get(&key) {
            return Ok(*slot);
        }
        let slot = self.free.pop_front().ok_or(EnforceError::Full { map: "hits", limit: MAX_DENY - 1 })?;
        self.taken.insert(key, slot);
        Ok(slot)
    }

    /// Releases every slot that is not in `used`.
    pub fn keep_only(&mut self, used: &BTreeSet<u32>) {
        let free = &mut self.free;
        self.taken.retain(|_, slot| {
            let keep = used.contains(slot);
            if !keep {
                free.push_back(*slot);
            }
            keep
        });
    }

    /// Slots in use.
    pub fn len(&self) -> usize {
        self.taken.len()
    }

    /// Whether no slot is in use.
    pub fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_stays_with_its_key_and_returns_late() {
        let mut slots = Slots::default();
        let first = slots.slot_of(SlotKey::Tree(1)).unwrap();
        let second = slots.slot_of(SlotKey::Tree(2)).unwrap();
        assert_eq!((first, second), (1, 2));
        slots.keep_only(&BTreeSet::from([second]));
        assert_eq!(slots.slot_of(SlotKey::Tree(2)).unwrap(), second);
        assert_eq!(slots.slot_of(SlotKey::Cgroup(9)).unwrap(), 3, "the released 1 goes to the end of the queue");
    }

    #[test]
    fn full_is_an_error_and_evicts_nobody() {
        let mut slots = Slots::default();
        for cookie in 1..u64::from(MAX_DENY) {
            slots.slot_of(SlotKey::Tree(cookie)).unwrap();
        }
        assert!(matches!(slots.slot_of(SlotKey::Tree(0)), Err(EnforceError::Full { .. })));
        assert_eq!(slots.len(), MAX_DENY as usize - 1);
    }
}
