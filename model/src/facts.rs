//! Facts: what an event says about its workload that can be new or known.
//!
//! A fact belongs to a family and a context; its surprise is that of its value in that context
//! ([`crate::counts`]). An executable is its path and script, never its inode: an upgrade is not a new program.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use collector_common::file;
use collector_common::flow::Direction;
use collector_common::process::{EXEC_MEMORY, EXEC_STDIO_SOCKET, EXEC_SUID, EXEC_UNLINKED};
use collector_common::token;
use serde::{Deserialize, Serialize};

use crate::event::{Body, Event, Exec, File, Flow, Process, Window};
use crate::features::Coordinate;
use crate::{names, paths};

/// The program of what belongs to none.
static NOBODY: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from(""));

/// Something that can be new. `Display` says it by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the fields are named as in the events")]
pub enum Fact {
    /// One program started another.
    ExecEdge { parent: Arc<str>, child: Arc<str> },
    /// A program ran whose file lives in memory only or has no name any more.
    MemoryExec { exe: Arc<str> },
    /// A program was started with a socket on a descriptor from 0 to 2.
    StdioSocket { exe: Arc<str> },
    /// Real and effective user differ after an exec.
    UserMove { exe: Arc<str>, from: u32, to: u32 },
    /// A client reached an address.
    Destination { exe: Arc<str>, address: IpAddr, port: u16, protocol: u8 },
    /// A client used a port, at whatever address.
    Port { exe: Arc<str>, port: u16, protocol: u8 },
    /// A client reached a network: /24 of IPv4, /48 of IPv6.
    Prefix { exe: Arc<str>, prefix: IpAddr },
    /// A server accepted on a port.
    Listen { exe: Arc<str>, port: u16, protocol: u8 },
    /// A call that is rare in any workload ([`token::is_trigger`]).
    Trigger { exe: Arc<str>, number: u16, class: u16 },
    /// A program used files of a directory in a way ([`file::Mode`]); what varies in the path is folded ([`crate::paths`]).
    Directory { exe: Arc<str>, directory: Arc<str>, mode: u8 },
    /// A program used a file whose name says what it is for ([`file::Sensitive`]).
    SensitiveFile { exe: Arc<str>, name: Arc<str>, mode: u8 },
    /// A program touched at least `16 · 4^level` different files in ten seconds.
    FileRate { exe: Arc<str>, level: u8 },
}

/// What is the same for all facts of a family.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Family {
    /// Coordinate that it feeds.
    pub coordinate: Coordinate,
    /// Probability in bits of a value that nobody has ever seen, before anything is known.
    pub base_bits: f64,
    /// Exec edge or destination: what a denial may be founded on.
    pub class_a: bool,
}

impl Fact {
    /// Its family.
    pub fn family(&self) -> Family {
        let (coordinate, base_bits, class_a) = match self {
            Self::ExecEdge { .. } => (Coordinate::Lineage, 8.0, true),
            Self::MemoryExec { .. } => (Coordinate::Lineage, 20.0, false),
            Self::StdioSocket { .. } => (Coordinate::Lineage, 8.0, false),
            Self::UserMove { .. } => (Coordinate::Lineage, 8.0, false),
            Self::Destination { .. } => (Coordinate::Net, 8.0, true),
            Self::Port { .. } => (Coordinate::Net, 6.0, false),
            Self::Prefix { .. } => (Coordinate::Net, 4.0, false),
            Self::Listen { .. } => (Coordinate::Net, 6.0, false),
            Self::Trigger { .. } => (Coordinate::Priv, 8.0, false),
            Self::Directory { mode, .. } if *mode == file::Mode::Read as u8 => (Coordinate::File, 4.0, false),
            Self::Directory { .. } => (Coordinate::File, 6.0, false),
            Self::SensitiveFile { .. } => (Coordinate::File, 10.0, false),
            Self::FileRate { .. } => (Coordinate::File, 8.0, false),
        };
        Family { coordinate, base_bits, class_a }
    }

    /// What a destination is made of: it is learnt together with it.
    pub(crate) fn parts(&self) -> Vec<Fact> {
        match self {
            Self::Destination { exe, address, port, protocol } => vec![
                Self::Port { exe: exe.clone(), port: *port, protocol: *protocol },
                Self::Prefix { exe: exe.clone(), prefix: prefix_of(*address) },
            ],
            _ => Vec::new(),
        }
    }

    /// Whether it says something about a program.
    pub(crate) fn is_of(&self, program: &str) -> bool {
        match self {
            Self::ExecEdge { parent, child } => &**parent == program || &**child == program,
            _ => &*self.context().1 == program,
        }
    }

