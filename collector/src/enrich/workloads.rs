//! Remembers the workload of each cgroup, so that only a new cgroup costs a look at the host.

use std::collections::HashMap;
use std::sync::Arc;

use model::event::Process;

use super::identity::{self, HOST, UNKNOWN};
use super::surroundings::Surroundings;

/// cgroups that are remembered.
const CACHE: usize = 16_384;
/// Execs for which a cgroup without an answer is asked about again: runtimes write their state around the first exec.
const RETRIES: u8 = 16;

#[derive(Clone, Debug)]
enum Known {
    /// Every process of the cgroup is of this workload.
    Workload(Arc<str>),
    /// The v2 root: on v1 and hybrid hosts each process has to be asked.
    Root,
    /// Not known, or a container without state; asked again at the next execs.
    Open { workload: Arc<str>, retries: u8 },
}

/// Workloads by cgroup id.
#[derive(Debug, Default)]
pub(super) struct Workloads {
    known: HashMap<u64, Known>,
    unresolved: u64,
}

impl Workloads {
    /// The workload of process `pid` in `cgroup`; `before` is the process until now.
    pub(super) fn of(
        &mut self,
        surroundings: &mut impl Surroundings,
        cgroup: u64,
        pid: u32,
        before: Option<&Process>,
        is_exec: bool,
    ) -> Arc<str> {
        if cgroup == 0 {
            return match before {
                Some(process) => Arc::clone(&process.workload),
                None => in_root(surroundings, pid, None),
            };
        }
        let known = match self.known.get(&cgroup) {
            Some(Known::Open { retries, .. }) if is_exec && *retries > 0 => {
                self.resolve(surroundings, cgroup, pid, retries - 1)
            }
            Some(known) => known.clone(),
            None => self.resolve(surroundings, cgroup, pid, RETRIES),
        };
        match known {
            Known::Workload(workload) | Known::Open { workload, .. } => workload,
            Known::Root => in_root(surroundings, pid, before.filter(|process| process.cgroup == cgroup)),
        }
    }

    /// cgroups whose path could not be found out.
    pub(super) fn unresolved(&self) -> u64 {
        self.unresolved
    }

    fn resolve(&mut self, surroundings: &mut impl Surroundings, cgroup: u64, pid: u32, retries: u8) -> Known {
        let known = match surroundings.cgroup_path(cgroup, pid).as_deref() {
            None => {
                self.unresolved += u64::from(!self.known.contains_key(&cgroup));
                Known::Open { workload: UNKNOWN.into(), retries }
            }
            Some("/") => Known::Root,
            Some(path) => {
                let identity = identity::identify(path, |id| surroundings.container(id));
                match identity.settled {
                    true => Known::Workload(identity.workload.into()),
                    false => Known::Open { workload: identity.workload.into(), retries },
                }
            }
        };
        if self.known.len() >= CACHE && !self.known.contains_key(&cgroup) {
            self.known.clear();
        }
        self.known.insert(cgroup, known.clone());
        known
    }
}

fn in_root(surroundings: &mut impl Surroundings, pid: u32, before: Option<&Process>) -> Arc<str> {
    let systemd = if pid == 0 { None } else { surroundings.systemd_cgroup(pid) };
    match (systemd.as_deref(), before) {
        (Some("/"), _) => HOST.into(),
        (Some(path), _) => identity::identify(path, |id| surroundings.container(id)).workload.into(),
        // The process has ended, or there is no such hierarchy: what it was is the best that is known.
        (None, Some(before)) => Arc::clone(&before.workload),
        (None, None) => HOST.into(),
    }
}
