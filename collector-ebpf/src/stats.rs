//! Counting, per program and CPU, and the header of every record.

use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_boot_ns};
use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use collector_common::stats::{PROGRAMS, Program, Stats};
use collector_common::{ABI, Header, Kind};

#[map(name = "stats")]
static STATS: PerCpuArray<Stats> = PerCpuArray::with_max_entries(PROGRAMS, 0);

/// This CPU's counters of a program. `None` never happens: the index is below the map's size.
#[inline(always)]
pub fn of(program: Program) -> Option<&'static mut Stats> {
    let row = STATS.get_ptr_mut(program as u32)?;
    // SAFETY: a per-CPU value, and each row is written by one program that cannot interrupt itself.
    Some(unsafe { &mut *row })
}

/// The header of the next record, counted as an attempt.
#[inline(always)]
pub fn header(stats: &mut Stats, kind: Kind, len: usize, flags: u16, cookie: u64) -> Header {
    stats.attempted += 1;
    // SAFETY: helpers without arguments.
    let (cpu, boot_ns) = unsafe { (bpf_get_smp_processor_id(), bpf_ktime_get_boot_ns()) };
    Header {
        kind: kind as u8,
        abi: ABI,
        flags,
        len: len as u16,
        cpu: cpu as u16,
        seq: stats.attempted,
        boot_ns,
        cookie,
    }
}
