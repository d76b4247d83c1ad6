//! The syscall window: what one thread called, and the features that the kernel computed on the way.

use crate::{ExeId, Header, plain};

/// Calls in a full window.
pub const WINDOW: usize = 128;
/// Novel trigrams that a window carries by value.
pub const NOVEL: usize = 8;
/// Distinct novel trigrams that cause an early report.
pub const EARLY_NOVEL: u16 = 4;

/// Why a window was written.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// [`WINDOW`] calls were made.
    Full = 1,
    /// It had been open for longer than the configured age.
    Age = 2,
    /// Novel trigrams or a trigger call in a ready workload; the window goes on filling and comes again.
    Early = 3,
    /// The thread replaced its program.
    Exec = 4,
    /// The thread left.
    Exit = 5,
    /// The thread is idle: what it has done so far. It goes on with the window, which comes again when it is closed.
    Idle = 6,
}

/// [`Header::flags`]: a trigger call that the workload's bitset does not hold is in this window.
pub const WINDOW_TRIGGER: u16 = 1;
/// [`Header::flags`]: the process is older than the agent.
pub const WINDOW_PRE_EXISTING: u16 = 2;

/// Number of call classes in [`Window::class`].
pub const CLASSES: usize = 8;

/// Index into [`Window::class`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// open, close, stat, rename, unlink, chmod, …
    File = 0,
    /// read, write and their kin.
    Transfer = 1,
    /// socket, connect, accept, bind, …
    Network = 2,
    /// mmap, mprotect, brk, …
    Memory = 3,
    /// clone, exec, wait, kill, signals.
    Process = 4,
    /// setuid, capset, ptrace, mount, bpf, module, keyctl, unshare, …
    Privilege = 5,
    /// epoll, poll, select, futex, nanosleep.
    Wait = 6,
    /// Everything else.
    Other = 7,
}

/// One thread's consecutive syscalls (`tp_btf/sys_exit`).
///
/// A window is atomic: when the ring is full it is kept and tried again, its oldest calls are overwritten, and `missed`
/// says how many. So loss in one thread never touches another's evidence.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Common header.
    pub header: Header,
    /// Thread id.
    pub tid: u32,
    /// Row of the bitset that the trigrams were compared with; 0 = none, nothing was judged.
    pub row: u32,
    /// A [`Why`].
    pub why: u8,
    /// 0 = native 64-bit, 1 = at least one call that x86-64 does not have (stored as [`crate::token::OTHER`]).
    pub arch: u8,
    /// Calls in `trace`, 1–128, oldest first.
    pub n: u16,
    /// Calls overwritten because the ring was full; then `trace` holds the last ones.
    pub missed: u32,
    /// Boot clock at the first call of the window.
    pub start_boot_ns: u64,
    /// Executable.
    pub exe: ExeId,
    /// cgroup v2 id.
    pub cgroup: u64,
    /// Trigrams absent from the row, occurrences.
    pub novel: u16,
    /// Distinct ones among them (exact up to [`NOVEL`]).
    pub novel_distinct: u16,
    /// Calls that failed (restarts and EAGAIN excluded).
    pub errors: u16,
    /// Calls that failed with EPERM or EACCES.
    pub permission_errors: u16,
    /// Bytes read, from positive results of the read, receive families.
    pub read_bytes: u64,
    /// Bytes written, from positive results of the write, send, copy families.
    pub write_bytes: u64,
    /// Calls by [`Class`].
    pub class: [u8; CLASSES],
    /// The first distinct novel trigrams ([`crate::token::trigram`]); 0 = empty.
    pub novel_trigrams: [u32; NOVEL],
    /// The calls ([`crate::token::token`]).
    pub trace: [u16; WINDOW],
}
plain!(Window, 400);

impl Default for Window {
    fn default() -> Self {
        Self {
            header: Header::default(),
            tid: 0,
            row: 0,
            why: 0,
            arch: 0,
            n: 0,
            missed: 0,
            start_boot_ns: 0,
            exe: ExeId::default(),
            cgroup: 0,
            novel: 0,
            novel_distinct: 0,
            errors: 0,
            permission_errors: 0,
            read_bytes: 0,
            write_bytes: 0,
            class: [0; CLASSES],
            novel_trigrams: [0; NOVEL],
            trace: [0; WINDOW],
        }
    }
}

/// Bits of [`traits`] that hold the [`Class`].
pub const CLASS_MASK: u8 = 7;
/// The call has an argument class.
pub const HAS_ARGUMENT_CLASS: u8 = 1 << 3;
/// A positive result is bytes read.
pub const READS: u8 = 1 << 4;
/// A positive result is bytes written.
pub const WRITES: u8 = 1 << 5;
/// May be a trigger ([`crate::token::is_trigger`]).
pub const MAY_TRIGGER: u8 = 1 << 6;
/// When it succeeds, another program reports it: clone at task_newtask, execve at sched_process_exec.
pub const TOLD_ELSEWHERE: u8 = 1 << 7;

