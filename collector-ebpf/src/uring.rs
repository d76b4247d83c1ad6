//! io_uring: operations that never pass a syscall, as tokens of whoever submits them.
//!
//! With a polling thread of the kernel (SQPOLL) that is the submitter; it belongs to the tree of the process that made the
//! ring, because task_newtask sees it being born. What its operations do is denied by the same hooks as ever.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use collector_common::token::URING;

use crate::offsets::{OFF_URING_OPCODE, field};
use crate::task::Task;
use crate::{scope, syscall};

#[btf_tracepoint(function = "io_uring_submit_req")]
pub fn uring(ctx: BtfTracePointContext) -> i32 {
    submitted(ctx.arg(0));
    0
}

/// Before 6.3 the same tracepoint has another name.
#[btf_tracepoint(function = "io_uring_submit_sqe")]
pub fn uring_sqe(ctx: BtfTracePointContext) -> i32 {
    submitted(ctx.arg(0));
    0
}

#[inline(always)]
fn submitted(request: *const u8) {
    let task = Task::current();
    if !scope::includes(task.tgid()) {
        return;
    }
    // SAFETY: the tracepoint's first argument is an io_kiocb.
    let operation: u8 = unsafe { field(request, &OFF_URING_OPCODE) };
    syscall::synthesise(task, URING | (operation & 0x7f) as u16, 0);
}
