//! Flows: what went through a socket, counted in its storage, told every ten seconds and at its real end.
//!
//! TCP ends when its state becomes CLOSE, not when a process lets go of it: megabytes may still be queued then. UDP ends
//! with its socket. A connect to a place that a ready workload does not know is told before it happens.
//!
//! A datagram server answers by the socket that everybody calls: what goes to somebody who has spoken to it is an answer and
//! stays in the server's one flow, what goes to anybody else is a flow of its own.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_get_socket_cookie, bpf_ktime_get_boot_ns, bpf_sk_storage_get,
};
use aya_ebpf::macros::{btf_tracepoint, cgroup_skb, cgroup_sock, cgroup_sock_addr, map};
use aya_ebpf::maps::{HashMap, LruHashMap, PerCpuArray};
use aya_ebpf::programs::{BtfTracePointContext, SkBuffContext, SockAddrContext, SockContext};
use collector_common::Kind;
use collector_common::flow::{BUCKETS, Direction, FLOW_WITNESSED, Flow, Why};
use collector_common::map::{DestinationKey, MAX_DESTINATIONS, MAX_READY, RowKey};
use collector_common::stats::{Program, Stats};

use crate::deny::connect::destination;
use crate::maps::{LINEAGE, ROWS, StorageDef};
use crate::owner::{self, CREATE, SK_STORAGE};
use crate::packet::{self, Packet, TCP, UDP};
use crate::rings::{BULK, CTRL, NO_WAKEUP, WAKEUP};
use crate::stats;

const NO_PREALLOC: u32 = 1;
const TICK: u64 = 10_000_000_000;
/// A destination that was told is not told again for this process within this time.
const AGAIN: u64 = 10_000_000_000;
/// First-seen destinations told a second and CPU.
const NOVEL_PER_SECOND: u64 = 500;
const SECOND: u64 = 1_000_000_000;
/// States of TCP (include/net/tcp_states.h).
const ESTABLISHED: i32 = 1;
const SYN_SENT: i32 = 2;
const SYN_RECEIVED: i32 = 3;
const CLOSE: i32 = 7;
const LISTEN: u32 = 10;
/// `AF_INET`, `AF_INET6`.
const FAMILIES: [u32; 2] = [2, 10];

/// What a socket has counted.
#[repr(C)]
#[derive(Clone, Copy)]
struct State {
    local: [u8; 16],
    remote: [u8; 16],
    local_port: u16,
    remote_port: u16,
    protocol: u8,
    direction: u8,
    tcp_flags: u8,
    ended: u8,
    socket: u64,
    tx_bytes: u64,
    rx_bytes: u64,
    tx_packets: u64,
    rx_packets: u64,
    first_ns: u64,
    last_ns: u64,
    told_ns: u64,
    gaps: [u8; BUCKETS],
    sizes: [u8; BUCKETS],
}

#[unsafe(link_section = ".maps")]
#[unsafe(export_name = "sk_flow")]
static SK_FLOW: StorageDef<State, SK_STORAGE, 1> = StorageDef::new();

/// cgroups of ready workloads. Written by user space.
#[map(name = "ready")]
static READY: HashMap<u64, u32> = HashMap::with_max_entries(MAX_READY, NO_PREALLOC);
/// Destinations that are normal for a row. Written by user space.
#[map(name = "destinations")]
static DESTINATIONS: HashMap<DestinationKey, u8> = HashMap::with_max_entries(MAX_DESTINATIONS, NO_PREALLOC);

#[repr(C)]
#[derive(Clone, Copy)]
struct ToldKey {
    cookie: u64,
    remote: [u8; 16],
    port: u16,
    protocol: u16,
    pad: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct HeardKey {
    socket: u64,
    remote: [u8; 16],
    port: u64,
}

/// Who has spoken to a UDP socket first, and when last. Somebody who is forgotten here is a destination when answered.
#[map(name = "heard")]
static HEARD: LruHashMap<HeardKey, u64> = LruHashMap::with_max_entries(16_384, 0);
/// When a first-seen destination was told.
#[map(name = "novel_told")]
static NOVEL_TOLD: LruHashMap<ToldKey, u64> = LruHashMap::with_max_entries(8_192, 0);
/// Second and records told in it.
#[map(name = "novel_budget")]
static NOVEL_BUDGET: PerCpuArray<[u64; 2]> = PerCpuArray::with_max_entries(1, 0);

#[inline(always)]
fn state_of(socket: *mut c_void, flags: u64) -> Option<&'static mut State> {
    let map = (&raw const SK_FLOW).cast_mut().cast::<c_void>();
    // SAFETY: a socket storage map; the verifier checks the socket.
    let state = unsafe { bpf_sk_storage_get(map, socket, core::ptr::null_mut(), flags) }.cast::<State>();
    // SAFETY: a map value, zero when new. Two CPUs may count at once and lose a packet to each other.
    if state.is_null() { None } else { Some(unsafe { &mut *state }) }
}