/// What is the same for all calls of a number, as a table for the kernel: most calls then need no comparison at all.
pub const fn traits() -> [u8; 1024] {
    use crate::token::x86_64::*;
    const ARGUMENT: &[u16] = &[
        OPEN,
        OPENAT,
        CREAT,
        MMAP,
        MPROTECT,
        PKEY_MPROTECT,
        SOCKET,
        DUP,
        DUP2,
        DUP3,
        FCNTL,
        UNSHARE,
        SETNS,
        SETUID,
        SETREUID,
        SETRESUID,
        SETFSUID,
        PTRACE,
        BPF,
        PRCTL,
    ];
    const READ_FAMILY: &[u16] =
        &[READ, PREAD64, READV, PREADV, PREADV2, RECVFROM, RECVMSG, SENDFILE, SPLICE, COPY_FILE_RANGE];
    const WRITE_FAMILY: &[u16] =
        &[WRITE, PWRITE64, WRITEV, PWRITEV, PWRITEV2, SENDTO, SENDMSG, SENDFILE, SPLICE, COPY_FILE_RANGE];
    const TRIGGERS: &[u16] = &[
        PTRACE,
        MEMFD_CREATE,
        EXECVEAT,
        PROCESS_VM_WRITEV,
        SETNS,
        INIT_MODULE,
        FINIT_MODULE,
        BPF,
        IO_URING_SETUP,
        MPROTECT,
        MMAP,
        PKEY_MPROTECT,
        UNSHARE,
        DUP,
        DUP2,
        DUP3,
        FCNTL,
        SOCKET,
        crate::token::OTHER,
    ];
    const ELSEWHERE: &[u16] = &[CLONE, FORK, VFORK, CLONE3, EXECVE, EXECVEAT];
    let mut table = classes();
    let lists = [
        (ARGUMENT, HAS_ARGUMENT_CLASS),
        (READ_FAMILY, READS),
        (WRITE_FAMILY, WRITES),
        (TRIGGERS, MAY_TRIGGER),
        (ELSEWHERE, TOLD_ELSEWHERE),
    ];
    let mut list = 0;
    while list < lists.len() {
        let mut at = 0;
        while at < lists[list].0.len() {
            table[lists[list].0[at] as usize] |= lists[list].1;
            at += 1;
        }
        list += 1;
    }
    table
}

/// The class of every call of x86-64 by its number.
const fn classes() -> [u8; 1024] {
    const FILE: &[u16] = &[
        2, 3, 4, 5, 6, 8, 16, 21, 32, 33, 72, 73, 74, 75, 76, 77, 78, 79, 80, 81, 82, 83, 84, 85, 86, 87, 88, 89, 90,
        91, 92, 93, 94, 132, 133, 137, 138, 161, 188, 189, 190, 191, 192, 193, 194, 195, 196, 197, 198, 199, 217, 235,
        257, 258, 259, 260, 261, 262, 263, 264, 265, 266, 267, 268, 269, 280, 285, 292, 316, 332, 437, 439, 452,
    ];
    const TRANSFER: &[u16] = &[0, 1, 17, 18, 19, 20, 40, 275, 276, 277, 278, 295, 296, 326, 327, 328];
    const NETWORK: &[u16] = &[41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 288, 299, 307, 425, 426, 427];
    const MEMORY: &[u16] = &[9, 10, 11, 12, 25, 26, 27, 28, 29, 30, 31, 67, 149, 150, 151, 152, 216, 319, 325, 329];
    const PROCESS: &[u16] = &[
        13, 14, 15, 34, 37, 39, 56, 57, 58, 59, 60, 61, 62, 95, 97, 98, 102, 104, 107, 108, 110, 111, 112, 118, 120,
        121, 124, 127, 128, 129, 130, 131, 157, 158, 160, 186, 200, 203, 204, 218, 231, 234, 247, 273, 274, 297, 302,
        322, 334, 424, 434, 435,
    ];
    const PRIVILEGE: &[u16] = &[
        101, 105, 106, 109, 113, 114, 115, 116, 117, 119, 122, 123, 125, 126, 135, 155, 165, 166, 170, 171, 172, 173,
        175, 176, 246, 248, 249, 250, 272, 298, 303, 304, 308, 310, 311, 312, 313, 317, 320, 321, 428, 429, 430, 431,
        432, 433, 442, 444, 445, 446,
    ];
    const WAIT: &[u16] = &[7, 23, 35, 202, 219, 230, 232, 233, 270, 271, 281, 441, 449];
    let mut table = [Class::Other as u8; 1024];
    let lists = [
        (FILE, Class::File),
        (TRANSFER, Class::Transfer),
        (NETWORK, Class::Network),
        (MEMORY, Class::Memory),
        (PROCESS, Class::Process),
        (PRIVILEGE, Class::Privilege),
        (WAIT, Class::Wait),
    ];
    let mut list = 0;
    while list < lists.len() {
        let mut at = 0;
        while at < lists[list].0.len() {
            table[lists[list].0[at] as usize] = lists[list].1 as u8;
            at += 1;
        }
        list += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token;

    #[test]
    fn the_table_knows_every_trigger() {
        let table = traits();
        for number in 0..1024u16 {
            let may = (0..8).any(|class| token::is_trigger(number, class));
            assert_eq!(table[number as usize] & MAY_TRIGGER != 0, may, "call {number}");
        }
        assert_eq!(table[token::x86_64::READ as usize], Class::Transfer as u8 | READS);
    }
}
