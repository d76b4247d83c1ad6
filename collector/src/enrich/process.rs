//! The processes of the host by cookie: what they ran when, and who made whom. Bounded.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use collector_common::ExeId;
use collector_common::map::MAX_PROCESSES;
use model::event::Process;

/// Event time for which an ended process is kept: its windows and flows come later than its end.
const KEPT_NS: u64 = 60_000_000_000;
/// A look-up happens within this time after the record that causes it was written.
const READ_WITHIN_NS: u64 = 1_000_000_000;
/// What a process ran earlier, kept for windows that come after the exec that closed them.
const EARLIER: usize = 3;

/// What a process was from one moment on.
#[derive(Clone, Debug)]
pub struct Image {
    /// Boot clock of the exec, birth or move.
    pub since_ns: u64,
    /// Executable by file; all zero when not known.
    pub id: ExeId,
    /// Read from `/proc`: the id may lack its generation or have another device than the kernel's.
    pub from_proc: bool,
    /// Boot clock of the record that made the agent look this up, because the exec record was lost or is still on its way;
    /// 0 when a record of the process's own told it.
    pub looked_up_ns: u64,
    /// By name.
    pub process: Arc<Process>,
}

/// What is asked of the table for a record: which of a process's images it is about.
#[derive(Clone, Copy, Debug)]
pub struct Sighting {
    /// Process.
    pub cookie: u64,
    /// Executable that the record names; zero when it names none.
    pub exe: ExeId,
    /// cgroup that the record names; 0 when it names none.
    pub cgroup: u64,
    /// Boot clock at the beginning of what the record is about.
    pub start_ns: u64,
    /// Boot clock when the record was written.
    pub written_ns: u64,
}

#[derive(Debug)]
struct Entry {
    now: Image,
    earlier: VecDeque<Image>,
    ended_ns: Option<u64>,
}

/// The process table.
#[derive(Debug)]
pub struct Table {
    entries: HashMap<u64, Entry>,
    by_pid: HashMap<u32, u64>,
    /// Cookies in the order of their arrival; those that left meanwhile are passed over.
    arrived: VecDeque<u64>,
    /// Ended processes in the order of their end.
    ended: VecDeque<(u64, u64)>,
    most: usize,
    evicted: u64,
    now_ns: u64,
}

impl Default for Table {
    fn default() -> Self {
        Self::with_capacity(MAX_PROCESSES as usize)
    }
}

impl Table {
    /// A table that never holds more than `most` processes.
    pub fn with_capacity(most: usize) -> Self {
        Self {
            entries: HashMap::new(),
            by_pid: HashMap::new(),
            arrived: VecDeque::new(),
            ended: VecDeque::new(),
            most: most.max(1),
            evicted: 0,
            now_ns: 0,
        }
    }

    /// Processes in the table.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Processes that had to leave before their time because the table was full.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Event time has come to `now_ns`: processes that ended long enough ago leave.
    pub fn advance(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
        while let Some((ended_ns, _)) = self.ended.front()
            && ended_ns.saturating_add(KEPT_NS) < now_ns
        {
            self.pop_ended();
        }
    }

    /// What a process is now.
    pub fn now(&self, cookie: u64) -> Option<&Image> {
        self.entries.get(&cookie).map(|entry| &entry.now)
    }

    /// The process that has this pid now.
    pub fn by_pid(&self, pid: u32) -> Option<&Arc<Process>> {
        self.by_pid.get(&pid).and_then(|cookie| self.now(*cookie)).map(|image| &image.process)
    }

    /// Every process that has not ended, in no order.
    pub fn running(&self) -> impl Iterator<Item = &Image> {
        self.entries.values().filter(|entry| entry.ended_ns.is_none()).map(|entry| &entry.now)
    }

    /// The image that fits a record best: first by executable, then by cgroup, then by time, then the newest.
    pub fn seen(&self, sighting: &Sighting) -> Option<&Image> {
        let entry = self.entries.get(&sighting.cookie)?;
        let fit = |image: &&Image| {
            let began = image.since_ns <= sighting.start_ns;
            (image.is_of(sighting.exe), image.process.cgroup == sighting.cgroup || sighting.cgroup == 0, began)
        };
        // `max_by_key` gives the last of equals, so the newest comes last.
        entry.earlier.iter().chain([&entry.now]).max_by_key(fit)
    }

    /// A process that was not in the table.
    pub fn insert(&mut self, cookie: u64, image: Image) {
        if let Some(entry) = self.entries.get_mut(&cookie) {
            entry.now = image;
            entry.ended_ns = None;
            return;
        }
        while self.entries.len() >= self.most {
            self.evict_one();
        }
        self.take_over_pid(&image.process);
        self.entries.insert(cookie, Entry { now: image, earlier: VecDeque::new(), ended_ns: None });
        self.arrived.push_back(cookie);
        if self.arrived.len() > 2 * self.most {
            let entries = &self.entries;
            self.arrived.retain(|cookie| entries.contains_key(cookie));
        }
    }

