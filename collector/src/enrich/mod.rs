//! Adds process, executable and workload to a decoded record.
//!
//! ```text
//! record ─► process table (fork, exec, exit) ─► who ─► cgroup path + container state ─► workload ─► event
//!                 ▲ take-in and look-ups of what was missed                    ▲
//!                 └──────────────── surroundings: the live host, or a recording's notes ─┘
//! ```
//!
//! Nothing here waits, and nothing but [`surroundings`] looks at the host: the same records and answers give the same
//! events.

mod body;
pub mod cgroup;
pub mod clock;
pub mod exe;
pub mod identity;
pub mod kubernetes;
pub mod process;
mod renewal;
pub mod runtime;
pub mod surroundings;
pub mod take_in;
pub mod unit;
mod who;
mod workloads;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use collector_common::header::tgid_of;
use collector_common::process::{EXEC_PRE_EXISTING, EXEC_RENEWED, FORK_THREAD};
use collector_common::{ExeId, deny, file, flow, process as kernel, syscall};
use model::event::{self, Body, Event, Process};
use serde::Serialize;

use self::clock::Clock;
use self::process::{Image, Sighting, Table};
use self::renewal::Renewals;
use self::surroundings::{Noting, Recorded, Surroundings};
use self::who::ancestors_below;
use self::workloads::Workloads;
use crate::decode::{self, Record};
use crate::record::Note;

/// Ancestors that a [`Process`] names at most.
const ANCESTORS: usize = 16;
/// Distinct executable names that are shared between processes.
const NAMES: usize = 16_384;
/// Name of an executable that is not known.
pub const UNKNOWN_EXE: &str = "?";

/// What enrichment counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Events made.
    pub events: u64,
    /// Events whose process is not known.
    pub unattributed: u64,
    /// Processes that were taken in or looked up because their birth was not seen.
    pub taken_in: u64,
    /// Look-ups that found no process any more.
    pub gone: u64,
    /// Windows that show an executable whose exec record was lost.
    pub missed_execs: u64,
    /// Processes that left the table before their time because it was full.
    pub evicted: u64,
    /// cgroups whose path could not be found out.
    pub unresolved_cgroups: u64,
}

/// Makes events of records.
#[derive(Debug)]
pub struct Enricher<S> {
    clock: Clock,
    surroundings: S,
    table: Table,
    workloads: Workloads,
    names: HashSet<Arc<str>>,
    renewals: Renewals,
    counters: Counters,
}

impl<S: Surroundings> Enricher<S> {
    /// Begins with an empty process table.
    pub fn new(clock: Clock, surroundings: S) -> Self {
        Self {
            clock,
            surroundings,
            table: Table::default(),
            workloads: Workloads::default(),
            names: HashSet::new(),
            renewals: Renewals::default(),
            counters: Counters::default(),
        }
    }

    /// Makes an event of a record. `None` for what only teaches the process table: threads, and processes that are taken in
    /// because they are older than the agent.
    pub fn enrich(&mut self, record: &Record) -> Option<Event> {
        let boot_ns = record.header().boot_ns;
        if !record.is_synthesised() {
            self.table.advance(boot_ns);
        }
        let (process, body) = match record {
            Record::Fork(fork) => self.fork(fork)?,
            Record::Exec(exec) if exec.bits & EXEC_PRE_EXISTING != 0 => {
                self.take_in(exec);
                return None;
            }
            Record::Exec(exec) => self.exec(exec),
            Record::Exit(exit) => self.exit(exit),
            Record::Window(window) => self.window(window),
            Record::Flow(flow) => self.flow(flow),
            Record::Deny(deny) => self.deny(deny),
            Record::File(file) => self.file(file),
        };
        self.counters.events += 1;
        self.counters.unattributed += u64::from(&*process.exe == UNKNOWN_EXE);
        Some(Event { at: self.clock.at(boot_ns), process, body })
    }

