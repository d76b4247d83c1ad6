//! What a task_struct says, by typed loads.

use aya_ebpf::bindings::task_struct;
use aya_ebpf::helpers::generated::bpf_get_current_task_btf;
use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_task_pt_regs};
use collector_common::{ExeId, cookie_of};

use crate::offsets::*;
use crate::{arch, file_id};

/// A task that the verifier knows to be one.
#[derive(Clone, Copy)]
pub struct Task(pub *const u8);

impl Task {
    /// The current task.
    #[inline(always)]
    pub fn current() -> Self {
        // SAFETY: always valid in a program.
        Self(unsafe { bpf_get_current_task_btf() }.cast_const().cast())
    }

    /// For helpers.
    #[inline(always)]
    pub fn raw(self) -> *mut task_struct {
        self.0.cast_mut().cast()
    }

    /// Thread group id.
    #[inline(always)]
    pub fn tgid(self) -> u32 {
        // SAFETY: a task_struct.
        unsafe { field(self.0, &OFF_TASK_TGID) }
    }

    /// Thread id.
    #[inline(always)]
    pub fn tid(self) -> u32 {
        // SAFETY: a task_struct.
        unsafe { field(self.0, &OFF_TASK_PID) }
    }

    /// Identity of the task's process.
    #[inline(always)]
    pub fn cookie(self) -> u64 {
        // SAFETY: a task_struct always has a leader.
        let start: u64 = unsafe {
            let leader: *const u8 = field(self.0, &OFF_TASK_LEADER);
            field(leader, &OFF_TASK_START)
        };
        cookie_of(start, self.tgid())
    }

    /// `thread_info.status`, which x86 has.
    #[cfg(bpf_target_arch = "x86_64")]
    #[inline(always)]
    pub fn status(self) -> u32 {
        // SAFETY: a task_struct.
        unsafe { field(self.0, &OFF_TASK_STATUS) }
    }

    /// Whether the program is a 32-bit one, for which 32-bit calls are normal: its addresses end at 4 GiB. The thread flag
    /// that says the same is a bit whose place changes from kernel to kernel and stands in no BTF.
    #[inline(always)]
    pub fn is_32_bit(self) -> bool {
        let mm = self.mm();
        // SAFETY: an mm_struct.
        !mm.is_null() && unsafe { field::<u64>(mm, &OFF_MM_TASK_SIZE) } <= 1 << 32
    }

    /// The call that a task is in, by the number that it was made with: for calls that never return.
    #[inline(always)]
    pub fn call_in_progress(self) -> i64 {
        // SAFETY: the helper takes any task and returns its saved registers, which the verifier knows.
        unsafe { arch::number(bpf_task_pt_regs(self.raw()) as arch::Registers) }
    }

    /// cgroup v2 id; 0 when unknown.
    #[inline(always)]
    pub fn cgroup(self) -> u64 {
        // SAFETY: a task_struct's css_set, cgroup and kernfs node, each tested.
        unsafe {
            let set: *const u8 = field(self.0, &OFF_TASK_CGROUPS);
            if set.is_null() {
                return 0;
            }
            let cgroup: *const u8 = field(set, &OFF_CSS_SET_DFL);
            if cgroup.is_null() {
                return 0;
            }
            let node: *const u8 = field(cgroup, &OFF_CGROUP_KN);
            if node.is_null() { 0 } else { field(node, &OFF_KN_ID) }
        }
    }

    /// The address space; null for kernel threads.
    #[inline(always)]
    pub fn mm(self) -> *const u8 {
        // SAFETY: a task_struct.
        unsafe { field(self.0, &OFF_TASK_MM) }
    }

    /// The inode of the executable; null when there is none.
    #[inline(always)]
    pub fn exe_inode(self) -> *const u8 {
        let mm = self.mm();
        if mm.is_null() {
            return mm;
        }
        // SAFETY: a mm_struct and a file, each tested.
        unsafe {
            let file: *const u8 = field(mm, &OFF_MM_EXE);
            if file.is_null() { file } else { field(file, &OFF_FILE_INODE) }
        }
    }

    /// The executable; all zero when there is none.
    #[inline(always)]
    pub fn exe(self) -> ExeId {
        // SAFETY: null or an inode.
        unsafe { file_id::of(self.exe_inode()) }
    }

    /// Real user, real group, effective user, in the initial user namespace.
    #[inline(always)]
    pub fn users(self) -> (u32, u32, u32) {
        // SAFETY: a task_struct always has credentials.
        unsafe {
            let cred: *const u8 = field(self.0, &OFF_TASK_CRED);
            (field(cred, &OFF_CRED_UID), field(cred, &OFF_CRED_GID), field(cred, &OFF_CRED_EUID))
        }
    }

