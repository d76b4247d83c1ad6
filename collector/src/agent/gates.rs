//! The gates of a fence: which programs a fenced tree may still start.
//!
//! A program is let through as the file that was seen running under its name while the workload was learnt, not as whatever
//! lies under that name now: whoever broke in may have put something else there. Scripts are checked by their own file too,
//! and that one is only known by its path.

use std::path::{Path, PathBuf};

use collector_common::header::tgid_of;
use model::Model;

use super::rows::Rows;
use crate::decision::{Decision, DecisionAction, FileId, Target};
use crate::loader::identify;

/// Programs that one fence lets through; more than that are denied, which is counted as hits like any other.
const MOST: usize = 256;

/// Enters the files into a fence that has none yet.
pub fn open(decision: &mut Decision, rows: &Rows, model: &Model) {
    let (DecisionAction::Fence, Some(workload)) = (decision.action, &decision.workload) else { return };
    let root = match &decision.target {
        Target::Tree { cookie } => PathBuf::from(format!("/proc/{}/root", tgid_of(*cookie))),
        _ => PathBuf::from("/"),
    };
    let mut files = Vec::new();
    for name in model.exes(workload) {
        let (exe, script) = name.split_once(' ').map_or((&*name, None), |(exe, script)| (exe, Some(script)));
        files.extend(rows.files_of(workload, &name).map(|file| FileId {
            ino: file.ino,
            dev: file.dev,
            generation: file.generation,
            path: exe.into(),
        }));
        files.extend(script.and_then(|script| script_below(&root, script)));
    }
    files.truncate(MOST);
    decision.allowed_files = files;
}

fn script_below(root: &Path, script: &str) -> Option<FileId> {
    let below = script.strip_prefix('/')?;
    let file = identify(&root.join(below)).or_else(|_| identify(Path::new(script))).ok()?;
    Some(FileId { path: script.into(), ..file })
}
