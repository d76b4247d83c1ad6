//! What a record says besides who: the owned form of windows, flows and denials.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use collector_common::deny::{DENY_BREAKER, DENY_SHADOW};
use collector_common::flow::Direction;
use collector_common::{ExeId, deny, file, flow, syscall};
use model::event;

use crate::decode;

pub(super) fn window(window: &syscall::Window) -> event::Window {
    event::Window {
        tid: window.tid,
        why: window.why,
        missed: window.missed,
        start_boot_ns: window.start_boot_ns,
        errors: window.errors,
        permission_errors: window.permission_errors,
        read_bytes: window.read_bytes,
        write_bytes: window.write_bytes,
        class: window.class,
        novel_trigrams: window.novel_trigrams.iter().copied().filter(|trigram| *trigram != 0).collect(),
        trace: decode::trace(window).collect(),
    }
}

pub(super) fn flow(flow: &flow::Flow) -> event::Flow {
    event::Flow {
        socket: flow.socket,
        opener: flow.opener,
        why: flow.why,
        direction: direction(flow) as u8,
        protocol: flow.protocol,
        tcp_flags: flow.tcp_flags,
        local: address(flow.local, flow.local_port),
        remote: address(flow.remote, flow.remote_port),
        tx_bytes: flow.tx_bytes,
        rx_bytes: flow.rx_bytes,
        tx_packets: flow.tx_packets,
        rx_packets: flow.rx_packets,
        first_ns: flow.first_ns,
        last_ns: flow.last_ns,
        gaps: flow.gaps,
        sizes: flow.sizes,
    }
}

/// First local port that Linux gives to clients (`ip_local_port_range`, as the kernel ships it).
const FIRST_EPHEMERAL: u16 = 32_768;

/// Who called whom. A flow that was met in its middle says nothing certain, and recordings of earlier versions call it
/// served. Its ports tell: a client leaves an ephemeral port for one that is none.
fn direction(flow: &flow::Flow) -> Direction {
    let (from_ephemeral, to_ephemeral) = (flow.local_port >= FIRST_EPHEMERAL, flow.remote_port >= FIRST_EPHEMERAL);
    match flow.direction {
        out if out == Direction::Out as u8 => Direction::Out,
        // Whatever port the other end has chosen to call from.
        served if served == Direction::In as u8 && flow.header.flags & flow::FLOW_WITNESSED != 0 => Direction::In,
        _ if from_ephemeral && !to_ephemeral => Direction::Out,
        served if served == Direction::In as u8 => Direction::In,
        _ if to_ephemeral && !from_ephemeral => Direction::In,
        _ => Direction::Unknown,
    }
}

pub(super) fn deny(deny: &deny::Deny) -> event::Deny {
    event::Deny {
        decision: deny.decision,
        slot: deny.slot,
        hook: deny.hook,
        action: deny.action,
        matched: deny.matched,
        protocol: deny.protocol,
        suppressed: deny.suppressed,
        remote: address(deny.remote, deny.remote_port),
        shadow: deny.header.flags & DENY_SHADOW != 0,
        breaker: deny.header.flags & DENY_BREAKER != 0,
        file: (deny.file != ExeId::default() || deny.name[0] != 0).then(|| text(&deny.name).into()),
    }
}

pub(super) fn file(file: &file::File, directory: Arc<str>) -> event::File {
    event::File {
        why: file.why,
        mode: file.mode,
        sensitive: file.sensitive,
        directory,
        name: text(&file.name).into(),
        touched: file.touched,
    }
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// An IPv4 address travels as a v4-mapped one and becomes itself again here.
fn address(bytes: [u8; 16], port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical(), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_or_else_the_ports_say_who_called_whom() {
        let told = |known: Direction, local_port, remote_port| {
            direction(&flow::Flow { direction: known as u8, local_port, remote_port, ..flow::Flow::default() })
        };
        let mut called = flow::Flow { direction: Direction::In as u8, local_port: 50_051, ..flow::Flow::default() };
        called.remote_port = 700;
        called.header.flags = flow::FLOW_WITNESSED;
        assert_eq!(direction(&called), Direction::In, "no caller makes a client of a server by his choice of a port");
        // A worker that was connected to its database before the agent came.
        assert_eq!(told(Direction::Unknown, 46_638, 5_432), Direction::Out);
        assert_eq!(told(Direction::In, 46_638, 5_432), Direction::Out, "an earlier recording's word");
        assert_eq!(told(Direction::Unknown, 5_432, 46_638), Direction::In);
        assert_eq!(told(Direction::Unknown, 50_051, 46_638), Direction::Unknown, "between two ephemeral ports");
        assert_eq!(told(Direction::In, 50_051, 46_638), Direction::In);
        assert_eq!(told(Direction::Out, 700, 46_638), Direction::Out);
    }
}