    /// Changes the clock for the records that follow.
    pub fn set_clock(&mut self, clock: Clock) {
        self.clock = clock;
    }

    /// The clock in use.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// What answers this enricher's questions.
    pub fn surroundings_mut(&mut self) -> &mut S {
        &mut self.surroundings
    }

    /// The processes.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The file that a process runs, as the kernel identifies it; `None` when not known.
    pub fn exe_of(&self, cookie: u64) -> Option<ExeId> {
        self.table.now(cookie).map(|image| image.id).filter(|id| *id != ExeId::default())
    }

    /// Counts so far.
    pub fn counters(&self) -> Counters {
        Counters { evicted: self.table.evicted(), unresolved_cgroups: self.workloads.unresolved(), ..self.counters }
    }

    fn fork(&mut self, fork: &kernel::Fork) -> Option<(Arc<Process>, Body)> {
        if fork.header.flags & FORK_THREAD != 0 {
            return None;
        }
        let creator = self.who(&Sighting {
            cookie: fork.header.cookie,
            exe: ExeId::default(),
            cgroup: fork.cgroup,
            start_ns: fork.header.boot_ns,
            written_ns: fork.header.boot_ns,
        });
        if self.table.now(fork.child).is_none_or(|image| image.from_proc || image.looked_up_ns != 0) {
            let child = Process {
                cookie: fork.child,
                pid: tgid_of(fork.child),
                ancestors: ancestors_below(&creator),
                pre_existing: false,
                ..(*creator).clone()
            };
            // It runs what its creator runs. The kernel may have been told that by us, who read it from /proc: on overlayfs
            // stat(2) names another device than the inode's, and windows would seem to come from a program never started.
            let (id, from_proc) = match self.table.now(creator.cookie) {
                Some(image) if image.from_proc && image.id == fork.exe => (image.id, true),
                Some(image) if !image.from_proc && image.id.ino == fork.exe.ino => (image.id, false),
                _ => (fork.exe, false),
            };
            let image =
                Image { since_ns: fork.header.boot_ns, id, from_proc, looked_up_ns: 0, process: Arc::new(child) };
            self.table.insert(fork.child, image);
        }
        Some((creator, Body::Fork(event::Fork { child: fork.child, clone_flags: fork.clone_flags })))
    }

    fn exec(&mut self, exec: &kernel::Exec) -> (Arc<Process>, Body) {
        let cookie = exec.header.cookie;
        self.table.make_way(cookie, exec.exe, exec.header.boot_ns);
        let before = self.table.now(cookie).map(|image| Arc::clone(&image.process));
        // A process whose birth was lost ran what its creator runs, until this exec.
        let creator = if before.is_none() { self.creator(exec.parent) } else { None };
        let ran = before.as_ref().or(creator.as_ref());
        let (parent_exe, parent_script) = match ran {
            Some(process) => (Arc::clone(&process.exe), process.script.clone()),
            None => (self.name(UNKNOWN_EXE), None),
        };
        let ancestors = match (&before, &creator) {
            (Some(before), _) if !before.ancestors.is_empty() => before.ancestors.clone(),
            (_, Some(creator)) => ancestors_below(creator),
            _ if exec.parent != 0 => vec![exec.parent],
            _ => Vec::new(),
        };
        let workload = self.workload(exec.cgroup, tgid_of(cookie), before.as_deref(), true);
        let image = exe::image(exec, || self.surroundings.exe_path(tgid_of(cookie)));
        let process = Arc::new(Process {
            cookie,
            pid: tgid_of(cookie),
            workload,
            exe: self.name(&image.exe),
            script: image.script.as_deref().map(|script| self.name(script)),
            cmdline: image.cmdline.into(),
            uid: exec.uid,
            loginuid: (exec.loginuid != u32::MAX).then_some(exec.loginuid),
            cgroup: exec.cgroup,
            ancestors,
            pre_existing: before.is_some_and(|before| before.pre_existing),
        });
        let now = Image {
            since_ns: exec.header.boot_ns,
            id: exec.exe,
            from_proc: false,
            looked_up_ns: 0,
            process: Arc::clone(&process),
        };
        self.table.change(cookie, now);
        let renewed = if self.renewals.note(exec, &process) { EXEC_RENEWED } else { 0 };
        let body = event::Exec {
            parent: exec.parent,
            parent_exe,
            parent_script,
            argv: image.argv,
            argv_full: exec.argv_full,
            bits: exec.bits | renewed,
            euid: exec.euid,
            gid: exec.gid,
            netns: exec.netns,
        };
        (process, Body::Exec(body))
    }

