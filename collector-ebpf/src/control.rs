//! The one value that user space maps and every program reads.

use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use collector_common::map::Control;

/// `BPF_F_MMAPABLE`.
pub const MMAPABLE: u32 = 1 << 10;

#[map(name = "control")]
static CONTROL: Array<Control> = Array::with_max_entries(1, MMAPABLE);

/// The control value.
#[inline(always)]
pub fn control() -> Option<&'static Control> {
    let value = CONTROL.get_ptr(0)?;
    // SAFETY: an array's value lives as long as the map; user space writes whole words.
    Some(unsafe { &*value })
}
