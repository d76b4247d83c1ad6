//! The header of every record, and the two identities that records share: a process's cookie and an executable's id.

use crate::plain;

/// What a record is; the first byte of its [`Header`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`crate::process::Fork`].
    Fork = 1,
    /// [`crate::process::Exec`].
    Exec = 2,
    /// [`crate::process::Exit`].
    Exit = 3,
    /// [`crate::syscall::Window`].
    Window = 4,
    /// [`crate::flow::Flow`].
    Flow = 5,
    /// [`crate::deny::Deny`].
    Deny = 6,
    /// [`crate::file::File`].
    File = 7,
}

/// The first 32 bytes of every record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// A [`Kind`].
    pub kind: u8,
    /// [`crate::ABI`] of the program that wrote it.
    pub abi: u8,
    /// Bits that depend on the kind (`process::FORK_*`, `syscall::WINDOW_*`, …); zero otherwise.
    pub flags: u16,
    /// Length of the whole record in bytes, header included.
    pub len: u16,
    /// CPU that wrote it.
    pub cpu: u16,
    /// Counts the attempts of this program on this CPU to write a record, from 1. A gap is a record that did not fit.
    pub seq: u64,
    /// Boot clock in nanoseconds (suspend included) when the record was written.
    pub boot_ns: u64,
    /// [`cookie_of`] the process that the record is about; 0 when it is not known.
    pub cookie: u64,
}
plain!(Header, 32);

/// Identity of a process for as long as the host is up.
///
/// `start_boottime` in clock ticks of 10 ms (field 22 of `/proc/PID/stat`) above bit 22, the thread group id below it, so
/// that user space and kernel compute the same value independently. A pid cannot return within one tick.
pub const fn cookie_of(start_boottime_ns: u64, tgid: u32) -> u64 {
    cookie_of_ticks(start_boottime_ns / NS_PER_TICK, tgid)
}

/// [`cookie_of`] from the start time as `/proc/PID/stat` gives it, in ticks.
pub const fn cookie_of_ticks(start_ticks: u64, tgid: u32) -> u64 {
    start_ticks << COOKIE_PID_BITS | (tgid as u64 & ((1 << COOKIE_PID_BITS) - 1))
}

/// The thread group id inside a cookie.
pub const fn tgid_of(cookie: u64) -> u32 {
    (cookie & ((1 << COOKIE_PID_BITS) - 1)) as u32
}

/// The start time inside a cookie, in ticks since boot.
pub const fn start_ticks_of(cookie: u64) -> u64 {
    cookie >> COOKIE_PID_BITS
}

/// `PID_MAX_LIMIT` is 2^22 (include/linux/threads.h).
const COOKIE_PID_BITS: u32 = 22;
/// `NSEC_PER_SEC / USER_HZ` (kernel/time/time.c, `nsec_to_clock_t`).
const NS_PER_TICK: u64 = 10_000_000;

/// Identity of an executable file: inode, device and generation, as the kernel sees them.
///
/// The device is `major << 20 | minor` (the kernel's `s_dev`, not `stat`'s encoding). An inode number returns after a file
/// is deleted; the generation tells the two apart on file systems that have one. On an anonymous device (major 0: btrfs,
/// overlayfs) the number is not what `stat` shows, so keys there are always scoped to a workload.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExeId {
    /// Inode number; 0 when there is no executable (kernel threads).
    pub ino: u64,
    /// `s_dev`.
    pub dev: u32,
    /// `i_generation`.
    pub generation: u32,
}
plain!(ExeId, 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_what_proc_says() {
        // Started 12.345678901 s after boot: field 22 of /proc/PID/stat reads 1234.
        let cookie = cookie_of(12_345_678_901, 4711);
        assert_eq!(cookie, cookie_of_ticks(1234, 4711));
        assert_eq!((tgid_of(cookie), start_ticks_of(cookie)), (4711, 1234));
    }
}