#[cgroup_skb]
pub fn flow_egress(ctx: SkBuffContext) -> i32 {
    count(&ctx, Program::FlowEgress, true);
    1
}

#[cgroup_skb]
pub fn flow_ingress(ctx: SkBuffContext) -> i32 {
    count(&ctx, Program::FlowIngress, false);
    1
}

#[inline(always)]
fn count(ctx: &SkBuffContext, program: Program, outgoing: bool) {
    let Some(stats) = stats::of(program) else { return };
    stats.seen += 1;
    let skb = ctx.as_ptr().cast();
    let Some(socket) = packet::socket(skb) else {
        stats.unattributed += 1;
        return;
    };
    // SAFETY: a full socket.
    if unsafe { (*socket).state } == LISTEN {
        stats.skipped += 1;
        return;
    }
    let Some(parsed) = packet::parse(skb) else {
        stats.skipped += 1;
        return;
    };
    if parsed.protocol != TCP && parsed.protocol != UDP {
        stats.skipped += 1;
        return;
    }
    let Some(state) = state_of(socket.cast(), CREATE) else {
        stats.no_storage += 1;
        return;
    };
    if parsed.protocol == TCP {
        owner::inherit(socket.cast());
    }
    // SAFETY: helpers on the context.
    let (now, cookie) = unsafe { (bpf_ktime_get_boot_ns(), bpf_get_socket_cookie(skb.cast())) };
    state.socket = cookie;
    meet(state, stats, socket.cast(), &parsed, outgoing, now);
    add(state, &parsed, outgoing, now);
    if now.wrapping_sub(state.told_ns) > TICK {
        tell(state, stats, socket.cast(), Why::Tick, now);
    }
}

/// Notes the peer. An unconnected UDP socket that calls somebody else, or is called by others after it has called, begins a
/// new flow.
#[inline(always)]
fn meet(state: &mut State, stats: &mut Stats, socket: *mut c_void, packet: &Packet, outgoing: bool, now: u64) {
    let (remote, remote_port) =
        if outgoing { (&packet.destination, packet.destination_port) } else { (&packet.source, packet.source_port) };
    let same = state.remote_port == remote_port && state.remote == *remote;
    let is_first = state.tx_packets + state.rx_packets == 0;
    if !is_first && (same || packet.protocol == TCP) {
        return;
    }
    // TCP that nobody saw begin stays unknown: it is older than the programs.
    if packet.protocol == UDP {
        let direction = said_first(state.socket, remote, remote_port, outgoing, now);
        if !is_first && (state.direction == Direction::Out as u8 || direction == Direction::Out) {
            tell(state, stats, socket, Why::Close, now);
            forget(state);
            state.direction = direction as u8;
        } else if state.direction == Direction::Unknown as u8 {
            state.direction = direction as u8;
        }
    }
    let (local, local_port) =
        if outgoing { (&packet.source, packet.source_port) } else { (&packet.destination, packet.destination_port) };
    state.local = *local;
    state.local_port = local_port;
    state.remote = *remote;
    state.remote_port = remote_port;
    state.protocol = packet.protocol;
    if state.first_ns == 0 {
        state.first_ns = now;
        state.told_ns = now;
    }
}

/// Who of the two has spoken first, as far as is remembered.
#[inline(always)]
fn said_first(socket: u64, remote: &[u8; 16], port: u16, outgoing: bool, now: u64) -> Direction {
    if outgoing {
        return if has_spoken(socket, remote, port) { Direction::In } else { Direction::Out };
    }
    let _ = HEARD.insert(&HeardKey { socket, remote: *remote, port: port as u64 }, &now, 0);
    Direction::In
}

#[inline(always)]
fn has_spoken(socket: u64, remote: &[u8; 16], port: u16) -> bool {
    // SAFETY: only its presence is asked for.
    unsafe { HEARD.get(&HeardKey { socket, remote: *remote, port: port as u64 }) }.is_some()
}

