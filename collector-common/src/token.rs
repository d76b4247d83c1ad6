//! The 16-bit token of a trace: one syscall, how it ended, and what kind of argument it had.
//!
//! Bits 0–9 number, 10–12 outcome, 13–15 argument class. The number is x86-64's on every architecture
//! ([`crate::numbers`]), so that a trace, a trigram and a model mean the same everywhere.

pub use crate::numbers::x86_64;

/// Bits of the syscall number.
pub const NUMBER: u16 = 0x03ff;
/// Number that stands for any call above 1022 or of a foreign ABI.
pub const OTHER: u16 = 0x03ff;

/// Numbers from here on are io_uring operations: `URING + opcode` (include/uapi/linux/io_uring.h, `enum io_uring_op`).
pub const URING: u16 = 512;

/// How a call ended.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// Returned zero or more.
    Ok = 0,
    /// EPERM or EACCES.
    Permission = 1,
    /// ENOENT, ENOTDIR.
    NotFound = 2,
    /// EAGAIN, EINTR, EINPROGRESS, ETIMEDOUT, and restarts (−512…−516).
    Again = 3,
    /// EINVAL, EBADF, EFAULT, ENOSYS, ENOTTY.
    Invalid = 4,
    /// ECONNREFUSED, ECONNRESET, EPIPE, EHOSTUNREACH, ENETUNREACH and the like.
    Network = 5,
    /// ENOMEM, EMFILE, ENFILE, ENOSPC.
    Resource = 6,
    /// Any other error.
    Other = 7,
}

/// Class of an errno (positive), 0 for success.
#[inline(always)]
pub const fn outcome_of(errno: u32) -> Outcome {
    match errno {
        0 => Outcome::Ok,
        1 | 13 => Outcome::Permission,
        2 | 20 => Outcome::NotFound,
        4 | 11 | 115 | 110 | 512..=516 => Outcome::Again,
        22 | 9 | 14 | 38 | 25 => Outcome::Invalid,
        32 | 98..=109 | 111..=114 => Outcome::Network,
        12 | 23 | 24 | 28 => Outcome::Resource,
        _ => Outcome::Other,
    }
}

/// Puts a token together. `class` is one of the argument classes below (0–7).
#[inline(always)]
pub const fn token(number: u16, outcome: Outcome, class: u16) -> u16 {
    (number & NUMBER) | (outcome as u16) << 10 | (class & 7) << 13
}

/// The syscall number of a token.
#[inline(always)]
pub const fn number(token: u16) -> u16 {
    token & NUMBER
}

/// The outcome bits of a token, 0–7 as in [`Outcome`].
#[inline(always)]
pub const fn outcome(token: u16) -> u16 {
    token >> 10 & 7
}

/// The argument class of a token, 0–7.
#[inline(always)]
pub const fn class(token: u16) -> u16 {
    token >> 13
}

/// Argument classes: what a number's three bits mean depends on the call.
pub mod arg {
    /// Nothing special; every call may have it.
    pub const PLAIN: u16 = 0;
    /// open, openat: for reading.
    pub const OPEN_READ: u16 = 1;
    /// open, openat: for writing.
    pub const OPEN_WRITE: u16 = 2;
    /// open, openat, creat: creating or truncating.
    pub const OPEN_CREATE: u16 = 3;
    /// mmap, mprotect: executable.
    pub const MEM_EXEC: u16 = 1;
    /// mmap, mprotect: writable and executable.
    pub const MEM_WRITE_EXEC: u16 = 2;
    /// socket: AF_UNIX.
    pub const SOCK_UNIX: u16 = 1;
    /// socket: AF_INET or AF_INET6, stream.
    pub const SOCK_STREAM: u16 = 2;
    /// socket: AF_INET or AF_INET6, datagram.
    pub const SOCK_DGRAM: u16 = 3;
    /// socket: raw.
    pub const SOCK_RAW: u16 = 4;
    /// socket: AF_PACKET.
    pub const SOCK_PACKET: u16 = 5;
    /// socket: AF_NETLINK.
    pub const SOCK_NETLINK: u16 = 6;
    /// socket: any other family.
    pub const SOCK_OTHER: u16 = 7;
    /// dup2, dup3: onto descriptor 0, 1 or 2.
    pub const DUP_STDIO: u16 = 1;
    /// clone and its kin, synthesised at task_newtask: a process.
    pub const CLONE_PROCESS: u16 = 1;
    /// clone: a thread.
    pub const CLONE_THREAD: u16 = 2;
    /// clone: vfork-like.
    pub const CLONE_VFORK: u16 = 3;
    /// clone, unshare: at least one new namespace.
    pub const CLONE_NAMESPACE: u16 = 4;
    /// setuid, setresuid, setreuid, setfsuid: to root.
    pub const TO_ROOT: u16 = 1;
    /// ptrace: asks to be traced.
    pub const PTRACE_ME: u16 = 1;
    /// ptrace: attaches to another process.
    pub const PTRACE_ATTACH: u16 = 2;
    /// ptrace: writes memory or registers.
    pub const PTRACE_WRITE: u16 = 3;
    /// bpf: creates a map.
    pub const BPF_MAP: u16 = 1;
    /// bpf: loads a program.
    pub const BPF_PROGRAM: u16 = 2;
    /// prctl: confines itself (seccomp, no new privileges).
    pub const PRCTL_CONFINE: u16 = 1;
    /// [`super::OTHER`]: a 32-bit or x32 call in a 64-bit program.
    pub const FOREIGN_IN_NATIVE: u16 = 1;
}

/// Calls that are rare in any workload and frequent in attacks: reported at once where a ready workload never made them.
#[inline(always)]
pub const fn is_trigger(number: u16, class: u16) -> bool {
    use x86_64::*;
    match number {
        PTRACE | MEMFD_CREATE | EXECVEAT | PROCESS_VM_WRITEV | SETNS | INIT_MODULE | FINIT_MODULE | BPF
        | IO_URING_SETUP => true,
        OTHER => class == arg::FOREIGN_IN_NATIVE,
        MPROTECT | MMAP | PKEY_MPROTECT => class == arg::MEM_WRITE_EXEC,
        UNSHARE => class == arg::CLONE_NAMESPACE,
        DUP | DUP2 | DUP3 | FCNTL => class == arg::DUP_STDIO,
        SOCKET => class == arg::SOCK_RAW || class == arg::SOCK_PACKET,
        _ => false,
    }
}

/// Index of a trigram of syscall numbers in a workload's bitset of [`crate::map::SEEN_BITS`] bits.
#[inline(always)]
pub const fn trigram_bit(trigram: u32) -> u32 {
    // Fibonacci hashing: the top bits of a product with 2^32/φ.
    trigram.wrapping_mul(0x9e37_79b1) >> (32 - crate::map::SEEN_BITS.trailing_zeros())
}

/// Three numbers of ten bits each, the oldest highest.
#[inline(always)]
pub const fn trigram(first: u16, second: u16, third: u16) -> u32 {
    ((first & NUMBER) as u32) << 20 | ((second & NUMBER) as u32) << 10 | (third & NUMBER) as u32
}

/// The pseudo-trigram under which a trigger call is entered in the bitset.
#[inline(always)]
pub const fn trigger_trigram(number: u16, class: u16) -> u32 {
    1 << 31 | (class as u32) << 10 | (number & NUMBER) as u32
}
