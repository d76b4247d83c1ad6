//! Containment: what acts on processes and connections that already are, where denials act on what they try next.
//!
//! It is never *prevention*: whatever was done before stands, and what is reported says "contained". A frozen cgroup carries
//! a mark of ours, so that `stockade disarm` finds and thaws it without an agent; killing cannot be undone.

pub mod cut;
pub mod freeze;
pub mod kill;

use std::collections::BTreeSet;
use std::path::Path;

/// Processes of a cgroup and its descendants.
pub fn processes_in(directory: &Path) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(directory) = open.pop() {
        let text = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        found.extend(text.lines().filter_map(|line| line.trim().parse::<u32>().ok()));
        let below = std::fs::read_dir(&directory).into_iter().flatten().flatten();
        open.extend(below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()));
    }
    found
}