    /// A process became something else: exec, or another cgroup.
    pub fn change(&mut self, cookie: u64, image: Image) {
        let Some(entry) = self.entries.get_mut(&cookie) else {
            self.insert(cookie, image);
            return;
        };
        let before = std::mem::replace(&mut entry.now, image);
        entry.earlier.push_back(before);
        if entry.earlier.len() > EARLIER {
            entry.earlier.pop_front();
        }
        entry.ended_ns = None;
    }

    /// An exec record comes after a look-up that already saw its effect (the rings are read one after the other): what was
    /// looked up makes way, so that the process is again what it was before the exec.
    pub fn make_way(&mut self, cookie: u64, exe: ExeId, exec_ns: u64) {
        let Some(entry) = self.entries.get_mut(&cookie) else { return };
        while entry.now.knows_of(exe, exec_ns) {
            let Some(before) = entry.earlier.pop_back() else {
                self.remove(cookie);
                return;
            };
            entry.now = before;
        }
    }

    /// The kernel's id of the executable of a process that was read from `/proc`.
    pub fn confirm(&mut self, cookie: u64, exe: ExeId) {
        if let Some(entry) = self.entries.get_mut(&cookie)
            && entry.now.from_proc
            && exe != ExeId::default()
        {
            entry.now.id = exe;
            entry.now.from_proc = false;
        }
    }

    /// A process ended, or was found to have ended: it stays for a minute from now on.
    pub fn end(&mut self, cookie: u64) {
        if let Some(entry) = self.entries.get_mut(&cookie)
            && entry.ended_ns.is_none()
        {
            entry.ended_ns = Some(self.now_ns);
            self.ended.push_back((self.now_ns, cookie));
        }
    }

    /// A pid comes back only after its owner ended: where that record was lost, it is made up for.
    fn take_over_pid(&mut self, process: &Process) {
        let before = self.by_pid.insert(process.pid, process.cookie);
        if let Some(before) = before.filter(|before| *before != process.cookie) {
            self.end(before);
        }
    }

    fn evict_one(&mut self) {
        self.evicted += 1;
        let held = self.entries.len();
        while self.entries.len() == held && !self.ended.is_empty() {
            self.pop_ended();
        }
        while self.entries.len() == held
            && let Some(oldest) = self.arrived.pop_front()
        {
            self.remove(oldest);
        }
    }

    fn pop_ended(&mut self) {
        let Some((ended_ns, cookie)) = self.ended.pop_front() else { return };
        // It may have left already, or turned out to be alive.
        if self.entries.get(&cookie).is_some_and(|entry| entry.ended_ns == Some(ended_ns)) {
            self.remove(cookie);
        }
    }

    fn remove(&mut self, cookie: u64) {
        let Some(entry) = self.entries.remove(&cookie) else { return };
        let pid = entry.now.process.pid;
        if self.by_pid.get(&pid) == Some(&cookie) {
            self.by_pid.remove(&pid);
        }
    }
}

impl Image {
    /// Whether `/proc` was read after that exec: the record that caused the reading is younger, or it is a little older and
    /// the file is the same.
    fn knows_of(&self, exe: ExeId, exec_ns: u64) -> bool {
        let is_same_file = (self.id.ino, self.id.dev) == (exe.ino, exe.dev);
        let latest = self.looked_up_ns.saturating_add(if is_same_file { READ_WITHIN_NS } else { 0 });
        self.looked_up_ns != 0 && exec_ns <= latest
    }

