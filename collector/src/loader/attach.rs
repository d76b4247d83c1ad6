//! The attach table: program → hook → what is lost without it.

use std::fs::File;
use std::path::Path;

use aya::programs::{BtfTracePoint, links::FdLink};
use aya::programs::{CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSock, CgroupSockAddr, Program};
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
}

const fn row(program: &'static str, hook: Hook, pinned: bool, lost: &'static str) -> Row {
    Row { program, hook, pinned, lost }
}

/// Every program, in the order in which they are attached: owners and denials before telemetry, so that nothing is reported
/// that could not be denied.
pub const TABLE: &[Row] = &[
    row("owner_create", Hook::Cgroup("sock_create"), true, "owners of new sockets: flows and established denials"),
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
    row("deny_connect4", Hook::Cgroup("connect4"), true, "denial of new IPv4 connections"),
    row("deny_connect6", Hook::Cgroup("connect6"), true, "denial of new IPv6 connections"),
    row("deny_sendmsg4", Hook::Cgroup("sendmsg4"), true, "denial of unconnected IPv4 datagrams"),
    row("deny_sendmsg6", Hook::Cgroup("sendmsg6"), true, "denial of unconnected IPv6 datagrams"),
    row("deny_egress", Hook::Egress, true, "denial on sockets that are already open"),
    row("fork", Hook::Tracepoint("task_newtask"), true, "lineage: nothing can be attributed or denied by tree"),
    row("exec", Hook::Tracepoint("sched_process_exec"), true, "exec records and the fast lane"),
    row("exit", Hook::Tracepoint("sched_process_exit"), true, "the end of processes; lineage fills up"),
    row("syscall", Hook::Tracepoint("sys_exit"), false, "syscall windows: sequence findings"),
    row("flow_connect4", Hook::Cgroup("connect4"), false, "first-seen IPv4 destinations at connect"),
    row("flow_connect6", Hook::Cgroup("connect6"), false, "first-seen IPv6 destinations at connect"),
    row("flow_sendmsg4", Hook::Cgroup("sendmsg4"), false, "first-seen IPv4 destinations of datagrams"),
    row("flow_sendmsg6", Hook::Cgroup("sendmsg6"), false, "first-seen IPv6 destinations of datagrams"),
    row("flow_egress", Hook::Egress, false, "outgoing traffic of flows"),
    row("flow_ingress", Hook::Ingress, false, "incoming traffic of flows"),
    row("flow_state", Hook::Tracepoint("inet_sock_set_state"), false, "the end of TCP flows"),
    row("flow_release", Hook::Cgroup("sock_release"), false, "the end of UDP flows"),
];

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
    let rows = TABLE.iter().chain([&YARDSTICK]).filter(chosen);
    rows.map(|row| Attached { row: *row, off: attach(ebpf, row, btf, cgroup, pins).err() }).collect()
}

fn attach(ebpf: &mut Ebpf, row: &Row, btf: &Btf, cgroup: Option<&File>, pins: Option<&Pins>) -> Result<(), String> {
    let program = ebpf.program_mut(row.program).ok_or("the object has no such program")?;
    let no_cgroup = "no cgroup v2 hierarchy is mounted";
    let mode = CgroupAttachMode::Single;
    // `take_link` gives the link away: only links that are to outlive the agent are taken.
    let link: Option<FdLink> = match row.hook {
        Hook::Tracepoint(name) => {
            let program: &mut BtfTracePoint = program.try_into().map_err(told)?;
            program.load(name, btf).map_err(told)?;
            let id = program.attach().map_err(told)?;
            if row.pinned && pins.is_some() { Some(program.take_link(id).map_err(told)?.into()) } else { None }
        }
        Hook::Ingress | Hook::Egress => {
            let kind =
                if row.hook == Hook::Ingress { CgroupSkbAttachType::Ingress } else { CgroupSkbAttachType::Egress };
            let program: &mut CgroupSkb = program.try_into().map_err(told)?;
            program.load().map_err(told)?;
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
                program.load().map_err(told)?;
                let id = program.attach(cgroup.ok_or(no_cgroup)?, mode).map_err(told)?;
                if row.pinned && pins.is_some() {
                    Some(program.take_link(id).map_err(told)?.try_into().map_err(told)?)
                } else {
                    None
                }
            }
            Program::CgroupSockAddr(program) => {
                let program: &mut CgroupSockAddr = program;
                program.load().map_err(told)?;
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

/// The whole chain of causes in one line; a verifier's log is cut to its end, where the reason stands.
fn told(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

/// Opens a cgroup's directory for attaching.
pub(super) fn open_cgroup(path: &Path) -> std::io::Result<File> {
    File::open(path)
}
