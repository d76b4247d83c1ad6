//! The flow record: one socket and one peer, who owned it and what went through it.

use crate::{Header, plain};

/// Buckets of [`Flow::gaps`] and [`Flow::sizes`].
pub const BUCKETS: usize = 16;

/// Why a flow record was written.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A process of a ready workload is about to reach a destination that is not among its known ones (ctrl ring).
    Novel = 1,
    /// The flow is still open; counters are cumulative.
    Tick = 2,
    /// TCP reached CLOSE, or the UDP socket was released: final.
    Close = 3,
}

/// [`Header::flags`]: the direction was seen to be that, by a handshake, a connect or a first datagram. Recordings of earlier
/// versions, which guessed, do not have it.
pub const FLOW_WITNESSED: u16 = 1;

/// Who began a flow.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Not seen to begin.
    Unknown = 0,
    /// This host connected (client).
    Out = 1,
    /// This host accepted (server).
    In = 2,
}

/// A socket's traffic with one peer. The header's cookie is the last user's.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Common header; `cookie` is the process that last used the socket.
    pub header: Header,
    /// Cookie of the process that created the socket (or its listener).
    pub opener: u64,
    /// cgroup v2 id of the last user.
    pub cgroup: u64,
    /// Socket cookie.
    pub socket: u64,
    /// Local address, IPv4 as v4-mapped.
    pub local: [u8; 16],
    /// Remote address, IPv4 as v4-mapped.
    pub remote: [u8; 16],
    /// Local port, host order.
    pub local_port: u16,
    /// Remote port, host order.
    pub remote_port: u16,
    /// IPPROTO_TCP or IPPROTO_UDP.
    pub protocol: u8,
    /// A [`Direction`].
    pub direction: u8,
    /// A [`Why`].
    pub why: u8,
    /// All TCP flags seen, both directions, as in byte 13 of the header.
    pub tcp_flags: u8,
    /// Bytes of IP packets sent.
    pub tx_bytes: u64,
    /// Bytes of IP packets received.
    pub rx_bytes: u64,
    /// Packets sent (segments of an offloaded packet count one each).
    pub tx_packets: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Boot clock at the first packet or connect.
    pub first_ns: u64,
    /// Boot clock at the last packet.
    pub last_ns: u64,
    /// log2 of the gaps between packets in µs, either direction: bucket i counts gaps in [2^i, 2^(i+1)); 0 also holds shorter ones.
    pub gaps: [u8; BUCKETS],
    /// log2 of the packet lengths: bucket i counts lengths in [2^i, 2^(i+1)).
    pub sizes: [u8; BUCKETS],
}
plain!(Flow, 176);