#[inline(always)]
fn forget(state: &mut State) {
    state.tx_bytes = 0;
    state.rx_bytes = 0;
    state.tx_packets = 0;
    state.rx_packets = 0;
    state.first_ns = 0;
    state.last_ns = 0;
    state.gaps = [0; BUCKETS];
    state.sizes = [0; BUCKETS];
}

#[inline(always)]
fn add(state: &mut State, packet: &Packet, outgoing: bool, now: u64) {
    if outgoing {
        state.tx_bytes += packet.bytes;
        state.tx_packets += packet.segments;
    } else {
        state.rx_bytes += packet.bytes;
        state.rx_packets += packet.segments;
    }
    state.tcp_flags |= packet.tcp_flags;
    bump(&mut state.sizes, packet.bytes);
    if state.last_ns != 0 {
        bump(&mut state.gaps, now.wrapping_sub(state.last_ns) / 1_000);
    }
    state.last_ns = now;
}

/// Counts a number in the bucket of its logarithm.
#[inline(always)]
fn bump(buckets: &mut [u8; BUCKETS], number: u64) {
    let log = 63 - (number | 1).leading_zeros() as usize;
    let at = if log < BUCKETS { log } else { BUCKETS - 1 };
    let bucket = &mut buckets[at & (BUCKETS - 1)];
    *bucket = bucket.saturating_add(1);
}

#[inline(always)]
fn tell(state: &mut State, stats: &mut Stats, socket: *mut c_void, why: Why, now: u64) {
    state.told_ns = now;
    let (mut opener, mut user, mut cgroup) = (0, 0, 0);
    if let Some(owner) = owner::of(socket, 0) {
        (opener, user, cgroup) = (owner.opener, owner.user, owner.cgroup);
    }
    if user == 0 {
        stats.unattributed += 1;
    }
    let flags = if state.direction == Direction::Unknown as u8 { 0 } else { FLOW_WITNESSED };
    let header = stats::header(stats, Kind::Flow, size_of::<Flow>(), flags, user);
    let Some(mut entry) = BULK.reserve::<Flow>(0) else {
        stats.ring_full += 1;
        return;
    };
    entry.write(Flow {
        header,
        opener,
        cgroup,
        socket: state.socket,
        local: state.local,
        remote: state.remote,
        local_port: state.local_port,
        remote_port: state.remote_port,
        protocol: state.protocol,
        direction: state.direction,
        why: why as u8,
        tcp_flags: state.tcp_flags,
        tx_bytes: state.tx_bytes,
        rx_bytes: state.rx_bytes,
        tx_packets: state.tx_packets,
        rx_packets: state.rx_packets,
        first_ns: state.first_ns,
        last_ns: state.last_ns,
        gaps: state.gaps,
        sizes: state.sizes,
    });
    entry.submit(NO_WAKEUP);
}

#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn flow_state(ctx: BtfTracePointContext) -> i32 {
    let (before, after) = (ctx.arg::<i32>(1), ctx.arg::<i32>(2));
    if after == CLOSE {
        finish(ctx.arg::<*mut c_void>(0), Program::FlowState);
    } else if after == SYN_SENT {
        // Also when the other end calls at the same moment and both go on from SYN_RECEIVED.
        begin(ctx.arg::<*mut c_void>(0), Direction::Out);
    } else if after == ESTABLISHED && before == SYN_RECEIVED {
        begin(ctx.arg::<*mut c_void>(0), Direction::In);
    }
    0
}

/// The handshake says who called whom. Its own packets belong to no full socket of a server, so this comes before the first
/// one that is counted there; a connect program may have said it before.
#[inline(always)]
fn begin(socket: *mut c_void, direction: Direction) {
    if let Some(state) = state_of(socket, CREATE)
        && state.direction == Direction::Unknown as u8
    {
        state.direction = direction as u8;
    }
}

#[cgroup_sock(sock_release)]
pub fn flow_release(ctx: SockContext) -> i32 {
    // SAFETY: the context is the socket.
    let (protocol, family) = unsafe { ((*ctx.sock).protocol, (*ctx.sock).family) };
    if protocol == UDP as u32 && (family == FAMILIES[0] || family == FAMILIES[1]) {
        finish(ctx.sock.cast::<bpf_sock>().cast(), Program::FlowRelease);
    }
    1
}

