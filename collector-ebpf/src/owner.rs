//! Who owns a socket: stamped when it is made and when it connects, and again by whoever uses it.
//!
//! The storage is copied to sockets that a listener accepts, so an accepted socket begins with the listener's owner; the
//! first send or receive of a pre-forked worker, or of whoever was passed the socket, makes it the worker's. These programs
//! are pinned with the denials: an established connection must be deniable when the agent is gone.
//!
//! MPTCP sends by sockets that the kernel makes for itself, one a path. Nobody makes or uses those, so a packet of theirs is
//! asked for the socket that people hold; and a listener's own one is stamped when it listens, for what it accepts is
//! cloned from there, also for callers who speak plain TCP.

use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{bpf_get_current_cgroup_id, bpf_sk_storage_get, bpf_skc_to_mptcp_sock};
use aya_ebpf::macros::{btf_tracepoint, cgroup_sock, fentry};
use aya_ebpf::programs::{BtfTracePointContext, FEntryContext, SockContext};
use collector_common::map::{ANCESTORS, LINEAGE_PROTECTED, Lineage};
use collector_common::stats::Program;

use crate::maps::{LINEAGE, StorageDef};
use crate::offsets::{HAS_MPTCP, OFF_SOCK_FAMILY, OFF_SOCKET_SK, field, value};
use crate::stats;

/// `BPF_MAP_TYPE_SK_STORAGE`.
pub const SK_STORAGE: usize = 24;
/// `BPF_F_NO_PREALLOC | BPF_F_CLONE`.
const CLONED: usize = 1 | 1 << 9;
/// `TCP_LISTEN`.
const LISTEN: i32 = 10;
/// `BPF_SK_STORAGE_GET_F_CREATE`.
pub const CREATE: u64 = 1;

/// The owner of a socket.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Owner {
    /// Process that made it, or the listener that accepted it.
    pub opener: u64,
    /// Process that used it last.
    pub user: u64,
    /// Of the user, as in [`Lineage`].
    pub root: u64,
    pub near: [u64; ANCESTORS],
    pub sticky: u64,
    /// cgroup of the user.
    pub cgroup: u64,
    /// Thread group of the user; an older one's number may come again, its cookie does not.
    pub tgid: u32,
    /// `LINEAGE_*` of the user.
    pub flags: u32,
}

#[unsafe(link_section = ".maps")]
#[unsafe(export_name = "sk_owner")]
static SK_OWNER: StorageDef<Owner, SK_STORAGE, CLONED> = StorageDef::new();

/// The owner of a socket. `socket` is whatever the program type's helper takes: a socket, or the context itself.
#[inline(always)]
pub fn of(socket: *mut c_void, flags: u64) -> Option<&'static mut Owner> {
    let map = (&raw const SK_OWNER).cast_mut().cast::<c_void>();
    // SAFETY: a socket storage map; the verifier checks the socket.
    let owner = unsafe { bpf_sk_storage_get(map, socket, core::ptr::null_mut(), flags) }.cast::<Owner>();
    // SAFETY: a map value, zero when new.
    if owner.is_null() { None } else { Some(unsafe { &mut *owner }) }
}

/// The owner of a packet's socket: of the socket that people hold, where MPTCP has put one of its own below it.
#[inline(always)]
pub fn behind(socket: *mut c_void) -> Option<&'static mut Owner> {
    match held(socket) {
        Some(above) => of(above, 0),
        None => of(socket, 0),
    }
}

/// Gives a path of an MPTCP socket the owner that the socket has by now: who looks at the path later cannot find that out.
#[inline(always)]
pub fn inherit(socket: *mut c_void) {
    if let Some(above) = held(socket)
        && let Some(theirs) = of(above, 0)
        && let Some(own) = of(socket, CREATE)
        && own.user != theirs.user
    {
        *own = *theirs;
    }
}

/// The MPTCP socket whose path this socket is. Only programs that are asked about a packet or an address may find out.
#[inline(always)]
fn held(socket: *mut c_void) -> Option<*mut c_void> {
    // The verifier refuses the helper where the kernel has no such sockets; the global is frozen, so it never looks.
    if value(&HAS_MPTCP) == 0 {
        return None;
    }
    // SAFETY: the helper wants a socket that the verifier has checked.
    let above = unsafe { bpf_skc_to_mptcp_sock(socket) };
    if above.is_null() { None } else { Some(above.cast()) }
}

/// Whether it is a socket of IPv4 or IPv6.
///
/// # Safety
///
/// The verifier knows that `sk` is a sock.
#[inline(always)]
pub unsafe fn is_internet(sk: *const u8) -> bool {
    // SAFETY: by the contract above.
    let family: u16 = unsafe { field(sk, &OFF_SOCK_FAMILY) };
    // AF_INET, AF_INET6.
    family == 2 || family == 10
}

