//! What the kernel may know of the baselines: which trigrams and destinations are normal for which executable in which
//! cgroup. It is a filter that makes the kernel speak early; the model decides.
//!
//! A row is a bitset of 32,768 bits for one (workload, executable). Rows are given out when a workload becomes ready and
//! taken back when it goes on learning. What does not fit (1,024 rows, 8,192 keys) is judged from the full windows all the
//! same, only later; it is counted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use collector_common::ExeId;
use collector_common::map::{DestinationKey, MAX_READY, MAX_ROW_KEYS, MAX_ROWS, RowKey};
use collector_common::token::trigram_bit;

/// Keys remembered per (workload, executable): restarts of a unit make new cgroups, upgrades new inodes.
const KEYS_PER_EXE: usize = 64;

/// What the kernel has to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Empty the row, then set these bits in it.
    Fill {
        /// 1 to 1,023.
        row: u32,
        /// Bit numbers below 32,768.
        bits: Vec<u32>,
    },
    /// The executable in that cgroup is judged against the row; 0 = against none.
    Point {
        /// Which.
        key: RowKey,
        /// Row.
        row: u32,
    },
    /// The cgroup belongs to a ready workload, or no longer does.
    Ready {
        /// cgroup v2 id.
        cgroup: u64,
        /// Whether it is.
        ready: bool,
    },
    /// A destination is normal for a row.
    Destination(DestinationKey),
}

/// What a frozen baseline holds of one executable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Normal {
    /// Trigrams and trigger pseudo-trigrams.
    pub trigrams: Vec<u32>,
    /// Address, port, protocol.
    pub destinations: Vec<(IpAddr, u16, u8)>,
}

type Owner = (Arc<str>, Arc<str>);

/// Who owns which row, and where it is used.
#[derive(Debug, Default)]
pub struct Rows {
    keys: BTreeMap<Owner, BTreeSet<RowKey>>,
    rows: BTreeMap<Owner, u32>,
    free: BTreeSet<u32>,
    used: u32,
    ready: BTreeMap<Arc<str>, BTreeSet<u64>>,
    overflow: u64,
}

impl Rows {
    /// Rows, keys or cgroups that did not fit.
    pub fn overflow(&self) -> u64 {
        self.overflow
    }

    /// Files that were seen running as this program of the workload.
    pub fn files_of(&self, workload: &Arc<str>, exe: &Arc<str>) -> impl Iterator<Item = ExeId> {
        let keys = self.keys.get(&(workload.clone(), exe.clone()));
        let files: BTreeSet<ExeId> = keys.into_iter().flatten().map(|key| key.exe).collect();
        files.into_iter()
    }

    /// Rows in use.
    pub fn in_use(&self) -> usize {
        self.rows.len()
    }

    /// An executable was started. In a ready workload the kernel learns at once that it is known, or that its cgroup is.
    pub fn on_exec(&mut self, workload: &Arc<str>, exe: &Arc<str>, key: RowKey) -> Vec<Change> {
        let owner = (workload.clone(), exe.clone());
        let known = self.keys.values().map(BTreeSet::len).sum::<usize>();
        let keys = self.keys.entry(owner.clone()).or_default();
        let mut changes = Vec::new();
        if !keys.contains(&key) {
            if keys.len() >= KEYS_PER_EXE || known >= MAX_ROW_KEYS as usize {
                self.overflow += 1;
                return changes;
            }
            keys.insert(key);
            if let Some(row) = self.rows.get(&owner) {
                changes.push(Change::Point { key, row: *row });
            }
        }
        let total = self.ready.values().map(BTreeSet::len).sum::<usize>();
        if let Some(cgroups) = self.ready.get_mut(workload)
            && total < MAX_READY as usize
            && cgroups.insert(key.cgroup)
        {
            changes.push(Change::Ready { cgroup: key.cgroup, ready: true });
        }
        changes
    }

    /// The workload was frozen: gives rows to its executables and fills them.
    pub fn make_ready(&mut self, workload: &Arc<str>, normal: &BTreeMap<Arc<str>, Normal>) -> Vec<Change> {
        let mut changes = Vec::new();
        for (exe, normal) in normal {
            let owner = (workload.clone(), exe.clone());
            let Some(row) = self.rows.get(&owner).copied().or_else(|| self.give_row(&owner)) else {
                self.overflow += 1;
                continue;
            };
            let bits: BTreeSet<u32> = normal.trigrams.iter().map(|trigram| trigram_bit(*trigram)).collect();
            changes.push(Change::Fill { row, bits: bits.into_iter().collect() });
            changes.extend(normal.destinations.iter().map(|(address, port, protocol)| {
                let address = match address {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                    IpAddr::V6(v6) => v6.octets(),
                };
                Change::Destination(DestinationKey { row, port: *port, protocol: *protocol, pad: 0, address })
            }));
            let keys = self.keys.get(&owner).into_iter().flatten();
            changes.extend(keys.map(|key| Change::Point { key: *key, row }));
        }
        let cgroups: BTreeSet<u64> = self
            .keys
            .iter()
            .filter(|((name, _), _)| name == workload)
            .flat_map(|(_, keys)| keys)
            .map(|key| key.cgroup)
            .collect();
        changes.extend(cgroups.iter().map(|cgroup| Change::Ready { cgroup: *cgroup, ready: true }));
        self.ready.insert(workload.clone(), cgroups);
        changes
    }

