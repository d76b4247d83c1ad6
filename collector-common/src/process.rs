//! Process records: birth, exec and exit, all on the ctrl ring.

use crate::{ExeId, Header, plain};

/// Longest stored part of a path or of the argument vector.
pub const TEXT: usize = 256;

/// [`Header::flags`] of a [`Fork`]: the child is a thread of its creator's process.
pub const FORK_THREAD: u16 = 1;
/// [`Header::flags`] of a [`Fork`]: the creator's own lineage was not known, so the child's is incomplete.
pub const FORK_PARTIAL: u16 = 2;

/// A process was born (`tp_btf/task_newtask`). Threads are counted and inherit, but send no record.
///
/// The header's cookie is the creator's (the process that called clone, whatever `CLONE_PARENT` says).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fork {
    /// Common header.
    pub header: Header,
    /// Cookie of the new process.
    pub child: u64,
    /// The flags of clone(2).
    pub clone_flags: u64,
    /// [`crate::map::Lineage::root`] that it inherits.
    pub root: u64,
    /// cgroup v2 id of the creator.
    pub cgroup: u64,
    /// Thread that called clone.
    pub creator_tid: u32,
    /// Thread id of the new task.
    pub child_tid: u32,
    /// Executable that the child runs until it execs.
    pub exe: ExeId,
}
plain!(Fork, 88);

/// [`Exec::bits`]: the file's name differs from the interpreter that runs (a `#!` script).
pub const EXEC_SCRIPT: u32 = 1;
/// [`Exec::bits`]: the executable has no name in any directory any more (`nlink == 0`).
pub const EXEC_UNLINKED: u32 = 1 << 1;
/// [`Exec::bits`]: the executable lives in memory only (memfd or an unlinked file of a tmpfs-like device).
pub const EXEC_MEMORY: u32 = 1 << 2;
/// [`Exec::bits`]: effective and real user differ after the exec.
pub const EXEC_SUID: u32 = 1 << 3;
/// [`Exec::bits`]: called by a thread that was not the leader; it took the leader's id.
pub const EXEC_NON_LEADER: u32 = 1 << 4;
/// [`Exec::bits`]: synthesised from /proc for a process older than the agent.
pub const EXEC_PRE_EXISTING: u32 = 1 << 5;
/// [`Exec::bits`]: one of the descriptors 0–2 is a socket.
pub const EXEC_STDIO_SOCKET: u32 = 1 << 6;
/// [`Exec::bits`]: the workload knows the path, but ran another file under it until now. Set by the agent, never by the kernel.
pub const EXEC_RENEWED: u32 = 1 << 31;

/// A process replaced its program (`tp_btf/sched_process_exec`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exec {
    /// Common header.
    pub header: Header,
    /// Cookie of the creator of this process; 0 when not known.
    pub parent: u64,
    /// Thread id that called exec before it became the leader.
    pub old_tid: u32,
    /// `EXEC_*` bits.
    pub bits: u32,
    /// The file that runs now (an interpreter for scripts).
    pub exe: ExeId,
    /// The file that ran before.
    pub old_exe: ExeId,
    /// Real user, in the initial user namespace.
    pub uid: u32,
    /// Effective user.
    pub euid: u32,
    /// Real group.
    pub gid: u32,
    /// Audit login user; `u32::MAX` when unset (daemons).
    pub loginuid: u32,
    /// cgroup v2 id.
    pub cgroup: u64,
    /// Inode of the network namespace; 0 when not known.
    pub netns: u32,
    /// Inode of the pid namespace; 0 when not known.
    pub pidns: u32,
    /// Inode of the mount namespace; 0 when not known.
    pub mntns: u32,
    /// Stored bytes of `file`.
    pub file_len: u16,
    /// Stored bytes of `argv`.
    pub argv_len: u16,
    /// Length of the whole argument vector, of which `argv` is the first part.
    pub argv_full: u32,
    /// Always zero.
    pub pad: u32,
    /// `linux_binprm.filename`: what was asked for, not NUL-terminated.
    pub file: [u8; TEXT],
    /// Arguments separated by NUL, taken once at exec (`/proc/PID/cmdline` can be rewritten by its owner).
    pub argv: [u8; TEXT],
}
plain!(Exec, 640);

impl Default for Exec {
    fn default() -> Self {
        Self {
            header: Header::default(),
            parent: 0,
            old_tid: 0,
            bits: 0,
            exe: ExeId::default(),
            old_exe: ExeId::default(),
            uid: 0,
            euid: 0,
            gid: 0,
            loginuid: u32::MAX,
            cgroup: 0,
            netns: 0,
            pidns: 0,
            mntns: 0,
            file_len: 0,
            argv_len: 0,
            argv_full: 0,
            pad: 0,
            file: [0; TEXT],
            argv: [0; TEXT],
        }
    }
}

/// A process ended: its last thread left (`tp_btf/sched_process_exit` with `signal->live == 0`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// Common header.
    pub header: Header,
    /// Thread that left last.
    pub tid: u32,
    /// `task_struct.exit_code` (status in bits 8–15, signal in bits 0–6).
    pub code: u32,
    /// cgroup v2 id.
    pub cgroup: u64,
}
plain!(Exit, 48);
