//! Keys and values of the maps that are not deny entries. The map's name is the name in `collector-ebpf/src/maps.rs`.

use crate::syscall::Window;
use crate::{ExeId, plain};

/// Nearest ancestors that a [`Lineage`] carries.
pub const ANCESTORS: usize = 8;
/// Processes that `lineage` can hold.
pub const MAX_PROCESSES: u32 = 65_536;
/// Rows of the `seen` bitsets; row 0 is never used.
pub const MAX_ROWS: u32 = 1_024;
/// Bits of one row (4 KiB).
pub const SEEN_BITS: u32 = 32_768;
/// Entries of `rows` (an executable in a cgroup).
pub const MAX_ROW_KEYS: u32 = 8_192;
/// Entries of `ready` (cgroups of ready workloads).
pub const MAX_READY: u32 = 16_384;
/// Entries of `destinations`.
pub const MAX_DESTINATIONS: u32 = 65_536;
/// Entries each of `deny_tree`, `deny_cgroup`, `deny_address`; also the number of counter slots.
pub const MAX_DENY: u32 = 4_096;
/// Entries of `deny_seen` (process and slot pairs whose records are rate-limited one by one).
pub const MAX_DENY_SEEN: u32 = 16_384;

/// Entries of `files_seen` (executable, directory, mode); the least recently used make room and are told again.
pub const MAX_FILES_SEEN: u32 = 65_536;
/// Entries of `file_rates` (processes that write, rename or delete); the least recently used make room.
pub const MAX_FILE_RATES: u32 = 4_096;
/// Entries of `sensitive_names`.
pub const MAX_SENSITIVE: u32 = 512;
/// Entries of `hatches` (sockets through which others act on one's behalf).
pub const MAX_HATCHES: u32 = 1_024;

/// Value of `lineage`, keyed by thread group id: who a process is and who its ancestors are, stamped at birth.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    /// [`crate::cookie_of`] this process; an entry with another cookie belongs to an earlier owner of the pid.
    pub cookie: u64,
    /// Cookie of the outermost known ancestor below pid 1 (or of the process itself): inherited, so it survives reparenting.
    pub root: u64,
    /// Cookies of the nearest ancestors, the creator first; 0 = none known.
    pub near: [u64; ANCESTORS],
    /// Cookie of a denied ancestor that is further away than `near` reaches; 0 = none.
    pub sticky: u64,
    /// Executable that runs now.
    pub exe: ExeId,
    /// `LINEAGE_*`.
    pub flags: u32,
    /// Always zero.
    pub pad: u32,
}
plain!(Lineage, 112);

/// [`Lineage::flags`]: older than the agent; ancestors were read from /proc.
pub const LINEAGE_PRE_EXISTING: u32 = 1;
/// [`Lineage::flags`]: the creator's lineage was missing when the process was born.
pub const LINEAGE_PARTIAL: u32 = 2;
/// [`Lineage::flags`]: never denied, whatever matches (set by user space, inherited by nobody).
pub const LINEAGE_PROTECTED: u32 = 4;

/// Value of the task storage `threads`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Jiffies when the window was opened; 0 = no window open.
    pub opened: u64,
    /// `THREAD_*`.
    pub flags: u32,
    /// Calls until the next attempt to write a window that did not fit.
    pub retry: u32,
    /// The two numbers before the next call: `previous << 10 | last`; `u32::MAX` = no history.
    pub history: u32,
    /// Next index into the window's trace, once it wraps after a failed write.
    pub next: u32,
    /// The open window.
    pub window: Window,
}
plain!(Thread, 424);

/// [`Thread::flags`]: the open window was already reported early.
pub const THREAD_EARLY_SENT: u32 = 1;

/// [`Thread::flags`]: the open window was shown by the task iterator.
pub const THREAD_SHOWN: u32 = 2;

/// [`Thread::flags`]: the last call was interrupted; it may be made again.
pub const THREAD_INTERRUPTED: u32 = 4;

/// Key of `rows`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowKey {
    /// cgroup v2 id.
    pub cgroup: u64,
    /// Executable.
    pub exe: ExeId,
}
plain!(RowKey, 24);

/// Key of `destinations`: a destination that is known to be normal for a row.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DestinationKey {
    /// Row of the executable; 0 is never entered.
    pub row: u32,
    /// Remote port, host order.
    pub port: u16,
    /// IPPROTO_*.
    pub protocol: u8,
    /// Always zero.
    pub pad: u8,
    /// Remote address, v4-mapped.
    pub address: [u8; 16],
}
plain!(DestinationKey, 24);

/// Value of `hits`, one per CPU and slot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hits {
    /// Operations denied (or, for shadow entries, that would have been).
    pub count: u64,
    /// Boot clock of the last one.
    pub last_ns: u64,
}
plain!(Hits, 16);

/// Key of `deny_seen` and, with the tree's root as `cookie`, of `breaker_seen`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SeenKey {
    /// Process, or root of its tree.
    pub cookie: u64,
    /// Slot of the entry.
    pub slot: u32,
    /// Low half of the entry's decision number, so that a slot that is used again starts afresh.
    pub decision: u32,
}
plain!(SeenKey, 16);

/// Value of `deny_seen`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeenHits {
    /// Boot clock of the last record.
    pub reported_ns: u64,
    /// Hits since then.
    pub suppressed: u64,
}
plain!(SeenHits, 16);

/// The one value of `control`: mapped by user space, read by every program.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// Live entries in `deny_tree`; 0 = that lookup is skipped. Likewise below.
    pub active_tree: u32,
    /// Live entries in `deny_cgroup`.
    pub active_cgroup: u32,
    /// Live entries of scope 0 in `deny_address`.
    pub active_address: u32,
    /// Not 0: nothing is denied, whatever the entries say.
    pub disarmed: u32,
    /// Bit n: some entry of `deny_cgroup` is a cgroup of level n (0–31), so that ancestor is looked up.
    pub cgroup_levels: u32,
    /// Changed whenever `rows` or `ready` change, so that open windows look their row up again.
    pub row_generation: u32,
    /// Live entries of scope 0 in `deny_file`.
    pub active_file: u32,
    /// `deny::HARDEN_*`: what nobody may do who is not protected.
    pub harden: u32,
    /// Boot clock of the agent's last sign of life.
    pub heartbeat_ns: u64,
}
plain!(Control, 40);