    fn exit(&mut self, exit: &kernel::Exit) -> (Arc<Process>, Body) {
        let header = &exit.header;
        let process = self.who(&Sighting {
            cookie: header.cookie,
            exe: ExeId::default(),
            cgroup: exit.cgroup,
            start_ns: header.boot_ns,
            written_ns: header.boot_ns,
        });
        self.table.end(header.cookie);
        (process, Body::Exit(event::Exit { code: exit.code }))
    }

    fn window(&mut self, window: &syscall::Window) -> (Arc<Process>, Body) {
        let process = self.who(&Sighting {
            cookie: window.header.cookie,
            exe: window.exe,
            cgroup: window.cgroup,
            start_ns: window.start_boot_ns,
            written_ns: window.header.boot_ns,
        });
        (process, Body::Window(body::window(window)))
    }

    fn flow(&mut self, flow: &flow::Flow) -> (Arc<Process>, Body) {
        let process = self.who(&Sighting {
            cookie: flow.header.cookie,
            exe: ExeId::default(),
            cgroup: flow.cgroup,
            start_ns: flow.header.boot_ns,
            written_ns: flow.header.boot_ns,
        });
        (process, Body::Flow(body::flow(flow)))
    }

    fn deny(&mut self, deny: &deny::Deny) -> (Arc<Process>, Body) {
        let process = self.who(&Sighting {
            cookie: deny.header.cookie,
            exe: ExeId::default(),
            cgroup: deny.cgroup,
            start_ns: deny.header.boot_ns,
            written_ns: deny.header.boot_ns,
        });
        (process, Body::Deny(body::deny(deny)))
    }

    fn file(&mut self, file: &file::File) -> (Arc<Process>, Body) {
        let process = self.who(&Sighting {
            cookie: file.header.cookie,
            exe: file.exe,
            cgroup: file.cgroup,
            start_ns: file.header.boot_ns,
            written_ns: file.header.boot_ns,
        });
        let directory = self.name(&decode::directory(file));
        (process, Body::File(body::file(file, directory)))
    }

    fn workload(&mut self, cgroup: u64, pid: u32, before: Option<&Process>, is_exec: bool) -> Arc<str> {
        self.workloads.of(&mut self.surroundings, cgroup, pid, before, is_exec)
    }

    /// One shared string for equal names.
    fn name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return Arc::clone(known);
        }
        if self.names.len() >= NAMES {
            // Processes keep theirs; only the sharing starts anew.
            self.names.clear();
        }
        let name: Arc<str> = name.into();
        self.names.insert(Arc::clone(&name));
        name
    }
}

impl<S: Surroundings> Enricher<Noting<S>> {
    /// The answers that the records since the last call needed. A recording holds them *before* those records.
    pub fn drain_notes(&mut self) -> Vec<Note> {
        self.surroundings.drain()
    }
}

impl Enricher<Recorded> {
    /// Takes a note of a recording: an answer about the host, or a new clock. Others are for other stages.
    pub fn take_note(&mut self, note: &Note) {
        match note {
            Note::Clock(clock) => self.clock = *clock,
            note => self.surroundings.learn(note),
        }
    }
}
