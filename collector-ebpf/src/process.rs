//! Processes: lineage at birth, a record of every birth, exec and end.

use aya_ebpf::helpers::generated::{bpf_get_current_cgroup_id, bpf_probe_read_kernel_str, bpf_probe_read_user};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use collector_common::map::{ANCESTORS, LINEAGE_PARTIAL, Lineage};
use collector_common::process::*;
use collector_common::stats::Program;
use collector_common::syscall::Why;
use collector_common::token::{OTHER, arg, x86_64 as nr};
use collector_common::{ExeId, Kind};

use crate::abi::{self, Entry};
use crate::maps::LINEAGE;
use crate::offsets::*;
use crate::rings::{CTRL, WAKEUP};
use crate::task::Task;
use crate::{deny, scope, stats, syscall};

/// clone(2): shares the thread group.
const CLONE_THREAD: u64 = 0x1_0000;
/// clone(2): the creator waits for exec or exit.
const CLONE_VFORK: u64 = 0x4000;
/// clone(2): any new namespace.
const CLONE_NEW: u64 = 0x7e02_0080;
/// `TMPFS_MAGIC`, `HUGETLBFS_MAGIC`: file systems whose unlinked files live in memory only.
const MEMORY_FILE_SYSTEMS: [u64; 2] = [0x0102_1994, 0x9584_58f6];

#[btf_tracepoint(function = "task_newtask")]
pub fn fork(ctx: BtfTracePointContext) -> i32 {
    let child = Task(ctx.arg::<*const u8>(0));
    born(child, ctx.arg::<u64>(1));
    0
}

#[inline(always)]
fn born(child: Task, flags: u64) {
    let Some(stats) = stats::of(Program::Fork) else { return };
    let creator = Task::current();
    stats.seen += 1;
    if !scope::includes(creator.tgid()) {
        stats.skipped += 1;
        return;
    }
    syscall::synthesise(creator, nr::CLONE, clone_class(flags));
    if flags & CLONE_THREAD != 0 {
        stats.skipped += 1;
        return;
    }
    let cookie = child.cookie();
    let creator_cookie = creator.cookie();
    let mut partial = false;
    // SAFETY: the creator's entry changes only by its own exec, which it is not in.
    let lineage = match unsafe { LINEAGE.get(&creator.tgid()) } {
        Some(known) if known.cookie == creator_cookie => inherit(known, cookie),
        _ => {
            partial = true;
            stats.unattributed += 1;
            let mut near = [0; ANCESTORS];
            near[0] = creator_cookie;
            Lineage {
                cookie,
                root: creator_cookie,
                near,
                sticky: 0,
                exe: creator.exe(),
                flags: LINEAGE_PARTIAL,
                pad: 0,
            }
        }
    };
    if LINEAGE.insert(&child.tgid(), &lineage, 0).is_err() {
        stats.map_full += 1;
    }
    let flags_of_record = if partial { FORK_PARTIAL } else { 0 };
    let header = stats::header(stats, Kind::Fork, size_of::<Fork>(), flags_of_record, creator_cookie);
    let Some(mut entry) = CTRL.reserve::<Fork>(0) else {
        stats.ring_full += 1;
        return;
    };
    entry.write(Fork {
        header,
        child: cookie,
        clone_flags: flags,
        root: lineage.root,
        // SAFETY: a helper without arguments.
        cgroup: unsafe { bpf_get_current_cgroup_id() },
        creator_tid: creator.tid(),
        child_tid: child.tid(),
        exe: lineage.exe,
    });
    entry.submit(WAKEUP);
}

#[inline(always)]
fn clone_class(flags: u64) -> u16 {
    if flags & CLONE_NEW != 0 {
        arg::CLONE_NAMESPACE
    } else if flags & CLONE_THREAD != 0 {
        arg::CLONE_THREAD
    } else if flags & CLONE_VFORK != 0 {
        arg::CLONE_VFORK
    } else {
        arg::CLONE_PROCESS
    }
}

