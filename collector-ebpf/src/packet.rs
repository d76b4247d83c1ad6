//! What a packet says: addresses, ports, flags and lengths, IPv4 as v4-mapped IPv6.

use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::{bpf_sk_fullsock, bpf_skb_load_bytes};

/// `IPPROTO_TCP`.
pub const TCP: u8 = 6;
/// `TCPHDR_RST`.
const RESET: u8 = 4;
/// `IPPROTO_UDP`.
pub const UDP: u8 = 17;
/// Ethernet protocol numbers as `skb->protocol` holds them.
const ETH_P_IP: u32 = 0x0800u16.to_be() as u32;
const ETH_P_IPV6: u32 = 0x86ddu16.to_be() as u32;

/// A parsed packet.
pub struct Packet {
    pub source: [u8; 16],
    pub destination: [u8; 16],
    pub source_port: u16,
    pub destination_port: u16,
    pub protocol: u8,
    pub tcp_flags: u8,
    pub bytes: u64,
    pub segments: u64,
    /// A TCP reset without a byte of payload.
    pub is_bare_reset: bool,
}

/// Puts an IPv4 address into its v4-mapped form.
#[inline(always)]
pub fn mapped(v4: [u8; 4]) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4[0], v4[1], v4[2], v4[3]]
}

/// Parses a packet that begins with its IP header; `None` when it is neither IPv4 nor IPv6.
#[inline(always)]
pub fn parse(skb: *mut __sk_buff) -> Option<Packet> {
    // SAFETY: the context that the kernel gave the program.
    let (protocol, len, segments) = unsafe { ((*skb).protocol, (*skb).len, (*skb).gso_segs) };
    let mut packet = Packet {
        source: [0; 16],
        destination: [0; 16],
        source_port: 0,
        destination_port: 0,
        protocol: 0,
        tcp_flags: 0,
        bytes: len as u64,
        segments: if segments == 0 { 1 } else { segments as u64 },
        is_bare_reset: false,
    };
    let rest = if protocol == ETH_P_IP {
        let header: [u8; 20] = load(skb, 0)?;
        packet.protocol = header[9];
        packet.source = mapped([header[12], header[13], header[14], header[15]]);
        packet.destination = mapped([header[16], header[17], header[18], header[19]]);
        // A later fragment has no ports.
        if header[6] & 0x1f != 0 || header[7] != 0 {
            return Some(packet);
        }
        ((header[0] & 0xf) as u32) << 2
    } else if protocol == ETH_P_IPV6 {
        packet.protocol = load::<[u8; 1]>(skb, 6)?[0];
        packet.source = load(skb, 8)?;
        packet.destination = load(skb, 24)?;
        40
    } else {
        return None;
    };
    if packet.protocol == TCP || packet.protocol == UDP {
        if let Some(ports) = load::<[u8; 4]>(skb, rest) {
            packet.source_port = u16::from_be_bytes([ports[0], ports[1]]);
            packet.destination_port = u16::from_be_bytes([ports[2], ports[3]]);
        }
        if packet.protocol == TCP {
            let [offset, flags] = load::<[u8; 2]>(skb, rest + 12).unwrap_or([0; 2]);
            packet.tcp_flags = flags;
            let headers = rest + ((offset >> 4) as u32) * 4;
            packet.is_bare_reset = flags & RESET != 0 && headers == len;
        }
    }
    Some(packet)
}

#[inline(always)]
fn load<T: Copy>(skb: *mut __sk_buff, offset: u32) -> Option<T> {
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    let to = value.as_mut_ptr().cast::<c_void>();
    // SAFETY: the helper checks the offset and writes as much as it is told, which is the destination's size.
    let failed = unsafe { bpf_skb_load_bytes(skb.cast(), offset, to, size_of::<T>() as u32) };
    // SAFETY: filled when the helper succeeded.
    if failed == 0 { Some(unsafe { value.assume_init() }) } else { None }
}

/// The full socket of a packet; `None` for requests and time-waits.
#[inline(always)]
pub fn socket(skb: *mut __sk_buff) -> Option<*mut bpf_sock> {
    // SAFETY: the context's socket may be null, which is tested before and after the helper.
    unsafe {
        let sk = (*skb).__bindgen_anon_2.sk;
        if sk.is_null() {
            return None;
        }
        let full = bpf_sk_fullsock(sk);
        if full.is_null() { None } else { Some(full) }
    }
}
