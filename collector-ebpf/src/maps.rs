//! Maps that several families use.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap};
use collector_common::map::{Lineage, MAX_PROCESSES, MAX_ROW_KEYS, MAX_ROWS, RowKey, SEEN_BITS, Thread};

use crate::control::MMAPABLE;

const NO_PREALLOC: u32 = 1;

/// Who a process is and who its ancestors are, by thread group id.
#[map(name = "lineage")]
pub static LINEAGE: HashMap<u32, Lineage> = HashMap::with_max_entries(MAX_PROCESSES, NO_PREALLOC);

/// Row of `seen` for an executable in a cgroup.
#[map(name = "rows")]
pub static ROWS: HashMap<RowKey, u32> = HashMap::with_max_entries(MAX_ROW_KEYS, NO_PREALLOC);

/// Trigrams that are normal, one bitset a row. Written by user space only.
#[map(name = "seen")]
pub static SEEN: Array<[u64; (SEEN_BITS / 64) as usize]> = Array::with_max_entries(MAX_ROWS, MMAPABLE);

/// A map definition in BTF form, for map types that the library does not have.
#[repr(C)]
pub struct StorageDef<V, const TYPE: usize, const FLAGS: usize> {
    r#type: *const [i32; TYPE],
    key: *const i32,
    value: *const V,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; FLAGS],
}

// SAFETY: the pointers only carry types for BTF; nobody reads them.
unsafe impl<V, const TYPE: usize, const FLAGS: usize> Sync for StorageDef<V, TYPE, FLAGS> {}

impl<V, const TYPE: usize, const FLAGS: usize> StorageDef<V, TYPE, FLAGS> {
    /// An empty definition.
    pub const fn new() -> Self {
        use core::ptr::null;
        Self { r#type: null(), key: null(), value: null(), max_entries: null(), map_flags: null() }
    }
}

/// `BPF_MAP_TYPE_TASK_STORAGE`.
const TASK_STORAGE: usize = 29;

/// The open window of every thread.
#[unsafe(link_section = ".maps")]
#[unsafe(export_name = "threads")]
pub static THREADS: StorageDef<Thread, TASK_STORAGE, 1> = StorageDef::new();
