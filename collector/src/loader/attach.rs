//! The attach table: program → hook → what is lost without it.

use std::fs::File;
use std::path::Path;

use aya::programs::links::FdLink;
use aya::programs::{
    BtfTracePoint, CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSock, CgroupSockAddr, FEntry, Iter, Lsm,
    Program, ProgramError,
};
use aya::{Btf, Ebpf};
use serde::Serialize;

use super::pins::Pins;

/// Where a program is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "type", content = "at")]
pub enum Hook {
    /// A BTF tracepoint.
    Tracepoint(&'static str),
    /// Packets that sockets of the cgroup receive.
    Ingress,
    /// Packets that sockets of the cgroup send.
    Egress,
    /// A cgroup hook whose kind stands in the object: socket or socket address.
    Cgroup(&'static str),
    /// A hook of the kernel's security modules.
    Lsm(&'static str),
    /// The entry of a kernel function.
    Function(&'static str),
    /// A walk over objects of the kernel, when user space asks for it.
    Iterator(&'static str),
}

/// One program of the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Name in the object.
    pub program: &'static str,
    /// Where it goes.
    pub hook: Hook,
    /// Goes on working when the agent is gone.
    pub pinned: bool,
    /// What does not work without it.
    pub lost: &'static str,
    /// Only needed where that program is off: another way to the same end.
    pub instead_of: Option<&'static str>,
}

const fn row(program: &'static str, hook: Hook, pinned: bool, lost: &'static str) -> Row {
    Row { program, hook, pinned, lost, instead_of: None }
}

const fn denial(program: &'static str, hook: &'static str, lost: &'static str) -> Row {
    row(program, Hook::Lsm(hook), true, lost)
}

const fn telemetry_of_files(program: &'static str, function: &'static str) -> Row {
    row(program, Hook::Function(function), false, "rates of deleted and renamed files")
}

/// Kernels before 6.3 have no tracepoint where a socket is used.
const fn use_of_socket(program: &'static str, function: &'static str, instead_of: &'static str) -> Row {
    let lost = "pre-forked workers and passed sockets keep their opener";
    Row { instead_of: Some(instead_of), ..row(program, Hook::Function(function), true, lost) }
}

/// Every program, in the order in which they are attached: owners and denials before telemetry, so that nothing is reported
/// that could not be denied.
pub const TABLE: &[Row] = &[
    row("owner_create", Hook::Cgroup("sock_create"), true, "owners of new sockets: flows and established denials"),
    row("owner_listen", Hook::Tracepoint("inet_sock_set_state"), true, "owners of what multipath listeners accept"),
    row(
        "owner_send",
        Hook::Tracepoint("sock_send_length"),
        true,
        "pre-forked workers and passed sockets keep their opener",
    ),
    row(
        "owner_receive",
        Hook::Tracepoint("sock_recv_length"),
        true,
        "pre-forked workers and passed sockets keep their opener",
    ),
    use_of_socket("owner_inet_send", "inet_sendmsg", "owner_send"),
    use_of_socket("owner_inet6_send", "inet6_sendmsg", "owner_send"),
    use_of_socket("owner_inet_receive", "inet_recvmsg", "owner_receive"),
    use_of_socket("owner_inet6_receive", "inet6_recvmsg", "owner_receive"),
    row("deny_connect4", Hook::Cgroup("connect4"), true, "denial of new IPv4 connections"),
    row("deny_connect6", Hook::Cgroup("connect6"), true, "denial of new IPv6 connections"),
    row("deny_sendmsg4", Hook::Cgroup("sendmsg4"), true, "denial of unconnected IPv4 datagrams"),
    row("deny_sendmsg6", Hook::Cgroup("sendmsg6"), true, "denial of unconnected IPv6 datagrams"),
    row("deny_egress", Hook::Egress, true, "denial on sockets that are already open"),
    denial("deny_exec", "bprm_check_security", "denial of programs"),
    denial("deny_open", "file_open", "denial of opening files for writing"),
    denial("deny_create", "inode_create", "denial of new files"),
    denial("deny_rename", "inode_rename", "denial of renaming"),
    denial("deny_unlink", "inode_unlink", "denial of unlinking"),
    denial("deny_truncate", "path_truncate", "denial of truncating by path"),
    denial("deny_ftruncate", "file_truncate", "denial of truncating by descriptor"),
    denial("deny_hatch", "unix_stream_connect", "isolation from container runtimes, the system bus, systemd"),
    denial("deny_hatch_datagram", "unix_may_send", "isolation from datagram sockets of services"),
    denial("deny_socket", "socket_create", "denial of packet, XDP, vsock and raw sockets"),
    denial("deny_ptrace", "ptrace_access_check", "denial of attaching to other processes"),
    denial("deny_module_file", "kernel_read_file", "denial of kernel modules from files"),
    denial("deny_module_data", "kernel_load_data", "denial of kernel modules from memory"),
    denial("deny_bpf", "bpf", "denial of bpf(2)"),
    row("fork", Hook::Tracepoint("task_newtask"), true, "lineage: nothing can be attributed or denied by tree"),
    row("exec", Hook::Tracepoint("sched_process_exec"), true, "exec records and the fast lane"),
    row("exit", Hook::Tracepoint("sched_process_exit"), true, "the end of processes; lineage fills up"),
    row("syscall", Hook::Tracepoint("sys_exit"), false, "syscall windows: sequence findings"),
    row("sweep_sockets", Hook::Iterator("task_file"), false, "owners of sockets that were open before the agent came"),
    row("sweep_tasks", Hook::Iterator("task"), false, "what idle threads did last, until they wake up"),
    row("uring", Hook::Tracepoint("io_uring_submit_req"), false, "operations that go through io_uring"),
    Row {
        instead_of: Some("uring"),
        ..row("uring_sqe", Hook::Tracepoint("io_uring_submit_sqe"), false, "operations that go through io_uring")
    },
    telemetry_of_files("file_unlink", "security_inode_unlink"),
    telemetry_of_files("file_rename", "security_inode_rename"),
    row("flow_connect4", Hook::Cgroup("connect4"), false, "first-seen IPv4 destinations at connect"),
    row("flow_connect6", Hook::Cgroup("connect6"), false, "first-seen IPv6 destinations at connect"),
    row("flow_sendmsg4", Hook::Cgroup("sendmsg4"), false, "first-seen IPv4 destinations of datagrams"),
    row("flow_sendmsg6", Hook::Cgroup("sendmsg6"), false, "first-seen IPv6 destinations of datagrams"),
    row("flow_egress", Hook::Egress, false, "outgoing traffic of flows"),
    row("flow_ingress", Hook::Ingress, false, "incoming traffic of flows"),
    row("flow_state", Hook::Tracepoint("inet_sock_set_state"), false, "the end of TCP flows"),
    row("flow_release", Hook::Cgroup("sock_release"), false, "the end of UDP flows"),
];

/// Without these nobody can say who does what: an agent that lacks one does not start.
const ESSENTIAL: &[&str] = &["fork", "exec", "exit", "syscall"];

/// The yardstick of the benchmark: only attached when it is asked for by name.
const YARDSTICK: Row = row("empty", Hook::Tracepoint("sys_exit"), false, "nothing");

/// What became of a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attached {
    /// The row.
    #[serde(flatten)]
    pub row: Row,
    /// Why it is off; `None` = it works.
    pub off: Option<String>,
    /// Instructions that the verifier looked at; `None` when it is off or the kernel does not say.
    pub instructions: Option<u32>,
    /// It is off, but this program does the same.
    pub replaced_by: Option<&'static str>,
}

impl Attached {
    /// Whether what it is for is done, by itself or by another program.
    pub fn is_covered(&self) -> bool {
        self.off.is_none() || self.replaced_by.is_some()
    }

    /// Whether an agent without it does not start.
    pub fn is_essential(&self) -> bool {
        ESSENTIAL.contains(&self.row.program)
    }
}

/// Loads and attaches every row; a failure is kept, not returned.
pub(super) fn attach_all(
    ebpf: &mut Ebpf,
    btf: &Btf,
    cgroup: Option<&File>,
    pins: Option<&Pins>,
    only: Option<&[&str]>,
) -> Vec<Attached> {
    let chosen = |row: &&Row| only.map_or(row.program != YARDSTICK.program, |only| only.contains(&row.program));
    let mut attached: Vec<Attached> = Vec::new();
    for row in TABLE.iter().chain([&YARDSTICK]).filter(chosen) {
        let works = |program| attached.iter().any(|done| done.row.program == program && done.off.is_none());
        match row.instead_of {
            Some(program) if works(program) => {
                // The kernel has the better way: an older agent's pin of this one must not stay beside it.
                pins.map_or(Ok(()), |pins| pins.drop_link(row.program)).unwrap_or_default();
            }
            replaces => {
                // A kernel that forbids one such program forbids all: trying each costs a tenth of a second.
                let same_kind = |done: &&Attached| is_same_kind(done.row.hook, row.hook) && is_forbidden(done);
                let off = match attached.iter().find(same_kind) {
                    Some(forbidden) => forbidden.off.clone(),
                    None => attach(ebpf, row, btf, cgroup, pins).err(),
                };
                let lacking = attached.iter_mut().find(|done| Some(done.row.program) == replaces);
                if let Some(lacking) = lacking.filter(|_| off.is_none()) {
                    lacking.replaced_by = Some(row.program);
                }
                let info = off.is_none().then(|| ebpf.program(row.program)?.info().ok()).flatten();
                let instructions = info.and_then(|info| info.verified_instruction_count());
                attached.push(Attached { row: *row, off, instructions, replaced_by: None });
            }
        }
    }
    attached
}

fn is_same_kind(one: Hook, other: Hook) -> bool {
    matches!((one, other), (Hook::Lsm(_), Hook::Lsm(_)) | (Hook::Function(_), Hook::Function(_)))
}

fn is_forbidden(done: &Attached) -> bool {
    done.off.as_deref().is_some_and(|why| why.contains("Operation not permitted"))
}

fn attach(ebpf: &mut Ebpf, row: &Row, btf: &Btf, cgroup: Option<&File>, pins: Option<&Pins>) -> Result<(), String> {
    let program = ebpf.program_mut(row.program).ok_or("the object has no such program")?;
    let no_cgroup = "no cgroup v2 hierarchy is mounted";
    let mode = CgroupAttachMode::Single;
    // `take_link` gives the link away: only links that are to outlive the agent are taken.
    let link: Option<FdLink> = match row.hook {
        Hook::Tracepoint(name) => {
            let program: &mut BtfTracePoint = program.try_into().map_err(told)?;
            program.load(name, btf).map_err(refused)?;
            let id = program.attach().map_err(told)?;
            if row.pinned && pins.is_some() { Some(program.take_link(id).map_err(told)?.into()) } else { None }
        }
        Hook::Lsm(name) => {
            let program: &mut Lsm = program.try_into().map_err(told)?;
            program.load(name, btf).map_err(refused)?;
            let id = program.attach().map_err(told)?;
            if row.pinned && pins.is_some() { Some(program.take_link(id).map_err(told)?.into()) } else { None }
        }
        Hook::Function(name) => {
            let program: &mut FEntry = program.try_into().map_err(told)?;
            program.load(name, btf).map_err(refused)?;
            let id = program.attach().map_err(told)?;
            if row.pinned && pins.is_some() { Some(program.take_link(id).map_err(told)?.into()) } else { None }
        }
        Hook::Iterator(name) => {
            let program: &mut Iter = program.try_into().map_err(told)?;
            program.load(name, btf).map_err(refused)?;
            None
        }
        Hook::Ingress | Hook::Egress => {
            let kind =
                if row.hook == Hook::Ingress { CgroupSkbAttachType::Ingress } else { CgroupSkbAttachType::Egress };
            let program: &mut CgroupSkb = program.try_into().map_err(told)?;
            program.load().map_err(refused)?;
            let id = program.attach(cgroup.ok_or(no_cgroup)?, kind, mode).map_err(told)?;
            if row.pinned && pins.is_some() {
                Some(program.take_link(id).map_err(told)?.try_into().map_err(told)?)
            } else {
                None
            }
        }
        Hook::Cgroup(_) => match program {
            Program::CgroupSock(program) => {
                let program: &mut CgroupSock = program;
                program.load().map_err(refused)?;
                let id = program.attach(cgroup.ok_or(no_cgroup)?, mode).map_err(told)?;
                if row.pinned && pins.is_some() {
                    Some(program.take_link(id).map_err(told)?.try_into().map_err(told)?)
                } else {
                    None
                }
            }
            Program::CgroupSockAddr(program) => {
                let program: &mut CgroupSockAddr = program;
                program.load().map_err(refused)?;
                let id = program.attach(cgroup.ok_or(no_cgroup)?, mode).map_err(told)?;
                if row.pinned && pins.is_some() {
                    Some(program.take_link(id).map_err(told)?.try_into().map_err(told)?)
                } else {
                    None
                }
            }
            _ => return Err("the object's program is of another type".to_owned()),
        },
    };
    match (link, pins) {
        (Some(link), Some(pins)) => pins.keep_link(row.program, link).map_err(told),
        _ => Ok(()),
    }
}

/// What the kernel said to a program that it did not take: the end of the verifier's log, where the reason stands, and then
/// the error number.
fn refused(error: ProgramError) -> String {
    const LINES: usize = 12;
    let ProgramError::LoadError { io_error, verifier_log } = error else { return told(error) };
    let log = verifier_log.to_string();
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let end = &lines[lines.len().saturating_sub(LINES)..];
    end.iter().map(|line| format!("{line}\n")).collect::<String>() + &io_error.to_string()
}

/// The whole chain of causes in one line.
fn told(error: impl std::error::Error) -> String {
    super::chain(&error)
}

/// Opens a cgroup's directory for attaching.
pub(super) fn open_cgroup(path: &Path) -> std::io::Result<File> {
    File::open(path)
}