    /// The context that its value is compared within: a number for the family and the executable.
    pub fn context(&self) -> (u8, Arc<str>) {
        match self {
            // One context for the whole workload: a program that never started anything is as telling as one that starts
            // three others.
            Self::ExecEdge { .. } => (0, NOBODY.clone()),
            Self::MemoryExec { exe } => (1, exe.clone()),
            Self::StdioSocket { exe } => (2, exe.clone()),
            Self::UserMove { exe, .. } => (3, exe.clone()),
            Self::Destination { exe, .. } => (4, exe.clone()),
            Self::Port { exe, .. } => (5, exe.clone()),
            Self::Prefix { exe, .. } => (6, exe.clone()),
            Self::Listen { exe, .. } => (7, exe.clone()),
            Self::Trigger { exe, .. } => (8, exe.clone()),
            Self::Directory { exe, .. } => (9, exe.clone()),
            Self::SensitiveFile { exe, .. } => (10, exe.clone()),
            Self::FileRate { exe, .. } => (11, exe.clone()),
        }
    }

    /// Whether it is dangerous wherever it happens: nobody's word about something else covers it.
    pub fn is_high_impact(&self) -> bool {
        matches!(
            self,
            Self::MemoryExec { .. }
                | Self::StdioSocket { .. }
                | Self::UserMove { .. }
                | Self::Trigger { .. }
                | Self::SensitiveFile { .. }
        )
    }

    /// A family in words.
    pub fn what(&self) -> &'static str {
        match self {
            Self::ExecEdge { .. } => "exec edge",
            Self::MemoryExec { .. } => "memory exec",
            Self::StdioSocket { .. } => "socket on stdio",
            Self::UserMove { .. } => "user change",
            Self::Destination { .. } => "destination",
            Self::Port { .. } => "port",
            Self::Prefix { .. } => "network",
            Self::Listen { .. } => "listening port",
            Self::Trigger { .. } => "trigger call",
            Self::Directory { .. } => "directory",
            Self::SensitiveFile { .. } => "sensitive file",
            Self::FileRate { .. } => "rate of files",
        }
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ExecEdge { parent, child } => write!(out, "{parent} > {child}"),
            Self::MemoryExec { exe } => write!(out, "{exe} (no file)"),
            Self::StdioSocket { exe } => write!(out, "{exe} with a socket as its input or output"),
            Self::UserMove { exe, from, to } => write!(out, "{exe}: user {from} > {to}"),
            Self::Destination { exe, address, port, protocol } => {
                write!(out, "{exe} to {}/{}", std::net::SocketAddr::new(*address, *port), protocol_name(*protocol))
            }
            Self::Port { exe, port, protocol } => write!(out, "{exe} to port {port}/{}", protocol_name(*protocol)),
            Self::Prefix { exe, prefix } => write!(out, "{exe} to network {prefix}/{}", prefix_len(*prefix)),
            Self::Listen { exe, port, protocol } => write!(out, "{exe} serves {port}/{}", protocol_name(*protocol)),
            Self::Trigger { exe, number, class } => {
                write!(out, "{exe}: {}{}", names::syscall(*number), class_name(*number, *class))
            }
            Self::Directory { exe, directory, mode } => write!(out, "{exe} {} in {directory}", mode_name(*mode)),
            Self::SensitiveFile { exe, name, mode } => write!(out, "{exe} {} {name}", mode_name(*mode)),
            Self::FileRate { exe, level } => {
                let files = u64::from(file::RATE_FIRST) << (2 * level.min(&24));
                write!(out, "{exe} touches {files} files in 10 s")
            }
        }
    }
}

fn mode_name(mode: u8) -> &'static str {
    ["reads", "writes", "starts", "deletes"].get(usize::from(mode)).copied().unwrap_or("uses")
}

fn protocol_name(protocol: u8) -> &'static str {
    match protocol {
        6 => "tcp",
        17 => "udp",
        _ => "ip",
    }
}