    /// The workload goes on learning: its cgroups are no longer ready and its rows are free.
    pub fn make_learning(&mut self, workload: &Arc<str>) -> Vec<Change> {
        let cgroups = self.ready.remove(workload).unwrap_or_default();
        let mut changes: Vec<_> = cgroups.into_iter().map(|cgroup| Change::Ready { cgroup, ready: false }).collect();
        let owners: Vec<_> = self.rows.keys().filter(|(name, _)| name == workload).cloned().collect();
        for owner in owners {
            let keys = self.keys.get(&owner).into_iter().flatten();
            changes.extend(keys.map(|key| Change::Point { key: *key, row: 0 }));
            if let Some(row) = self.rows.remove(&owner) {
                changes.push(Change::Fill { row, bits: Vec::new() });
                self.free.insert(row);
            }
        }
        changes
    }

    fn give_row(&mut self, owner: &Owner) -> Option<u32> {
        let row = self.free.pop_first().or_else(|| {
            (self.used + 1 < MAX_ROWS).then(|| {
                self.used += 1;
                self.used
            })
        })?;
        self.rows.insert(owner.clone(), row);
        Some(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(cgroup: u64, ino: u64) -> RowKey {
        RowKey { cgroup, exe: ExeId { ino, dev: 1, generation: 0 } }
    }

    fn normal(exe: &str) -> BTreeMap<Arc<str>, Normal> {
        let normal = Normal { trigrams: vec![1, 2], destinations: vec![([10, 0, 0, 1].into(), 5432, 6)] };
        BTreeMap::from([(Arc::from(exe), normal)])
    }

    #[test]
    fn a_ready_workload_points_its_executables_at_rows_and_a_restart_follows() {
        let (web, httpd) = (Arc::from("unit:web"), Arc::from("/bin/httpd"));
        let mut rows = Rows::default();
        assert_eq!(rows.on_exec(&web, &httpd, key(7, 1)), []);
        let changes = rows.make_ready(&web, &normal("/bin/httpd"));
        assert!(changes.contains(&Change::Point { key: key(7, 1), row: 1 }));
        assert!(changes.contains(&Change::Ready { cgroup: 7, ready: true }));
        assert!(
            changes.iter().any(|change| matches!(change, Change::Destination(key) if key.row == 1 && key.port == 5432))
        );

        // The unit restarts: another cgroup, and its executable was upgraded.
        let changes = rows.on_exec(&web, &httpd, key(8, 2));
        assert_eq!(changes, [Change::Point { key: key(8, 2), row: 1 }, Change::Ready { cgroup: 8, ready: true }]);
        // A program that the baseline does not hold gets no row: everything it does is new.
        assert_eq!(rows.on_exec(&web, &Arc::from("/bin/sh"), key(8, 3)), []);
    }

    #[test]
    fn learning_again_gives_the_rows_back() {
        let (web, httpd) = (Arc::from("unit:web"), Arc::from("/bin/httpd"));
        let mut rows = Rows::default();
        rows.on_exec(&web, &httpd, key(7, 1));
        rows.make_ready(&web, &normal("/bin/httpd"));
        let changes = rows.make_learning(&web);
        assert_eq!(changes[0], Change::Ready { cgroup: 7, ready: false });
        assert!(changes.contains(&Change::Point { key: key(7, 1), row: 0 }));
        assert_eq!(rows.in_use(), 0);
        assert_eq!(
            rows.make_ready(&Arc::from("unit:db"), &normal("/bin/db"))[0],
            Change::Fill {
                row: 1,
                bits: vec![trigram_bit(1), trigram_bit(2)].into_iter().collect::<BTreeSet<_>>().into_iter().collect()
            }
        );
    }

    #[test]
    fn rows_are_bounded_and_the_rest_is_counted() {
        let mut rows = Rows::default();
        let many: BTreeMap<_, _> = (0..MAX_ROWS).map(|n| (Arc::from(format!("/bin/{n}")), Normal::default())).collect();
        rows.make_ready(&Arc::from("unit:many"), &many);
        assert_eq!((rows.in_use(), rows.overflow()), (MAX_ROWS as usize - 1, 1));
    }
}
