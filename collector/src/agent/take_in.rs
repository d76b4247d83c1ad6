//! Processes that are older than the agent: taken in from `/proc`, in user space and in the kernel's lineage map.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use collector_common::header::tgid_of;
use collector_common::map::{ANCESTORS, LINEAGE_PRE_EXISTING, Lineage};
use collector_common::process::Exec;

use super::judge::Judge;
use crate::loader::Kernel;

/// Takes every running process in. What the kernel has stamped meanwhile is never replaced.
pub fn processes(judge: &mut Judge) {
    let old = judge.chain.enricher.surroundings_mut().inner_mut().take_in();
    let taken = stamp(&mut judge.kernel, &old);
    let scope = judge.config.scope.cgroup.clone().map(|path| ids_below(&path));
    for exec in old {
        // What is outside the scope is known here, but is nobody's business in a recording.
        let recorded = scope.as_ref().is_none_or(|ids| ids.contains(&exec.cgroup));
        judge.take_in(exec, recorded);
    }
    let running: Vec<_> = judge.chain.enricher.table().running().map(|image| image.process.clone()).collect();
    for process in running {
        let event = model::event::Event {
            at: judge.now(),
            process,
            body: model::event::Body::Fork(model::event::Fork { child: 0, clone_flags: 0 }),
        };
        judge.chain.policy.note(&event);
    }
    for cookie in judge.chain.policy.protected().protected_cookies() {
        if let Err(error) = judge.kernel.protect(cookie) {
            tracing::error!(%error, "a protected process could not be marked in the kernel");
        }
    }
    if let Err(error) = judge.kernel.sweep_sockets() {
        tracing::warn!(%error, "sockets that were open before the agent came have no owner until they are used");
    }
    tracing::info!(taken, "processes older than the agent were taken in");
}

/// Tells the kernel the lineage of older processes; gives how many it did not know.
pub fn stamp(kernel: &mut Kernel, old: &[Exec]) -> usize {
    let parents: HashMap<u64, u64> = old.iter().map(|exec| (exec.header.cookie, exec.parent)).collect();
    let mut taken = 0;
    for exec in old {
        match kernel.take_in(tgid_of(exec.header.cookie), &lineage_of(exec, &parents)) {
            Ok(entered) => taken += usize::from(entered),
            Err(error) => {
                tracing::error!(%error, "older processes cannot be denied by tree");
                break;
            }
        }
    }
    taken
}

/// Ids of a cgroup and its descendants: the inodes of their directories.
pub fn ids_below(directory: &Path) -> HashSet<u64> {
    let mut ids = HashSet::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(directory) = open.pop() {
        ids.extend(std::fs::metadata(&directory).map(|metadata| metadata.ino()));
        let below = std::fs::read_dir(&directory).into_iter().flatten().flatten();
        open.extend(below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()));
    }
    ids
}

fn lineage_of(exec: &Exec, parents: &HashMap<u64, u64>) -> Lineage {
    let mut lineage = Lineage {
        cookie: exec.header.cookie,
        root: exec.header.cookie,
        exe: exec.exe,
        flags: LINEAGE_PRE_EXISTING,
        ..Lineage::default()
    };
    let mut at = exec.parent;
    let mut depth = 0;
    while at != 0 && tgid_of(at) != 1 && depth < 64 {
        if let Some(slot) = lineage.near.get_mut(depth) {
            *slot = at;
        }
        lineage.root = at;
        at = parents.get(&at).copied().unwrap_or(0);
        depth += 1;
    }
    debug_assert!(lineage.near.len() == ANCESTORS);
    lineage
}
