//! Sockets whose traffic no other hook sees: packet, XDP, vsock, and raw ones.
//!
//! Whoever may not connect may not make them either. Traffic of raw sockets would still meet the packet program; that of the
//! others would not.

use aya_ebpf::macros::lsm;
use aya_ebpf::programs::LsmContext;
use collector_common::deny::{Action, Hook};

use super::lsm::{Subject, answer};

/// `AF_PACKET`, `AF_VSOCK`, `AF_XDP`.
const UNSEEN: [i32; 3] = [17, 40, 44];
/// `AF_INET`, `AF_INET6`.
const INTERNET: [i32; 2] = [2, 10];
/// `SOCK_RAW`.
const RAW: i32 = 3;

#[lsm(hook = "socket_create")]
pub fn deny_socket(ctx: LsmContext) -> i32 {
    let (family, kind, by_kernel): (i32, i32, i32) = (ctx.arg(0), ctx.arg(1), ctx.arg(3));
    let unseen = family == UNSEEN[0] || family == UNSEEN[1] || family == UNSEEN[2];
    let raw = (family == INTERNET[0] || family == INTERNET[1]) && kind & 0xf == RAW;
    if by_kernel != 0 || !(unseen || raw) {
        return 0;
    }
    answer(Hook::Socket, Action::Connect, &Subject::NONE)
}
