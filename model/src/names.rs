//! Names of syscalls and of sequences of them.

use std::sync::Arc;

use collector_common::token::{self, OTHER, URING};
use syscalls::x86_64::Sysno;

/// io_uring operations by their opcode (include/uapi/linux/io_uring.h, `enum io_uring_op`, as of 6.18).
const URING_OPERATIONS: &[&str] = &[
    "nop",
    "readv",
    "writev",
    "fsync",
    "read_fixed",
    "write_fixed",
    "poll_add",
    "poll_remove",
    "sync_file_range",
    "sendmsg",
    "recvmsg",
    "timeout",
    "timeout_remove",
    "accept",
    "async_cancel",
    "link_timeout",
    "connect",
    "fallocate",
    "openat",
    "close",
    "files_update",
    "statx",
    "read",
    "write",
    "fadvise",
    "madvise",
    "send",
    "recv",
    "openat2",
    "epoll_ctl",
    "splice",
    "provide_buffers",
    "remove_buffers",
    "tee",
    "shutdown",
    "renameat",
    "unlinkat",
    "mkdirat",
    "symlinkat",
    "linkat",
    "msg_ring",
    "fsetxattr",
    "setxattr",
    "fgetxattr",
    "getxattr",
    "socket",
    "uring_cmd",
    "send_zc",
    "sendmsg_zc",
    "read_multishot",
    "waitid",
    "futex_wait",
    "futex_wake",
    "futex_waitv",
    "fixed_fd_install",
    "ftruncate",
    "bind",
    "listen",
    "recv_zc",
    "epoll_wait",
    "readv_fixed",
    "writev_fixed",
    "pipe",
];

/// The name of a syscall of x86-64, `uring:NAME` for an io_uring operation; `other` for what a token cannot hold, `#n` for an
/// unknown number.
pub fn syscall(number: u16) -> String {
    if number == OTHER {
        return "other".to_owned();
    }
    if let Some(opcode) = number.checked_sub(URING) {
        let known = URING_OPERATIONS.get(usize::from(opcode));
        return known.map_or_else(|| format!("uring:#{opcode}"), |name| format!("uring:{name}"));
    }
    Sysno::new(usize::from(number)).map_or_else(|| format!("#{number}"), |sysno| sysno.name().to_owned())
}

/// `socket>connect>dup2`.
pub fn trigram(trigram: u32) -> Arc<str> {
    let part = |shift: u32| syscall((trigram >> shift) as u16 & token::NUMBER);
    format!("{}>{}>{}", part(20), part(10), part(0)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_called_by_name() {
        assert_eq!(&*trigram(token::trigram(41, 42, 33)), "socket>connect>dup2");
        assert_eq!(syscall(OTHER), "other");
        assert_eq!(syscall(500), "#500");
        assert_eq!((syscall(URING + 16), syscall(URING + 100)), ("uring:connect".into(), "uring:#100".into()));
    }
}