fn class_name(number: u16, class: u16) -> &'static str {
    use token::{arg, x86_64 as nr};
    match (number, class) {
        (nr::MMAP | nr::MPROTECT | nr::PKEY_MPROTECT, arg::MEM_WRITE_EXEC) => " writable and executable",
        (nr::DUP | nr::DUP2 | nr::DUP3 | nr::FCNTL, arg::DUP_STDIO) => " onto 0-2",
        (nr::PTRACE, arg::PTRACE_ME) => " of itself",
        (nr::PTRACE, arg::PTRACE_ATTACH) => " attaching",
        (nr::PTRACE, arg::PTRACE_WRITE) => " writing",
        (nr::BPF, arg::BPF_MAP) => " making a map",
        (nr::BPF, arg::BPF_PROGRAM) => " loading a program",
        (token::OTHER, arg::FOREIGN_IN_NATIVE) => " (32-bit call in a 64-bit program)",
        (nr::SOCKET, arg::SOCK_RAW) => " raw",
        (nr::SOCKET, arg::SOCK_PACKET) => " packet",
        (nr::UNSHARE | nr::SETNS, arg::CLONE_NAMESPACE) => " namespace",
        _ => "",
    }
}

/// The network of an address.
pub fn prefix_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            IpAddr::from([a, b, c, 0])
        }
        IpAddr::V6(v6) => {
            let [a, b, c, ..] = v6.segments();
            IpAddr::from([a, b, c, 0, 0, 0, 0, 0])
        }
    }
}

/// Length of [`prefix_of`].
pub fn prefix_len(address: IpAddr) -> u8 {
    if address.is_ipv4() { 24 } else { 48 }
}

/// The facts that an event states, in a fixed order.
pub fn stated_by(event: &Event) -> Vec<Fact> {
    match &event.body {
        Body::Exec(exec) => of_exec(&event.process, exec),
        Body::Flow(flow) => of_flow(&event.process, flow),
        Body::Window(window) => of_window(&event.process, window),
        Body::File(file) => of_file(&event.process, file),
        Body::Fork(_) | Body::Exit(_) | Body::Deny(_) => Vec::new(),
    }
}

/// The name under which a program's facts are kept: its path, and its script.
pub fn program(exe: &Arc<str>, script: Option<&Arc<str>>) -> Arc<str> {
    script.map_or_else(|| exe.clone(), |script| format!("{exe} {script}").into())
}

fn of_exec(process: &Process, exec: &Exec) -> Vec<Fact> {
    let exe = program(&process.exe, process.script.as_ref());
    let parent = program(&exec.parent_exe, exec.parent_script.as_ref());
    let mut facts = vec![Fact::ExecEdge { parent, child: exe.clone() }];
    if exec.bits & (EXEC_MEMORY | EXEC_UNLINKED) != 0 {
        facts.push(Fact::MemoryExec { exe: exe.clone() });
    }
    if exec.bits & EXEC_STDIO_SOCKET != 0 {
        facts.push(Fact::StdioSocket { exe: exe.clone() });
    }
    if exec.bits & EXEC_SUID != 0 {
        facts.push(Fact::UserMove { exe, from: process.uid, to: exec.euid });
    }
    facts
}

fn of_flow(process: &Process, flow: &Flow) -> Vec<Fact> {
    let exe = program(&process.exe, process.script.as_ref());
    let protocol = flow.protocol;
    if flow.direction == Direction::Out as u8 {
        let to = Fact::Destination { exe, address: flow.remote.ip(), port: flow.remote.port(), protocol };
        let parts = to.parts();
        [to].into_iter().chain(parts).collect()
    } else if flow.direction == Direction::In as u8 {
        vec![Fact::Listen { exe, port: flow.local.port(), protocol }]
    } else {
        Vec::new()
    }
}

fn of_window(process: &Process, window: &Window) -> Vec<Fact> {
    let exe = program(&process.exe, process.script.as_ref());
    let mut calls: Vec<(u16, u16)> = window
        .trace
        .iter()
        .map(|call| (token::number(*call), token::class(*call)))
        .filter(|(number, class)| token::is_trigger(*number, *class))
        .collect();
    calls.sort_unstable();
    calls.dedup();
    calls.into_iter().map(|(number, class)| Fact::Trigger { exe: exe.clone(), number, class }).collect()
}

fn of_file(process: &Process, file: &File) -> Vec<Fact> {
    let exe = program(&process.exe, process.script.as_ref());
    if file.why == file::Why::Rate as u8 {
        let sum = file.touched.iter().fold(0, |sum: u32, count| sum.saturating_add(*count));
        let level = (sum / file::RATE_FIRST).max(1).ilog2() / 2;
        return vec![Fact::FileRate { exe, level: level as u8 }];
    }
    let directory = paths::folded(&file.directory);
    let mut facts = vec![Fact::Directory { exe: exe.clone(), directory, mode: file.mode }];
    if file.sensitive != file::Sensitive::No as u8 {
        let name: Arc<str> = paths::folded(&format!("{}/{}", file.directory, file.name));
        facts.push(Fact::SensitiveFile { exe, name, mode: file.mode });
    }
    facts
}
