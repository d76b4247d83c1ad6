//! The deny maps in the kernel: what changed is written, in an order in which nothing is missed.
//!
//! New: the master counts go up first, then addresses and files (the gates of a fence must stand before the fence), then
//! trees and cgroups. Gone: trees and cgroups first, then what is listed under them, then the counts. So an operation that meets a
//! half-written sum is judged by the old or the new one, never more strictly than both.

use std::collections::BTreeMap;
use std::path::Path;

use aya::Pod;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};
use collector_common::deny::{AddressEntry, AddressKey, Entry, FileEntry, FileKey};
use collector_common::map::{Control, Hits};

use super::{Effective, EnforceError};
use crate::loader::{Kernel, Pins};

/// Names of the maps, as in `collector-ebpf/src/deny.rs`.
const TREE: &str = "deny_tree";
const CGROUP: &str = "deny_cgroup";
const ADDRESS: &str = "deny_address";
const FILE: &str = "deny_file";
const HITS: &str = "hits";
const CONTROL: &str = "control";

/// What an application changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Entries written.
    pub written: usize,
    /// Entries removed.
    pub removed: usize,
}

/// What a disarming removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disarmed {
    /// Entries for process trees.
    pub trees: usize,
    /// Entries for cgroups.
    pub cgroups: usize,
    /// Entries for addresses.
    pub addresses: usize,
    /// Entries for executables.
    pub files: usize,
}

impl Disarmed {
    /// All together.
    pub fn total(self) -> usize {
        self.trees + self.cgroups + self.addresses + self.files
    }
}

/// The maps, and what they were last known to hold.
pub struct KernelMaps {
    tree: HashMap<MapData, u64, Entry>,
    cgroup: HashMap<MapData, u64, Entry>,
    address: LpmTrie<MapData, [u8; 20], AddressEntry>,
    file: HashMap<MapData, FileKey, FileEntry>,
    hits: PerCpuArray<MapData, Hits>,
    control: Array<MapData, Control>,
    written: Effective,
    bases: BTreeMap<u32, u64>,
}

impl KernelMaps {
    /// The maps of a loaded kernel object.
    ///
    /// # Errors
    ///
    /// When the object has no such maps.
    pub fn of(kernel: &Kernel) -> Result<Self, EnforceError> {
        Self::open(|name| kernel.duplicate(name).map_err(|_| EnforceError::Missing { map: name }))
    }

    /// The maps that an agent pinned, whether it still runs or not.
    ///
    /// # Errors
    ///
    /// When nothing is pinned there.
    pub fn pinned(pins: &Pins) -> Result<Self, EnforceError> {
        Self::open(|name| {
            let data = MapData::from_pin(pins.map(name)).map_err(|source| refused("open", name, source))?;
            Map::from_map_data(data).map_err(|source| refused("open", name, source))
        })
    }

