//! Where fields lie in the running kernel's structures: filled by the loader from the kernel's BTF before the load.
//!
//! The globals are frozen, so the verifier knows their values: pointer + offset keeps its BTF type, and the load needs no
//! helper. The program never runs with a zero that matters: the loader refuses to load when a required field is missing.

use core::ptr::read_volatile;

/// Declares one global per field; the loader finds it by its name.
macro_rules! offsets {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        $(
            $(#[$doc])*
            #[unsafe(no_mangle)]
            pub static $name: u64 = 0;
        )*
    };
}

offsets! {
    /// task_struct.tgid
    OFF_TASK_TGID,
    /// task_struct.pid
    OFF_TASK_PID,
    /// task_struct.group_leader
    OFF_TASK_LEADER,
    /// task_struct.start_boottime
    OFF_TASK_START,
    /// task_struct.mm
    OFF_TASK_MM,
    /// task_struct.cred
    OFF_TASK_CRED,
    /// task_struct.signal
    OFF_TASK_SIGNAL,
    /// task_struct.exit_code
    OFF_TASK_EXIT_CODE,
    /// task_struct.nsproxy
    OFF_TASK_NSPROXY,
    /// task_struct.files
    OFF_TASK_FILES,
    /// task_struct.thread_info.status
    OFF_TASK_STATUS,
    /// mm_struct.task_size
    OFF_MM_TASK_SIZE,
    /// io_kiocb.opcode
    OFF_URING_OPCODE,
    /// sock.__sk_common.skc_family
    OFF_SOCK_FAMILY,
    /// task_struct.cgroups
    OFF_TASK_CGROUPS,
    /// css_set.dfl_cgrp
    OFF_CSS_SET_DFL,
    /// cgroup.kn
    OFF_CGROUP_KN,
    /// kernfs_node.id
    OFF_KN_ID,
    /// task_struct.loginuid; 0 = the kernel has no audit.
    OFF_TASK_LOGINUID,
    /// mm_struct.exe_file
    OFF_MM_EXE,
    /// mm_struct.arg_start
    OFF_MM_ARG_START,
    /// mm_struct.arg_end
    OFF_MM_ARG_END,
    /// file.f_inode
    OFF_FILE_INODE,
    /// inode.i_ino
    OFF_INODE_INO,
    /// inode.i_sb
    OFF_INODE_SB,
    /// inode.i_generation
    OFF_INODE_GENERATION,
    /// inode.i_nlink
    OFF_INODE_NLINK,
    /// inode.i_mode
    OFF_INODE_MODE,
    /// super_block.s_dev
    OFF_SB_DEV,
    /// super_block.s_magic
    OFF_SB_MAGIC,
    /// linux_binprm.filename
    OFF_BPRM_FILENAME,
    /// linux_binprm.interp
    OFF_BPRM_INTERP,
    /// linux_binprm.file
    OFF_BPRM_FILE,
    /// file.f_path.dentry
    OFF_FILE_DENTRY,
    /// file.f_path.mnt
    OFF_FILE_MNT,
    /// file.f_mode
    OFF_FILE_MODE,
    /// path.dentry
    OFF_PATH_DENTRY,
    /// dentry.d_parent
    OFF_DENTRY_PARENT,
    /// dentry.d_inode
    OFF_DENTRY_INODE,
    /// dentry.d_name.name
    OFF_DENTRY_NAME,
    /// mount.mnt
    OFF_MOUNT_MNT,
    /// mount.mnt_parent
    OFF_MOUNT_PARENT,
    /// mount.mnt_mountpoint
    OFF_MOUNT_POINT,
    /// socket.sk
    OFF_SOCKET_SK,
    /// unix_sock.path.dentry
    OFF_UNIX_DENTRY,
    /// cred.uid
    OFF_CRED_UID,
    /// cred.gid
    OFF_CRED_GID,
    /// cred.euid
    OFF_CRED_EUID,
    /// signal_struct.live
    OFF_SIGNAL_LIVE,
    /// nsproxy.net_ns
    OFF_NSPROXY_NET,
    /// nsproxy.mnt_ns
    OFF_NSPROXY_MNT,
    /// nsproxy.pid_ns_for_children
    OFF_NSPROXY_PID,
    /// net.ns.inum
    OFF_NET_INUM,
    /// mnt_namespace.ns.inum
    OFF_MNT_INUM,
    /// pid_namespace.ns.inum
    OFF_PIDNS_INUM,
    /// files_struct.fdt
    OFF_FILES_FDT,
    /// fdtable.fd
    OFF_FDT_FD,
    /// 1 = the kernel has `struct mptcp_sock`.
    HAS_MPTCP,
    /// Longest time in jiffies that a window stays open.
    MAX_AGE_JIFFIES,
    /// Time after which a known use of a directory is told again, so that user space learns how regular it is.
    FILE_AGAIN_NS,
    /// cgroup v2 id that the programs are confined to; 0 = the whole host.
    SCOPE_CGROUP,
    /// Level of that cgroup below the v2 root.
    SCOPE_LEVEL,
    /// Thread group of the agent, whose own calls would feed back.
    SELF_TGID,
}

/// The value that the loader gave a global.
#[inline(always)]
pub fn value(of: &'static u64) -> u64 {
    // SAFETY: a valid reference; volatile, because the loader replaces the value after compilation.
    unsafe { read_volatile(of) }
}

/// Loads a field of a kernel structure by a typed load.
///
/// # Safety
///
/// `base` points to the structure that `offset` belongs to, is not null, and the verifier knows its BTF type.
#[inline(always)]
pub unsafe fn field<T: Copy>(base: *const u8, offset: &'static u64) -> T {
    // SAFETY: by the contract above; the kernel turns a faulting BTF load into zero.
    unsafe { read_volatile(base.add(value(offset) as usize).cast::<T>()) }
}
