//! What user space tells the programs: normal trigrams and destinations, ready cgroups, lineages, hatches, switches.

use std::path::Path;

use aya::maps::{Array, HashMap};
use collector_common::ExeId;
use collector_common::file::NAME;
use collector_common::map::{Control, DestinationKey, LINEAGE_PROTECTED, Lineage, RowKey, SEEN_BITS};

use super::canary::socket_id;
use super::{Kernel, LoadError, sensitive};

impl Kernel {
    /// Replaces the bitset of a row. The kernel only reads it, so a whole row can be written at once.
    ///
    /// # Errors
    ///
    /// When the map cannot be written.
    pub fn fill_row(&mut self, row: u32, bits: &[u32]) -> Result<(), LoadError> {
        let mut words = [0u64; (SEEN_BITS / 64) as usize];
        for bit in bits {
            if let Some(word) = words.get_mut((bit / 64) as usize) {
                *word |= 1 << (bit % 64);
            }
        }
        let map = self.ebpf.map_mut("seen").ok_or(LoadError::NoMap("seen"))?;
        let mut seen: Array<_, Words> = Array::try_from(map).map_err(|_| LoadError::NoMap("seen"))?;
        seen.set(row, Words(words), 0).map_err(|_| LoadError::NoMap("seen"))
    }

    /// Points an executable in a cgroup at a row; 0 = none.
    ///
    /// # Errors
    ///
    /// When the map is full.
    pub fn point(&mut self, key: RowKey, row: u32) -> Result<(), LoadError> {
        let map = self.ebpf.map_mut("rows").ok_or(LoadError::NoMap("rows"))?;
        let mut rows: HashMap<_, RowKey, u32> = HashMap::try_from(map).map_err(|_| LoadError::NoMap("rows"))?;
        if row == 0 {
            let _ = rows.remove(&key);
            return Ok(());
        }
        rows.insert(key, row, 0).map_err(|_| LoadError::NoMap("rows"))
    }

    /// Says that a cgroup belongs to a ready workload, or no longer does.
    ///
    /// # Errors
    ///
    /// When the map is full.
    pub fn mark_ready(&mut self, cgroup: u64, ready: bool) -> Result<(), LoadError> {
        let map = self.ebpf.map_mut("ready").ok_or(LoadError::NoMap("ready"))?;
        let mut cgroups: HashMap<_, u64, u32> = HashMap::try_from(map).map_err(|_| LoadError::NoMap("ready"))?;
        if ready {
            return cgroups.insert(cgroup, 1, 0).map_err(|_| LoadError::NoMap("ready"));
        }
        let _ = cgroups.remove(&cgroup);
        Ok(())
    }

    /// Says that a destination is normal for a row.
    ///
    /// # Errors
    ///
    /// When the map is full.
    pub fn know_destination(&mut self, key: DestinationKey) -> Result<(), LoadError> {
        let map = self.ebpf.map_mut("destinations").ok_or(LoadError::NoMap("destinations"))?;
        let mut known: HashMap<_, DestinationKey, u8> =
            HashMap::try_from(map).map_err(|_| LoadError::NoMap("destinations"))?;
        known.insert(key, 1, 0).map_err(|_| LoadError::NoMap("destinations"))
    }

    /// Marks a process as one that is never denied, if it is still the same process.
    ///
    /// # Errors
    ///
    /// When the map is not there.
    pub fn protect(&mut self, cookie: u64) -> Result<bool, LoadError> {
        let map = self.ebpf.map_mut("lineage").ok_or(LoadError::NoMap("lineage"))?;
        let mut entries: HashMap<_, u32, Lineage> = HashMap::try_from(map).map_err(|_| LoadError::NoMap("lineage"))?;
        let tgid = collector_common::header::tgid_of(cookie);
        let Ok(mut lineage) = entries.get(&tgid, 0) else { return Ok(false) };
        if lineage.cookie != cookie {
            return Ok(false);
        }
        lineage.flags |= LINEAGE_PROTECTED;
        Ok(entries.insert(tgid, lineage, 0).is_ok())
    }