#[inline(always)]
fn finish(socket: *mut c_void, program: Program) {
    let Some(stats) = stats::of(program) else { return };
    let Some(state) = state_of(socket, 0) else { return };
    stats.seen += 1;
    if state.ended != 0 || state.tx_packets + state.rx_packets == 0 {
        stats.skipped += 1;
        return;
    }
    state.ended = 1;
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    tell(state, stats, socket, Why::Close, now);
}

#[cgroup_sock_addr(connect4)]
pub fn flow_connect4(ctx: SockAddrContext) -> i32 {
    connecting(ctx.sock_addr, true, true);
    1
}

#[cgroup_sock_addr(connect6)]
pub fn flow_connect6(ctx: SockAddrContext) -> i32 {
    connecting(ctx.sock_addr, false, true);
    1
}

#[cgroup_sock_addr(sendmsg4)]
pub fn flow_sendmsg4(ctx: SockAddrContext) -> i32 {
    connecting(ctx.sock_addr, true, false);
    1
}

#[cgroup_sock_addr(sendmsg6)]
pub fn flow_sendmsg6(ctx: SockAddrContext) -> i32 {
    connecting(ctx.sock_addr, false, false);
    1
}

/// Marks the direction, and tells a destination that a ready workload does not know.
#[inline(always)]
fn connecting(context: *mut bpf_sock_addr, is_v4: bool, is_connect: bool) {
    let Some(stats) = stats::of(Program::FlowConnect) else { return };
    stats.seen += 1;
    // SAFETY: the context that the kernel gave the program; helpers without arguments.
    let (socket, now, cgroup) =
        unsafe { ((*context).__bindgen_anon_1.sk, bpf_ktime_get_boot_ns(), bpf_get_current_cgroup_id()) };
    if is_connect
        && !socket.is_null()
        && let Some(state) = state_of(socket.cast(), CREATE)
    {
        state.direction = Direction::Out as u8;
    }
    // SAFETY: only its presence is asked for.
    if unsafe { READY.get(&cgroup) }.is_none() {
        return;
    }
    let (remote, port, protocol) = destination(context, is_v4);
    // SAFETY: a helper on the context.
    if !is_connect && has_spoken(unsafe { bpf_get_socket_cookie(context.cast()) }, &remote, port) {
        return;
    }
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: read only.
    let Some(lineage) = (unsafe { LINEAGE.get(&tgid) }) else {
        stats.unattributed += 1;
        return;
    };
    let key = RowKey { cgroup, exe: lineage.exe };
    // SAFETY: a copy of four bytes.
    let row = unsafe { ROWS.get(&key) }.copied().unwrap_or(0);
    let known = DestinationKey { row, port, protocol, pad: 0, address: remote };
    // SAFETY: only its presence is asked for.
    if row != 0 && unsafe { DESTINATIONS.get(&known) }.is_some() {
        return;
    }
    let told = ToldKey { cookie: lineage.cookie, remote, port, protocol: protocol as u16, pad: 0 };
    // SAFETY: a copy of eight bytes.
    if unsafe { NOVEL_TOLD.get(&told) }.is_some_and(|at| now.wrapping_sub(*at) < AGAIN) || !is_affordable(now) {
        stats.skipped += 1;
        return;
    }
    let _ = NOVEL_TOLD.insert(&told, &now, 0);
    let header = stats::header(stats, Kind::Flow, size_of::<Flow>(), 0, lineage.cookie);
    let Some(mut entry) = CTRL.reserve::<Flow>(0) else {
        stats.ring_full += 1;
        return;
    };
    entry.write(Flow {
        header,
        opener: lineage.cookie,
        cgroup,
        socket: 0,
        local: [0; 16],
        remote,
        local_port: 0,
        remote_port: port,
        protocol,
        direction: Direction::Out as u8,
        why: Why::Novel as u8,
        tcp_flags: 0,
        tx_bytes: 0,
        rx_bytes: 0,
        tx_packets: 0,
        rx_packets: 0,
        first_ns: now,
        last_ns: now,
        gaps: [0; BUCKETS],
        sizes: [0; BUCKETS],
    });
    entry.submit(WAKEUP);
}

#[inline(always)]
fn is_affordable(now: u64) -> bool {
    let Some(budget) = NOVEL_BUDGET.get_ptr_mut(0) else { return false };
    // SAFETY: a per-CPU value.
    let budget = unsafe { &mut *budget };
    if now / SECOND != budget[0] {
        *budget = [now / SECOND, 0];
    }
    budget[1] += 1;
    budget[1] <= NOVEL_PER_SECOND
}
