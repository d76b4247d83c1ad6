//! Programs whose file is another one than before: a deploy, or somebody's work.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use collector_common::ExeId;
use collector_common::process::{EXEC_MEMORY, EXEC_UNLINKED, Exec};
use model::event::Process;

/// Programs that are remembered; of further ones a new file is not noticed.
const PROGRAMS: usize = 16_384;
/// Files remembered of one program, the newest: an old version that comes back is nothing new.
const FILES: usize = 8;

/// As which files the programs of each workload were started.
#[derive(Debug, Default)]
pub struct Renewals {
    known: BTreeMap<(Arc<str>, Arc<str>), VecDeque<ExeId>>,
}

impl Renewals {
    /// Takes a start. Whether the workload ran this program before, and never from this file.
    ///
    /// Asked only where a file keeps its number: each container mounts an image of its own, and code from memory has no file.
    pub fn note(&mut self, exec: &Exec, process: &Process) -> bool {
        let contained = ["container:", "k8s:"].iter().any(|kind| process.workload.starts_with(kind));
        if contained || exec.bits & (EXEC_MEMORY | EXEC_UNLINKED) != 0 || exec.exe == ExeId::default() {
            return false;
        }
        let key = (process.workload.clone(), process.exe.clone());
        if self.known.len() >= PROGRAMS && !self.known.contains_key(&key) {
            return false;
        }
        let files = self.known.entry(key).or_default();
        if files.contains(&exec.exe) {
            return false;
        }
        files.push_back(exec.exe);
        if files.len() > FILES {
            files.pop_front();
        }
        files.len() > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(workload: &str) -> Process {
        Process {
            cookie: 1,
            pid: 1,
            workload: workload.into(),
            exe: "/usr/sbin/nginx".into(),
            script: None,
            cmdline: "nginx".into(),
            uid: 0,
            loginuid: None,
            cgroup: 7,
            ancestors: Vec::new(),
            pre_existing: false,
        }
    }

    fn exec(ino: u64, bits: u32) -> Exec {
        Exec { exe: ExeId { ino, dev: 1, generation: 0 }, bits, ..Exec::default() }
    }

    #[test]
    fn another_file_under_a_known_path_is_noticed_once() {
        let (mut renewals, nginx) = (Renewals::default(), process("unit:nginx.service"));
        let said: Vec<bool> = [5, 5, 6, 6, 5].map(|ino| renewals.note(&exec(ino, 0), &nginx)).into();
        assert_eq!(said, [false, false, true, false, false], "the old one again is nothing new");
        assert!(!renewals.note(&exec(7, EXEC_MEMORY), &nginx), "code from memory is another matter");
        assert!(
            !renewals.note(&exec(6, 0), &process("unit:other.service")),
            "to another workload it is not new, but first"
        );
        let pod = process("k8s:shop/Deployment/web/nginx");
        assert!(!renewals.note(&exec(5, 0), &pod) && !renewals.note(&exec(6, 0), &pod), "every container has its own");
    }
}