/// The lineage of a child: its creator becomes the nearest ancestor.
#[inline(always)]
fn inherit(creator: &Lineage, cookie: u64) -> Lineage {
    let mut near = [0; ANCESTORS];
    near[0] = creator.cookie;
    let mut at = 1;
    while at < ANCESTORS {
        near[at] = creator.near[at - 1];
        at += 1;
    }
    Lineage { cookie, root: creator.root, near, sticky: deny::sticky_for(creator), exe: creator.exe, flags: 0, pad: 0 }
}

#[btf_tracepoint(function = "sched_process_exec")]
pub fn exec(ctx: BtfTracePointContext) -> i32 {
    let task = Task(ctx.arg::<*const u8>(0));
    became(task, ctx.arg::<i32>(1) as u32, ctx.arg::<*const u8>(2));
    0
}

#[inline(always)]
fn became(task: Task, old_tid: u32, bprm: *const u8) {
    let Some(stats) = stats::of(Program::Exec) else { return };
    let tgid = task.tgid();
    stats.seen += 1;
    if !scope::includes(tgid) {
        stats.skipped += 1;
        return;
    }
    if let (Some(thread), Some(calls)) = (syscall::thread_of(task, 0), stats::of(Program::Syscall)) {
        syscall::close(thread, calls, Why::Exec);
        if thread.window.n != 0 {
            syscall::abandon(thread, calls);
        }
        thread.opened = 0;
    }
    syscall::synthesise(task, nr::EXECVE, arg::PLAIN);
    let cookie = task.cookie();
    let exe = task.exe();
    let (parent, old_exe) = enter(stats, task, tgid, cookie, exe);
    let header = stats::header(stats, Kind::Exec, size_of::<Exec>(), 0, cookie);
    let Some(mut entry) = CTRL.reserve::<Exec>(0) else {
        stats.ring_full += 1;
        return;
    };
    let (uid, gid, euid) = task.users();
    let (netns, pidns, mntns) = task.namespaces();
    let record = entry.as_mut_ptr();
    // SAFETY: reserved memory of the record's size; every field is written below, the texts are zeroed first.
    unsafe {
        (&raw mut (*record).file).write([0; TEXT]);
        (&raw mut (*record).argv).write([0; TEXT]);
        let record = &mut *record;
        record.header = header;
        record.parent = parent;
        record.old_tid = old_tid;
        record.exe = exe;
        record.old_exe = old_exe;
        record.uid = uid;
        record.euid = euid;
        record.gid = gid;
        record.loginuid = task.loginuid();
        record.cgroup = bpf_get_current_cgroup_id();
        record.netns = netns;
        record.pidns = pidns;
        record.mntns = mntns;
        record.pad = 0;
        record.bits = bits(task, old_tid, bprm, uid != euid);
        record.file_len = read_file_name(bprm, &mut record.file);
        (record.argv_len, record.argv_full) = read_arguments(task, &mut record.argv);
    }
    entry.submit(WAKEUP);
}

/// Enters the new executable into the lineage; the creator and the executable before.
#[inline(always)]
fn enter(stats: &mut collector_common::stats::Stats, task: Task, tgid: u32, cookie: u64, exe: ExeId) -> (u64, ExeId) {
    if let Some(known) = LINEAGE.get_ptr_mut(&tgid) {
        // SAFETY: a map value; only this process's own exec writes `exe`.
        let known = unsafe { &mut *known };
        if known.cookie == cookie {
            let before = known.exe;
            known.exe = exe;
            return (known.near[0], before);
        }
    }
    stats.unattributed += 1;
    let _ = task;
    let lineage =
        Lineage { cookie, root: cookie, near: [0; ANCESTORS], sticky: 0, exe, flags: LINEAGE_PARTIAL, pad: 0 };
    if LINEAGE.insert(&tgid, &lineage, 0).is_err() {
        stats.map_full += 1;
    }
    (0, ExeId { ino: 0, dev: 0, generation: 0 })
}

