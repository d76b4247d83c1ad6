//! Whom a record is about: found in the process table, looked up where records were lost, or honestly unknown.

use std::sync::Arc;

use collector_common::header::tgid_of;
use collector_common::{ExeId, process as kernel};
use model::event::Process;

use super::process::{Image, Sighting};
use super::surroundings::Surroundings;
use super::{ANCESTORS, Enricher, UNKNOWN_EXE, exe, identity};

impl<S: Surroundings> Enricher<S> {
    /// The process that a record is about, as it was when that happened.
    pub(super) fn who(&mut self, sighting: &Sighting) -> Arc<Process> {
        let cookie = sighting.cookie;
        if cookie == 0 {
            return self.nobody(sighting);
        }
        if self.table.now(cookie).is_none() {
            self.look_up(sighting);
        }
        self.table.confirm(cookie, sighting.exe);
        let Some(image) = self.table.seen(sighting).cloned() else { return self.nobody(sighting) };
        if !image.is_of(sighting.exe) && sighting.start_ns >= image.since_ns {
            return self.after_missed_exec(sighting, &image);
        }
        if sighting.cgroup == 0 || image.process.cgroup == sighting.cgroup {
            return image.process;
        }
        self.moved(sighting, &image)
    }

    /// A process of which nothing but the record is known.
    fn nobody(&mut self, sighting: &Sighting) -> Arc<Process> {
        let pid = tgid_of(sighting.cookie);
        Arc::new(Process {
            cookie: sighting.cookie,
            pid,
            workload: self.workload(sighting.cgroup, pid, None, false),
            exe: self.name(UNKNOWN_EXE),
            script: None,
            cmdline: self.name(""),
            uid: u32::MAX,
            loginuid: None,
            cgroup: sighting.cgroup,
            ancestors: Vec::new(),
            pre_existing: false,
        })
    }

    /// A process whose birth was not seen: `/proc` may still know it. Otherwise it is remembered as unknown for a while, so
    /// that its records do not cause one look-up each.
    fn look_up(&mut self, sighting: &Sighting) {
        let found = self.surroundings.process(tgid_of(sighting.cookie));
        if let Some(exec) = found.filter(|exec| exec.header.cookie == sighting.cookie) {
            self.enter(&exec, sighting.written_ns.max(1));
            return;
        }
        self.counters.gone += 1;
        let process = self.nobody(sighting);
        let looked_up_ns = sighting.written_ns.max(1);
        let image = Image { since_ns: 0, id: ExeId::default(), from_proc: false, looked_up_ns, process };
        self.table.insert(sighting.cookie, image);
        self.table.end(sighting.cookie);
    }

    /// The exec record that should have announced this executable was lost, or is still in the other ring.
    fn after_missed_exec(&mut self, sighting: &Sighting, before: &Image) -> Arc<Process> {
        self.counters.missed_execs += 1;
        let found = self.surroundings.process(tgid_of(sighting.cookie));
        // By now it may run something else again: that name belongs to another record.
        let is_it = |exec: &kernel::Exec| exec.header.cookie == sighting.cookie && exec.exe.ino == sighting.exe.ino;
        let seen = match found.filter(is_it) {
            Some(exec) => self.process_of(&exec),
            None => (*self.nobody(sighting)).clone(),
        };
        let Process { ancestors, pre_existing, .. } = &*before.process;
        let process = Arc::new(Process { ancestors: ancestors.clone(), pre_existing: *pre_existing, ..seen });
        let image = Image {
            since_ns: sighting.start_ns,
            id: sighting.exe,
            from_proc: false,
            looked_up_ns: sighting.written_ns.max(1),
            process: Arc::clone(&process),
        };
        self.table.change(sighting.cookie, image);
        process
    }

    /// The process was put into another cgroup after its birth, as container runtimes do.
    fn moved(&mut self, sighting: &Sighting, image: &Image) -> Arc<Process> {
        let workload = self.workload(sighting.cgroup, image.process.pid, None, false);
        let process = Arc::new(Process { workload, cgroup: sighting.cgroup, ..(*image.process).clone() });
        let is_news = self.table.now(sighting.cookie).is_some_and(|now| now.since_ns <= sighting.start_ns);
        if is_news {
            let moved = Image { since_ns: sighting.start_ns, process: Arc::clone(&process), ..image.clone() };
            self.table.change(sighting.cookie, moved);
        }
        process
    }

    /// Enters a process that was read from `/proc`, unless the kernel has already told more about it.
    pub(super) fn take_in(&mut self, exec: &kernel::Exec) {
        let cookie = exec.header.cookie;
        if self.table.now(cookie).is_some_and(|image| &*image.process.exe != UNKNOWN_EXE) {
            return;
        }
        self.enter(exec, 0);
    }

    fn enter(&mut self, exec: &kernel::Exec, looked_up_ns: u64) {
        self.counters.taken_in += 1;
        let process = Arc::new(self.process_of(exec));
        let image = Image { since_ns: exec.header.boot_ns, id: exec.exe, from_proc: true, looked_up_ns, process };
        self.table.insert(exec.header.cookie, image);
    }

    fn process_of(&mut self, exec: &kernel::Exec) -> Process {
        let cookie = exec.header.cookie;
        let image = exe::image(exec, || None);
        let is_kernel_thread = exec.exe.ino == 0 && image.exe.starts_with('[');
        let workload = match is_kernel_thread {
            true => self.name(identity::KERNEL),
            false => self.workload(exec.cgroup, tgid_of(cookie), None, true),
        };
        let ancestors = match self.table.now(exec.parent) {
            Some(parent) => ancestors_below(&parent.process),
            None if exec.parent != 0 => vec![exec.parent],
            None => Vec::new(),
        };
        Process {
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
            pre_existing: true,
        }
    }

    pub(super) fn creator(&mut self, cookie: u64) -> Option<Arc<Process>> {
        if cookie == 0 {
            return None;
        }
        if self.table.now(cookie).is_none() {
            let found = self.surroundings.process(tgid_of(cookie)).filter(|exec| exec.header.cookie == cookie)?;
            self.take_in(&found);
        }
        self.table.now(cookie).map(|image| Arc::clone(&image.process))
    }
}

/// The ancestors of a process that `creator` makes.
pub(super) fn ancestors_below(creator: &Process) -> Vec<u64> {
    if creator.cookie == 0 {
        return Vec::new();
    }
    std::iter::once(creator.cookie).chain(creator.ancestors.iter().copied()).take(ANCESTORS).collect()
}
