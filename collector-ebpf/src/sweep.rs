//! Iterators: what no event tells. Sockets that were open before the agent came get their owner; a thread that went idle in
//! the middle of a window shows what it has done so far.
//!
//! User space starts a sweep by reading the iterator to its end. Live records always win: an owner that is stamped already
//! stays, and a window that is shown is not closed, because its thread may go on with it on another CPU at the same moment.

use core::ptr::read_volatile;

use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_sock_from_file};
use collector_common::map::THREAD_SHOWN;
use collector_common::stats::Program;

use crate::maps::LINEAGE;
use crate::offsets::*;
use crate::owner::{self, CREATE};
use crate::task::Task;
use crate::{stats, syscall};

/// `struct bpf_iter__task_file` (kernel/bpf/task_iter.c), every pointer in eight bytes.
#[repr(C)]
pub struct TaskFile {
    meta: *const c_void,
    task: *const u8,
    fd: u64,
    file: *const u8,
}

/// `struct bpf_iter__task`.
#[repr(C)]
pub struct TaskOnly {
    meta: *const c_void,
    task: *const u8,
}

/// Stamps a socket that nobody has stamped yet.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
pub extern "C" fn sweep_sockets(context: *const TaskFile) -> i32 {
    // SAFETY: the context that the kernel gives; both pointers may be null at the end of the walk.
    let (task, file) =
        unsafe { (read_volatile(&raw const (*context).task), read_volatile(&raw const (*context).file)) };
    if task.is_null() || file.is_null() {
        return 0;
    }
    // SAFETY: a file that the verifier knows to be one; the socket is tested.
    let socket = unsafe { bpf_sock_from_file(file.cast_mut().cast()) }.cast::<u8>().cast_const();
    if socket.is_null() {
        return 0;
    }
    // SAFETY: a socket; its sock is tested.
    let sk: *mut c_void = unsafe { field(socket, &OFF_SOCKET_SK) };
    // SAFETY: a sock.
    if sk.is_null() || !unsafe { owner::is_internet(sk.cast()) } {
        return 0;
    }
    let Some(stats) = stats::of(Program::Owner) else { return 0 };
    let Some(owner) = owner::of(sk, CREATE) else {
        stats.no_storage += 1;
        return 0;
    };
    if owner.user != 0 {
        return 0;
    }
    let task = Task(task);
    // SAFETY: read only.
    let Some(lineage) = (unsafe { LINEAGE.get(&task.tgid()) }) else {
        stats.unattributed += 1;
        return 0;
    };
    owner.tgid = task.tgid();
    owner::take(owner, lineage, task.cgroup());
    0
}

/// Shows the open window of a thread that made no call for longer than a window may stay open.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub extern "C" fn sweep_tasks(context: *const TaskOnly) -> i32 {
    // SAFETY: the context that the kernel gives; the task is null at the end of the walk.
    let task = Task(unsafe { read_volatile(&raw const (*context).task) });
    if task.0.is_null() {
        return 0;
    }
    let Some(thread) = syscall::thread_of(task, 0) else { return 0 };
    // SAFETY: a helper without arguments.
    let age = unsafe { bpf_jiffies64() }.wrapping_sub(thread.opened);
    if thread.window.n == 0 || thread.flags & THREAD_SHOWN != 0 || age < value(&MAX_AGE_JIFFIES) {
        return 0;
    }
    let Some(stats) = stats::of(Program::Sweep) else { return 0 };
    stats.seen += 1;
    syscall::show(thread, stats);
    0
}