/// Makes the current process the user, and the opener if there is none yet.
#[inline(always)]
pub fn stamp(owner: &mut Owner) {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: a copy is made below; the kernel frees entries after a grace period.
    let Some(lineage) = (unsafe { LINEAGE.get(&tgid) }) else {
        if let Some(stats) = stats::of(Program::Owner) {
            stats.unattributed += 1;
        }
        return;
    };
    owner.tgid = tgid;
    // SAFETY: a helper without arguments.
    take(owner, lineage, unsafe { bpf_get_current_cgroup_id() });
}

/// Makes a process the user, and the opener if there is none yet.
#[inline(always)]
pub fn take(owner: &mut Owner, lineage: &Lineage, cgroup: u64) {
    owner.user = lineage.cookie;
    owner.root = lineage.root;
    let mut at = 0;
    while at < ANCESTORS {
        owner.near[at] = lineage.near[at];
        at += 1;
    }
    owner.sticky = lineage.sticky;
    owner.flags = lineage.flags & LINEAGE_PROTECTED;
    owner.cgroup = cgroup;
    if owner.opener == 0 {
        owner.opener = lineage.cookie;
    }
}

/// Stamps the socket of a connect or sendmsg.
#[inline(always)]
pub fn stamp_address(context: *mut bpf_sock_addr) {
    // SAFETY: the context that the kernel gave the program.
    let socket = unsafe { (*context).__bindgen_anon_1.sk };
    if socket.is_null() {
        return;
    }
    let owner = match held(socket.cast()) {
        Some(above) => of(above, CREATE),
        None => of(socket.cast(), CREATE),
    };
    if let Some(owner) = owner {
        stamp(owner);
    }
}

#[cgroup_sock(sock_create)]
pub fn owner_create(ctx: SockContext) -> i32 {
    if let Some(stats) = stats::of(Program::Owner) {
        stats.seen += 1;
        match of(ctx.sock.cast::<bpf_sock>().cast(), CREATE) {
            Some(owner) => stamp(owner),
            None => stats.no_storage += 1,
        }
    }
    1
}

/// Whoever listens owns what will be accepted until somebody else uses it.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn owner_listen(ctx: BtfTracePointContext) -> i32 {
    if ctx.arg::<i32>(2) == LISTEN {
        adopt(ctx.arg::<*mut c_void>(0));
    }
    0
}

#[btf_tracepoint(function = "sock_send_length")]
pub fn owner_send(ctx: BtfTracePointContext) -> i32 {
    used(ctx.arg::<*mut c_void>(0));
    0
}

#[btf_tracepoint(function = "sock_recv_length")]
pub fn owner_receive(ctx: BtfTracePointContext) -> i32 {
    used(ctx.arg::<*mut c_void>(0));
    0
}

// The same where the kernel is older than 6.3 and has no such tracepoints.

#[fentry(function = "inet_sendmsg")]
pub fn owner_inet_send(ctx: FEntryContext) -> i32 {
    used_by(&ctx)
}

#[fentry(function = "inet6_sendmsg")]
pub fn owner_inet6_send(ctx: FEntryContext) -> i32 {
    used_by(&ctx)
}

#[fentry(function = "inet_recvmsg")]
pub fn owner_inet_receive(ctx: FEntryContext) -> i32 {
    used_by(&ctx)
}

#[fentry(function = "inet6_recvmsg")]
pub fn owner_inet6_receive(ctx: FEntryContext) -> i32 {
    used_by(&ctx)
}

#[inline(always)]
fn used_by(ctx: &FEntryContext) -> i32 {
    // SAFETY: the functions' first argument is a socket; its sock is tested.
    let socket: *mut c_void = unsafe { field(ctx.arg(0), &OFF_SOCKET_SK) };
    if !socket.is_null() {
        used(socket);
    }
    0
}

/// Somebody in process context uses the socket. Cheap when it is the one that used it before.
#[inline(always)]
fn used(socket: *mut c_void) {
    match of(socket, 0) {
        Some(owner) if owner.tgid != (bpf_get_current_pid_tgid() >> 32) as u32 => stamp(owner),
        Some(_) => (),
        // Accepted by a multipath listener that is older than these programs.
        // SAFETY: the programs' argument is a sock.
        None if unsafe { is_internet(socket.cast()) } => adopt(socket),
        None => (),
    }
}

/// Makes a socket of the kernel's own the current process's, if that is one of those that are watched.
#[inline(always)]
fn adopt(socket: *mut c_void) {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: only its presence is asked for.
    if unsafe { LINEAGE.get(&tgid) }.is_none() {
        return;
    }
    match of(socket, CREATE) {
        Some(owner) => stamp(owner),
        None => {
            if let Some(stats) = stats::of(Program::Owner) {
                stats.no_storage += 1;
            }
        }
    }
}
