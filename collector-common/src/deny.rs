//! The deny entry that user space writes, and the deny record that the kernel sends back.

use crate::{ExeId, Header, plain};

/// What a decision forbids. Index into the deadlines of a [`Entry`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// New connections and datagrams (connect4/6, sendmsg4/6): EPERM.
    Connect = 0,
    /// Packets of sockets that are already open (cgroup_skb egress): dropped.
    Egress = 1,
    /// Starting a program (LSM bprm_check_security): EPERM.
    Exec = 2,
    /// Opening a regular file for writing, creating, renaming, unlinking, truncating one by path (LSM): EPERM. What was
    /// open before can still be written.
    OpenWrite = 3,
    /// Connecting to a Unix socket through which others act on one's behalf (LSM): EPERM.
    Hatch = 4,
    /// Attaching to another process, loading a kernel module, bpf(2) (LSM): EPERM.
    Tamper = 5,
}
/// Deadlines in an [`Entry`]; a power of two, so that the kernel can mask an [`Action`].
pub const ACTIONS: usize = 8;

/// [`Entry::flags`]: only count and report, deny nothing (shadow entry of a monitoring workload).
pub const ENTRY_SHADOW: u16 = 1;
/// [`Entry::flags`]: made by the agent itself, so the breaker applies.
pub const ENTRY_AUTOMATIC: u16 = 2;
/// [`Entry::flags`]: addresses are listed under this entry's slot in `deny_address`; without it that lookup is skipped.
pub const ENTRY_LISTED: u16 = 4;
/// [`Entry::flags`]: files or directories are listed under this entry's slot in `deny_file`.
pub const ENTRY_FILES: u16 = 8;

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
plain!(Entry, 80);

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

/// Actions that a file can forbid or allow: [`Action::Exec`] and [`Action::OpenWrite`].
pub const FILE_ACTIONS: usize = 2;

/// Key of `deny_file`: an executable, or the directory of a file, under one scope.
///
/// `scope` is 0 for everybody below the guarded cgroup, else the slot of a tree or cgroup entry.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileKey {
    /// Slot of the scope's entry.
    pub scope: u32,
    /// Always zero.
    pub pad: u32,
    /// The executable ([`Action::Exec`]) or the directory ([`Action::OpenWrite`]).
    pub file: ExeId,
}
plain!(FileKey, 24);

/// Value of `deny_file`: the deadlines that replace those of the scope's entry.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileEntry {
    /// Deadline of [`Action::Exec`] and [`Action::OpenWrite`], boot clock; 0 = allowed (the fence's gate).
    pub until_ns: [u64; FILE_ACTIONS],
    /// Number of the decision.
    pub decision: u64,
    /// Index of this key's counters in `hits` (the scope's own slot unless the scope is 0).
    pub slot: u32,
    /// `ENTRY_*`.
    pub flags: u16,
    /// As in [`Entry::breaker`].
    pub breaker: u16,
}
plain!(FileEntry, 32);

/// [`crate::map::Control::harden`]: nobody but protected processes attaches to another process.
pub const HARDEN_PTRACE: u32 = 1;
/// [`crate::map::Control::harden`]: nobody but protected processes loads a kernel module.
pub const HARDEN_MODULE: u32 = 2;
/// [`crate::map::Control::harden`]: nobody but protected processes calls bpf(2).
pub const HARDEN_BPF: u32 = 4;

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
    /// The executable, for everybody.
    File = 4,
    /// A host-hardening switch; there is no decision.
    Harden = 5,
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
    /// LSM bprm_check_security: exec.
    Exec = 6,
    /// LSM file_open: for writing.
    Open = 7,
    /// LSM inode_create.
    Create = 8,
    /// LSM inode_rename.
    Rename = 9,
    /// LSM inode_unlink.
    Unlink = 10,
    /// LSM path_truncate, file_truncate.
    Truncate = 11,
    /// LSM unix_stream_connect, unix_may_send.
    Hatch = 12,
    /// LSM ptrace_access_check.
    Ptrace = 13,
    /// LSM kernel_read_file, kernel_load_data.
    Module = 14,
    /// LSM bpf.
    Bpf = 15,
    /// LSM socket_create: packet, XDP, vsock and raw sockets.
    Socket = 16,
}

/// Bytes of [`Deny::name`].
pub const NAME: usize = 40;

/// [`Header::flags`] of a [`Deny`]: a shadow entry; the operation went through.
pub const DENY_SHADOW: u16 = 1;
/// [`Header::flags`] of a [`Deny`]: the breaker opened on this hit; the operation went through.
pub const DENY_BREAKER: u16 = 2;

/// Something was denied: the first hit of a process on an entry at once, then at most one record a second.
///
/// The header's cookie is the process that was denied.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Remote address, IPv4 as v4-mapped; zero for files.
    pub remote: [u8; 16],
    /// cgroup v2 id of the process.
    pub cgroup: u64,
    /// Deadline that was in force.
    pub until_ns: u64,
    /// The executable, or the directory of the file; zero for the network.
    pub file: ExeId,
    /// Last component of the file's path, cut, padded with zeros; untrusted bytes.
    pub name: [u8; NAME],
}
plain!(Deny, 144);

impl Default for Deny {
    fn default() -> Self {
        Self {
            header: Header::default(),
            decision: 0,
            slot: 0,
            hook: 0,
            action: 0,
            matched: 0,
            protocol: 0,
            suppressed: 0,
            remote_port: 0,
            pad: 0,
            remote: [0; 16],
            cgroup: 0,
            until_ns: 0,
            file: ExeId::default(),
            name: [0; NAME],
        }
    }
}