/// # Safety
///
/// `bprm` is the tracepoint's linux_binprm.
#[inline(always)]
unsafe fn bits(task: Task, old_tid: u32, bprm: *const u8, suid: bool) -> u32 {
    let mut bits = 0;
    // SAFETY: by the contract; the inode is tested.
    unsafe {
        let (name, interpreter): (u64, u64) = (field(bprm, &OFF_BPRM_FILENAME), field(bprm, &OFF_BPRM_INTERP));
        if name != interpreter {
            bits |= EXEC_SCRIPT;
        }
        let inode = task.exe_inode();
        if !inode.is_null() && field::<u32>(inode, &OFF_INODE_NLINK) == 0 {
            bits |= EXEC_UNLINKED;
            let sb: *const u8 = field(inode, &OFF_INODE_SB);
            if !sb.is_null() {
                let magic: u64 = field(sb, &OFF_SB_MAGIC);
                if magic == MEMORY_FILE_SYSTEMS[0] || magic == MEMORY_FILE_SYSTEMS[1] {
                    bits |= EXEC_MEMORY;
                }
            }
        }
    }
    if suid {
        bits |= EXEC_SUID;
    }
    if old_tid != task.tgid() {
        bits |= EXEC_NON_LEADER;
    }
    if task.stdio_is_a_socket() {
        bits |= EXEC_STDIO_SOCKET;
    }
    bits
}

/// # Safety
///
/// `bprm` is the tracepoint's linux_binprm.
#[inline(always)]
unsafe fn read_file_name(bprm: *const u8, file: &mut [u8; TEXT]) -> u16 {
    // SAFETY: by the contract; the helper checks the address and writes at most the buffer.
    let len = unsafe {
        let name: *const u8 = field(bprm, &OFF_BPRM_FILENAME);
        bpf_probe_read_kernel_str(file.as_mut_ptr().cast(), TEXT as u32, name.cast())
    };
    // The length includes the final NUL.
    if len > 0 && len <= TEXT as i64 { len as u16 - 1 } else { 0 }
}

#[inline(always)]
fn read_arguments(task: Task, argv: &mut [u8; TEXT]) -> (u16, u32) {
    let mm = task.mm();
    if mm.is_null() {
        return (0, 0);
    }
    // SAFETY: an mm_struct.
    let (start, end): (u64, u64) = unsafe { (field(mm, &OFF_MM_ARG_START), field(mm, &OFF_MM_ARG_END)) };
    let full = end.saturating_sub(start);
    let len = if full > TEXT as u64 { TEXT as u64 } else { full };
    // SAFETY: the helper checks the user address and writes at most the buffer.
    let failed = unsafe { bpf_probe_read_user(argv.as_mut_ptr().cast(), len as u32, start as *const _) };
    if failed != 0 { (0, full as u32) } else { (len as u16, full as u32) }
}

#[btf_tracepoint(function = "sched_process_exit")]
pub fn exit(ctx: BtfTracePointContext) -> i32 {
    ended(Task(ctx.arg::<*const u8>(0)));
    0
}

#[inline(always)]
fn ended(task: Task) {
    let Some(stats) = stats::of(Program::Exit) else { return };
    let tgid = task.tgid();
    stats.seen += 1;
    if !scope::includes(tgid) {
        stats.skipped += 1;
        return;
    }
    // exit and exit_group do not return: sys_exit never sees them. Who was killed made no such call.
    let (entry, call) = abi::door_of(task, task.call_in_progress());
    if abi::exits(entry, call) {
        let number = if entry == Entry::Native { call as u16 } else { OTHER };
        syscall::synthesise(task, number, arg::PLAIN);
    }
    if let (Some(thread), Some(calls)) = (syscall::thread_of(task, 0), stats::of(Program::Syscall)) {
        syscall::close(thread, calls, Why::Exit);
        if thread.window.n != 0 {
            syscall::abandon(thread, calls);
        }
    }
    // Two last threads may both see zero: the one that removes the lineage reports.
    if task.live_threads() != 0 || LINEAGE.remove(&tgid).is_err() {
        stats.skipped += 1;
        return;
    }
    let header = stats::header(stats, Kind::Exit, size_of::<Exit>(), 0, task.cookie());
    let Some(mut entry) = CTRL.reserve::<Exit>(0) else {
        stats.ring_full += 1;
        return;
    };
    // SAFETY: a task_struct; a helper without arguments.
    let (code, cgroup) = unsafe { (field(task.0, &OFF_TASK_EXIT_CODE), bpf_get_current_cgroup_id()) };
    entry.write(Exit { header, tid: task.tid(), code, cgroup });
    entry.submit(WAKEUP);
}
