//! From an event to its row and back.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Row, RowError};
use crate::event::{Body, Deny, Event, Exec, Exit, File, Flow, Fork, Process, Time, Window};

impl From<&Event> for Row {
    fn from(event: &Event) -> Self {
        let Process { cookie, pid, workload, exe, script, cmdline, uid, loginuid, cgroup, ancestors, pre_existing } =
            &*event.process;
        let mut row = Self {
            unix_ns: event.at.unix_ns,
            boot_ns: event.at.boot_ns,
            cookie: *cookie,
            pid: *pid,
            workload: workload.clone(),
            exe: exe.clone(),
            script: script.clone(),
            cmdline: cmdline.clone(),
            uid: *uid,
            loginuid: *loginuid,
            cgroup: *cgroup,
            ancestors: ancestors.clone(),
            pre_existing: *pre_existing,
            ..Self::default()
        };
        row.kind = match &event.body {
            Body::Fork(fork) => row.take_fork(fork),
            Body::Exec(exec) => row.take_exec(exec),
            Body::Exit(exit) => row.take_exit(exit),
            Body::Window(window) => row.take_window(window),
            Body::Flow(flow) => row.take_flow(flow),
            Body::Deny(deny) => row.take_deny(deny),
            Body::File(file) => row.take_file(file),
        }
        .into();
        row
    }
}