    /// Login user; `u32::MAX` when unset or unknown.
    #[inline(always)]
    pub fn loginuid(self) -> u32 {
        if value(&OFF_TASK_LOGINUID) == 0 {
            return u32::MAX;
        }
        // SAFETY: a task_struct.
        unsafe { field(self.0, &OFF_TASK_LOGINUID) }
    }

    /// Inodes of the network, pid and mount namespaces; zero when unknown.
    #[inline(always)]
    pub fn namespaces(self) -> (u32, u32, u32) {
        // SAFETY: nsproxy may be null in an exiting task; its members are not.
        unsafe {
            let proxy: *const u8 = field(self.0, &OFF_TASK_NSPROXY);
            if proxy.is_null() {
                return (0, 0, 0);
            }
            let net: *const u8 = field(proxy, &OFF_NSPROXY_NET);
            let pid: *const u8 = field(proxy, &OFF_NSPROXY_PID);
            let mnt: *const u8 = field(proxy, &OFF_NSPROXY_MNT);
            (inum(net, &OFF_NET_INUM), inum(pid, &OFF_PIDNS_INUM), inum(mnt, &OFF_MNT_INUM))
        }
    }

    /// Threads of the process that have not begun to exit.
    #[inline(always)]
    pub fn live_threads(self) -> u32 {
        // SAFETY: a task that exits still has its signal_struct when the tracepoint fires.
        unsafe {
            let signal: *const u8 = field(self.0, &OFF_TASK_SIGNAL);
            if signal.is_null() { 0 } else { field(signal, &OFF_SIGNAL_LIVE) }
        }
    }

    /// Whether one of the descriptors 0–2 is a socket.
    #[inline(always)]
    pub fn stdio_is_a_socket(self) -> bool {
        const S_IFMT: u16 = 0o170_000;
        const S_IFSOCK: u16 = 0o140_000;
        let Some(table) = self.descriptors() else { return false };
        let mut descriptor = 0;
        while descriptor < 3 {
            let mode = copy::<*const u8>(table.wrapping_add(descriptor * 8))
                .and_then(|file| copy_field::<*const u8>(file, &OFF_FILE_INODE))
                .and_then(|inode| copy_field::<u16>(inode, &OFF_INODE_MODE));
            if mode.is_some_and(|mode| mode & S_IFMT == S_IFSOCK) {
                return true;
            }
            descriptor += 1;
        }
        false
    }

    /// The file behind a descriptor of the current task. The pointer is not typed: read it by [`copy_field`].
    #[inline(always)]
    pub fn file_of(self, descriptor: u64) -> Option<*const u8> {
        let table = self.descriptors()?;
        copy::<*const u8>(table.wrapping_add((descriptor as u32 as usize) * 8)).filter(|file| !file.is_null())
    }

    /// The array of files by descriptor; it is not typed, so it is read by copies.
    #[inline(always)]
    fn descriptors(self) -> Option<*const u8> {
        // SAFETY: files and its table are typed, and each is tested.
        unsafe {
            let files: *const u8 = field(self.0, &OFF_TASK_FILES);
            if files.is_null() {
                return None;
            }
            let fdt: *const u8 = field(files, &OFF_FILES_FDT);
            if fdt.is_null() { None } else { Some(field(fdt, &OFF_FDT_FD)) }
        }
    }
}

#[inline(always)]
unsafe fn inum(namespace: *const u8, offset: &'static u64) -> u32 {
    // SAFETY: the caller gives the structure that the offset belongs to.
    if namespace.is_null() { 0 } else { unsafe { field(namespace, offset) } }
}

/// Copies a field of a kernel structure that the verifier knows nothing about; `None` when it cannot be read.
#[inline(always)]
pub fn copy_field<T: Copy>(base: *const u8, offset: &'static u64) -> Option<T> {
    copy(base.wrapping_add(value(offset) as usize))
}

/// Copies a value from a kernel address that the verifier knows nothing about; `None` when it cannot be read.
#[inline(always)]
fn copy<T: Copy>(from: *const u8) -> Option<T> {
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    // SAFETY: the helper checks the source; the destination is as large as it is told.
    let failed = unsafe { bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, from.cast()) };
    // SAFETY: filled when the helper succeeded.
    if failed == 0 { Some(unsafe { value.assume_init() }) } else { None }
}
