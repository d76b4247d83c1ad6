//! What happened: the owned, enriched form of a kernel record, and the only input of the model.
//!
//! An [`Event`] knows its process by name and workload, so that everything after it, here and in the trainer, needs neither
//! a kernel nor `/proc`. All time comes from events.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// When something happened, on two clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Time {
    /// Nanoseconds since 1970-01-01 UTC: what learning, expiry of evidence and reports use. A demo may run it faster.
    pub unix_ns: u64,
    /// Nanoseconds since boot, suspend included: what deadlines in the kernel use. Never compressed.
    pub boot_ns: u64,
}

/// A process at the moment of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// [`collector_common::cookie_of`] it: unique while the host is up.
    pub cookie: u64,
    /// Thread group id in the initial pid namespace.
    pub pid: u32,
    /// What its baseline belongs to, e.g. `unit:nginx.service`.
    pub workload: Arc<str>,
    /// Path of its executable as the kernel was asked for it, or `?` when unknown.
    pub exe: Arc<str>,
    /// The script, when the executable is an interpreter.
    pub script: Option<Arc<str>>,
    /// Command line, arguments separated by a space, cut at 256 bytes; untrusted text.
    pub cmdline: Arc<str>,
    /// Real user.
    pub uid: u32,
    /// User who logged in, if somebody did.
    pub loginuid: Option<u32>,
    /// cgroup v2 id.
    pub cgroup: u64,
    /// Cookies of its ancestors, the nearest first, at most 16.
    pub ancestors: Vec<u64>,
    /// Older than the agent: its lineage was read from /proc.
    pub pre_existing: bool,
}

/// One enriched event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: Time,
    /// Who. For a fork the creator, for an exec the process with its new program.
    pub process: Arc<Process>,
    /// What.
    #[serde(flatten)]
    pub body: Body,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind", content = "body")]
pub enum Body {
    /// A process was born.
    Fork(Fork),
    /// A process replaced its program.
    Exec(Exec),
    /// A process ended.
    Exit(Exit),
    /// A thread's syscalls.
    Window(Window),
    /// A socket's traffic.
    Flow(Flow),
    /// The kernel denied something.
    Deny(Deny),
    /// A directory was used for the first time, or many files at once.
    File(File),
}

/// See [`collector_common::process::Fork`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fork {
    /// Cookie of the new process.
    pub child: u64,
    /// The flags of clone(2).
    pub clone_flags: u64,
}

/// See [`collector_common::process::Exec`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// Cookie of the creator; 0 when unknown.
    pub parent: u64,
    /// Executable of the process that called exec, before it did (what `fork` copied from its creator): the edge's tail.
    pub parent_exe: Arc<str>,
    /// Script of the process that called exec.
    pub parent_script: Option<Arc<str>>,
    /// Arguments, cut at 256 bytes in all; untrusted text.
    pub argv: Vec<String>,
    /// Length of the whole argument vector.
    pub argv_full: u32,
    /// `EXEC_*` bits of [`collector_common::process`].
    pub bits: u32,
    /// Effective user.
    pub euid: u32,
    /// Real group.
    pub gid: u32,
    /// Inode of the network namespace; 0 when unknown.
    pub netns: u32,
}

/// See [`collector_common::process::Exit`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Status in bits 8–15, signal in bits 0–6.
    pub code: u32,
}

/// See [`collector_common::syscall::Window`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Thread.
    pub tid: u32,
    /// A [`collector_common::syscall::Why`].
    pub why: u8,
    /// Calls overwritten before the window could be written. Not 0: this evidence neither teaches nor denies.
    pub missed: u32,
    /// Boot clock at the first call.
    pub start_boot_ns: u64,
    /// Calls that failed.
    pub errors: u16,
    /// Calls that failed with EPERM or EACCES.
    pub permission_errors: u16,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Calls by [`collector_common::syscall::Class`].
    pub class: [u8; collector_common::syscall::CLASSES],
    /// Distinct trigrams that the kernel did not find in the workload's bitset (at most 8).
    pub novel_trigrams: Vec<u32>,
    /// Tokens ([`collector_common::token`]), oldest first, 1–128.
    pub trace: Vec<u16>,
}

/// See [`collector_common::flow::Flow`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// Cookie of the socket.
    pub socket: u64,
    /// Cookie of the process that made it.
    pub opener: u64,
    /// A [`collector_common::flow::Why`].
    pub why: u8,
    /// A [`collector_common::flow::Direction`].
    pub direction: u8,
    /// IPPROTO_TCP or IPPROTO_UDP.
    pub protocol: u8,
    /// All TCP flags seen.
    pub tcp_flags: u8,
    /// This host's end.
    pub local: SocketAddr,
    /// The other end; an IPv4 address is written as such.
    pub remote: SocketAddr,
    /// Bytes sent so far.
    pub tx_bytes: u64,
    /// Bytes received so far.
    pub rx_bytes: u64,
    /// Packets sent so far.
    pub tx_packets: u64,
    /// Packets received so far.
    pub rx_packets: u64,
    /// Boot clock at the beginning.
    pub first_ns: u64,
    /// Boot clock at the last packet.
    pub last_ns: u64,
    /// Gaps between packets, log2 µs buckets.
    pub gaps: [u8; collector_common::flow::BUCKETS],
    /// Packet lengths, log2 buckets.
    pub sizes: [u8; collector_common::flow::BUCKETS],
}

/// See [`collector_common::deny::Deny`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deny {
    /// Number of the decision.
    pub decision: u64,
    /// Counter slot.
    pub slot: u32,
    /// A [`collector_common::deny::Hook`].
    pub hook: u8,
    /// An [`collector_common::deny::Action`].
    pub action: u8,
    /// A [`collector_common::deny::Match`].
    pub matched: u8,
    /// IPPROTO_*.
    pub protocol: u8,
    /// Earlier hits of this process that were not reported one by one.
    pub suppressed: u32,
    /// Where to.
    pub remote: SocketAddr,
    /// Last component of the path, when a file or program was refused; untrusted text.
    #[serde(default)]
    pub file: Option<Arc<str>>,
    /// It only would have been denied.
    pub shadow: bool,
    /// This hit opened the breaker of the decision.
    pub breaker: bool,
}

/// See [`collector_common::file::File`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// A [`collector_common::file::Why`].
    pub why: u8,
    /// A [`collector_common::file::Mode`].
    pub mode: u8,
    /// A [`collector_common::file::Sensitive`].
    pub sensitive: u8,
    /// Directory that holds the file, from the root on; untrusted text.
    pub directory: Arc<str>,
    /// Last component of the path, cut at 31 bytes; untrusted text.
    pub name: Arc<str>,
    /// Different files written, renamed and deleted within ten seconds; zero unless `why` is `Rate`.
    pub touched: [u32; 3],
}
