//! A program that does nothing on the syscall hook: what the benchmark measures the others against. Never attached otherwise.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;

#[btf_tracepoint(function = "sys_exit")]
pub fn empty(_: BtfTracePointContext) -> i32 {
    0
}
