//! The two rings: ctrl wakes its reader, bulk is polled every millisecond.

use aya_ebpf::macros::map;
use aya_ebpf::maps::RingBuf;

/// `BPF_RB_NO_WAKEUP`.
pub const NO_WAKEUP: u64 = 1;
/// `BPF_RB_FORCE_WAKEUP`.
pub const WAKEUP: u64 = 2;

/// fork, exec, exit, deny, early windows, first-seen destinations: every record wakes the reader up.
#[map(name = "ctrl")]
pub static CTRL: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Windows and flows.
#[map(name = "bulk")]
pub static BULK: RingBuf = RingBuf::with_byte_size(8 << 20, 0);
