//! Freezing a cgroup: every process below it stops at once and goes on where it was when it is thawed.
//!
//! A frozen process cannot thaw itself, unlike one that was stopped by a signal; that is why a tree, which is no cgroup, is
//! not frozen at all.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{XattrFlags, getxattr, removexattr, setxattr};

/// Extended attribute of a cgroup that we froze: the number of the decision.
const MARK: &str = "trusted.stockade.frozen";

/// Freezes a cgroup and marks it.
///
/// # Errors
///
/// When it is not there (any more), or is the root, which cannot be frozen.
pub fn freeze(directory: &Path, decision: u64) -> io::Result<()> {
    setxattr(directory, MARK, decision.to_string().as_bytes(), XattrFlags::empty())?;
    std::fs::write(directory.join("cgroup.freeze"), "1").inspect_err(|_| {
        let _ = removexattr(directory, MARK);
    })
}

/// Thaws a cgroup if we froze it; whether it was so.
///
/// # Errors
///
/// When it cannot be thawed.
pub fn thaw(directory: &Path) -> io::Result<bool> {
    if mark_of(directory).is_none() {
        return Ok(false);
    }
    std::fs::write(directory.join("cgroup.freeze"), "0")?;
    removexattr(directory, MARK)?;
    Ok(true)
}

/// The decision that a cgroup is frozen for.
pub fn mark_of(directory: &Path) -> Option<u64> {
    let mut text = [0; 32];
    let len = getxattr(directory, MARK, &mut text[..]).ok()?;
    std::str::from_utf8(text.get(..len)?).ok()?.parse().ok()
}

/// Every cgroup below a mount that we froze, and for which decision.
pub fn frozen_below(mount: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut open = vec![mount.to_path_buf()];
    while let Some(directory) = open.pop() {
        found.extend(mark_of(&directory).map(|decision| (directory.clone(), decision)));
        let below = std::fs::read_dir(&directory).into_iter().flatten().flatten();
        open.extend(below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()));
    }
    found
}

/// Thaws everything that we froze and that `keep` does not name; how many there were.
pub fn thaw_all_but(mount: &Path, keep: &[u64]) -> usize {
    let frozen = frozen_below(mount).into_iter().filter(|(_, decision)| !keep.contains(decision));
    frozen.filter(|(directory, _)| thaw(directory).unwrap_or(false)).count()
}
