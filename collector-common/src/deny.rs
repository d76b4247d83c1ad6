//! The deny entry that user space writes, and the deny record that the kernel sends back.

use crate::{Header, plain};

/// What a decision forbids. Index into the deadlines of a [`Entry`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// New connections and datagrams (connect4/6, sendmsg4/6): EPERM.
    Connect = 0,
    /// Packets of sockets that are already open (cgroup_skb egress): dropped.
    Egress = 1,
    /// Left for exec (needs LSM).
    Exec = 2,
    /// Left for opening for writing (needs LSM).
    OpenWrite = 3,
}
/// Number of [`Action`]s.
pub const ACTIONS: usize = 4;

/// [`Entry::flags`]: only count and report, deny nothing (shadow entry of a monitoring workload).
pub const ENTRY_SHADOW: u16 = 1;
/// [`Entry::flags`]: made by the agent itself, so the breaker applies.
pub const ENTRY_AUTOMATIC: u16 = 2;
/// [`Entry::flags`]: addresses are listed under this entry's slot in `deny_address`; without it that lookup is skipped.
pub const ENTRY_LISTED: u16 = 4;

/// The effective entry of one key in `deny_tree` or `deny_cgroup`: the sum of its live decisions, made by user space.
///
/// The kernel never writes it. Deadlines are on the boot clock, so that a dead agent's entries lapse by themselves, a
/// suspended host's do not outlive their hour, and no clock step moves them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Deadline per [`Action`], boot clock; 0 = not denied. Addresses that are listed under `slot` have their own.
    pub until_ns: [u64; ACTIONS],
    /// Index of this key's counters in `hits` and its scope in `deny_address`; never 0.
    pub slot: u32,
    /// `ENTRY_*`.
    pub flags: u16,
    /// Distinct process trees that may be hit before the breaker disarms an automatic entry; 0 = no breaker.
    pub breaker: u16,
    /// Number of the decision that a [`Deny`] record names (the newest live one of this key).
    pub decision: u64,
}
plain!(Entry, 48);

/// Ranges of ports that one address entry can hold.
pub const PORT_RULES: usize = 4;
/// Actions that an address can forbid: [`Action::Connect`] and [`Action::Egress`].
pub const ADDRESS_ACTIONS: usize = 2;

/// Key of `deny_address`: a longest-prefix match on scope and address.
///
/// `scope` 0 is every process below the cgroup that the agent guards; any other value is the slot of a tree or cgroup
/// entry. IPv4 is v4-mapped, so its prefix lengths are 96 longer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AddressKey {
    /// Significant bits: 32 for the scope plus the prefix of the address (0–128).
    pub prefix_len: u32,
    /// Big-endian bytes of the scope, so that the trie compares it first.
    pub scope: [u8; 4],
    /// Big-endian address.
    pub address: [u8; 16],
}
plain!(AddressKey, 24);

/// Until when a range of ports at an address is denied; replaces the deadlines of the scope's entry.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortRule {
    /// First port, host order.
    pub first: u16,
    /// Last port, host order, inclusive.
    pub last: u16,
    /// Always zero.
    pub pad: u32,
    /// Deadline of [`Action::Connect`] and [`Action::Egress`], boot clock; 0 = allowed (the fence's gate).
    pub until_ns: [u64; ADDRESS_ACTIONS],
}
plain!(PortRule, 24);

/// Value of `deny_address`: what is known of one prefix under one scope.
///
/// A longest-prefix match hides every shorter prefix, so each value is complete: user space has summed up every live
/// decision of the scope that covers the prefix, those of wider prefixes too. The kernel looks once. A port that no rule
/// names is judged by the scope's entry alone (scope 0: allowed). A gate of the fence is a rule whose deadline is the
/// latest among the decisions that do *not* allow the address, so it opens by itself.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressEntry {
    /// Rules in use come first; their ranges do not overlap.
    pub rules: [PortRule; PORT_RULES],
    /// Number of the decision.
    pub decision: u64,
    /// Rules in use.
    pub count: u32,
    /// Index of this key's counters in `hits` (the scope's own slot unless the scope is 0).
    pub slot: u32,
    /// `ENTRY_*`.
    pub flags: u16,
    /// As in [`Entry::breaker`].
    pub breaker: u16,
    /// Always zero.
    pub pad: u32,
}
plain!(AddressEntry, 120);

/// Which key a denial matched.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// The process itself or an ancestor.
    Tree = 1,
    /// The cgroup or an ancestor.
    Cgroup = 2,
    /// The address, for everybody.
    Address = 3,
}

/// Where a denial happened.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// cgroup/connect4.
    Connect4 = 1,
    /// cgroup/connect6.
    Connect6 = 2,
    /// cgroup/sendmsg4.
    Sendmsg4 = 3,
    /// cgroup/sendmsg6.
    Sendmsg6 = 4,
    /// cgroup_skb/egress.
    Egress = 5,
}

/// [`Header::flags`] of a [`Deny`]: a shadow entry; the operation went through.
pub const DENY_SHADOW: u16 = 1;
/// [`Header::flags`] of a [`Deny`]: the breaker opened on this hit; the operation went through.
pub const DENY_BREAKER: u16 = 2;

/// Something was denied: the first hit of a process on an entry at once, then at most one record a second.
///
/// The header's cookie is the process that was denied.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deny {
    /// Common header.
    pub header: Header,
    /// Number of the decision.
    pub decision: u64,
    /// Counter slot of the key that matched.
    pub slot: u32,
    /// A [`Hook`].
    pub hook: u8,
    /// An [`Action`].
    pub action: u8,
    /// A [`Match`].
    pub matched: u8,
    /// IPPROTO_*.
    pub protocol: u8,
    /// Hits of this process on this entry since the last record, not counting this one.
    pub suppressed: u32,
    /// Remote port, host order.
    pub remote_port: u16,
    /// Always zero.
    pub pad: u16,
    /// Remote address, IPv4 as v4-mapped.
    pub remote: [u8; 16],
    /// cgroup v2 id of the process.
    pub cgroup: u64,
    /// Deadline that was in force.
    pub until_ns: u64,
}
plain!(Deny, 88);
