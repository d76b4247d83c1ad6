//! Prefixes of 128-bit addresses; IPv4 is v4-mapped.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use collector_common::deny::AddressKey;

use crate::decision::Destination;

/// An address prefix with its host bits cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    bits: u128,
    len: u8,
}

impl Prefix {
    /// The prefix of a destination.
    pub fn of(to: &Destination) -> Self {
        let mapped = if to.net.addr().is_ipv4() { 96 } else { 0 };
        let len = to.net.prefix_len() + mapped;
        Self { bits: bits_of(to.net.addr()) & mask(len), len }
    }

    /// A single address.
    pub fn host(address: IpAddr) -> Self {
        Self { bits: bits_of(address), len: 128 }
    }

    /// Whether every address of `other` is one of this prefix.
    pub fn contains(self, other: Self) -> bool {
        self.len <= other.len && other.bits & mask(self.len) == self.bits
    }

    /// Bits of the prefix, 0–128.
    pub fn len(self) -> u8 {
        self.len
    }

    /// The key of this prefix in `deny_address` under a scope.
    pub fn key(self, scope: u32) -> AddressKey {
        AddressKey {
            prefix_len: 32 + u32::from(self.len),
            scope: scope.to_be_bytes(),
            address: self.bits.to_be_bytes(),
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = Ipv6Addr::from_bits(self.bits);
        match address.to_ipv4_mapped() {
            Some(v4) if self.len >= 96 => write!(f, "{v4}/{}", self.len - 96),
            _ => write!(f, "{address}/{}", self.len),
        }
    }
}

fn bits_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn mask(len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(net: &str) -> Prefix {
        Prefix::of(&Destination { net: net.parse().unwrap(), ports: Vec::new() })
    }

    #[test]
    fn ipv4_is_v4_mapped_and_host_bits_are_dropped() {
        let net = prefix("10.1.2.3/24");
        assert_eq!(net, prefix("::ffff:10.1.2.0/120"));
        assert_eq!(net.to_string(), "10.1.2.0/24");
        assert_eq!((net.len(), net.key(7).prefix_len, net.key(7).scope), (120, 152, [0, 0, 0, 7]));
    }

    #[test]
    fn a_wider_prefix_contains_a_narrower_one() {
        assert!(prefix("0.0.0.0/0").contains(prefix("10.0.0.1/32")));
        assert!(prefix("::/0").contains(prefix("10.0.0.1/32")));
        assert!(!prefix("10.0.0.0/25").contains(prefix("10.0.0.128/32")));
        assert!(!prefix("10.0.0.1/32").contains(prefix("10.0.0.0/24")));
    }
}