    fn open(map: impl Fn(&'static str) -> Result<Map, EnforceError>) -> Result<Self, EnforceError> {
        fn typed<T: TryFrom<Map>>(map: Map, name: &'static str) -> Result<T, EnforceError> {
            T::try_from(map).map_err(|_| EnforceError::Missing { map: name })
        }
        Ok(Self {
            tree: typed(map(TREE)?, TREE)?,
            cgroup: typed(map(CGROUP)?, CGROUP)?,
            address: typed(map(ADDRESS)?, ADDRESS)?,
            file: typed(map(FILE)?, FILE)?,
            hits: typed(map(HITS)?, HITS)?,
            control: typed(map(CONTROL)?, CONTROL)?,
            written: Effective::default(),
            bases: BTreeMap::new(),
        })
    }

    /// Writes what differs from the last application.
    ///
    /// # Errors
    ///
    /// When the kernel refuses a write. What was written is remembered, so calling again continues.
    pub fn apply(&mut self, next: &Effective) -> Result<Applied, EnforceError> {
        let mut applied = Applied::default();
        self.raise_counts(next)?;
        for slot in next.shares.keys() {
            if !self.written.shares.contains_key(slot) {
                let total = self.hits(*slot)?.count;
                self.bases.insert(*slot, total);
            }
        }
        let changed =
            |key: &AddressKey| next.address.get(key).filter(|entry| self.written.address.get(key) != Some(entry));
        let addresses: Vec<_> = next.address.keys().filter_map(|key| Some((*key, *changed(key)?))).collect();
        for (key, entry) in addresses {
            self.address.insert(&lpm(&key), entry, 0).map_err(|source| refused("write", ADDRESS, source))?;
            self.written.address.insert(key, entry);
            applied.written += 1;
        }
        applied.written += write(&mut self.file, &mut self.written.file, &next.file, FILE)?;
        applied.written += write(&mut self.tree, &mut self.written.tree, &next.tree, TREE)?;
        applied.written += write(&mut self.cgroup, &mut self.written.cgroup, &next.cgroup, CGROUP)?;
        applied.removed += remove(&mut self.tree, &mut self.written.tree, &next.tree, TREE)?;
        applied.removed += remove(&mut self.cgroup, &mut self.written.cgroup, &next.cgroup, CGROUP)?;
        let gone: Vec<_> =
            self.written.address.keys().filter(|key| !next.address.contains_key(*key)).copied().collect();
        for key in gone {
            missing_is_fine(self.address.remove(&lpm(&key))).map_err(|source| refused("remove", ADDRESS, source))?;
            self.written.address.remove(&key);
            applied.removed += 1;
        }
        applied.removed += remove(&mut self.file, &mut self.written.file, &next.file, FILE)?;
        self.written.shares = next.shares.clone();
        self.bases.retain(|slot, _| next.shares.contains_key(slot));
        self.set_counts(next)?;
        Ok(applied)
    }

    /// Hits of a slot since the maps were made, all CPUs together.
    ///
    /// # Errors
    ///
    /// When the map cannot be read.
    pub fn hits(&self, slot: u32) -> Result<Hits, EnforceError> {
        let values = self.hits.get(&slot, 0).map_err(|source| refused("read", HITS, source))?;
        Ok(values.iter().fold(Hits::default(), |sum, hits| Hits {
            count: sum.count + hits.count,
            last_ns: sum.last_ns.max(hits.last_ns),
        }))
    }

    /// What a slot had counted before its present owner got it.
    pub fn base_of(&self, slot: u32) -> u64 {
        self.bases.get(&slot).copied().unwrap_or(0)
    }

    /// Removes every entry, known or not.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to remove one.
    pub fn clear(&mut self) -> Result<Disarmed, EnforceError> {
        let mut disarmed = Disarmed::default();
        for key in self.tree.keys().flatten().collect::<Vec<_>>() {
            missing_is_fine(self.tree.remove(&key)).map_err(|source| refused("remove", TREE, source))?;
            disarmed.trees += 1;
        }
        for key in self.cgroup.keys().flatten().collect::<Vec<_>>() {
            missing_is_fine(self.cgroup.remove(&key)).map_err(|source| refused("remove", CGROUP, source))?;
            disarmed.cgroups += 1;
        }
        for key in self.address.keys().flatten().collect::<Vec<_>>() {
            missing_is_fine(self.address.remove(&key)).map_err(|source| refused("remove", ADDRESS, source))?;
            disarmed.addresses += 1;
        }
        for key in self.file.keys().flatten().collect::<Vec<_>>() {
            missing_is_fine(self.file.remove(&key)).map_err(|source| refused("remove", FILE, source))?;
            disarmed.files += 1;
        }
        self.written = Effective::default();
        self.bases.clear();
        self.set_counts(&Effective::default())?;
        Ok(disarmed)
    }

    /// Notes what an earlier agent left, without touching it: the next [`KernelMaps::apply`] replaces or removes it, so a
    /// denial that is to go on is never open in between.
    pub fn adopt(&mut self) {
        self.written.tree = self.tree.keys().flatten().map(|key| (key, Entry::default())).collect();
        self.written.cgroup = self.cgroup.keys().flatten().map(|key| (key, Entry::default())).collect();
        let keys = self.address.keys().flatten();
        self.written.address = keys.map(|key| (address_key(&key), AddressEntry::default())).collect();
        self.written.file = self.file.keys().flatten().map(|key| (key, FileEntry::default())).collect();
    }

    /// Tells whoever looks that the agent lives.
    ///
    /// # Errors
    ///
    /// When the map cannot be written.
    pub fn beat(&mut self, now_boot_ns: u64) -> Result<(), EnforceError> {
        self.change_control(|control| control.heartbeat_ns = now_boot_ns)
    }

    fn raise_counts(&mut self, next: &Effective) -> Result<(), EnforceError> {
        let (tree, cgroup) = (next.tree.len() as u32, next.cgroup.len() as u32);
        let (address, levels) = (next.addresses_for_everybody() as u32, next.cgroup_levels);
        let file = next.files_for_everybody() as u32;
        self.change_control(|control| {
            control.active_file = control.active_file.max(file);
            control.active_tree = control.active_tree.max(tree);
            control.active_cgroup = control.active_cgroup.max(cgroup);
            control.active_address = control.active_address.max(address);
            control.cgroup_levels |= levels;
        })
    }

    fn set_counts(&mut self, next: &Effective) -> Result<(), EnforceError> {
        let (tree, cgroup) = (next.tree.len() as u32, next.cgroup.len() as u32);
        let (address, levels) = (next.addresses_for_everybody() as u32, next.cgroup_levels);
        let file = next.files_for_everybody() as u32;
        self.change_control(|control| {
            control.active_file = file;
            control.active_tree = tree;
            control.active_cgroup = cgroup;
            control.active_address = address;
            control.cgroup_levels = levels;
        })
    }

    fn change_control(&mut self, change: impl FnOnce(&mut Control)) -> Result<(), EnforceError> {
        let mut control = self.control.get(&0, 0).map_err(|source| refused("read", CONTROL, source))?;
        let before = control;
        change(&mut control);
        if control == before {
            return Ok(());
        }
        self.control.set(0, control, 0).map_err(|source| refused("write", CONTROL, source))
    }
}

/// Removes every entry that an agent left in pinned maps, without an agent.
///
/// # Errors
///
/// When nothing is pinned, or the kernel refuses.
pub fn disarm_pinned(bpffs: &Path) -> Result<Disarmed, EnforceError> {
    KernelMaps::pinned(&Pins::at(bpffs))?.clear()
}

fn write<K: Pod + Ord, V: Pod + PartialEq>(
    map: &mut HashMap<MapData, K, V>,
    written: &mut BTreeMap<K, V>,
    next: &BTreeMap<K, V>,
    name: &'static str,
) -> Result<usize, EnforceError> {
    let mut count = 0;
    for (key, entry) in next {
        if written.get(key) != Some(entry) {
            map.insert(key, entry, 0).map_err(|source| refused("write", name, source))?;
            written.insert(*key, *entry);
            count += 1;
        }
    }
    Ok(count)
}

fn remove<K: Pod + Ord, V: Pod>(
    map: &mut HashMap<MapData, K, V>,
    written: &mut BTreeMap<K, V>,
    next: &BTreeMap<K, V>,
    name: &'static str,
) -> Result<usize, EnforceError> {
    let gone: Vec<K> = written.keys().filter(|key| !next.contains_key(*key)).copied().collect();
    for key in &gone {
        missing_is_fine(map.remove(key)).map_err(|source| refused("remove", name, source))?;
        written.remove(key);
    }
    Ok(gone.len())
}

/// Somebody else (`stockade disarm`) may have removed it already.
fn missing_is_fine(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn refused(what: &'static str, map: &'static str, source: MapError) -> EnforceError {
    EnforceError::Map { what, map, source }
}

fn address_key(key: &Key<[u8; 20]>) -> AddressKey {
    let data = key.data();
    let mut address_key = AddressKey { prefix_len: key.prefix_len(), ..AddressKey::default() };
    address_key.scope.copy_from_slice(&data[..4]);
    address_key.address.copy_from_slice(&data[4..]);
    address_key
}

fn lpm(key: &AddressKey) -> Key<[u8; 20]> {
    let mut data = [0; 20];
    data[..4].copy_from_slice(&key.scope);
    data[4..].copy_from_slice(&key.address);
    Key::new(key.prefix_len, data)
}
