//! What kind of argument a call had: three bits of its token. Asked only for calls that the table marks.

use collector_common::token::{arg, x86_64 as nr};

/// `CLONE_NEWTIME`, `NEWNS`, `NEWCGROUP`, `NEWUTS`, `NEWIPC`, `NEWUSER`, `NEWPID`, `NEWNET`.
const NAMESPACES: u64 = 0x7e02_0080;

/// The class of a call by its number, its result and its first three arguments.
#[inline(always)]
pub fn class_of(number: u16, result: i64, [first, second, third]: [u64; 3]) -> u16 {
    match number {
        nr::OPEN => open_class(second),
        nr::OPENAT => open_class(third),
        nr::CREAT => arg::OPEN_CREATE,
        nr::MMAP | nr::MPROTECT | nr::PKEY_MPROTECT => memory_class(third),
        nr::SOCKET => socket_class(first, second),
        nr::DUP2 | nr::DUP3 if second <= 2 && first != second => arg::DUP_STDIO,
        // dup and F_DUPFD give the lowest free number: the result tells where it went.
        nr::DUP if result <= 2 && result >= 0 => arg::DUP_STDIO,
        nr::FCNTL if (second == 0 || second == 1030) && result <= 2 && result >= 0 => arg::DUP_STDIO,
        nr::UNSHARE if first & NAMESPACES != 0 => arg::CLONE_NAMESPACE,
        nr::SETNS => arg::CLONE_NAMESPACE,
        nr::SETUID | nr::SETFSUID if first == 0 => arg::TO_ROOT,
        nr::SETREUID | nr::SETRESUID if second == 0 => arg::TO_ROOT,
        nr::PTRACE => ptrace_class(first),
        nr::BPF => bpf_class(first),
        nr::PRCTL => prctl_class(first),
        _ => arg::PLAIN,
    }
}

#[inline(always)]
fn open_class(flags: u64) -> u16 {
    // O_CREAT | O_TRUNC, O_ACCMODE.
    if flags & 0o1100 != 0 {
        arg::OPEN_CREATE
    } else if flags & 3 != 0 {
        arg::OPEN_WRITE
    } else {
        arg::OPEN_READ
    }
}

#[inline(always)]
fn memory_class(protection: u64) -> u16 {
    // PROT_WRITE | PROT_EXEC.
    match protection & 6 {
        6 => arg::MEM_WRITE_EXEC,
        4 => arg::MEM_EXEC,
        _ => arg::PLAIN,
    }
}

#[inline(always)]
fn socket_class(family: u64, kind: u64) -> u16 {
    match (family as u32, kind as u32 & 0xf) {
        (1, _) => arg::SOCK_UNIX,
        (2 | 10, 1) => arg::SOCK_STREAM,
        (2 | 10, 2) => arg::SOCK_DGRAM,
        (2 | 10, 3) => arg::SOCK_RAW,
        (17, _) => arg::SOCK_PACKET,
        (16, _) => arg::SOCK_NETLINK,
        _ => arg::SOCK_OTHER,
    }
}

#[inline(always)]
fn ptrace_class(request: u64) -> u16 {
    match request {
        0 => arg::PTRACE_ME,
        // PTRACE_ATTACH, PTRACE_SEIZE.
        16 | 0x4206 => arg::PTRACE_ATTACH,
        // PTRACE_POKETEXT, POKEDATA, POKEUSER, SETREGS, SETREGSET.
        4..=6 | 13 | 0x4205 => arg::PTRACE_WRITE,
        _ => arg::PLAIN,
    }
}

#[inline(always)]
fn bpf_class(command: u64) -> u16 {
    // BPF_MAP_CREATE, BPF_PROG_LOAD.
    match command {
        0 => arg::BPF_MAP,
        5 => arg::BPF_PROGRAM,
        _ => arg::PLAIN,
    }
}

#[inline(always)]
fn prctl_class(option: u64) -> u16 {
    // PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS.
    match option {
        22 | 38 => arg::PRCTL_CONFINE,
        _ => arg::PLAIN,
    }
}