impl Row {
    fn take_fork(&mut self, fork: &Fork) -> &'static str {
        (self.child, self.clone_flags) = (Some(fork.child), Some(fork.clone_flags));
        "fork"
    }

    fn take_exec(&mut self, exec: &Exec) -> &'static str {
        self.parent = Some(exec.parent);
        self.parent_exe = Some(exec.parent_exe.clone());
        self.parent_script = exec.parent_script.clone();
        self.argv = Some(exec.argv.clone());
        (self.argv_full, self.bits) = (Some(exec.argv_full), Some(exec.bits));
        (self.euid, self.gid, self.netns) = (Some(exec.euid), Some(exec.gid), Some(exec.netns));
        "exec"
    }

    fn take_exit(&mut self, exit: &Exit) -> &'static str {
        self.code = Some(exit.code);
        "exit"
    }

    fn take_window(&mut self, window: &Window) -> &'static str {
        (self.tid, self.why, self.missed) = (Some(window.tid), Some(window.why), Some(window.missed));
        self.start_boot_ns = Some(window.start_boot_ns);
        (self.errors, self.permission_errors) = (Some(window.errors), Some(window.permission_errors));
        (self.read_bytes, self.write_bytes) = (Some(window.read_bytes), Some(window.write_bytes));
        self.class = Some(window.class.to_vec());
        self.novel_trigrams = Some(window.novel_trigrams.clone());
        self.trace = Some(window.trace.clone());
        "window"
    }

    fn take_flow(&mut self, flow: &Flow) -> &'static str {
        (self.socket, self.opener, self.why) = (Some(flow.socket), Some(flow.opener), Some(flow.why));
        (self.direction, self.protocol, self.tcp_flags) =
            (Some(flow.direction), Some(flow.protocol), Some(flow.tcp_flags));
        self.local = Some(flow.local.to_string().into());
        self.remote = Some(flow.remote.to_string().into());
        (self.tx_bytes, self.rx_bytes) = (Some(flow.tx_bytes), Some(flow.rx_bytes));
        (self.tx_packets, self.rx_packets) = (Some(flow.tx_packets), Some(flow.rx_packets));
        (self.first_ns, self.last_ns) = (Some(flow.first_ns), Some(flow.last_ns));
        (self.gaps, self.sizes) = (Some(flow.gaps.to_vec()), Some(flow.sizes.to_vec()));
        "flow"
    }

    fn take_deny(&mut self, deny: &Deny) -> &'static str {
        (self.decision, self.slot, self.hook) = (Some(deny.decision), Some(deny.slot), Some(deny.hook));
        (self.action, self.matched, self.protocol) = (Some(deny.action), Some(deny.matched), Some(deny.protocol));
        self.suppressed = Some(deny.suppressed);
        self.remote = Some(deny.remote.to_string().into());
        self.file = deny.file.clone();
        (self.shadow, self.breaker) = (Some(deny.shadow), Some(deny.breaker));
        "deny"
    }

    fn take_file(&mut self, file: &File) -> &'static str {
        (self.why, self.mode, self.sensitive) = (Some(file.why), Some(file.mode), Some(file.sensitive));
        (self.directory, self.file) = (Some(file.directory.clone()), Some(file.name.clone()));
        self.touched = Some(file.touched.to_vec());
        "file"
    }

    fn body(&mut self) -> Result<Body, RowError> {
        let kind = self.kind.clone();
        Ok(match &*kind {
            "fork" => Body::Fork(self.fork()?),
            "exec" => Body::Exec(self.exec()?),
            "exit" => Body::Exit(Exit { code: self.needs("code", self.code)? }),
            "window" => Body::Window(self.window()?),
            "flow" => Body::Flow(self.flow()?),
            "deny" => Body::Deny(self.deny()?),
            "file" => Body::File(self.file()?),
            _ => return Err(RowError::Kind(kind)),
        })
    }

    fn needs<T>(&self, column: &'static str, value: Option<T>) -> Result<T, RowError> {
        value.ok_or_else(|| RowError::Missing { kind: self.kind.clone(), column })
    }

    fn address(&self, column: &'static str, value: Option<&Arc<str>>) -> Result<SocketAddr, RowError> {
        let text = self.needs(column, value)?;
        text.parse().map_err(|_| RowError::Value { column, value: format!("{text:?}"), wanted: "address:port" })
    }

    fn array<T: Copy, const N: usize>(&self, column: &'static str, value: Option<&Vec<T>>) -> Result<[T; N], RowError> {
        let list = self.needs(column, value)?;
        <[T; N]>::try_from(list.as_slice()).map_err(|_| RowError::Value {
            column,
            value: format!("{} numbers", list.len()),
            wanted: "as many numbers as the kernel writes",
        })
    }

    fn fork(&self) -> Result<Fork, RowError> {
        Ok(Fork { child: self.needs("child", self.child)?, clone_flags: self.needs("clone_flags", self.clone_flags)? })
    }

    fn exec(&mut self) -> Result<Exec, RowError> {
        let argv = self.argv.take();
        Ok(Exec {
            parent: self.needs("parent", self.parent)?,
            parent_exe: self.needs("parent_exe", self.parent_exe.clone())?,
            parent_script: self.parent_script.clone(),
            argv: self.needs("argv", argv)?,
            argv_full: self.needs("argv_full", self.argv_full)?,
            bits: self.needs("bits", self.bits)?,
            euid: self.needs("euid", self.euid)?,
            gid: self.needs("gid", self.gid)?,
            netns: self.needs("netns", self.netns)?,
        })
    }

    fn window(&mut self) -> Result<Window, RowError> {
        let (novel_trigrams, trace) = (self.novel_trigrams.take(), self.trace.take());
        Ok(Window {
            tid: self.needs("tid", self.tid)?,
            why: self.needs("why", self.why)?,
            missed: self.needs("missed", self.missed)?,
            start_boot_ns: self.needs("start_boot_ns", self.start_boot_ns)?,
            errors: self.needs("errors", self.errors)?,
            permission_errors: self.needs("permission_errors", self.permission_errors)?,
            read_bytes: self.needs("read_bytes", self.read_bytes)?,
            write_bytes: self.needs("write_bytes", self.write_bytes)?,
            class: self.array("class", self.class.as_ref())?,
            novel_trigrams: self.needs("novel_trigrams", novel_trigrams)?,
            trace: self.needs("trace", trace)?,
        })
    }

    fn flow(&self) -> Result<Flow, RowError> {
        Ok(Flow {
            socket: self.needs("socket", self.socket)?,
            opener: self.needs("opener", self.opener)?,
            why: self.needs("why", self.why)?,
            direction: self.needs("direction", self.direction)?,
            protocol: self.needs("protocol", self.protocol)?,
            tcp_flags: self.needs("tcp_flags", self.tcp_flags)?,
            local: self.address("local", self.local.as_ref())?,
            remote: self.address("remote", self.remote.as_ref())?,
            tx_bytes: self.needs("tx_bytes", self.tx_bytes)?,
            rx_bytes: self.needs("rx_bytes", self.rx_bytes)?,
            tx_packets: self.needs("tx_packets", self.tx_packets)?,
            rx_packets: self.needs("rx_packets", self.rx_packets)?,
            first_ns: self.needs("first_ns", self.first_ns)?,
            last_ns: self.needs("last_ns", self.last_ns)?,
            gaps: self.array("gaps", self.gaps.as_ref())?,
            sizes: self.array("sizes", self.sizes.as_ref())?,
        })
    }

    fn deny(&self) -> Result<Deny, RowError> {
        Ok(Deny {
            decision: self.needs("decision", self.decision)?,
            slot: self.needs("slot", self.slot)?,
            hook: self.needs("hook", self.hook)?,
            action: self.needs("action", self.action)?,
            matched: self.needs("matched", self.matched)?,
            protocol: self.needs("protocol", self.protocol)?,
            suppressed: self.needs("suppressed", self.suppressed)?,
            remote: self.address("remote", self.remote.as_ref())?,
            file: self.file.clone(),
            shadow: self.needs("shadow", self.shadow)?,
            breaker: self.needs("breaker", self.breaker)?,
        })
    }

    fn file(&self) -> Result<File, RowError> {
        Ok(File {
            why: self.needs("why", self.why)?,
            mode: self.needs("mode", self.mode)?,
            sensitive: self.needs("sensitive", self.sensitive)?,
            directory: self.needs("directory", self.directory.clone())?,
            name: self.needs("file", self.file.clone())?,
            touched: self.array("touched", self.touched.as_ref())?,
        })
    }
}

impl TryFrom<Row> for Event {
    type Error = RowError;

    fn try_from(mut row: Row) -> Result<Self, RowError> {
        let body = row.body()?;
        let process = Process {
            cookie: row.cookie,
            pid: row.pid,
            workload: row.workload,
            exe: row.exe,
            script: row.script,
            cmdline: row.cmdline,
            uid: row.uid,
            loginuid: row.loginuid,
            cgroup: row.cgroup,
            ancestors: row.ancestors,
            pre_existing: row.pre_existing,
        };
        Ok(Event { at: Time { unix_ns: row.unix_ns, boot_ns: row.boot_ns }, process: Arc::new(process), body })
    }
}
