//! By which door a call came in: the 64-bit one, a 32-bit one, or with a number that is not of this architecture.
//!
//! Numbers mean something only together with the door: 57 is fork by the one and setpgid by the other.

use collector_common::token::{OTHER, x86_64 as nr};

use crate::arch::{self, compat};
use crate::task::Task;

/// Bit 30 of a syscall number: x32 (arch/x86/include/uapi/asm/unistd.h).
const X32: i64 = 1 << 30;

/// The door.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// The architecture's own 64-bit entry and numbers; also the -1 that follows a signal handler.
    Native,
    /// Any call of a 32-bit program; on x86-64 also `int 0x80`.
    Compat,
    /// x32, or a number that no kernel has.
    Foreign,
}

/// The door of a call and its number in that door's table: x86-64's for the native one, on every architecture.
#[inline(always)]
pub fn door_of(task: Task, number: i64) -> (Entry, i64) {
    if number < 0 {
        (Entry::Native, number)
    } else if arch::in_compat_call(task) {
        (Entry::Compat, number)
    } else if number & X32 != 0 || number >= OTHER as i64 {
        (Entry::Foreign, number)
    } else {
        (Entry::Native, arch::canonical(number))
    }
}

/// 32-bit calls that task_newtask and sched_process_exec report when they succeed.
#[inline(always)]
pub fn is_told_elsewhere_in_compat(number: i64) -> bool {
    is_one_of(number, [compat::FORK, compat::VFORK, compat::CLONE, compat::CLONE3, compat::EXECVE, compat::EXECVEAT])
}

/// restart_syscall: goes on with a call that was interrupted.
#[inline(always)]
pub fn restarts(entry: Entry, number: i64) -> bool {
    match entry {
        Entry::Native => number == nr::RESTART_SYSCALL as i64,
        Entry::Compat => number == compat::RESTART_SYSCALL as i64,
        Entry::Foreign => false,
    }
}

/// Calls that return the descriptor of a file.
#[inline(always)]
pub fn opens_a_file(entry: Entry, number: i64) -> bool {
    match entry {
        Entry::Native => is_one_of(number, [nr::OPENAT, nr::OPEN, nr::CREAT, nr::OPENAT2]),
        Entry::Compat => is_one_of(number, [compat::OPENAT, compat::OPEN, compat::CREAT, compat::OPENAT2]),
        Entry::Foreign => false,
    }
}

/// exit and exit_group, which do not return.
#[inline(always)]
pub fn exits(entry: Entry, number: i64) -> bool {
    match entry {
        Entry::Native => is_one_of(number, [nr::EXIT, nr::EXIT_GROUP]),
        Entry::Compat => is_one_of(number, [compat::EXIT, compat::EXIT_GROUP]),
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
