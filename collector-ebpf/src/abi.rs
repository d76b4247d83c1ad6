//! By which door a call came in: the 64-bit one, a 32-bit one, or with a number that is not of this architecture.
//!
//! Numbers mean something only together with the door: 57 is fork by the one and setpgid by the other.

use collector_common::token::{OTHER, ia32, x86_64 as nr};

use crate::task::Task;

/// Bit 30 of a syscall number: x32 (arch/x86/include/uapi/asm/unistd.h).
const X32: i64 = 1 << 30;

/// The door.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// The architecture's own 64-bit entry and numbers; also the -1 that follows a signal handler.
    Native,
    /// `int 0x80` or any call of a 32-bit program.
    Compat,
    /// x32, or a number that no kernel has.
    Foreign,
}

#[inline(always)]
pub fn entry_of(task: Task, number: i64) -> Entry {
    if number < 0 {
        Entry::Native
    } else if task.in_compat_call() {
        Entry::Compat
    } else if number & X32 != 0 || number >= OTHER as i64 {
        Entry::Foreign
    } else {
        Entry::Native
    }
}

/// 32-bit calls that task_newtask and sched_process_exec report when they succeed.
#[inline(always)]
pub fn is_told_elsewhere_in_compat(number: i64) -> bool {
    is_one_of(number, [ia32::FORK, ia32::VFORK, ia32::CLONE, ia32::CLONE3, ia32::EXECVE, ia32::EXECVEAT])
}

/// restart_syscall: goes on with a call that was interrupted.
#[inline(always)]
pub fn restarts(entry: Entry, number: i64) -> bool {
    match entry {
        Entry::Native => number == nr::RESTART_SYSCALL as i64,
        Entry::Compat => number == ia32::RESTART_SYSCALL as i64,
        Entry::Foreign => false,
    }
}

/// Calls that return the descriptor of a file.
#[inline(always)]
pub fn opens_a_file(entry: Entry, number: i64) -> bool {
    match entry {
        Entry::Native => is_one_of(number, [nr::OPENAT, nr::OPEN, nr::CREAT, nr::OPENAT2]),
        Entry::Compat => is_one_of(number, [ia32::OPENAT, ia32::OPEN, ia32::CREAT, ia32::OPENAT2]),
        Entry::Foreign => false,
    }
}

/// exit and exit_group, which do not return.
#[inline(always)]
pub fn exits(entry: Entry, number: i64) -> bool {
    match entry {
        Entry::Native => is_one_of(number, [nr::EXIT, nr::EXIT_GROUP]),
        Entry::Compat => is_one_of(number, [ia32::EXIT, ia32::EXIT_GROUP]),
        Entry::Foreign => false,
    }
}

#[inline(always)]
fn is_one_of<const N: usize>(number: i64, calls: [u16; N]) -> bool {
    let mut at = 0;
    while at < N {
        if number == calls[at] as i64 {
            return true;
        }
        at += 1;
    }
    false
}