    /// Makes open windows look their row up again: call it after rows were filled and pointed at.
    ///
    /// # Errors
    ///
    /// When the map is not there.
    pub fn announce_rows(&mut self) -> Result<(), LoadError> {
        let map = self.ebpf.map_mut("control").ok_or(LoadError::NoMap("control"))?;
        let mut control: Array<_, Control> = Array::try_from(map).map_err(|_| LoadError::NoMap("control"))?;
        let mut value = control.get(&0, 0).map_err(|_| LoadError::NoMap("control"))?;
        value.row_generation = value.row_generation.wrapping_add(1).max(1);
        control.set(0, value, 0).map_err(|_| LoadError::NoMap("control"))
    }

    /// Removes a process from the lineage.
    ///
    /// # Errors
    ///
    /// When the map is not there.
    pub fn forget(&mut self, tgid: u32) -> Result<(), LoadError> {
        let map = self.ebpf.map_mut("lineage").ok_or(LoadError::NoMap("lineage"))?;
        let mut entries: HashMap<_, u32, Lineage> = HashMap::try_from(map).map_err(|_| LoadError::NoMap("lineage"))?;
        let _ = entries.remove(&tgid);
        Ok(())
    }

    /// Enters the lineage of a process that is older than the programs; the kernel's own entry is never replaced.
    ///
    /// # Errors
    ///
    /// When the map is not there.
    pub fn take_in(&mut self, tgid: u32, lineage: &Lineage) -> Result<bool, LoadError> {
        const NOEXIST: u64 = 1;
        let map = self.ebpf.map_mut("lineage").ok_or(LoadError::NoMap("lineage"))?;
        let mut entries: HashMap<_, u32, Lineage> = HashMap::try_from(map).map_err(|_| LoadError::NoMap("lineage"))?;
        Ok(entries.insert(tgid, lineage, NOEXIST).is_ok())
    }

    /// Enters the sockets that isolation closes, as they are bound now; those that are gone are removed. Returns how many
    /// there are.
    ///
    /// # Errors
    ///
    /// When the map cannot be written.
    pub fn watch_hatches<'a>(&mut self, paths: impl IntoIterator<Item = &'a Path>) -> Result<usize, LoadError> {
        let bound: Vec<ExeId> = paths.into_iter().filter_map(|path| socket_id(path).ok()).collect();
        let map = self.ebpf.map_mut("hatches").ok_or(LoadError::NoMap("hatches"))?;
        let mut hatches: HashMap<_, ExeId, u32> = HashMap::try_from(map).map_err(|_| LoadError::NoMap("hatches"))?;
        for socket in &bound {
            hatches.insert(socket, 1, 0).map_err(|_| LoadError::NoMap("hatches"))?;
        }
        let gone: Vec<ExeId> = hatches.keys().flatten().filter(|socket| !bound.contains(socket)).collect();
        for socket in gone {
            let _ = hatches.remove(&socket);
        }
        Ok(bound.len())
    }

    /// Tells the names of sensitive files.
    ///
    /// # Errors
    ///
    /// When the map cannot be written.
    pub(super) fn name_sensitive_files(&mut self) -> Result<(), LoadError> {
        let map = self.ebpf.map_mut("sensitive_names").ok_or(LoadError::NoMap("sensitive_names"))?;
        let mut named: HashMap<_, [u8; NAME], u8> =
            HashMap::try_from(map).map_err(|_| LoadError::NoMap("sensitive_names"))?;
        for (name, class) in sensitive::names() {
            named.insert(name, class, 0).map_err(|_| LoadError::NoMap("sensitive_names"))?;
        }
        Ok(())
    }

    /// Sets the host-hardening switches (`deny::HARDEN_*`).
    ///
    /// # Errors
    ///
    /// When the map cannot be written.
    pub fn harden(&mut self, switches: u32) -> Result<(), LoadError> {
        let map = self.ebpf.map_mut("control").ok_or(LoadError::NoMap("control"))?;
        let mut control: Array<_, Control> = Array::try_from(map).map_err(|_| LoadError::NoMap("control"))?;
        let mut value = control.get(&0, 0).map_err(|_| LoadError::NoMap("control"))?;
        value.harden = switches;
        control.set(0, value, 0).map_err(|_| LoadError::NoMap("control"))
    }
}

#[repr(transparent)]
#[derive(Clone, Copy)]
struct Words([u64; (SEEN_BITS / 64) as usize]);

// SAFETY: an array of integers.
unsafe impl aya::Pod for Words {}
