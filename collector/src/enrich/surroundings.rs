//! What enrichment asks about the host besides the kernel's records: from a running system, or from a recording.
//!
//! Every question has one answer at one time. [`Noting`] keeps each answer as a [`Note`], so that a recording replays with
//! exactly what was known when it was made.

use std::collections::HashMap;
use std::fs;
use std::hash::Hash;
use std::path::PathBuf;

use collector_common::process::Exec;
use collector_common::{bytes_of, read};

use super::cgroup::{CgroupTree, unified_mount};
use super::runtime::{ContainerInfo, OnDisk, RuntimeState};
use super::take_in::ProcDir;
use crate::record::Note;

/// Answers of one kind that a [`Recorded`] keeps at most.
const ANSWERS: usize = 65_536;

/// What is known about the host.
pub trait Surroundings {
    /// Path of a cgroup in the v2 hierarchy, `/` for its root; `pid` is a process that was seen in it.
    fn cgroup_path(&mut self, id: u64, pid: u32) -> Option<String>;
    /// Path of a process in systemd's v1 hierarchy (v1 and hybrid hosts).
    fn systemd_cgroup(&mut self, pid: u32) -> Option<String>;
    /// A process whose birth and exec were not seen, as an exec record made from `/proc`.
    fn process(&mut self, pid: u32) -> Option<Exec>;
    /// The path behind `/proc/PID/exe`.
    fn exe_path(&mut self, pid: u32) -> Option<String>;
    /// A container by its full id.
    fn container(&mut self, id: &str) -> Option<ContainerInfo>;
}

/// The host that the agent runs on.
#[derive(Debug)]
pub struct Live {
    proc: ProcDir,
    /// `None` where no v2 hierarchy is mounted: then every process is in its root.
    cgroups: Option<CgroupTree>,
    runtimes: OnDisk,
}

impl Live {
    /// Looks at `/proc`, the mounted v2 hierarchy and the runtimes' state below `/`.
    pub fn new() -> Self {
        Self::below("/")
    }

    /// Looks at the host whose root directory is `root`, e.g. `/host` in a container.
    pub fn below(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        let proc = ProcDir::new(root.join("proc"));
        let mountinfo = fs::read_to_string(root.join("proc/self/mountinfo")).unwrap_or_default();
        let mount = unified_mount(&mountinfo).map(|point| root.join(point.strip_prefix("/").unwrap_or(&point)));
        Self { proc, cgroups: mount.map(CgroupTree::new), runtimes: OnDisk::new(root) }
    }

    /// The processes that run now, parents first, as exec records.
    pub fn take_in(&mut self) -> Vec<Exec> {
        self.proc.take_in(self.cgroups.as_ref())
    }
}

impl Default for Live {
    fn default() -> Self {
        Self::new()
    }
}

impl Surroundings for Live {
    fn cgroup_path(&mut self, id: u64, pid: u32) -> Option<String> {
        let Some(cgroups) = &mut self.cgroups else { return Some("/".to_owned()) };
        let hint = self.proc.membership(pid).and_then(|membership| membership.unified);
        cgroups.path(id, hint.as_deref())
    }

    fn systemd_cgroup(&mut self, pid: u32) -> Option<String> {
        self.proc.membership(pid)?.systemd
    }

    fn process(&mut self, pid: u32) -> Option<Exec> {
        self.proc.process(pid, self.cgroups.as_ref())
    }

    fn exe_path(&mut self, pid: u32) -> Option<String> {
        self.proc.exe_path(pid)
    }

    fn container(&mut self, id: &str) -> Option<ContainerInfo> {
        self.runtimes.container(id)
    }
}

/// Passes questions on and keeps the answers as notes for a recording.
///
/// [`Noting::drain`] them after each record and write them *before* that record.
#[derive(Debug)]
pub struct Noting<S> {
    inner: S,
    notes: Vec<Note>,
}

impl<S: Surroundings> Noting<S> {
    /// Listens in on `inner`.
    pub fn new(inner: S) -> Self {
        Self { inner, notes: Vec::new() }
    }

    /// The answers since the last call, in the order in which they were given.
    pub fn drain(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    /// The surroundings that answer.
    pub fn inner_mut(&mut self) -> &mut S {
        &mut self.inner
    }
}

impl<S: Surroundings> Surroundings for Noting<S> {
    fn cgroup_path(&mut self, id: u64, pid: u32) -> Option<String> {
        let path = self.inner.cgroup_path(id, pid);
        self.notes.push(Note::Cgroup { id, path: path.clone() });
        path
    }

    fn systemd_cgroup(&mut self, pid: u32) -> Option<String> {
        let path = self.inner.systemd_cgroup(pid);
        self.notes.push(Note::SystemdCgroup { pid, path: path.clone() });
        path
    }

    fn process(&mut self, pid: u32) -> Option<Exec> {
        let exec = self.inner.process(pid);
        self.notes.push(Note::Process { pid, exec: exec.as_ref().map(|exec| bytes_of(exec).to_vec()) });
        exec
    }

    fn exe_path(&mut self, pid: u32) -> Option<String> {
        let path = self.inner.exe_path(pid);
        self.notes.push(Note::ExePath { pid, path: path.clone() });
        path
    }

    fn container(&mut self, id: &str) -> Option<ContainerInfo> {
        let info = self.inner.container(id);
        self.notes.push(Note::Container { id: id.to_owned(), info: info.clone() });
        info
    }
}

/// Answers from the notes of a recording; nothing of the host that replays it is looked at.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    cgroups: HashMap<u64, Option<String>>,
    systemd: HashMap<u32, Option<String>>,
    processes: HashMap<u32, Option<Vec<u8>>>,
    exe_paths: HashMap<u32, Option<String>>,
    containers: HashMap<String, Option<ContainerInfo>>,
}

impl Recorded {
    /// Takes an answer from a note; later ones replace earlier ones. Notes that answer nothing are passed over.
    pub fn learn(&mut self, note: &Note) {
        match note {
            Note::Cgroup { id, path } => keep(&mut self.cgroups, *id, path),
            Note::SystemdCgroup { pid, path } => keep(&mut self.systemd, *pid, path),
            Note::Process { pid, exec } => keep(&mut self.processes, *pid, exec),
            Note::ExePath { pid, path } => keep(&mut self.exe_paths, *pid, path),
            Note::Container { id, info } => keep(&mut self.containers, id.clone(), info),
            Note::Clock(_) | Note::Mode { .. } | Note::Seed(_) => (),
        }
    }
}

fn keep<K: Eq + Hash, V: Clone>(answers: &mut HashMap<K, Option<V>>, question: K, answer: &Option<V>) {
    if answers.len() >= ANSWERS {
        answers.clear();
    }
    answers.insert(question, answer.clone());
}

impl Surroundings for Recorded {
    fn cgroup_path(&mut self, id: u64, _pid: u32) -> Option<String> {
        self.cgroups.get(&id).cloned().flatten()
    }

    fn systemd_cgroup(&mut self, pid: u32) -> Option<String> {
        self.systemd.get(&pid).cloned().flatten()
    }

    fn process(&mut self, pid: u32) -> Option<Exec> {
        read(self.processes.get(&pid)?.as_deref()?)
    }

    fn exe_path(&mut self, pid: u32) -> Option<String> {
        self.exe_paths.get(&pid).cloned().flatten()
    }

    fn container(&mut self, id: &str) -> Option<ContainerInfo> {
        self.containers.get(id).cloned().flatten()
    }
}
