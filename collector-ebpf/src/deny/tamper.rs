//! Attaching to other processes, kernel modules, bpf(2): forbidden to a tree or cgroup by an entry, or to everybody who is
//! not protected by a host-hardening switch.

use aya_ebpf::macros::lsm;
use aya_ebpf::programs::LsmContext;
use collector_common::deny::{Action, Hook};

use super::lsm::{Subject, answer};

/// `PTRACE_MODE_ATTACH`: also what opening /proc/PID/mem asks for.
const ATTACH: u32 = 2;
/// `READING_MODULE` of `enum kernel_read_file_id`, `LOADING_MODULE` of `enum kernel_load_data_id`
/// (include/linux/kernel_read_file.h, kernel_load_data.h).
const MODULE: u32 = 2;

#[lsm(hook = "ptrace_access_check")]
pub fn deny_ptrace(ctx: LsmContext) -> i32 {
    if ctx.arg::<u32>(1) & ATTACH == 0 {
        return 0;
    }
    answer(Hook::Ptrace, Action::Tamper, &Subject::NONE)
}

#[lsm(hook = "kernel_read_file")]
pub fn deny_module_file(ctx: LsmContext) -> i32 {
    if ctx.arg::<u32>(1) != MODULE {
        return 0;
    }
    answer(Hook::Module, Action::Tamper, &Subject::NONE)
}

#[lsm(hook = "kernel_load_data")]
pub fn deny_module_data(ctx: LsmContext) -> i32 {
    if ctx.arg::<u32>(0) != MODULE {
        return 0;
    }
    answer(Hook::Module, Action::Tamper, &Subject::NONE)
}

#[lsm(hook = "bpf")]
pub fn deny_bpf(_: LsmContext) -> i32 {
    answer(Hook::Bpf, Action::Tamper, &Subject::NONE)
}
