//! connect and sendmsg are refused with EPERM, packets of open sockets are dropped.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{__sk_buff, bpf_sock_addr};
use aya_ebpf::macros::{cgroup_skb, cgroup_sock_addr};
use aya_ebpf::programs::{SkBuffContext, SockAddrContext};
use collector_common::ExeId;
use collector_common::deny::{Action, Hook};
use collector_common::map::LINEAGE_PROTECTED;
use collector_common::stats::Program;

use super::{Wish, begin, fill_keys, identify, is_idle, judge, judge_packet};
use crate::control::control;
use crate::{owner, packet, stats};

const NO_FILE: ExeId = ExeId { ino: 0, dev: 0, generation: 0 };

#[cgroup_sock_addr(connect4)]
pub fn deny_connect4(ctx: SockAddrContext) -> i32 {
    owner::stamp_address(ctx.sock_addr);
    allowed(ctx.sock_addr, Hook::Connect4, true)
}

#[cgroup_sock_addr(connect6)]
pub fn deny_connect6(ctx: SockAddrContext) -> i32 {
    owner::stamp_address(ctx.sock_addr);
    allowed(ctx.sock_addr, Hook::Connect6, false)
}

#[cgroup_sock_addr(sendmsg4)]
pub fn deny_sendmsg4(ctx: SockAddrContext) -> i32 {
    allowed(ctx.sock_addr, Hook::Sendmsg4, true)
}

#[cgroup_sock_addr(sendmsg6)]
pub fn deny_sendmsg6(ctx: SockAddrContext) -> i32 {
    allowed(ctx.sock_addr, Hook::Sendmsg6, false)
}

/// The address that a connect or sendmsg asks for; IPv4 is v4-mapped.
#[inline(always)]
pub fn destination(context: *mut bpf_sock_addr, is_v4: bool) -> ([u8; 16], u16, u8) {
    // SAFETY: the context that the kernel gave the program; addresses are read by words, as the verifier wants it.
    unsafe {
        let port = u16::from_be((*context).user_port as u16);
        let protocol = (*context).protocol as u8;
        if is_v4 {
            return (packet::mapped((*context).user_ip4.to_ne_bytes()), port, protocol);
        }
        let words = &raw const (*context).user_ip6;
        let mut address = [0u8; 16];
        let mut at = 0;
        while at < 4 {
            let bytes = core::ptr::read_volatile(words.cast::<u32>().add(at)).to_ne_bytes();
            address[4 * at] = bytes[0];
            address[4 * at + 1] = bytes[1];
            address[4 * at + 2] = bytes[2];
            address[4 * at + 3] = bytes[3];
            at += 1;
        }
        (address, port, protocol)
    }
}

/// 1 = go on, 0 = EPERM.
#[inline(always)]
fn allowed(context: *mut bpf_sock_addr, hook: Hook, is_v4: bool) -> i32 {
    let (Some(control), Some(stats)) = (control(), stats::of(Program::DenyConnect)) else { return 1 };
    stats.seen += 1;
    if is_idle(control) {
        return 1;
    }
    let (address, port, protocol) = destination(context, is_v4);
    let wish = Wish { hook, action: Action::Connect, address, port, protocol, file: NO_FILE };
    let mut search = begin(control, &wish, core::ptr::null_mut());
    if !identify(&mut search, stats) {
        return 1;
    }
    judge(control, stats, &mut search)
}

#[cgroup_skb]
pub fn deny_egress(ctx: SkBuffContext) -> i32 {
    let (Some(control), Some(stats)) = (control(), stats::of(Program::DenyEgress)) else { return 1 };
    if is_idle(control) {
        return 1;
    }
    stats.seen += 1;
    let skb = ctx.as_ptr().cast::<__sk_buff>();
    let Some(parsed) = packet::parse(skb) else { return 1 };
    if parsed.is_bare_reset {
        // Carries nothing and ends the connection at the other end, too: what a cut is for.
        return 1;
    }
    let wish = Wish {
        hook: Hook::Egress,
        action: Action::Egress,
        address: parsed.destination,
        port: parsed.destination_port,
        protocol: parsed.protocol,
        file: NO_FILE,
    };
    let mut search = begin(control, &wish, skb);
    match packet::socket(skb).and_then(|socket| owner::behind(socket.cast())) {
        Some(owner) if owner.flags & LINEAGE_PROTECTED != 0 => return 1,
        Some(owner) => {
            search.cgroup = owner.cgroup;
            fill_keys(&mut search, owner.user, owner.root, &owner.near, owner.sticky);
        }
        None => stats.unattributed += 1,
    }
    judge_packet(control, stats, &mut search)
}