    /// Whether this image runs the executable `exe`, as far as is known.
    pub fn is_of(&self, exe: ExeId) -> bool {
        self.from_proc || exe == ExeId::default() || self.id == ExeId::default() || self.id == exe
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn image(cookie: u64, pid: u32, since_ns: u64, ino: u64, cgroup: u64) -> Image {
        let process = Process {
            cookie,
            pid,
            workload: "unit:x".into(),
            exe: format!("/{ino}").into(),
            script: None,
            cmdline: "".into(),
            uid: 0,
            loginuid: None,
            cgroup,
            ancestors: vec![],
            pre_existing: false,
        };
        Image {
            since_ns,
            id: ExeId { ino, dev: 1, generation: 0 },
            from_proc: false,
            looked_up_ns: 0,
            process: Arc::new(process),
        }
    }

    fn sighting(cookie: u64, ino: u64, cgroup: u64, start_ns: u64) -> Sighting {
        let exe = if ino == 0 { ExeId::default() } else { ExeId { ino, dev: 1, generation: 0 } };
        Sighting { cookie, exe, cgroup, start_ns, written_ns: start_ns }
    }

    fn exe(table: &Table, sighting: Sighting) -> String {
        table.seen(&sighting).unwrap().process.exe.to_string()
    }

    #[test]
    fn a_late_window_belongs_to_what_ran_then() {
        let mut table = Table::default();
        table.insert(1, image(1, 10, 100, 7, 5));
        table.change(1, image(1, 10, 200, 8, 5));
        table.change(1, image(1, 10, 300, 8, 5));
        assert_eq!(exe(&table, sighting(1, 7, 5, 150)), "/7");
        assert_eq!(exe(&table, sighting(1, 7, 5, 400)), "/7");
        assert_eq!(table.seen(&sighting(1, 8, 5, 250)).unwrap().since_ns, 200);
        assert_eq!(table.seen(&sighting(1, 8, 5, 350)).unwrap().since_ns, 300);
        assert_eq!(exe(&table, sighting(1, 0, 0, 400)), "/8");
    }

    #[test]
    fn the_ended_stay_for_a_minute() {
        let mut table = Table::default();
        table.insert(1, image(1, 10, 0, 7, 5));
        table.advance(1_000);
        table.end(1);
        table.advance(1_000 + KEPT_NS);
        assert!(table.now(1).is_some());
        table.advance(1_001 + KEPT_NS);
        assert!(table.is_empty());
        assert!(table.by_pid(10).is_none());
    }

    #[test]
    fn a_returning_pid_ends_its_former_owner() {
        let mut table = Table::default();
        table.insert(1, image(1, 10, 0, 7, 5));
        table.advance(50);
        table.insert(2, image(2, 10, 50, 7, 5));
        assert_eq!(table.by_pid(10).unwrap().cookie, 2);
        assert_eq!(table.running().count(), 1);
        table.advance(51 + KEPT_NS);
        assert!(table.now(1).is_none() && table.now(2).is_some());
        assert_eq!(table.by_pid(10).unwrap().cookie, 2);
    }

    #[test]
    fn what_was_looked_up_too_early_makes_way_for_the_record() {
        let looked_up = |ino, at| Image { looked_up_ns: at, ..image(1, 10, at, ino, 5) };
        let id = |ino| ExeId { ino, dev: 1, generation: 9 };
        let mut table = Table::default();
        table.insert(1, image(1, 10, 100, 7, 5));
        table.change(1, looked_up(8, 300));
        table.make_way(1, id(8), 200);
        assert_eq!(table.now(1).unwrap().since_ns, 100);
        // It was read a moment after the record that caused it, and shows what the exec did.
        table.change(1, looked_up(8, 300));
        table.make_way(1, id(8), 400);
        assert_eq!(table.now(1).unwrap().since_ns, 100);
        // Another program, later: the look-up was right, and this exec is the next one.
        table.change(1, looked_up(8, 300));
        table.make_way(1, id(9), 400);
        assert_eq!(table.now(1).unwrap().since_ns, 300);
        table.make_way(1, id(8), 300 + READ_WITHIN_NS + 1);
        assert_eq!(table.now(1).unwrap().since_ns, 300);
        // Nothing was known before.
        table.insert(2, Image { looked_up_ns: 300, ..image(2, 11, 300, 8, 5) });
        table.make_way(2, id(8), 200);
        assert!(table.now(2).is_none());
    }

    #[test]
    fn a_full_table_loses_the_ended_first_and_counts() {
        let mut table = Table::with_capacity(3);
        for cookie in 1..=3 {
            table.insert(cookie, image(cookie, cookie as u32, cookie, 7, 5));
        }
        table.end(2);
        table.insert(4, image(4, 4, 11, 7, 5));
        assert!(table.now(2).is_none() && table.now(1).is_some());
        table.insert(5, image(5, 5, 12, 7, 5));
        assert!(table.now(1).is_none());
        assert_eq!((table.len(), table.evicted()), (3, 2));
    }

    proptest! {
        #[test]
        fn bounds_hold_whatever_happens(steps in proptest::collection::vec((0u8..4, 0u64..40, 0u64..200_000_000_000), 0..400)) {
            let mut table = Table::with_capacity(8);
            for (step, cookie, at) in steps {
                match step {
                    0 => table.insert(cookie, image(cookie, cookie as u32 % 5, at, 7, 5)),
                    1 => table.change(cookie, image(cookie, cookie as u32 % 5, at, 8, 5)),
                    2 => table.end(cookie),
                    _ => table.advance(at),
                }
                prop_assert!(table.len() <= 8);
                prop_assert!(table.arrived.len() <= 17);
                prop_assert!(table.by_pid.len() <= 8);
            }
        }
    }
}
