//! What each program counted, per CPU: the kernel's half of the ledger.

use crate::plain;

/// One row of `stats` per program.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Program {
    /// tp_btf/task_newtask.
    Fork = 0,
    /// tp_btf/sched_process_exec.
    Exec = 1,
    /// tp_btf/sched_process_exit.
    Exit = 2,
    /// tp_btf/sys_exit.
    Syscall = 3,
    /// cgroup_skb/ingress of flow.
    FlowIngress = 4,
    /// cgroup_skb/egress of flow.
    FlowEgress = 5,
    /// tp_btf/inet_sock_set_state.
    FlowState = 6,
    /// cgroup/sock_release.
    FlowRelease = 7,
    /// cgroup/connect4/6 of flow: first-seen destinations.
    FlowConnect = 8,
    /// The deny hooks in process context: connect4/6, sendmsg4/6.
    DenyConnect = 9,
    /// cgroup_skb/egress of deny.
    DenyEgress = 10,
    /// Owner stamps: sock_create, sock_send_length, sock_recv_length.
    Owner = 11,
    /// The LSM hooks of deny: exec, files, hatches, tampering.
    DenyLsm = 12,
    /// The file family at the return of open and its kin (inside tp_btf/sys_exit).
    File = 13,
    /// The file family at unlink and rename.
    FileRemoved = 14,
    /// The task iterator: windows of idle threads.
    Sweep = 15,
}

impl Program {
    /// Every program, in the order of their numbers.
    pub const ALL: [Program; PROGRAMS as usize] = [
        Program::Fork,
        Program::Exec,
        Program::Exit,
        Program::Syscall,
        Program::FlowIngress,
        Program::FlowEgress,
        Program::FlowState,
        Program::FlowRelease,
        Program::FlowConnect,
        Program::DenyConnect,
        Program::DenyEgress,
        Program::Owner,
        Program::DenyLsm,
        Program::File,
        Program::FileRemoved,
        Program::Sweep,
    ];
}

/// Number of [`Program`]s.
pub const PROGRAMS: u32 = 16;

/// Value of `stats`: indexed by [`Program`], one per CPU. All count from the load of the object.
///
/// `attempted = written + ring_full`, and `seen = recorded + skipped + missed + open`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Records that this program tried to write; also the next header's `seq` minus one.
    pub attempted: u64,
    /// Attempts that did not fit into the ring.
    pub ring_full: u64,
    /// Events that reached the program (calls, packets, operations).
    pub seen: u64,
    /// Events inside records that were written (calls of written windows; not used by the other programs).
    pub recorded: u64,
    /// Events left out on purpose: the agent itself, another scope, kernel threads, normalised away.
    pub skipped: u64,
    /// Calls overwritten in windows that waited for a full ring.
    pub missed: u64,
    /// Storage could not be had (busy, or no memory).
    pub no_storage: u64,
    /// A map was full: an entry could not be made.
    pub map_full: u64,
    /// Owner or lineage was not known.
    pub unattributed: u64,
    /// Early windows held back because their row had spoken often enough this second; the window itself comes later.
    pub throttled: u64,
}
plain!(Stats, 80);
